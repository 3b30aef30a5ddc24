"""`envbox shell` and `envbox run`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import click

from envbox.cli.beside import can_be_beside, lacks_jupyter, with_jupyter
from envbox.cli.context import Decorated, Invocation, frozen_option, name_argument
from envbox.cli.here import answers_none, prepare_here

if TYPE_CHECKING:
    from envbox.sessions.launch.container import Kind, Launch
    from envbox.sessions.launch.session import LaunchOptions
    from envbox.sessions.prepare import Road

LAUNCH_OPTIONS: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--engine",
        type=click.Choice(("docker", "host")),
        help="`host`: on this machine itself, without a container (Linux). Default: docker; host where none "
        "answers.",
    ),
    click.option(
        "--image", is_flag=True, help="Start from the environment's image, never from files in the cache."
    ),
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
    click.option(
        "--public",
        is_flag=True,
        help="Open the published ports, and a server's, to other machines; without it, to this one alone.",
    ),
    click.option("--network", metavar="NET", help="Join a network of the engine's; `none` for no network."),
    click.option("--memory", metavar="SIZE", help="Most memory it may take, such as 4g."),
    click.option("--cpus", metavar="N", help="Most CPUs it may use, such as 1.5."),
    click.option("--gpus", metavar="GPUS", help="GPUs to pass through, such as all; `none` for none."),
)


def launch_options(function: Decorated) -> Decorated:
    """Add the options that say what of this machine a container gets."""
    for option in reversed(LAUNCH_OPTIONS):
        function = option(function)
    return function


def long_launch_options(function: Decorated) -> Decorated:
    """Add those that count where nothing is published, without short names, which mean others there."""
    before = len(getattr(function, "__click_params__", ()))
    launch_options(function)
    declared: list[click.Option] = function.__click_params__  # type: ignore[attr-defined]
    declared[before:] = [option for option in declared[before:] if option.name not in ("ports", "public")]
    for option in declared[before:]:
        option.opts = [name for name in option.opts if name.startswith("--")]
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
    invocation: Invocation, name: str | None, kind: Kind, command: tuple[str, ...], options: dict[str, Any]
) -> Launch:
    """Make an environment ready, or pull the image that is named, and say what is to be started.

    :param options: the command line's; `app`: which Jupyter is asked for; `waits`: for all byte-code
    """
    from envbox.engine.find import find_engine
    from envbox.project import is_reference
    from envbox.sessions.launch.repository import repository_elsewhere
    from envbox.sessions.launch.session import LaunchOptions, check_launch, from_settings, on_prefix
    from envbox.sessions.prepare import ready_environment

    frozen, image = options.pop("frozen"), options.pop("image")
    engine = options.pop("engine", None)
    app, waits = options.pop("app", None), options.pop("waits", kind == "notebook")
    wanted = LaunchOptions(kind=kind, command=command, here=invocation.here, **options)
    if found := invocation.for_notebook(name):
        invocation, name = found[0], str(found[1])
    if name is not None and is_reference(name):
        return _prepare_pulled(invocation, name, wanted)
    environment = invocation.locked(name, use="launch")
    engine = engine or invocation.settings.engine
    own = invocation.settings.for_environment(environment.name)
    # what the command line says is checked before anything is made
    launch = from_settings("", environment.name, invocation.project.root, own, wanted)
    _warn_of_ports(invocation, launch)
    if launch.pythonpath:
        invocation.report.say(f"{environment.name}: Python also imports from {', '.join(launch.pythonpath)}")
    if engine != "host":
        check_launch(launch, find_engine(invocation.settings))
    is_without = kind == "notebook" and lacks_jupyter(invocation, environment, app, frozen=frozen)
    if engine == "host" or (engine is None and not image and answers_none(invocation, environment.name)):
        launch = prepare_here(invocation, environment, launch, frozen=frozen)
        return with_jupyter(invocation, environment, launch, app) if is_without else launch
    if is_without:
        can_be_beside(invocation, environment.name, app)
    # a server outlives the time that its byte-code takes, and starts many kernels
    road: Road = "image" if image else "prefix" if waits else "at once"
    ready = ready_environment(
        environment, invocation.settings, invocation.engine, invocation.report, frozen=frozen, road=road
    )
    launch = replace(launch, image=ready.image)
    if is_without:
        launch = with_jupyter(invocation, environment, launch, app)
    words = repository_elsewhere(launch)
    if words and kind in ("shell", "notebook"):
        invocation.report.say(words)
    elif words:
        invocation.report.detail(words)
    if ready.prefix is None:
        return replace(launch, labels=ready.labels)
    return on_prefix(launch, ready.prefix, ready.env, ready.labels)


def start(invocation: Invocation, launch: Launch) -> NoReturn:
    """Become what is to be started."""
    from envbox.engine.find import find_engine
    from envbox.sessions.launch.session import exec_session

    engine = invocation.engine if launch.prefix is None else find_engine(invocation.settings)
    exec_session(launch, engine, invocation.settings)


def _warn_of_ports(invocation: Invocation, launch: Launch) -> None:
    """Say what other machines can reach."""
    from envbox.sessions.launch.bindings import is_loopback

    others = [port for port in launch.ports if not is_loopback(port.rpartition(":")[0].rpartition(":")[0])]
    if launch.is_public and launch.kind == "notebook":
        invocation.report.warn(
            "other machines can reach the server, in the clear (http): whoever reads the token on its way "
            "can do here what you can"
        )
    if others:
        invocation.report.warn(f"other machines can reach {', '.join(others)}, if nothing stands between")


def _prepare_pulled(invocation: Invocation, name: str, wanted: LaunchOptions) -> Launch:
    """Pull what somebody pushed. None of the project's settings count for it, whatever its name is."""
    from envbox.engine.find import find_engine
    from envbox.images.pull import pull_to_launch
    from envbox.registry import parse_reference
    from envbox.sessions.launch.session import check_launch, from_settings
    from envbox.settings import EnvironmentSettings

    nothing, root = EnvironmentSettings(), invocation.project.root
    launch = from_settings("", name, root, nothing, wanted)
    _warn_of_ports(invocation, launch)
    check_launch(launch, find_engine(invocation.settings))
    image = pull_to_launch(parse_reference(name), invocation.settings, invocation.engine, invocation.report)
    # a server's name must not be that of an environment of this project, or of another version
    own = f"{image.name}-{image.config_digest[7:15]}" if wanted.kind == "notebook" else image.name
    return replace(launch, image=image.id, name=own)


@click.command()
@name_argument
@frozen_option
@launch_options
@click.pass_obj
def shell(invocation: Invocation, /, name: str | None, **options: Any) -> None:
    """Open an interactive bash in an environment, with the project's directory mounted at /work.

    What is missing is made first: the lockfile, the environment. The exit code is the shell's. NAME may also
    be a notebook's path, which means the environment that it is bound to; or an image in a registry that
    envbox has pushed, with its tag or digest: it is pulled.
    """
    start(invocation, prepare_launch(invocation, name, "shell", (), options))


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
    the environment. NAME may be a notebook's path, which means the environment that it is bound to.
    """
    invocation = ctx.find_object(Invocation)
    assert invocation is not None
    command = (*command, *ctx.meta.get("command", ()))
    start(invocation, prepare_launch(invocation, name, "run", command, options))
