"""The image that an environment should have now: locked and built if that is needed, and said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envbox.errors import LockfileError
from envbox.project import Environment
from envbox.report import Reporter
from envbox.settings import Settings

if TYPE_CHECKING:
    from envbox.engine import Engine
    from envbox.image.build import BuiltImage


def ready_image(
    environment: Environment, settings: Settings, engine: Engine, report: Reporter, *, frozen: bool = False
) -> BuiltImage:
    """Give the image of an environment in the engine, doing only what is missing.

    :param frozen: take the lockfile as it is, whatever the spec says
    :raises EnvboxError: what locking and building can raise
    """
    from envbox.image.build import build

    ensure_locked(environment, settings, report, frozen=frozen)
    return build(environment, settings, engine, report)


def ensure_locked(
    environment: Environment, settings: Settings, report: Reporter, *, frozen: bool = False
) -> None:
    """Make the lockfile when it is missing or no longer what the spec asks for.

    :raises LockfileError: when there is none and `frozen` forbids to make one
    """
    if environment.lock_path.is_file():
        if frozen or not environment.spec_path.is_file():
            return
        from envbox.lock import is_fresh

        if is_fresh(environment, settings):
            return
        reason = f"{environment.spec_path.name} has changed"
    elif frozen:
        raise LockfileError(f"no lockfile at {environment.lock_path}", f"envbox lock {environment.name}")
    else:
        reason = "there is no lockfile yet"
    from envbox.lock import lock

    report.say(f"locking {environment.name}: {reason}")
    lock(environment, settings, None, report)
