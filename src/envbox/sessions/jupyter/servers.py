"""The Jupyter servers that there are: listed, found, read, stopped.

Nothing is written down about them here: the engine knows the containers, their labels say whose they are, and
the source of a mount is the file with the token.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from envbox.engine import Container, Engine
from envbox.errors import LaunchError, ToolError
from envbox.sessions.jupyter.api import ServerEndpoint, landing_path
from envbox.sessions.launch.container import KIND_LABEL, NAME_LABEL, PROJECT_LABEL, Launch

PORT_LABEL, UID_LABEL, IMAGE_LABEL = "io.envbox.port", "io.envbox.uid", "io.envbox.image"
OPTIONS_LABEL = "io.envbox.options"
IMAGE_TOKEN = "/run/envbox/token"  # noqa: S105  # a path
GRACE = 5  # seconds that kernels have to end
LAST_LINES = 15


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
    url: str | None = field(repr=False)
    image: str
    state: str
    created: int
    token_path: Path | None = None
    is_new: bool = False


def container_name(launch: Launch) -> str:
    """Return the name of a project's server: made of the environment, the project and the user, nothing
    else.
    """
    identity = f"{launch.user.uid}\0{launch.project}".encode("utf-8", "surrogateescape")
    return f"envbox-{launch.name}-{sha256(identity).hexdigest()[:8]}"


def servers(engine: Engine) -> tuple[Server, ...]:
    """Return the caller's servers on this engine, dead ones too, the oldest first."""
    labels = {KIND_LABEL: "notebook", UID_LABEL: str(os.getuid())}
    return tuple(map(server_of, engine.containers(labels)))


def find(engine: Engine, wanted: str, project: Path) -> Server:
    """Return the server of an environment's name in this project, or of a container's name anywhere.

    :raises LaunchError: when there is none
    """
    known = servers(engine)
    for server in known:
        if server.container == wanted or (server.name == wanted and server.project == project):
            return server
    elsewhere = ", ".join(s.container for s in known if s.name == wanted)
    raise LaunchError(
        f"no server of {wanted} in {project}",
        f"in another project there is {elsewhere}" if elsewhere else "envbox ps lists those that there are",
    )


def find_only(engine: Engine, project: Path, default: str | None = None) -> Server:
    """Return the one server of a project; of several, that of the default environment.

    :raises LaunchError: when there is none, or none can be chosen
    """
    here = [server for server in servers(engine) if server.project == project]
    if not here:
        raise LaunchError(f"no server runs in {project}", "envbox ps lists those of all projects")
    chosen = here if len(here) == 1 else [server for server in here if server.name == default]
    if not chosen:
        raise LaunchError(f"which server? {project} has {', '.join(s.name for s in here)}", "name one")
    return chosen[0]


def logs(server: Server, engine: Engine, *, follow: bool = False) -> Iterator[bytes]:
    """Yield what a server has written, line by line, without its token: Jupyter itself shows it now and
    then.
    """
    return _without(server.token_path, engine.logs(server.container, follow=follow))


def stop(server: Server, engine: Engine) -> None:
    """End a server and its kernels, and remove its container. An interrupt ends them at once."""
    try:
        engine.stop(server.container, GRACE)
    finally:
        engine.remove(server.container)
        if server.token_path is not None:
            server.token_path.unlink(missing_ok=True)
            browser_page(server.token_path).unlink(missing_ok=True)
            remove_empty(server.token_path.parent)


def remove_empty(folder: Path) -> None:
    """Remove a folder of tokens, unless another start's is in it."""
    with suppress(OSError):
        folder.rmdir()


def _without(token_path: Path | None, chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        token = token_path.read_bytes().strip() if token_path else b""
    except OSError:
        token = b""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield (line.replace(token, b"...") if token else line) + b"\n"
    yield rest.replace(token, b"...") if token else rest


def browser_page(token_path: Path) -> Path:
    """Return the private file that leads a browser to a server."""
    return token_path.with_suffix(".html")


def last_lines(engine: Engine, container: str) -> str:
    """Return what a container wrote last, as the end of a message; nothing when there is nothing."""
    try:
        text = b"".join(engine.logs(container, LAST_LINES)).decode("utf-8", "replace").strip()
    except ToolError:
        return ""
    return f"; it wrote:\n{text}" if text else ""


def port_of(container: Container) -> int:
    """Return the port that a server's container says it has, 0 when it says none."""
    text = container.labels.get(PORT_LABEL, "")
    return int(text) if text.isdigit() else 0


def read_token(container: Container) -> str | None:
    """Return the token of a server, None when it is not ours to read."""
    try:
        return Path(container.binds[IMAGE_TOKEN]).read_text(encoding="ascii").strip() or None
    except (KeyError, OSError, UnicodeDecodeError):
        return None


def server_of(container: Container) -> Server:
    """Return what there is to say of a server's container."""
    token = read_token(container) if container.is_running else None
    door = ServerEndpoint(port_of(container), token) if token else None
    bind = container.binds.get(IMAGE_TOKEN)
    return Server(
        name=container.labels.get(NAME_LABEL, ""),
        container=container.name,
        project=Path(container.labels.get(PROJECT_LABEL, "/")),
        port=port_of(container),
        url=door.url(landing_path(door)) if door else None,
        image=container.labels.get(IMAGE_LABEL, container.image_id),
        state=container.state,
        created=container.created,
        token_path=Path(bind) if bind else None,
    )
