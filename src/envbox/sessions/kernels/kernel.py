"""A kernel in a container, for a client on this machine.

The client has chosen five ports and a key, and wrote them into a connection file that only its user can read.
That file is mounted; the ports are published on the loopback address, and nothing else is. The process that
the client has started becomes the engine's client, so the kernel's end is its end; the other way round a
watcher sees to it, also when the Jupyter that started it is no more.
https://jupyter-client.readthedocs.io/en/stable/kernels.html#connection-files
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NoReturn

from envbox.engine import Engine
from envbox.errors import LaunchError
from envbox.sessions.kernels.commands import list_argv, start_argv
from envbox.sessions.launch.bindings import LOOPBACK, Bind
from envbox.sessions.launch.container import Launch, client_env, run_argv
from envbox.sessions.launch.host import become, here_argv, here_env
from envbox.sessions.launch.session import become_client, prepare
from envbox.settings import Settings

KERNEL_LABEL = "io.envbox.kernel"
IMAGE_CONNECTION = "/run/envbox/connection.json"
PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
_HERE = ("127.0.0.1", "localhost", "::1", "")
_NO_PYTHON = 127


@dataclass(frozen=True, slots=True)
class Connection:
    """What a connection file says of where a kernel listens. Its key is left in the file.

    :param ports: of the five channels
    """

    path: Path
    transport: str
    ip: str
    ports: tuple[int, ...]


def read_connection(path: Path) -> Connection:
    """Read a connection file.

    :raises LaunchError: when it is none
    """
    try:
        said = json.loads(path.read_bytes())
        ports = tuple(int(said[name]) for name in PORTS)
        return Connection(path.absolute(), said.get("transport", "tcp"), said.get("ip", ""), ports)
    except OSError as error:
        raise LaunchError(f"cannot read the connection file {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LaunchError(f"{path} is not a connection file") from error


def kernel_launch(launch: Launch, kernel: str, connection: Connection) -> Launch:
    """Return the launch of a kernel for a connection file.

    :param kernel: its name inside the environment
    :raises LaunchError: when it could not be reached
    """
    if launch.prefix is not None:  # no container: it listens where the client says
        return replace(launch, kind="kernel", command=start_argv(kernel, str(connection.path), ""))
    label = sha256(f"{launch.user.uid}\0{connection.path}\0{connection.ports}".encode()).hexdigest()[:16]
    launch = replace(launch, kind="kernel", labels={**launch.labels, KERNEL_LABEL: label})
    if connection.transport == "ipc":  # sockets in a folder, which is mounted as it is
        folder = Path(connection.ip).absolute().parent
        mounts = (
            *launch.mounts,
            Bind(connection.path, IMAGE_CONNECTION, read_only=True),
            Bind(folder, str(folder)),
        )
        return replace(launch, mounts=mounts, command=start_argv(kernel, IMAGE_CONNECTION, connection.ip))
    if connection.transport != "tcp":
        raise LaunchError(f"a kernel cannot be reached over {connection.transport}", "use tcp or ipc")
    if launch.network == "none":
        raise LaunchError(
            f"a kernel of {launch.name} cannot be reached without a network, and `none` is set",
            f"set `network` of environments.{launch.name} to a network, or let the client use ipc",
        )
    mounts = (*launch.mounts, Bind(connection.path, IMAGE_CONNECTION, read_only=True))
    # a client connects as soon as it has started us, and then waits half a minute: ZeroMQ's handshake
    takes_none = launch.ways.holds_ports and launch.network is None and not launch.ports
    if launch.network == "host" or takes_none:
        command = start_argv(kernel, IMAGE_CONNECTION, LOOPBACK)
        return replace(launch, network="host", mounts=mounts, command=command)
    address = LOOPBACK if connection.ip in _HERE else connection.ip
    return replace(
        launch,
        mounts=mounts,
        ports=(*launch.ports, *(f"{address}:{port}:{port}" for port in connection.ports)),
        command=start_argv(kernel, IMAGE_CONNECTION, "0.0.0.0"),  # noqa: S104  # of its own network
    )


def become_kernel(launch: Launch, engine: Engine, settings: Settings) -> NoReturn:
    """Become the engine's client for a kernel. What an earlier start has left of the same one goes first.

    :raises LaunchError: when the project cannot be mounted
    :raises ToolError: when the engine fails
    """
    if launch.prefix is not None:
        become(launch)
    for container in engine.containers({KERNEL_LABEL: launch.labels[KERNEL_LABEL]}):
        engine.remove(container.id)  # a client that was killed is started anew, and its ports are the same
    become_client(launch, engine, settings, with_parent=True)


def kernels_inside(launch: Launch, engine: Engine, settings: Settings) -> dict[str, Any]:
    """Return the kernelspecs that an environment has, by name.

    :raises LaunchError: when it has none
    """
    import os

    launch = replace(launch, command=list_argv(), ports=())
    if launch.prefix is not None:
        argv, env = here_argv(launch), here_env(launch, os.environ)
    else:
        launch = prepare(launch, engine, settings)
        argv, env = run_argv(launch, engine.client_argv()), client_env(launch, os.environ)
    done = subprocess.run(
        argv,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode not in (0, _NO_PYTHON):
        raise LaunchError(f"{launch.name} does not start: {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    if not found:
        raise LaunchError(
            f"there is no kernel in {launch.name}", f"envbox add --name {launch.name} ipykernel"
        )
    return found


def choose(inside: Mapping[str, Any], wanted: str | None, name: str) -> str:
    """Return the kernel to take of those in an environment.

    :raises LaunchError: when the one that is wanted is not there, or none can be chosen
    """
    if wanted is not None and wanted not in inside:
        raise LaunchError(f"there is no kernel {wanted} in {name}", f"there is {', '.join(sorted(inside))}")
    chosen = wanted or ("python3" if "python3" in inside else None)
    if chosen is None and len(inside) > 1:
        raise LaunchError(f"which kernel? {name} has {', '.join(sorted(inside))}", "name one: --kernel NAME")
    return chosen or next(iter(inside))
