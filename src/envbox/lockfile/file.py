"""A lockfile as it lies on the disk."""

from __future__ import annotations

from pathlib import Path

from envbox.lockfile import plain_lines


def read_lock_bytes(path: Path) -> bytes:
    """Return a lockfile's bytes, with plain line ends.

    :raises LockfileError: when there are none
    """
    try:
        return plain_lines(path.read_bytes())
    except OSError:
        from envbox.lockfile.conda_lock_v1 import read_lockfile

        read_lockfile(path)  # says why in words
        raise
