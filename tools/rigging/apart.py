"""Run a program in namespaces of its own, a Debian tree for its root: `apart.py PLACE PROGRAM…`.

Mounts, network and processes are its own: it can neither see nor disturb the machine's engine, and with it
ends all that it started, however it ended. A folder is `/rig` in there, so that a socket in it is reached
from here, and another may be where it is here. Nothing else of this machine is seen but its devices and
control groups.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

_NEW_MOUNTS, _NEW_NETWORK, _NEW_PROCESSES = 0x00020000, 0x40000000, 0x20000000  # linux/sched.h
_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP
_OPEN_DEVICES = {"fuse": (10, 229), "net/tun": (10, 200)}  # Documentation/admin-guide/devices.txt
_GRACE = 3  # seconds to end well
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Place:
    """Where the program runs.

    :param tree: its root
    :param folder: `/rig` in there
    :param size: of `/rig/data` in MB, kept in memory; 0 for a folder on the disk
    :param shared: a folder that is there at the path that it has here; empty for none
    :param uid: who it runs as, with a group of the same number and one of the next; a user has no more rights
        than users have
    """

    tree: str
    folder: str
    size: int = 0
    shared: str = ""
    uid: int = 0

    def dumps(self) -> str:
        """As the one word that `main` reads."""
        return json.dumps(asdict(self))


def main(place: str, *program: str) -> int:
    """Be the parent of the program: hand on the signal to end, and end as it ends."""
    there = Place(**json.loads(place))
    if _LIBC.unshare(_NEW_MOUNTS | _NEW_NETWORK | _NEW_PROCESSES):
        raise OSError(ctypes.get_errno(), "cannot make namespaces")
    pid = os.fork()
    if not pid:
        _LIBC.prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        _enter(there)
        if there.uid:
            _become(there.uid)
        os.execv(program[0], program)

    def end(*_: object) -> None:
        os.kill(pid, signal.SIGTERM)
        signal.alarm(_GRACE)

    signal.signal(signal.SIGALRM, lambda *_: os.kill(pid, signal.SIGKILL))
    signal.signal(signal.SIGTERM, end)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _enter(place: Place) -> None:
    tree, folder = Path(place.tree), Path(place.folder)
    _mount("--make-rprivate", "/")
    _loopback_up()
    _mount("--bind", tree, tree)
    _mount("-t", "proc", "proc", tree / "proc")
    for shared in ("dev", "sys"):
        _mount("--rbind", f"/{shared}", tree / shared)
    for fresh in ("etc/docker", "run", "tmp", "var/lib/containers"):
        _mount("-t", "tmpfs", "tmpfs", tree / fresh)
    (tree / "tmp").chmod(0o1777)
    (folder / "tmp").mkdir(exist_ok=True)
    _mount("--bind", folder, tree / "rig")
    if place.size:
        _mount("-t", "tmpfs", "-o", f"size={place.size}m", "tmpfs", tree / "rig/data")
    if place.shared:
        inside = tree / place.shared.lstrip("/")
        inside.mkdir(parents=True, exist_ok=True)
        _mount("--bind", place.shared, inside)
    if place.uid:
        _open_up(tree, place.uid)
    os.chdir(tree)
    _mount("--move", ".", "/")  # as switch_root does: what runs containers wants a root that is a mount
    os.chroot(".")
    os.chdir("/")
    os.environ.clear()
    os.environ.update(PATH="/usr/sbin:/usr/bin:/sbin:/bin", HOME="/rig", TMPDIR="/rig/tmp")
    os.environ["XDG_RUNTIME_DIR"] = f"/run/user/{place.uid}" if place.uid else "/run"


def _open_up(tree: Path, uid: int) -> None:
    """Give a user what is his on a usual machine: folders, and devices that anybody may open.

    Control groups are of version 2 alone, whatever this machine has: crun takes no mixture.
    """
    groups = tree / "sys/fs/cgroup"
    _mount("-t", "cgroup2", "cgroup2", groups)
    runtime = tree / "run/user" / str(uid)
    runtime.mkdir(parents=True)
    for path in (runtime, tree / "rig", tree / "rig/data", tree / "rig/tmp"):
        os.chown(path, uid, uid)
    runtime.chmod(0o700)
    for name, (major, minor) in _OPEN_DEVICES.items():
        device = tree / "run" / name.replace("/", "-")
        os.mknod(device, 0o020666, os.makedev(major, minor))
        device.chmod(0o666)
        if (tree / "dev" / name).exists():
            _mount("--bind", device, tree / "dev" / name)


def _become(uid: int) -> None:
    os.setgroups([uid + 1])
    os.setgid(uid)
    os.setuid(uid)
    _LIBC.prctl(_DIE_WITH_PARENT, signal.SIGKILL)  # which another user's process has forgotten


def _mount(*words: str | Path) -> None:
    subprocess.run(["mount", *words], check=True)


def _loopback_up() -> None:
    with socket.socket() as anything:
        asked = struct.pack("16sh14x", b"lo", 0)
        (flags,) = struct.unpack("16xh14x", fcntl.ioctl(anything, _GET_FLAGS, asked))
        fcntl.ioctl(anything, _SET_FLAGS, struct.pack("16sh14x", b"lo", flags | _UP))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
