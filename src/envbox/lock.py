"""`lock`: EnvSpec → Lock, solved for all platforms, written whole beside the spec.

What is locked and still fits stays: the packages, and the base's digests as long as the same base is asked
for. A lock that is what the spec asks for is not touched at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from envbox.errors import ImageError, SolveError
from envbox.files import PART, is_leftover, write_whole
from envbox.freshness import differences, is_fresh, remember_fresh
from envbox.lockfile import Base, Lock, LockedPackage
from envbox.mirrors import without_credentials
from envbox.project import Environment
from envbox.report import SILENT, Reporter
from envbox.settings import Settings
from envbox.spec import DEFAULT_PLATFORMS, EnvSpec, content_hashes, read_spec

__all__ = ["differences", "is_fresh", "lock", "solve_spec"]

Solved = dict[str, tuple[LockedPackage, ...] | SolveError]


def lock(
    environment: Environment, settings: Settings, platforms: Sequence[str] | None, report: Reporter
) -> Lock:
    """Solve an environment's spec and write its lockfile, keeping what is locked and still fits.

    :param platforms: exactly these; None: the spec's, the settings', those that are locked, or the default
    :raises SpecError: when the spec is wrong, or a channel in it does not exist
    :raises LockfileError: when there is a lockfile that cannot be read; it is left alone
    :raises SolveError: when there is no solution; the lockfile is left alone
    """
    from envbox.lockfile.conda_lock_v1 import dumps, read_lockfile

    path = environment.lock_path
    previous = read_lockfile(path) if path.is_file() else None
    same = previous is not None and (not platforms or set(platforms) == set(previous.platforms))
    if previous is not None and same and is_fresh(environment, settings):
        report.say(f"{environment.name} is up to date")
        return previous
    locked = previous.platforms if previous else ()
    spec = read_spec(environment.spec_path, platforms or (), settings, locked or DEFAULT_PLATFORMS)
    spec = replace(spec, name=environment.name)
    for words in spec.warnings:
        report.warn(words)
    base = _base(spec, previous, settings, report)
    solved = solve_spec(spec, base, settings, previous, report)
    for leftover in path.parent.glob(f".{path.name}.*{PART}"):
        if is_leftover(leftover):
            leftover.unlink(missing_ok=True)
    write_whole(path, dumps(solved), is_cache=False)
    if not platforms or set(spec.named) <= set(solved.platforms):
        remember_fresh(environment, settings)
    counts = ", ".join(f"{len(solved.for_platform(p))} packages for {p}" for p in solved.platforms)
    report.say(f"locked {environment.name}: {counts}")
    return solved


def solve_spec(
    spec: EnvSpec, base: Base, settings: Settings, previous: Lock | None = None, report: Reporter = SILENT
) -> Lock:
    """Solve a spec for a base: nothing is written, and nothing of this machine goes into the lock.

    :param previous: kept where it still fits
    :raises SolveError: when a platform that was asked for has no solution; it names them all
    """
    from envbox.lockfile.conda_lock_v1 import PIP_PREFIX, sealed

    wanted = [p for p in spec.platforms if not p.startswith("linux-") or p in base.digests]
    with report.task(f"solving {spec.name} for {', '.join(wanted)}"):
        answers = _solve_conda(spec, wanted, base, settings, previous)
        answers = _solve_pip(spec, answers, base, settings, (previous, report))
    solved = _settled(spec, answers, report)
    hashes = content_hashes(spec)
    return sealed(Lock(
        name=spec.name,
        platforms=tuple(sorted(solved)),
        channels=_channels(spec),
        content_hash={p: hashes[p] for p in solved},
        packages=tuple(package for packages in solved.values() for package in packages),
        base=Base(
            base.reference,
            {p: digest for p, digest in base.digests.items() if p in solved},
            {p: version for p, version in base.glibc.items() if p in solved},
        ),
        digest="",
        sources=(spec.path.name,),
        requested={
            p: tuple(sorted([*spec.conda[p], *(PIP_PREFIX + text for text in spec.pip[p])])) for p in solved
        },
        variables=dict(spec.variables),
        slim=settings.for_environment(spec.name).slim,
    ))  # fmt: skip


def _solve_conda(
    spec: EnvSpec, platforms: Sequence[str], base: Base, settings: Settings, previous: Lock | None
) -> Solved:
    from envbox.solve import solve
    from envbox.solve.question import Question, virtual_packages

    questions = [
        Question(p, spec.conda[p], virtual_packages(p, base), _kept(spec, p, previous, "conda"))
        for p in platforms
    ]
    return solve(questions, spec.channels, settings)


def _solve_pip(
    spec: EnvSpec, answers: Solved, base: Base, settings: Settings, before: tuple[Lock | None, Reporter]
) -> Solved:
    if not any(spec.pip.values()):
        return answers
    from envbox.solve.wheels import Requirements, lock_requirements, names_table

    previous, report = before
    names = names_table(settings, report)
    found: Solved = {}
    for platform, conda in answers.items():
        if isinstance(conda, SolveError):
            found[platform] = conda
            continue
        asked = Requirements(
            platform, conda, _kept(spec, platform, previous, "pip"), base.glibc.get(platform)
        )
        try:
            found[platform] = conda + lock_requirements(asked, spec.specification, names, settings)
        except SolveError as error:
            found[platform] = error
    return found


def _kept(spec: EnvSpec, platform: str, previous: Lock | None, manager: str) -> tuple[LockedPackage, ...]:
    """What of the previous lock the solver should prefer.

    After another order of channels only the first one's packages: a preference would outweigh the new
    priority.
    """
    if previous is None or platform not in previous.platforms:
        return ()
    packages = [p for p in previous.for_platform(platform) if p.manager == manager]
    if manager == "conda" and _channels(spec)[: len(previous.channels)] != previous.channels:
        from envbox.solve.match_specs import channel_url, sources

        first = without_credentials(channel_url(sources(spec.channels, ())[0])).rstrip("/")
        packages = [p for p in packages if p.channel == first]
    return tuple(packages)


def _channels(spec: EnvSpec) -> tuple[str, ...]:
    return tuple(without_credentials(channel) if "://" in channel else channel for channel in spec.channels)


def _settled(spec: EnvSpec, answers: Solved, report: Reporter) -> dict[str, tuple[LockedPackage, ...]]:
    """The platforms that were solved; one that nobody asked for may be left out, which is said."""
    solved = {p: answer for p, answer in answers.items() if not isinstance(answer, SolveError)}
    failed = {p: answer for p, answer in answers.items() if isinstance(answer, SolveError)}
    if solved and all(p in spec.optional for p in failed):
        for platform, error in failed.items():
            reason = error.message.partition("\n")[0]
            report.say(f"{platform} is left out: {reason}")
            report.detail(error.message)
        return solved
    required = {p: e for p, e in failed.items() if p not in spec.optional} or failed
    by_words = {error.message: error for error in required.values()}
    raise SolveError(
        f"{spec.name} cannot be locked: " + "\n".join(by_words),
        next((e.hint for e in by_words.values() if e.hint), None),
    )


def _base(spec: EnvSpec, previous: Lock | None, settings: Settings, report: Reporter) -> Base:
    """The base, pinned for each Linux platform: as it is locked, as long as the same one is asked for."""
    from envbox.base import resolve_base
    from envbox.registry.reference import parse_reference

    reference = str(parse_reference(settings.for_environment(spec.name).base or settings.base))
    linux = [p for p in spec.platforms if p.startswith("linux-")]
    before = previous.base if previous is not None else None
    known = before if before is not None and before.reference == reference else Base(reference, {}, {})
    missing = [p for p in linux if p not in known.digests]
    if not missing:
        return known
    try:
        found = resolve_base(reference, missing, settings, report)
    except ImageError as error:
        required = [p for p in missing if p not in spec.optional]
        if len(required) == len(missing) or not (required or known.digests):
            raise
        found = resolve_base(reference, required, settings, report) if required else known
        report.say(f"{', '.join(spec.optional)} is left out: {error.message}")
    return Base(reference, {**known.digests, **found.digests}, {**known.glibc, **found.glibc})
