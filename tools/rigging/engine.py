"""A Docker-compatible engine: the one that answers; else, for root on Debian, Debian's, started here.

An engine that runs is never touched. A second one is never started beside it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from rigging.places import Places
from rigging.services import Service, start
from rigging.state import RigError


def version() -> str | None:
    """What the engine behind the `docker` command says it is; None when none answers."""
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 and done.stdout.strip() else None


def ensure(places: Places) -> str:
    """Have an engine that answers; say which.

    :raises RigError: when there is none and none can be started here
    """
    if found := version():
        return f"found {found}"
    if os.environ.get("DOCKER_HOST"):
        raise RigError(f"no engine answers at DOCKER_HOST={os.environ['DOCKER_HOST']}", "unset DOCKER_HOST")
    if os.geteuid() != 0:
        raise RigError(
            "no engine answers, and only root can start one",
            "start Docker, and let this user reach its socket: sudo usermod -aG docker $USER",
        )
    if not shutil.which("dockerd"):
        _install()
        if found := version():  # Debian's package starts it where there is an init that can
            return f"installed {found}"
    if pid := running():
        raise RigError(f"an engine runs here (pid {pid}) but does not answer", "see its log; docker info")
    start(service(), places)
    return f"started {version()}"


def service() -> Service:
    """The engine as the rig starts it: the way the machine has it configured."""
    return Service("engine", ("dockerd",), lambda: version() is not None, patience=60)


def running() -> int | None:
    """The pid of an engine in this network namespace, whether it answers or not.

    A second one there would take down the first one's bridge.
    """
    for comm in Path("/proc").glob("[0-9]*/comm"):
        try:
            is_engine = comm.read_text().strip() == "dockerd"
            if is_engine and (comm.parent / "ns/net").readlink() == Path("/proc/self/ns/net").readlink():
                return int(comm.parent.name)
        except OSError:
            continue
    return None


def _install() -> None:
    if not shutil.which("apt-get"):
        raise RigError("no engine answers, and this is not Debian", "install and start Docker")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    packages = ["docker.io", "iptables", "ca-certificates"]
    for command in (
        ["apt-get", "-qq", "update"],
        ["apt-get", "-qq", "-y", "--no-install-recommends", "install", *packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        if done.returncode:
            raise RigError(f"{' '.join(command)}: {done.stderr.strip()[-1500:]}", "install Docker by hand")
    # from Debian 13 on the client is a package of its own
    if not shutil.which("docker"):
        subprocess.run(
            ["apt-get", "-qq", "-y", "install", "docker-cli"],
            capture_output=True,
            env=environment,
            check=False,
        )
