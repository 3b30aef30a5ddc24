"""Who we are to a registry: what `docker login` left, in docker's configuration file or a credential helper.

Looked up only when a registry asks, for the host that asks, and kept in memory alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from envbox.registry.reference import DOCKER_HUB, HUB_NAMES


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and password, or an identity token that stands for both; or why there are none.

    :param problem: in words, when a credential helper failed
    """

    user: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    problem: str = ""

    def __bool__(self) -> bool:
        return bool(self.user or self.identity_token)


def find_credentials(host: str) -> Credentials:
    """Return what docker's configuration has for a registry's host; empty when it has nothing.

    A helper that fails is no reason to fail here: most images can be read by anybody.
    """
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    path = folder / "config.json"
    if not path.is_file():
        return Credentials()
    import docker.auth
    from docker.errors import DockerException

    registry = DOCKER_HUB if host in HUB_NAMES else host
    try:
        found = docker.auth.load_config(str(path)).resolve_authconfig(registry) or {}
    except (DockerException, OSError, ValueError) as error:
        return Credentials(problem=f"{path}: {error}")
    said = {str(key).lower(): str(value) for key, value in found.items() if value}
    return Credentials(said.get("username", ""), said.get("password", ""), said.get("identitytoken", ""))
