"""Sessions without a container: a command on this machine, with an environment's prefix where it belongs.

`entering` makes a mount namespace for the command; all else of the machine is as it is: files, network, user.
What of the caller's variables would lead Python, or other programs of the environment, astray is left out.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from envbox.errors import LaunchError
from envbox.files import held
from envbox.inside import JUPYTER, PREFIX
from envbox.launch.container import Launch
from envbox.launch.jupyter_command import ServeOptions, beside_env, idle_argv, no_jupyter, no_kernel, programs
from envbox.launch.variables import values_in

ENTERING = Path(__file__).with_name("entering.py")
ENTRYPOINT = f"{PREFIX}/share/envbox/entrypoint.sh"
BASHRC = f"{PREFIX}/share/envbox/bashrc"
NO_USER_SITE = "PYTHONNOUSERSITE"
# Set for another Python, conda environment, R or shell than the one that is started
_LEAKS = re.compile(
    r"PYTHON[A-Z0-9_]*|_?CONDA_?[A-Z0-9_]*|_?CE_[A-Z]+|MAMBA_[A-Z_]+|PIXI_[A-Z_]+|VIRTUAL_ENV[A-Z_]*|UV_[A-Z_]+"
    r"|PYENV_[A-Z_]+|R_HOME|R_LIBS[A-Z_]*|PERL5LIB|PERL5OPT|BASH_ENV|ENV|PS1|LD_LIBRARY_PATH|ENVBOX_ACTIVE"
)
_OTHERS = ("VIRTUAL_ENV", "CONDA_PREFIX")  # environments that are active here, and stand in PATH
_OWN = ("HOME", "PATH")  # of this machine, whatever an image would say


def obstacle() -> str | None:
    """Say in words what stands against sessions without a container; None when nothing does."""
    if sys.platform != "linux":
        return "only Linux can mount a prefix for one command"
    argv = [sys.executable, "-I", "-S", str(ENTERING), "--try", PREFIX]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    return f"this machine does not let you mount a prefix for one command ({done.stderr.strip()})"


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


def check_machine(name: str) -> None:
    """See that this machine lets us mount a prefix, before one is made.

    :raises LaunchError: when it does not
    """
    if words := obstacle():
        raise LaunchError(
            f"{name} cannot run without a container: {words}",
            "start Docker; or, on Linux, let users have namespaces: sysctl kernel.unprivileged_userns_clone, "
            "kernel.apparmor_restrict_unprivileged_userns, user.max_user_namespaces",
        )


def here_argv(launch: Launch) -> tuple[str, ...]:
    """The command of a launch on this machine. Values of variables do not stand in it."""
    assert launch.prefix is not None
    folder = os.path.normpath(launch.project / launch.folder)
    command = launch.command
    if launch.kind == "shell" and command == ("bash",):
        command = ("bash", "--rcfile", BASHRC)
    return (
        sys.executable,
        "-I",
        "-S",
        str(ENTERING),
        str(launch.prefix),
        PREFIX,
        *((str(launch.jupyter), JUPYTER) if launch.jupyter else ()),
        "--",
        folder,
        ENTRYPOINT,
        *command,
    )


def here_env(launch: Launch, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of a launch on this machine: the caller's without what leaks, and the environment's."""
    env = {name: value for name, value in environ.items() if not _LEAKS.fullmatch(name)}
    env |= {name: value for name, value in launch.image_env.items() if name not in _OWN}
    if environ.get("LANG") or environ.get("LC_ALL"):
        env.pop("LANG", None)
        env |= {name: environ[name] for name in ("LANG", "LC_ALL") if environ.get(name)}
    others = {f"{environ[name]}/bin" for name in _OTHERS if environ.get(name)}
    path = [entry for entry in environ.get("PATH", os.defpath).split(":") if entry not in others]
    env["PATH"] = ":".join([f"{PREFIX}/bin", *path])
    env[NO_USER_SITE] = "1"
    for file in launch.env_files:
        env |= values_in(file, environ)
    for name, value in launch.env.items():
        if value is not None:
            env[name] = value
        elif name in environ:
            env[name] = environ[name]
    return env


# Jupyter's own settings and history are the user's here, and stay as they are.
_SERVER = """\
words=$1; hint=$2; programs=$3; shift 3
for program in $programs; do
  if command -v "$program" >/dev/null; then exec "$program" "$@"; fi
done
echo "error: $words" >&2
echo "hint: $hint" >&2
exit 1
"""


def server_here(launch: Launch, options: ServeOptions, *, browser: bool) -> Launch:
    """The launch of a Jupyter server on this machine, in the foreground: loopback, a token, the project."""
    assert launch.prefix is not None
    if launch.jupyter is not None and not list(launch.prefix.glob("share/jupyter/kernels/*/kernel.json")):
        raise no_kernel(launch.name)
    port, missing = options.port, no_jupyter(launch.name, options.app)
    words = (
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.root_dir={launch.project}",
        "--ServerApp.allow_remote_access=False",  # only local Host headers: no DNS rebinding
        *((f"--ServerApp.port={port}", "--ServerApp.port_retries=0") if port else ()),
        *idle_argv(options),
        *(() if browser else ("--no-browser",)),
        *(("--allow-root",) if launch.user.uid == 0 else ()),
    )
    said = (missing.message, missing.hint or "", programs(launch, options))
    env = {**launch.env, **beside_env(launch)}
    return replace(launch, env=env, command=("sh", "-c", _SERVER, "jupyter", *said, *words))


def hold(launch: Launch) -> list[int]:
    """Files that say, as long as they are open in any process, that the launch's prefixes are in use."""
    return [held(prefix.parent / "record.json") for prefix in (launch.prefix, launch.jupyter) if prefix]


def become(launch: Launch) -> NoReturn:
    """Become a launch's command, with our streams; the exit code is its own."""
    argv = here_argv(launch)
    for handle in hold(launch):
        os.set_inheritable(handle, True)
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and an ignored signal survives exec
    os.execve(argv[0], argv, here_env(launch, os.environ))  # noqa: S606  # no shell is wanted
