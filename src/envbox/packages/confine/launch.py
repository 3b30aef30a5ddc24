"""The launcher of this process: started once for a folder, asked for each program, ended with us."""

from __future__ import annotations

import atexit
import contextlib
import marshal
import os
import platform
import select
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

from envbox.errors import ToolError
from envbox.packages.confine.converse import Done, Files, Program, Request, Started, converse
from envbox.packages.confine.syscalls import MACHINES, Machine, filter_for

_LAUNCHER = Path(__file__).with_name("launcher.py")
_FOLDER = "/python"
"""Where a program's folder is in its own root."""

_LIBRARIES = ("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1")
_PATIENCE = 30.0  # seconds for a launcher to prepare
_TRIED = 10  # seconds for a process that does nothing
_MESSAGE = 1 << 16


def c_library(machine: Machine) -> list[tuple[str, str]]:
    """Return the files of this machine's C library that programs need: (where they are, where they belong).

    The list is fixed, not the program's to say. They lie beside the dynamic loader.
    """
    loader = os.path.realpath(machine.loader)
    folder = os.path.dirname(loader)  # noqa: PTH120
    named = [(loader, machine.loader), *((os.path.realpath(p), p) for p in _beside(folder))]
    return [(source, target) for source, target in named if os.path.isfile(source)]  # noqa: PTH113


def _beside(folder: str) -> list[str]:
    return [f"{folder}/{name}" for name in _LIBRARIES]


class Launcher:
    """A process that starts confined programs, one at a time.

    :param road: `namespaces` or `landlock`
    """

    def __init__(self, road: str, folder: Path) -> None:
        machine = MACHINES.get(platform.machine())
        if sys.platform != "linux" or machine is None:
            raise ToolError(f"{road}: not on {sys.platform} on {platform.machine()}")
        self.key = (road, folder)
        self.is_apart = road == "namespaces"
        shown = [(str(folder), _FOLDER), *c_library(machine)]
        setup = {
            "road": road,
            "shown": shown,
            "readable": [target if self.is_apart else source for source, target in shown],
            "filter": filter_for(machine),
        }
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process: subprocess.Popen[bytes] | None = None
        try:
            with theirs:
                self._process = _started(theirs)
            self._sock.settimeout(_PATIENCE)
            self._sock.send(marshal.dumps(setup))
            if refused := self._answer("it ended"):
                raise ToolError(f"{road}: {refused}")
        except BaseException as error:
            self.end()
            if isinstance(error, OSError):
                raise ToolError(f"{road}: {error}") from error
            raise

    def _answer(self, otherwise: str) -> str | int | None:
        data = self._sock.recv(_MESSAGE)
        return marshal.loads(data) if data else otherwise  # noqa: S302  # from our own child

    def try_out(self) -> None:
        """See that every step of confining is possible, with a process that does nothing.

        :raises ToolError: saying what is not
        """
        nothing = Request((), {}, b"", answer=0, seconds=_TRIED, memory=1 << 31)
        done = converse(lambda files: self.start([], nothing, files), "a trial", nothing)
        if done.status:
            raise ToolError(f"{self.key[0]}: {done.complaint or f'exit status {done.status}'}")

    def start(self, argv: list[str], request: Request, files: Files) -> Started:
        """Start a program; an empty one ends at once."""
        message = marshal.dumps(
            {
                "argv": argv,
                "env": dict(request.variables),
                "limits": {"AS": request.memory, "CPU": request.seconds},
            }
        )
        try:
            socket.send_fds(self._sock, [message], list(files))
        except OSError as error:
            self.end()
            raise ToolError(f"what confines programs has died: {error.strerror}") from error
        return self

    def wait(self, seconds: float) -> int | None:
        """Return the exit status of the program that was started; None when it has not ended by then."""
        answers = select.poll()  # select(2) takes no handle above 1023
        answers.register(self._sock, select.POLLIN)
        if not answers.poll(seconds * 1000):
            return None
        try:
            status = self._answer("it ended")
        except OSError:
            status = None
        if not isinstance(status, int):
            self.end()
            return 125
        return os.waitstatus_to_exitcode(status)

    def kill(self) -> None:
        """End the program, and the launcher with it."""
        self.end()

    def end(self) -> None:
        """End it; its programs end with it."""
        self._sock.close()
        if self._process:
            with contextlib.suppress(OSError):
                self._process.kill()
            self._process.wait()

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked."""
        return self._sock.fileno() >= 0 and self._process is not None and self._process.poll() is None


def _started(stdin: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(_LAUNCHER)],
        stdin=stdin.fileno(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={},
        cwd="/",
        start_new_session=True,
    )


_lock = threading.RLock()
_current: Launcher | None = None


def launcher(road: str, folder: Path) -> Launcher:
    """Return this process's launcher for a folder, started when need be.

    :raises ToolError: when this machine does not let us confine that way
    """
    global _current  # noqa: PLW0603  # one a process
    with _lock:
        if _current is None or _current.key != (road, folder) or not _current.is_alive:
            end_launcher()
            _current = Launcher(road, folder)
        return _current


def try_launcher(road: str, folder: Path) -> None:
    """See that a launcher can confine.

    :raises ToolError: saying what is not possible
    """
    with _lock:  # it answers one at a time, and nobody is to end it for another
        launcher(road, folder).try_out()


@atexit.register
def end_launcher() -> None:
    """End this process's launcher, if there is one."""
    global _current  # noqa: PLW0603
    with _lock:
        if _current is not None:
            _current.end()
            _current = None


def run_launched(road: str, program: Program, request: Request) -> Done:
    """Run a program by the launcher."""
    with _lock:
        found = launcher(road, program.folder)
        folder = _FOLDER if found.is_apart else str(program.folder)
        # without /proc, a program does not know where it lies, and so not where its libraries do
        variables = {**request.variables, **({"LD_LIBRARY_PATH": f"{_FOLDER}/lib"} if found.is_apart else {})}
        argv = [f"{folder}/{program.executable}", *request.arguments]
        asked = replace(request, variables=variables)
        return converse(lambda files: found.start(argv, asked, files), program.who, asked)
