"""The solve: match specs → packages, for all platforms at once, with py-rattler.

The platforms are solved at once, in rattler's own threads, on indexes that are read once. That what is locked
stays is `least_change`'s. Channels have conda's priority "strict".
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from envbox import coroutines
from envbox.errors import SolveError, ToolError
from envbox.lockfile import LockedPackage
from envbox.locks.solve.least_change import least_change
from envbox.locks.solve.match_specs import addresses, joined_depends, sources
from envbox.locks.solve.no_solution import no_solution, unmet_specs, unmet_words
from envbox.locks.solve.request import SolveRequest
from envbox.mirrors import without_credentials
from envbox.settings import Settings


def solve(
    questions: Sequence[SolveRequest], channels: Sequence[str], settings: Settings
) -> dict[str, tuple[LockedPackage, ...] | SolveError]:
    """Solve all questions at once; each platform's answer is its packages, or why there is none.

    :raises SpecError: when a channel does not exist
    :raises ToolError: when a channel cannot be reached
    """
    with _bounded_memory():
        return coroutines.run(_solve, questions, channels, settings)


# --- asking rattler -----------------------------------------------------------------------------------------


async def _solve(
    questions: Sequence[SolveRequest], channels: Sequence[str], settings: Settings
) -> dict[str, tuple[LockedPackage, ...] | SolveError]:
    import asyncio

    from envbox.locks.solve.ask_channels import ask_channels  # late: checks of a lock need no network
    from envbox.locks.solve.gateway import Channels, channel_failure

    specs = [spec for question in questions for spec in question.specs]
    asked = sources(channels, specs)

    async def answers(gateway: Any) -> list[Any]:
        found = await asyncio.gather(
            *(_answer(question, asked, gateway, settings) for question in questions), return_exceptions=True
        )
        broken = [a for a in found if isinstance(a, BaseException) and not isinstance(a, SolveError)]
        if broken:
            raise await channel_failure(broken, asked, gateway, settings)
        return found

    platforms = tuple(question.platform for question in questions)
    whom = Channels(tuple(asked), platforms, tuple(addresses(channels, specs)))
    found = await ask_channels(whom, answers, settings)
    return {question.platform: answer for question, answer in zip(questions, found, strict=True)}


async def _answer(
    question: SolveRequest, asked: Sequence[str], gateway: Any, settings: Settings
) -> tuple[LockedPackage, ...]:
    from rattler.exceptions import SolverError

    try:
        records = await least_change(question, asked, gateway)
    except SolverError as error:
        words, hint = await _why(error, question, asked, gateway)
        raise SolveError(words, hint) from error
    return tuple(_locked(record, question.platform, settings) for record in records)


async def _why(
    error: Exception, question: SolveRequest, asked: Sequence[str], gateway: Any
) -> tuple[str, str | None]:
    """Return all that is in the way: what nothing fits, and whether the rest would go together."""
    from rattler.exceptions import SolverError

    faults = await unmet_specs(question, asked, gateway)
    if not faults:
        return no_solution(str(error), question)
    words, hint = await unmet_words(faults, question, asked, gateway)
    unmet = {fault.text for fault in faults}
    rest = replace(question, specs=tuple(text for text in question.specs if text not in unmet))
    try:
        if rest.specs:
            await least_change(rest, asked, gateway)
    except SolverError as other:
        words = f"{words}\n{no_solution(str(other), rest)[0]}"
    return words, hint


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


@contextmanager
def _bounded_memory() -> Iterator[None]:
    """Keep glibc's memory from growing with every solve.

    By itself it gives each of rattler's threads an arena of its own, and takes ever larger pieces from there
    once it has seen a large one freed: pieces of an index, between which what is small and stays then lies.
    """
    libc = _glibc()
    if libc is not None:
        libc.mallopt(-8, 2)  # M_ARENA_MAX, malloc.h; with 1, the threads wait for each other
        libc.mallopt(-3, 128 << 10)  # M_MMAP_THRESHOLD: the default, but fixed
    try:
        yield
    finally:
        if libc is not None:
            libc.malloc_trim(0)  # a solve leaves holes of a hundred MB, which the next would not fit into


def _glibc() -> Any:
    """Return the C library, if it is glibc; else None."""
    if sys.platform != "linux":
        return None
    import ctypes

    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
