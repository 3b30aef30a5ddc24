"""Lock × Lock → what changed. A package that changes alike on several platforms is one change.

Alike means to a person: from the same version to the same version. The build strings of such a change may
differ by platform, as a compiled package's do; each platform's own are in `alike`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from envbox.lockfile import Base, Lock, LockedPackage
from envbox.locks.inspect.versions import compare
from envbox.report import counted

Kind = Literal["added", "removed", "upgraded", "downgraded", "rebuilt"]
KINDS: tuple[Kind, ...] = ("added", "removed", "upgraded", "downgraded", "rebuilt")


@dataclass(frozen=True, slots=True)
class Change:
    """What happened to one package.

    :param platforms: where it happened, sorted
    :param before: as it was on the first of them; None: it was not there
    :param after: as it is on the first of them; None: it is gone
    """

    name: str
    manager: str
    platforms: tuple[str, ...]
    before: LockedPackage | None
    after: LockedPackage | None

    @property
    def kind(self) -> Kind:
        """Added, removed, up or down; rebuilt: the same version, but another build, hash or URL."""
        if self.before is None:
            return "added"
        if self.after is None:
            return "removed"
        order = compare(self.before.version, self.after.version)
        return "upgraded" if order < 0 else "downgraded" if order > 0 else "rebuilt"


@dataclass(frozen=True, slots=True)
class Detail:
    """What changed besides packages: the base, a channel, a platform.

    :param before: None: there was none
    """

    what: str
    before: str | None
    after: str | None


def changes(old: Lock | None, new: Lock | None) -> tuple[Change, ...]:
    """Return what is different in `new`, sorted by manager and name; what is alike on several platforms is
    one.
    """
    return tuple(
        replace(group[0], platforms=tuple(change.platforms[0] for change in group))
        for group in alike(old, new)
    )


def alike(old: Lock | None, new: Lock | None) -> tuple[tuple[Change, ...], ...]:
    """Return the changes of each platform by itself, those together that are one to a person."""
    groups: dict[tuple[object, ...], list[Change]] = {}
    for change in _each(old, new):
        groups.setdefault(_likeness(change), []).append(change)
    return tuple(tuple(group) for group in groups.values())


def summary(found: Iterable[Change]) -> str:
    """Return how many of each kind, in a line: `3 added, 1 upgraded`."""
    kinds = [change.kind for change in found]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in KINDS if kind in kinds) or "no change"


def details(old: Lock | None, new: Lock | None) -> tuple[Detail, ...]:
    """Return what changed besides packages, and needs another image or another solve because of it."""
    if old is None or new is None:
        return ()
    return tuple(_details(old, new))


# --- packages -----------------------------------------------------------------------------------------------


def _each(old: Lock | None, new: Lock | None) -> Iterator[Change]:
    before, after = _by_key(old), _by_key(new)
    for key in sorted(before.keys() | after.keys()):
        was, now = before.get(key), after.get(key)
        if was is None or now is None or not _is_same(was, now):
            manager, name, platform = key
            yield Change(name, manager, (platform,), was, now)


def _by_key(lock: Lock | None) -> Mapping[tuple[str, str, str], LockedPackage]:
    return {(p.manager, p.name, p.platform): p for p in lock.packages} if lock else {}


def _is_same(one: LockedPackage, other: LockedPackage) -> bool:
    """Return whether two are one archive: a hash that only one of them has is no matter."""
    pairs = ((one.sha256, other.sha256), (one.md5, other.md5))
    return (one.version, one.build, one.url) == (other.version, other.build, other.url) and all(
        mine == theirs for mine, theirs in pairs if mine and theirs
    )


def _likeness(change: Change) -> tuple[object, ...]:
    versions = [p and p.version for p in (change.before, change.after)]
    builds = [p and p.build for p in (change.before, change.after)] if change.kind == "rebuilt" else []
    return (change.manager, change.name, *versions, *builds)


# --- the rest -----------------------------------------------------------------------------------------------


def _details(old: Lock, new: Lock) -> Iterator[Detail]:
    for platform in sorted({*old.platforms, *new.platforms}):
        before, after = (_count(lock, platform) for lock in (old, new))
        if before is None or after is None:
            yield Detail(platform, before, after)
    yield from _different("channels", ", ".join(old.channels), ", ".join(new.channels))
    if old.base and new.base:  # another tool's lockfile has none
        yield from _different("base", old.base.reference, new.base.reference)
        yield from _base(old.base, new.base)
    for platform in sorted(old.virtual.keys() | new.virtual.keys()):
        was, now = (lock.virtual.get(platform, {}) for lock in (old, new))
        yield from _mapped(was, now, lambda name, platform=platform: f"{name} ({platform})")
    yield from _mapped(old.variables, new.variables, lambda name: f"variable {name}")
    yield from _different("left out (slim)", ", ".join(old.slim) or None, ", ".join(new.slim) or None)
    yield from _different("exclude-newer", old.exclude_newer, new.exclude_newer)
    yield from _different("strategy", old.strategy, new.strategy)


def _different(what: str, before: str | None, after: str | None) -> Iterator[Detail]:
    if before != after:
        yield Detail(what, before, after)


def _mapped(before: Mapping[str, str], after: Mapping[str, str], say: object) -> Iterator[Detail]:
    assert callable(say)
    for name in sorted(before.keys() | after.keys()):
        yield from _different(say(name), before.get(name), after.get(name))


def _base(old: Base, new: Base) -> Iterator[Detail]:
    for platform in sorted(old.digests.keys() & new.digests.keys()):
        yield from _different(f"base ({platform})", old.digests[platform], new.digests[platform])
    for platform in sorted(old.glibc.keys() & new.glibc.keys()):
        yield from _different(f"glibc ({platform})", old.glibc[platform], new.glibc[platform])


def _count(lock: Lock, platform: str) -> str | None:
    if platform not in lock.platforms:
        return None
    return counted(len(lock.for_platform(platform)))
