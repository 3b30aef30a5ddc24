"""Several notebooks, a few at a time: each in a container of its own, each failure told, none in the way."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

from envbox.engine import Engine
from envbox.errors import EnvboxError, NotebookError, listed
from envbox.report import Reporter
from envbox.sessions.execution.run import Job, Running, RunWishes
from envbox.sessions.launch.signals import stopping_signals
from envbox.settings import Settings

SUFFIX = ".out.ipynb"
"""Of a result that nobody gave a name: beside its notebook, which stays as it is."""


def plan_results(paths: Sequence[tuple[str, Path]], out: Path | None, *, in_place: bool) -> dict[str, Path]:
    """Say where results go: what a notebook is called → its result.

    :param paths: what notebooks are called, and where they are
    :param out: a file, for one notebook; a folder, for any number
    :raises NotebookError: when two would go to one place, or one cannot be written there
    """
    inputs = {path for _, path in paths}
    results: dict[str, Path] = {}
    places: set[str] = set()  # files, by whatever links they are reached
    for shown, path in paths:
        if in_place:
            result = path
        elif out is None:
            if path.name.endswith(SUFFIX) and _source_of(path) in inputs:
                continue  # an earlier result, which `*.ipynb` names too
            result = path.with_name(path.name.removesuffix(".ipynb") + SUFFIX)
        elif out.suffix == ".ipynb" and not out.is_dir():
            result = out
        else:
            result = out / path.name
        if (place := os.path.realpath(result)) in places:
            raise NotebookError(
                f"the results of two notebooks would go to {result}", "name a folder, or run them one by one"
            )
        check_result(result)
        places.add(place)
        results[shown] = result
    return results


def run_batch(
    jobs: Sequence[Job],
    wishes: RunWishes,
    engine: Engine,
    settings: Settings,
    report: Reporter,
    finished: Callable[[Job], None] = lambda job: None,
) -> None:
    """Run notebooks.

    :param finished: called for each one whose result was written, whether it came to its end or not
    :raises EnvboxError: when one fails, after the others had their turn
    :raises KeyboardInterrupt: when told to end; what came until then is written
    """
    everything: list[Running] = []
    failures: list[EnvboxError] = []
    for job in jobs:
        try:
            everything.append(Running(job, wishes, report))
        except EnvboxError as error:
            failures.append(_told(error, len(jobs), report))
    with stopping_signals(), ThreadPoolExecutor(wishes.at_once) as pool:
        futures: dict[Future[None], Running] = {}
        try:
            for running in everything:
                futures[pool.submit(_run, running, engine, settings)] = running
            for future in as_completed(futures):
                try:
                    future.result()
                except EnvboxError as error:
                    failures.append(_told(error, len(jobs), report))
                if futures[future].is_saved:
                    finished(futures[future].job)
        except BaseException:
            for future in futures:
                future.cancel()
            for running in everything:
                running.stop()
            raise
    if failures and len(jobs) == 1:
        raise failures[0]
    if failures:
        faults = [getattr(failure, "short", failure.message) for failure in failures]
        raise NotebookError(listed(f"{len(failures)} of {len(jobs)} notebooks failed", faults, most=1000))


def _run(running: Running, engine: Engine, settings: Settings) -> None:
    if not running.stopped:
        running.run(engine, settings)


def _told(error: EnvboxError, of: int, report: Reporter) -> EnvboxError:
    """Tell of a failure at once, where others are still to come."""
    if of > 1:
        report.warn(error.message)
    return error


def _source_of(result: Path) -> Path:
    return result.with_name(result.name.removesuffix(SUFFIX) + ".ipynb")


def check_result(path: Path) -> None:
    """See that a result can be written, before it takes hours to make.

    :raises NotebookError: when not
    """
    folder = Path(os.path.realpath(path)).parent
    while not folder.exists():
        folder = folder.parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise NotebookError(f"the result cannot be written to {path}", "name another place: -o OUT")
