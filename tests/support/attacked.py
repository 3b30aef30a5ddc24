"""A program: let `attack` try everything on one road, and print what came of it as JSON.

    python attacked.py ROAD FOLDER PLACE [slow]

ROAD is `namespaces`, `landlock`, or `any`; FOLDER holds the attack, PLACE what it tries to reach; `slow`:
also what takes a second.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from pathlib import Path

from envbox.errors import ToolError
from envbox.packages.confine.converse import Program, Request
from envbox.packages.confine.roads import choose_road, run_program
from envbox.settings import Settings

GRACE = 60
SLOW = ("spin", "sleep", "hidden", "memory", "mapped memory")


def attacks(place: Path, folder: Path, port: int, is_slow: bool) -> dict[str, tuple[str, ...]]:
    """Name everything that is tried, with what it is tried on."""
    victim, own = str(os.getpid()), str(folder / "bin")
    secret, new = str(place / "secret"), str(place / "new")
    named = {
        "read": (secret, "/etc/passwd", "/proc/self/environ", f"/proc/{victim}/environ", "/proc/1/environ",
                 "/proc/self/maps", "/sys/kernel/mm/transparent_hugepage/enabled", "/dev/zero"),
        "list": ("/", "/home", "/proc", "/tmp", str(place)),
        "write": (secret, "/dev/null", f"{own}/attack", f"/proc/{victim}/mem"),
        "create": (new, "/tmp/envbox-attack", f"{own}/new", "/python/bin/new", "/new", "/dev/shm/new"),
        "create by openat2": (new, f"{own}/new", "/new"),
        "nameless file": ("/tmp", "/", own, "/dev/shm", str(place)),
        "truncate": (secret, f"{own}/attack", "/python/bin/attack"),
        "remove": (secret, f"{own}/attack", "/python/bin/attack"),
        "folder": (new, "/new", f"{own}/new"),
        "symlink": (new, "/new", f"{own}/new"),
        "fifo": (new, "/new", f"{own}/new"),
        "device": (new, "/new", f"{own}/new"),
        "mode": (secret, f"{own}/attack", "/python/bin/attack", "/"),
        "times": (secret, f"{own}/attack", "/python/bin/attack"),
        "execute": ("/bin/true", "/usr/bin/true", sys.executable, str(place / "true")),
        "internet": (str(port),),
        "unix": (str(place / "socket"),),
        "abstract": (f"envbox-{victim}",),
    }  # fmt: skip
    tried = {f"{name} {what}": (name, what) for name, whats in named.items() for what in whats}
    tried |= {"rename": ("rename", secret, new), "hard link": ("hard link", secret, f"{own}/new")}
    processes = (
        "kill", "tgkill", "queue a signal", "own a file's signals", "pidfd", "ptrace", "memory of another",
        "limits of another", "priority of another", "session of another",
    )  # fmt: skip
    tried |= {name: (name, victim) for name in processes}
    alone = (
        "datagram", "netlink", "packets", "socket pair", "fork", "vfork", "clone", "clone3", "thread",
        "kill all", "be traced", "handles", "setuid", "groups", "capabilities", "privileges", "outlive",
        "dump", "unshare", "setns", "mount", "open a tree", "chroot", "work elsewhere", "bpf", "perf",
        "io_uring", "keys", "key control", "memory file", "shared memory", "message queue", "userfaultfd",
        "watch", "terminal", "host name", "personality", "another filter", "more memory", "crash",
        *(("x32", "32 bit") if os.uname().machine == "x86_64" else ()),
    )  # fmt: skip
    tried |= {name: (name,) for name in (*alone, *(SLOW if is_slow else ()))}
    return tried | {"output": ("output", "x" * 5000), "complaints": ("complaints", "y" * 5000)}


def outcome(road: str, program: Program, words: tuple[str, ...]) -> str:
    """Say how one of them ended."""
    request = Request(words, {}, b"z" * (1 << 20), 1 << 20, 1 if words[0] in SLOW[:3] else GRACE, 1 << 28)
    try:
        done = run_program(road, program, request)  # type: ignore[arg-type]
    except ToolError as error:
        return error.message
    return f"{done.status}: {done.complaint}"


def left(executable: str) -> list[str]:
    """Processes of the attack that are still there."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().partition(b"\0")[0].endswith(executable.encode()):
                found.append(path.parent.name)
        except OSError:
            continue
    return found


def main(road: str, folder: Path, place: Path, *slow: str) -> None:
    program = Program(folder, next(str(p.relative_to(folder)) for p in folder.glob("bin/*")), "the hostile")
    os.environ["SECRET"] = "s3cret"
    chosen = choose_road("it", Settings(place)) if road == "any" else road
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as near:
        near.bind(f"\0envbox-{os.getpid()}")
        near.listen()
        port = server.getsockname()[1]
        tried = attacks(place, folder, port, bool(slow))
        said = {name: outcome(chosen, program, words) for name, words in tried.items()}
    said["answer"] = outcome(chosen, program, ("answer", "fine"))
    deadline = time.monotonic() + 10  # what was killed takes a moment to go
    while left(program.executable) and time.monotonic() < deadline:
        time.sleep(0.02)
    print(json.dumps({"road": chosen, "said": said, "left": left(program.executable)}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
