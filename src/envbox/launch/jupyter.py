"""Start a Jupyter server in a container: a free port on loopback, a token, ready when its own API answers.

Nothing is guessed from a log or a sleep, and no port is trusted because it was free a moment ago: the engine
publishes it or refuses. The token travels as a file mounted from a folder closed to everybody else, so it
stands in no argument list, label, environment or log.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from envbox.engine import Container, Ending, Engine
from envbox.errors import LaunchError, ToolError
from envbox.files import write_whole
from envbox.inside import LOCK_LABEL
from envbox.inside import WORK as IMAGE_PROJECT
from envbox.launch.bindings import LOOPBACK, Bind
from envbox.launch.container import Launch, options_digest
from envbox.launch.jupyter_api import Door, status
from envbox.launch.servers import (
    IMAGE_LABEL,
    IMAGE_TOKEN,
    OPTIONS_LABEL,
    PORT_LABEL,
    UID_LABEL,
    Server,
    container_name,
    last_lines,
    port_of,
    read_token,
    remove_empty,
    server_of,
    stop,
)
from envbox.launch.session import NameTakenError, check_launch, create
from envbox.launch.signals import stopping_signals
from envbox.report import Reporter
from envbox.settings import Settings

FIRST_PORT, PORTS_TRIED = 8888, 100  # 8888 is Jupyter's own
NO_JUPYTER = 78  # EX_CONFIG of sysexits.h
POLL = 0.03  # seconds
STARTING = 10  # seconds that may lie between creating and starting a container
# Which of them there is, is known in the container. JupyterLab would ask at each start whether it may fetch
# news: the answer is no, until somebody says otherwise in its settings.
_START = f"""\
settings=~/.jupyter/lab/user-settings/@jupyterlab/apputils-extension
news=$settings/notification.jupyterlab-settings
[ -e "$news" ] || {{ mkdir -p "$settings" && echo '{{"fetchNews": "false"}}' >"$news"; }} 2>/dev/null
for app in lab notebook server; do
  if command -v "jupyter-$app" >/dev/null; then exec "jupyter-$app" "$@"; fi
done
exit {NO_JUPYTER}
"""


class _PortTakenError(LaunchError):
    """The engine could not publish the port."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What a command line says about a server.

    :param port: on this machine; None takes the first free one from 8888
    :param seconds: how long the server may take until it answers
    """

    port: int | None = None
    seconds: float = 120


def server_argv(port: int, address: str, *, is_root: bool) -> tuple[str, ...]:
    """The command of a server, in the container.

    :param address: what it listens on there
    """
    return (
        *("sh", "-c", _START, "jupyter", "--no-browser"),
        f"--ServerApp.ip={address}",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={IMAGE_PROJECT}",
        "--ServerApp.allow_remote_access=False",  # only local Host headers: no DNS rebinding
        *(("--allow-root",) if is_root else ()),
    )


def server_launch(launch: Launch, port: int, token_path: Path) -> Launch:
    """The launch of a server on one port, which leads from the loopback of this machine to it."""
    is_host = launch.network == "host"
    return replace(
        launch,
        kind="notebook",
        container=container_name(launch),
        command=server_argv(port, LOOPBACK if is_host else "0.0.0.0", is_root=launch.user.uid == 0),  # noqa: S104
        ports=launch.ports if is_host else (*launch.ports, f"{LOOPBACK}:{port}:{port}"),
        mounts=(*launch.mounts, Bind(token_path, IMAGE_TOKEN, read_only=True)),
        env={**launch.env, "JUPYTER_TOKEN_FILE": IMAGE_TOKEN},
        labels={
            **launch.labels,
            PORT_LABEL: str(port),
            UID_LABEL: str(launch.user.uid),
            IMAGE_LABEL: launch.image,
        },
    )


def serve(
    launch: Launch, engine: Engine, settings: Settings, options: ServeOptions, report: Reporter
) -> Server:
    """Start a server and wait until its API answers; or give the one that runs already.

    A dead container of the same name is replaced. Whatever ends this early, an interrupt too, leaves nothing.

    :raises LaunchError: when it cannot start, dies, or takes too long, with its last lines
    """
    launch = replace(launch, kind="notebook")
    check_launch(launch, engine)
    name = container_name(launch)
    deadline = time.monotonic() + STARTING
    with stopping_signals():
        while True:
            found = engine.container(name)
            if found is not None and found.is_running:
                return _join(found, launch, engine, options, report)
            if found is not None and found.state == "created" and time.time() - found.created < STARTING:
                time.sleep(POLL)  # another envbox is about to start it
                continue
            if found is not None:
                stop(server_of(found), engine)
            if not os.access(launch.project, os.W_OK):
                report.warn(f"{launch.project} is read-only for you: what is changed there cannot be saved")
            try:
                return _start(launch, engine, settings, options)
            except NameTakenError:  # somebody was faster, and theirs is as good; it shows itself in a moment
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL)


def attend(server: Server, engine: Engine, report: Reporter, announce: Callable[[Server], None]) -> int:
    """Stay with a server until it ends or we are told to (Ctrl-C, SIGTERM, SIGHUP); then leave no container.

    :param announce: called first; whatever ends it, ends the server
    :returns: the server's exit code when it ended by itself, 0 when we were told to
    """
    with stopping_signals():
        try:
            announce(server)
            exit_code = engine.wait(server.container)
            if exit_code != 0:
                ending = engine.ending(server.container) or Ending(exit_code)
                report.warn(_death(server.name, ending, engine, server.container).message)
            return exit_code
        except KeyboardInterrupt:
            report.say(f"stopping {server.name}")
            return 0
        finally:
            stop(server, engine)


def _start(launch: Launch, engine: Engine, settings: Settings, options: ServeOptions) -> Server:
    folder = settings.cache_dir / "servers" / container_name(launch)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    token = secrets.token_hex(24)
    token_path = folder / secrets.token_hex(4)  # two that start at once must not have each other's
    write_whole(token_path, token.encode(), mode=0o600)
    launch = replace(
        launch, labels={**launch.labels, OPTIONS_LABEL: options_digest(launch, os.environ, token)}
    )
    try:
        for port in _candidates(options):
            with suppress(_PortTakenError):
                on_port = server_launch(launch, port, token_path)
                return _start_on(on_port, engine, settings, Door(port, token), options.seconds)
        if options.port is not None:
            raise LaunchError(
                f"port {options.port} is taken", "leave --server-port out to take the next free one"
            )
        last = FIRST_PORT + PORTS_TRIED - 1
        raise LaunchError(f"all ports from {FIRST_PORT} to {last} are taken", "name one: --server-port PORT")
    except BaseException:
        token_path.unlink(missing_ok=True)
        remove_empty(folder)
        raise


def _start_on(launch: Launch, engine: Engine, settings: Settings, door: Door, seconds: float) -> Server:
    container = create(launch, engine, settings)
    try:
        engine.start(container)
        _wait_ready(launch, engine, container, door, seconds)
        found = engine.container(container)
        if found is None or not found.is_running:
            raise LaunchError(f"the server of {launch.name} was stopped by somebody else")
        return replace(server_of(found), is_new=True)
    except BaseException as error:
        engine.remove(container)
        if isinstance(error, ToolError) and _says_taken(error, door.port):
            raise _PortTakenError(error.message) from error
        raise


def _join(
    found: Container, launch: Launch, engine: Engine, options: ServeOptions, report: Reporter
) -> Server:
    if found.state == "paused":
        raise LaunchError(
            f"a server of {launch.name} is there already, but it is paused",
            f"docker unpause {found.name}; or envbox stop {launch.name}, to start anew",
        )
    token = read_token(found)
    if token is None:
        raise LaunchError(
            f"a server of {launch.name} runs here, but its token cannot be read", f"envbox stop {launch.name}"
        )
    port = port_of(found)
    if options.port not in (None, port):
        raise LaunchError(
            f"a server of {launch.name} runs here already, on port {port} and not on {options.port}",
            f"envbox stop {launch.name} ends it; without --server-port it is taken as it is",
        )
    _wait_ready(launch, engine, found.id, Door(port, token), options.seconds)
    report.say(f"a server of {launch.name} runs here already, on port {port}")
    asked = options_digest(launch, os.environ, token)
    differs = {
        "from an older image": _is_of_another(found, launch),
        "with other options": found.labels.get(OPTIONS_LABEL) != asked,
    }
    if any(differs.values()):
        how = " and ".join(words for words, is_so in differs.items() if is_so)
        report.warn(f"it was started {how}; to change: envbox stop {launch.name}")
    return server_of(found)


def _is_of_another(found: Container, launch: Launch) -> bool:
    """Whether a server has another environment than the one to be launched: one lock has two roads to it."""
    if LOCK_LABEL in launch.labels:
        return found.labels.get(LOCK_LABEL) != launch.labels[LOCK_LABEL]
    return found.labels.get(IMAGE_LABEL) != launch.image


def _wait_ready(launch: Launch, engine: Engine, container: str, door: Door, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (answer := status(door)) != 200:
        ending = engine.ending(container)
        if ending is not None:
            raise (
                _no_jupyter(launch)
                if ending.exit_code == NO_JUPYTER
                else _death(launch.name, ending, engine, container)
            )
        if answer in (401, 403):
            raise LaunchError(
                f"the server of {launch.name} does not take its token",
                "JUPYTER_TOKEN or a Jupyter configuration in the environment stands against it",
            )
        if time.monotonic() > deadline:
            lines = last_lines(engine, container)
            raise LaunchError(f"the server of {launch.name} did not answer within {seconds:g} s{lines}")
        time.sleep(POLL)


def _candidates(options: ServeOptions) -> Iterator[int]:
    """Ports worth trying. The engine has the last word; asking first is only quicker."""
    if options.port is not None:
        yield options.port
        return
    for port in range(FIRST_PORT, FIRST_PORT + PORTS_TRIED):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        yield port


def _says_taken(error: ToolError, port: int) -> bool:
    words = r"port is already allocated|address already in use|ports are not available"
    return re.search(words, error.message) is not None and re.search(rf":{port}\b", error.message) is not None


def _death(name: str, ending: Ending, engine: Engine, container: str) -> LaunchError:
    reason = "it was killed, out of memory" if ending.out_of_memory else f"exit code {ending.exit_code}"
    reason = f"{reason}, {ending.error}" if ending.error else reason
    hint = "give it more: --memory" if ending.out_of_memory else None
    return LaunchError(f"the server of {name} died: {reason}{last_lines(engine, container)}", hint)


def _no_jupyter(launch: Launch) -> LaunchError:
    own = f"environments/{launch.name}.yml"
    spec = own if (launch.project / own).is_file() else "its spec"
    return LaunchError(f"there is no Jupyter in {launch.name}", f"add jupyterlab to {spec}")
