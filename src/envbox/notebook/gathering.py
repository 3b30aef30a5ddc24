"""What a directory's files ask for: notebooks, scripts, requirements.txt, pyproject.toml. Nothing is run."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envbox.errors import NotebookError, ToolError
from envbox.files import decoded
from envbox.notebook.imports import Used, used_by_notebook, used_by_script
from envbox.notebook.reading import read_notebook

_SKIPPED = {"__pycache__", "build", "dist", "environments", "node_modules", "site-packages", "venv", "env"}
_MOST_FILES = 5000
_LARGEST_SCRIPT = 1 << 22  # bytes


@dataclass(frozen=True, slots=True)
class Requirement:
    """A requirement in pip's words, and where it stands.

    :param is_cell: typed into a notebook, not declared
    """

    text: str
    place: str
    is_cell: bool = False


@dataclass(slots=True)
class Needs:
    """What was found, with the place of each: `a.ipynb, cell 3`.

    :param elsewhere: modules of the project's that lie where nothing imports them from by itself → the file
    :param python: what the project says of Python's version, as pip writes it
    :param languages: of the kernels of notebooks
    :param said: what a person should be told: files that could not be read, languages that are not known
    """

    modules: dict[str, str] = field(default_factory=dict)
    optional: dict[str, str] = field(default_factory=dict)
    elsewhere: dict[str, str] = field(default_factory=dict)
    r_packages: dict[str, str] = field(default_factory=dict)
    conda: dict[str, str] = field(default_factory=dict)
    requirements: list[Requirement] = field(default_factory=list)
    python: str | None = None
    languages: set[str] = field(default_factory=set)
    files: dict[str, int] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


def gather(folder: Path) -> Needs:
    """Read all of a directory's files that tell what they need.

    :raises ToolError: when it is no directory that can be read
    """
    if not folder.is_dir():
        raise ToolError(f"there is no directory {folder}")
    needs = Needs()
    paths = sorted(_files(folder), key=lambda p: (p.suffix != ".ipynb", p))
    if len(paths) > _MOST_FILES:
        needs.said.append(f"there are {len(paths)} notebooks and scripts; the first {_MOST_FILES} were read")
    modules = _local_modules(folder, paths)
    for path in paths[:_MOST_FILES]:
        beside = modules | {p.stem for p in path.parent.glob("*.py")}
        (_notebook if path.suffix == ".ipynb" else _script)(path, folder, beside, needs)
    _project(folder / "pyproject.toml", needs, modules)
    _requirements(folder / "requirements.txt", folder, needs, set())
    for module in list(needs.modules):
        if module in modules:
            del needs.modules[module]
    return needs


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [
            f for f in folders
            if f not in _SKIPPED and not f.startswith(".") and not Path(parent, f, "pyvenv.cfg").exists()
            and not Path(parent, f, "conda-meta").is_dir()
        ]  # fmt: skip
        yield from (Path(parent, n) for n in names if n.endswith((".ipynb", ".py")) and not n.startswith("."))


def _local_modules(folder: Path, paths: list[Path]) -> set[str]:
    """Modules and packages that can be imported from the directory, or from `src` in it."""
    found = set()
    for path in paths:
        if path.suffix != ".py":
            continue
        parts = path.relative_to(folder).parts
        parts = parts[1:] if parts[0] == "src" and len(parts) > 1 else parts
        found.add(parts[0].removesuffix(".py"))
    return found


def _notebook(path: Path, folder: Path, local: set[str], needs: Needs) -> None:
    name = path.relative_to(folder).as_posix()
    try:
        notebook = read_notebook(path)
    except NotebookError as error:
        needs.said.append(error.message)
        return
    needs.files["notebook"] = needs.files.get("notebook", 0) + 1
    needs.languages.add("python" if notebook.language == "ipython" else notebook.language)
    if notebook.language not in ("python", "ipython", "r"):
        needs.said.append(
            f"{name} is not looked into: it is in {notebook.language}, whose packages do not come from conda"
        )
    used = used_by_notebook(notebook, local)
    if notebook.language == "r":
        for package, cell in used.modules.items():
            needs.r_packages.setdefault(package, f"{name}, cell {cell}")
        return
    for cell in used.unread:
        needs.said.append(f"{name}, cell {cell} is not Python 3; its imports are guessed by line")
    _take(used, name, needs)


def _script(path: Path, folder: Path, local: set[str], needs: Needs) -> None:
    name = path.relative_to(folder).as_posix()
    try:
        if path.stat().st_size > _LARGEST_SCRIPT:
            needs.said.append(f"{name} has {path.stat().st_size >> 20} MB; not looked into")
            return
        source = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        needs.said.append(f"{name} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}")
        return
    needs.files["script"] = needs.files.get("script", 0) + 1
    used = used_by_script(source, local)
    if used.unread:
        needs.said.append(f"{name} is not Python 3; its imports are guessed by line")
    _take(used, name, needs)


def _take(used: Used, name: str, needs: Needs) -> None:
    def place(cell: int) -> str:
        return f"{name}, cell {cell}" if cell else name

    for module, cell in used.modules.items():
        needs.modules.setdefault(module, place(cell))
    for module, cell in used.optional.items():
        needs.optional.setdefault(module, place(cell))
    for install, cell in used.installs.items():
        if install.manager == "conda":
            needs.conda.setdefault(install.text, place(cell))
        else:
            needs.requirements.append(Requirement(install.text, place(cell), is_cell=True))


# --- what is declared ---------------------------------------------------------------------------------------


def _requirements(path: Path, folder: Path, needs: Needs, seen: set[Path]) -> None:
    if not path.is_file() or path in seen:
        return
    seen.add(path)
    try:
        text = decoded(path.read_bytes())
    except (OSError, UnicodeDecodeError):
        needs.said.append(f"{path.name} cannot be read: it is not UTF-8")
        return
    needs.files[path.name] = 1
    for number, line in enumerate(text.replace("\\\r\n", " ").replace("\\\n", " ").splitlines(), 1):
        plain = re.sub(r"(^|\s)#.*", "", line).strip()
        other = re.fullmatch(r"(?:-r|--requirement|-c|--constraint)[ =]*(\S+)", plain)
        if other:
            further = (path.parent / other[1]).resolve()
            if "://" in other[1] or not further.is_relative_to(folder.resolve()) or not further.is_file():
                needs.said.append(f"{path.name}, line {number}: {plain} was not read")
            elif plain.startswith(("-r", "--r")):
                _requirements(further, folder, needs, seen)
        elif plain:
            bare = re.sub(r"\s+--hash[= ]\S+", "", plain)
            needs.requirements.append(Requirement(bare, f"{path.name}, line {number}"))


def _project(path: Path, needs: Needs, local: set[str]) -> None:
    if not path.is_file():
        return
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        needs.said.append(f"{path.name} cannot be read: {str(error).partition(chr(10))[0]}")
        return
    needs.files[path.name] = 1
    project = _table(document.get("project"))
    if isinstance(name := project.get("name"), str):
        local.add(re.sub(r"[-.]+", "_", name))
    declared = project.get("dependencies")
    for text in declared if isinstance(declared, list) else ():
        needs.requirements.append(Requirement(str(text), path.name))
    if isinstance(python := project.get("requires-python"), str):
        needs.python = python
    poetry = _table(_table(_table(document.get("tool")).get("poetry")).get("dependencies"))
    for name, value in poetry.items():
        version = value if isinstance(value, str) else _table(value).get("version", "*")
        text = _from_poetry(str(version))
        if name == "python":
            needs.python = needs.python or text
        else:
            needs.requirements.append(Requirement(f"{name}{text}", path.name))


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _from_poetry(version: str) -> str:
    """Poetry's `^1.2` in pip's words; what is in pip's already stays."""
    if version == "*":
        return ""
    if not re.match(r"[\^~]\d", version):
        return version if version[:1] in "<>=!~" else f"=={version}"
    numbers = [int(n) for n in re.findall(r"\d+", version)]
    at = next((n for n, value in enumerate(numbers) if value), len(numbers) - 1) if version[0] == "^" else 0
    at = min(1, len(numbers) - 1) if version[0] == "~" else at
    above = [*numbers[:at], numbers[at] + 1]
    return f">={'.'.join(map(str, numbers))},<{'.'.join(map(str, above))}"
