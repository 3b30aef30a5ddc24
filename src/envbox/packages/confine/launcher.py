"""A program of its own: start programs one after the other where they reach nothing.

    python -I -S launcher.py      with a socket as stdin: a `Setup`, then requests, each with three files

It is ready, in one of two ways, when it has said so:

- `namespaces`: it has users, mounts, a network and IPC of its own, and a root that is an empty memory disk
  with the program's folder and the C library in it, read-only. Each program is the first process of its own
  process namespace: with it, everything is gone.
- `landlock`: where users may make no namespaces, the kernel is told which folders and files may be read.

In both, a program has no rights beyond the user's (no capabilities, none to be gained), no files but stdin,
stdout and stderr, bounds on time, memory, processes and files, and a filter of system calls; Landlock too,
where the kernel has it. The rules hold before the first instruction of the program runs. Nothing is imported
that takes time. When whoever started this is gone, so is everything.
unshare(2), pivot_root(2), user_namespaces(7), landlock(7), seccomp(2), capabilities(7)
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # `signal` takes as long as all the rest
import _socket
import ctypes
import gc
import marshal
import os
import resource
import select
import stat
import struct
import sys

# CLONE_NEW*: sched.h
NEW_MOUNTS, NEW_CGROUP, NEW_NAMES, NEW_IPC, NEW_USER, NEW_PIDS, NEW_NETWORK = (
    0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000,
)  # fmt: skip
READ_ONLY, NO_SETUID, NO_DEVICES, REMOUNT, BIND, RECURSIVE, PRIVATE = (
    1,
    2,
    4,
    32,
    4096,
    16384,
    1 << 18,
)  # MS_*
ST_RELATIVE, RELATIVE_TIMES = 4096, 1 << 21  # ST_RELATIME and MS_RELATIME
SAME_FLAGS = 8 | 1024 | 2048  # noexec, noatime, nodiratime: ST_* as MS_*
DETACH = 2  # MNT_DETACH
PARENT_DIED, DROP_BOUND, NO_NEW_PRIVILEGES, SET_SECCOMP = 1, 24, 38, 22  # PR_*: linux/prctl.h
FILTER = 2  # SECCOMP_MODE_FILTER
CAPABILITIES_VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
PIVOT_ROOT = {"x86_64": 155}.get(os.uname().machine, 41)
CAPSET = {"x86_64": 126}.get(os.uname().machine, 91)
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # landlock_*: the same number everywhere
EXECUTE, READ_FILE, READ_FOLDER = 1, 4, 8  # LANDLOCK_ACCESS_FS_*
FILES_KNOWN = (13, 14, 15, 15, 16)  # how many kinds of access to files each version of Landlock has
NOBODY = 65534

libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> int:
    """Call a function of the C library; what gives a negative number has failed."""
    done: int = getattr(libc, name)(*arguments)
    if done < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return done


def mount(source: str, target: str, flags: int, kind: bytes | None = None, data: bytes | None = None) -> None:
    """Mount one thing on another, as the system call does."""
    call("mount", os.fsencode(source), os.fsencode(target), kind, ctypes.c_ulong(flags), data)


# -- once ----------------------------------------------------------------------------------------------------


def enter_namespaces() -> None:
    """Get namespaces of one's own, as nobody in them."""
    uid, gid = os.getuid(), os.getgid()
    wanted = NEW_MOUNTS | NEW_NAMES | NEW_IPC | NEW_NETWORK
    try:
        call("unshare", wanted | NEW_USER)
    except OSError:
        if uid:
            raise
        call("unshare", wanted)  # root, where no user may have any
    else:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{NOBODY} {uid} 1"),
            ("gid_map", f"{NOBODY} {gid} 1"),
        ):
            handle = os.open(f"/proc/self/{name}", os.O_WRONLY)
            os.write(handle, text.encode())
            os.close(handle)
    libc.unshare(NEW_CGROUP)  # where there is one; what it hides is in /proc and /sys, which are not there
    call("sethostname", b"envbox", 6)


def make_root(shown: list[tuple[str, str]]) -> None:
    """Have a root with nothing in it but some files and folders, read-only.

    :param shown: (path on this machine, path in the new root)
    """
    sources = [(os.open(source, os.O_PATH), target) for source, target in shown]
    mount("none", "/", PRIVATE | RECURSIVE)
    mount("none", "/tmp", NO_SETUID | NO_DEVICES, b"tmpfs", b"size=1m,mode=755")  # noqa: S108  # a place that is there
    os.chdir("/tmp")  # noqa: S108
    for handle, target in sources:
        place = f".{target}"
        os.makedirs(os.path.dirname(place), exist_ok=True)  # noqa: PTH103, PTH120
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            os.mkdir(place)  # noqa: PTH102
        else:
            os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o644))
        mount(f"/proc/self/fd/{handle}", place, BIND)
        flags = os.statvfs(place).f_flag
        kept = flags & SAME_FLAGS | (RELATIVE_TIMES if flags & ST_RELATIVE else 0)
        mount("none", place, REMOUNT | BIND | READ_ONLY | NO_SETUID | NO_DEVICES | kept)
        os.close(handle)
    mount("none", ".", REMOUNT | BIND | READ_ONLY | NO_SETUID | NO_DEVICES)
    call("syscall", PIVOT_ROOT, b".", b".")  # the old root now lies over the new one
    call("umount2", b".", DETACH)
    os.chdir("/")


# -- for each program ----------------------------------------------------------------------------------------


def bound(limits: dict[str, int]) -> None:
    """Bound what a program can use."""
    zero = ("NPROC", "FSIZE", "CORE", "MEMLOCK", "MSGQUEUE", "RTPRIO")
    for name, value in {**dict.fromkeys(zero, 0), "NOFILE": 64, **limits}.items():
        number = getattr(resource, f"RLIMIT_{name}")
        most = resource.getrlimit(number)[1]
        least = value if most == resource.RLIM_INFINITY else min(value, most)
        resource.setrlimit(number, (least, least))


def drop_rights() -> None:
    """Give up every capability, and the way to get one."""
    for number in range(64):
        if libc.prctl(DROP_BOUND, number, 0, 0, 0):
            break  # past the last one, or not ours to drop: then we have none
    header = struct.pack("Ii", CAPABILITIES_VERSION, 0)
    call("syscall", CAPSET, header, bytes(24))
    call("prctl", NO_NEW_PRIVILEGES, 1, 0, 0, 0)


def landlock_version() -> int:
    """Return the kernel's version of Landlock; 0 when it has none."""
    return max(0, int(libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1)))


def restrict(readable: list[str]) -> None:
    """Let nothing be opened but some files, and what lies in some folders; and no network, no signals."""
    version = landlock_version()
    if not version:
        return
    known = FILES_KNOWN[min(version, len(FILES_KNOWN)) - 1]
    fields = [(1 << known) - 1]
    fields += [3] if version >= 4 else []  # binding and connecting TCP
    fields += [3] if version >= 6 else []  # abstract sockets, and signals to others
    attributes = struct.pack(f"{len(fields)}Q", *fields)
    ruleset = call("syscall", CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    for path in readable:
        handle = os.open(path, os.O_PATH)
        access = EXECUTE | READ_FILE | (READ_FOLDER if os.path.isdir(path) else 0)  # noqa: PTH112
        call("syscall", ADD_RULE, ruleset, 1, struct.pack("=Qi", access, handle), 0)
    call("syscall", RESTRICT_SELF, ruleset, 0)


def filter_calls(steps: bytes) -> None:
    """Let the kernel refuse what the filter refuses, from here on and in whatever is started."""
    array = ctypes.create_string_buffer(steps, len(steps))
    program = struct.pack("HxxxxxxP", len(steps) // 8, ctypes.addressof(array))
    call("prctl", SET_SECCOMP, FILTER, program, 0, 0)


def become(setup: dict[str, object], request: dict[str, object], parent: _socket.socket) -> None:
    """Confine this process, and be the program; without one, end with 0: everything could be done."""
    os.setsid()
    drop_rights()
    call("prctl", PARENT_DIED, _signal.SIGKILL, 0, 0, 0)  # forgotten when rights change
    parent.send(b"?")
    if not parent.recv(1):
        os._exit(FAILED)  # it died before it would have been noticed
    os.closerange(3, 1 << 20)
    os.umask(0o077)
    os.chdir("/")
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)
    restrict(setup["readable"])  # type: ignore[arg-type]
    os.closerange(3, 64)
    argv: list[str] = request["argv"]  # type: ignore[assignment]
    bound(request["limits"])  # type: ignore[arg-type]
    filter_calls(setup["filter"])  # type: ignore[arg-type]
    if argv:
        os.execve(argv[0], argv, request["env"])  # type: ignore[arg-type]  # noqa: S606  # no shell is wanted
    os._exit(0)


def begin(
    setup: dict[str, object], request: dict[str, object], files: list[int], parent: _socket.socket
) -> None:
    """Be the program, or end and say why not."""
    try:
        for number, handle in enumerate(files):
            os.dup2(handle, number)
        become(setup, request, parent)
    except OSError as error:
        os.write(2, f"cannot start it: {error.filename or 'files'}: {error.strerror}\n".encode())
    finally:
        os._exit(FAILED)


def start(setup: dict[str, object], request: dict[str, object], files: list[int], answer: int) -> None:
    """Make the process namespace, in a process between, start the program, and say how it ended."""
    parent = os.getppid()
    call("prctl", PARENT_DIED, _signal.SIGKILL, 0, 0, 0)
    try:
        if setup["road"] == "namespaces":
            call("unshare", NEW_PIDS)
        near, far = _socket.socketpair()
        child = os.fork()
        if child == 0:
            near.close()
            begin(setup, request, files, far)
        far.close()
        if near.recv(1):
            near.send(b"!")
    except OSError as error:
        os.write(files[2], f"cannot start it: {error.filename or 'files'}: {error.strerror}\n".encode())
        os._exit(FAILED)
    for handle in files:
        os.close(handle)
    if os.getppid() != parent:
        os._exit(1)
    os.write(answer, marshal.dumps(os.waitpid(child, 0)[1]))


FAILED = 125


def serve(sock: _socket.socket, setup: dict[str, object]) -> None:
    """Start what is asked for until nobody asks any more."""
    while True:
        data, extra, _, _ = sock.recvmsg(1 << 20, _socket.CMSG_SPACE(3 * 4))
        if not data:
            return
        files = list(struct.unpack("3i", extra[0][2])) if extra else []
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                sock.detach()
                os.close(read)
                start(setup, marshal.loads(data), files, write)  # noqa: S302  # from our own parent
            finally:
                os._exit(0)
        for handle in (*files, write):
            os.close(handle)
        ended = select.poll()
        ended.register(read, select.POLLIN)
        ended.register(sock, select.POLLIN)
        if read not in [handle for handle, _ in ended.poll()]:
            return  # nobody waits for it: with us, it ends
        status = os.read(read, 64)
        os.close(read)
        os.waitpid(child, 0)
        sock.send(status or marshal.dumps(None))


def main() -> int:
    """Prepare, say whether that went well, and serve."""
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)  # ignored, nobody could be waited for
    sock = _socket.socket(fileno=0)
    setup = marshal.loads(sock.recv(1 << 20))  # noqa: S302  # from our own parent
    try:
        if setup["road"] == "namespaces":
            enter_namespaces()
            make_root(setup["shown"])
        elif not landlock_version():
            raise OSError(0, "this kernel has no Landlock", "landlock")
    except OSError as error:
        sock.send(marshal.dumps(f"{error.filename or 'files'}: {error.strerror}"))
        return 1
    gc.freeze()
    sock.send(marshal.dumps(None))
    serve(sock, setup)
    return 0


if __name__ == "__main__":
    sys.exit(main())
