"""Ancestor × ours × theirs → one lock, part by part: who changed a part has it; two who did must agree."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from envbox.lockfile import Base, Lock, LockedPackage, pip_name
from envbox.lockfile.conda_lock_v1 import PIP_PREFIX

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

_WHOLE = {
    "name": "the name", "platforms": "the platforms", "channels": "the channels", "sources": "the specs",
    "slim": "what is left out (slim)", "exclude_newer": "exclude-newer", "strategy": "the strategy",
}  # fmt: skip
"""Fields that are one part, and what a person calls them."""
_NAME = re.compile(r"(?:[^\s:]+::)?([A-Za-z0-9_.-]+)")


@dataclass(frozen=True, slots=True)
class Sides:
    """The locks to merge; no ancestor where both sides began."""

    ancestor: Lock | None
    ours: Lock
    theirs: Lock

    @property
    def all(self) -> tuple[Lock | None, Lock, Lock]:
        """Ancestor, ours, theirs."""
        return self.ancestor, self.ours, self.theirs


def merged(sides: Sides) -> tuple[Lock, list[str]]:
    """Return both sides' changes as one lock, and what they contradict each other in, a line each.

    Its content hashes are ours, and its packages may not fit each other: that is for others to see to.
    """
    faults: list[str] = []
    _check_comparable(sides, faults)
    whole: dict[str, Any] = {
        name: _part(words, [getattr(lock, name) if lock else None for lock in sides.all], faults)
        for name, words in _WHOLE.items()
    }
    packages = _mapping("", [_packages(lock) for lock in sides.all], faults)
    lock = replace(
        sides.ours,
        **whole,
        packages=tuple(packages.values()),
        base=_base(sides, faults),
        requested=_requested(sides, faults),
        variables=_mapping("the variable ", [lock.variables if lock else {} for lock in sides.all], faults),
        virtual=_mapping("the system of ", [lock.virtual if lock else {} for lock in sides.all], faults),
    )
    return lock, faults


def _check_comparable(sides: Sides, faults: list[str]) -> None:
    """Refuse what cannot be seen without a solve."""
    if sides.ours.platforms != sides.theirs.platforms:
        faults.append("one side has a platform that the other has not solved for")
    if not (sides.ours.requested and sides.theirs.requested):
        faults.append("a side does not say what was asked for: another tool has written it")
    packages = [_packages(lock) for lock in sides.all]
    ours, theirs = ({k: p for k, p in found.items() if k[0] == "pip"} for found in packages[1:])
    if ours != theirs and packages[0] not in packages[1:]:
        faults.append("the wheels of the sides differ, and which fit the other's packages takes a solve")


def _part(words: str, three: Sequence[T | None], faults: list[str]) -> T | None:
    """Return what a part becomes; None is a part that is not there."""
    before, ours, theirs = three
    if theirs in (before, ours):
        return ours
    if ours != before:
        faults.append(f"both sides have changed {words}")
    return theirs


def _mapping(words: str, three: Sequence[Mapping[K, T]], faults: list[str]) -> dict[K, T]:
    """Merge mappings key by key."""
    keys = dict.fromkeys(key for mapping in three for key in mapping)
    found = {key: _part(words + _said(key), [one.get(key) for one in three], faults) for key in keys}
    return {key: value for key, value in found.items() if value is not None}


def _said(key: object) -> str:
    return f"{key[1]} ({key[2]})" if isinstance(key, tuple) else str(key)


# --- the parts of a lock ------------------------------------------------------------------------------------


def _packages(lock: Lock | None) -> dict[tuple[str, str, str], LockedPackage]:
    return {(p.manager, p.name, p.platform): p for p in lock.packages} if lock else {}


def _base(sides: Sides, faults: list[str]) -> Base | None:
    """Return the reference as one part, and the digests as it has them; each side may have a platform
    more.
    """
    three = [lock.base if lock else None for lock in sides.all]
    references = [base.reference if base else None for base in three]
    reference = _part("the base", references, faults)
    if reference is None:
        return None
    of_it = [base if base and base.reference == reference else None for base in three]
    return Base(
        reference,
        _mapping("the digest of the base for ", [base.digests if base else {} for base in of_it], faults),
        _mapping("the glibc of the base for ", [base.glibc if base else {} for base in of_it], faults),
    )


def _requested(sides: Sides, faults: list[str]) -> dict[str, tuple[str, ...]]:
    """Return what is asked for, by platform: all texts of one name are one part."""
    three = [_texts_by_name(lock) for lock in sides.all]
    found: dict[str, list[str]] = {platform: [] for platform in sides.ours.requested}
    for (_, _, platform), texts in _mapping("what is asked for of ", three, faults).items():
        found.setdefault(platform, []).extend(texts)
    return {platform: tuple(sorted(texts)) for platform, texts in found.items()}


def _texts_by_name(lock: Lock | None) -> dict[tuple[str, str, str], tuple[str, ...]]:
    found: dict[tuple[str, str, str], list[str]] = {}
    for platform, texts in (lock.requested if lock else {}).items():
        for text in texts:
            is_pip = text.startswith(PIP_PREFIX)
            named = _NAME.match(text.removeprefix(PIP_PREFIX))
            name = named[1].lower() if named else text
            key = ("pip", pip_name(name), platform) if is_pip else ("conda", name, platform)
            found.setdefault(key, []).append(text)
    return {key: tuple(texts) for key, texts in found.items()}
