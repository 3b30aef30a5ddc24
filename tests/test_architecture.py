"""Values flow one way, and heavy libraries stay where they are needed: the house rules, as tests."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "envbox"

# From the bottom up: each wing, or module that stands alone, may import what stands above it in this table.
WINGS = """
__init__ background coroutines errors image_paths slim
files report mirrors platforms documents
oci
settings
project cache
lockfile
net
registry engine
packages
locks prefixes
images
notebooks
sessions
trust
cli
__main__
"""
RANK = {wing: row for row, line in enumerate(WINGS.strip().splitlines()) for wing in line.split()}
MOST_FOLDERS = 14
HEAVY = {
    "docker",
    "rattler",
    "conda_lock",
    "nbformat",
    "pydantic",
    "requests",
    "zstandard",
    "installer",
    "rich",
    "ruamel",
    "pygments",
    "markdown_it",
    "jupyter_client",
    "zmq",
}


NOT_IMPORTED = {"sessions/jupyter/own_server/configuration.py"}
"""What other programs read, in a Python of their own."""


def modules() -> list[Path]:
    return sorted(p for p in SOURCE.rglob("*.py") if str(p.relative_to(SOURCE)) not in NOT_IMPORTED)


def name_of(path: Path) -> str:
    """A module's name below `envbox`: `images.build`; a package's is that of its folder."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """The modules of envbox that a module imports anywhere, in functions and for type checks too."""
    known, found = {name_of(each) for each in modules()}, set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "envbox":
            module = node.module.removeprefix("envbox").removeprefix(".")
            names = {f"{module}.{alias.name}".removeprefix(".") for alias in node.names}
            found |= (names & known) or {module or "__init__"}
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("envbox.") for a in node.names if a.name.startswith("envbox.")}
    return found


def top_level_imports(path: Path) -> set[str]:
    """The libraries that importing a module imports."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_wing_imports_only_what_lies_below_it(path: Path) -> None:
    wing = name_of(path).split(".")[0]
    others = {name.split(".")[0] for name in imports_of(path)} - {wing}
    assert not [other for other in others if RANK[other] >= RANK[wing]]


def test_no_module_can_be_reached_from_itself() -> None:
    graph = {name_of(path): imports_of(path) for path in modules()}

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for following in graph.get(todo.pop(), set()) - seen:
                seen.add(following)
                todo.append(following)
        return seen

    assert not [module for module in graph if module in reachable(module)]


def test_the_house_has_few_wings() -> None:
    folders = {path.parent for path in SOURCE.glob("*/__init__.py")}
    assert len(folders) <= MOST_FOLDERS
    assert {folder.name for folder in folders} | {p.stem for p in SOURCE.glob("*.py")} == set(RANK)


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_heavy_libraries_are_imported_where_they_are_used(path: Path) -> None:
    assert not top_level_imports(path) & HEAVY


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_every_module_says_what_it_holds(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_help_imports_click_and_nothing_heavy() -> None:
    code = "import sys; from envbox.cli import run; run(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stderr.split()) & (HEAVY | {"yaml", "platformdirs", "asyncio"})
    assert "notebook" in done.stdout


@pytest.mark.parametrize("word", ["utils", "common", "helpers", "manager", "core"])
def test_no_module_is_named_after_nothing(word: str) -> None:
    assert not [p for p in modules() if p.stem == word]


def definitions(kind: type[ast.AST]) -> Iterator[tuple[Path, Any]]:
    for path in modules():
        yield from (
            (path, n) for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, kind)
        )


def test_a_class_name_means_one_thing() -> None:
    names = Counter(node.name for _, node in definitions(ast.ClassDef))
    assert not [name for name, times in names.items() if times > 1]


NO_VERBS = {"The", "A", "An", "What", "Whether", "Where", "How", "Which", "Who", "Why", "All", "Its"}
NO_VERBS |= {"Whose", "Any", "Every", "Everything", "Whoever", "Never", "Asks", "Variables", "Environments"}
NO_VERBS |= {"Characters"}


def test_a_docstring_opens_with_a_verb() -> None:
    """Ruff's D401 sees words of other forms; it does not see a sentence that has no verb in front."""
    nouns = []
    for path, node in definitions(ast.FunctionDef):
        words = (ast.get_docstring(node) or "").split()
        is_property = any("property" in ast.dump(decorator) for decorator in node.decorator_list)
        if words and words[0] in NO_VERBS and not is_property:
            nouns.append(f"{path.relative_to(SOURCE)}:{node.lineno}")
    assert not nouns


def test_no_test_imports_a_test() -> None:
    """What several need is in `support`."""
    tests = Path(__file__).parent
    found = {
        (path.name, module)
        for path in tests.rglob("*.py")
        for module in top_level_imports(path)
        if module.startswith("test_") and module != path.stem
    }
    assert not found
