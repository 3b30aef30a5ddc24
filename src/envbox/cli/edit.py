"""`envbox add` and `envbox remove`."""

from __future__ import annotations

import click

from envbox.cli.context import Invocation, complete_name
from envbox.errors import SolveError

name_option = click.option(
    "-n",
    "--name",
    metavar="NAME",
    shell_complete=complete_name,
    help="The environment, where there are more.",
)


@click.command()
@click.argument("packages", nargs=-1, required=True, metavar="PKG...")
@click.option("--pip", "from_pip", is_flag=True, help="Requirements for the spec's pip section, from PyPI.")
@name_option
@click.pass_obj
def add(invocation: Invocation, packages: tuple[str, ...], from_pip: bool, name: str | None) -> None:
    """Add packages to a spec and lock it, moving as little as can be.

    A PKG is a match spec, like numpy or "numpy>=2". One that is there already is changed. The spec keeps its
    comments, order and quotes; if there is no solution, nothing is written.
    """
    from envbox.locks.edit import add as add_packages
    from envbox.notebooks.suggestions import meant

    environment = invocation.environment(name)
    try:
        add_packages(
            environment, packages, "pip" if from_pip else "conda", invocation.settings, invocation.report
        )
    except SolveError as error:
        error.hint = (None if from_pip else meant(packages)) or error.hint
        raise


@click.command()
@click.argument("packages", nargs=-1, required=True, metavar="PKG...")
@click.option("--pip", "pip_only", is_flag=True, help="Only from the spec's pip section.")
@name_option
@click.pass_obj
def remove(invocation: Invocation, packages: tuple[str, ...], pip_only: bool, name: str | None) -> None:
    """Remove packages from a spec and lock it.

    What they alone needed leaves the lockfile; the rest stays as it is locked.
    """
    from envbox.locks.edit import remove as remove_packages

    remove_packages(invocation.environment(name), packages, pip_only, invocation.settings, invocation.report)
