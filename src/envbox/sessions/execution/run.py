"""One notebook, run: its driver inside, its outputs here, and its result written whatever happens."""

from __future__ import annotations

import copy
import json
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from envbox.engine import Engine
from envbox.errors import NotebookError, ToolError
from envbox.files import disk_error, write_whole
from envbox.notebooks.document import NEWEST, loads, read_bytes, upgraded
from envbox.notebooks.stamp import KEY
from envbox.notebooks.suggestions import package_of_missing
from envbox.notebooks.write import written_like
from envbox.report import Reporter, Task, counted
from envbox.sessions.execution.failure import (
    Failed,
    Where,
    cell_failed,
    ended_early,
    kernel_died,
    not_started,
)
from envbox.sessions.execution.outcome import MOST_OTHER, MOST_TEXT, Outcome
from envbox.sessions.execution.parameters import allows_errors, inject, tags
from envbox.sessions.execution.payload import command, driver, told_by, whole
from envbox.sessions.execution.record import made_by
from envbox.sessions.execution.rescue import keep_elsewhere
from envbox.sessions.launch.container import Launch
from envbox.sessions.launch.pipes import PipedProcess, piped
from envbox.settings import Settings

STARTUP = 120  # seconds that a kernel may take until it answers
_SAVED_EACH = 10  # seconds between two savings, at the least


@dataclass(frozen=True, slots=True)
class RunWishes:
    """What a command line says about an execution.

    :param parameters: by name; nothing is injected when there are none
    :param timeout: seconds that each cell may take
    :param kernel: the kernelspec to take instead of the notebook's own
    :param at_once: how many notebooks are run at the same time
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    timeout: float | None = None
    kernel: str | None = None
    at_once: int = 1


@dataclass(frozen=True, slots=True)
class Job:
    """A notebook to run, and where its result goes.

    :param shown: what it is called in messages
    """

    shown: str
    path: Path
    result: Path
    launch: Launch


class Running:
    """One notebook while it runs."""

    def __init__(self, job: Job, wishes: RunWishes, report: Reporter) -> None:
        self.job = job
        self.wishes = wishes
        self.report = report
        self.stopped = False
        self.is_saved = False
        self._has_begun = self._is_up = False
        self._data = read_bytes(job.path)
        self._notebook = loads(self._data, job.path)
        self._outcome = Outcome(self._prepared())
        self._piped: PipedProcess | None = None
        self._saved = time.monotonic()
        self._kernels_own: str | None = None
        self._goes_on = allows_errors(self._notebook.metadata)

    def stop(self) -> None:
        """Make an end, from another thread; what has come until then is written."""
        self.stopped = True
        if self._piped is not None:
            self._piped.process.kill()

    def run(self, engine: Engine, settings: Settings) -> None:
        """Run it to its end.

        :raises Failed: when a cell fails, takes too long, asks for input, or the kernel dies
        :raises EnvboxError: when nothing could be started, or the result cannot be written
        """
        launch = replace(self.job.launch, command=command(), folder=self._folder())
        try:
            with self._private(), piped(launch, engine, settings) as self._piped:
                self._feed(driver() + json.dumps(self._asked()).encode() + b"\n")
                with self.report.task(self.job.shown, len(self._cells())) as task:
                    self._listen(self._piped, task)
        except BaseException as failure:
            unwritten = self.save()
            if unwritten is not None:
                self.report.warn(unwritten.message)
            if isinstance(failure, Failed) and failure.hint is None and self.is_saved:
                failure.hint = f"what was put out until then is in {self.job.result}"
            raise
        if unwritten := self.save():
            raise unwritten

    @contextmanager
    def _private(self) -> Iterator[None]:
        """Have a folder for the kernel's own files, which is gone even if the driver cannot see to it."""
        if self.job.launch.prefix is None:
            yield  # it goes with the container
            return
        with tempfile.TemporaryDirectory(prefix="envbox-", ignore_cleanup_errors=True) as self._kernels_own:
            yield

    def save(self, *, is_last: bool = True) -> NotebookError | None:
        """Write the result as it is now; before a first cell has begun there is none, and nothing is touched.

        :param is_last: what cannot be written where it belongs is kept elsewhere
        :returns: what stood against it, and where the result is then
        """
        if not self._has_begun:
            return None
        document, before = self._outcome.finished(), self._notebook.document
        text = (
            written_like(self._data, before, document)
            if self._is_current
            else written_like(b"", {}, document)
        )
        self._saved = time.monotonic()
        try:
            write_whole(self.job.result, text, mode=self.job.path.stat().st_mode & 0o777, is_cache=False)
        except (ToolError, OSError) as error:
            fault = error if isinstance(error, ToolError) else disk_error(self.job.result, error, False)
            self.is_saved = False
            return keep_elsewhere(self.job.result, text, fault) if is_last else None
        self.is_saved = True
        return None

    # --- what is asked of the driver

    @property
    def _is_current(self) -> bool:
        return bool(self._notebook.document["nbformat"] == NEWEST)

    def _prepared(self) -> dict[str, Any]:
        """Return the document without outputs, with its parameters, and with what made it."""
        notebook = self._notebook
        document = (
            copy.deepcopy(dict(notebook.document))
            if self._is_current
            else upgraded(self._data, notebook.path)
        )
        if self.wishes.parameters:
            for words in inject(document, self.wishes.parameters, notebook.language, notebook.path):
                self.report.warn(words)
        for cell in document["cells"]:
            if cell.get("cell_type") == "code" and "skip-execution" not in tags(cell):
                cell["outputs"], cell["execution_count"] = [], None
            cell.setdefault("metadata", {})
        metadata = document.setdefault("metadata", {})
        metadata.pop("widgets", None)
        made = made_by(self.job.launch)
        bound = notebook.stamp or {}
        if bound.get("environment") == made["environment"] and bound.get("lock") not in (
            None,
            made.get("lock"),
        ):
            self.report.warn(
                f"{self.job.shown} was bound to another lock of {made['environment']} than is there"
            )
        metadata[KEY] = made
        return document

    def _cells(self) -> list[dict[str, Any]]:
        return [
            {"index": index, "source": whole(source), "may_fail": self._may_fail(index)}
            for index, cell in enumerate(self._outcome.document["cells"])
            if cell.get("cell_type") == "code" and "skip-execution" not in tags(cell)
            if (source := self._source(index)).strip()
        ]

    def _may_fail(self, index: int) -> bool:
        return self._goes_on or "raises-exception" in tags(self._outcome.cell(index))

    def _source(self, index: int) -> str:
        source = self._outcome.cell(index)["source"]
        return source if isinstance(source, str) else "".join(source)

    def _asked(self) -> dict[str, Any]:
        return {
            "private": self._kernels_own,
            "cells": self._cells(),
            "kernel": self.wishes.kernel or self._notebook.kernel,
            "strict": self.wishes.kernel is not None,
            "language": self._notebook.language,
            "timeout": self.wishes.timeout,
            "startup": STARTUP,
            "most_text": MOST_TEXT,
            "most_other": MOST_OTHER,
        }

    def _folder(self) -> str:
        """Return where cells run: the notebook's own folder, if that is in the project."""
        folder, project = self.job.path.absolute().parent, self.job.launch.project
        if folder.is_relative_to(project):
            return str(folder.relative_to(project))
        self.report.warn(f"{self.job.shown} is outside of {project}: it runs there, without its neighbours")
        return "."

    def _feed(self, data: bytes) -> None:
        assert self._piped is not None
        with suppress(BrokenPipeError):  # it has ended; how, is told by its exit code
            self._piped.stdin.write(data)
            self._piped.stdin.flush()

    # --- what the driver tells

    def _listen(self, running: PipedProcess, task: Task) -> None:
        at: int | None = None
        for told in told_by(running):
            event, index = told["event"], told.get("cell")
            if event == "begin":
                at, self._has_begun = index, True
            elif event == "output" and index is not None:
                self._outcome.take(index, told["kind"], told["content"], told["widget"])
            elif event == "count" and index is not None:
                self._outcome.count(index, told["count"])
            elif event == "end" and index is not None:
                task.advance()
                self._ended(index, told)
                at = None
                if told["status"] == "exit":
                    return
            elif event in ("full", "lost") and index is not None:
                self._noted(index, event)
            elif event == "kernel":
                self._kernel(told)
                self._is_up = True
            elif event == "done":
                self._has_begun = True  # also where there was nothing to run
                return
            elif event == "dead" and (self._is_up or told["memory"]):
                raise self._failed(at, *kernel_died(told, self.job.launch.memory))
            else:
                running.end()
                where = Where(self.job.shown, self.job.launch.name, self._notebook, self.wishes.kernel)
                raise not_started(told, where, running.last_words())
        if self.stopped:
            raise Failed(f"{self.job.shown}: interrupted")
        code = running.end()
        raise self._failed(at, *ended_early(code, running.last_words(), self.job.launch))

    def _kernel(self, told: Mapping[str, Any]) -> None:
        """Note what ran it, as Jupyter does."""
        metadata, spec = self._outcome.document["metadata"], told["spec"]
        metadata["language_info"] = told["language_info"]
        wanted = self.wishes.kernel or self._notebook.kernel
        if self._notebook.kernel is None:
            metadata["kernelspec"] = spec
        if wanted not in (None, spec["name"]):
            self.report.say(
                f"{self.job.shown}: run with the kernel {spec['name']}, since there is no {wanted}"
            )

    def _noted(self, index: int, event: str) -> None:
        number = f"{self.job.shown}: cell {index + 1}"
        if event == "full":
            self._outcome.full(index)
            self.report.warn(f"{number} puts out more than is kept; the rest is left out")
        else:
            self.report.warn(f"{number} has ended, but the end of its output did not come")

    def _ended(self, index: int, told: Mapping[str, Any]) -> None:
        source, total = self._source(index), len(self._outcome.document["cells"])
        status, seconds = told["status"], told["seconds"]
        line = next(line.strip() for line in source.splitlines() if line.strip())
        line = "".join(c if c.isprintable() else " " for c in line)
        line = line if len(line) <= 60 else line[:59] + "…"
        self.report.say(f"{self.job.shown} [{index + 1}/{total}] {line}  {seconds:.1f} s")
        if time.monotonic() - self._saved > _SAVED_EACH:
            self.save(is_last=False)
        if status == "exit":
            left = sum(cell["index"] > index for cell in self._cells())
            after = f"; {counted(left, 'cell')} behind it did not run" if left else ""
            self.report.say(f"{self.job.shown}: cell {index + 1} has ended the notebook{after}")
            return
        if status == "ok" or (status == "error" and self._may_fail(index)):
            return
        if status == "timeout":
            words = f"took longer than {self.wishes.timeout:g} s"
            raise self._failed(index, words, "give it more: --timeout SECONDS")
        words, traceback = cell_failed(told["error"], self._outcome.cell(index)["outputs"])
        if status == "input" or told["error"].get("ename") == "StdinNotImplementedError":
            words = "asks for input, and nobody is there to answer"
            raise self._failed(index, words, "make it a parameter: -p NAME=VALUE")
        hint = package_of_missing(words, self.job.launch.name)
        raise self._failed(index, f"failed: {words}", hint, traceback)

    def _failed(self, index: int | None, words: str, hint: str | None, traceback: str = "") -> Failed:
        if index is None:
            return Failed(f"{self.job.shown}: {words}", hint)
        short = f"{self.job.shown}: cell {index + 1} {words.partition(chr(10))[0]}"
        source = "\n".join(f"    {line}" for line in self._source(index).splitlines())
        body = "\n\n".join(part for part in (source, traceback) if part)
        return Failed(f"{self.job.shown}: cell {index + 1} {words}\n\n{body}\n", hint, short)
