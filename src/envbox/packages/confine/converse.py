"""Talk with a program within bounds: feed it, take its answer, and end it when it oversteps.

The program is believed to be hostile: it may read nothing, answer without end, complain without end, or never
end. Whatever happens, when `converse` returns, it has ended or been killed.
"""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from envbox.errors import ToolError

_PIECE = 1 << 20
_COMPLAINT = 1 << 20  # bytes that a program may write on stderr
_KEPT = 4096  # of them, the last
_PIPE = 1 << 20  # bytes of a pipe, where the system lets us say so; F_SETPIPE_SZ
_PAUSE = 0.002
_ENDING = 10.0  # seconds for a program to end when it has closed its streams

Files = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Program:
    """What is run.

    :param folder: all that it may read, besides the C library
    :param executable: relative to the folder
    :param who: it is, for people
    """

    folder: Path
    executable: str
    who: str


@dataclass(frozen=True, slots=True)
class Request:
    """What a program is told, and how much it may use.

    :param answer: most bytes of its answer
    :param seconds: of the clock, and of the processor
    :param memory: in bytes
    """

    arguments: Sequence[str]
    variables: Mapping[str, str]
    data: bytes
    answer: int
    seconds: int
    memory: int


@dataclass(frozen=True, slots=True)
class Done:
    """How a program ended.

    :param status: its exit status; negative: the signal that ended it
    :param complaint: the end of what it wrote on stderr
    """

    status: int
    answer: bytes
    complaint: str


class Started(Protocol):
    """A program that runs."""

    def wait(self, seconds: float) -> int | None:
        """Return its exit status; None when it has not ended by then."""

    def kill(self) -> None:
        """End it and whatever it started."""


def converse(start: Callable[[Files], Started], who: str, request: Request) -> Done:
    """Start a program with pipes, hand it the data, and take what it answers.

    :raises ToolError: when it answers or complains more, or takes longer, than it may
    """
    ours, theirs = _pipes()
    still_open = set(ours)  # to close a number twice would close what another thread has opened meanwhile
    started: Started | None = None
    try:
        try:
            started = start(theirs)
        finally:
            for handle in theirs:
                os.close(handle)
        answer, complaint, deadline = _exchange(ours, still_open, who, request)
        status = started.wait(max(_ENDING, deadline - time.monotonic()))
        if status is None:
            raise _too_long(who, request)
        started = None
        return Done(status, answer, _words(complaint))
    finally:
        for handle in still_open:
            os.close(handle)
        if started is not None:
            started.kill()


def _pipes() -> tuple[Files, Files]:
    pairs = [os.pipe() for _ in range(3)]
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        for handle, _ in pairs[:2]:
            fcntl.fcntl(handle, fcntl.F_SETPIPE_SZ, _PIPE)  # type: ignore[attr-defined,unused-ignore]
    (in_read, in_write), (out_read, out_write), (err_read, err_write) = pairs
    return (in_write, out_read, err_read), (in_read, out_write, err_write)


def _exchange(ours: Files, still_open: set[int], who: str, request: Request) -> tuple[bytes, bytes, float]:
    """Move bytes until the program has closed its answer and its complaints.

    :param still_open: what is left of `ours` to be closed
    """
    deadline = time.monotonic() + request.seconds
    feed, answer, complaint = ours
    left = memoryview(request.data)
    said: dict[int, list[bytes]] = {answer: [], complaint: []}
    sizes = {answer: 0, complaint: 0}
    with selectors.DefaultSelector() as selector:
        for handle in ours:
            os.set_blocking(handle, False)
        selector.register(feed, selectors.EVENT_WRITE)
        for handle in said:
            selector.register(handle, selectors.EVENT_READ)
        while selector.get_map().keys() & said.keys():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready and time.monotonic() >= deadline:
                raise _too_long(who, request)
            for key, _ in ready:
                handle = key.fd
                if handle == feed:
                    left = _write(feed, left)
                    if not left:
                        selector.unregister(feed)
                        still_open.discard(feed)
                        os.close(feed)
                    continue
                piece = os.read(handle, _PIECE)
                if not piece:
                    selector.unregister(handle)
                    continue
                sizes[handle] += len(piece)
                said[handle].append(piece)
                if sizes[answer] > request.answer:
                    raise ToolError(f"{who} answered more than {request.answer:,} bytes: it was ended")
                if sizes[complaint] > _COMPLAINT:
                    raise ToolError(f"{who} complained without end: it was ended")
    return b"".join(said[answer]), b"".join(said[complaint])[-_KEPT:], deadline


def _write(handle: int, data: memoryview) -> memoryview:
    """Write what goes in now; nothing is left when nobody reads any more."""
    try:
        return data[os.write(handle, data[:_PIECE]) :]
    except BlockingIOError:
        return data
    except BrokenPipeError:
        return data[len(data) :]


def _too_long(who: str, request: Request) -> ToolError:
    return ToolError(f"{who} took longer than {request.seconds} seconds: it was ended")


def _words(complaint: bytes) -> str:
    lines = complaint.decode(errors="replace").strip().splitlines()[-1:]
    return "".join(letter for letter in "".join(lines)[:300] if letter.isprintable())


@dataclass(slots=True)
class OwnProcess:
    """A program that is a process of ours.

    :param end: called first when it is to be ended
    """

    process: subprocess.Popen[bytes]
    end: Callable[[], object] = lambda: None

    def wait(self, seconds: float) -> int | None:
        """Return its exit status; None when it has not ended by then."""
        deadline = time.monotonic() + seconds
        while (status := self.process.poll()) is None and time.monotonic() < deadline:
            select.select([], [], [], _PAUSE)  # not sleep(), which fails where the clock is faked
        return status

    def kill(self) -> None:
        """End it."""
        try:
            with contextlib.suppress(ToolError):  # why it is ended is what is to be said
                self.end()
        finally:
            self.process.kill()
            self.process.wait()


def run_trusted(program: Program, request: Request) -> Done:
    """Run a program as what it is, with the user's rights."""

    def start(files: Files) -> Started:
        return start_process(
            [str(program.folder / program.executable), *request.arguments], request.variables, files
        )

    return converse(start, program.who, request)


def start_process(argv: Sequence[str], variables: Mapping[str, str], files: Files) -> OwnProcess:
    """Start a process of ours.

    :raises ToolError: when there is no such program
    """
    read, write, complain = files
    try:
        process = subprocess.Popen(
            argv,
            stdin=read,
            stdout=write,
            stderr=complain,
            env=dict(variables),
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise ToolError(f"cannot run {argv[0]}: {error.strerror}") from error
    return OwnProcess(process)
