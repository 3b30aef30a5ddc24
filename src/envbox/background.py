"""Work in another thread while a block runs, called off when the block fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def in_background(work: Callable[[threading.Event], None]) -> Iterator[Callable[[], None]]:
    """Do work in another thread while the block runs, and call it off when the block fails."""
    stop = threading.Event()
    with ThreadPoolExecutor(1, "background") as pool:
        future = pool.submit(work, stop)
        try:
            yield future.result
        except BaseException:
            stop.set()
            raise
