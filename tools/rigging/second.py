"""Engines beside the machine's own, for tests: other versions, other stores, in namespaces of their own.

Nothing is installed: an engine and all it needs are Debian's packages, unpacked into a tree in the rig's
folder. The machine's engine is not asked, not touched, and shares no network with these. They are root's, and
run containers without a network alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socket import AF_UNIX, socket
from typing import Any

from rigging import debian, progress, services, state
from rigging.places import Places
from rigging.services import Service
from rigging.state import RigError

_HERE = Path(__file__).parent
_TREE_VERSION = "1"
_MERGED = ("bin", "lib", "lib64", "sbin")
_FOLDERS = "dev etc/docker proc rig run sys tmp var/lib/containers var/tmp"
_SERVICE = "engine"
_DOCKERD = ("/usr/sbin/dockerd", "--config-file", "/rig/settings.json")
_PODMAN = "/usr/bin/podman --root /rig/data --cgroup-manager cgroupfs --runtime runc system service --time 0"


@dataclass(frozen=True, slots=True)
class Kind:
    """One engine that can be had.

    :param release: Debian's, that it is of
    :param program: run in the tree, where `/rig` is the engine's folder
    """

    release: str
    packages: tuple[str, ...]
    program: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)


def _docker(release: str, **settings: Any) -> Kind:
    apart = {
        "hosts": ["unix:///rig/engine.sock"],
        "data-root": "/rig/data",
        "exec-root": "/run/docker",
        "pidfile": "/run/docker.pid",
        "bridge": "none",
        "iptables": False,
    }
    return Kind(release, ("docker.io", "iptables"), _DOCKERD, {**apart, **settings})


KINDS = {
    "overlay2": _docker("trixie", **{"storage-driver": "overlay2"}),
    "containerd": _docker("trixie", features={"containerd-snapshotter": True}),
    "newer": _docker("forky", features={"containerd-snapshotter": True}),
    "old": _docker("bookworm", **{"storage-driver": "overlay2"}),
    "podman": Kind(
        "bookworm",
        ("podman", "runc", "conmon"),
        (*_PODMAN.split(), "unix:///rig/engine.sock"),
    ),
}
"""Docker 26.1 with either store, 28 or newer, 20.10, and podman 4.3."""


def start(places: Places, name: str, kind: str, size: int = 0) -> Path:
    """Have an engine running; its socket. One that died has what it had stored.

    :param size: of its store in MB, which then is in memory and ends with it; 0 for a folder on the disk
    :raises RigError: when it cannot be had here, or does not come up
    """
    if os.geteuid() != 0:
        raise RigError("only root can start a second engine", "run this as root, on Debian")
    found, home = KINDS[kind], _home(places, name)
    with _holding(places):
        tree = _unpacked(places, found)
        command = (sys.executable, str(_HERE / "apart.py"), str(tree), str(home), str(size), *found.program)
        settings = json.dumps(found.settings).encode()
        version = state.key_of([*command, settings, _HERE / "apart.py"])
        well = home / "engine.sock"
        service = Service(_SERVICE, command, lambda: _answers(well), patience=40, version=version)
        if not (services.process(_SERVICE, Places(home), version) and _answers(well)):
            services.stop(_SERVICE, Places(home))
            (home / "data").mkdir(parents=True, exist_ok=True)
            state.write_whole(home / "settings.json", settings)
            services.start(service, Places(home))
    return well


def stop(places: Places, name: str) -> bool:
    """End an engine and all that runs on it, and remove its data; True when there was one."""
    with _holding(places):
        return _stop(_home(places, name))


def running(places: Places) -> list[str]:
    """The engines that were started here."""
    found = (path.parents[1].name for path in (places.root / "engines").glob(f"*/run/{_SERVICE}.pid"))
    return sorted(name for name in found if process(places, name))


def process(places: Places, name: str) -> int | None:
    """The pid of the one process whose end is the end of the engine and of all that it runs."""
    return services.process(_SERVICE, Places(_home(places, name)))


def _home(places: Places, name: str) -> Path:
    return places.root / "engines" / name


def _stop(home: Path) -> bool:
    stopped = services.stop(_SERVICE, Places(home))
    shutil.rmtree(home, ignore_errors=True)
    return stopped


@contextmanager
def _holding(places: Places) -> Iterator[None]:
    """Hold the engines, which `up` does not care about and need not wait for."""
    with state.locked(Places(places.root / "engines")):
        yield


def _answers(path: Path) -> bool:
    try:
        with socket(AF_UNIX) as connection:
            connection.settimeout(3)
            connection.connect(str(path))
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: engine\r\n\r\n")
            return connection.recv(64).split(b" ")[1:2] == [b"200"]
    except OSError:
        return False


def _unpacked(places: Places, kind: Kind) -> Path:
    """The tree of Debian's packages that the engine runs in; their scripts are not run."""
    key = state.key_of([_TREE_VERSION, kind.release, *kind.packages])
    tree = places.root / "engines" / ".trees" / f"{kind.packages[0]}-{kind.release}-{key}"
    if tree.is_dir():
        return tree
    with progress.step(f"{kind.packages[0]} of Debian {kind.release}") as details:
        downloads = places.root / "engines" / ".debs" / key
        debs = _download(Places(downloads), kind)
        part = tree.with_name(f".{tree.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        for folder in (*_FOLDERS.split(), *(f"usr/{name}" for name in _MERGED)):
            (part / folder).mkdir(parents=True)
        for name in _MERGED:
            (part / name).symlink_to(f"usr/{name}")
        for deb in debs.values():
            subprocess.run(["dpkg-deb", "-x", deb, part], check=True)
        details.append(debian.fields(debs[kind.packages[0]])["Version"].strip())
        part.rename(tree)
        shutil.rmtree(downloads)
    return tree


def _download(where: Places, kind: Kind) -> dict[str, Path]:
    # `debian.download` is of one release, on whose text the channel and the base are keyed
    architecture = debian.native()
    (where.debs(architecture) / "partial").mkdir(parents=True, exist_ok=True)
    options = debian._apt_options(where, architecture, kind.release)
    debian._apt([*options, "update"])
    debian._apt([*options, "-y", "--no-install-recommends", "--download-only", "install", *kind.packages])
    return debian.available(where, architecture)
