"""A session whose streams are ours: for what reads a command's output and feeds its input.

The command is gone when the block ends, however it does; and when we are killed, as other sessions are.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import IO

from envbox.engine import Engine
from envbox.sessions.launch.container import Launch, client_env, run_argv
from envbox.sessions.launch.host import here_argv, here_env, hold
from envbox.sessions.launch.session import prepare
from envbox.sessions.launch.watcher import SESSION_LABEL, leave_watcher
from envbox.settings import Settings

_KEPT = 64  # pieces of what is written on stderr, of up to 4 KiB each
_GRACE = 3  # seconds that a command has to end when its stdin has ended


@dataclass(frozen=True, slots=True)
class PipedProcess:
    """A running command.

    :param stdin: buffered; flush it
    """

    stdin: IO[bytes]
    stdout: IO[bytes]
    process: subprocess.Popen[bytes]
    _written: deque[bytes] = field(default_factory=lambda: deque(maxlen=_KEPT))
    _heard: threading.Event = field(default_factory=threading.Event)

    def last_words(self) -> str:
        """Return the end of what it wrote on stderr."""
        return b"".join(list(self._written)).decode("utf-8", "replace").strip()

    def end(self) -> int:
        """Close its stdin, and give its exit code; one that does not end in time is killed."""
        with suppress(OSError):
            self.stdin.close()
        try:
            code = self.process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._heard.wait(1)  # what it wrote at its end; what it has started may hold the stream for longer
        return code

    def _listen(self) -> None:
        assert self.process.stderr is not None
        while data := os.read(self.process.stderr.fileno(), 4096):
            self._written.append(data)
        self._heard.set()


@contextmanager
def piped(launch: Launch, engine: Engine, settings: Settings) -> Iterator[PipedProcess]:
    """Start a launch and yield its streams.

    :param engine: asked for nothing when the launch is one on this machine
    :raises LaunchError: when the project cannot be mounted
    :raises ToolError: when the engine's client is not there
    """
    session = os.urandom(8).hex()
    if launch.prefix is not None:
        argv, env, held = here_argv(launch), here_env(launch, os.environ), hold(launch)
    else:
        client = engine.client_argv()
        launch = replace(launch, interactive=True, labels={**launch.labels, SESSION_LABEL: session})
        launch = prepare(launch, engine, settings)
        argv, env, held = (
            run_argv(launch, client),
            client_env(launch, os.environ),
            [leave_watcher(client, session)],
        )
    try:
        # a session of its own: Ctrl-C is for us, who save what there is, and end it then
        process = subprocess.Popen(
            argv,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=held,
            start_new_session=True,
        )
    finally:
        for handle in held:
            os.close(handle)
    assert process.stdin is not None
    assert process.stdout is not None
    running = PipedProcess(process.stdin, process.stdout, process)
    listener = threading.Thread(target=running._listen, daemon=True)
    listener.start()
    try:
        yield running
        running.end()
    except BaseException:
        process.kill()
        process.wait()
        raise
    finally:
        if launch.prefix is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # what it started, too
        elif process.returncode:
            for container in engine.containers({SESSION_LABEL: session}):
                engine.remove(container.id)
        listener.join(1)
        for stream in (process.stdin, process.stdout, process.stderr):
            with suppress(OSError):
                stream and stream.close()
