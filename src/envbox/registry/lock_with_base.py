"""A lock together with the base image that it stands on, which the lockfile pins, or the settings name."""

from __future__ import annotations

from dataclasses import dataclass

from envbox.lockfile import Base, Lock
from envbox.project import Environment
from envbox.report import Reporter
from envbox.settings import Settings


@dataclass(frozen=True, slots=True)
class LockWithBase:
    """A lock, the bytes that say it, and the base that it stands on."""

    lock: Lock
    data: bytes
    base: Base


def read_lock_with_base(
    environment: Environment, data: bytes, platform: str, settings: Settings, report: Reporter
) -> LockWithBase:
    """Parse a lockfile, and see that the platform and the base are fit for it.

    :raises LockfileError: when it is damaged, or has nothing for the platform
    :raises ImageError: when it names no base and the one that is set is not there, or the base is too old
    """
    from envbox.lockfile.conda_lock_v1 import loads
    from envbox.registry.base import check_glibc, resolve_base

    lock = loads(data, environment.lock_path)
    packages = lock.for_platform(platform)
    base = lock.base
    if base is None:
        reference = settings.for_environment(environment.name).base or settings.base
        report.say(f"the lockfile pins no base: taking {reference} as it is now")
        base = resolve_base(reference, [platform], settings, report)
    check_glibc(packages, base, platform)
    return LockWithBase(lock, data, base)
