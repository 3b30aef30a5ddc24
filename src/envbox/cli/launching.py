"""`envbox shell` and `envbox run`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from envbox.cli.context import Decorated, Session, frozen_option, name_argument

if TYPE_CHECKING:
    from envbox.launch.container import Kind, Launch

LAUNCH_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "-e",
        "--env",
        multiple=True,
        metavar="K[=V]",
        help="Set a variable in the container; without a value, the one it has here.",
    ),
    click.option("--env-file", metavar="FILE", help="Set variables from a file of NAME=VALUE lines."),
    click.option(
        "--volume",
        "volumes",
        multiple=True,
        metavar="HOST:DIR[:ro]",
        help="Mount a folder of this machine, or a named volume.",
    ),
    click.option(
        "-p",
        "--port",
        "ports",
        multiple=True,
        metavar="[HOST:]PORT",
        help="Publish a port of the container, on 127.0.0.1.",
    ),
    click.option("--network", metavar="NET", help="Join a network of the engine's; `none` for no network."),
    click.option("--memory", metavar="SIZE", help="Most memory it may take, such as 4g."),
    click.option("--cpus", metavar="N", help="Most CPUs it may use, such as 1.5."),
    click.option("--gpus", metavar="GPUS", help="GPUs to pass through, such as all."),
)


def launch_options(function: Decorated) -> Decorated:
    """Add the options that say what of this machine a container gets."""
    for option in reversed(LAUNCH_OPTIONS):
        function = option(function)
    return function


class CommandAfterDashes(click.Command):
    """A command line whose end, after `--` (or after NAME), is another program's own.

    `run NAME -- COMMAND…` and `run -- COMMAND…` differ only in where the dashes stand, which click hides.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep what comes after the first `--`, and a command that follows NAME without dashes, as it is."""
        if "--" in args:
            where = args.index("--")
            args, ctx.meta["command"] = args[:where], tuple(args[where + 1 :])
        else:  # the first word after NAME begins the command
            ctx.allow_interspersed_args = False
        return super().parse_args(ctx, args)


def prepare_launch(
    session: Session, name: str | None, kind: Kind, command: tuple[str, ...], options: dict[str, Any]
) -> Launch:
    """Make an environment's image ready and say what is to be started from it."""
    from dataclasses import replace

    from envbox.engine import find_engine
    from envbox.launch.session import LaunchOptions, check_launch, from_settings
    from envbox.ready import ready_image

    environment = session.environment(name)
    frozen = options.pop("frozen")
    wanted = LaunchOptions(kind=kind, command=command, here=session.here, **options)
    own = session.settings.for_environment(environment.name)
    launch = from_settings("", environment.name, session.project.root, own, wanted)
    check_launch(launch, find_engine(session.settings))  # before anything is made
    image = ready_image(environment, session.settings, session.engine, session.report, frozen=frozen)
    return replace(launch, image=image.id)


@click.command()
@name_argument
@frozen_option
@launch_options
@click.pass_obj
def shell(session: Session, /, name: str | None, **options: Any) -> None:
    """Open an interactive bash in an environment, with the project's directory mounted at /work.

    What is missing is made first: the lockfile, the image. The exit code is the shell's.
    """
    from envbox.launch.session import exec_session

    exec_session(prepare_launch(session, name, "shell", (), options), session.engine, session.settings)


@click.command(cls=CommandAfterDashes, options_metavar="[OPTIONS]")
@name_argument
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[--] [COMMAND]...")
@frozen_option
@launch_options
@click.pass_context
def run(ctx: click.Context, /, name: str | None, command: tuple[str, ...], **options: Any) -> None:
    """Run a command in an environment, with the project's directory mounted at /work.

    \b
    envbox run maps -- python clean.py < in.csv > out.csv

    Streams, signals and the exit code are the command's. Without a COMMAND, the one that envbox.toml has for
    the environment.
    """
    from envbox.launch.session import exec_session

    session = ctx.find_object(Session)
    assert session is not None
    command = (*command, *ctx.meta.get("command", ()))
    exec_session(prepare_launch(session, name, "run", command, options), session.engine, session.settings)
