"""Parameters of notebooks are read and written as papermill does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from envbox.errors import NotebookError
from envbox.sessions.execution.parameters import assignment, inject, parse_parameters, typed_value

PATH = Path("n.ipynb")


def document(*cells: tuple[str, list[str]], minor: int = 5) -> dict[str, Any]:
    made = [
        {"cell_type": "code", "source": source, "metadata": {"tags": tags}, "outputs": [], "id": f"c{number}"}
        for number, (source, tags) in enumerate(cells)
    ]
    return {"nbformat": 4, "nbformat_minor": minor, "metadata": {}, "cells": made}


def sources(made: dict[str, Any]) -> list[str]:
    return ["".join(cell["source"]) for cell in made["cells"]]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("True", True), ("False", False), ("None", None), ("true", "true"), ("3", 3), ("-3", -3),
        ("0.5", 0.5),
        ("1e-3", 1e-3), (".5", 0.5), ("1.", 1.0), ("nan", "nan"), ("1_000", "1_000"),
        ("", ""), ("a=b", "a=b"),
        ("2024-01-01", "2024-01-01"), ("007", 7),
    ],
)  # fmt: skip
def test_a_value_is_what_it_looks_like(text: str, value: Any) -> None:
    found = typed_value(text)
    assert (found, type(found)) == (value, type(value))


def test_all_ways_to_say_them_and_the_last_wins(tmp_path: Path) -> None:
    file = tmp_path / "p.yml"
    file.write_text("a: 1\nb: [1, x]\nc: 1\n")
    found = parse_parameters(["c=2", "d=x=y"], ["e=5", "d=3"], ["{b: {k: null}}"], [file])
    assert found == {"a": 1, "b": {"k": None}, "c": 2, "d": "3", "e": "5"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((["a"], [], [], []), "-p a: not a parameter"),
        (([], ["=1"], [], []), "-r =1: not a parameter"),
        (([], [], ["[1]"], []), "-y [1]: not a mapping"),
        (([], [], ["{a"], []), "not YAML"),
        (([], [], [], [Path("/nowhere.yml")]), "/nowhere.yml"),
    ],
)
def test_what_is_no_parameter_is_named(arguments: Any, words: str) -> None:
    with pytest.raises(NotebookError) as caught:
        parse_parameters(*arguments)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("language", "value", "line"),
    [
        ("python", 'a"b\n\\', 'x = "a\\"b\\n\\\\"'),
        ("python", [1, None, {"k": 1.5}], 'x = [1, None, {"k": 1.5}]'),
        ("python", float("inf"), "x = float('inf')"),
        ("r", [True, None, "t"], 'x = list(TRUE, NULL, "t")'),
        ("r", {"k": 2}, 'x = list("k" = 2)'),
        ("julia", [False, None, "$t"], 'x = [false, nothing, "\\$t"]'),
    ],
)
def test_values_are_written_in_the_notebooks_language(language: str, value: Any, line: str) -> None:
    assert assignment("x", value, language, PATH) == line
    if language == "python":
        namespace: dict[str, Any] = {}
        exec(line, namespace)
        assert namespace["x"] == value


@pytest.mark.parametrize("name", ["a b", "1a", "x;import os", "x\ny", ""])
def test_a_name_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(NotebookError):
        assignment(name, 1, "python", PATH)


def test_a_language_that_is_not_known_is_refused() -> None:
    with pytest.raises(NotebookError, match="scala"):
        assignment("x", 1, "scala", PATH)


def test_they_follow_the_tagged_cell_and_replace_earlier_ones() -> None:
    made = document(("import a", []), ("n = 1", ["parameters"]), ("print(n)", []))
    assert inject(made, {"n": 2}, "python", PATH) == ()
    assert sources(made) == ["import a", "n = 1", "# Parameters\nn = 2", "print(n)"]
    assert made["cells"][2]["metadata"]["tags"] == ["injected-parameters"]
    assert inject(made, {"n": 3}, "python", PATH) == ()
    assert sources(made) == ["import a", "n = 1", "# Parameters\nn = 3", "print(n)"]


def test_without_a_tagged_cell_they_come_first_and_it_is_said() -> None:
    made = document(("print(n)", []), minor=4)
    (words,) = inject(made, {"n": 2}, "python", PATH)
    assert "no cell tagged" in words
    assert sources(made) == ["# Parameters\nn = 2", "print(n)"]
    assert "id" not in made["cells"][0]


def test_a_parameter_that_the_notebook_does_not_have_is_said() -> None:
    (words,) = inject(document(("month = 1", ["parameters"])), {"mont": 2}, "python", PATH)
    assert "no parameter mont" in words
    assert "did you mean month?" in words
