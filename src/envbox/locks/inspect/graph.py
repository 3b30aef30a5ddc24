"""Who needs whom on one platform of a lock, and what was asked for.

The difficulty is names: conda and pip have each their own, a wheel may need what conda has, and what was
asked for stands in the lock as text. So each package has a key (`numpy`, `pip:basemap`), a virtual package
(`__glibc`) is one that nobody locks, and what a wheel needs is looked for among the wheels first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from envbox.errors import LockfileError, did_you_mean
from envbox.lockfile import Lock, LockedPackage, pip_name
from envbox.lockfile.custom import PIP_PREFIX
from envbox.platforms import preferred_platform

PIP = "pip:"
_CONDA_NAME = re.compile(r"(?:[^\s:]+::)?([A-Za-z0-9_.-]+)(?!\S*://)")
_ARCHIVE_NAME = re.compile(r"\w+://\S+/([^/\s]+)-[^-/\s]+-[^-/\s]+\.(?:conda|tar\.bz2)")
_PIP_NAME = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)")


@dataclass(frozen=True, slots=True)
class Graph:
    """The packages of one platform.

    :param packages: key → package
    :param needs: key → key of what it needs → constraint, sorted; a virtual package needs nothing
    :param needed_by: the same the other way round
    :param asked: key → the match specs or requirements that ask for it, as text
    :param is_told: whether the lock says what was asked for; else that is what nobody else needs
    """

    name: str
    platform: str
    packages: Mapping[str, LockedPackage]
    needs: Mapping[str, Mapping[str, str]]
    needed_by: Mapping[str, Mapping[str, str]]
    asked: Mapping[str, tuple[str, ...]]
    is_told: bool

    def label(self, key: str) -> str:
        """Name and version, for people."""
        package = self.packages.get(key)
        if package is None:
            return key
        return f"{package.name} {package.version}" + (" (pip)" if package.manager == "pip" else "")


def graph_of(lock: Lock, platform: str | None = None) -> Graph:
    """Give the graph of a platform.

    :param platform: a conda platform; this machine's when not said and locked, else the first one
    :raises LockfileError: when nothing is locked for it
    """
    platform = platform or preferred_platform(lock.platforms)
    packages = {key_of(p): p for p in lock.for_platform(platform)}
    needs = {key: dict(_needs(package, packages)) for key, package in packages.items()}
    needed_by: dict[str, dict[str, str]] = {key: {} for key in packages}
    for key, others in needs.items():
        for other, constraint in others.items():
            needed_by.setdefault(other, {})[key] = constraint
    asked = _asked(lock.requested.get(platform, ()), packages)
    told = bool(asked)
    asked = asked or dict.fromkeys(_roots(needs), ())
    return Graph(lock.name, platform, packages, needs, needed_by, asked, told)


def key_of(package: LockedPackage) -> str:
    """Return what a package is called in a graph."""
    return (PIP if package.manager == "pip" else "") + package.name


def find_key(graph: Graph, name: str) -> str:
    """Return the key of what a person calls by name.

    :raises LockfileError: when there is no such package
    """
    known = {*graph.packages, *graph.needed_by}
    for key in (name, name.lower(), PIP + pip_name(name), _conda_like(name, known)):
        if key in known:
            return key
    raise LockfileError(
        f"there is no {name} in {graph.name} for {graph.platform}",
        did_you_mean(name.lower(), sorted(known)) or f"what there is: envbox list {graph.name}",
    )


def chains(graph: Graph, key: str) -> tuple[tuple[str, ...], ...]:
    """Return the shortest chain from each package that was asked for to this one, the shortest first.

    Of chains that are equally short, the first by name.
    """
    following: dict[str, str | None] = {key: None}
    front = [key]
    while front:
        found = sorted((user, one) for one in front for user in graph.needed_by.get(one, ()))
        front = []
        for user, one in found:
            if user not in following:
                following[user] = one
                front.append(user)
    ways = (tuple(_walk(asked, following)) for asked in graph.asked if asked in following)
    return tuple(sorted(ways, key=lambda way: (len(way), way)))


def direct(graph: Graph, ways: Iterable[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """Return those chains that go through nothing else that was asked for: the others follow from them."""
    return tuple(way for way in ways if not any(key in graph.asked for key in way[1:-1]))


def asked_key(text: str) -> str | None:
    """Return the key of what a text of `Lock.requested` asks for; None when it does not say."""
    if text.startswith(PIP_PREFIX):
        found = _PIP_NAME.match(text.removeprefix(PIP_PREFIX))
        return PIP + pip_name(found[1]) if found else None
    found = _ARCHIVE_NAME.match(text) or _CONDA_NAME.match(text)
    return found[1].lower() if found else None


# --- making one ---------------------------------------------------------------------------------------------


def _needs(package: LockedPackage, packages: Mapping[str, LockedPackage]) -> Iterator[tuple[str, str]]:
    for name, constraint in sorted(package.depends.items()):
        key = name.lower()
        if package.manager == "pip":
            wheel = PIP + pip_name(name)
            key = wheel if wheel in packages else _conda_like(name, packages)
        if key in packages or key.startswith("__"):
            yield key, "" if constraint == "*" else constraint


def _conda_like(name: str, known: Iterable[str]) -> str:
    """Return the conda package that is called like a project on PyPI, whatever stands between its words."""
    wanted = pip_name(name)
    return next((key for key in known if not key.startswith(("__", PIP)) and pip_name(key) == wanted), name)


def _asked(texts: Iterable[str], packages: Mapping[str, LockedPackage]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for text in texts:
        key = asked_key(text)
        if key and key.startswith(PIP) and key not in packages:  # conda has it already
            key = _conda_like(key.removeprefix(PIP), packages)
        if key is not None and key in packages:
            found[key] = (*found.get(key, ()), text)
    return dict(sorted(found.items()))


def _roots(needs: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return what nobody else needs; of a circle that nobody else needs, one.

    Who is left last by a walk downwards is needed by nobody that is left before, but in a circle.
    """
    left: dict[str, None] = {}
    for start in needs:
        _visit(start, needs, left)
    roots, reached = [], dict[str, None]()
    for key in reversed(left):
        if key not in reached and key in needs:
            roots.append(key)
            _visit(key, needs, reached)
    return sorted(roots)


def _visit(start: str, needs: Mapping[str, Mapping[str, str]], left: dict[str, None]) -> None:
    """Walk down from a package, through what is not in `left` yet, and note each when it is left."""
    todo, open_ = [(start, False)], set[str]()
    while todo:
        key, is_done = todo.pop()
        if is_done:
            left[key] = None
        elif key not in left and key not in open_:
            open_.add(key)
            todo.append((key, True))
            todo.extend((other, False) for other in needs.get(key, ()))


def _walk(key: str, following: Mapping[str, str | None]) -> Iterator[str]:
    at: str | None = key
    while at is not None:
        yield at
        at = following[at]
