"""What is in an environment: a row for each package, and the rows as a table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from envbox.errors import SettingsError
from envbox.lockfile import LockedPackage
from envbox.locks.inspect.graph import Graph
from envbox.locks.inspect.tables import table

_HOSTS = {"conda.anaconda.org", "repo.anaconda.com"}
_LONGEST = 32  # characters of a licence: some packages have a whole sentence there; --json has it
_INDEX = "files.pythonhosted.org"  # where PyPI has its files


@dataclass(frozen=True, slots=True)
class Row:
    """One package.

    :param size: of the archive, in bytes; None where the lock does not say
    :param asked: the match specs or requirements that ask for it, as text
    """

    name: str
    version: str
    build: str | None
    manager: str
    size: int | None
    channel: str
    license: str | None
    url: str
    sha256: str
    asked: tuple[str, ...]


def rows(
    graph: Graph, pattern: str | None = None, *, only_asked: bool = False, by_size: bool = False
) -> tuple[Row, ...]:
    """Give the rows, conda's first, by name; or the largest first.

    :param pattern: a regular expression that is found in the name
    :raises SettingsError: when it is none
    """
    try:
        wanted = re.compile(pattern or "", re.IGNORECASE)
    except re.error as error:
        raise SettingsError(f"{pattern!r} is no regular expression: {error}") from error
    found = [
        _row(package, graph.asked.get(key, ()))
        for key, package in graph.packages.items()
        if wanted.search(package.name) and (not only_asked or key in graph.asked)
    ]
    return tuple(sorted(found, key=lambda row: (-(row.size or 0), row.name)) if by_size else found)


def listing(found: Sequence[Row]) -> Iterator[str]:
    """Yield the rows as lines, and their sum; a column of which nothing is known is left out."""
    cells = [
        (
            row.name,
            row.version,
            row.build or "",
            megabytes(row.size),
            row.channel,
            _short(row.license or ""),
            ", ".join(_constraint(text) for text in row.asked),
        )
        for row in found
    ]
    titles = ("package", "version", "build", "size", "channel", "licence", "asked for")
    known = [number for number in range(len(titles)) if any(cell[number] for cell in cells)]
    count = f"{len(found)} package" + "s" * (len(found) != 1)
    sizes = [row.size for row in found if row.size is not None]
    last = (count, "", "", megabytes(sum(sizes)) if sizes else "", "", "", "")
    lines = [[row[number] for number in known] for row in (titles, *cells, last)]
    yield from table(lines, right=[known.index(3)] if 3 in known else [])


def megabytes(size: int | None) -> str:
    """Return a size for people; nothing where it is not known."""
    return "" if size is None else f"{size / 1e6:,.2f} MB"


def channel_name(package: LockedPackage) -> str:
    """Return a channel as people call it; a wheel's is the index or host that has it."""
    host = urlsplit(package.url).hostname or ""
    if package.manager == "pip":
        return "pypi" if host == _INDEX else host
    return urlsplit(package.channel).path.strip("/") if host in _HOSTS else package.channel


def _row(package: LockedPackage, asked: tuple[str, ...]) -> Row:
    return Row(
        package.name,
        package.version,
        package.build,
        package.manager,
        package.size,
        channel_name(package),
        package.license,
        package.url,
        package.sha256,
        asked,
    )


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1].rstrip()}…"


def _constraint(text: str) -> str:
    """Return what is asked of the package besides its name; `any` where that is nothing."""
    rest = re.sub(r"^(?:pip: )?(?:[^\s:]+::)?[A-Za-z0-9_.-]+\s*", "", text, count=1)
    return rest or "any"
