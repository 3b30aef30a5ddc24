"""What is seen of a prefix."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

Seen = dict[str, tuple[object, ...]]


def seen(prefix: Path) -> Seen:
    """Everything in a prefix: type, mode, time, and what is in it."""
    found: Seen = {}
    for path in [prefix, *prefix.rglob("*")]:
        info = path.lstat()
        content: object = None
        if path.is_symlink():
            content = os.readlink(path)  # noqa: PTH115 - the text, not a Path of it
        elif path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        mode = 0o777 if path.is_symlink() else stat.S_IMODE(info.st_mode)
        found[f"opt/envbox/{path.relative_to(prefix)}"] = (
            stat.S_IFMT(info.st_mode),
            mode,
            info.st_mtime_ns,
            content,
        )
    return found
