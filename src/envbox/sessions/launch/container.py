"""One container to start: a value, and the words that tell it to the engine's own client.

Values of variables do not stand in the argument list, where every user of the machine can read them: the
client is told a name, and finds the value in its own environment.
"""

from __future__ import annotations

import hmac
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from envbox.engine import AS_DOCKER, RunPolicy
from envbox.errors import LaunchError
from envbox.image_paths import HOME as IMAGE_HOME
from envbox.image_paths import JUPYTER
from envbox.image_paths import PREFIX as IMAGE_PREFIX
from envbox.image_paths import WORK as IMAGE_PROJECT
from envbox.sessions.launch.bindings import Bind, Volume
from envbox.sessions.launch.identity import User, current_user, inside

NAME_LABEL, PROJECT_LABEL, KIND_LABEL = "io.envbox.name", "io.envbox.project", "io.envbox.kind"
Kind = Literal["shell", "run", "notebook", "exec", "kernel"]

# Variables that the client itself obeys: with a value of these in its environment it would talk to another
# engine, or not start. They hold no secrets, so their values may stand in the argument list.
_CLIENTS_OWN = re.compile(
    r"PATH|HOME|TMPDIR|(LD|DYLD)_[A-Z_]+|XDG_[A-Z_]+|SSL_CERT_(FILE|DIR)|GO(DEBUG|TRACEBACK)"
    r"|CONTAINER_(HOST|CONNECTION|SSHKEY)|(CONTAINERS|PODMAN)_([A-Z]+_)*CONF(_OVERRIDE)?"
    r"|DOCKER_(HOST|CONTEXT|CONFIG|TLS|TLS_VERIFY|CERT_PATH|API_VERSION|DEFAULT_PLATFORM|CLI_[A-Z_]+)"
)
_GPU = "nvidia.com/gpu"
# What `--group-add keep-groups` means, which podman's client refuses to send to its engine.
_KEEP_GROUPS = "run.oci.keep_original_groups=1"
# The client keeps back the first key of the sequence that detaches. Its default, Ctrl-P, is "last command"
# to a shell; Ctrl-@ shows nothing, so nobody sees that it comes late.
_DETACH_KEYS = "ctrl-@,ctrl-@,ctrl-@"


@dataclass(frozen=True, slots=True)
class Launch:
    """One container to start.

    :param image: its ID
    :param name: the environment's
    :param project: mounted at /work
    :param folder: where the command starts, relative to the project
    :param user: the caller
    :param ways: how the engine is asked, which `prepare` sees to
    :param env: None as a value: the one that the variable has here, if any
    :param pythonpath: folders of the project that Python imports from, relative to it
    :param image_env: what the image would set, had it the environment inside; below all else, and no secrets
    :param prefix: a folder: there is no container, but a session on this machine with that
    :param seen_at: where a session has its prefix
    :param jupyter: a folder: the prefix of a Jupyter server, which the environment itself has not
    :param ports: as the client publishes them
    :param is_public: whether a server in it is for other machines, too
    :param container: the container's name; None leaves it to the engine
    :param stays: it is created rather than run, and not removed when it ends
    """

    image: str
    name: str
    project: Path
    command: tuple[str, ...]
    kind: Kind = "run"
    folder: str = "."
    user: User = field(default_factory=current_user)
    env: Mapping[str, str | None] = field(default_factory=dict)
    pythonpath: tuple[str, ...] = ()
    image_env: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Bind | Volume, ...] = ()
    ports: tuple[str, ...] = ()
    network: str | None = None
    memory: str | None = None
    cpus: str | None = None
    gpus: str | None = None
    is_public: bool = False
    interactive: bool = False
    tty: bool = False
    container: str | None = None
    stays: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    prefix: Path | None = None
    seen_at: str = IMAGE_PREFIX
    jupyter: Path | None = None
    ways: RunPolicy = AS_DOCKER

    @property
    def user_inside(self) -> User:
        """Who the caller is in the container."""
        return inside(self.user, self.ways)

    @property
    def jupyter_at(self) -> str:
        """Where the prefix of a Jupyter server is seen."""
        return JUPYTER if self.seen_at == IMAGE_PREFIX else str(self.jupyter)


def run_argv(launch: Launch, client: tuple[str, ...]) -> tuple[str, ...]:
    """Return the argument list of the engine's client for a launch. Pure: the environment is in
    `client_env`.
    """
    return (
        *client,
        *(("create",) if launch.stays else ("run", "--rm")),
        *("--init", "--pull", "never", "--security-opt", "no-new-privileges"),
        *(("--interactive",) * launch.interactive),
        *(("--tty", "--detach-keys", _DETACH_KEYS) if launch.tty else ()),
        *_option("--name", launch.container),
        *_option("--hostname", None if _shares_network(launch) else _hostname(launch.name)),
        *_user(launch),
        *Bind(launch.project, IMAGE_PROJECT).argv(),
        *(Bind(launch.jupyter, JUPYTER, read_only=True).argv() if launch.jupyter else ()),
        *(word for mount in launch.mounts for word in mount.argv()),
        *("--workdir", os.path.normpath(f"{IMAGE_PROJECT}/{launch.folder}")),
        *_option("--network", launch.network),
        *_option("--memory", launch.memory),
        *_option("--cpus", launch.cpus),
        *_gpus(launch),
        *(word for port in launch.ports for word in ("--publish", port)),
        *(word for variable in _image_env(launch).items() for word in ("--env", "=".join(variable))),
        *(word for variable in _variables(launch).items() for word in ("--env", _in_argv(*variable))),
        *(word for label in _labels(launch).items() for word in ("--label", "=".join(label))),
        launch.image,
        *launch.command,
    )


def client_env(launch: Launch, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the client: ours, with the values that `run_argv` only names."""
    values = {name: value for name, value in _variables(launch).items() if value is not None}
    return {**environ, **{name: value for name, value in values.items() if not _CLIENTS_OWN.fullmatch(name)}}


def options_digest(launch: Launch, environ: Mapping[str, str], key: str) -> str:
    """Return what is asked for a container besides its environment, as a digest to compare two launches by.

    It covers the values of variables, so it is keyed: whoever reads it in a label can try no guesses on them.
    """
    asked = replace(
        launch,
        image="",
        image_env={},
        jupyter=None,
        mounts=tuple(m for m in launch.mounts if not (isinstance(m, Bind) and m.target == IMAGE_PREFIX)),
        command=(),
        folder=".",
        env={},
        user=replace(launch.user, groups=()),
        labels={},
    )
    values = {name: environ.get(name) if value is None else value for name, value in launch.env.items()}
    text = json.dumps([run_argv(asked, ()), sorted(values.items())])
    return hmac.new(key.encode(), text.encode(), "sha256").hexdigest()


def _option(flag: str, value: str | None) -> tuple[str, ...]:
    return (flag, value) if value else ()


def _user(launch: Launch) -> tuple[str, ...]:
    user, is_kept = launch.user_inside, launch.ways.caller == "kept"
    return (
        *(("--userns", "keep-id") if is_kept else ()),
        *(("--annotation", _KEEP_GROUPS) if launch.ways.keeps_groups else ()),
        *("--user", f"{user.uid}:{user.gid}"),
        *(word for gid, _ in user.groups if not is_kept for word in ("--group-add", str(gid))),
    )


def _gpus(launch: Launch) -> tuple[str, ...]:
    """Return gPUs, of which podman has those that the machine's CDI specification names.

    https://github.com/cncf-tags/container-device-interface
    """
    if not launch.gpus or not launch.ways.is_podman:
        return _option("--gpus", launch.gpus)
    named = launch.gpus.strip("\"'").removeprefix("device=").split(",")
    if wrong := [name for name in named if "=" in name]:
        raise LaunchError(
            f"--gpus: podman is told no {wrong[0]}", "name devices: --gpus all, or --gpus device=0,1"
        )
    if launch.gpus.isdigit():  # how many
        named = [str(number) for number in range(int(launch.gpus))]
    return tuple(word for name in named for word in ("--device", f"{_GPU}={name}"))


def _variables(launch: Launch) -> dict[str, str | None]:
    return {"HOME": IMAGE_HOME, **launch.env}


def _image_env(launch: Launch) -> dict[str, str]:
    said = _variables(launch)
    return {name: value for name, value in launch.image_env.items() if name not in said}


def _in_argv(name: str, value: str | None) -> str:
    return f"{name}={value}" if value is not None and _CLIENTS_OWN.fullmatch(name) else name


def _labels(launch: Launch) -> dict[str, str]:
    own = {NAME_LABEL: launch.name, PROJECT_LABEL: str(launch.project), KIND_LABEL: launch.kind}
    return {**own, **launch.labels}


def _hostname(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", name)[:63].strip("-") or "envbox"


def _shares_network(launch: Launch) -> bool:
    return launch.network is not None and (
        launch.network == "host" or launch.network.startswith("container:")
    )
