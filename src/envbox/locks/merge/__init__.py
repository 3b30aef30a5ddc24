"""Three lockfiles → one, for git: offline, where neither side contradicts the other; else a conflict, whole.

Git's own merge works line by line, and half of one solution with half of another is none. The difficulty is
to be sure without a solve, and while the spec on disk is still that of one side. So packages are merged as
units, the outcome is held against what both sides ask for, and conda-lock's hash is made anew of that. Where
anything is in doubt, git is told that there is a conflict, with both sides whole between the markers, for
`envbox lock` to settle.

Protocol: https://git-scm.com/docs/gitattributes#_defining_a_custom_merge_driver
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from envbox.errors import EnvboxError, LockfileError
from envbox.files import write_whole
from envbox.lockfile import Lock
from envbox.lockfile.conda_lock_v1 import dumps, loads
from envbox.locks.merge.content_hash import merged_hashes
from envbox.locks.merge.three_way import Sides, merged
from envbox.locks.merge.validate import without_orphans, wrong_with
from envbox.settings import Settings


@dataclass(frozen=True, slots=True)
class MergeFiles:
    """What git hands over.

    :param ancestor: a file that is empty where both sides began the lockfile
    :param ours: where the outcome goes
    :param path: the lockfile's own, for words
    """

    ancestor: Path
    ours: Path
    theirs: Path
    path: Path


def merge_files(files: MergeFiles, read_settings: Callable[[], Settings]) -> tuple[str, ...]:
    """Merge into `ours`; where that cannot be, leave a conflict there, and say why, a line each.

    :raises LockfileError: when a file cannot be read at all; nothing is written then
    """
    try:
        ancestor, ours, theirs = (path.read_bytes() for path in (files.ancestor, files.ours, files.theirs))
    except OSError as error:
        raise LockfileError(f"cannot read {error.filename}: {error.strerror}") from error
    try:
        sides = Sides(
            loads(ancestor, files.path) if ancestor.strip() else None,
            loads(ours, files.path),
            loads(theirs, files.path),
        )
        lock, faults = merge_locks(sides, read_settings())
    except EnvboxError as error:
        lock, faults = None, (error.message,)
    data = dumps(lock) if lock is not None else conflict(ours, theirs)
    write_whole(files.ours, data, is_cache=False)
    return faults


def merge_locks(sides: Sides, settings: Settings) -> tuple[Lock | None, tuple[str, ...]]:
    """Return the lock that both sides together are, or None and what stands against it, a line each."""
    lock, faults = merged(sides)
    hashes: Mapping[str, str] | None = None
    if not faults:
        hashes = merged_hashes(sides, lock, settings)
        if hashes is None:
            faults = ["what both ask for together cannot be told from the lockfiles alone"]
    if hashes is not None:
        lock = without_orphans(lock, (sides.ours, sides.theirs), hashes)
        faults = wrong_with(lock)
    return (None, tuple(faults)) if faults else (lock, ())


def conflict(ours: bytes, theirs: bytes) -> bytes:
    """Return both files as one in conflict, as git leaves it; `lockfile.conflict_markers` gives both back
    as they were.

    One conflict around all that differs: hunks would let what git thinks merged slip out of either side.
    """
    one, other = (data.splitlines(keepends=True) for data in (ours, theirs))
    for lines in (one, other):
        if lines and not lines[-1].endswith(b"\n"):
            lines[-1] += b"\n"
    if one == other:
        return ours
    head = sum(1 for _ in takewhile(_alike, zip(one, other, strict=False)))
    one, other, before = one[head:], other[head:], one[:head]
    tail = sum(1 for _ in takewhile(_alike, zip(reversed(one), reversed(other), strict=False)))
    after = one[len(one) - tail :]
    one, other = one[: len(one) - tail], other[: len(other) - tail]
    parts = [*before, b"<<<<<<< ours\n", *one, b"=======\n", *other, b">>>>>>> theirs\n", *after]
    return b"".join(parts)


def _alike(lines: tuple[bytes, bytes]) -> bool:
    return lines[0] == lines[1]
