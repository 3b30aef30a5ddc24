"""Notebooks, of any format since 2011: their code, their kernel, and whether they can be read at all.

Format: https://nbformat.readthedocs.io/en/latest/format_description.html. Version 4 is JSON whose code is
found in one step, and read here, since a check of a hundred notebooks should not wait for schemas and
outputs; what is older is brought to version 4 by nbformat.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from envbox.errors import NotebookError
from envbox.files import conflict_line

NEWEST = 4
_LARGEST = 1 << 29  # bytes; JSON takes several times as much memory
_MOST_VALUES = 50_000_000  # of a document, counted by its punctuation: each takes up to 70 bytes of memory
_KINDS = (
    (stat.S_ISDIR, "a directory"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"),
)  # fmt: skip
_KERNELS = {"ir": "r", "python": "python", "python2": "python", "python3": "python", "xpython": "python"}


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of code.

    :param number: of the cell in the notebook, all kinds counted, from 1
    """

    number: int
    source: str


@dataclass(frozen=True, slots=True)
class Notebook:
    """What is to know of a notebook.

    :param language: of its kernel, in lower case; `python` where nothing is said
    :param kernel: the kernelspec's name; None where it has none
    :param version: of the language, where the notebook says which it was run with
    :param document: the whole of it, as it is in the file
    """

    path: Path
    language: str
    kernel: str | None
    version: str | None
    cells: tuple[Cell, ...]
    document: Mapping[str, Any]

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The notebook's own."""
        found: Mapping[str, Any] = self.document.get("metadata", {})
        return found

    @property
    def stamp(self) -> Mapping[str, Any] | None:
        """What `envbox stamp` has left in it."""
        found = self.metadata.get("envbox")
        return found if isinstance(found, dict) else None


def read_notebook(path: Path) -> Notebook:
    """Read a notebook.

    :raises NotebookError: when it is none, or of a format that is not known
    """
    return loads(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """Read a notebook's bytes.

    :raises NotebookError: when there are none, or too many
    """
    try:
        data = read_regular(path, _LARGEST)
    except FileNotFoundError:
        raise NotebookError(f"there is no notebook {path}") from None
    except (OSError, ValueError) as error:
        words = getattr(error, "strerror", None) or str(error)
        raise NotebookError(f"cannot read the notebook {path}: {words}") from error
    if data is None:
        raise NotebookError(
            f"the notebook {path} has more than {_LARGEST >> 20} MB", f"clear its outputs: {_clear(path)}"
        )
    return data


def read_regular(path: Path, most: int) -> bytes | None:
    """Read a file, whole; None when it has more than `most` bytes.

    What is no file is refused and never waited for: a FIFO that nobody writes to, a device without an end.

    :raises OSError: when it cannot be read, or is something else
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            kind = next((words for is_one, words in _KINDS if is_one(status.st_mode)), "something else")
            raise OSError(0, f"it is {kind}, and no file")
        data = file.read(most + 1) if status.st_size <= most else None
    return data if data is not None and len(data) <= most else None


def is_file(path: Path) -> bool:
    """Say whether it is a file, as far as can be seen: not what lies where nobody may look."""
    try:
        return path.is_file()
    except OSError:
        return False


def loads(data: bytes, path: Path) -> Notebook:
    """Parse a notebook's bytes.

    :raises NotebookError: as `read_notebook`
    """
    document = _json(data, path)
    major = document.get("nbformat")
    if not isinstance(major, int) or not isinstance(document.get("metadata", {}), dict):
        raise NotebookError(f"{path} is JSON, but not a notebook: it has no `nbformat`")
    if major > NEWEST:
        raise NotebookError(
            f"the notebook {path} is of format {major}, and {NEWEST} is the newest that envbox knows",
            "save it in an older format, or update envbox",
        )
    cells = _cells((upgraded(data, path) if major < NEWEST else document).get("cells"), path)
    kernel, language, version = _kernel(document.get("metadata", {}))
    return Notebook(path, language, kernel, version, cells, document)


def _clear(path: Path) -> str:
    return f"jupyter nbconvert --clear-output --inplace {quote(str(path))}"


def _json(data: bytes, path: Path) -> dict[str, Any]:
    if not data.strip():
        raise NotebookError(f"the notebook {path} is empty")
    if line := conflict_line(data):
        raise NotebookError(
            f"the notebook {path} has merge conflict markers (line {line})", "settle the merge first"
        )
    if sum(map(data.count, (b",", b"{", b"["))) > _MOST_VALUES:
        raise NotebookError(f"the notebook {path} has too many values", f"clear its outputs: {_clear(path)}")
    try:
        document = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise NotebookError(f"the notebook {path} is not UTF-8 text", "save it from Jupyter") from error
    except json.JSONDecodeError as error:
        raise NotebookError(f"{path} is not a notebook: {error.msg} (line {error.lineno})") from error
    except (RecursionError, ValueError) as error:
        raise NotebookError(f"{path} is not a notebook: its JSON is nested or written too deep") from error
    if not isinstance(document, dict):
        raise NotebookError(f"{path} is JSON, but not a notebook")
    return document


def upgraded(data: bytes, path: Path) -> dict[str, Any]:
    """Bring an older notebook to version 4.

    :raises NotebookError: when it is damaged
    """
    import warnings

    import nbformat

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found: dict[str, Any] = nbformat.convert(nbformat.reader.reads(data.decode("utf-8-sig")), NEWEST)
    except Exception as error:  # of all kinds, from a format that nobody tests any more
        said = str(error).partition("\n")[0] or type(error).__name__
        raise NotebookError(
            f"the notebook {path} is of an old format, and damaged: {said}", "open and save it in Jupyter"
        ) from error
    return found


def _cells(cells: object, path: Path) -> tuple[Cell, ...]:
    if not isinstance(cells, list):
        raise NotebookError(f"the notebook {path} is damaged: it has no list of cells")
    found = []
    for number, cell in enumerate(cells, 1):
        source = cell.get("source", "") if isinstance(cell, dict) else None
        if isinstance(source, list) and all(isinstance(line, str) for line in source):
            source = "".join(source)
        if not isinstance(source, str):
            raise NotebookError(f"the notebook {path} is damaged: cell {number} has no text")
        if cell.get("cell_type") == "code":
            found.append(Cell(number, source))
    return tuple(found)


def _kernel(metadata: Mapping[str, Any]) -> tuple[str | None, str, str | None]:
    """Return the kernel's name, its language and the language's version, of a notebook that may say none
    of it.
    """

    def text(section: str, key: str) -> str | None:
        part = metadata.get(section)
        value = part.get(key) if isinstance(part, dict) else None
        return value if isinstance(value, str) and value else None

    name = text("kernelspec", "name")
    language = text("kernelspec", "language") or text("language_info", "name")
    if language is None and name is not None:
        stem = name.partition("-")[0].lower()
        language = _KERNELS.get(stem, stem if stem in ("julia", "bash", "octave", "scala") else None)
    return name, (language or "python").lower(), text("language_info", "version")
