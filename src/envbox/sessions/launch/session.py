"""From settings and a command line to a running container.

A session is handed over to the engine's own client by exec, so signals, resizing, streams and the exit code
are right by its making and not by ours.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from envbox.engine import Engine
from envbox.errors import LaunchError
from envbox.files import held, is_regular
from envbox.image_paths import JUPYTER
from envbox.image_paths import PREFIX as IMAGE_PREFIX
from envbox.image_paths import WORK as IMAGE_PROJECT
from envbox.sessions.launch.bindings import Bind, parse_cpus, parse_memory, parse_port, parse_volume
from envbox.sessions.launch.container import Kind, Launch, client_env, run_argv
from envbox.sessions.launch.env_file import read_env_file
from envbox.sessions.launch.handover import hand_over
from envbox.sessions.launch.identity import write_identity
from envbox.sessions.launch.variables import (
    checked_variables,
    existing_file,
    import_folders,
    parse_variable,
    python_path,
)
from envbox.sessions.launch.watcher import SESSION_LABEL, leave_watcher
from envbox.settings import EnvironmentSettings, Settings

SHELL = ("bash",)
_PASSED = ("COLORTERM", "NO_COLOR", "FORCE_COLOR", "CLICOLOR")
# Entries of Debian's ncurses-base: a program in the container can use no other terminal.
_TERMINALS = re.compile(
    r"xterm(-(256color|color|mono))?|screen(-256color)?|tmux(-256color)?|linux|vt\d+|rxvt|dumb"
)


class NameTakenError(LaunchError):
    """Another container has the name."""


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """What a command line says about a launch; what it does not say comes from the settings.

    :param here: the caller's directory; the command starts in the same one, where that is in the project
    :param env: `NAME=VALUE`, or `NAME` for the value that it has here
    :param env_file: as `env_file` reads it; relative to `here`
    :param volumes: `HOST:CONTAINER[:ro]`, relative host paths from `here`
    :param ports: `[[ADDRESS:]HOST:]CONTAINER`
    :param gpus: `none` for none, whatever is set
    :param public: other machines may reach the ports, and the server
    """

    kind: Kind = "run"
    command: tuple[str, ...] = ()
    here: Path | None = None
    env: tuple[str, ...] = ()
    env_file: str | None = None
    volumes: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    network: str | None = None
    memory: str | None = None
    cpus: str | None = None
    gpus: str | None = None
    public: bool = False


def from_settings(
    image: str, name: str, project: Path, settings: EnvironmentSettings, options: LaunchOptions
) -> Launch:
    """Merge what is set for an environment with what the command line says.

    The command line's volumes and ports come beside those of the settings; of everything else it has the last
    word, variable by variable.

    :raises LaunchError: for a variable, file, volume, port or limit that cannot be
    """
    table = f"environments.{name}"
    here = (options.here or project).absolute()
    command = options.command or (SHELL if options.kind == "shell" else settings.command)
    if not command and options.kind == "run":
        raise LaunchError(
            f"no command to run in {name}",
            f"envbox run {name} -- COMMAND, or set `command` for it in envbox.toml",
        )
    folders = import_folders(project, settings.pythonpath, table)
    env: dict[str, str | None] = {**python_path(IMAGE_PROJECT, folders)}
    if settings.env_file:
        env |= read_env_file(existing_file(project, settings.env_file, table), os.environ)
    env |= checked_variables(settings.env, table)
    if options.env_file:
        env |= read_env_file(existing_file(here, options.env_file), os.environ)
    return Launch(
        image=image,
        name=name,
        project=project,
        command=tuple(command),
        kind=options.kind,
        folder=str(here.relative_to(project)) if here.is_relative_to(project) else ".",
        env=env | dict(map(parse_variable, options.env)),
        pythonpath=folders,
        mounts=(
            *(parse_volume(text, project, table) for text in settings.volumes),
            *(parse_volume(text, here) for text in options.volumes),
        ),
        ports=(
            *(parse_port(text, table, public=options.public) for text in settings.ports),
            *(parse_port(text, public=options.public) for text in options.ports),
        ),
        network=options.network or settings.network,
        memory=_limit(parse_memory, options.memory, settings.memory, table),
        cpus=_limit(parse_cpus, options.cpus, settings.cpus, table),
        gpus=None if (gpus := options.gpus or settings.gpus) == "none" else gpus,
        is_public=options.public,
    )


def on_prefix(launch: Launch, prefix: Path, env: Mapping[str, str], labels: Mapping[str, str]) -> Launch:
    """Start from an image that has no environment inside, with its prefix mounted, and all else as if it had.

    :param env: the variables that its own image has
    :param labels: that image's labels
    """
    return replace(
        launch,
        image_env=env,
        mounts=(Bind(prefix, IMAGE_PREFIX, read_only=True), *launch.mounts),
        labels={**labels, **launch.labels},
    )


def on_this_machine(
    launch: Launch, prefix: Path, seen_at: str, env: Mapping[str, str], labels: Mapping[str, str]
) -> Launch:
    """Start without a container.

    :param seen_at: the image's prefix: where that is put for this command alone; or where it is seen anyway
    :param env: the variables that the environment's image would have
    :param labels: that image's labels
    """
    labels = {**labels, **launch.labels}
    inside, outside = (python_path(root, launch.pythonpath) for root in (IMAGE_PROJECT, str(launch.project)))
    own_env = {**launch.env, **outside} if inside.items() <= launch.env.items() else launch.env
    return replace(launch, prefix=prefix, seen_at=seen_at, image_env=env, labels=labels, env=own_env)


def with_streams(launch: Launch) -> Launch:
    """Connect the launch to our streams: a terminal when all three are one, else stdin as it is."""
    tty = all(os.isatty(number) for number in (0, 1, 2))
    env: dict[str, str | None] = {name: None for name in _PASSED if name in os.environ}
    if tty:
        env["TERM"] = image_terminal(os.environ.get("TERM", "xterm"))
    return replace(launch, interactive=True, tty=tty, env=env | dict(launch.env))


def check_launch(launch: Launch, engine: Engine) -> None:
    """See what can be seen before there is an image. Nothing is asked of the engine.

    :raises LaunchError: when the engine is another machine's, the project is not there, or a server could not
        be reached
    """
    if launch.kind == "notebook" and launch.network == "none":
        raise LaunchError(
            "a server cannot be reached without a network, and `none` is set", "name one: --network bridge"
        )
    if engine.address.startswith("ssh://"):
        raise LaunchError(
            f"an engine over ssh can start nothing here: {launch.project} is not on the machine of "
            f"{engine.address}",
            "run envbox on that machine, or use an engine on this one: unset DOCKER_HOST, "
            "docker context use default",
        )
    if not engine.is_local:
        raise LaunchError(
            f"the engine at {engine.address} is another machine's: {launch.project} cannot be mounted there",
            "use an engine on this machine, or run envbox on that one",
        )
    if not launch.project.is_dir():
        raise LaunchError(f"there is no folder {launch.project}")
    if not _is_text(str(launch.project)):
        raise LaunchError(
            f"the engine cannot mount {launch.project}: its name is not UTF-8, and what it is told must be",
            "rename the folder, or do without a container: --engine host",
        )


def prepare(launch: Launch, engine: Engine, settings: Settings) -> Launch:
    """Add the files that give the user a name, and see that the engine can mount them.

    :raises LaunchError: as `check_launch`
    :raises ToolError: when the engine's client is not there
    """
    check_launch(launch, engine)
    launch = replace(launch, ways=engine.ways)
    identity = write_identity(launch.user_inside, settings.cache_dir)
    binds = tuple(Bind(path, target, read_only=True) for target, path in identity.items())
    return replace(launch, mounts=(*binds, *launch.mounts))


def exec_session(launch: Launch, engine: Engine, settings: Settings) -> NoReturn:
    """Become the engine's client, or on this machine the command, with our streams. The exit code is its own.

    :raises LaunchError: when the project cannot be mounted
    :raises ToolError: when the client is not there
    """
    if launch.prefix is not None:
        from envbox.sessions.launch.host import become

        become(launch)
    become_client(with_streams(launch), engine, settings)


def become_client(
    launch: Launch, engine: Engine, settings: Settings, *, with_parent: bool = False
) -> NoReturn:
    """Become the engine's client for a launch as it is.

    :param with_parent: end it when the process that has started us ends, however that does
    :raises LaunchError: when the project cannot be mounted
    :raises ToolError: when the client is not there
    """
    parent = os.getppid() if with_parent else 0
    client = engine.client_argv()
    session = os.urandom(8).hex()
    launch = prepare(launch, engine, settings)
    argv = run_argv(replace(launch, labels={**launch.labels, SESSION_LABEL: session}), client)
    watcher = leave_watcher(client, session, parent)
    mounted = _hold_mounted(launch)  # until the engine can say that a container has them
    hand_over(argv, client_env(launch, os.environ), (watcher, *mounted))


def _hold_mounted(launch: Launch) -> list[int]:
    """Open files that say, as long as they are open, that the prefixes that are to be mounted are in use."""
    binds = [m for m in launch.mounts if isinstance(m, Bind) and m.target in (IMAGE_PREFIX, JUPYTER)]
    records = [bind.source.parent / "record.json" for bind in binds]
    return [held(record) for record in records if is_regular(record)]


def create(launch: Launch, engine: Engine, settings: Settings) -> str:
    """Create a container that stays, and give its ID. What an interrupt leaves half-made is removed.

    :raises LaunchError: when the engine refuses it, with the engine's words
    """
    launch = prepare(replace(launch, stays=True), engine, settings)
    argv = run_argv(launch, engine.client_argv())
    # a session of its own: Ctrl-C must not kill the client while the engine goes on without it
    process = subprocess.Popen(
        argv,
        env=client_env(launch, os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        out, err = process.communicate()
    except BaseException:
        out, err = process.communicate()
        if process.returncode == 0:
            engine.remove(out.strip())
        raise
    if process.returncode != 0:
        if "is already in use" in err:
            raise NameTakenError(f"there is a container named {launch.container} already")
        raise LaunchError(f"the engine did not create a container for {launch.name}: {_last_line(err)}")
    return out.strip()


def image_terminal(terminal: str) -> str:
    """Return the terminal type to announce in a container: ours, if a Debian base knows it, else what is
    closest.
    """
    if _TERMINALS.fullmatch(terminal):
        return terminal
    return "xterm-256color"


def _is_text(path: str) -> bool:
    """Return whether a path is text, which on Linux it need not be."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _limit(
    parse: Callable[[str, str | None], str], ours: str | None, own: str | None, table: str
) -> str | None:
    if ours:
        return parse(ours, None)
    return parse(own, table) if own else None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = [line for line in lines if not line.startswith(("See '", "Run '"))]
    return (
        (said or ["it said nothing"])[-1]
        .removeprefix("docker: ")
        .removeprefix("Error: ")  # podman
        .removeprefix("Error response from daemon: ")
    )
