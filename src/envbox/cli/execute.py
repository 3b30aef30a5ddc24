"""`envbox exec`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envbox.cli.context import Invocation, frozen_option
from envbox.cli.edit import name_option
from envbox.cli.launch import long_launch_options, prepare_launch
from envbox.cli.notebooks import notebooks_argument
from envbox.cli.words import write_data

if TYPE_CHECKING:
    from envbox.sessions.execution.run import Job
    from envbox.sessions.launch.container import Launch


@click.command()
@notebooks_argument
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    help="A file for the result, or a folder; default: NAME.out.ipynb beside it.",
)
@click.option("--inplace", is_flag=True, help="Write the outputs into the notebook itself.")
@click.option(
    "-p",
    "--parameters",
    "typed",
    multiple=True,
    metavar="NAME=VALUE",
    help="Set a parameter: a number, True, False, None, or else a text.",
)
@click.option(
    "-r", "--parameters_raw", "raw", multiple=True, metavar="NAME=TEXT", help="The same, always a text."
)
@click.option(
    "-y",
    "--parameters_yaml",
    "yaml",
    multiple=True,
    metavar="YAML",
    help="Set several, such as '{a: [1, 2]}'.",
)
@click.option(
    "-f", "--parameters_file", "files", multiple=True, metavar="FILE", help="Set those in a file of YAML."
)
@click.option(
    "-j", "--jobs", type=click.IntRange(1), default=1, metavar="N", help="How many notebooks to run at once."
)
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), metavar="S", help="Most seconds for a cell."
)
@click.option("-k", "--kernel", metavar="NAME", help="The kernelspec to take, instead of the notebook's own.")
@click.option("--html", is_flag=True, help="Write a page to look at as well, beside the result.")
@click.option(
    "--html-scripts", is_flag=True, help="The same, in which what the notebook has put out may run scripts."
)
@name_option
@frozen_option
@long_launch_options
@click.pass_obj
def exec_(invocation: Invocation, /, notebooks: tuple[str, ...], name: str | None, **options: Any) -> None:
    """Run notebooks in their environment, cell by cell, and write the results.

    \b
    envbox exec maps.ipynb                       the result is maps.out.ipynb
    envbox exec maps.ipynb -o june.ipynb -p month=6
    envbox exec *.ipynb -o results/ --jobs 4 --html

    The environment is the one that a notebook is bound to (envbox stamp), or NAME. A result has all outputs
    until a cell fails, takes longer than --timeout, or Ctrl-C; it records the lockfile and the image that
    made it. With -p, a cell with the parameters follows the one that is tagged `parameters`, as papermill
    has it. Exit code 1 when a notebook fails, with the cell's number, source and traceback.
    """
    from envbox.engine.find import find_engine
    from envbox.sessions.execution.batch import run_batch
    from envbox.sessions.execution.parameters import parse_parameters
    from envbox.sessions.execution.run import RunWishes

    take = options.pop
    files = [invocation.here / path for path in take("files")]
    parameters = parse_parameters(take("typed"), take("raw"), take("yaml"), files)
    wishes = RunWishes(parameters, take("timeout"), take("kernel"), take("jobs"))
    scripts, where = take("html_scripts"), (take("output"), take("inplace"))
    html = take("html") or scripts
    jobs = _jobs(invocation, notebooks, name, where, options, html=html)

    def finished(job: Job) -> None:
        written = [job.result, *([_write_page(job, scripts=scripts)] if html else [])]
        for path in written:
            shown = path.relative_to(invocation.here) if path.is_relative_to(invocation.here) else path
            write_data(f"{shown}\n")
        sys.stdout.flush()

    is_here = all(job.launch.prefix is not None for job in jobs)
    engine = find_engine(invocation.settings) if is_here else invocation.engine
    run_batch(jobs, wishes, engine, invocation.settings, invocation.report, finished)


def _jobs(
    invocation: Invocation,
    notebooks: tuple[str, ...],
    name: str | None,
    where: tuple[str | None, bool],
    options: dict[str, Any],
    *,
    html: bool,
) -> list[Job]:
    """Return what is to run, each in its environment, which is made ready once."""
    from envbox.sessions.execution.batch import plan_results
    from envbox.sessions.execution.run import Job

    output, in_place = where
    if output is not None and in_place:
        raise click.UsageError("--output and --inplace exclude each other")
    paths = [(shown, invocation.here / shown) for shown in dict.fromkeys(notebooks)]
    results = plan_results(paths, None if output is None else invocation.here / output, in_place=in_place)
    launches: dict[tuple[Path, str], Launch] = {}
    jobs = []
    for shown, path in paths:
        if shown not in results:
            invocation.report.say(f"{shown} is the result of another that is named: it is not run")
            continue
        own, environment = _environment(invocation, shown, name)
        written = [results[shown], *([results[shown].with_suffix(".html")] if html else [])]
        own.check([], [path] if path.is_file() else [], "launch", written)
        key = (own.root, environment)
        if key not in launches:
            launches[key] = prepare_launch(own, environment, "exec", (), dict(options))
        jobs.append(Job(shown, path, results[shown], launches[key]))
    return jobs


def _environment(invocation: Invocation, notebook: str, name: str | None) -> tuple[Invocation, str]:
    """Return the project of a notebook, and the environment that it shall run in."""
    if name is not None:
        return invocation, name
    found = invocation.for_notebook(notebook)
    if found is None:
        from envbox.errors import NotebookError

        raise NotebookError(f"{notebook} is not a notebook", "notebooks are files whose names end in .ipynb")
    return found[0], found[0].named(str(found[1])).name  # whoever launches it asks


def _write_page(job: Job, *, scripts: bool) -> Path:
    """Write the page of a result."""
    from envbox.sessions.execution.page import write_page

    path = job.result.with_suffix(".html")
    write_page(job.result, path, scripts=scripts)
    return path
