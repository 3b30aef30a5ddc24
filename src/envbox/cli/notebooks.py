"""`envbox init`, `envbox stamp` and `envbox check`."""

from __future__ import annotations

from dataclasses import replace

import click

from envbox.cli.context import Invocation, json_option, print_json
from envbox.cli.edit import name_option
from envbox.cli.words import foreign

notebooks_argument = click.argument("notebooks", nargs=-1, required=True, metavar="NOTEBOOK...")


@click.command()
@click.argument("folder", required=False, metavar="[DIR]", type=click.Path(file_okay=False))
@click.option("-n", "--name", metavar="NAME", help="Write environments/NAME.yml instead of environment.yml.")
@click.pass_obj
def init(invocation: Invocation, folder: str | None, name: str | None) -> None:
    """Write a spec from what a directory has: notebooks, scripts, requirements.txt, pyproject.toml.

    Code is read, never run. What no package is known for stands in the spec as a comment.
    """
    from envbox.notebooks.init import init as write_spec
    from envbox.notebooks.init import spec_of
    from envbox.report import counted

    where = invocation.here / folder if folder else invocation.here
    invocation.at(where).check_written(spec_of(where, name))
    path, found = write_spec(where, name, invocation.settings, invocation.report)
    count = counted(len(found.conda) + len(found.pip))
    invocation.report.say(f"wrote {path} with {count}; next: envbox lock")


@click.command()
@notebooks_argument
@name_option
@click.pass_obj
def stamp(invocation: Invocation, notebooks: tuple[str, ...], name: str | None) -> None:
    """Bind notebooks to an environment, as it is locked now: one key in their metadata."""
    from envbox.notebooks.stamp import stamp as stamp_notebook

    environment = invocation.looked_at(name)
    for notebook in notebooks:
        invocation.check_written(invocation.here / notebook)
        changed = stamp_notebook(invocation.here / notebook, environment)
        invocation.report.say(f"{notebook} is {'now ' if changed else ''}bound to {environment.name}")


@click.command()
@notebooks_argument
@name_option
@json_option
@click.pass_obj
def check(invocation: Invocation, notebooks: tuple[str, ...], name: str | None, as_json: bool) -> int:
    """Check that a lockfile has what notebooks import, and their kernel; offline, running nothing.

    Silent when all is well; otherwise exit code 1, and what is wrong, with the command that mends it.
    """
    from envbox.notebooks.check import check as check_notebooks
    from envbox.project import is_lockfile_path

    paths = {n: invocation.here / n for n in notebooks}
    project = invocation.project
    if name is not None and is_lockfile_path(name):
        project = replace(project, environments=(invocation.locked(name),))
        name = project.environments[0].name
    elif any(not environment.has_spec for environment in project.environments):
        project = replace(project, environments=tuple(map(invocation.readable, project.environments)))
    found = check_notebooks(paths, project, name, invocation.as_written)
    if as_json:
        faults = (f for f in found if f.is_fault)
        print_json([{"notebook": f.notebook, "message": f.words, "hint": f.hint} for f in faults])
    for finding in () if as_json else found:
        click.echo(foreign.message(f"{finding.notebook}: {finding.words}"), err=True)
    for hint in dict.fromkeys(f.hint for f in found if f.hint and not as_json):
        click.echo(foreign.message(f"hint: {hint}"), err=True)
    return 1 if any(f.is_fault for f in found) else 0
