"""Running a coroutine to its end inside a command that somebody may interrupt, which rattler's calls need."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_PAUSE = 0.005
"""Seconds for rattler's threads to put down what they hold of Python: one that still wants the interpreter
when Python ends aborts the process (one run in forty did)."""


def run(work: Callable[P, Coroutine[Any, Any, T]], *arguments: P.args, **named: P.kwargs) -> T:
    """Run what `work` returns to its end, or until Ctrl-C, which is raised here and says nothing by itself.

    `asyncio.run` that is interrupted while it makes its loop leaves half of one, and a coroutine that never
    began is complained of too: Python prints both.
    """
    with ExitStack() as stack:
        with _ctrl_c_later():
            import asyncio

            stack.callback(_pause)
            runner = stack.enter_context(asyncio.Runner())
            runner.get_loop()
            coroutine = work(*arguments, **named)
            stack.callback(coroutine.close)
        return runner.run(coroutine)


def _pause() -> None:
    with suppress(OSError):  # a clock that is faked
        time.sleep(_PAUSE)


@contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Hold Ctrl-C back while the block runs; only the main thread is told of it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seen: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: seen.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if seen:
        signal.raise_signal(signal.SIGINT)
