"""Whether a prefix can be mounted from this machine: what the cache's filesystem can do, and the engine.

A prefix is files that a Linux engine mounts as they are. A virtual machine shows them through a filesystem of
its own, slower by far and with other rules; a network's may keep root, who mounts it, out.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

from envbox.engine import Engine
from envbox.files import PART, make_folder

_FOREIGN = re.compile(
    r"nfs\d?|cifs|smb\w*|9p|afs|ceph|glusterfs|lustre|beegfs|vboxsf|virtiofs|drvfs|fuse\..*|fuse"
)
_MOUNTS = Path("/proc/self/mountinfo")


def obstacle(cache_dir: Path, engine: Engine) -> str | None:
    """Say in words what stands against mounting a prefix out of the cache; None when nothing does."""
    if sys.platform != "linux":
        return "the engine runs in a virtual machine"
    return engine.mount_obstacle or _disk_obstacle(cache_dir)


def _disk_obstacle(cache_dir: Path) -> str | None:
    kind = filesystem_of(cache_dir)
    if _FOREIGN.fullmatch(kind):
        return f"the cache is on {kind}"
    try:
        make_folder(cache_dir)
        with tempfile.TemporaryDirectory(prefix=".try.", suffix=PART, dir=cache_dir) as folder:
            lacking = _lacking(Path(folder))
    except OSError as error:
        return f"the cache cannot be written: {error.strerror}"
    return f"the cache's filesystem has no {lacking}" if lacking else None


def _lacking(folder: Path) -> str | None:
    """Try what a prefix needs."""
    lower, upper = folder / "a", folder / "A"
    lower.write_bytes(b"")
    if upper.exists():
        return "difference between a and A"
    try:
        upper.hardlink_to(lower)
    except OSError:
        return "hard links"
    try:
        (folder / "link").symlink_to("a")
    except OSError:
        return "symlinks"
    lower.chmod(0o755)
    os.utime(folder, (0, 0))
    if lower.stat().st_mode & 0o777 != 0o755:
        return "modes"
    if folder.stat().st_mtime_ns != 0:
        return "times before 1980"
    if os.statvfs(folder).f_flag & os.ST_NOEXEC:
        return "programs to be run (noexec)"
    return None


def filesystem_of(path: Path, mounts: str | None = None) -> str:
    """Return the kind of filesystem that a path is on; empty when the kernel does not say.

    :param mounts: the text of /proc/self/mountinfo
    """
    if mounts is None:
        try:
            mounts = _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            return ""
    found = ("", "")
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        where = _unescaped(before.split()[4])
        if len(where) >= len(found[0]) and path.is_relative_to(where):  # the last of one place is on top
            found = (where, after.split()[0])
    return found[1]


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
