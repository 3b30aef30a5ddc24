"""How verbs tell a person what they do, without knowing about terminals.

A verb takes a `Reporter`; `cli` has one that draws with rich, tests and library users take `SILENT`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol

Unit = Literal["bytes", "items"]


class Task(Protocol):
    """One bar of progress."""

    def advance(self, amount: int = 1) -> None:
        """Say that `amount` more (bytes or items) is done. Safe to call from any thread."""


class Reporter(Protocol):
    """Where a verb's words go: never stdout, which is for data."""

    def say(self, text: str) -> None:
        """Tell the person one line."""

    def detail(self, text: str) -> None:
        """Tell one line to those who asked for more (--verbose)."""

    def warn(self, text: str) -> None:
        """Tell one line that should not be missed."""

    def task(
        self, label: str, total: int | None = None, unit: Unit = "items"
    ) -> AbstractContextManager[Task]:
        """Show a bar until the context ends; `total` in `unit`, None when unknown."""


class _Silent:
    def say(self, text: str) -> None: ...

    def detail(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def advance(self, amount: int = 1) -> None: ...

    def task(
        self, label: str, total: int | None = None, unit: Unit = "items"
    ) -> AbstractContextManager[Task]:
        return nullcontext(self)


SILENT: Reporter = _Silent()


def counted(number: int, noun: str = "package") -> str:
    """Return a number of things in words: `1 package`, `2 packages`."""
    return f"{number} {noun}" + "s" * (number != 1)
