"""`lock --check`: each environment held against its lockfile, offline, and the way out where they differ.

What is wrong with one environment must not hide what is wrong with the next, so a spec that cannot be read
and a lockfile that is damaged are findings here, and not errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from envbox.errors import LockfileError, SpecError
from envbox.locks.freshness import differences
from envbox.project import Environment
from envbox.settings import Settings


@dataclass(frozen=True, slots=True)
class FreshnessReport:
    """What was found of one environment.

    :param differences: what its lockfile is not, or why that cannot be told; none: it is what the spec asks
    :param hint: what mends it
    """

    name: str
    lock_path: Path
    differences: tuple[str, ...]
    hint: str | None = None


def check(environment: Environment, settings: Settings) -> FreshnessReport:
    """Hold a lockfile against its spec and the settings; nothing is solved, fetched or written but a memo."""
    hint: str | None = f"envbox lock {environment.name}"
    try:
        found = differences(environment, settings)
    except (SpecError, LockfileError) as error:
        found, hint = (error.message,), error.hint
    return FreshnessReport(environment.name, environment.lock_path, found, hint if found else None)


def has_spec(environment: Environment) -> bool:
    """Return whether there is anything to hold a lockfile against: another tool's alone has no spec."""
    return environment.has_spec


def check_has_spec(environment: Environment) -> None:
    """Refuse what has none.

    :raises SpecError: when there is only a lockfile
    """
    if environment.foreign is not None:
        raise SpecError(
            f"{environment.name} has no spec to be checked by, only {environment.foreign}",
            f"make a spec and a lockfile of it: envbox import {environment.foreign.name}",
        )
