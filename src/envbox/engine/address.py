"""Where the engine is: the rule of the docker command, which the SDK does not follow by itself.

DOCKER_HOST, then DOCKER_CONTEXT, then `currentContext` in docker's configuration file, then the default.
Where nothing listens there, podman's own places are looked at, which the docker command does not know.
https://docs.docker.com/engine/manage-resources/contexts/
https://docs.podman.io/en/latest/markdown/podman-system-service.1.html
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from envbox.errors import ToolError

DEFAULT_URL = "unix:///var/run/docker.sock"
_PODMAN_SOCKET = "podman/podman.sock"
_PATIENCE = 5  # seconds for a connection; a socket whose queue is full has somebody behind it


@dataclass(frozen=True, slots=True)
class Address:
    """An engine's address.

    :param source: who says so, for people
    :param context: the docker context that it is of, None when it is of none
    :param is_found: nobody has named it, and the docker command would not find it
    """

    url: str
    source: str
    context: str | None = None
    is_found: bool = False

    @property
    def socket_path(self) -> Path | None:
        """The path of a Unix socket, None for every other kind."""
        if not self.url.startswith("unix://"):
            return None
        return Path("/" + self.url.removeprefix("unix://").lstrip("/"))

    def __str__(self) -> str:
        return f"{self.url} ({self.source})"


def find_address(environ: Mapping[str, str]) -> Address:
    """Find the address as the docker command does; and podman's, where that would find nobody.

    :raises ToolError: when docker's configuration cannot be read, or names a context that is not there
    """
    if host := environ.get("DOCKER_HOST"):
        return Address(host, "from DOCKER_HOST")
    folder = _config_folder(environ)
    context = environ.get("DOCKER_CONTEXT") or _read_json(folder / "config.json").get("currentContext")
    if not context or context == "default":
        default = Address(DEFAULT_URL, "docker's default")
        candidates = default, *podman_addresses(environ)
        return next((address for address in candidates if _listens(address)), default)
    meta = _read_json(folder / "contexts" / "meta" / sha256(context.encode()).hexdigest() / "meta.json")
    host = meta.get("Endpoints", {}).get("docker", {}).get("Host")
    if not host:
        raise ToolError(
            f"the docker context {context!r} is not there",
            "docker context ls, then docker context use default, or set DOCKER_HOST",
        )
    return Address(host, f"docker context {context}", context)


def podman_addresses(environ: Mapping[str, str]) -> Iterator[Address]:
    """Yield where podman's own command looks, the caller's engine before root's."""
    if (said := environ.get("CONTAINER_HOST", "")).startswith("unix://"):
        yield Address(said, "from CONTAINER_HOST", is_found=True)
    if hasattr(os, "getuid"):
        runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
        yield Address(f"unix://{runtime}/{_PODMAN_SOCKET}", "podman's, this user's", is_found=True)
        yield Address(f"unix:///run/{_PODMAN_SOCKET}", "podman's, root's", is_found=True)


def _listens(address: Address) -> bool:
    """Return whether somebody is behind a socket, and lets us in. Nothing is sent."""
    if address.socket_path is None or not hasattr(socket, "AF_UNIX"):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_PATIENCE)
        try:
            connection.connect(str(address.socket_path))
        except TimeoutError:
            return True
        except OSError:
            return False
    return True


def _config_folder(environ: Mapping[str, str]) -> Path:
    if said := environ.get("DOCKER_CONFIG"):
        return Path(said)
    return (Path(environ["HOME"]) if environ.get("HOME") else Path.home()) / ".docker"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise ToolError(f"cannot read docker's configuration {path}: {error}", "mend or remove it") from error
    return value if isinstance(value, dict) else {}
