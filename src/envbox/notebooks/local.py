"""The project's own modules: what can be imported without any package, from where a notebook or script lies.

Python finds them beside the file that runs; an editor, a `src` folder, an editable installation or `pytest`
find them further up. A module that lies elsewhere in the project counts where the code changes `sys.path`,
and where no package is called like it. So does a folder without `__init__.py`, which any package of its name
goes before; but what is in it (`helper.x`) is the project's. Nothing is imported.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envbox.notebooks.document import is_file, read_regular

SKIPPED = {"__pycache__", "build", "dist", "environments", "node_modules", "site-packages", "venv", "env"}
_MOST_ENTRIES = 200_000
_MOST_BYTES = 1 << 22  # of a pyproject.toml
_PROJECT_FILES = {"pyproject.toml", "setup.py", "setup.cfg"}
_BESIDE_CODE = ("src", "lib", "python")
_MODULE = re.compile(r"([A-Za-z_]\w*)(?:\.py|\.pyx|\.(?:[\w-]+\.)?(?:so|pyd))")


@dataclass(slots=True)
class OwnModules:
    """What a directory's files can import of each other.

    :param code: notebooks and scripts, sorted, notebooks first
    :param here: folder → the names that can be imported from it; with a dot, of folders without `__init__.py`
    :param declared: names of projects and packages that project files have
    :param roots: folders that an editable installation imports from
    :param unread: folders that could not be read, and what else a person should be told
    """

    root: Path
    code: list[Path] = field(default_factory=list)
    here: dict[Path, set[str]] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    roots: list[Path] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    _near: dict[Path, frozenset[str]] = field(default_factory=dict)

    def near(self, path: Path) -> frozenset[str]:
        """Return the names that a file can import as it lies there."""
        return self._from(path.parent)

    def _from(self, folder: Path) -> frozenset[str]:
        found = self._near.get(folder)
        if found is None:
            within = [f for f in (folder, *folder.parents) if f.is_relative_to(self.root)]
            found = frozenset(self.declared).union(*(self.here.get(place, set()) for place in self.roots))
            for place in reversed(within):
                beside_it = (place, *(place / name for name in _BESIDE_CODE))
                found = self._near.setdefault(
                    place, found.union(*(self.here.get(b, set()) for b in beside_it))
                )
        return found

    def everywhere(self) -> frozenset[str]:
        """Return the names of all modules and packages in the project, wherever they are."""
        everything = self.root / "*"  # no folder's name
        if everything not in self._near:
            self._near[everything] = frozenset(self.declared.union(*self.here.values()))
        return self._near[everything]

    def anywhere(self) -> dict[str, str]:
        """Return every name in the project, and where it is."""
        found: dict[str, str] = {}
        for folder, names in sorted(self.here.items()):
            for top in sorted({name.partition(".")[0] for name in names}):
                found.setdefault(top, (folder / top).relative_to(self.root).as_posix())
        return found


def own_modules(root: Path) -> OwnModules:
    """Look through a directory for code and modules."""
    found = OwnModules(root)
    entries = 0
    projects: list[Path] = []
    for here, folders, names in _walk(root, found):
        modules = {match[1] for n in names if (match := _MODULE.fullmatch(n)) and match[1] != "__init__"}
        found.here[here] = modules | {f for f in folders if f.isidentifier() and _is_package(here / f)}
        found.code += [here / n for n in names if n.endswith((".ipynb", ".py")) and not n.startswith(".")]
        projects += [here / n for n in names if n in _PROJECT_FILES]
        entries += len(names) + len(folders)
        if entries > _MOST_ENTRIES:
            found.unread.append(f"there are more than {_MOST_ENTRIES} files; only the first were looked at")
            break
    found.code.sort(key=lambda path: (path.suffix != ".ipynb", path))
    _namespaces(found)
    for path in projects:
        _project(path, found)
    return found


def beside(folder: Path) -> frozenset[str]:
    """Return the names that can be imported from one folder, outside of any project."""
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError:
        return frozenset()
    modules = {match[1] for n in names if (match := _MODULE.fullmatch(n))}
    return frozenset(modules | {n for n in names if n.isidentifier() and _is_package(folder / n)})


def _walk(root: Path, found: OwnModules) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Yield every folder with its folders and files, however deep; no link is followed."""
    todo = [root]
    while todo:
        here = todo.pop()
        folders: list[str] = []
        linked: list[str] = []
        names: list[str] = []
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    if not _is_folder(entry):
                        names.append(entry.name)
                    else:
                        (linked if entry.is_symlink() else folders).append(entry.name)
        except OSError as error:
            found.unread.append(f"{here} cannot be read: {error.strerror}")
            continue
        yield here, [*folders, *linked], names
        todo += (here / f for f in sorted(folders, reverse=True) if not _is_skipped(here / f))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads round in a circle, or where nobody may look
        return False


def _is_skipped(folder: Path) -> bool:
    if folder.name.startswith(".") or (folder.name in SKIPPED and not _is_package(folder)):
        return True
    return is_file(folder / "pyvenv.cfg") or os.path.isdir(folder / "conda-meta")  # noqa: PTH112


def _is_package(folder: Path) -> bool:
    return is_file(folder / "__init__.py")


def _namespaces(found: OwnModules) -> None:
    """Add what can be imported through folders that have no `__init__.py`, the deepest first."""
    for folder in sorted(found.here, key=lambda path: -len(path.parts)):
        above = found.here.get(folder.parent)
        if folder != found.root and above is not None and folder.name.isidentifier():
            above |= {f"{folder.name}.{name.partition('.')[0]}" for name in found.here[folder]}


# --- what project files say ---------------------------------------------------------------------------------


def _project(path: Path, found: OwnModules) -> None:
    """Add the folders from which whoever has a project file is installed, in place."""
    found.roots += [path.parent, path.parent / "src"]
    if path.name != "pyproject.toml":
        return
    try:
        document = tomllib.loads((read_regular(path, _MOST_BYTES) or b"").decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return
    tool = table(document.get("tool"))
    poetry, setuptools = table(tool.get("poetry")), table(tool.get("setuptools"))
    for name in (table(document.get("project")).get("name"), poetry.get("name")):
        if isinstance(name, str):
            found.declared.add(re.sub(r"[-.]+", "_", name))
    hatch = table(table(table(table(tool.get("hatch")).get("build")).get("targets")).get("wheel"))
    flit = table(table(tool.get("flit")).get("module")).get("name")
    lists = (setuptools.get("packages"), setuptools.get("py-modules"), hatch.get("packages"), [flit])
    for text in (t for values in lists if isinstance(values, list) for t in values if isinstance(t, str)):
        found.declared.add(text.rpartition("/")[2].partition(".")[0])
    where = table(table(setuptools.get("packages")).get("find")).get("where")
    folders = [*(where if isinstance(where, list) else ()), *table(setuptools.get("package-dir")).values()]
    packages = poetry.get("packages")
    for included in packages if isinstance(packages, list) else ():
        folders.append(table(included).get("from"))
        if isinstance(included_name := table(included).get("include"), str):
            found.declared.add(included_name.partition("/")[0])
    found.roots += [path.parent / text for text in folders if isinstance(text, str) and "\0" not in text]


def table(value: object) -> dict[str, Any]:
    """Return a table of a TOML document; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def editable(line: str, folder: Path) -> tuple[Path, ...]:
    """Return the folders that a line such as `-e ./lib` imports from, in a file that lies in `folder`."""
    match = re.fullmatch(r"(?:(?:-e|--editable)[ =]+)?[\"']?(\.[^\s\"'\[]*)[\"']?(?:\[[^\]]*\])?[\"']?", line)
    if match is None or "\0" in line:
        return ()
    place = Path(os.path.normpath(folder / match[1]))
    return (place, place / "src") if os.path.isdir(place) else ()  # noqa: PTH112  # it says no, and never fails
