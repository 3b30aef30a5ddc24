"""One notebook, run: its driver inside, its outputs here, and its result written whatever happens."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from envbox.engine import Engine
from envbox.execution.failure import Failed, ended_early, kernel_died, not_started
from envbox.execution.outcome import MOST_OTHER, MOST_TEXT, Outcome
from envbox.execution.parameters import inject, tags
from envbox.execution.record import made_by
from envbox.files import write_whole
from envbox.launch.container import Launch
from envbox.launch.piped import Piped, piped
from envbox.notebook.meant import package_of_missing
from envbox.notebook.reading import NEWEST, loads, read_bytes, upgraded
from envbox.notebook.stamping import KEY, written_like
from envbox.report import Reporter, Task
from envbox.settings import Settings

STARTUP = 120  # seconds that a kernel may take until it answers
_SAVED_EACH = 10  # seconds between two savings, at the least
# The driver comes through stdin: no mount is needed for it, and it stands in no argument list. A module of
# the notebook's folder must not stand in for one of the driver's.
_BOOT = """\
import os, sys
sys.path[:] = [p for p in sys.path if p]
n, s = int(sys.argv[1]), b""
while len(s) < n: s += os.read(0, n - len(s)) or sys.exit(1)
exec(compile(s, "<envbox>", "exec"))
"""


@dataclass(frozen=True, slots=True)
class Wishes:
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

    def __init__(self, job: Job, wishes: Wishes, report: Reporter) -> None:
        self.job = job
        self.wishes = wishes
        self.report = report
        self.stopped = False
        self.is_saved = False
        self._data = read_bytes(job.path)
        self._notebook = loads(self._data, job.path)
        self._outcome = Outcome(self._prepared())
        self._piped: Piped | None = None
        self._saved = time.monotonic()

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
        source = _driver()
        launch = replace(
            self.job.launch, command=("python", "-c", _BOOT, str(len(source))), folder=self._folder()
        )
        try:
            with piped(launch, engine, settings) as self._piped:
                self._feed(source + json.dumps(self._asked()).encode() + b"\n")
                with self.report.task(self.job.shown, len(self._cells())) as task:
                    self._listen(self._piped, task)
        finally:
            self.save()

    def save(self) -> None:
        """Write the result as it is now."""
        document = self._outcome.finished()
        before = self._notebook.document
        text = (
            written_like(self._data, before, document)
            if self._is_current
            else written_like(b"", {}, document)
        )
        write_whole(self.job.result, text, mode=self.job.path.stat().st_mode & 0o777, is_cache=False)
        self._saved, self.is_saved = time.monotonic(), True

    # --- what is asked of the driver

    @property
    def _is_current(self) -> bool:
        return bool(self._notebook.document["nbformat"] == NEWEST)

    def _prepared(self) -> dict[str, Any]:
        """The document without outputs, with its parameters, and with what made it."""
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
            {"index": index, "source": source, "may_fail": "raises-exception" in tags(cell)}
            for index, cell in enumerate(self._outcome.document["cells"])
            if cell.get("cell_type") == "code" and "skip-execution" not in tags(cell)
            if (source := self._source(index)).strip()
        ]

    def _source(self, index: int) -> str:
        source = self._outcome.cell(index)["source"]
        return source if isinstance(source, str) else "".join(source)

    def _asked(self) -> dict[str, Any]:
        return {
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
        """Where cells run: the notebook's own folder, if that is in the project."""
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

    def _listen(self, running: Piped, task: Task) -> None:
        at: int | None = None
        for told in _told(running):
            event, index = told["event"], told.get("cell")
            if event == "begin":
                at = index
            elif event == "output" and index is not None:
                self._outcome.take(index, told["kind"], told["content"])
            elif event == "count" and index is not None:
                self._outcome.count(index, told["count"])
            elif event == "end" and index is not None:
                task.advance()
                self._ended(index, told)
                at = None
            elif event in ("full", "lost") and index is not None:
                self._noted(index, event)
            elif event == "kernel":
                self._kernel(told)
            elif event == "done":
                return
            elif event == "dead":
                raise self._failed(at, *kernel_died(told, self.job.launch.memory))
            else:
                raise not_started(told, self.job.shown, self._asked()["kernel"], self.job.launch.name)
        if self.stopped:
            raise Failed(f"{self.job.shown}: interrupted")
        code = running.end()
        raise self._failed(at, *ended_early(code, running.last_words(), self.job.launch.memory))

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
            self.save()
        if status == "ok" or (status == "error" and "raises-exception" in tags(self._outcome.cell(index))):
            return
        if status == "timeout":
            words = f"took longer than {self.wishes.timeout:g} s"
            raise self._failed(index, words, "give it more: --timeout SECONDS")
        errors = [o for o in self._outcome.cell(index)["outputs"] if o["output_type"] == "error"]
        last = errors[-1] if errors else {"ename": "it failed", "evalue": "", "traceback": []}
        if status == "input" or last["ename"] == "StdinNotImplementedError":
            words = "asks for input, and nobody is there to answer"
            raise self._failed(index, words, "make it a parameter: -p NAME=VALUE")
        said = f"{last['ename']}: {last['evalue']}" if last["evalue"] else str(last["ename"])
        hint = package_of_missing(said, self.job.launch.name)
        raise self._failed(index, f"failed: {said}", hint, "\n".join(last["traceback"]))

    def _failed(self, index: int | None, words: str, hint: str | None, traceback: str = "") -> Failed:
        kept = f"what was put out until then is in {self.job.result}"
        if index is None:
            return Failed(f"{self.job.shown}: {words}", hint or kept)
        short = f"{self.job.shown}: cell {index + 1} {words.partition(chr(10))[0]}"
        source = "\n".join(f"    {line}" for line in self._source(index).splitlines())
        body = "\n\n".join(part for part in (source, traceback) if part)
        return Failed(f"{self.job.shown}: cell {index + 1} {words}\n\n{body}\n", hint or kept, short)


def _told(running: Piped) -> Iterator[dict[str, Any]]:
    for line in running.stdout:
        with suppress(ValueError):  # half a line of a driver that was killed
            told = json.loads(line)
            if isinstance(told, dict) and "event" in told:
                yield told


@cache
def _driver() -> bytes:
    return files("envbox.execution").joinpath("driver.py").read_bytes()
