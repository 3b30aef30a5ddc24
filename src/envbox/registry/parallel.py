"""Several transfers at once; when one fails or the caller is interrupted, the others end as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from envbox.registry.access import CONNECTIONS, Access

T = TypeVar("T")
R = TypeVar("R")


def at_once(access: Access, values: Sequence[T], work: Callable[[T], R]) -> list[R]:
    """Do one thing with each value; the results come in the values' order."""
    if not values:
        return []
    with ThreadPoolExecutor(min(CONNECTIONS, len(values)), "registry") as pool:
        futures = [pool.submit(work, value) for value in values]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:
            access.stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        return [future.result() for future in futures]
