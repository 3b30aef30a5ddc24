"""Processes that outlive the command that started them: started apart, known by pid and start time, asked if
well.

A pid alone may by now be somebody else's; with the time its process started it may not. What the rig did not
start it does not stop.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rigging import state
from rigging.places import Places
from rigging.state import RigError


@dataclass(frozen=True, slots=True)
class Service:
    """A process of the rig's.

    :param is_well: asks the service itself
    :param version: of what it runs; one that runs another version is started anew
    """

    name: str
    command: tuple[str, ...]
    is_well: Callable[[], bool]
    environment: tuple[tuple[str, str], ...] = ()
    patience: float = 20.0
    version: str = "-"


def ensure(service: Service, places: Places) -> bool:
    """Have the service running and well; True when it had to be started.

    :raises RigError: when it does not come up, with the end of what it wrote
    """
    if process(service.name, places, service.version) and service.is_well():
        return False
    stop(service.name, places)
    start(service, places)
    return True


def start(service: Service, places: Places) -> None:
    """Start the service and wait until it is well."""
    places.run.mkdir(parents=True, exist_ok=True)
    log = places.run / f"{service.name}.log"
    with log.open("wb") as file:
        child = subprocess.Popen(
            service.command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, **dict(service.environment)},
            start_new_session=True,
            cwd="/",
        )
    state.write_whole(
        _pid_file(service.name, places), f"{child.pid} {_started(child.pid)} {service.version}\n".encode()
    )
    deadline = time.monotonic() + service.patience
    while time.monotonic() < deadline:
        if child.poll() is not None:
            break
        if service.is_well():
            return
        time.sleep(0.03)
    stop(service.name, places)
    words = log.read_text(encoding="utf-8", errors="replace").strip()[-1500:]
    raise RigError(f"{service.name} did not come up: {words or 'it wrote nothing'}", f"its log is {log}")


def process(name: str, places: Places, version: str | None = None) -> int | None:
    """The pid of a service that the rig started and that still runs, in this version if one is given."""
    try:
        pid, started, running = _pid_file(name, places).read_text().split()[:3]
    except (OSError, ValueError):
        return None
    if version is not None and running != version:
        return None
    return int(pid) if _started(int(pid)) == started else None


def stop(name: str, places: Places) -> bool:
    """Stop a service that the rig started; True when there was one."""
    pid = process(name, places)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + 10
        while process(name, places) is not None:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
    _pid_file(name, places).unlink(missing_ok=True)
    return pid is not None


def _pid_file(name: str, places: Places) -> Path:
    return places.run / f"{name}.pid"


def _started(pid: int) -> str | None:
    """When a process started, in clock ticks since boot; None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] == "Z" else fields[19]


def port(places: Places, name: str) -> int:
    """The port of a service: chosen once and kept, so that what `env` printed stays true.

    A port that somebody else has taken meanwhile is given up for a new one.
    """
    kept = state.read(places).get("ports", {})
    number = kept.get(name)
    if number and (process(name, places) or _is_free(number)):
        return int(number)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    state.record(places, ports={**state.read(places).get("ports", {}), name: number})
    return int(number)


def _is_free(number: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError:
            return False
    return True


def answers(url: str, header: Sequence[str] = ()) -> bool:
    """Whether a GET of `url` on this machine is answered with success.

    :param header: the name and value of a header that the answer must have
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=3) as response:
            return not header or header[1] in (response.headers.get(header[0]) or "")
    except (urllib.error.URLError, OSError):
        return False
