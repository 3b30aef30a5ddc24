"""Engines beside the machine's own, for tests: other versions, other stores, in namespaces of their own.

Nothing is installed: an engine and all it needs are Debian's packages, unpacked into a tree in the rig's
folder. The machine's engine is not asked, not touched, and shares no network with these. Docker's run
containers without a network alone; podman's have theirs, within the engine's own. All but one are root's.
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
from rigging.apart import Place
from rigging.places import Places
from rigging.services import Service
from rigging.state import RigError

_HERE = Path(__file__).parent
_TREE_VERSION = "2"
_MERGED = ("bin", "lib", "lib64", "sbin")
_FOLDERS = "dev etc/docker proc rig run sys tmp var/lib/containers var/tmp"
_SERVICE = "engine"
_SOCKET = "unix:///rig/engine.sock"
_DOCKERD = ("/usr/sbin/dockerd", "--config-file", "/rig/settings.json")
_PODMAN = (
    "/usr/bin/podman --root /rig/data --storage-driver overlay --cgroup-manager cgroupfs --runtime {}"
    " system service --time 0 {}"
)
_PODMANS = (
    *("podman", "conmon", "runc", "crun", "catatonit"),
    *("netavark", "iptables", "nftables", "uidmap", "slirp4netns", "passt"),
)
PERSON = 54321
"""The uid, and gid, of the user whose engine a rootless one is."""
_ALTERNATIVES = {"usr/sbin/iptables": "iptables-nft", "usr/sbin/ip6tables": "ip6tables-nft"}
"""Links that packages' scripts would make."""
_FILES = {
    "hosts": "127.0.0.1 localhost\n",
    "localtime": "",
    "resolv.conf": "nameserver 127.0.0.1\n",
    "passwd": f"root:x:0:0:root:/root:/bin/sh\nperson:x:{PERSON}:{PERSON}:person:/rig:/bin/sh\n",
    "group": f"root:x:0:\nperson:x:{PERSON}:\n",
    "subuid": f"person:{1 << 20}:{1 << 16}\n",
    "subgid": f"person:{1 << 20}:{1 << 16}\n",
}


@dataclass(frozen=True, slots=True)
class Kind:
    """One engine that can be had.

    :param release: Debian's, that it is of
    :param program: run in the tree, where `/rig` is the engine's folder
    :param uid: who it runs as
    """

    release: str
    packages: tuple[str, ...]
    program: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    uid: int = 0


def _docker(release: str, **settings: Any) -> Kind:
    apart = {
        "hosts": [_SOCKET],
        "data-root": "/rig/data",
        "exec-root": "/run/docker",
        "pidfile": "/run/docker.pid",
        "bridge": "none",
        "iptables": False,
    }
    return Kind(release, ("docker.io", "iptables"), _DOCKERD, {**apart, **settings})


def _podman(release: str, runtime: str, uid: int = 0) -> Kind:
    return Kind(release, _PODMANS, tuple(_PODMAN.format(runtime, _SOCKET).split()), uid=uid)


def _rootless(docker: Kind) -> Kind:
    """A Docker that is a user's, started as `dockerd-rootless.sh` does."""
    packages = ("rootlesskit", "uidmap", "slirp4netns", "util-linux", "iproute2")
    kit = "--net=slirp4netns --disable-host-loopback --copy-up=/etc --copy-up=/run --state-dir=/rig/kit"
    program = ("/usr/bin/rootlesskit", *kit.split(), docker.program[0], "--rootless", *docker.program[1:])
    own = {**docker.settings, "exec-root": "/rig/exec", "pidfile": "/rig/docker.pid"}
    return Kind(docker.release, (*docker.packages, *packages), program, own, PERSON)


KINDS = {
    "overlay2": _docker("trixie", **{"storage-driver": "overlay2"}),
    "containerd": _docker("trixie", features={"containerd-snapshotter": True}),
    "newer": _docker("forky", features={"containerd-snapshotter": True}),
    "old": _docker("bookworm", **{"storage-driver": "overlay2"}),
    "podman": _podman("bookworm", "runc"),
    "podman5": _podman("trixie", "runc"),
    "rootless": _podman("bookworm", "crun", PERSON),
    "rootless5": _podman("trixie", "crun", PERSON),
    "rootless-docker": _rootless(_docker("trixie", **{"storage-driver": "overlay2"})),
}
"""Docker 26.1 with either store, 28 or newer, 20.10; podman 4.3 and 5.4; three that are a user's."""

APPTAINER = Kind("sid", ("apptainer", "dash", "coreutils", "mount", "squashfuse", "fuse3"), ())
"""No engine, but what clusters have instead: a program that runs an image's file as whoever calls it."""


def start(places: Places, name: str, kind: str, size: int = 0, shared: Path | None = None) -> Path:
    """Have an engine running; its socket. One that died has what it had stored.

    :param size: of its store in MB, which then is in memory and ends with it; 0 for a folder on the disk
    :param shared: a folder that the engine sees where it is here; the socket is in there, at
        `podman/podman.sock`
    :raises RigError: when it cannot be had here, or does not come up
    """
    if os.geteuid() != 0:
        raise RigError("only root can start a second engine", "run this as root, on Debian")
    found, home = KINDS[kind], _home(places, name)
    well = shared / "podman" / "podman.sock" if shared else home / "engine.sock"
    with _holding(places):
        place = Place(str(_unpacked(places, found)), str(home), size, str(shared or ""), found.uid)
        told = f"unix://{well}" if shared else _SOCKET
        program = [word.replace(_SOCKET, told) for word in found.program]
        command = (sys.executable, str(_HERE / "apart.py"), place.dumps(), *program)
        settings = json.dumps(found.settings).replace(_SOCKET, told).encode()
        version = state.key_of([*command, settings, _HERE / "apart.py"])
        service = Service(_SERVICE, command, lambda: _answers(well), patience=40, version=version)
        if not (services.process(_SERVICE, Places(home), version) and _answers(well)):
            services.stop(_SERVICE, Places(home))
            (home / "data").mkdir(parents=True, exist_ok=True)
            state.write_whole(home / "settings.json", settings)
            well.parent.mkdir(exist_ok=True)
            os.chown(well.parent, found.uid, found.uid)
            services.start(service, Places(home))
    return well


def tree(places: Places, kind: Kind) -> Path:
    """The Debian tree that programs of a kind run in.

    :raises RigError: when it cannot be had here
    """
    with _holding(places):
        return _unpacked(places, kind)


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
    key = state.key_of([_TREE_VERSION, *_FILES.values(), kind.release, *kind.packages])
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
        for file, text in _FILES.items():
            (part / "etc" / file).write_text(text)
        for link, target in _ALTERNATIVES.items():
            if (part / link).with_name(target).exists():
                (part / link).symlink_to(target)
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
