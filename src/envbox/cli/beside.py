"""A Jupyter beside an environment that has none, as `envbox notebook` asks for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from envbox.cli.context import Invocation
from envbox.errors import LaunchError
from envbox.platforms import container_platform

if TYPE_CHECKING:
    from envbox.project import Environment
    from envbox.sessions.jupyter.command import App
    from envbox.sessions.jupyter.own_server import JupyterTarget
    from envbox.sessions.launch.container import Launch
    from envbox.settings import Settings

_OF_A_LAUNCH: dict[str, Any] = {"jupyter": None, "own_path": False}
"""What a Jupyter is made by that a project is only asked about before a launch, and the defaults of that."""


def lacks_jupyter(invocation: Invocation, environment: Environment, app: App | None, *, frozen: bool) -> bool:
    """See whether an environment has a Jupyter as soon as it is locked."""
    from envbox.sessions.jupyter.command import has_jupyter
    from envbox.sessions.prepare import ensure_locked

    ensure_locked(environment, invocation.settings, invocation.report, frozen=frozen)
    path = environment.foreign or environment.lock_path
    return path.is_file() and not has_jupyter(path.read_bytes(), environment.name, app)


def can_be_beside(invocation: Invocation, name: str, app: App | None) -> None:
    """See that a Jupyter can be put beside a container, before anything is made.

    :raises LaunchError: when nothing of the cache can be mounted
    """
    from envbox.prefixes.mountable import obstacle
    from envbox.sessions.jupyter.command import no_jupyter

    if words := obstacle(invocation.settings.cache_dir, invocation.engine):
        invocation.report.say(f"no Jupyter can be put beside {name}, since {words}")
        raise no_jupyter(name, app)


def with_jupyter(invocation: Invocation, environment: Environment, launch: Launch, app: App | None) -> Launch:
    """Put a Jupyter server beside an environment that has none, or not the one that is asked for."""
    from envbox.image_paths import PREFIX
    from envbox.lockfile.conda_lock_v1 import read_lockfile
    from envbox.prefixes.host import machine_glibc
    from envbox.sessions.jupyter.own_server import JupyterTarget

    if launch.prefix is not None:
        return _beside(
            invocation,
            launch,
            JupyterTarget(container_platform(), machine_glibc(), launch.seen_at == PREFIX),
            app,
        )
    platform, base = invocation.engine.platform, None
    if environment.lock_path.is_file():
        base = read_lockfile(environment.lock_path).base
    return _beside(
        invocation, launch, JupyterTarget(platform, base.glibc.get(platform) if base else None), app
    )


def with_jupyter_beside_image(invocation: Invocation, launch: Launch, app: App | None) -> Launch:
    """Put a Jupyter server beside an image that somebody else made.

    :raises LaunchError: when it has no kernel, or a C library that conda's packages are not for
    """
    from envbox.sessions.jupyter.own_server import JupyterTarget
    from envbox.sessions.launch.probe import look_inside

    can_be_beside(invocation, launch.name, app)
    found = look_inside(launch, invocation.engine, invocation.settings)
    if not found.has_kernels or found.glibc is None:
        what = "no kernel for one beside it" if found.glibc else "no glibc for one beside it"
        raise LaunchError(f"there is no Jupyter in {launch.name}, and {what}")
    # nobody was asked for a launch of this project: what it sets for its own does not count
    own = {key: invocation.layers.own.get(key, default) for key, default in _OF_A_LAUNCH.items()}
    where = JupyterTarget(invocation.engine.platform, found.glibc)
    return _beside(invocation, launch, where, app, replace(invocation.settings, **own))


def _beside(
    invocation: Invocation,
    launch: Launch,
    where: JupyterTarget,
    app: App | None,
    settings: Settings | None = None,
) -> Launch:
    from envbox.sessions.jupyter.command import called
    from envbox.sessions.jupyter.own_server import obtain_jupyter

    found = obtain_jupyter(where, settings or invocation.settings, invocation.report)
    invocation.report.say(f"{launch.name} has no {called(app)}: envbox's own is put beside it")
    return replace(launch, jupyter=found)
