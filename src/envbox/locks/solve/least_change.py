"""The solution that is nearest to what is locked, and has the newest of what should move.

A solver only knows preferences, and they come last: it decides first on what was asked for, takes its newest
version, and moves all that this version needs. So what is locked is held fast; where that leaves no solution,
what stands in the way is let go of, and then held again piece by piece, until nothing that moved could have
stayed. What should move goes to the newest version that the spec allows, whatever else must move for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from envbox.lockfile import LockedPackage
from envbox.locks.solve.match_specs import ask_strictly, parse_match_spec
from envbox.locks.solve.no_solution import names_in
from envbox.locks.solve.request import LOWEST_DIRECT, SolveRequest, cutoff

MOST_TRIES = 40
"""Solves that are spent on holding again; each takes a fraction of the first one, which read the indexes."""

Records = dict[str, Any]
"""Package name → rattler's record."""
Names = frozenset[str]


@dataclass(frozen=True, slots=True)
class Solver:
    """One platform's question, with the channels to ask and what is locked as they have it now.

    :param others: what the other side of a merge has locked instead; taken where the first cannot be
    """

    question: SolveRequest
    channels: Sequence[str]
    gateway: Any
    locked: Records
    others: Records

    async def solve(self, held: Names, extra: Sequence[str] = ()) -> Records:
        """Solve once: what is held cannot move; what else is locked is preferred, unless it should move.

        :param extra: match specs that must hold besides
        :raises rattler.exceptions.SolverError: when there is no solution
        """
        if len(self.channels) == 1:
            return await self._ask(held, [parse_match_spec(text) for text in self.question.specs], extra)
        asked, bounds = ask_strictly(self.question.specs)
        return await self._ask(held, asked, [*bounds, *extra])

    async def solve_near(self, held: Names, extra: Sequence[str] = ()) -> Records:
        """Solve as `solve` does, asking for what is held itself, so that only what it needs is looked at.

        Of a large channel a solver otherwise reads every version of all that any version ever needed. But
        then what is held is there although nothing needs it any more, and may be in the way of what is newer;
        so a solution that has such is none.

        :raises rattler.exceptions.SolverError: when there is no solution, or it is one of those
        """
        from rattler.exceptions import SolverError

        texts = [f"{name}[sha256={self.locked[name].sha256.hex()}]" for name in sorted(held)]
        asked = [parse_match_spec(text) for text in self.question.specs]
        others = [spec for spec in asked if spec.name.normalized not in held]
        found = await self._ask(
            held, [*map(parse_match_spec, texts), *others], [*self.question.specs, *extra]
        )
        if unneeded := found.keys() - _with_needs({spec.name.normalized for spec in asked}, found):
            raise SolverError(f"nothing needs {', '.join(sorted(unneeded))}")
        return found

    async def _ask(self, held: Names, specs: Sequence[Any], constraints: Sequence[str]) -> Records:
        from rattler import Channel
        from rattler.solver.solver import solve

        question = self.question
        policy, preferred = question.policy, self.locked.keys() - held - question.update
        found = await solve(
            sources=[Channel(url) for url in self.channels],
            specs=specs,
            constraints=[parse_match_spec(text) for text in constraints],
            gateway=self.gateway,
            platforms=[question.platform, "noarch"],
            locked_packages=[self.others.get(name, self.locked[name]) for name in sorted(preferred)],
            pinned_packages=[self.locked[name] for name in sorted(held)],
            virtual_packages=_generic(question.virtual),
            exclude_newer=cutoff(policy.exclude_newer) if policy.exclude_newer else None,
            channel_relations="disabled",  # what a channel says of others is not what was asked for
            timestamp_policy="allow-missing",  # what has none was built before 2017
            strategy="lowest-direct" if policy.strategy == LOWEST_DIRECT else "highest",
        )
        return {record.name.normalized: record for record in found}

    def has_moved(self, name: str, found: Records) -> bool:
        """Return whether a solution has another record of what is locked; what it does without has not
        moved.
        """
        return name in found and found[name].sha256 != self.locked[name].sha256


async def least_change(question: SolveRequest, channels: Sequence[str], gateway: Any) -> list[Any]:
    """Solve a question, moving what it says should move and, of what else is locked, only what must.

    :raises rattler.exceptions.SolverError: when there is no solution
    """
    specs = [parse_match_spec(text) for text in question.specs]
    ours = await _locked_records(question, question.locked, channels, gateway)
    theirs = await _locked_records(question, question.theirs, channels, gateway)
    solver = Solver(question, channels, gateway, *_one_of_both(ours, theirs, specs))
    unfit = _unfit(solver.locked, specs)
    held = frozenset(solver.locked.keys() - unfit - question.update)
    found = await _holding(solver, held)
    if question.policy.strategy != LOWEST_DIRECT:
        fixed: list[str] = []
        for name in sorted(question.update & found.keys()):
            newest = await _newest(solver, name, found[name], fixed)
            fixed.append(_exactly(newest))
            if newest is not found[name]:
                found = await _holding(solver, held, fixed)
    return list(found.values())


def _unfit(records: Records, specs: Sequence[Any]) -> Names:
    """Return the names whose record is not what is asked for."""
    named = [(spec.name.normalized, spec) for spec in specs]
    return frozenset(name for name, spec in named if name in records and not spec.matches(records[name]))


def _one_of_both(ours: Records, theirs: Records, specs: Sequence[Any]) -> tuple[Records, Records]:
    """Return of two sides' records those to hold, and to fall back to: what fits comes first, then the
    newer.
    """
    unfit = _unfit(ours, specs), _unfit(theirs, specs)
    held, others = {**theirs, **ours}, {}
    for name in ours.keys() & theirs.keys():
        one, other = ours[name], theirs[name]
        if one.sha256 == other.sha256:
            continue
        if (name not in unfit[1], _age(other)) > (name not in unfit[0], _age(one)):
            one, other = other, one
        held[name], others[name] = one, other
    return held, others


def _age(record: Any) -> tuple[Any, ...]:
    return record.version, record.build_number, str(record.timestamp or "")


# --- what should move ---------------------------------------------------------------------------------------


async def _newest(solver: Solver, name: str, record: Any, fixed: Sequence[str]) -> Any:
    """Return the newest record of a package that any solution has; the given one, where none has a newer.

    What a solver gives is only the newest beside what it decided on before. So it is asked for something
    newer until there is nothing; which most often costs no solve, since the channel has nothing newer.
    """
    from rattler.exceptions import SolverError

    there = await _query(solver.question, solver.channels, solver.gateway, [name])
    newer = True
    while newer:
        newer = False
        for text in (
            f"{name} >{record.version}",
            f"{name} =={record.version}[build_number='>{record.build_number}']",
        ):
            wanted = parse_match_spec(text)
            if not any(wanted.matches(one) for one in there):
                continue
            try:
                found = await solver.solve(frozenset(), [*fixed, text])
            except SolverError:
                continue
            if name in found:
                record, newer = found[name], True
                break
    return record


def _exactly(record: Any) -> str:
    return f"{record.name.normalized} =={record.version}[build_number={record.build_number}]"


# --- what should stay ---------------------------------------------------------------------------------------


async def _holding(solver: Solver, held: Names, extra: Sequence[str] = ()) -> Records:
    """Solve with these held fast, but for what must move."""
    from rattler.exceptions import SolverError

    with suppress(SolverError):
        if held:
            return await solver.solve_near(held, extra)
    try:
        return await solver.solve(held, extra)
    except SolverError as error:
        if not held:
            raise
        rest = held - _with_dependents(names_in(str(error)), solver.locked)
    try:
        found = await solver.solve(rest, extra)
    except SolverError:
        rest = frozenset()
        found = await solver.solve(rest, extra)
    return await _held_again(solver, found, held, extra)


async def _held_again(solver: Solver, found: Records, held: Names, extra: Sequence[str]) -> Records:
    """Hold again what moved and could have stayed: halves of it, and halves of those, as long as it fails.

    What was asked for comes first: where one of two must move, it is not that.
    """
    from rattler.exceptions import SolverError

    asked = {parse_match_spec(text).name.normalized for text in solver.question.specs}
    moved = sorted((n for n in held if solver.has_moved(n, found)), key=lambda n: (n not in asked, n))
    holding = held - set(moved)
    parts = [[name for name in moved if not _is_barred(solver.locked[name], extra)]]
    for _ in range(MOST_TRIES):
        part = list[str]()
        while parts and not part:
            part = [name for name in parts.pop() if name not in holding]
        if not part:
            break
        try:
            found = await solver.solve(holding | set(part), extra)
        except SolverError:
            half = (len(part) + 1) // 2
            parts += [part[half:], part[:half]] if len(part) > 1 else []
        else:
            holding |= {name for name in held if not solver.has_moved(name, found)}
    return found


def _is_barred(record: Any, fixed: Iterable[str]) -> bool:
    """Return whether it needs another version of what is fixed, so that there is no use in holding it."""
    versions = {}
    for text in fixed:
        name, _, rest = text.partition(" ==")
        versions[name] = rest.partition("[")[0]
    return any(
        name in versions and not _allows(rest.partition(" ")[0], versions[name])
        for name, _, rest in (text.partition(" ") for text in record.depends)
    )


def _allows(versions: str, version: str) -> bool:
    from rattler import Version, VersionSpec

    return not versions or bool(VersionSpec(versions).matches(Version(version)))


def _with_dependents(names: set[str], records: Mapping[str, Any]) -> set[str]:
    """Return the names, and all that need one of them: they were built for the version that is to move."""
    found = set(names)
    needs = {name: {text.partition(" ")[0] for text in record.depends} for name, record in records.items()}
    while more := {name for name, needed in needs.items() if name not in found and needed & found}:
        found |= more
    return found


def _with_needs(names: set[str], records: Mapping[str, Any]) -> set[str]:
    """Return the names, and all that they need, near or far."""
    found, todo = set[str](), [name for name in names if name in records]
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += [n for text in records[name].depends if (n := text.partition(" ")[0]) in records]
    return found


# --- asking rattler -----------------------------------------------------------------------------------------


async def _locked_records(
    question: SolveRequest, packages: Sequence[LockedPackage], channels: Sequence[str], gateway: Any
) -> Records:
    """Return the records of what is locked, as the channels have them now, by name."""
    if not packages:
        return {}
    wanted = {p.sha256: p for p in packages}
    exact = [f"{p.name}[sha256={p.sha256}]" for p in packages]
    records: Records = {}
    for record in await _query(question, channels, gateway, exact):
        locked = wanted.get(record.sha256.hex() if record.sha256 else "")
        if locked is not None and record.url.endswith(f"/{locked.subdir}/{locked.file_name}"):
            records.setdefault(locked.name, record)
    return records


async def _query(
    question: SolveRequest, channels: Sequence[str], gateway: Any, specs: Sequence[str]
) -> list[Any]:
    from rattler import Channel, MatchSpec

    found = await gateway.query(
        [Channel(url) for url in channels],
        [question.platform, "noarch"],
        [MatchSpec(text) for text in specs],
        recursive=False,
        channel_relations="disabled",
    )
    return [record for part in found for record in part]


def _generic(virtual: Mapping[str, tuple[str, str]]) -> list[Any]:
    from rattler import GenericVirtualPackage, PackageName, Version
    from rattler.package import BuildString

    return [
        GenericVirtualPackage(PackageName(name), Version(version), BuildString(build))
        for name, (version, build) in virtual.items()
    ]
