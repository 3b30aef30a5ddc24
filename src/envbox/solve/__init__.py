"""The solve: match specs → packages, for all platforms at once, with py-rattler.

The difficulty is that what is locked should stay. The records of the packages that are locked are looked up
in the channels again and held fast; what then stands in the way of a solution is let go of, so that a package
that has gone, or no longer fits, moves, and nothing else does. Channels have conda's priority "strict".
"""

from __future__ import annotations

import sys
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from envbox.errors import SolveError, ToolError
from envbox.lockfile import LockedPackage
from envbox.mirrors import without_credentials
from envbox.settings import Settings
from envbox.solve.gateway import open_gateway
from envbox.solve.match_specs import joined_depends, parse_match_spec, sources
from envbox.solve.no_solution import channel_failure, names_in, no_solution
from envbox.solve.question import Question

T = TypeVar("T")


def solve(
    questions: Sequence[Question], channels: Sequence[str], settings: Settings
) -> dict[str, tuple[LockedPackage, ...] | SolveError]:
    """Solve all questions at once; each platform's answer is its packages, or why there is none.

    :raises SpecError: when a channel does not exist
    :raises ToolError: when a channel cannot be reached
    """
    _bound_arenas()
    return _run(_solve(questions, channels, settings))


# --- asking rattler -----------------------------------------------------------------------------------------


async def _solve(
    questions: Sequence[Question], channels: Sequence[str], settings: Settings
) -> dict[str, tuple[LockedPackage, ...] | SolveError]:
    import asyncio

    gateway = open_gateway(settings)
    asked = sources(channels, (s for question in questions for s in question.specs))
    answers = await asyncio.gather(
        *(_answer(question, asked, gateway, settings) for question in questions), return_exceptions=True
    )
    broken = [a for a in answers if isinstance(a, BaseException) and not isinstance(a, SolveError)]
    if broken:
        raise await channel_failure(broken, asked, gateway, settings)
    return {
        question.platform: answer
        for question, answer in zip(questions, answers, strict=True)
        if isinstance(answer, tuple | SolveError)
    }


async def _answer(
    question: Question, asked: Sequence[str], gateway: Any, settings: Settings
) -> tuple[LockedPackage, ...]:
    from rattler.exceptions import SolverError

    try:
        locked = await _locked_records(question, asked, gateway)
        records = await _least_change(question, asked, gateway, locked)
    except SolverError as error:
        words, hint = await no_solution(str(error), question, asked, gateway)
        raise SolveError(words, hint) from error
    return tuple(_locked(record, question.platform, settings) for record in records)


async def _least_change(
    question: Question, asked: Sequence[str], gateway: Any, locked: Mapping[str, Any]
) -> list[Any]:
    """Solve with what is locked held fast; then without what stands in the way; then with preferences only.

    A preference alone is not enough: the solver decides first on what was asked for, takes its newest
    version, and moves all that this version needs.
    """
    from rattler import Channel
    from rattler.exceptions import SolverError
    from rattler.solver.solver import solve as rattler_solve

    specs = [parse_match_spec(text) for text in question.specs]
    unfit = {s.name.normalized for s in specs if (r := locked.get(s.name.normalized)) and not s.matches(r)}
    held = {name: record for name, record in locked.items() if name not in unfit}
    let_go = False
    while True:
        try:
            return list(await rattler_solve(
                sources=[Channel(url) for url in asked],
                specs=specs,
                gateway=gateway,
                platforms=[question.platform, "noarch"],
                locked_packages=[record for name, record in locked.items() if name not in held],
                pinned_packages=list(held.values()),
                virtual_packages=_generic(question.virtual),
            ))  # fmt: skip
        except SolverError as error:
            if not held:
                raise
            in_the_way = _with_dependents(names_in(str(error)), held)
            held = {} if let_go else {n: r for n, r in held.items() if n not in in_the_way}
            let_go = True


def _with_dependents(names: set[str], records: Mapping[str, Any]) -> set[str]:
    """The names, and all that need one of them: they were built for the version that is to move."""
    found = set(names)
    needs = {name: {text.partition(" ")[0] for text in record.depends} for name, record in records.items()}
    while more := {name for name, needed in needs.items() if name not in found and needed & found}:
        found |= more
    return found


async def _locked_records(question: Question, asked: Sequence[str], gateway: Any) -> dict[str, Any]:
    """The records of what is locked, as the channels have them now, by name."""
    from rattler import Channel, MatchSpec

    if not question.locked:
        return {}
    wanted = {p.sha256: p for p in question.locked}
    exact = [MatchSpec(f"{p.name}[sha256={p.sha256}]") for p in question.locked]
    found = await gateway.query(
        [Channel(url) for url in asked], [question.platform, "noarch"], exact, recursive=False
    )
    records: dict[str, Any] = {}
    for record in (record for part in found for record in part):
        locked = wanted.get(record.sha256.hex() if record.sha256 else "")
        if locked is not None and record.url.endswith(f"/{locked.subdir}/{locked.file_name}"):
            records.setdefault(locked.name, record)
    return records


def _generic(virtual: Mapping[str, tuple[str, str]]) -> list[Any]:
    from rattler import GenericVirtualPackage, PackageName, Version
    from rattler.package import BuildString

    return [
        GenericVirtualPackage(PackageName(name), Version(version), BuildString(build))
        for name, (version, build) in virtual.items()
    ]


def _locked(record: Any, platform: str, settings: Settings) -> LockedPackage:
    url = settings.mirrors.canonical(without_credentials(record.url))
    if record.sha256 is None:
        raise ToolError(
            f"the channel gives no sha256 for {url}, so it cannot be locked",
            "have the channel indexed again, or take the package from another one",
        )
    return LockedPackage(
        manager="conda",
        name=record.name.normalized,
        version=str(record.version),
        build=str(record.build),
        platform=platform,
        depends=dict(sorted(joined_depends(record.depends).items())),
        url=url,
        sha256=record.sha256.hex(),
        md5=record.md5.hex() if record.md5 else None,
    )


# --- two pitfalls of running rattler inside Python ----------------------------------------------------------


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end, and let rattler's threads put down what they hold of Python.

    A thread that still wants the interpreter when Python ends aborts the process (one run in forty did).
    """
    import asyncio

    try:
        return asyncio.run(work)
    finally:
        time.sleep(0.005)


def _bound_arenas() -> None:
    """Keep glibc from giving each of rattler's threads an arena of its own, which grows with every solve."""
    if sys.platform != "linux":
        return
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-8, 2)  # M_ARENA_MAX, malloc.h
