"""The engine's own command-line client: which program it is, and how containers are asked of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from envbox.engine import RunPolicy
from envbox.engine.address import Address
from envbox.errors import ToolError


@dataclass(frozen=True, slots=True)
class Client:
    """A client that was found.

    :param argv: how it is called, for this engine
    """

    argv: tuple[str, ...]
    is_podman: bool = False


def find_client(address: Address, *, is_podman: bool) -> Client:
    """Find the client of the engine at an address.

    Podman's own knows what docker's refuses to hand on, so it goes first where the engine is podman. Docker's
    finds its engine by the same rule as we do, except where nobody named one.

    :raises ToolError: when none is installed
    """
    if is_podman and address.socket_path and (found := shutil.which("podman")):
        return Client((found, "--remote", "--url", address.url), is_podman=True)
    if found := shutil.which("docker"):
        return Client((found, "--host", address.url) if address.is_found else (found,))
    if is_podman:
        raise ToolError("neither podman nor docker is on the PATH", "install podman's command-line client")
    raise ToolError(
        "the docker command is not on the PATH", "install Docker's command-line client (docker-cli)"
    )


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What decides who a caller is in an engine's containers.

    :param runtime: what the engine starts containers with, by its name or path
    """

    is_rootless: bool
    runtime: str = ""

    def dumps(self) -> str:
        """Write it as `loads` reads it."""
        return f"{'rootless' if self.is_rootless else 'rootful'} {self.runtime}"

    @classmethod
    def loads(cls, text: str) -> EngineInfo:
        """Read what `dumps` gave.

        :raises ValueError: when it is something else
        """
        kind, runtime = text.split(" ", 1)
        if kind not in ("rootless", "rootful"):
            raise ValueError(kind)
        return cls(kind == "rootless", runtime)


def facts_of(info: Mapping[str, Any]) -> EngineInfo:
    """Take them from what an engine says of itself (`GET /info`).

    Docker says in its security options that it is rootless; podman does so in a field of its own.
    """
    is_rootless = info.get("Rootless") is True or "name=rootless" in (info.get("SecurityOptions") or ())
    return EngineInfo(is_rootless, str(info.get("DefaultRuntime") or ""))


def ways_of(facts: EngineInfo, *, is_podman: bool, of_podman: bool = False) -> RunPolicy:
    """Return how containers are asked for.

    A rootless engine is the user's own, and its containers have the user's rights as root; any other uid in
    there is one of those lent to him (subuid), whose files are not his. Podman can be asked to have it
    otherwise, by its own client; and with crun, to leave him his groups.

    :param is_podman: whether the client is podman's
    :param of_podman: whether the engine is
    """
    ways = RunPolicy(is_podman=is_podman, holds_ports=of_podman)
    if not facts.is_rootless:
        return ways
    if not is_podman:
        return replace(ways, caller="root")
    return replace(ways, caller="kept", keeps_groups="crun" in facts.runtime)
