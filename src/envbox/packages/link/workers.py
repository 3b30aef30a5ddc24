"""Work in several processes that cannot be left behind.

`multiprocessing` would either fork (with threads of rattler and requests running: not safe) or import the
program's main module again in each child, and its children survive a killed parent. Here a worker is a fresh
interpreter that takes pickled calls on stdin and answers on stdout: when the parent is gone, stdin ends, and
so does the worker. It has a session of its own, so Ctrl-C reaches only the parent, which ends its workers in
order.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from envbox.errors import EnvboxError, ToolError

Task = TypeVar("Task")
Result = TypeVar("Result")

_BOOT = "import sys; sys.path[:] = {path!r}; from envbox.packages.link.workers import serve; serve({nice})"
_PATIENCE = 10.0  # seconds for a worker to remove what it had half-written


def run_all(
    function: Callable[[Task], Result], tasks: Sequence[Task], jobs: int, nice: int = 0
) -> Iterator[tuple[Task, Result]]:
    """Call `function` for each task, `jobs` at a time, and yield each result as it comes.

    Tasks are begun in their order. The first failure ends everything and is raised here. One job, or one
    task, runs in this process.

    :param nice: by how much the processes go behind what waits for them (setpriority(2))
    :param function: of a module's top level; it, its tasks and results must be picklable
    """
    jobs = min(jobs, len(tasks))
    if jobs <= 1:
        for task in tasks:
            yield task, function(task)
        return
    workers = [_Worker(nice) for _ in range(jobs)]
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, bool, Any]] = queue.SimpleQueue()
    for number in range(len(tasks)):
        todo.put(number)

    def attend(worker: _Worker) -> None:
        while True:
            try:
                number = todo.get_nowait()
            except queue.Empty:
                return
            fine, answer = worker.call(function, tasks[number])
            done.put((number, fine, answer))
            if not fine:
                return

    threads = [threading.Thread(target=attend, args=(worker,), daemon=True) for worker in workers]
    try:
        for thread in threads:
            thread.start()
        for _ in tasks:
            number, fine, answer = done.get()
            if not fine:
                raise answer
            yield tasks[number], answer
    finally:
        for worker in workers:
            worker.end()
        for thread in threads:
            thread.join(_PATIENCE)


class _Worker:
    def __init__(self, nice: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-X", "utf8", "-c", _BOOT.format(path=[p for p in sys.path if p], nice=nice)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def call(self, function: Callable[[Any], Any], task: object) -> tuple[bool, Any]:
        """Return (True, result), or (False, exception)."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            pickle.dump((function, task), self._process.stdin)
            self._process.stdin.flush()
            fine, answer = pickle.load(self._process.stdout)  # noqa: S301 - from our own child
        except (EOFError, OSError, ValueError, pickle.UnpicklingError):
            status = self._process.wait()
            return False, ToolError(
                f"a worker process died ({_status(status)})",
                "if memory ran out, use fewer: ENVBOX_JOBS=1" if status < 0 else None,
            )
        return bool(fine), answer

    def end(self) -> None:
        """Stop at once when busy, and wait until it is gone."""
        self._process.terminate()
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()


def _status(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"


def serve(nice: int) -> None:
    """Be a worker: answer calls until stdin ends."""
    os.nice(nice)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what is half-written gets removed
    calls = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nobody's print may end up among the answers
    while True:
        try:
            function, task = pickle.load(calls)  # noqa: S301 - from our own parent
        except EOFError:
            return
        try:
            answer = pickle.dumps((True, function(task)))
        except EnvboxError as error:
            answer = pickle.dumps((False, error))
        except Exception as error:
            answer = pickle.dumps((False, _portable(error)))
        try:
            answers.write(answer)
            answers.flush()
        except BrokenPipeError:
            return


def _portable(error: Exception) -> Exception:
    """Return a bug keeps its traceback, also across processes."""
    text = "".join(traceback.format_exception(error))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    except Exception:
        return RuntimeError(text)
    error.add_note(f"in a worker:\n{text}")
    return error
