"""A reporter that draws on a terminal with rich, and writes plain lines where there is none.

rich is imported only when a bar is drawn: a command with nothing to do says nothing and costs nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

import click

from envbox.cli.words import foreign, painted
from envbox.report import Task, Unit

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def wants_colour(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether to colour: FORCE_COLOR, NO_COLOR (https://no-color.org), else only on a terminal that
    can.
    """
    if environ.get("NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and environ.get("TERM") != "dumb"


class TerminalReporter:
    """Lines and bars on `stream` (stderr)."""

    def __init__(self, stream: TextIO, environ: Mapping[str, str], *, quiet: bool, verbose: bool) -> None:
        self._stream = painted(stream)
        self._quiet = quiet
        self._verbose = verbose
        self._colour = wants_colour(stream, environ)
        self._draws = not quiet and stream.isatty() and environ.get("TERM") != "dumb"
        self._progress: Progress | None = None
        self._open_tasks = 0
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Write one line, unless --quiet."""
        if not self._quiet:
            self._write(foreign.message(text))

    def detail(self, text: str) -> None:
        """Write one dim line when --verbose."""
        if self._verbose and not self._quiet:
            self._write(click.style(foreign.message(text), dim=True))

    def warn(self, text: str) -> None:
        """Write one line, always."""
        self._write(f"{click.style('warning:', fg='yellow', bold=True)} {foreign.message(text)}")

    @contextmanager
    def task(self, label: str, total: int | None = None, unit: Unit = "items") -> Iterator[Task]:
        """Draw a bar while the block runs; nothing where there is no terminal."""
        if not self._draws:
            yield _NoTask()
            return
        progress = self._start()
        try:
            yield _Bar(progress, progress.add_task(foreign.line(label), total=total, unit=unit))
        finally:
            self._end()

    def _write(self, text: str) -> None:
        if self._progress is not None:  # rich moves its bars out of the way
            from rich.text import Text

            self._progress.console.print(
                Text.from_ansi(text if self._colour else click.unstyle(text)), soft_wrap=True
            )
        else:
            click.echo(text, file=self._stream, color=self._colour)

    def _start(self) -> Progress:
        with self._lock:
            if self._progress is None:
                self._progress = _progress(self._stream, self._colour)
                self._progress.start()
            self._open_tasks += 1
            return self._progress

    def _end(self) -> None:
        with self._lock:
            self._open_tasks -= 1
            if self._open_tasks == 0 and self._progress is not None:
                self._progress.stop()
                self._progress = None


class _NoTask:
    def advance(self, amount: int = 1) -> None: ...


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def advance(self, amount: int = 1) -> None:
        self._progress.advance(self._task, amount)


def _progress(stream: TextIO, colour: bool) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Task as RichTask
    from rich.text import Text

    class Amount(ProgressColumn):
        def render(self, task: RichTask) -> Text:
            total = "" if task.total is None else f"/{_amount(task.total, task.fields['unit'])}"
            return Text(f"{_amount(task.completed, task.fields['unit'])}{total}", style="progress.download")

    console = Console(file=stream, no_color=not colour, highlight=False)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        Amount(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _amount(value: float, unit: Unit) -> str:
    return f"{value / 1e6:.1f} MB" if unit == "bytes" else f"{value:.0f}"
