"""Run a program in namespaces of its own, a Debian tree for its root: `apart.py TREE FOLDER SIZE PROGRAM…`.

Mounts, network and processes are its own: it can neither see nor disturb the machine's engine, and with it
ends all that it started, however it ended. FOLDER is `/rig` in there, so that a socket in it is reached from
here. Nothing else of this machine is seen but its devices and control groups.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

_NEW_MOUNTS, _NEW_NETWORK, _NEW_PROCESSES = 0x00020000, 0x40000000, 0x20000000  # linux/sched.h
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP
_GRACE = 3  # seconds to end well
_LIBC = ctypes.CDLL(None, use_errno=True)


def main(tree: str, folder: str, size: str, *program: str) -> int:
    """Be the parent of the program: hand on the signal to end, and end as it ends.

    :param size: of `/rig/data` in MB, kept in memory; 0 for a folder on the disk
    """
    if _LIBC.unshare(_NEW_MOUNTS | _NEW_NETWORK | _NEW_PROCESSES):
        raise OSError(ctypes.get_errno(), "cannot make namespaces")
    pid = os.fork()
    if not pid:
        _LIBC.prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        _enter(Path(tree), Path(folder), int(size))
        os.execv(program[0], program)

    def end(*_: object) -> None:
        os.kill(pid, signal.SIGTERM)
        signal.alarm(_GRACE)

    signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
    signal.signal(signal.SIGTERM, end)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _enter(tree: Path, folder: Path, size: int) -> None:
    _mount("--make-rprivate", "/")
    _loopback_up()
    _mount("--bind", tree, tree)
    _mount("-t", "proc", "proc", tree / "proc")
    for shared in ("dev", "sys"):
        _mount("--rbind", f"/{shared}", tree / shared)
    for fresh in ("etc/docker", "run", "tmp", "var/lib/containers"):
        _mount("-t", "tmpfs", "tmpfs", tree / fresh)
    (folder / "tmp").mkdir(exist_ok=True)
    _mount("--bind", folder, tree / "rig")
    if size:
        _mount("-t", "tmpfs", "-o", f"size={size}m", "tmpfs", tree / "rig/data")
    os.chdir(tree)
    _mount("--move", ".", "/")  # as switch_root does: what runs containers wants a root that is a mount
    os.chroot(".")
    os.chdir("/")
    os.environ.clear()
    os.environ.update(PATH="/usr/sbin:/usr/bin", HOME="/rig", TMPDIR="/rig/tmp", XDG_RUNTIME_DIR="/run")


def _mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True)


def _loopback_up() -> None:
    with socket.socket() as anything:
        asked = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack("16xh14x", fcntl.ioctl(anything, _GET_FLAGS, asked))
        fcntl.ioctl(anything, _SET_FLAGS, struct.pack("16sh14x", b"lo", flags | _UP))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
