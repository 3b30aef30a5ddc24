"""From files that a person named to a foreign lockfile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from envbox.errors import LockfileError
from envbox.lockfile.foreign import ForeignLock


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file that a person named.

    :raises LockfileError: when it cannot be read
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise LockfileError(f"cannot read {path}: {error.strerror}") from error


def joined(locks: Sequence[ForeignLock]) -> ForeignLock:
    """Return several files of one environment, each for other platforms, as one.

    :raises LockfileError: when two are for the same platform
    """
    first, *others = locks
    for lock in others:
        both = sorted(set(first.platforms) & set(lock.platforms))
        if both:
            raise LockfileError(
                f"{first.path} and {lock.path} are both for {', '.join(both)}", "import one after the other"
            )
        first = replace(
            first,
            platforms=tuple(sorted((*first.platforms, *lock.platforms))),
            channels=tuple(dict.fromkeys((*first.channels, *lock.channels))),
            packages=(*first.packages, *lock.packages),
            left_out=tuple(dict.fromkeys((*first.left_out, *lock.left_out))),
        )
    return first
