"""A Jupyter beside an environment that has none, as `envbox notebook` asks for it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from envbox.cli.context import Session

if TYPE_CHECKING:
    from envbox.beside import Where
    from envbox.launch.container import Launch
    from envbox.launch.jupyter_command import App
    from envbox.project import Environment


def lacks_jupyter(session: Session, environment: Environment, app: App | None, *, frozen: bool) -> bool:
    """See whether an environment has a Jupyter as soon as it is locked."""
    from envbox.launch.jupyter_command import has_jupyter
    from envbox.ready import ensure_locked

    ensure_locked(environment, session.settings, session.report, frozen=frozen)
    path = environment.foreign or environment.lock_path
    return path.is_file() and not has_jupyter(path.read_bytes(), environment.name, app)


def with_jupyter(session: Session, environment: Environment | None, launch: Launch) -> Launch:
    """Put a Jupyter server beside an environment that has none.

    :param environment: None for an image that somebody else made
    """
    from envbox.beside import obtain_jupyter

    where = _where(session, environment, launch)
    found = obtain_jupyter(where, session.settings, session.report)
    session.report.say(f"{launch.name} has no Jupyter: envbox's own is put beside it")
    return replace(launch, jupyter=found)


def _where(session: Session, environment: Environment | None, launch: Launch) -> Where:
    """What a Jupyter beside an environment is to run on."""
    from envbox.beside import Where
    from envbox.image.output import own_platform
    from envbox.inside import JUPYTER, PREFIX
    from envbox.launch.jupyter_command import no_jupyter
    from envbox.launch.libc import glibc_inside
    from envbox.lockfile.conda_lock_v1 import read_lockfile
    from envbox.prefix.here import machine_glibc
    from envbox.prefix.place import obstacle
    from envbox.prefix.seen import path_for

    if launch.prefix is not None:
        is_own = launch.seen_at != PREFIX
        seen_at = path_for("jupyter", session.settings, machine_glibc()) if is_own else JUPYTER
        return Where(own_platform(), machine_glibc(), seen_at)
    if words := obstacle(session.settings.cache_dir, session.engine):
        session.report.say(f"no Jupyter can be put beside {launch.name}, since {words}")
        raise no_jupyter(launch.name, None)
    platform = session.engine.platform
    if environment is None or not environment.lock_path.is_file():
        return Where(platform, glibc_inside(launch, session.engine, session.settings))
    base = read_lockfile(environment.lock_path).base
    return Where(platform, base.glibc.get(platform) if base else None)
