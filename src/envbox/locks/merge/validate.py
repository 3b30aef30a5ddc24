"""Whether a merged lock is one: complete, and each package what is asked for and what the others need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from envbox.errors import LockfileError
from envbox.lockfile import Lock, LockedPackage
from envbox.lockfile.conda_lock_v1 import PIP_PREFIX, dumps, loads, sealed
from envbox.locks.freshness.requirements import broken, unmet, unmet_wheels
from envbox.locks.solve.match_specs import parse_match_spec
from envbox.locks.solve.request import virtual_packages


def wrong_with(lock: Lock) -> list[str]:
    """Return what a solve would not have let happen, a line each; none: the lock is sound."""
    try:
        loads(dumps(lock), Path("both sides together"))
    except LockfileError as error:
        return [error.message.partition(": ")[2] or error.message]
    found: dict[str, list[str]] = {}
    for platform in lock.platforms:
        for words in _wrong(lock, platform):
            found.setdefault(words, []).append(platform)
    return [f"{', '.join(platforms)}: {words}" for words, platforms in found.items()]


def _wrong(lock: Lock, platform: str) -> Iterator[str]:
    packages = lock.for_platform(platform)
    conda, pip = _asked(lock, platform)
    cuda = lock.virtual.get(platform, {}).get("__cuda")
    yield from unmet(conda, packages, virtual_packages(platform, lock.base, cuda))
    yield from unmet_wheels(pip, packages)
    yield from broken(packages)


def _asked(lock: Lock, platform: str) -> tuple[list[str], list[str]]:
    texts = lock.requested.get(platform, ())
    pip = [text.removeprefix(PIP_PREFIX) for text in texts if text.startswith(PIP_PREFIX)]
    return [text for text in texts if not text.startswith(PIP_PREFIX)], pip


def without_orphans(lock: Lock, sides: Sequence[Lock], hashes: Mapping[str, str]) -> Lock:
    """Return the lock with these content hashes, less the packages that nobody needs any more.

    Somebody did on either side: one has dropped one of its users, and the other the other.
    """
    gone = {
        (platform, name)
        for platform in lock.platforms
        for name in _unneeded(lock, platform).difference(*(_unneeded(side, platform) for side in sides))
    }
    packages = (p for p in lock.packages if p.manager != "conda" or (p.platform, p.name.lower()) not in gone)
    return sealed(replace(lock, packages=tuple(packages), content_hash=dict(hashes)))


def _unneeded(lock: Lock, platform: str) -> set[str]:
    """Return the conda packages that neither what was asked for nor a wheel leads to."""
    packages: list[LockedPackage] = [p for p in lock.packages if p.platform == platform]
    needs = {p.name.lower(): [name.lower() for name in p.depends] for p in packages if p.manager == "conda"}
    todo = [parse_match_spec(text).name.normalized for text in _asked(lock, platform)[0]]
    todo += [name.lower() for p in packages if p.manager == "pip" for name in p.depends]
    reached: set[str] = set()
    while todo:
        name = todo.pop()
        if name in needs and name not in reached:
            reached.add(name)
            todo += needs[name]
    return needs.keys() - reached
