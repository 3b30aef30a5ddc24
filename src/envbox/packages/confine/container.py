"""A program in a container of the engine, where this machine itself has no way to confine it.

The container's image is made from scratch: nothing but this machine's C library. No network, a read-only
root, no capabilities and none to be gained, an unprivileged user, bounds on processes and memory, the
engine's own filter of system calls; of this machine, it sees the program's folder, to read.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import subprocess
import sys
import tarfile
from dataclasses import replace
from functools import cache
from pathlib import Path

from envbox.errors import ToolError
from envbox.packages.confine.converse import (
    Done,
    Files,
    OwnProcess,
    Program,
    Request,
    Started,
    converse,
    start_process,
)
from envbox.packages.confine.launch import c_library
from envbox.packages.confine.syscalls import MACHINES

_FOLDER = "/python"
_REPOSITORY = "envbox/confined"
_PATIENCE = 120.0  # seconds for an engine's answer
_MORE = 60  # seconds that a container's start may take
_NOBODY = "65534:65534"


def obstacle() -> str | None:
    """Say in words what stands against it; None when nothing does."""
    if sys.platform != "linux" or platform.machine() not in MACHINES:
        return f"not on {sys.platform} on {platform.machine()}"
    try:
        _image()
    except ToolError as error:
        return error.message
    return None


@cache
def _client() -> tuple[str, ...]:
    from envbox.engine.address import find_address
    from envbox.engine.client import find_client

    address = find_address(os.environ)
    if address.socket_path is None:
        raise ToolError(f"the engine at {address} cannot mount folders of this machine")
    return find_client(address, is_podman="podman" in address.url).argv


@cache
def _image() -> str:
    """Have the image in the engine; its tag says what is in it."""
    archive = _archive(c_library(MACHINES[platform.machine()]))
    name = f"{_REPOSITORY}:{hashlib.sha256(archive).hexdigest()[:16]}"
    if _asked("image", "inspect", name).returncode:
        done = _asked("import", "-", name, data=archive)
        if done.returncode:
            raise ToolError(done.stderr.decode(errors="replace").strip()[-300:])
    return name


def _asked(*words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            [*_client(), *words], input=data, capture_output=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolError(f"the engine does not answer: {error}") from error


def _archive(files: list[tuple[str, str]]) -> bytes:
    """Return a tar of files and the folder to mount on, the same at any time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folder = tarfile.TarInfo(_FOLDER.lstrip("/"))
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(folder)
        for source, target in files:
            data = Path(source).read_bytes()
            member = tarfile.TarInfo(target.lstrip("/"))
            member.size, member.mode = len(data), 0o755
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def container_argv(image: str, name: str, program: Program, request: Request) -> tuple[str, ...]:
    """Return what the engine's client is told."""
    variables = {**request.variables, "LD_LIBRARY_PATH": f"{_FOLDER}/lib"}
    return (
        *("run", "--rm", "--interactive", "--name", name, "--pull", "never"),
        *("--network", "none", "--read-only", "--workdir", "/", "--user", _NOBODY),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--pids-limit", "8"),
        *("--memory", str(request.memory), "--memory-swap", str(request.memory)),
        *("--ulimit", "nofile=64", "--ulimit", "core=0", "--ulimit", f"cpu={request.seconds}"),
        *("--ulimit", "fsize=0", "--ipc", "none", "--log-driver", "none", "--no-healthcheck"),
        *("--mount", f"type=bind,source={program.folder},target={_FOLDER},readonly"),
        *(word for key, value in variables.items() for word in ("--env", f"{key}={value}")),
        *("--entrypoint", f"{_FOLDER}/{program.executable}", image, *request.arguments),
    )


def run_contained(program: Program, request: Request) -> Done:
    """Run a program in a container of its own."""
    name = f"envbox-confined-{os.urandom(8).hex()}"
    patient = replace(request, seconds=request.seconds + _MORE)

    def start(files: Files) -> Started:
        argv = [*_client(), *container_argv(_image(), name, program, request)]
        process = start_process(argv, os.environ, files).process
        return OwnProcess(process, lambda: _asked("rm", "--force", name))

    return converse(start, program.who, patient)
