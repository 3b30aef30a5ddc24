"""A spec's `pip:` section → wheels pinned by hash, beside the conda packages of each platform.

What is locked and still satisfies the requirements stays, and then no index is asked at all. Otherwise the
platforms are resolved at once; they share what the indexes say. What conda has already is not taken again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envbox.errors import EnvboxError, SolveError, SpecError
from envbox.lockfile import LockedPackage, pip_name
from envbox.locks.solve.candidates import Candidate, Candidates, Rules
from envbox.locks.solve.index import Indexes, indexes_of
from envbox.locks.solve.index_page import File
from envbox.locks.solve.names import projects_of
from envbox.locks.solve.poetry import NoSolutionError, Resolution, ResolveRequest, resolve
from envbox.locks.solve.prefetch import CONNECTIONS, Metadata, ask_ahead
from envbox.locks.solve.request import LOWEST_DIRECT, Policy, cutoff
from envbox.locks.solve.still_satisfied import PreviousWheels, settled
from envbox.locks.solve.tags import Target, target_of
from envbox.locks.solve.wheel_words import (
    in_words,
    is_there,
    older,
    on_mirrors,
    refuse_shadows,
    there,
    yanked,
)
from envbox.mirrors import public, without_credentials
from envbox.report import Reporter
from envbox.settings import Settings

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from packaging.requirements import Requirement

Wheels = tuple[LockedPackage, ...]
_OPTION = re.compile(r"\s--hash[= ](\S+)")


@dataclass(frozen=True, slots=True)
class Requirements:
    """What pip is to add on one platform.

    :param texts: as the spec has them
    :param conda: the platform's conda packages, which may already be what a requirement asks for
    :param before: what was locked, to be kept where it still fits
    :param virtual: versions of the platform's virtual packages
    """

    platform: str
    texts: tuple[str, ...]
    conda: tuple[LockedPackage, ...]
    before: PreviousWheels
    virtual: Mapping[str, str]
    policy: Policy


@dataclass(slots=True)
class _Answer:
    """A platform's wheels, and what a person should be told about them."""

    wheels: Wheels
    there: list[str] = field(default_factory=list)
    older: list[str] = field(default_factory=list)
    yanked: list[str] = field(default_factory=list)


def lock_requirements(
    asked: Sequence[Requirements], specification: Any, names: Path, settings: Settings, report: Reporter
) -> dict[str, Wheels | SolveError]:
    """Resolve the requirements of all platforms at once; each one's answer is its wheels, or why not.

    :param specification: conda-lock's LockSpecification, for the indexes
    :param names: the table of conda's names for PyPI's projects (`names_table`)
    :raises SpecError: when there is no Python to install for
    :raises ToolError: when an index cannot be read
    """
    from concurrent.futures import ThreadPoolExecutor

    indexes = indexes_of(specification, settings)

    def one(requirements: Requirements) -> _Answer | SolveError:
        try:
            return _lock(requirements, indexes, names, source)
        except SolveError as error:
            return error

    with (
        ThreadPoolExecutor(CONNECTIONS, "index") as connections,
        ThreadPoolExecutor(len(asked) or 1, "pip") as pool,
    ):
        source = _Source(Metadata(indexes.transport, settings), connections, settings)
        futures = [pool.submit(one, requirements) for requirements in asked]
        broken = [error for future in futures if (error := future.exception())]
    if broken:
        raise _together(broken)
    answers = {r.platform: future.result() for r, future in zip(asked, futures, strict=True)}
    _tell({p: a for p, a in answers.items() if isinstance(a, _Answer)}, report)
    return {p: answer.wheels if isinstance(answer, _Answer) else answer for p, answer in answers.items()}


@dataclass(frozen=True, slots=True)
class _Source:
    """Where all platforms have what wheels say of themselves from, and how it is asked for side by side."""

    metadata: Metadata
    connections: Executor
    settings: Settings


def _together(broken: Sequence[BaseException]) -> BaseException:
    """Return one failure for all that said the same of each platform, or of several indexes."""
    first = broken[0]
    words = list(dict.fromkeys(e.message for e in broken if isinstance(e, EnvboxError)))
    if isinstance(first, EnvboxError) and len(words) > 1:
        return type(first)("; ".join(words), first.hint)
    return first


def _tell(answers: Mapping[str, _Answer], report: Reporter) -> None:
    """Say once what holds for several platforms."""

    def lines(told: Mapping[str, list[str]]) -> Iterable[str]:
        by_words: dict[str, list[str]] = {}
        for platform, several in told.items():
            for words in several:
                by_words.setdefault(words, []).append(platform)
        everywhere = len(answers)
        for words, platforms in by_words.items():
            yield words if len(platforms) == everywhere else f"{', '.join(platforms)}: {words}"

    for words in lines({p: a.yanked for p, a in answers.items()}):
        report.warn(words)
    for words in [
        *lines({p: a.there for p, a in answers.items()}),
        *lines({p: a.older for p, a in answers.items()}),
    ]:
        report.say(words)


# --- one platform -------------------------------------------------------------------------------------------


def _lock(asked: Requirements, indexes: Indexes, names: Path, source: _Source) -> _Answer:
    settings = source.settings
    target = target_for(asked.platform, asked.conda, asked.virtual)
    conda = projects_of(asked.conda, names)
    requirements = _parsed(asked.texts, target)
    already = there(requirements, conda)
    if not any(map(_OPTION.search, asked.texts)):  # rare, and only an index tells what has which hash
        kept = settled(requirements, asked.before, conda, target)
        if kept is not None:
            return _Answer(kept, already)
    candidates = Candidates(indexes, target, _rules(requirements, asked, settings))
    wanted = ResolveRequest(
        tuple(_for_poetry(r) for r in requirements),
        {project: package.version for project, package in conda.items()},
        {pip_name(p.name): p.version for p in asked.before.wheels if pip_name(p.name) not in conda},
        asked.policy.strategy == LOWEST_DIRECT,
    )

    def metadata(candidate: Candidate) -> bytes:
        return source.metadata.of(candidate.file)

    lacking = [r for r in requirements if not is_there(r, conda)]
    if not settings.offline:
        ask_ahead(lacking, wanted.locked, candidates, source.metadata, source.connections)
    try:
        chosen = resolve(wanted, candidates, metadata)
    except NoSolutionError as error:
        raise in_words(error, lacking, candidates) from error
    refuse_shadows(chosen, conda, asked.platform)
    wheels = tuple(_locked(one, asked.platform, settings) for one in chosen.values())
    return _Answer(
        wheels, already, older(chosen, candidates), [*yanked(chosen, wanted), *on_mirrors(wheels, indexes)]
    )


def target_for(platform: str, packages: Sequence[LockedPackage], virtual: Mapping[str, str]) -> Target:
    """Return what the Python of a platform's conda packages can use.

    :raises SpecError: when there is no Python among them, or wheels are not made for the platform
    """
    python = next((p.version for p in packages if p.manager == "conda" and p.name == "python"), None)
    if python is None:
        raise SpecError("there is a `pip:` section, but no python among the dependencies", "add `- python`")
    abi = next((p.build or "" for p in packages if p.name == "python_abi"), "")
    return target_of(platform, python, virtual, abi.endswith("t"))


def _parsed(texts: Iterable[str], target: Target) -> list[Requirement]:
    """Return the requirements that hold on a platform."""
    from packaging.requirements import Requirement

    found = [Requirement(_OPTION.sub("", text)) for text in texts]
    return [r for r in found if r.marker is None or r.marker.evaluate({**target.markers, "extra": ""})]


def _for_poetry(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    if requirement.url:
        return f"{requirement.name}{extras} =={_version_in(requirement)}"
    return f"{requirement.name}{extras} {requirement.specifier}"


def _version_in(requirement: Requirement) -> str:
    """Return the version of the wheel that a requirement names by its address."""
    from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

    name = public(requirement.url or "").rsplit("/", 1)[-1]
    try:
        owner, version, *_ = parse_wheel_filename(name)
    except InvalidWheelFilename as error:
        raise SpecError(
            f"{name}, which {requirement.name} is to be taken from, is not a wheel's name"
        ) from error
    if owner != canonicalize_name(requirement.name):
        raise SpecError(f"{name}, which {requirement.name} is to be taken from, is a wheel of {owner}")
    return str(version)


def _rules(requirements: Iterable[Requirement], asked: Requirements, settings: Settings) -> Rules:
    from packaging.requirements import Requirement

    hashes = {
        pip_name(Requirement(_OPTION.sub("", text)).name): frozenset(
            found.removeprefix("sha256:") for found in _OPTION.findall(text)
        )
        for text in asked.texts
        if _OPTION.search(text)
    }
    direct = {}
    for requirement in requirements:
        if requirement.url:
            url, _, sha256 = requirement.url.partition("#sha256=")
            name = public(url).rsplit("/", 1)[-1]
            direct[pip_name(requirement.name)] = File(name, settings.mirrors.rewrite(url), sha256)
    date = asked.policy.exclude_newer
    kept = frozenset(p.sha256 for p in asked.before.wheels)
    return Rules(cutoff(date) if date else None, hashes, direct, kept)


def _locked(chosen: Resolution, platform: str, settings: Settings) -> LockedPackage:
    file = chosen.candidate.file
    url = settings.mirrors.canonical(without_credentials(file.url))
    if file.sha256 is None:
        raise SolveError(
            f"the package index gives no sha256 for {url}, so it cannot be locked",
            f"name it with its hash: {chosen.candidate.name} @ {url}#sha256=…",
        )
    return LockedPackage(
        "pip", chosen.candidate.name, str(chosen.candidate.version), None, platform, dict(chosen.depends),
        url, file.sha256,
    )  # fmt: skip
