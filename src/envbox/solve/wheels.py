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
from envbox.mirrors import public, without_credentials
from envbox.report import Reporter
from envbox.settings import Settings
from envbox.solve.candidates import Candidate, Candidates, Rules
from envbox.solve.index import File, Indexes, indexes_of
from envbox.solve.names import projects_of
from envbox.solve.poetry import Chosen, NoSolutionError, Wanted, resolve
from envbox.solve.question import LOWEST_DIRECT, Policy, cutoff
from envbox.solve.settled import Locked, settled
from envbox.solve.tags import Target, target_of
from envbox.solve.wheel_metadata import metadata_of

if TYPE_CHECKING:
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
    before: Locked
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
            return _lock(requirements, indexes, names, settings)
        except SolveError as error:
            return error

    with ThreadPoolExecutor(len(asked) or 1, "pip") as pool:
        futures = [pool.submit(one, requirements) for requirements in asked]
        broken = [error for future in futures if (error := future.exception())]
    if broken:
        raise _together(broken)
    answers = {r.platform: future.result() for r, future in zip(asked, futures, strict=True)}
    _tell({p: a for p, a in answers.items() if isinstance(a, _Answer)}, report)
    return {p: answer.wheels if isinstance(answer, _Answer) else answer for p, answer in answers.items()}


def _together(broken: Sequence[BaseException]) -> BaseException:
    """One failure for all that said the same of each platform, or of several indexes."""
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


def _lock(asked: Requirements, indexes: Indexes, names: Path, settings: Settings) -> _Answer:
    target = target_for(asked.platform, asked.conda, asked.virtual)
    conda = projects_of(asked.conda, names)
    requirements = _parsed(asked.texts, target)
    there = _there(requirements, conda)
    if not any(map(_OPTION.search, asked.texts)):  # rare, and only an index tells what has which hash
        kept = settled(requirements, asked.before, conda, target)
        if kept is not None:
            return _Answer(kept, there)
    candidates = Candidates(indexes, target, _rules(requirements, asked, settings))
    wanted = Wanted(
        tuple(_for_poetry(r) for r in requirements),
        {project: package.version for project, package in conda.items()},
        {pip_name(p.name): p.version for p in asked.before.wheels if pip_name(p.name) not in conda},
        asked.policy.strategy == LOWEST_DIRECT,
    )

    def metadata(candidate: Candidate) -> bytes:
        return metadata_of(candidate.file, indexes.transport, settings)

    try:
        chosen = resolve(wanted, candidates, metadata)
    except NoSolutionError as error:
        raise _in_words(error, requirements, candidates) from error
    _refuse_shadows(chosen, conda, asked.platform)
    wheels = tuple(_locked(one, asked.platform, settings) for one in chosen.values())
    return _Answer(wheels, there, _older(chosen, candidates), _yanked(chosen, wanted))


def target_for(platform: str, packages: Sequence[LockedPackage], virtual: Mapping[str, str]) -> Target:
    """What the Python of a platform's conda packages can use.

    :raises SpecError: when there is no Python among them, or wheels are not made for the platform
    """
    python = next((p.version for p in packages if p.manager == "conda" and p.name == "python"), None)
    if python is None:
        raise SpecError("there is a `pip:` section, but no python among the dependencies", "add `- python`")
    abi = next((p.build or "" for p in packages if p.name == "python_abi"), "")
    return target_of(platform, python, virtual, abi.endswith("t"))


def _parsed(texts: Iterable[str], target: Target) -> list[Requirement]:
    """The requirements that hold on a platform."""
    from packaging.requirements import Requirement

    found = [Requirement(_OPTION.sub("", text)) for text in texts]
    return [r for r in found if r.marker is None or r.marker.evaluate({**target.markers, "extra": ""})]


def _there(requirements: Iterable[Requirement], conda: Mapping[str, LockedPackage]) -> list[str]:
    """The requirements that conda's packages are already, in words."""
    found = ((r, conda.get(pip_name(r.name))) for r in requirements)
    return [
        f"{r.name} is there already as conda's {package.name} {package.version}; pip adds nothing to it"
        for r, package in found
        if package is not None and _contains(r, package.version)
    ]


def _contains(requirement: Requirement, version: str) -> bool:
    from packaging.version import InvalidVersion

    try:
        return not requirement.url and requirement.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return False


def _for_poetry(requirement: Requirement) -> str:
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    if requirement.url:
        return f"{requirement.name}{extras} =={_version_in(requirement)}"
    return f"{requirement.name}{extras} {requirement.specifier}"


def _version_in(requirement: Requirement) -> str:
    """The version of the wheel that a requirement names by its address."""
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


def _locked(chosen: Chosen, platform: str, settings: Settings) -> LockedPackage:
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


# --- what is to be told -------------------------------------------------------------------------------------


def _refuse_shadows(chosen: Mapping[str, Chosen], conda: Mapping[str, LockedPackage], platform: str) -> None:
    """Two packages of one name would write the same files, and neither would be whole."""
    for name in sorted(chosen.keys() & conda.keys()):
        version, package = chosen[name].candidate.version, conda[name]
        raise SolveError(
            f"the pip requirements need {name} {version}, but conda has {package.version} for {platform}",
            f"ask conda for {package.name} {version} too, or take it from one of them only",
        )


def _yanked(chosen: Mapping[str, Chosen], wanted: Wanted) -> list[str]:
    told = []
    for name, one in chosen.items():
        if one.candidate.is_yanked:
            version, why = str(one.candidate.version), one.candidate.file.yanked
            stays = wanted.locked.get(name) == version
            told.append(
                f"{name} {version} was yanked by who published it{f' ({why})' if why else ''}; "
                + (
                    "it stays locked until"
                    if stays
                    else "it is locked because just this version is asked for"
                )
                + (f": envbox lock --update {name}" if stays else "")
            )
    return told


def _older(chosen: Mapping[str, Chosen], candidates: Candidates) -> list[str]:
    """Which newer versions would have been taken, had they a wheel that fits."""
    from conda_lock._vendor.poetry.core.constraints.version import Version

    told = []
    for name, one in chosen.items():
        version = one.candidate.version
        newer = [
            v
            for v in candidates.versions(name)
            if v > version
            and (version.is_prerelease or not v.is_prerelease)
            and one.allowed.allows(Version.parse(str(v)))
        ]
        if passed := candidates.without_wheel(name, newer):
            told.append(f"{candidates.reason(name, passed[0])}; {version} is taken")
    return told


def _in_words(
    error: NoSolutionError, requirements: Iterable[Requirement], candidates: Candidates
) -> SolveError:
    """What poetry found, and what it does not know: why a version was no candidate."""
    named = [pip_name(r.name) for r in requirements if pip_name(r.name) in error.names]
    for name in [*named, *sorted(error.names)]:
        if (why := candidates.why_none(name)) is not None:
            return SolveError(why, _way_out(name, why, candidates))
    asked = {pip_name(r.name): r.specifier for r in requirements}
    reasons, hint = [], None
    for name in sorted(error.names):
        fits = [v for v in candidates.versions(name) if asked.get(name) is None or asked[name].contains(v)]
        for version in candidates.passed_over(name, fits)[:3]:
            reasons.append(candidates.reason(name, version))
            hint = hint or _way_out(name, reasons[-1], candidates)
    lines = [
        line.rstrip().replace("-the-spec-", "the spec") for line in error.words.splitlines() if line.strip()
    ]
    return SolveError(
        "\n  ".join(
            [f"the pip requirements cannot be satisfied on {candidates.target.platform}:", *lines, *reasons]
        ),
        hint,
    )


def _way_out(name: str, why: str, candidates: Candidates) -> str:
    if why.startswith("there is no"):
        return "check its name; a package index of your own is set as `extra_index_urls` in envbox.toml"
    if "PEP 700" in why or "uploaded later" in why:
        return "take a later date, or `--exclude-newer none`"
    if fitting := list(candidates.of(name)):
        shown = ", ".join(map(str, fitting[:5]))
        return f"ask for a version of {name} that has one ({shown}), or take {name} from conda instead"
    return f"take {name} from conda instead, or ask for a version that has a wheel"
