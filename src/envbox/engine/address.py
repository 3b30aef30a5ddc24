"""Where the engine is: the rule of the docker command, which the SDK does not follow by itself.

DOCKER_HOST, then DOCKER_CONTEXT, then `currentContext` in docker's configuration file, then the default.
https://docs.docker.com/engine/manage-resources/contexts/
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from envbox.errors import ToolError

DEFAULT_URL = "unix:///var/run/docker.sock"


@dataclass(frozen=True, slots=True)
class Address:
    """An engine's address.

    :param source: who says so, for people
    :param context: the docker context that it is of, None when it is of none
    """

    url: str
    source: str
    context: str | None = None

    @property
    def socket_path(self) -> Path | None:
        """The path of a Unix socket, None for every other kind."""
        if not self.url.startswith("unix://"):
            return None
        return Path("/" + self.url.removeprefix("unix://").lstrip("/"))

    def __str__(self) -> str:
        return f"{self.url} ({self.source})"


def find_address(environ: Mapping[str, str]) -> Address:
    """Find the address as the docker command does.

    :raises ToolError: when docker's configuration cannot be read, or names a context that is not there
    """
    if host := environ.get("DOCKER_HOST"):
        return Address(host, "from DOCKER_HOST")
    folder = _config_folder(environ)
    context = environ.get("DOCKER_CONTEXT") or _read_json(folder / "config.json").get("currentContext")
    if not context or context == "default":
        return Address(DEFAULT_URL, "docker's default")
    meta = _read_json(folder / "contexts" / "meta" / sha256(context.encode()).hexdigest() / "meta.json")
    host = meta.get("Endpoints", {}).get("docker", {}).get("Host")
    if not host:
        raise ToolError(
            f"the docker context {context!r} is not there",
            "docker context ls, then docker context use default, or set DOCKER_HOST",
        )
    return Address(host, f"docker context {context}", context)


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
