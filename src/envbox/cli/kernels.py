"""`envbox kernel add`, `list` and `remove`; and `run`, which kernelspecs call."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from envbox.cli.context import Invocation, json_option, name_argument, print_json
from envbox.cli.launch import prepare_launch
from envbox.cli.words import echo_line

# A kernel has what is set for its environment; the command line of a kernelspec says nothing else.
_AS_SET: dict[str, Any] = {"frozen": True, "image": False}

prefix_option = click.option(
    "--prefix",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="For the Jupyter that is installed there, instead of all of this user's.",
)
kernel_option = click.option(
    "-k", "--kernel", "inside", metavar="KERNEL", help="The kernelspec inside the environment."
)


@click.group()
def kernel() -> None:
    """Give your own Jupyter, or editor, kernels of locked environments.

    \b
    envbox kernel add maps       the launcher has "maps (locked)" from now on

    Such a kernel runs in a container of its own, with the project's directory mounted, and is gone when
    Jupyter stops it.
    """


env_option = click.option(
    "-e",
    "--env",
    multiple=True,
    metavar="NAME",
    callback=lambda ctx, param, value: tuple(map(_passed, value)),
    help="A variable that the kernel gets from the environment of Jupyter or the editor.",
)


def _passed(name: str) -> str:
    """Return a variable's name; a value would be in a file that others can read."""
    if not name or "=" in name:
        raise click.BadParameter("write NAME alone; a value that is fixed belongs to `env` in envbox.toml")
    return name


@kernel.command()
@name_argument
@kernel_option
@env_option
@prefix_option
@click.pass_obj
def add(
    invocation: Invocation, name: str | None, inside: str | None, env: tuple[str, ...], prefix: Path | None
) -> None:
    """Add a kernel of an environment; what is missing is made first: the lockfile, the environment.

    In a container it has the variables that are set for the environment, and of Jupyter's or the editor's own
    those that --env names, with the values that they have when it starts.
    """
    from envbox.engine.find import find_engine
    from envbox.sessions.kernels import kernel as running
    from envbox.sessions.kernels import specs

    if notebook := invocation.for_notebook(name):
        invocation, name = notebook[0], str(notebook[1])
    environment = invocation.locked(name)
    # byte-code is waited for here, so that no kernel has to
    options = {**_AS_SET, "frozen": False, "waits": True}
    launch = prepare_launch(invocation, name, "kernel", (), options)
    engine = find_engine(invocation.settings) if launch.prefix else invocation.engine
    found = running.kernels_inside(launch, engine, invocation.settings)
    chosen = running.choose(found, inside, environment.name)
    folder = specs.kernels_folder(prefix)
    made = specs.add(folder, environment.name, invocation.project.root, (chosen, found[chosen]), env)
    invocation.report.say(
        f"{made.display_name} is in {made.path}; Jupyter shows it after its page is loaded anew"
    )


@kernel.command()
@name_argument
@prefix_option
@click.pass_obj
def remove(invocation: Invocation, name: str | None, prefix: Path | None) -> None:
    """Remove a kernel. NAME is an environment's, or a kernelspec's as `list` shows it."""
    from envbox.sessions.kernels import specs

    wanted = invocation.project.environment().name if name is None else name
    gone = specs.remove(specs.kernels_folder(prefix), wanted, invocation.project.root)
    invocation.report.say(f"removed {gone.display_name}")


@kernel.command("list")
@prefix_option
@json_option
@click.pass_obj
def list_(invocation: Invocation, prefix: Path | None, as_json: bool) -> None:
    """List the kernels that lead to locked environments, of all projects."""
    from envbox.sessions.kernels import specs

    found = specs.known(specs.kernels_folder(prefix))
    if as_json:
        print_json([{**_json(kernel)} for kernel in found])
    elif not found:
        invocation.report.say("no kernels; envbox kernel add makes one")
    else:
        rows = [("NAME", "ENVIRONMENT", "PROJECT", "SHOWN AS"), *specs.readable(found)]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            echo_line("  ".join(cells).rstrip())


@kernel.command(hidden=True)
@name_argument
@click.option("-k", "--kernel", "inside", default="python3", metavar="KERNEL")
@click.option("-f", "--connection-file", required=True, type=click.Path(path_type=Path), metavar="FILE")
@env_option
@click.pass_obj
def run(
    invocation: Invocation, name: str | None, inside: str, connection_file: Path, env: tuple[str, ...]
) -> None:
    """Become a kernel of an environment, for the client that wrote a connection file."""
    from envbox.engine.find import find_engine
    from envbox.sessions.kernels.kernel import become_kernel, kernel_launch, read_connection

    connection = read_connection(connection_file)
    launch = prepare_launch(invocation, name, "kernel", (), {**_AS_SET, "env": env})
    here = Path(os.path.abspath("."))  # noqa: PTH100  # where the notebook is, with its symlinks
    if here.is_relative_to(launch.project):
        launch = replace(launch, folder=str(here.relative_to(launch.project)))
    engine = find_engine(invocation.settings) if launch.prefix else invocation.engine
    if launch.prefix is None:
        launch = replace(launch, ways=engine.ways)
    become_kernel(kernel_launch(launch, inside, connection), engine, invocation.settings)


def _json(kernel: Any) -> dict[str, Any]:
    keys = ("name", "path", "environment", "project", "kernel", "display_name")
    return {key: str(getattr(kernel, key)) for key in keys}
