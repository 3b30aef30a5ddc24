"""What is asked of the solver: match specs, and the system that the environment will run in.

That system is the base image on the platform that is locked for, and never this machine; what it offers
stands as virtual packages (https://github.com/conda/ceps/blob/main/cep-0030.md).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from envbox.errors import SettingsError
from envbox.lockfile import Base, Lock, LockedPackage
from envbox.settings import EnvironmentSettings, Settings

LINUX = "5.10"  # conda-lock's own assumption; no package is known that asks for more
MACOS = "13.0"
GLIBC = "2.28"  # where no base tells: conda-lock's own assumption, and the most that conda-forge builds for
_ARCHSPEC = {"64": "x86_64", "32": "x86"}  # other platforms' second half is the name itself
_SYSTEMS = ("linux", "osx", "win", "freebsd", "emscripten")  # that have a virtual package of their name
_UNIX = ("linux", "osx", "freebsd", "emscripten")  # https://github.com/conda/ceps/blob/main/cep-0030.md
_WITH_CUDA = ("linux", "win")  # no Mac since 2019 has a driver
_CUDA = re.compile(r"\d+(\.\d+)*")

HIGHEST, LOWEST_DIRECT = "highest", "lowest-direct"
STRATEGIES = (HIGHEST, LOWEST_DIRECT)
NO_DATE = "none"
"""Told as `exclude_newer`, it lifts the date that is locked."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Which of the versions that fit are looked at, and which of them is taken.

    :param exclude_newer: a date or a time, as `moment` gives it; None: all there is
    :param strategy: of `STRATEGIES`; None: the newest, as ever
    """

    exclude_newer: str | None = None
    strategy: str | None = None


@dataclass(frozen=True, slots=True)
class Update:
    """What is to move although it still fits, and how the solver is to choose from now on.

    :param names: of packages, to bring to the newest version that fits, with what must move with them
    :param everything: all packages
    :param exclude_newer: a date or time up to which packages are looked at, or `NO_DATE`; None: as locked
    :param strategy: of `STRATEGIES`; None: as locked
    """

    names: frozenset[str] = frozenset()
    everything: bool = False
    exclude_newer: str | None = None
    strategy: str | None = None


@dataclass(frozen=True, slots=True)
class PreviousLock:
    """What a solve begins with: the lock that is there, what of it is to move, and how to choose.

    :param theirs: the other side, where the lock that is there is one side of a merge that is not settled
    """

    lock: Lock | None = None
    update: Update = Update()
    policy: Policy = Policy()
    theirs: Lock | None = None

    @property
    def sides(self) -> tuple[Lock, ...]:
        """The locks that are there: none, one, or both sides of a merge."""
        return tuple(lock for lock in (self.lock, self.theirs) if lock is not None)


@dataclass(frozen=True, slots=True)
class SolveRequest:
    """What is asked of the solver for one platform.

    :param virtual: names of virtual packages → their version and build
    :param locked: to be kept where they still fit
    :param update: names of what is locked and should move to the newest that fits
    :param theirs: likewise locked, by the other side of a merge; where the two differ, the newer counts
    """

    platform: str
    specs: tuple[str, ...]
    virtual: Mapping[str, tuple[str, str]]
    locked: tuple[LockedPackage, ...] = ()
    update: frozenset[str] = frozenset()
    policy: Policy = Policy()
    theirs: tuple[LockedPackage, ...] = ()


def virtual_packages(platform: str, base: Base | None, cuda: str | None = None) -> dict[str, tuple[str, str]]:
    """Return what the system that an environment will run in offers, by the name of the virtual package.

    :param cuda: the version that its driver supports, where the settings say that there is one
    """
    system, _, architecture = platform.partition("-")
    found = {"__archspec": ("1", _ARCHSPEC.get(architecture, architecture))}
    if system in _SYSTEMS:
        found[f"__{system}"] = (LINUX if system == "linux" else "0", "0")
    if system in _UNIX:
        found["__unix"] = ("0", "0")
    if base is not None and platform in base.glibc:
        found["__glibc"] = (base.glibc[platform], "0")
    return found | {name: (version, "0") for name, version in assumed(platform, base, cuda).items()}


def assumed(platform: str, base: Base | None, cuda: str | None) -> dict[str, str]:
    """Return the virtual packages with a version of their own that no base tells: a lock records them beside
    it.

    :raises SettingsError: when the version of CUDA is none
    """
    if cuda is not None and not _CUDA.fullmatch(cuda):
        raise SettingsError(f"cuda should be a version, not {cuda!r}", 'set it like: cuda = "12.4"')
    system = platform.partition("-")[0]
    found = {"__cuda": cuda} if cuda is not None and system in _WITH_CUDA else {}
    if system == "osx":
        found["__osx"] = MACOS
    if system == "linux" and (base is None or platform not in base.glibc):
        found["__glibc"] = GLIBC
    return found


def system_of(lock: Lock, platform: str) -> dict[str, str]:
    """Return the virtual packages that have a version of their own in a lock: what its machines must
    offer.
    """
    glibc = {"__glibc": lock.base.glibc[platform]} if lock.base and platform in lock.base.glibc else {}
    return {**glibc, **lock.virtual.get(platform, {})}


def whole_system_of(lock: Lock, platform: str) -> dict[str, str]:
    """Return all virtual packages that a lock was made for: version, and build where it says something."""
    cuda = lock.virtual.get(platform, {}).get("__cuda")
    found = virtual_packages(platform, lock.base, cuda)
    told = {
        name: version if build == "0" else f"{version} {build}" for name, (version, build) in found.items()
    }
    return dict(sorted({**told, **system_of(lock, platform)}.items()))


def policy_differences(lock: Lock, settings: Settings, own: EnvironmentSettings) -> Iterator[str]:
    """Yield what the settings say about the solve that the lock was not made by, a line each."""
    wanted = moment(settings.exclude_newer) if settings.exclude_newer else lock.exclude_newer
    if wanted != lock.exclude_newer:
        yield f"packages are looked at up to {wanted}; locked with those up to {lock.exclude_newer or 'now'}"
    for platform in lock.platforms:
        cuda = lock.virtual.get(platform, {}).get("__cuda")
        asked = assumed(platform, lock.base, own.cuda).get("__cuda")
        if asked != cuda:
            yield f"{platform}: {_cuda_words(asked)} is set; locked for {_cuda_words(cuda)}"


def _cuda_words(version: str | None) -> str:
    return f"CUDA {version}" if version else "no CUDA"


def moment(text: str) -> str:
    """Return a date or time in the one form that is recorded: a date as it is, a time in UTC, to the second.

    :raises SettingsError: when it is neither
    """
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(
            f"{text!r} is neither a date nor a time", "write it like 2024-05-31 or 2024-05-31T12:00:00Z"
        ) from None
    aware = found if found.tzinfo else found.replace(tzinfo=UTC)
    return aware.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def cutoff(text: str) -> datetime:
    """Return the last moment, in UTC, that a date or time of `moment` means: of a date, the day's last."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return datetime.fromisoformat(text)
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1, milliseconds=-1)
