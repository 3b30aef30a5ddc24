"""The docker SDK's edge: its client for an address, and its errors in our words."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envbox.engine.address import Address
from envbox.errors import EnvboxError, ToolError

if TYPE_CHECKING:
    from docker import APIClient


def make_client(address: Address, version: str | None) -> APIClient:
    """Return the SDK's client of the engine at an address, with the TLS material that belongs to it.

    :param version: the API's, None to ask the engine for its newest
    :raises ToolError: when it does not answer, or is reached over ssh and the SDK's part for that is missing
    """
    if address.url.startswith("ssh://") and find_spec("paramiko") is None:
        raise ToolError(
            f"the engine at {address} is reached over ssh, for which paramiko is missing",
            "python -m pip install 'docker[ssh]', where envbox is installed",
        )
    import docker
    from docker.context import ContextAPI
    from docker.utils import kwargs_from_env

    tls: Any = False
    if address.context is not None:
        tls = ContextAPI.get_context(address.context).TLSConfig or False
    elif address.url.startswith(("tcp://", "https://")):
        tls = kwargs_from_env(dict(os.environ)).get("tls", False)
    with engine_errors(address, "be reached"):
        return docker.APIClient(
            base_url=address.url,
            version=version or "auto",
            tls=tls,
            use_ssh_client=address.url.startswith("ssh://"),
        )


@contextmanager
def engine_errors(address: Address, deed: str, *accepted: int) -> Iterator[None]:
    """Translate the SDK's errors.

    :param deed: what the engine was asked to do
    :param accepted: HTTP statuses that are as good as done
    :raises ToolError: with the engine's words
    """
    import docker.errors
    import requests

    try:
        yield
    except EnvboxError:
        raise
    except docker.errors.APIError as error:
        if error.status_code not in accepted:
            words = str(error.explanation or error).strip()
            raise ToolError(f"the engine could not {deed}: {words}") from error
    except (docker.errors.DockerException, requests.RequestException, OSError) as error:
        raise (_gone if _was_reached(error) else unreachable)(address, error) from error


def _was_reached(error: BaseException) -> bool:
    """Return whether a connection stood, and broke."""
    import requests

    aborted = isinstance(error, requests.exceptions.ChunkedEncodingError)
    return aborted or any(isinstance(e, (BrokenPipeError, ConnectionResetError)) for e in _causes(error))


def _gone(address: Address, error: BaseException) -> ToolError:
    return ToolError(
        f"the engine at {address} broke the connection off: {_words(_root_cause(error))}",
        "see whether it runs (docker version) and what its log says, then run the same again: it goes on",
    )


def unreachable(address: Address, error: BaseException) -> ToolError:
    """Say why an engine cannot be reached, and what to do."""
    cause = _root_cause(error)
    path = address.socket_path
    if isinstance(cause, PermissionError) and path is not None:
        return ToolError(f"no permission to use the engine's socket {path}", _permission_hint(path))
    return ToolError(
        f"no container engine answers at {address}: {_words(cause)}",
        "start Docker, or podman's socket (systemctl --user start podman.socket), or point DOCKER_HOST or a "
        "docker context at an engine that runs",
    )


def _words(cause: BaseException) -> str:
    return str(getattr(cause, "strerror", None) or cause)


def _root_cause(error: BaseException) -> BaseException:
    """Find the operating system's error inside the wrappings of urllib3, requests and the SDK."""
    return next((e for e in _causes(error) if isinstance(e, OSError) and e.errno is not None), error)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error, and all that are wrapped in it."""
    seen: list[BaseException] = []
    todo = [error]
    while todo:
        current = todo.pop()
        if not any(current is other for other in seen):
            yield current
            seen.append(current)
            inside = (current.__cause__, current.__context__, getattr(current, "reason", None), *current.args)
            todo += [e for e in inside if isinstance(e, BaseException)]


def _permission_hint(path: Path) -> str:
    if sys.platform != "linux":
        return f"see who may use {path}"
    import grp

    try:
        group = grp.getgrgid(path.stat().st_gid).gr_name
    except (OSError, KeyError):
        group = "docker"
    if group == "root":
        return f"see who may use {path}, or use an engine of your own (DOCKER_HOST)"
    return f"join its group, then log in again: sudo usermod -aG {group} $USER"
