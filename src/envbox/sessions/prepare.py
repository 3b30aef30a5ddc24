"""What an environment's containers are started from now: locked and made if that is needed, and said.

There are two roads out of the lock, to the same bytes at the same path. An image that is in the engine is
taken: nothing starts faster. Else the prefix is mounted from the cache, which is made in a fraction of the
time that an image takes. Where it cannot be mounted, the image is built.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from envbox.errors import LockfileError
from envbox.image_paths import LOCK_LABEL
from envbox.project import Environment
from envbox.report import Reporter
from envbox.settings import Settings

if TYPE_CHECKING:
    from envbox.engine import Engine
    from envbox.images.build import BuiltImage


Road = Literal["image", "prefix", "at once"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What containers of an environment are started from.

    :param image: what the engine calls it
    :param prefix: what is to be mounted into it, where it has no environment of its own
    :param env: variables that the environment's image would have, and this one has not
    :param labels: labels, likewise
    """

    image: str
    prefix: Path | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


def ready_environment(
    environment: Environment,
    settings: Settings,
    engine: Engine,
    report: Reporter,
    *,
    frozen: bool = False,
    road: Road = "prefix",
) -> Prepared:
    """Give what to start an environment from, doing only what is missing.

    :param frozen: take the lockfile as it is, whatever the spec says
    :param road: `image` builds it if need be; `at once` does not wait for all byte-code of a new prefix
    :raises EnvboxError: what locking, mounting and building can raise
    """
    ensure_locked(environment, settings, report, frozen=frozen)
    if road != "image":
        from envbox.images.build import find_built
        from envbox.sessions.mounted import find_mounted, mount

        if built := find_built(environment, settings, engine, engine.platform):
            return Prepared(built.id, labels={LOCK_LABEL: built.lock_digest})
        mounted = find_mounted(environment, settings, engine)
        if mounted is None:
            from envbox.prefixes.mountable import obstacle

            if stands_against := obstacle(settings.cache_dir, engine):
                report.say(f"{environment.name}: from its image, since {stands_against}")
            else:
                mounted = mount(environment, settings, engine, report, at_once=road == "at once")
        if mounted:
            say = report.say if mounted.is_new else report.detail
            say(f"{environment.name}: mounted from the cache (--image uses the image)")
            if not mounted.is_compiled:
                say("byte-code is compiled meanwhile, for the next session; here, first imports take longer")
            return Prepared(mounted.image, mounted.prefix, mounted.env, mounted.labels)
    built = ready_image(environment, settings, engine, report, frozen=True)
    return Prepared(built.id, labels={LOCK_LABEL: built.lock_digest})


def ready_image(
    environment: Environment, settings: Settings, engine: Engine, report: Reporter, *, frozen: bool = False
) -> BuiltImage:
    """Give the image of an environment in the engine, doing only what is missing.

    :param frozen: take the lockfile as it is, whatever the spec says
    :raises EnvboxError: what locking and building can raise
    """
    from envbox.images.build import build

    ensure_locked(environment, settings, report, frozen=frozen)
    return build(environment, settings, engine, report)


def check_archives(environment: Environment) -> None:
    """Refuse a lockfile that is another tool's and has what no build can use, before anything is fetched.

    :raises LockfileError: with the command that does without
    """
    if environment.foreign is None:
        return
    from envbox.lockfile.conda_lock_v1 import read_lockfile

    packages = read_lockfile(environment.lock_path).packages
    found = {p.name: p.file_name for p in packages if p.manager == "pip" and not p.file_name.endswith(".whl")}
    if found:
        said = ", ".join(f"{name} ({file})" for name, file in sorted(found.items()))
        without = shlex.quote(",".join(sorted(found)))
        raise LockfileError(
            f"{environment.foreign} has what is no wheel, and only wheels can be locked: {said}",
            f"to do without: envbox import {shlex.quote(environment.foreign.name)} --without {without}",
        )


def ensure_locked(
    environment: Environment, settings: Settings, report: Reporter, *, frozen: bool = False
) -> None:
    """Make the lockfile when it is missing or no longer what the spec asks for.

    :raises LockfileError: when there is none and `frozen` forbids to make one
    """
    if environment.lock_path.is_file():
        check_archives(environment)
        if frozen or not environment.has_spec or not environment.spec_path.is_file():
            return
        from envbox.locks.lock import is_fresh

        if is_fresh(environment, settings):
            return
        reason = f"{environment.spec_path.name} has changed"
    elif frozen:
        raise LockfileError(f"no lockfile at {environment.lock_path}", f"envbox lock {environment.name}")
    else:
        reason = "there is no lockfile yet"
    from envbox.locks.lock import lock

    report.say(f"locking {environment.name}: {reason}")
    lock(environment, settings, None, report)
