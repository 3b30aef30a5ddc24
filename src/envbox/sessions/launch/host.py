"""Sessions without a container: a command on this machine, with an environment's prefix where it belongs.

`namespace` makes a mount namespace for the command; all else of the machine is as it is: files, network,
user. Where the machine allows none, the prefix is one that was made for the path at which it is. What of the
caller's variables would lead Python, or other programs of the environment, astray is left out.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from envbox.errors import LaunchError
from envbox.files import held
from envbox.image_paths import JUPYTER, PREFIX
from envbox.sessions.jupyter.command import (
    ServeOptions,
    beside_env,
    idle_argv,
    no_jupyter,
    no_kernel,
    place,
    programs,
)
from envbox.sessions.launch.bindings import ANY, LOOPBACK
from envbox.sessions.launch.caller_variables import inherited, path_here
from envbox.sessions.launch.container import Launch
from envbox.sessions.launch.handover import hand_over

NAMESPACE = Path(__file__).with_name("namespace.py")
NO_USER_SITE = "PYTHONNOUSERSITE"
_NO_BYTECODE, _BYTECODE_ELSEWHERE = "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"
_NEVER_THE_USERS = {
    NO_USER_SITE: "1",
    "R_LIBS_USER": "/dev/null",  # R takes what is a folder, and else a default in the home
    "JUPYTER_PREFER_ENV_PATH": "1",  # a kernel of the same name in the home does not go before
}
_OWN = ("HOME", "PATH")  # of this machine, whatever an image would say


def obstacle() -> str | None:
    """Say in words what stands against mounting a prefix for a command; None when nothing does.

    It is tried, in a process that is a copy of this one: starting another takes three times as long.
    """
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        _try(write)
    os.close(write)
    with open(read, encoding="utf-8", errors="replace") as answer:  # noqa: PTH123  # a handle, not a path
        said = answer.read()
    _, status = os.waitpid(child, 0)
    if status == 0:
        return None
    return f"this machine does not let you mount a prefix for one command ({said})"


def _try(write: int) -> NoReturn:
    """Do in a copy of a process what `namespace` does, and end it; what goes wrong is written.

    Nothing else of that process may happen here, neither its handlers nor its buffers.
    """
    try:
        from envbox.sessions.launch import namespace

        try:
            namespace.enter_namespace()
            namespace.make_room(PREFIX)
            os._exit(0)
        except OSError as error:
            os.write(write, namespace.words(error).encode())
    finally:
        os._exit(1)


def check_here(launch: Launch) -> None:
    """See that a launch asks for nothing that only a container can have.

    :raises LaunchError: naming it
    """
    wants = {
        "volumes": bool(launch.mounts),
        f"the network {launch.network}": launch.network not in (None, "host", "bridge"),
        "a limit on memory": launch.memory is not None,
        "a limit on CPUs": launch.cpus is not None,
    }
    if wanted := [what for what, is_so in wants.items() if is_so]:
        raise LaunchError(
            f"{launch.name} is to have {', '.join(wanted)}, which takes a container",
            "leave that out, or use an engine: --engine docker",
        )
    if not launch.project.is_dir():
        raise LaunchError(f"there is no folder {launch.project}")


def is_possible() -> bool:
    """Return whether there can be sessions without a container: images are of Linux, and so are their
    packages.
    """
    return sys.platform == "linux"


def check_machine(name: str) -> None:
    """See that there can be sessions without a container here.

    :raises LaunchError: when there cannot
    """
    if not is_possible():
        raise LaunchError(f"{name} cannot run without a container: that takes Linux", "start Docker")


def here_argv(launch: Launch) -> tuple[str, ...]:
    """Return the command of a launch on this machine. Values of variables do not stand in it."""
    assert launch.prefix is not None
    folder = os.path.normpath(launch.project / launch.folder)
    command = launch.command
    if launch.kind == "shell" and command == ("bash",):
        command = ("bash", "--rcfile", f"{launch.seen_at}/share/envbox/bashrc")
    is_mounted = launch.seen_at == PREFIX
    return (
        *(sys.executable, "-I", "-S", str(NAMESPACE)),
        *((str(launch.prefix), PREFIX) if is_mounted else ()),
        *((str(launch.jupyter), JUPYTER) if is_mounted and launch.jupyter else ()),
        "--",
        folder,
        f"{launch.seen_at}/share/envbox/entrypoint.sh",
        *command,
    )


def here_env(launch: Launch, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a launch on this machine: the caller's without what leaks, and the
    environment's.
    """
    env, own = inherited(environ), launch.image_env
    if "LANG" in own or "LC_ALL" in own:  # the spec asks for a language: no part of the caller's goes before
        env = {name: value for name, value in env.items() if name != "LANG" and not name.startswith("LC_")}
    env |= {name: value for name, value in own.items() if name not in _OWN}
    if not env.get("LANG") and not env.get("LC_ALL"):
        env["LANG"] = "C.UTF-8"
    env["PATH"] = path_here(environ, f"{launch.seen_at}/bin")
    env = {**_NEVER_THE_USERS, **env}
    if launch.seen_at != PREFIX and launch.user.uid == 0 and _BYTECODE_ELSEWHERE not in env:
        env[_NO_BYTECODE] = "1"  # root can write into what is sealed, and what changed is made anew
    for name, value in launch.env.items():
        if value is not None:
            env[name] = value
        elif name in environ:
            env[name] = environ[name]
    return env


# Jupyter's own settings and history are the user's here, and stay as they are.
_SERVER = """\
words=$1; hint=$2; programs=$3; place=$4; shift 4
for program in $programs; do
  if command -v "$place$program" >/dev/null; then exec "$place$program" "$@"; fi
done
echo "error: $words" >&2
echo "hint: $hint" >&2
exit 1
"""


def server_here(launch: Launch, options: ServeOptions, *, browser: bool) -> Launch:
    """Return the launch of a Jupyter server on this machine, in the foreground: loopback, a token, the
    project.
    """
    assert launch.prefix is not None
    if launch.jupyter is not None and not list(launch.prefix.glob("share/jupyter/kernels/*/kernel.json")):
        raise no_kernel(launch.name)
    port, missing = options.port, no_jupyter(launch.name, options.app)
    words = (
        f"--ServerApp.ip={ANY if launch.is_public else LOOPBACK}",
        f"--ServerApp.root_dir={launch.project}",
        # only local Host headers, so no DNS rebinding, unless others shall come
        f"--ServerApp.allow_remote_access={launch.is_public}",
        *((f"--ServerApp.port={port}", "--ServerApp.port_retries=0") if port else ()),
        *idle_argv(options),
        *(() if browser else ("--no-browser",)),
        *(("--allow-root",) if launch.user.uid == 0 else ()),
    )
    said = (missing.message, missing.hint or "", programs(options), place(launch))
    env = {**launch.env, **beside_env(launch, os.environ)}
    return replace(launch, env=env, command=("sh", "-c", _SERVER, "jupyter", *said, *words))


def hold(launch: Launch) -> list[int]:
    """Open files that say, as long as they are open in any process, that the launch's prefixes are in use."""
    prefixes = [prefix.resolve() for prefix in (launch.prefix, launch.jupyter) if prefix]
    return [held(prefix.parent / "record.json") for prefix in prefixes]


def become(launch: Launch) -> NoReturn:
    """Become a launch's command, with our streams; the exit code is its own."""
    hand_over(here_argv(launch), here_env(launch, os.environ), hold(launch))
