"""Jupyter servers in containers: one port on loopback, one token, one URL, ready when the server's API answers.

The token travels as a file that is mounted from a folder closed to everybody else, so it stands in no argument
list, label, environment or log. Where that file is, the engine knows: it is the source of the container's mount.
A server is a named container that stays when it dies, so that its last words can be read.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from envbox.bindings import LOOPBACK, Bind
from envbox.container import IMAGE_PROJECT, KIND_LABEL, NAME_LABEL, PROJECT_LABEL, Launch
from envbox.engine import Container, Ending, Engine
from envbox.errors import LaunchError, ToolError
from envbox.files import write_whole
from envbox.jupyter_api import Door, landing_path, status
from envbox.launch import NameTakenError, create
from envbox.report import Reporter
from envbox.settings import Settings
from envbox.signals import stopping_signals

PORT_LABEL, UID_LABEL, IMAGE_LABEL = "io.envbox.port", "io.envbox.uid", "io.envbox.image"
IMAGE_TOKEN = "/run/envbox/token"  # noqa: S105  # a path
FIRST_PORT, PORTS_TRIED = 8888, 100  # 8888 is Jupyter's own
GRACE = 5  # seconds that kernels have to end
NO_JUPYTER = 78  # EX_CONFIG of sysexits.h
LAST_LINES = 15
# Which of them there is, is known in the container.
_CHOOSE = (
    "for app in lab notebook server; do "
    'if command -v "jupyter-$app" >/dev/null; then exec "jupyter-$app" "$@"; fi; '
    f"done; exit {NO_JUPYTER}"
)


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What a command line says about a server.

    :param port: on this machine; None takes the first free one from 8888
    :param seconds: how long the server may take until it answers
    """

    port: int | None = None
    seconds: float = 120


@dataclass(frozen=True, slots=True)
class Server:
    """A server's container.

    :param name: the environment's
    :param url: with the token; None when it does not run, or its token cannot be read
    :param image: the ID of the image that it was started from
    :param state: the engine's word: running, exited, …
    :param created: seconds since the epoch
    :param token_path: the file with its token
    :param is_new: whether it was started just now
    """

    name: str
    container: str
    project: Path
    port: int
    url: str | None
    image: str
    state: str
    created: int
    token_path: Path | None = None
    is_new: bool = False


def server_argv(port: int, address: str, *, is_root: bool) -> tuple[str, ...]:
    """The command of a server, in the container.

    :param address: what it listens on there
    """
    return (
        *("sh", "-c", _CHOOSE, "jupyter", "--no-browser"),
        f"--ServerApp.ip={address}",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={IMAGE_PROJECT}",
        "--ServerApp.allow_remote_access=False",  # only local Host headers: no DNS rebinding
        '--ServerApp.terminado_settings={"shell_command": ["bash"]}',
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
        *(("--allow-root",) if is_root else ()),
    )


def server_launch(launch: Launch, port: int, token_path: Path) -> Launch:
    """The launch of a server on one port: from the loopback of this machine to the server, and nowhere else."""
    is_host = launch.network == "host"
    return replace(
        launch,
        kind="notebook",
        container=container_name(launch),
        command=server_argv(port, LOOPBACK if is_host else "0.0.0.0", is_root=launch.user.uid == 0),  # noqa: S104
        ports=launch.ports if is_host else (*launch.ports, f"{LOOPBACK}:{port}:{port}"),
        mounts=(*launch.mounts, Bind(token_path, IMAGE_TOKEN, read_only=True)),
        env={**launch.env, "JUPYTER_TOKEN_FILE": IMAGE_TOKEN, "SHELL": "/bin/bash"},
        labels={
            **launch.labels,
            PORT_LABEL: str(port),
            UID_LABEL: str(launch.user.uid),
            IMAGE_LABEL: launch.image,
        },
    )


def container_name(launch: Launch) -> str:
    """The name of a project's server: made of the environment, the project and the user, nothing else."""
    identity = f"{launch.user.uid}\0{launch.project}".encode("utf-8", "surrogateescape")
    return f"envbox-{launch.name}-{sha256(identity).hexdigest()[:8]}"


def serve(
    launch: Launch, engine: Engine, settings: Settings, options: ServeOptions, report: Reporter
) -> Server:
    """Start a server and wait until its API answers; or give the one that runs already.

    A dead container of the same name is replaced. Whatever ends this early, an interrupt too, leaves nothing.

    :raises LaunchError: when it cannot start, dies, or takes too long, with its last lines
    """
    if launch.network == "none":
        raise LaunchError("a server cannot be reached with --network none", "leave it out, or name a network")
    name = container_name(launch)
    with stopping_signals():
        while True:
            found = engine.container(name)
            if found is not None and found.is_running:
                return _join(found, launch, engine, options, report)
            if found is not None:
                engine.remove(found.id)
            try:
                return _start(launch, engine, settings, options)
            except NameTakenError:
                if engine.container(name) is None:  # else somebody was faster: theirs is as good
                    raise


def attend(server: Server, engine: Engine, report: Reporter, announce: Callable[[Server], None]) -> int:
    """Stay with a server until it ends or we are told to (Ctrl-C, SIGTERM, SIGHUP); then leave no container.

    :param announce: called first; whatever ends it, ends the server
    :returns: the server's exit code when it ended by itself, 0 when we were told to
    """
    with stopping_signals():
        try:
            announce(server)
            engine.wait(server.container)
            ending = engine.ending(server.container) or Ending(0)
            if ending.exit_code != 0:
                report.warn(_death(server.name, ending, engine, server.container).message)
            return ending.exit_code
        except KeyboardInterrupt:
            report.say(f"stopping {server.name}")
            return 0
        finally:
            stop(server, engine)


def servers(engine: Engine) -> tuple[Server, ...]:
    """The caller's servers on this engine, dead ones too, the oldest first."""
    labels = {KIND_LABEL: "notebook", UID_LABEL: str(os.getuid())}
    return tuple(map(_server, engine.containers(labels)))


def find(engine: Engine, wanted: str, project: Path) -> Server:
    """The server of an environment's name, in this project before others, or of a container's name.

    :raises LaunchError: when there is none, or there are several in other projects
    """
    known = servers(engine)
    by_container = [s for s in known if s.container == wanted]
    by_name = [s for s in known if s.name == wanted]
    found = by_container or [s for s in by_name if s.project == project] or by_name
    if not found:
        raise LaunchError(f"no server of {wanted}", "envbox ps lists those that there are")
    if len(found) > 1:
        raise LaunchError(f"which server of {wanted}?", f"name one: {', '.join(s.container for s in found)}")
    return found[0]


def logs(server: Server, engine: Engine, *, follow: bool = False) -> Iterator[bytes]:
    """What a server has written."""
    return engine.logs(server.container, follow=follow)


def stop(server: Server, engine: Engine) -> None:
    """End a server and its kernels, and remove its container. An interrupt ends them at once."""
    try:
        engine.stop(server.container, GRACE)
    finally:
        engine.remove(server.container)
        if server.token_path is not None:
            server.token_path.unlink(missing_ok=True)


def _start(launch: Launch, engine: Engine, settings: Settings, options: ServeOptions) -> Server:
    token_path = settings.cache_dir / "servers" / container_name(launch) / "token"
    token_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    token = secrets.token_hex(24)
    write_whole(token_path, token.encode(), mode=0o600)
    for port in _candidates(options):
        container = create(server_launch(launch, port, token_path), engine, settings)
        try:
            engine.start(container)
            _wait_ready(launch, engine, container, Door(port, token), options.seconds)
            return replace(_server(_existing(engine, container)), is_new=True)
        except BaseException as error:
            engine.remove(container)
            if not (isinstance(error, ToolError) and _says_taken(error, port)):
                raise
    if options.port is not None:
        raise LaunchError(f"port {options.port} is taken", "leave --port out to take the next free one")
    raise LaunchError(
        f"all ports from {FIRST_PORT} to {FIRST_PORT + PORTS_TRIED - 1} are taken", "name one: --port PORT"
    )


def _join(
    found: Container, launch: Launch, engine: Engine, options: ServeOptions, report: Reporter
) -> Server:
    token = _read_token(found)
    if token is None:
        raise LaunchError(
            f"a server of {launch.name} runs here, but its token cannot be read", f"envbox stop {launch.name}"
        )
    _wait_ready(launch, engine, found.id, Door(_port(found), token), options.seconds)
    report.say(f"a server of {launch.name} runs here already, on port {_port(found)}")
    if found.labels.get(IMAGE_LABEL) != launch.image:
        report.warn(f"it was started from an older image; to change: envbox stop {launch.name}")
    return _server(found)


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
            lines = _last_lines(engine, container)
            raise LaunchError(f"the server of {launch.name} did not answer within {seconds:g} s{lines}")
        time.sleep(0.03)


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
    return LaunchError(f"the server of {name} died: {reason}{_last_lines(engine, container)}", hint)


def _last_lines(engine: Engine, container: str) -> str:
    try:
        text = b"".join(engine.logs(container, LAST_LINES)).decode("utf-8", "replace").strip()
    except ToolError:
        return ""
    return f"; it wrote:\n{text}" if text else ""


def _no_jupyter(launch: Launch) -> LaunchError:
    own = f"environments/{launch.name}.yml"
    spec = own if (launch.project / own).is_file() else "its spec"
    return LaunchError(f"there is no Jupyter in {launch.name}", f"add jupyterlab to {spec}")


def _existing(engine: Engine, container: str) -> Container:
    found = engine.container(container)
    if found is None:
        raise LaunchError("the server's container was removed by somebody else")
    return found


def _port(container: Container) -> int:
    text = container.labels.get(PORT_LABEL, "")
    return int(text) if text.isdigit() else 0


def _read_token(container: Container) -> str | None:
    try:
        return Path(container.binds[IMAGE_TOKEN]).read_text(encoding="ascii").strip() or None
    except (KeyError, OSError, UnicodeDecodeError):
        return None


def _server(container: Container) -> Server:
    token = _read_token(container) if container.is_running else None
    door = Door(_port(container), token) if token else None
    bind = container.binds.get(IMAGE_TOKEN)
    return Server(
        name=container.labels.get(NAME_LABEL, ""),
        container=container.name,
        project=Path(container.labels.get(PROJECT_LABEL, "/")),
        port=_port(container),
        url=door.url(landing_path(door)) if door else None,
        image=container.labels.get(IMAGE_LABEL, container.image_id),
        state=container.state,
        created=container.created,
        token_path=Path(bind) if bind else None,
    )
