"""The solve: match specs → packages, for all platforms at once, with py-rattler.

The platforms are solved at once, in rattler's own threads, on indexes that are read once. That what is locked
stays is `least_change`'s. Channels have conda's priority "strict".
"""

from __future__ import annotations

import sys
import time
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from envbox.errors import SolveError, ToolError
from envbox.lockfile import LockedPackage
from envbox.mirrors import without_credentials
from envbox.settings import Settings
from envbox.solve.least_change import least_change
from envbox.solve.match_specs import addresses, joined_depends, sources
from envbox.solve.no_solution import no_solution
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

    from envbox.solve.gateway import channel_failure, open_gateway  # late: checks of a lock need no network

    specs = [spec for question in questions for spec in question.specs]
    asked = sources(channels, specs)
    gateway = open_gateway(settings, asked, addresses(channels, specs))
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
        records = await least_change(question, asked, gateway)
    except SolverError as error:
        words, hint = await no_solution(str(error), question, asked, gateway)
        raise SolveError(words, hint) from error
    return tuple(_locked(record, question.platform, settings) for record in records)


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
        size=record.size,
        license=record.license or None,
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
