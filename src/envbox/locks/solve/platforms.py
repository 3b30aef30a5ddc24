"""EnvSpec × base → Lock: every platform solved, conda's packages first, then the wheels.

A platform that was asked for and has no solution stops everything, and is named; one that nobody asked for is
left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from envbox.errors import SolveError
from envbox.lockfile import Base, Lock, LockedPackage
from envbox.locks.solve.request import PreviousLock, SolveRequest, assumed, virtual_packages
from envbox.locks.spec import EnvSpec, content_hashes, quiet_conda_lock
from envbox.mirrors import public_channel, without_credentials
from envbox.report import SILENT, Reporter
from envbox.settings import Settings

if TYPE_CHECKING:
    from envbox.locks.solve.still_satisfied import PreviousWheels

NEW = PreviousLock()
_HERE = "\0"  # where a platform's name stood in words that are the same for several

Solved = dict[str, tuple[LockedPackage, ...] | SolveError]


def solve_spec(
    spec: EnvSpec, base: Base, settings: Settings, before: PreviousLock = NEW, report: Reporter = SILENT
) -> Lock:
    """Solve a spec for a base: nothing is written, and nothing of this machine goes into the lock.

    :param before: the lock in it is kept where it still fits
    :raises SolveError: when a platform that was asked for has no solution; it names them all
    """
    from envbox.lockfile.conda_lock_v1 import PIP_PREFIX, sealed

    wanted = [p for p in spec.platforms if p not in spec.optional or p in base.digests]
    with report.task(f"solving {spec.name} for {', '.join(wanted)}"):
        answers = _solve_conda(spec, wanted, base, settings, before)
        answers = _solve_pip(spec, answers, base, settings, (before, report))
    solved = _settled(spec, answers, report)
    hashes = content_hashes(spec)
    own = settings.for_environment(spec.name)
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
        slim=own.slim,
        exclude_newer=before.policy.exclude_newer,
        strategy=before.policy.strategy,
        virtual={p: found for p in sorted(solved) if (found := assumed(p, base, own.cuda))},
    ))  # fmt: skip


def _solve_conda(
    spec: EnvSpec, platforms: Sequence[str], base: Base, settings: Settings, before: PreviousLock
) -> Solved:
    from envbox.locks.solve import solve

    cuda = settings.for_environment(spec.name).cuda
    questions = [
        SolveRequest(
            p, spec.conda[p], virtual_packages(p, base, cuda), _kept(spec, p, before, "conda", before.lock),
            before.update.names, before.policy, _kept(spec, p, before, "conda", before.theirs),
        )
        for p in platforms
    ]  # fmt: skip
    return solve(questions, spec.channels, settings)


def _solve_pip(
    spec: EnvSpec, answers: Solved, base: Base, settings: Settings, start: tuple[PreviousLock, Reporter]
) -> Solved:
    from envbox.locks.solve.names import names_table
    from envbox.locks.solve.wheels import Requirements, lock_requirements

    before, report = start
    cuda = settings.for_environment(spec.name).cuda
    asked = [
        Requirements(
            platform, spec.pip[platform], conda, _wheels_before(spec, platform, before),
            {name: version for name, (version, _) in virtual_packages(platform, base, cuda).items()},
            before.policy,
        )
        for platform, conda in answers.items()
        if spec.pip[platform] and not isinstance(conda, SolveError)
    ]  # fmt: skip
    if not asked:
        return answers
    with quiet_conda_lock():
        wheels = lock_requirements(asked, spec.specification, names_table(settings, report), settings, report)
    found: Solved = {}
    for platform, conda in answers.items():
        added = wheels.get(platform, ())
        if isinstance(conda, SolveError) or isinstance(added, SolveError):
            found[platform] = conda if isinstance(conda, SolveError) else added
        else:
            found[platform] = conda + added
    return found


def _wheels_before(spec: EnvSpec, platform: str, before: PreviousLock) -> PreviousWheels:
    from envbox.lockfile.custom import PIP_PREFIX
    from envbox.locks.solve.still_satisfied import PreviousWheels

    wheels = _newest([_kept(spec, platform, before, "pip", lock) for lock in before.sides])
    if not wheels:
        return PreviousWheels()
    texts = (text for lock in before.sides for text in lock.requested.get(platform, ()))
    pythons = {p.version for lock in before.sides for p in lock.for_platform(platform) if p.name == "python"}
    return PreviousWheels(
        wheels,
        tuple(text.removeprefix(PIP_PREFIX) for text in texts if text.startswith(PIP_PREFIX)),
        pythons.pop() if len(pythons) == 1 else None,
    )


def _newest(sides: Sequence[Sequence[LockedPackage]]) -> tuple[LockedPackage, ...]:
    """Return the wheels of the locks that are there, each once: of two, the newer."""
    from packaging.version import Version

    found: dict[str, LockedPackage] = {}
    for package in (package for side in sides for package in side):
        other = found.setdefault(package.name, package)
        if other.version != package.version and Version(other.version) < Version(package.version):
            found[package.name] = package
    return tuple(found.values())


def _kept(
    spec: EnvSpec, platform: str, before: PreviousLock, manager: str, previous: Lock | None
) -> tuple[LockedPackage, ...]:
    """Return what of a previous lock the solver should prefer.

    After another order of channels only the first one's packages: a preference would outweigh the new
    priority. Nothing for a date or a strategy that is new: what they give is a function of them alone.
    """
    policy = before.policy
    if previous is None or platform not in previous.platforms or before.update.everything:
        return ()
    if policy.strategy != previous.strategy or policy.exclude_newer not in (None, previous.exclude_newer):
        return ()
    packages = [p for p in previous.for_platform(platform) if p.manager == manager]
    if manager == "pip":
        return tuple(p for p in packages if p.name not in before.update.names)
    if _channels(spec)[: len(previous.channels)] != previous.channels:
        from envbox.locks.solve.match_specs import channel_url, sources

        first = without_credentials(channel_url(sources(spec.channels, ())[0])).rstrip("/")
        packages = [p for p in packages if p.channel == first]
    return tuple(packages)


def _channels(spec: EnvSpec) -> tuple[str, ...]:
    return tuple(map(public_channel, spec.channels))


def _settled(spec: EnvSpec, answers: Solved, report: Reporter) -> dict[str, tuple[LockedPackage, ...]]:
    """Return the platforms that were solved; one that nobody asked for may be left out, which is said."""
    solved = {p: answer for p, answer in answers.items() if not isinstance(answer, SolveError)}
    failed = {p: answer for p, answer in answers.items() if isinstance(answer, SolveError)}
    if solved and all(p in spec.optional for p in failed):
        for platform, error in failed.items():
            reason = error.message.partition("\n")[0]
            report.say(f"{platform} is left out: {reason}")
            report.detail(error.message)
        return solved
    required = {p: e for p, e in failed.items() if p not in spec.optional} or failed
    by_words: dict[str, list[str]] = {}
    for platform, error in required.items():
        by_words.setdefault(error.message.replace(platform, _HERE), []).append(platform)
    raise SolveError(
        f"{spec.name} cannot be locked: "
        + "\n".join(_named(words, where, answers) for words, where in by_words.items()),
        next((e.hint for e in required.values() if e.hint), None),
    )


def _named(words: str, platforms: Sequence[str], answers: Solved) -> str:
    """Return what is wrong, with the platforms that it is wrong for, where that is a question and not
    said.
    """
    named = ", ".join(platforms)
    is_said = len(answers) == 1 or _HERE in words
    return words.replace(_HERE, named) if is_said else f"{named}: {words}"
