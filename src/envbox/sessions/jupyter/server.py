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
from dataclasses import replace
from pathlib import Path

from envbox.cache.in_use import release
from envbox.engine import Container, Engine, ExitState
from envbox.errors import LaunchError, ToolError
from envbox.files import disk_error, make_folder, write_whole
from envbox.image_paths import LOCK_LABEL
from envbox.report import Reporter
from envbox.sessions.jupyter.api import ServerEndpoint, answers, is_open, status
from envbox.sessions.jupyter.command import (
    NO_JUPYTER,
    NO_KERNEL,
    PAGES,
    ServeOptions,
    no_jupyter,
    no_kernel,
    server_launch,
    volume_launch,
)
from envbox.sessions.jupyter.servers import (
    IMAGE_LABEL,
    OPTIONS_LABEL,
    Server,
    container_name,
    last_lines,
    port_of,
    read_token,
    remove_empty,
    server_of,
    stop,
)
from envbox.sessions.launch.bindings import LOOPBACK
from envbox.sessions.launch.container import Launch, options_digest
from envbox.sessions.launch.session import NameTakenError, check_launch, create
from envbox.sessions.launch.signals import stopping_signals
from envbox.settings import Settings

FIRST_PORT, PORTS_TRIED = 8888, 100  # 8888 is Jupyter's own
POLL = 0.03  # seconds
STARTING = 10  # seconds that may lie between creating and starting a container


class _PortTakenError(LaunchError):
    """The engine could not publish the port."""


def serve(
    launch: Launch, engine: Engine, settings: Settings, options: ServeOptions, report: Reporter
) -> Server:
    """Start a server and wait until its API answers; or give the one that runs already.

    A dead container of the same name is replaced. Whatever ends this early, an interrupt too, leaves nothing.

    :raises LaunchError: when it cannot start, dies, or takes too long, with its last lines
    """
    check_launch(replace(launch, kind="notebook"), engine)
    launch = replace(launch, kind="notebook", ways=engine.ways)
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
            release()
            exit_code = engine.wait(server.container)
            if exit_code != 0:
                ending = engine.ending(server.container) or ExitState(exit_code)
                report.warn(_death(server.name, ending, engine, server.container).message)
            return exit_code
        except KeyboardInterrupt:
            report.say(f"stopping {server.name}")
            return 0
        finally:
            stop(server, engine)


def _start(launch: Launch, engine: Engine, settings: Settings, options: ServeOptions) -> Server:
    had_volume = engine.has_volume(container_name(launch))
    folder = settings.cache_dir / "servers" / container_name(launch)
    try:
        make_folder(folder, 0o700)
    except OSError as error:
        raise disk_error(folder, error) from error
    token = secrets.token_hex(24)
    token_path = folder / secrets.token_hex(4)  # two that start at once must not have each other's
    write_whole(token_path, token.encode(), mode=0o600)
    launch = replace(launch, labels={**launch.labels, OPTIONS_LABEL: _digest(launch, options, token)})
    try:
        if not had_volume:
            _make_volume(launch, engine, settings)
        for port in _candidates(options):
            with suppress(_PortTakenError):
                on_port = server_launch(launch, port, token_path, options)
                return _start_on(on_port, engine, settings, ServerEndpoint(port, token), options)
        if options.port is not None:
            raise LaunchError(
                f"port {options.port} is taken", "leave --server-port out to take the next free one"
            )
        last = FIRST_PORT + PORTS_TRIED - 1
        raise LaunchError(f"all ports from {FIRST_PORT} to {last} are taken", "name one: --server-port PORT")
    except BaseException:
        token_path.unlink(missing_ok=True)
        remove_empty(folder)
        if not had_volume:
            with suppress(ToolError):  # another was faster, and has it
                engine.remove_volume(container_name(launch))
        raise


def _make_volume(launch: Launch, engine: Engine, settings: Settings) -> None:
    """Make the volume of a server, unless it will be as it should by itself."""
    if launch.user_inside.uid == 0:
        return
    container = create(volume_launch(launch), engine, settings)
    try:
        engine.start(container)
        engine.wait(container)
    finally:
        engine.remove(container)


def _start_on(
    launch: Launch, engine: Engine, settings: Settings, door: ServerEndpoint, options: ServeOptions
) -> Server:
    container = create(launch, engine, settings)
    try:
        engine.start(container)
        _wait_ready(launch, engine, container, door, options)
        _check_closed(launch, door)
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
            f"{_client(engine)} unpause {found.name}; or envbox stop {launch.name}, to start anew",
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
    door = ServerEndpoint(port, token)
    _wait_ready(launch, engine, found.id, door, options)
    report.say(f"a server of {launch.name} runs here already, on port {port}")
    asked = _digest(launch, options, token)
    differs = {
        "from an older image": _is_of_another(found, launch),
        "with other options": found.labels.get(OPTIONS_LABEL) != asked,
    }
    if any(differs.values()):
        how = " and ".join(words for words, is_so in differs.items() if is_so)
        report.warn(f"it was started {how}; to change: envbox stop {launch.name}")
    server = server_of(found)
    if options.app is None:
        return server
    page = PAGES[options.app]
    if not answers(door, page):
        raise LaunchError(
            f"the server of {launch.name} that runs here has no {page}", f"envbox stop {launch.name}"
        )
    return replace(server, url=door.url(page))


def _client(engine: Engine) -> str:
    return Path(engine.client_argv()[0]).name


def _digest(launch: Launch, options: ServeOptions, token: str) -> str:
    """Return what was asked for, keyed with the token; which page shall come up is no matter of the
    server's.
    """
    key = " ".join([token, *([str(options.idle)] if options.idle else []), *["public"] * launch.is_public])
    return options_digest(launch, os.environ, key)


def _is_of_another(found: Container, launch: Launch) -> bool:
    """Return whether a server has another environment than the one to be launched: one lock has two roads
    to it.
    """
    if LOCK_LABEL in launch.labels:
        return found.labels.get(LOCK_LABEL) != launch.labels[LOCK_LABEL]
    return found.labels.get(IMAGE_LABEL) != launch.image


def _wait_ready(
    launch: Launch, engine: Engine, container: str, door: ServerEndpoint, options: ServeOptions
) -> None:
    deadline = time.monotonic() + options.seconds
    while (answer := status(door)) != 200:
        ending = engine.ending(container)
        if ending is not None:
            if ending.exit_code == NO_JUPYTER:
                raise no_jupyter(launch.name, options.app)
            if ending.exit_code == NO_KERNEL and launch.jupyter is not None:
                raise no_kernel(launch.name)
            raise _death(launch.name, ending, engine, container)
        if answer in (401, 403):
            raise LaunchError(
                f"the server of {launch.name} does not take its token",
                "JUPYTER_TOKEN or a Jupyter configuration in the environment stands against it",
            )
        if time.monotonic() > deadline:
            lines = last_lines(engine, container)
            raise LaunchError(
                f"the server of {launch.name} did not answer within {options.seconds:g} s{lines}"
            )
        time.sleep(POLL)


def _check_closed(launch: Launch, door: ServerEndpoint) -> None:
    """Refuse a server that takes everybody, whatever made it so.

    :raises LaunchError: when it does
    """
    if is_open(door):
        raise LaunchError(
            f"the server of {launch.name} answers without a token",
            "a Jupyter configuration in the environment or the project takes the token away; mend that",
        )


def _candidates(options: ServeOptions) -> Iterator[int]:
    """Yield ports worth trying. The engine has the last word; asking first is only quicker."""
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


def _death(name: str, ending: ExitState, engine: Engine, container: str) -> LaunchError:
    reason = "it was killed, out of memory" if ending.out_of_memory else f"exit code {ending.exit_code}"
    reason = f"{reason}, {ending.error}" if ending.error else reason
    hint = "give it more: --memory" if ending.out_of_memory else None
    return LaunchError(f"the server of {name} died: {reason}{last_lines(engine, container)}", hint)
