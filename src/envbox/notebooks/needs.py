"""What a directory's files ask for: notebooks, scripts, requirements.txt, pyproject.toml. Nothing is run."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from envbox.errors import NotebookError, ToolError
from envbox.files import decoded
from envbox.notebooks.document import is_file, read_notebook, read_regular
from envbox.notebooks.imports import Used, moves, script_text, used_by_notebook, used_by_script
from envbox.notebooks.local import OwnModules, editable, own_modules, table
from envbox.notebooks.magics import Install

UNREAD = f"is not Python 3, or newer than {sys.version_info.major}.{sys.version_info.minor}"
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
    :param in_place: the project's own folders that are installed in place
    :param languages: of the kernels of notebooks
    :param said: what a person should be told: files that could not be read, languages that are not known
    """

    modules: dict[str, str] = field(default_factory=dict)
    optional: dict[str, str] = field(default_factory=dict)
    elsewhere: dict[str, str] = field(default_factory=dict)
    r_packages: dict[str, str] = field(default_factory=dict)
    conda: dict[str, str] = field(default_factory=dict)
    requirements: list[Requirement] = field(default_factory=list)
    in_place: list[Path] = field(default_factory=list)
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
    own = own_modules(folder)
    needs = Needs(elsewhere=own.anywhere(), said=[*own.unread])
    if len(own.code) > _MOST_FILES:
        needs.said.append(
            f"there are {len(own.code)} notebooks and scripts; the first {_MOST_FILES} were read"
        )
    listed = Needs()
    if not _leads_out(folder / "requirements.txt", folder, listed):
        _requirements(folder / "requirements.txt", folder, listed, set())
    own.roots += listed.in_place
    for path in own.code[:_MOST_FILES]:
        if not _leads_out(path, folder, needs):
            (_notebook if path.suffix == ".ipynb" else _script)(path, own, needs)
    if not _leads_out(folder / "pyproject.toml", folder, needs):
        _project(folder / "pyproject.toml", needs)
    needs.requirements += listed.requirements
    needs.files |= {name: count for name, count in listed.files.items() if name not in needs.files}
    needs.said += listed.said
    return needs


def _notebook(path: Path, own: OwnModules, needs: Needs) -> None:
    name = path.relative_to(own.root).as_posix()
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
    used = used_by_notebook(notebook, _importable(path, own, any(moves(c.source) for c in notebook.cells)))
    if notebook.language == "r":
        for package, cell in used.modules.items():
            needs.r_packages.setdefault(package, f"{name}, cell {cell}")
        return
    for cell in used.unread:
        needs.said.append(f"{name}, cell {cell} {UNREAD}; its imports are guessed by line")
    _take(used, path, own.root, needs)


def _script(path: Path, own: OwnModules, needs: Needs) -> None:
    name = path.relative_to(own.root).as_posix()
    try:
        data = read_regular(path, _LARGEST_SCRIPT)
        source = None if data is None else script_text(data)
    except (OSError, ValueError) as error:
        needs.said.append(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}")
        return
    if source is None:
        needs.said.append(f"{name} has more than {_LARGEST_SCRIPT >> 20} MB; not looked into")
        return
    needs.files["script"] = needs.files.get("script", 0) + 1
    used = used_by_script(source, _importable(path, own, moves(source)))
    if used.unread:
        needs.said.append(f"{name} {UNREAD}; its imports are guessed by line")
    _take(used, path, own.root, needs)


def _importable(path: Path, own: OwnModules, is_moved: bool) -> frozenset[str]:
    """Return the project's own modules that a file can import; all, where it says itself where they are."""
    return own.near(path) | own.everywhere() if is_moved else own.near(path)


def _take(used: Used, path: Path, root: Path, needs: Needs) -> None:
    name = path.relative_to(root).as_posix()

    def place(cell: int) -> str:
        return f"{name}, cell {cell}" if cell else name

    for module, cell in used.modules.items():
        needs.modules.setdefault(module, place(cell))
    for module, cell in used.optional.items():
        needs.optional.setdefault(module, place(cell))
    for install, cell in used.installs.items():
        if install.is_file:
            _installed_file(install, path.parent, root, needs)
        elif install.manager == "conda":
            needs.conda.setdefault(install.text, place(cell))
        else:
            needs.requirements.append(Requirement(install.text, place(cell), is_cell=True))


def _installed_file(install: Install, folder: Path, root: Path, needs: Needs) -> None:
    """Read a file that a cell installs from, where it is the project's."""
    path = Path(os.path.normpath(folder / install.text))
    if not _is_own(path, root):
        needs.said.append(f"{install.text} was not read, which a cell installs from")
    elif install.manager == "pip":
        _requirements(path, root, needs, set())
    elif path.suffix not in (".yml", ".yaml"):
        for number, line in enumerate(_lines(path, needs), 1):
            if text := re.sub(r"(^|\s)#.*", "", line).strip():
                needs.conda.setdefault(text, f"{path.name}, line {number}")


def _is_own(path: Path, root: Path) -> bool:
    """Say whether it is a file of the project's, also where links lead."""
    return is_file(path) and Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def _leads_out(path: Path, root: Path, needs: Needs) -> bool:
    """Return whether a link leads out of the project, to what could be any file of the reader's; say so."""
    if not is_file(path) or _is_own(path, root):
        return False
    needs.said.append(
        f"{path.relative_to(root).as_posix()} was not read: it is a link out of {root}; copy it"
    )
    return True


def listed_in(path: Path, root: Path) -> list[str]:
    """Return what a file lists that a cell installs from; nothing of one that is not the project's."""
    found = Needs()
    if _is_own(path, root) and path.suffix not in (".yml", ".yaml"):
        _requirements(path, root, found, set())
    return [requirement.text for requirement in found.requirements]


def _lines(path: Path, needs: Needs) -> list[str]:
    """Return a requirements file's lines, those that are continued as one; none of one that cannot be
    read.
    """
    try:
        data = read_regular(path, _LARGEST_SCRIPT)
        text = decoded(data or b"")
    except (OSError, UnicodeDecodeError) as error:
        needs.said.append(
            f"{path.name} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8'}"
        )
        return []
    if data is None:
        needs.said.append(f"{path.name} has more than {_LARGEST_SCRIPT >> 20} MB; not looked into")
        return []
    needs.files[path.name] = 1
    return text.replace("\\\r\n", " ").replace("\\\n", " ").splitlines()


# --- what is declared ---------------------------------------------------------------------------------------


def _requirements(path: Path, folder: Path, needs: Needs, seen: set[Path]) -> None:
    if not is_file(path) or path in seen:
        return
    seen.add(path)
    for number, line in enumerate(_lines(path, needs), 1):
        plain = re.sub(r"(^|\s)#.*", "", line).strip()
        other = re.fullmatch(r"(?:-r|--requirement|-c|--constraint)[ =]*(\S+)", plain)
        if other:
            further = (path.parent / other[1]).resolve()
            if "://" in other[1] or not further.is_relative_to(folder.resolve()) or not is_file(further):
                needs.said.append(f"{path.name}, line {number}: {plain} was not read")
            elif plain.startswith(("-r", "--r")):
                _requirements(further, folder, needs, seen)
        elif places := editable(plain, path.parent):
            needs.in_place += places
        elif plain:
            bare = re.sub(r"\s+--hash[= ]\S+", "", plain)
            needs.requirements.append(Requirement(bare, f"{path.name}, line {number}"))


def _project(path: Path, needs: Needs) -> None:
    if not is_file(path):
        return
    try:
        data = read_regular(path, _LARGEST_SCRIPT)
        if data is None:
            raise ValueError(f"it has more than {_LARGEST_SCRIPT >> 20} MB")
        document = tomllib.loads(data.decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        needs.said.append(f"{path.name} cannot be read: {str(error).partition(chr(10))[0]}")
        return
    needs.files[path.name] = 1
    project = table(document.get("project"))
    declared = project.get("dependencies")
    for text in declared if isinstance(declared, list) else ():
        needs.requirements.append(Requirement(str(text), path.name))
    if isinstance(python := project.get("requires-python"), str):
        needs.python = python
    poetry = table(table(table(document.get("tool")).get("poetry")).get("dependencies"))
    for name, value in poetry.items():
        version = value if isinstance(value, str) else table(value).get("version", "*")
        text = _from_poetry(str(version))
        if name == "python":
            needs.python = needs.python or text
        else:
            needs.requirements.append(Requirement(f"{name}{text}", path.name))


def _from_poetry(version: str) -> str:
    """Put poetry's `^1.2` in pip's words; what is in pip's already stays."""
    if version == "*":
        return ""
    if not re.match(r"[\^~]\d", version):
        return version if version[:1] in "<>=!~" else f"=={version}"
    numbers = [int(n) for n in re.findall(r"\d+", version)]
    at = next((n for n, value in enumerate(numbers) if value), len(numbers) - 1) if version[0] == "^" else 0
    at = min(1, len(numbers) - 1) if version[0] == "~" else at
    above = [*numbers[:at], numbers[at] + 1]
    return f">={'.'.join(map(str, numbers))},<{'.'.join(map(str, above))}"
