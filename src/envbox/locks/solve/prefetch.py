"""Pages and metadata that a resolver will want, asked for before it does, side by side.

A resolver asks for one thing at a time, and waits. But most of what it will ask for can be told: the pages of
what is asked for by name, the metadata of the version that it will try first, and the same of what that
needs. What was told wrong is asked for when the resolver comes to it, as ever.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING

from envbox.errors import EnvboxError
from envbox.lockfile import pip_name
from envbox.locks.solve.candidates import Candidate, Candidates
from envbox.locks.solve.index_page import File
from envbox.locks.solve.wheel_metadata import metadata_of
from envbox.net.transport import Transport
from envbox.settings import Settings

if TYPE_CHECKING:
    from packaging.requirements import Requirement

CONNECTIONS = 24
"""Requests at once, of all platforms together; pip has one, uv 50, and an index is somebody's server."""
_MOST = 2000  # projects that are told; no environment has as many


class Metadata:
    """What wheels say of themselves, each asked for once. May be used by several threads."""

    def __init__(self, transport: Transport, settings: Settings) -> None:
        self._transport, self._settings = transport, settings
        self._known: dict[str, bytes] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def of(self, file: File) -> bytes:
        """Return the METADATA of a wheel; raises as `metadata_of` does."""
        with self._guard:
            lock = self._locks.setdefault(file.url, threading.Lock())
        with lock:
            if file.url not in self._known:
                self._known[file.url] = metadata_of(file, self._transport, self._settings)
            return self._known[file.url]


def ask_ahead(
    requirements: Sequence[Requirement],
    locked: Mapping[str, str],
    candidates: Candidates,
    metadata: Metadata,
    pool: Executor,
) -> None:
    """Ask for what the requirements will need on a platform.

    :param requirements: that conda's packages are not already
    :param locked: project → version that is kept where it fits
    :raises ToolError: when the page of what is asked for by name cannot be read
    """
    list(pool.map(candidates.of, {pip_name(r.name): None for r in requirements}))
    seen: set[str] = set()
    todo = list(requirements)
    while todo and len(seen) < _MOST:
        fresh = {pip_name(r.name): r for r in todo if pip_name(r.name) not in seen}
        seen |= fresh.keys()
        found = pool.map(_quiet(lambda r: _needs(r, locked, candidates, metadata)), fresh.values())
        todo = [needed for several in found for needed in several or ()]


def _quiet(
    work: Callable[[Requirement], list[Requirement]],
) -> Callable[[Requirement], list[Requirement] | None]:
    """Return the work, or nothing where it fails: the resolver meets that too, if it ever comes there."""

    def quiet(requirement: Requirement) -> list[Requirement] | None:
        try:
            return work(requirement)
        except EnvboxError:
            return None

    return quiet


def _needs(
    requirement: Requirement, locked: Mapping[str, str], candidates: Candidates, metadata: Metadata
) -> list[Requirement]:
    """Return what the version that will be tried first needs on the platform."""
    from packaging.metadata import parse_email
    from packaging.requirements import InvalidRequirement
    from packaging.requirements import Requirement as Parsed

    first = _first(requirement, locked.get(pip_name(requirement.name)), candidates)
    if first is None:
        return []
    told, _ = parse_email(metadata.of(first.file))
    found = []
    for text in told.get("requires_dist", []):
        try:
            needed = Parsed(text)
        except InvalidRequirement:
            continue
        if _holds(needed, requirement.extras, candidates.target.markers):
            found.append(needed)
    return found


def _first(requirement: Requirement, locked: str | None, candidates: Candidates) -> Candidate | None:
    fitting = [
        candidate
        for version, candidate in candidates.of(requirement.name).items()
        if requirement.url or requirement.specifier.contains(version, prereleases=None)
    ]
    return next((c for c in fitting if str(c.version) == locked), fitting[0] if fitting else None)


def _holds(needed: Requirement, extras: Iterable[str], markers: Mapping[str, str]) -> bool:
    marker = needed.marker
    return marker is None or any(marker.evaluate({**markers, "extra": e}) for e in ("", *extras))
