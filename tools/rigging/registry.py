"""The registry: Debian's docker-registry, unpacked into the rig's folder, never installed.

Installing it would start a service on port 5000. The package's one program needs the C library alone.
"""

from __future__ import annotations

import json
from pathlib import Path

from rigging import debian, services, state
from rigging.places import Places
from rigging.services import Service

NAME = "registry"
DEB = "docker-registry"


def program(places: Places) -> Path:
    """The registry's program, unpacked when it is not there."""
    path = places.registry / "docker-registry"
    if not path.exists():
        for member, data in debian.contents(debian.available(places, debian.native())[DEB]):
            if member.name == "usr/bin/docker-registry":
                state.write_whole(path, data)
                path.chmod(0o755)
    return path


def service(places: Places) -> Service:
    """The registry as a service: loopback, plain http, deletion allowed, quiet."""
    number = services.port(places, NAME)
    settings = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(places.registry / "data")},
            "delete": {"enabled": True},
        },
        "http": {"addr": f"127.0.0.1:{number}", "secret": "rig", "relativeurls": True},
    }
    path = places.registry / "settings.yml"
    state.write_whole(path, json.dumps(settings).encode())  # JSON is YAML
    url = f"http://127.0.0.1:{number}/v2/"
    header = ("Docker-Distribution-Api-Version", "registry/2.0")
    return Service(NAME, (str(program(places)), "serve", str(path)), lambda: services.answers(url, header))
