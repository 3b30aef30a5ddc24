"""Values flow one way, and heavy libraries stay where they are needed: the house rules, as tests."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "envbox"

# Each room, and the rooms of envbox that it may import besides those in FOUNDATION, from the bottom up.
FOUNDATION = {
    "__init__",
    "cache",
    "coroutines",
    "documents",
    "errors",
    "files",
    "report",
    "oci",
    "mirrors",
    "inside",
    "slim",
}
SETTLED = {"settings", "project", "lockfile"}
ROOMS: dict[str, set[str]] = {
    "settings": set(),
    "project": set(),
    "lockfile": {"project"},
    "credentials": set(),
    "transport": SETTLED | {"credentials"},
    "fetch": SETTLED | {"credentials", "transport"},
    "registry": SETTLED | {"transport"},
    "base": SETTLED | {"registry"},
    "spec": SETTLED,
    "solve": SETTLED | {"credentials", "spec", "transport"},
    "freshness": SETTLED | {"registry", "solve", "spec"},
    "lock": SETTLED | {"base", "freshness", "reading", "registry", "solve", "spec"},
    "merge": SETTLED | {"freshness", "solve"},
    "editing": SETTLED | {"lock", "solve", "spec"},
    "notebook": SETTLED | {"fetch", "link", "solve"},
    "engine": SETTLED,
    "confine": SETTLED | {"engine"},
    "link": SETTLED | {"confine", "fetch"},
    "image": SETTLED | {"base", "engine", "fetch", "link", "registry"},
    "size": SETTLED | {"engine", "fetch", "image", "link", "verify"},
    "verify": SETTLED | {"base", "engine", "image", "link", "registry"},
    "exchange": SETTLED
    | {"base", "engine", "fetch", "image", "link", "registry", "solve", "spec", "transport", "verify"},
    "prefix": SETTLED | {"base", "engine", "fetch", "image", "link"},
    "launch": SETTLED | {"engine"},
    "kernels": SETTLED | {"engine", "launch"},
    "execution": SETTLED | {"engine", "launch", "notebook"},
    "trust": SETTLED | {"launch", "spec"},
    "reading": SETTLED | {"solve", "spec", "transport"},
    "beside": SETTLED | {"image", "link", "prefix", "solve", "spec"},
    "ready": SETTLED | {"engine", "freshness", "image", "lock", "prefix"},
}
TOP = {"cli", "__main__"}
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
    "nh3",
    "jupyter_client",
    "zmq",
}


NOT_IMPORTED = {"beside/configuration.py"}
"""What other programs read, in a Python of their own."""


def modules() -> list[Path]:
    return sorted(p for p in SOURCE.rglob("*.py") if str(p.relative_to(SOURCE)) not in NOT_IMPORTED)


def room_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return parts[0]


def imported_rooms(path: Path) -> set[str]:
    """The rooms that a module imports anywhere, TYPE_CHECKING blocks and functions included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("envbox"):
            parts = node.module.split(".")
            names |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {a.name.split(".")[1] for a in node.names if a.name.startswith("envbox.")}
    return {n for n in names if (SOURCE / n).is_dir() or (SOURCE / f"{n}.py").is_file()}


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
def test_a_room_imports_only_what_lies_below_it(path: Path) -> None:
    room = room_of(path)
    imports = imported_rooms(path) - {room} - FOUNDATION
    if room in FOUNDATION:
        assert not imports
    elif room not in TOP:
        assert imports <= ROOMS[room]


def test_no_two_rooms_import_each_other() -> None:
    graph: dict[str, set[str]] = {}
    for path in modules():
        graph.setdefault(room_of(path), set()).update(imported_rooms(path) - {room_of(path)})

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for following in graph.get(todo.pop(), set()) - seen:
                seen.add(following)
                todo.append(following)
        return seen

    assert not [room for room in graph if room in reachable(room)]


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
