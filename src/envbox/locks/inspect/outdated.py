"""Which packages have newer versions: within what the spec allows, and beyond it.

Within the spec is more than a match spec says: a version may fit it and still not go with the rest. So the
solver is asked, once, what it would take if nothing were locked, which is what `lock --update-all` does. The
newest there is, is the newest in the channel that the package was locked from. Both ask through the gateway
that a solve uses; wheels ask their index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from envbox import coroutines
from envbox.errors import SolveError
from envbox.lockfile import Lock, LockedPackage
from envbox.lockfile.custom import PIP_PREFIX
from envbox.locks.inspect.graph import graph_of, key_of
from envbox.locks.inspect.tables import table
from envbox.locks.inspect.versions import compare, version_key
from envbox.mirrors import public_channel
from envbox.report import Reporter
from envbox.settings import Settings

Newest = Mapping[tuple[str, str], str]
"""(platform, key of a package) → version."""


@dataclass(frozen=True, slots=True)
class Outdated:
    """A package of which there is a newer version.

    :param platforms: where all of this is so, sorted
    :param within: the newest that the spec allows with all the rest; None: it is the one that is locked
    :param newest: the newest there is; None: it is `within`, or it is not known
    :param asked: the match specs or requirements that ask for it, as text
    :param is_asked: whether it was asked for; a lock may not say how
    """

    name: str
    manager: str
    platforms: tuple[str, ...]
    locked: str
    within: str | None
    newest: str | None
    asked: tuple[str, ...]
    is_asked: bool


def outdated(
    lock: Lock, settings: Settings, report: Reporter, channels: Sequence[str] = ()
) -> tuple[Outdated, ...]:
    """Look for newer versions of everything that is locked.

    :param channels: as the spec has them, maybe with logins, which a lock never has
    :raises SpecError: when a channel does not exist any more
    :raises ToolError: when a channel or an index cannot be read
    """
    from envbox.locks.inspect.indexes import newest_wheels

    with report.task(f"looking for newer versions of {lock.name}"):
        named = _named(lock, channels)
        within = _solved(lock, named, settings, report)
        newest = _newest_records(lock, named, settings)
        wheels_within, wheels_newest = newest_wheels(lock, settings, report)
    return compared(lock, {**within, **wheels_within}, {**newest, **wheels_newest})


def compared(lock: Lock, within: Newest, newest: Newest) -> tuple[Outdated, ...]:
    """Hold what is locked against what there is; what is alike on several platforms is one. Pure."""
    found: dict[tuple[object, ...], Outdated] = {}
    for platform in lock.platforms:
        asked = graph_of(lock, platform).asked
        for package in lock.for_platform(platform):
            one = _one(package, asked, within, newest)
            if one is None:
                continue
            likeness = (one.manager, one.name, one.locked, one.within, one.newest)
            same = found.setdefault(likeness, one)
            if same is not one:
                found[likeness] = replace(same, platforms=(*same.platforms, platform))
    return tuple(sorted(found.values(), key=lambda one: (one.manager, one.name, one.platforms)))


def lines(found: Sequence[Outdated], platforms: Sequence[str]) -> Iterator[str]:
    """Yield a table for people.

    :param platforms: all that there are; what is so on all of them needs no name of a platform
    """
    rows = [
        (
            f"{one.name} (pip)" if one.manager == "pip" else one.name,
            one.locked,
            one.within or "",
            one.newest or one.within or "",
            "" if set(one.platforms) == set(platforms) else ", ".join(one.platforms),
            ", ".join(one.asked),
        )
        for one in found
    ]
    titles = ("package", "locked", "in the spec", "newest", "platforms", "asked for")
    known = [number for number in range(len(titles)) if number == 2 or any(row[number] for row in rows)]
    if rows:
        yield from table([[row[number] for number in known] for row in (titles, *rows)])


# --- holding one against the other --------------------------------------------------------------------------


def _one(
    package: LockedPackage, asked: Mapping[str, tuple[str, ...]], within: Newest, newest: Newest
) -> Outdated | None:
    key = key_of(package)
    place = (package.platform, key)
    fits = _newer(within.get(place), package.version)
    most = _newer(newest.get(place), fits or package.version)
    if fits is None and most is None:
        return None
    return Outdated(
        package.name,
        package.manager,
        (package.platform,),
        package.version,
        fits,
        most,
        asked.get(key, ()),
        key in asked,
    )


def _newer(version: str | None, than: str) -> str | None:
    return version if version is not None and compare(version, than) > 0 else None


# --- asking -------------------------------------------------------------------------------------------------


def channels_in(spec_path: Path) -> tuple[str, ...]:
    """Return the channels that a spec names, as it has them; none where it cannot be read, which others
    say.
    """
    from envbox.errors import SpecError
    from envbox.locks.spec.document import parsed
    from envbox.locks.spec.text import read_text

    try:
        found = parsed(read_text(spec_path), spec_path).values.get("channels")
    except SpecError:
        return ()
    return tuple(c for c in found if isinstance(c, str)) if isinstance(found, list) else ()


def _named(lock: Lock, channels: Sequence[str]) -> Sequence[str]:
    """Return the lock's channels, with the logins that the spec has for them."""
    logins = {public_channel(c): c for c in channels}
    return [logins.get(channel, channel) for channel in lock.channels]


def _solved(lock: Lock, channels: Sequence[str], settings: Settings, report: Reporter) -> Newest:
    """Return what the spec would have, were nothing locked; nothing where that has no solution any more."""
    from envbox.locks.solve import solve
    from envbox.locks.solve.request import Policy, SolveRequest, virtual_packages

    questions = []
    for platform in lock.platforms:
        specs = tuple(t for t in lock.requested.get(platform, ()) if not t.startswith(PIP_PREFIX))
        cuda = lock.virtual.get(platform, {}).get("__cuda")
        if specs:
            system = virtual_packages(platform, lock.base, cuda)
            questions.append(SolveRequest(platform, specs, system, policy=Policy(lock.exclude_newer)))
    answers = solve(questions, channels, settings) if questions else {}
    for platform, answer in answers.items():
        if isinstance(answer, SolveError):
            report.warn(f"{platform}: what was asked for has no solution any more: {answer.message}")
    return {
        (platform, package.name): package.version
        for platform, answer in answers.items()
        if not isinstance(answer, SolveError)
        for package in answer
    }


def _newest_records(lock: Lock, channels: Sequence[str], settings: Settings) -> Newest:
    """Return the newest version of each conda package in the channel that it is from."""
    return coroutines.run(_query, lock, channels, settings)


async def _query(lock: Lock, named: Sequence[str], settings: Settings) -> Newest:
    import asyncio

    from envbox.locks.solve.ask_channels import ask_channels
    from envbox.locks.solve.gateway import Channels, channel_failure
    from envbox.locks.solve.match_specs import addresses

    places: dict[tuple[str, str], list[str]] = {}
    for package in lock.packages:
        if package.manager == "conda":
            places.setdefault((package.platform, package.channel), []).append(package.name)
    channels = tuple(dict.fromkeys(channel for _, channel in places))

    async def versions(gateway: Any) -> list[Any]:
        found = await asyncio.gather(
            *(_versions(gateway, channel, platform, names) for (platform, channel), names in places.items()),
            return_exceptions=True,
        )
        if broken := [answer for answer in found if isinstance(answer, BaseException)]:
            raise await channel_failure(broken, channels, gateway, settings)
        return found

    whom = Channels(channels, lock.platforms, tuple(addresses(named, ())))
    answers = await ask_channels(whom, versions, settings)
    return {
        (platform, name): max(found, key=version_key)
        for (platform, _), answer in zip(places, answers, strict=True)
        for name, found in answer.items()
    }


async def _versions(gateway: Any, channel: str, platform: str, names: Sequence[str]) -> dict[str, set[str]]:
    from rattler import Channel

    found: dict[str, set[str]] = {}
    for part in await gateway.query([Channel(channel)], [platform, "noarch"], names, False, "disabled"):
        for record in part:
            found.setdefault(record.name.normalized, set()).add(str(record.version))
    return found
