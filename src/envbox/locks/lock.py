"""`lock`: EnvSpec → Lock, solved for all platforms, written whole beside the spec.

What is locked and still fits stays: the packages, and the base's digests as long as the same base is asked
for. A lock that is what the spec asks for is not touched at all.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from envbox.errors import ImageError, LockfileError, SpecError, did_you_mean
from envbox.files import PART, is_leftover, write_whole
from envbox.lockfile import Base, Lock
from envbox.locks.freshness import differences, is_fresh, remember_fresh
from envbox.locks.solve.platforms import solve_spec
from envbox.locks.solve.request import (
    GLIBC,
    HIGHEST,
    NO_DATE,
    Policy,
    PreviousLock,
    Update,
    moment,
    system_of,
)
from envbox.locks.spec import EnvSpec, read_spec
from envbox.platforms import DEFAULT_PLATFORMS, IMAGE_PLATFORMS
from envbox.project import Environment
from envbox.report import Reporter, counted
from envbox.settings import Settings

__all__ = [
    "Update",
    "differences",
    "is_fresh",
    "lock",
    "locked_before",
    "relock",
    "sides_before",
    "solve_spec",
]

NOTHING = Update()


def lock(
    environment: Environment,
    settings: Settings,
    platforms: Sequence[str] | None,
    report: Reporter,
    *,
    update: Update = NOTHING,
    dry_run: bool = False,
) -> Lock:
    """Solve an environment's spec and write its lockfile, keeping what is locked and still fits.

    :param platforms: exactly these; None: the spec's, the settings', those that are locked, or the default
    :param dry_run: write nothing
    :raises SpecError: when the spec is wrong, or a channel in it does not exist
    :raises LockfileError: when there is a lockfile that cannot be read; it is left alone
    :raises SolveError: when there is no solution; the lockfile is left alone
    """
    before = _before(environment, settings, update)
    if (standing := _standing(before, platforms)) is not None and is_fresh(environment, settings):
        report.say(f"{environment.name} is up to date")
        return standing
    if before.theirs is not None:
        report.say(f"{environment.lock_path.name} is in conflict: it is settled from the spec and both sides")
    spec = read_spec(
        environment.spec_path, platforms or (), settings, _platforms(before) or DEFAULT_PLATFORMS
    )
    solved = _solve(replace(spec, name=environment.name), before, settings, report)
    if not dry_run:
        _write(environment, solved)
        told = settings.exclude_newer is None or moment(settings.exclude_newer) == solved.exclude_newer
        if told and (not platforms or set(spec.named) <= set(solved.platforms)):
            remember_fresh(environment, settings)
    _say(solved, before, report, "would lock" if dry_run else "locked")
    return solved


def relock(
    environment: Environment, spec_text: bytes, settings: Settings, report: Reporter, update: Update = NOTHING
) -> Lock:
    """Solve a spec that is not on disk yet, and write it and its lockfile only when that worked.

    :param spec_text: of a spec of the same name and place
    :raises SpecError: when it is wrong; nothing is written, as when anything else fails
    """
    before = _before(environment, settings, update)
    with tempfile.TemporaryDirectory(prefix="envbox-spec-") as folder:
        aside = Path(folder, environment.spec_path.name)
        aside.write_bytes(spec_text)
        try:
            beside = environment.spec_path.absolute().parent
            spec = read_spec(aside, (), settings, _platforms(before) or DEFAULT_PLATFORMS, beside)
        except SpecError as error:
            words = error.message.replace(str(aside), str(environment.spec_path))
            raise SpecError(words, error.hint) from error
    spec = replace(spec, name=environment.name, path=environment.spec_path)
    solved = _solve(spec, before, settings, report)
    write_whole(environment.spec_path, spec_text, is_cache=False)  # first: what is killed here, `lock` ends
    _write(environment, solved)
    _say(solved, before, report, "locked")
    return solved


def locked_before(environment: Environment) -> Lock | None:
    """Return the lock that is there, if any.

    :raises LockfileError: when it cannot be read
    """
    from envbox.lockfile.conda_lock_v1 import read_lockfile

    return read_lockfile(environment.lock_path) if environment.lock_path.is_file() else None


def sides_before(environment: Environment) -> tuple[Lock, ...]:
    """Return the lock that is there; both sides of it, ours first, where it is in conflict; or none.

    :raises LockfileError: when it cannot be read
    """
    from envbox.lockfile.conflict_markers import read_sides

    try:
        found = read_sides(environment.lock_path.read_bytes(), environment.lock_path)
    except OSError:  # who reads it as one says so in words
        found = None
    if found is not None:
        return found
    standing = locked_before(environment)
    return (standing,) if standing is not None else ()


# --- around the solve ---------------------------------------------------------------------------------------


def _before(environment: Environment, settings: Settings, update: Update) -> PreviousLock:
    previous, theirs = (*sides_before(environment), None, None)[:2]
    date = update.exclude_newer or settings.exclude_newer or (previous.exclude_newer if previous else None)
    strategy = update.strategy or (previous.strategy if previous else None)
    policy = Policy(
        moment(date) if date and date != NO_DATE else None,
        strategy if strategy != HIGHEST else None,
    )
    if update.names:
        _check_locked(update.names, previous, environment)
    return PreviousLock(previous, update, policy, theirs)


def _platforms(before: PreviousLock) -> tuple[str, ...]:
    return tuple(sorted({platform for lock in before.sides for platform in lock.platforms}))


def _check_locked(names: frozenset[str], previous: Lock | None, environment: Environment) -> None:
    if previous is None:
        raise LockfileError(
            f"{environment.name} is not locked yet, so nothing of it can be updated",
            f"envbox lock {environment.name}",
        )
    locked = {p.name for p in previous.packages}
    for name in sorted(names - locked):
        raise LockfileError(
            f"{name} is not locked in {environment.name}, so it cannot be updated",
            did_you_mean(name, sorted(locked)) or f"envbox list {environment.name}",
        )


def _standing(before: PreviousLock, platforms: Sequence[str] | None) -> Lock | None:
    """Return the lock that is there, if nothing of it is to move, and it is for these platforms."""
    previous, update = before.lock, before.update
    if (
        previous is None
        or before.theirs is not None
        or update.everything
        or update.names
        or _policy(previous) != before.policy
    ):
        return None
    return previous if not platforms or set(platforms) == set(previous.platforms) else None


def _policy(lock: Lock) -> Policy:
    return Policy(lock.exclude_newer, lock.strategy)


def _solve(spec: EnvSpec, before: PreviousLock, settings: Settings, report: Reporter) -> Lock:
    for words in spec.warnings:
        report.warn(words)
    base = _base(spec, before.sides, settings, report)
    return solve_spec(spec, base, settings, before, report)


def _write(environment: Environment, solved: Lock) -> None:
    from envbox.lockfile.conda_lock_v1 import dumps

    path = environment.lock_path
    for leftover in path.parent.glob(f".{path.name}.*{PART}"):
        if is_leftover(leftover):
            leftover.unlink(missing_ok=True)
    write_whole(path, dumps(solved), is_cache=False)


def _say(solved: Lock, before: PreviousLock, report: Reporter, verb: str) -> None:
    from envbox.locks.inspect.changes import changes, summary
    from envbox.locks.inspect.merge_outcome import settled
    from envbox.locks.inspect.tables import lines

    counts = ", ".join(
        f"{counted(len(solved.for_platform(p)))} for {p}{_system(solved, p)}" for p in solved.platforms
    )
    how = [f"as of {solved.exclude_newer}"] * bool(solved.exclude_newer) + [solved.strategy or ""]
    report.say(f"{verb} {solved.name}: {counts}{''.join(f', {word}' for word in how if word)}")
    if before.lock is None:
        return
    if before.theirs is not None:
        for line in settled(before.lock, before.theirs, solved):
            report.say(f"  {line}")
        return
    found = changes(before.lock, solved)
    report.say(summary(found))
    if verb == "locked":
        for line in lines(found, solved.platforms):
            report.say(f"  {line}")
    moved = {change.name for change in found}
    for name in sorted(before.update.names - moved):
        report.say(f"{name} stays: nothing newer fits the spec")


def _system(solved: Lock, platform: str) -> str:
    words = [f"{name.removeprefix('__')} {version}" for name, version in system_of(solved, platform).items()]
    return f" ({', '.join(words)})" if words else ""


def _base(spec: EnvSpec, previous: Sequence[Lock], settings: Settings, report: Reporter) -> Base:
    """Return the base, pinned for each platform that an image can be of: as it is locked, as long as the
    same one is asked for.
    """
    from envbox.registry.base import resolve_base
    from envbox.registry.reference import parse_reference

    reference = str(parse_reference(settings.for_environment(spec.name).base or settings.base))
    linux = [p for p in spec.platforms if p in DEFAULT_PLATFORMS]
    pinned = [lock.base for lock in reversed(previous) if lock.base and lock.base.reference == reference]
    known = Base(
        reference,
        {p: digest for base in pinned for p, digest in base.digests.items()},
        {p: version for base in pinned for p, version in base.glibc.items()},
    )
    missing = [p for p in linux if p not in known.digests]
    known = _with_rare(known, [p for p in spec.platforms if p not in linux], settings, report)
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


def _with_rare(known: Base, platforms: Sequence[str], settings: Settings, report: Reporter) -> Base:
    """Return the base, pinned also for platforms that few bases have; one that it lacks is locked without
    it.
    """
    from envbox.registry.base import resolve_base

    for platform in platforms:
        if platform not in IMAGE_PLATFORMS or platform in known.digests:
            continue
        try:
            found = resolve_base(known.reference, [platform], settings, report)
        except ImageError as error:
            report.warn(f"{error.message}; glibc {GLIBC} is assumed there, and no image can be built of it")
        else:
            known = Base(known.reference, {**known.digests, **found.digests}, {**known.glibc, **found.glibc})
    return known
