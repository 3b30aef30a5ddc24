"""conda's pip, added where wheels are locked without it.

A spec with a `pip:` section asks for pip itself, as conda means it; pixi installs wheels without. So that the
spec can ask for the wheels, pip joins the lock, in a solve in which nothing else can move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from envbox.errors import EnvboxError, SolveError
from envbox.lockfile import Base, LockedPackage
from envbox.locks.solve.request import SolveRequest, virtual_packages
from envbox.report import Reporter
from envbox.settings import Settings


def with_pip(
    packages: Sequence[LockedPackage],
    channels: Sequence[str],
    base: Base,
    settings: Settings,
    report: Reporter,
) -> tuple[LockedPackage, ...]:
    """Return the packages, and pip with what it needs on each platform that has wheels and no pip.

    :raises EnvboxError: when that cannot be had beside what is locked
    """
    by_platform: dict[str, list[LockedPackage]] = {}
    for package in packages:
        by_platform.setdefault(package.platform, []).append(package)
    questions = [
        SolveRequest(
            platform,
            (*(f"{p.name} =={p.version} {p.build}" for p in here if p.manager == "conda"), "pip"),
            virtual_packages(platform, base),
            tuple(p for p in here if p.manager == "conda"),
        )
        for platform, here in sorted(by_platform.items())
        if any(p.manager == "pip" for p in here) and not any(p.name == "pip" for p in here)
    ]
    if not questions:
        return tuple(packages)
    from envbox.locks.solve import solve

    added: list[LockedPackage] = []
    try:
        with report.task("adding conda's pip, which a spec with wheels asks for"):
            for platform, answer in solve(questions, channels, settings).items():
                if isinstance(answer, SolveError):
                    raise answer
                known = {p.name for p in by_platform[platform]}
                added += [replace(p, platform=platform) for p in answer if p.name not in known]
    except EnvboxError as error:
        raise type(error)(
            f"wheels are locked without conda's pip, which a spec with wheels asks for: {error.message}",
            "a lockfile can be used as it is, without a spec: envbox build FILE",
        ) from error
    names = ", ".join(sorted({p.name for p in added}))
    report.say(f"added {names}: a spec with a `pip:` section asks for pip itself")
    return (*packages, *added)
