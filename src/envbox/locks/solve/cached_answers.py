"""Answers in the cache, each below the hash of what it should be: what is damaged is not there.

What an index says is nowhere named by its hash, so a file has it in its first line.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from envbox.files import write_whole


def keep(path: Path, data: bytes) -> None:
    """Put an answer into the cache, whole.

    :raises ToolError: when the disk is full or the folder cannot be written
    """
    write_whole(path, hashlib.sha256(data).hexdigest().encode() + b"\n" + data)


def kept(path: Path) -> bytes | None:
    """Return the answer that is kept; None where there is none, or it is damaged."""
    try:
        if not path.is_file():
            return None
        digest, _, data = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    return data if digest == hashlib.sha256(data).hexdigest().encode() else None
