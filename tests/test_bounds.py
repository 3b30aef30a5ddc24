"""Whatever a notebook or script holds, reading it ends in words, and takes no more than its length allows."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envbox.errors import EnvboxError, NotebookError
from envbox.notebooks import document as reading
from envbox.notebooks.document import Notebook, loads
from envbox.notebooks.imports import moves, script_text, used_by_notebook, used_by_script
from envbox.notebooks.magics import installs, parse, plain
from envbox.notebooks.needs import gather
from envbox.notebooks.write import written_like

HERE = Path("n.ipynb")
GUARD = 60  # seconds until a run counts as hung; what is asserted is the number of steps

SHAPES: dict[str, Callable[[int], str]] = {
    "dots": lambda n: "import a" + ".a" * n,
    "dots of a from": lambda n: "from a" + ".a" * n + " import b",
    "dots, continued": lambda n: "import a" + " . \\\n a" * n,
    "dots of Python 2": lambda n: "print 'x'\nimport a" + ".a" * n,
    "dots by name": lambda n: "import_module('a" + ".a" * n + "')",
    "commas": lambda n: "import " + ",".join(f"a{i}" for i in range(n)),
    "commas of Python 2": lambda n: "print 'x'\nimport a" + ", a as b" * n + " (",
    "names": lambda n: "from a import " + ",".join(f"b{i}" for i in range(n)),
    "one name": lambda n: "import " + "a" * n,
    "lines": lambda n: "".join(f"import a{i}\n" for i in range(n)),
    "tried": lambda n: "try:\n import a\nexcept ImportError: pass\n" * n,
    "choices": lambda n: "if sys.platform == 1: import x\n" * n,
    "tests": lambda n: "if " + " and ".join(["a.b"] * n) + ": import x",
    "alternatives": lambda n: "if a: pass\n" + "elif b: pass\n" * n,
    "attributes": lambda n: "a" + ".a" * n,
    "parentheses": lambda n: "(" * n,
    "signs": lambda n: "-" * n + "1",
    "sums": lambda n: "a" + "+a" * n,
    "quotes": lambda n: "x y\n" + "'''" * n,
    "blanks": lambda n: " " * n + "x y",
    "blank lines": lambda n: "\n\t" * n + "x y",
    "blanks of a shell": lambda n: "!" + " " * n,
    "assigned": lambda n: "a " * n + "%",
    "brackets": lambda n: "[" * n + "%",
    "questions": lambda n: "?" * n + "(",
    "question at the end": lambda n: "a" * n + "? x",
    "question among blanks": lambda n: " " * n + "?" + " " * n + "(",
    "percents": lambda n: "%" * n + "?x",
    "cells in cells": lambda n: "%%time\n" * n,
    "flags": lambda n: "%%timeit " + "-n 1 " * n + "\nx y",
    "flags without a name": lambda n: "%timeit" + " -" * n,
    "continued": lambda n: "!pip \\\n" * n,
    "only continued": lambda n: "x y\n" + "\\\n" * n,
    "semicolons": lambda n: "!" + ";" * n + "pip",
    "semicolons apart": lambda n: "!" + "; " * n + "pip",
    "semicolon and blanks": lambda n: "!;" + " " * n + "pip",
    "sudo": lambda n: "!" + "sudo " * n,
    "pythons": lambda n: "!" + "python" * n,
    "options": lambda n: "!pip " + "-x " * n,
    "installs": lambda n: "!" + "pip install a;" * n,
    "installed": lambda n: "!pip install " + "a " * n,
    "an open quote": lambda n: "!pip install '" + "a " * n,
    "extensions": lambda n: "x y\n%load_ext " + "a " * n,
    "folders": lambda n: "%cd" * n,
    "R: dots": lambda n: "a." * n,
    "R: libraries": lambda n: "library( " * n,
    "R: blanks": lambda n: "library(" + " " * n,
    "R: namespaces": lambda n: "a::" * n,
    "R: comments": lambda n: "#" * n,
}


PARSED = {
    "dots by name", "commas", "names", "lines", "tried", "choices", "tests", "alternatives", "attributes",
    "sums", "installs",
}  # fmt: skip
"""Those that are Python, and take what its parser takes."""


def notebook(source: Any, language: str = "python") -> bytes:
    spec = {"name": "x", "language": language, "display_name": "x"}
    cell = {"cell_type": "code", "source": source, "metadata": {}, "outputs": [], "execution_count": None}
    return json.dumps({"nbformat": 4, "metadata": {"kernelspec": spec}, "cells": [cell]}).encode()


def read(source: str, language: str = "python") -> None:
    found: Notebook = loads(notebook(source, language), HERE)
    used_by_notebook(found, {"mine"})
    moves(source)
    if language == "python":
        used_by_script(source)
        installs(source)


@contextmanager
def guarded() -> Iterator[None]:
    def hung(number: int, frame: FrameType | None) -> None:
        raise AssertionError("hung")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(GUARD)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def steps(run: Callable[[], object]) -> int:
    """Calls that a run makes, of Python's functions and of C's."""
    count = 0

    def step(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(step)
    try:
        run()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("shape", SHAPES)
def test_twice_the_source_is_at_most_twice_the_work(shape: str) -> None:
    language = "r" if shape.startswith("R: ") else "python"
    make = SHAPES[shape]
    read(make(1), language)  # tables are loaded once
    one, two = (steps(lambda n=n: read(make(n), language)) for n in (500, 1000))
    assert two <= 2.2 * one + 500


@pytest.mark.parametrize("shape", [s for s in SHAPES if s not in PARSED])
def test_no_pattern_goes_back_again_and_again(shape: str) -> None:
    """Steps of regular expressions are not counted by anybody: with their square, this would take hours."""
    with guarded():
        read(SHAPES[shape](100_000), "r" if shape.startswith("R: ") else "python")


def test_twenty_thousand_dots() -> None:
    used = used_by_script("import a" + ".a" * 20_000)
    assert (dict(used.modules), used.unread) == ({"a": 0}, (0,))


def test_what_is_long_or_deep_is_not_parsed() -> None:
    assert parse("x = 1\n" * 1_000_000) is None
    assert parse("import a" + ".a" * 200) is None
    assert parse("import a.b.c.d.e.f") is not None
    assert parse("x = '" + "." * 10_000 + "'  # " + "." * 10_000) is not None
    assert plain("%%time\n" * 10_000 + "import x y").source.startswith("%%time")


SOURCES = st.text(st.characters(codec=None), max_size=40)
PIECES = st.lists(
    st.sampled_from([
        "import ", "from ", ".", "a", " ", "\n", "%", "!", "?", "pip install ", "\\\n", "(", "'", ";", ",",
        "%%bash\n", "%%time\n", "=", "-r ", "\r", "\0", "é", "\ud800", "#", "::", "library(", "try:\n ",
        "except ImportError: ", "# coding: ", "if ", "google.cloud", "*", "\x0c", "\u2028", "conda ",
        ":", "\t", " as ",
    ]),
    max_size=40,
).map("".join)  # fmt: skip
fuzzed = settings(deadline=None, suppress_health_check=list(HealthCheck))


@given(PIECES | SOURCES, st.sampled_from(["python", "r", "julia"]))
@fuzzed
def test_no_source_breaks_the_reader(source: str, language: str) -> None:
    read(source, language)


@given(st.binary(max_size=60) | PIECES.map(lambda text: text.encode("utf-8", "surrogatepass")))
@fuzzed
def test_no_script_breaks_the_reader(data: bytes) -> None:
    try:
        text = script_text(data)
    except ValueError:
        return
    used_by_script(text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | PIECES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.data())
@fuzzed
def test_no_document_breaks_reading_and_writing(data: st.DataObject) -> None:
    keys = st.sampled_from(["cells", "metadata", "nbformat", "nbformat_minor", "worksheets", "x"])
    cell = st.fixed_dictionaries({}, optional={
        "cell_type": st.just("code") | VALUES, "source": PIECES | VALUES, "input": VALUES, "metadata": VALUES,
    })  # fmt: skip
    document = data.draw(st.dictionaries(keys, VALUES, max_size=3))
    document |= {"nbformat": data.draw(st.just(4) | st.integers(-1, 9) | VALUES)}
    document |= {"cells": data.draw(st.lists(cell, max_size=3) | VALUES)}
    raw = json.dumps(document).encode("utf-8", "surrogatepass")
    with suppress(EnvboxError):
        found = loads(raw, HERE)
        used_by_notebook(found)
        written_like(raw, found.document, {**found.document, "metadata": {"envbox": {}}})


@pytest.mark.parametrize("depth", [100, 2000, 100_000])
@pytest.mark.parametrize("form", ["list", "object"])
def test_json_that_is_nested_ends_in_words(depth: int, form: str) -> None:
    inside = "[" * depth + "]" * depth if form == "list" else '{"a":' * depth + "0" + "}" * depth
    raw = b'{\n "cells": [], "nbformat": 4, "metadata": {"x": %b}}' % inside.encode()
    fails = pytest.raises(NotebookError, match="deep") if depth >= 990 else nullcontext()
    with fails:
        found = loads(raw, HERE)
        written_like(raw, found.document, {**found.document, "metadata": {**found.metadata, "envbox": {}}})


def test_more_values_than_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_MOST_VALUES", 1000)
    for inside in (b"0," * 1000, b"{},[]" * 500, b'"a",' * 1000):
        with pytest.raises(NotebookError, match="too many values"):
            loads(b'{"nbformat": 4, "cells": [' + inside, HERE)


def test_a_cell_may_be_a_list_of_characters() -> None:
    source = "import numpy\n" * 20_000
    with guarded():
        assert [*used_by_notebook(loads(notebook([*source]), HERE)).modules] == ["numpy"]
    with pytest.raises(NotebookError, match="no text"):
        loads(notebook([*source, 1]), HERE)


def test_numbers_that_are_too_long() -> None:
    for number in ("1" * 10_000, "-" + "9" * 5000):
        with pytest.raises(NotebookError):
            loads(b'{"nbformat": %b, "cells": []}' % number.encode(), HERE)


def test_a_huge_file_is_named_and_left_alone(tmp_path: Path) -> None:
    for name in ("a.ipynb", "a.py", "requirements.txt", "pyproject.toml"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(1 << 30)
    (tmp_path / "b.py").write_text("import numpy")
    with guarded():
        needs = gather(tmp_path)
    assert [*needs.modules] == ["numpy"]
    assert len(needs.said) == 4
