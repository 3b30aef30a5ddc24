"""Who uses a cache now: a lock on a file in it that each command holds, and that ends with its process.

A command holds it together with others; whoever frees the cache tries to have it alone. It is held until the
process ends, however it ends, or becomes another program: containers and sessions on this machine have marks
of their own (`prefixes.tree.trees_in_use`). What cannot be locked (a cache that is only read, a filesystem
without locks) is used all the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from envbox.cache.shapes import IN_USE
from envbox.errors import ToolError
from envbox.files import disk_error, lock_file

_PATIENCE = 10.0  # seconds; who has it alone only renames some folders
_PAUSE = 0.02
_held: dict[Path, int] = {}
_known: set[Path] = set()  # that this process has opened, whether they could be locked or not

Use = Literal["alone", "shared", "unknown"]


def hold(cache: Path) -> None:
    """Say that a cache is in use, as long as this process lives."""
    import fcntl

    _known.add(cache)
    if cache in _held or (handle := _opened(cache)) is None:
        return
    give_up = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < give_up:
                time.sleep(_PAUSE)
                continue
        except OSError:
            pass
        break
    _held[cache] = handle


def release() -> None:
    """Say that this process will need nothing of a cache any more, though it lives on."""
    while _held:
        os.close(_held.popitem()[1])


@contextmanager
def alone(cache: Path) -> Iterator[Use]:
    """Have a cache alone, so that nobody begins to use it in the block, if nobody uses it."""
    import fcntl

    handle = _held.get(cache)
    if handle is None or not os.access(cache / IN_USE, os.R_OK):
        yield "unknown"
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        use: Use = "alone"
    except BlockingIOError:
        use = "shared"
    except OSError:
        use = "unknown"
    try:
        yield use
    finally:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_SH)


def users(cache: Path) -> list[str]:
    """Return what the other processes are that use a cache, as far as this machine tells."""
    try:
        inode = (cache / IN_USE).stat().st_ino
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    found = set()
    for words in map(str.split, lines):
        if len(words) > 5 and words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode):
            found.add(int(words[4]))
    return [f"process {pid}" for pid in sorted(found - {os.getpid()}) if pid > 0]


def fault_in_cache(error: OSError) -> ToolError | None:
    """Say in words what went wrong with a file of a cache; None when the file is of none."""
    for name in (error.filename, error.filename2):
        if isinstance(name, str | bytes | os.PathLike):
            path = Path(os.fsdecode(name))
            if any(path.is_relative_to(cache) for cache in _known):
                return disk_error(path, error)
    return None


def _opened(cache: Path) -> int | None:
    """Return the file to be locked; None where there is none and none can be made."""
    path = cache / IN_USE
    if os.access(cache, os.W_OK):
        with suppress(ToolError):
            return lock_file(path)
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
