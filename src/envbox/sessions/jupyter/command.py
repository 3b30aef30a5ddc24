"""What is started as a Jupyter server: its command, and what an environment must have for it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from envbox.errors import LaunchError
from envbox.image_paths import HOME as IMAGE_HOME
from envbox.image_paths import PREFIX as IMAGE_PREFIX
from envbox.image_paths import WORK as IMAGE_PROJECT
from envbox.sessions.jupyter.servers import IMAGE_LABEL, IMAGE_TOKEN, PORT_LABEL, UID_LABEL, container_name
from envbox.sessions.launch.bindings import ANY, LOOPBACK, Bind, Volume
from envbox.sessions.launch.container import Launch

App = Literal["lab", "classic"]
PAGES: dict[App, str] = {"lab": "/lab", "classic": "/tree"}
KEPT = "/run/envbox/jupyter"  # settings, history, layout: in a volume of the server's own name
NO_JUPYTER, NO_KERNEL = 78, 69  # EX_CONFIG and EX_UNAVAILABLE of sysexits.h
CULL_INTERVAL = 300  # seconds, Jupyter's own
_PROGRAMS: dict[App | None, str] = {
    "lab": "jupyter-lab",
    "classic": "jupyter-notebook jupyter-nbclassic",
    None: "jupyter-lab jupyter-notebook jupyter-server",
}
_PACKAGES: dict[App | None, str] = {
    "lab": "jupyterlab",
    "classic": "notebook|nbclassic",
    None: "jupyterlab|notebook|nbclassic|jupyter[_-]server",
}
_KERNELS = r"(?!kernel-headers)[\w-]*kernel[\w-]*|xeus-[\w-]+"  # ipykernel, r-irkernel, bash_kernel, calysto…
_FIRST_PACKAGE: dict[App | None, str] = {"lab": "jupyterlab", "classic": "notebook", None: "jupyterlab"}
# What Jupyter and IPython keep is led into the volume, except where somebody mounts a folder of his own; what
# was of the kernels of the last server is of no use. Which program there is, is known in the container.
# JupyterLab would ask at each start whether it may fetch news: the answer is no, until somebody says
# otherwise in its settings.
_START = f"""\
programs=$1 place=$2 kernels=$3; shift 3
kept={KEPT}
if [ -w $kept ]; then
  rm -rf $kept/data/runtime
  for pair in .jupyter:config .ipython:ipython .local/share/jupyter:data; do
    own=$HOME/${{pair%%:*}} there=$kept/${{pair#*:}}
    [ -e "$own" ] || {{ mkdir -p "$there" "${{own%/*}}" && ln -s "$there" "$own"; }}
  done
fi 2>/dev/null
settings=~/.jupyter/lab/user-settings/@jupyterlab/apputils-extension
news=$settings/notification.jupyterlab-settings
[ -e "$news" ] || {{ mkdir -p "$settings" && echo '{{"fetchNews": "false"}}' >"$news"; }} 2>/dev/null
[ -z "$kernels" ] || ls "$kernels"/*/kernel.json >/dev/null 2>&1 || exit {NO_KERNEL}
for program in $programs; do
  if command -v "$place$program" >/dev/null; then exec "$place$program" "$@"; fi
done
exit {NO_JUPYTER}
"""


class NoJupyterError(LaunchError):
    """There is no Jupyter in what was launched."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What a command line says about a server.

    :param port: on this machine; None takes the first free one from 8888
    :param seconds: how long the server may take until it answers
    :param app: whose page comes up; None takes the best there is
    :param idle: seconds without use after which kernels, and then the server, end; None for never
    """

    port: int | None = None
    seconds: float = 120
    app: App | None = None
    idle: int | None = None


NOTHING_SAID = ServeOptions()


def programs(options: ServeOptions) -> str:
    """Return the programs that will do, the best first."""
    return _PROGRAMS[options.app]


def place(launch: Launch) -> str:
    """Return what comes before their names where a server stands beside its environment; else empty."""
    return f"{launch.jupyter_at}/bin/" if launch.jupyter is not None else ""


def kernels_path(launch: Launch) -> str:
    """Return where there must be a kernel for a server that stands beside its environment; else empty."""
    return f"{launch.seen_at}/share/jupyter/kernels" if launch.jupyter is not None else ""


def beside_env(launch: Launch, environ: Mapping[str, str]) -> dict[str, str | None]:
    """Return what a server that stands beside its environment is told, to find what Jupyter has in there.

    :param environ: of the caller
    """
    if launch.jupyter is None:
        return {}
    said = None
    if "JUPYTER_PATH" in launch.env:
        said = launch.env["JUPYTER_PATH"] or environ.get("JUPYTER_PATH")
    return {"JUPYTER_PATH": ":".join([*filter(None, [said]), f"{launch.seen_at}/share/jupyter"])}


def idle_argv(options: ServeOptions) -> tuple[str, ...]:
    """Return what ends an idle server: Jupyter's own settings.

    A kernel that a page is connected to is left alone, and so is a server that a page is open on: JupyterLab
    asks it for news now and then, which counts as use. Whether it is idle is looked at once a minute.
    """
    if options.idle is None:
        return ()
    interval = max(1, min(CULL_INTERVAL, options.idle // 4))
    return (
        f"--ServerApp.shutdown_no_activity_timeout={options.idle}",
        f"--MappingKernelManager.cull_idle_timeout={options.idle}",
        f"--MappingKernelManager.cull_interval={interval}",
        f"--TerminalManager.cull_inactive_timeout={options.idle}",
        f"--TerminalManager.cull_interval={interval}",
    )


def server_argv(
    launch: Launch, port: int, address: str, options: ServeOptions = NOTHING_SAID
) -> tuple[str, ...]:
    """Return the command of a server, in the container.

    :param address: what it listens on there
    """
    return (
        *("sh", "-c", _START, "jupyter", programs(options), place(launch), kernels_path(launch)),
        "--no-browser",
        f"--ServerApp.ip={address}",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={IMAGE_PROJECT}",
        # only local Host headers, so no DNS rebinding, unless others shall come
        f"--ServerApp.allow_remote_access={launch.is_public}",
        *idle_argv(options),
        *(("--allow-root",) if launch.user_inside.uid == 0 else ()),
    )


def server_launch(
    launch: Launch, port: int, token_path: Path, options: ServeOptions = NOTHING_SAID
) -> Launch:
    """Return the launch of a server on one port, which leads from this machine's loopback, or from
    anywhere.
    """
    name = container_name(launch)
    is_host = launch.network == "host"
    reached_at = ANY if launch.is_public else LOOPBACK
    address = reached_at if is_host else ANY  # of the container
    return replace(
        launch,
        kind="notebook",
        container=name,
        command=server_argv(launch, port, address, options),
        ports=launch.ports if is_host else (*launch.ports, f"{reached_at}:{port}:{port}"),
        mounts=(
            *launch.mounts,
            Bind(token_path, IMAGE_TOKEN, read_only=True),
            Volume(f"{name}:{KEPT}"),
        ),
        env={**launch.env, **beside_env(launch, os.environ), "JUPYTER_TOKEN_FILE": IMAGE_TOKEN},
        labels={
            **launch.labels,
            PORT_LABEL: str(port),
            UID_LABEL: str(launch.user.uid),
            IMAGE_LABEL: launch.image,
        },
    )


def volume_launch(launch: Launch) -> Launch:
    """Return what makes a server's volume one that its user can write to.

    An engine gives a new volume the owner and mode of the folder that it is mounted over; over none, it is
    root's alone. The home of our images is open to anybody.
    """
    own = tuple(m for m in launch.mounts if isinstance(m, Bind) and m.target == IMAGE_PREFIX)
    return replace(
        launch,
        kind="run",
        command=("true",),
        mounts=(*own, Volume(f"{container_name(launch)}:{IMAGE_HOME}")),
        ports=(),
        network="none",
    )


def has_jupyter(locked: bytes, name: str, app: App | None) -> bool:
    """Return whether a lockfile has a Jupyter, as far as its text shows; asked before anything is made of it.

    A package's name stands alone somewhere in every format of lockfiles. What only seems to be there is found
    out by the server's own command.

    :raises LaunchError: when it has none, nor a kernel for one beside it
    """
    if _names(locked, _PACKAGES[app]):
        return True
    if not _names(locked, _KERNELS):
        raise no_kernel(name)
    return False


def no_jupyter(name: str, app: App | None) -> NoJupyterError:
    """Say what is missing, and the way out."""
    return NoJupyterError(
        f"there is no {called(app)} in {name}", f"envbox add --name {name} {_FIRST_PACKAGE[app]}"
    )


def called(app: App | None) -> str:
    """Return what people call it."""
    return {"lab": "JupyterLab", "classic": "classic Notebook", None: "Jupyter"}[app]


def no_kernel(name: str) -> LaunchError:
    """Say that a server beside an environment would have nothing to start."""
    return LaunchError(
        f"there is no Jupyter in {name}, and no kernel for one beside it",
        f"envbox add --name {name} ipykernel; or jupyterlab, to have the server in it too",
    )


def _names(locked: bytes, packages: str) -> bool:
    return re.search(rf"(?<![\w-])({packages})(?![\w-])".encode(), locked) is not None
