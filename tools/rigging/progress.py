"""One line a step, on stderr, with the seconds it took."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def say(text: str) -> None:
    """Tell the person one line."""
    print(f"rig: {text}", file=sys.stderr, flush=True)


@contextmanager
def step(name: str) -> Iterator[list[str]]:
    """Time a step and tell it when it ends well; what is put into the list is told with it."""
    begun = time.monotonic()
    details: list[str] = []
    yield details
    tail = f" ({', '.join(details)})" if details else ""
    say(f"{time.monotonic() - begun:5.1f} s  {name}{tail}")


def size(path: Path) -> int:
    """The bytes that the files below a folder take on the disk."""
    total = 0
    for found in path.rglob("*"):
        try:
            total += found.lstat().st_blocks * 512
        except OSError:
            continue
    return total


def megabytes(count: int) -> str:
    """A size in words."""
    return f"{count / 1e6:,.0f} MB"
