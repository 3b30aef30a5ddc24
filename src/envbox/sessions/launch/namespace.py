"""A program of its own: put prefixes where they belong on this machine, for one command alone, and become it.

    python -I -S namespace.py PREFIX TARGET [PREFIX TARGET]… -- DIRECTORY COMMAND…
    python -I -S namespace.py -- DIRECTORY COMMAND…

A prefix has its path, `/opt/envbox`, written into its files. So the command gets a mount namespace in which
the prefix lies there, read-only; nobody else sees it, nothing of this machine changes, and with the command
it is gone. Whoever is not root gets a user namespace for that, with the same user in it and no more rights.
Without a pair nothing is mounted: for a prefix that has another path in its files.
Nothing but the standard library is imported, and no thread runs: both would make it slow, and the kernel
wants a process with one thread. unshare(2), mount_namespaces(7), user_namespaces(7)
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

NEW_MOUNTS, NEW_USER = 0x20000, 0x10000000  # CLONE_NEWNS, CLONE_NEWUSER: sched.h
READ_ONLY, REMOUNT, BIND, RECURSIVE, SLAVE = 1, 32, 4096, 16384, 1 << 19  # MS_*: sys/mount.h
RELATIVE_TIMES = 1 << 21  # MS_RELATIME; ST_RELATIME is another number
ST_RELATIME = 4096
SAME_FLAGS = 2 | 4 | 8 | 1024 | 2048  # nosuid, nodev, noexec, noatime, nodiratime: ST_* as MS_*
FAILED = 125  # as `env` and `docker run` have it: not the command's

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> None:
    """Call what gives 0 when it succeeds."""
    if getattr(libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def mount(source: str, target: str, flags: int, kind: bytes | None = None) -> None:
    """Mount one thing on another, as the system call does."""
    call("mount", os.fsencode(source), os.fsencode(target), kind, ctypes.c_ulong(flags), None)


def enter_namespace() -> None:
    """Get mounts of one's own."""
    uid, gid = os.getuid(), os.getgid()
    try:
        call("unshare", NEW_MOUNTS)
    except OSError:
        call("unshare", NEW_MOUNTS | NEW_USER)
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            Path("/proc/self", name).write_text(text, encoding="ascii")
    mount(
        "none", "/", SLAVE | RECURSIVE
    )  # what is mounted elsewhere later is seen here, and never the reverse


def make_room(target: str) -> None:
    """Have a folder to mount on, without touching the disk: its parent gets a copy made of mounts."""
    if Path(target).is_dir():
        return
    parent, name = os.path.split(target)
    before = os.open(parent, os.O_PATH | os.O_DIRECTORY)
    entries = sorted(path.name for path in Path(parent).iterdir())
    mount("none", parent, 0, b"tmpfs")
    for entry in entries:
        old, new = f"/proc/self/fd/{before}/{entry}", Path(parent, entry)
        if Path(old).is_symlink():
            new.symlink_to(os.readlink(old))  # noqa: PTH115
            continue
        if Path(old).is_dir():
            new.mkdir()
        else:
            new.touch()
        mount(old, str(new), BIND | RECURSIVE)
    Path(parent, name).mkdir()
    os.close(before)


def put(prefix: str, target: str) -> None:
    """Mount a prefix read-only; how else its disk is mounted must stay, the kernel demands."""
    mount(prefix, target, BIND)
    flags = os.statvfs(target).f_flag
    kept = flags & SAME_FLAGS | (RELATIVE_TIMES if flags & ST_RELATIME else 0)
    mount("none", target, REMOUNT | BIND | READ_ONLY | kept)


def main(argv: list[str]) -> int:
    """Become the command."""
    end = argv.index("--")
    prefixes, targets = argv[0:end:2], argv[1:end:2]
    try:
        if targets:
            enter_namespace()
        for target in targets:
            make_room(target)
        for prefix, target in zip(prefixes, targets, strict=True):
            put(prefix, target)
    except OSError as error:
        sys.stderr.write(f"error: cannot mount {prefixes[0]} at {targets[0]}: {words(error)}\n")
        return FAILED
    return become(argv[end + 1], argv[end + 2 :])


def words(error: OSError) -> str:
    """Return what went wrong, and in which call."""
    return f"{error.filename or 'mount'}: {error.strerror}"


def become(directory: str, command: list[str]) -> int:
    """Become a command in a directory; what stands against that is said, and its exit code returned."""
    try:
        os.chdir(directory)
        os.execvp(command[0], command)  # noqa: S606  # no shell is wanted
    except OSError as error:
        sys.stderr.write(f"error: cannot start {command[0]}: {error.strerror}\n")
        return 127 if isinstance(error, FileNotFoundError) else 126


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
