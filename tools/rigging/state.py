"""What the rig remembers between calls: ports, and the key of each thing that is ready.

A key is a digest of what a thing is made of. A step whose key is recorded is done and is not done again; a
step that was killed has recorded nothing. One `up` or `down` at a time: a lock on a file that the kernel
drops with its holder.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

from rigging.places import Places
from rigging.progress import say

_WRITING = Lock()


class RigError(Exception):
    """Something the rig cannot do here; the message says what, the hint how to go on."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def read(places: Places) -> dict[str, Any]:
    """What is recorded; nothing at all when the file is missing or damaged (the steps then run again)."""
    try:
        found = json.loads(places.state.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def record(places: Places, **values: Any) -> None:
    """Add values to what is recorded, whole or not at all; safe from several threads."""
    with _WRITING:
        write_whole(places.state, json.dumps({**read(places), **values}, indent=1, sort_keys=True).encode())


def write_whole(path: Path, data: bytes) -> None:
    """Put `data` at `path` by way of a file beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    part.replace(path)


def point(link: Path, target: Path) -> None:
    """Make `link` a symbolic link to `target`, replacing the one that was there in one step."""
    link.parent.mkdir(parents=True, exist_ok=True)
    part = link.with_name(f".{link.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)
    part.symlink_to(os.path.relpath(target, link.parent))
    part.replace(link)


@contextmanager
def locked(places: Places) -> Iterator[None]:
    """Hold the rig for this process; wait for whoever holds it now."""
    places.root.mkdir(parents=True, exist_ok=True)
    with places.lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another rig to finish")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def key_of(parts: Iterable[bytes | str | Path]) -> str:
    """A digest of texts, bytes and the contents of files: 16 hexadecimal digits."""
    whole = hashlib.sha256()
    for part in parts:
        data = (
            part.read_bytes() if isinstance(part, Path) else part.encode() if isinstance(part, str) else part
        )
        whole.update(hashlib.sha256(data).digest())
    return whole.hexdigest()[:16]
