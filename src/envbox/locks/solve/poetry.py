"""Poetry's version solver (PubGrub), as conda-lock has it inside, fed with our candidates.

It brings backtracking and the words for what cannot be; everything that it would do beside that (asking
indexes, caches, keyrings, logins, running a source archive's build) it is never asked for: of its own classes
only the solver, its provider and the parsers are used. So several platforms can be solved at once.

Its marker language lacks nothing, but a marker's variable that has no value is true; `Target.markers` has all
that a platform decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from envbox.errors import SolveError
from envbox.lockfile import pip_name
from envbox.locks.solve.candidates import Candidate, Candidates

Metadata = Callable[[Candidate], bytes]
"""How the METADATA of a candidate's wheel is had."""


@dataclass(frozen=True, slots=True)
class ResolveRequest:
    """What is to be resolved for one platform.

    :param requirements: as pip has them, without options, each for a name
    :param conda: project → version of what conda has of it already
    :param locked: project → version to be kept where it still fits
    :param is_lowest: whether what is asked for by name is taken as old as it may be
    """

    requirements: tuple[str, ...]
    conda: Mapping[str, str]
    locked: Mapping[str, str] = field(default_factory=dict)
    is_lowest: bool = False


@dataclass(frozen=True, slots=True)
class Resolution:
    """A wheel of the solution.

    :param depends: project → constraint, of what it needs here
    :param allowed: the constraint that all who need it leave together (poetry's)
    """

    candidate: Candidate
    depends: Mapping[str, str]
    allowed: Any


class NoSolutionError(Exception):
    """Poetry's words on why there is no solution.

    :param names: of the projects in them
    """

    def __init__(self, words: str, names: frozenset[str]) -> None:
        super().__init__(words)
        self.words, self.names = words, names


def resolve(wanted: ResolveRequest, candidates: Candidates, metadata: Metadata) -> dict[str, Resolution]:
    """Choose the wheels that a platform's requirements need beside what conda has.

    :raises NoSolutionError: when there is no solution
    """
    from conda_lock._vendor.poetry.core.packages.dependency import Dependency
    from conda_lock._vendor.poetry.puzzle.exceptions import SolverProblemError
    from conda_lock.interfaces.vendored_poetry import PoetryPackage, PoetryProjectPackage, PoetrySolver

    shelf = _Shelf(wanted, candidates, metadata)
    root = PoetryProjectPackage("-the-spec-", "0.0.0")
    for text in wanted.requirements:
        root.add_dependency(Dependency.create_from_pep_508(text))
    locked = [
        PoetryPackage(name, version) for name, version in wanted.locked.items() if shelf.has(name, version)
    ]
    solver = PoetrySolver(
        root, pool=shelf, installed=shelf.conda, locked=[*shelf.conda, *locked], io=_silent()
    )  # fmt: skip
    if wanted.is_lowest:
        solver._provider = _lowest_first(solver.provider, [d.name for d in root.requires])
    try:
        with solver.use_environment(_Environment(dict(candidates.target.markers))):
            solved = solver.solve().get_solved_packages()
    except SolverProblemError as error:
        raise _no_solution(error) from error
    return _reached(root.requires, list(solved), shelf, candidates.target.markers)


@dataclass(frozen=True)
class _Environment:
    marker_env: dict[str, str]


class _Shelf:
    """Where the solver looks: conda's packages first, then our candidates. It has a pool's methods."""

    artifact_cache = None

    def __init__(self, wanted: ResolveRequest, candidates: Candidates, metadata: Metadata) -> None:
        from conda_lock._vendor.poetry.core.constraints.version.exceptions import ParseConstraintError
        from conda_lock._vendor.poetry.core.version.exceptions import InvalidVersionError
        from conda_lock.interfaces.vendored_poetry import PoetryPackage

        self._candidates, self._metadata = candidates, metadata
        self._complete: dict[tuple[str, Any], Any] = {}
        self._bare: dict[str, list[tuple[Any, Candidate]]] = {}
        self.conda = []
        for name, version in wanted.conda.items():
            try:
                self.conda.append(PoetryPackage(name, version))
            except (InvalidVersionError, ParseConstraintError, ValueError):
                continue  # a version that pip has no words for: nothing of pip's can ask for it
        self._of_conda = {package.name: package for package in self.conda}

    def has(self, name: str, version: str) -> bool:
        """Return whether a version of a project can be taken."""
        return any(str(package.version) == version for package, _ in self._versions(name))

    def is_conda(self, name: str, version: Any) -> bool:
        """Return whether a version is what conda has."""
        return name in self._of_conda and self._of_conda[name].version == version

    def candidate(self, name: str, version: Any) -> Candidate | None:
        """Return the candidate that is a version; None where conda has it."""
        return next((c for package, c in self._versions(name) if package.version == version), None)

    def _versions(self, name: str) -> list[tuple[Any, Candidate]]:
        from conda_lock.interfaces.vendored_poetry import PoetryPackage

        if name not in self._bare:
            self._bare[name] = [
                (
                    PoetryPackage(name, str(version), yanked=candidate.file.yanked or candidate.is_yanked),
                    candidate,
                )
                for version, candidate in self._candidates.of(name).items()
            ]
        return self._bare[name]

    def find_packages(self, dependency: Any) -> list[Any]:
        """Return what a dependency allows; of pre-releases and what was yanked, as PEP 440 and 592 have
        it.
        """
        from conda_lock._vendor.poetry.core.constraints.version import Version

        if dependency.is_direct_origin():
            raise SolveError(
                f"{dependency.to_pep_508()} is needed by a package, from an address instead of an index",
                "name that requirement in the spec, as NAME @ URL#sha256=HASH",
            )
        constraint, early = dependency.constraint, dependency.allows_prereleases()
        ours = self._of_conda.get(dependency.name)
        if ours is not None and constraint.allows(ours.version):
            return [ours]
        fit = [
            package
            for package, _ in self._versions(dependency.name)
            if constraint.allows(package.version) and (not package.yanked or isinstance(constraint, Version))
        ]
        ripe = [package for package in fit if early or not package.is_prerelease()]
        return ripe if ripe or early is False else fit

    def package(
        self, name: str, version: Any, extras: Sequence[str] | None = None, repository_name: str | None = None
    ) -> Any:
        """Return a version with what it needs."""
        name = pip_name(name)
        ours = self._of_conda.get(name)
        if ours is not None and ours.version == version:
            return ours
        key = name, version
        if key not in self._complete:
            candidate = self.candidate(name, version)
            assert candidate is not None
            self._complete[key] = _package_of(candidate, self._metadata(candidate))
        return self._complete[key].clone()


def _package_of(candidate: Candidate, metadata: bytes) -> Any:
    from conda_lock._vendor.poetry.inspection.info import PackageInfo
    from packaging.metadata import parse_email

    told, _ = parse_email(metadata)
    return PackageInfo(
        name=candidate.name,
        version=str(candidate.version),
        requires_dist=told.get("requires_dist"),
        requires_python=None,  # the index has said it, and what does not fit is no candidate
    ).to_package(candidate.name)


def _silent() -> Any:
    from conda_lock._vendor.cleo.io.null_io import NullIO

    return NullIO()


def _lowest_first(provider: Any, names: Sequence[str]) -> Any:
    """Return a provider that has the oldest version first of these projects."""
    kind = type(provider)

    class Lowest(kind):  # type: ignore[misc, valid-type]
        def search_for(self, dependency: Any) -> Any:
            found = super().search_for(dependency)
            if dependency.name in names:
                found.sort(key=lambda p: (p.package.is_prerelease(), p.package.version))
            return found

    provider.__class__ = Lowest
    return provider


def _no_solution(error: Any) -> NoSolutionError:
    words = str(error)
    names: set[str] = set()
    todo = [error.error._incompatibility]
    while todo:
        incompatibility = todo.pop()
        names |= {term.dependency.name for term in incompatibility.terms}
        cause = incompatibility.cause
        todo += [c for c in (getattr(cause, "conflict", None), getattr(cause, "other", None)) if c]
    return NoSolutionError(words, frozenset(names - {"-the-spec-"}))


# --- what of the solution is wheels -------------------------------------------------------------------------


def _reached(
    asked: Sequence[Any], solved: Sequence[Any], shelf: _Shelf, markers: Mapping[str, str]
) -> dict[str, Resolution]:
    """Return the wheels of a solution, with what each of them needs here: no other system's, and no
    extra's that nobody asked for.
    """
    depends: dict[str, dict[str, Any]] = {}
    allowed: dict[str, Any] = {}
    extras: dict[str, set[str]] = {}
    candidates: dict[str, Candidate] = {}
    todo: list[tuple[str | None, Any]] = [(None, dependency) for dependency in asked]
    while todo:
        user, dependency = todo.pop()
        name = dependency.name
        active = user is None or not dependency.in_extras or extras[user] & set(dependency.in_extras)
        if not active or not dependency.marker.validate(markers):
            continue
        constraint = dependency.constraint
        if user is not None and name != user:
            needs = depends[user]
            needs[name] = constraint.intersect(needs[name]) if name in needs else constraint
        allowed[name] = constraint.intersect(allowed[name]) if name in allowed else constraint
        version = next((p.version for p in solved if p.name == name and constraint.allows(p.version)), None)
        candidate = (
            shelf.candidate(name, version)
            if version is not None and not shelf.is_conda(name, version)
            else None
        )
        if candidate is None or (name in candidates and set(dependency.extras) <= extras[name]):
            continue
        candidates[name] = candidate
        depends.setdefault(name, {})
        extras[name] = extras.get(name, set()) | set(dependency.extras)
        todo += [(name, one) for one in shelf.package(name, version).requires]
    return {
        name: Resolution(one, {n: str(c) for n, c in sorted(depends[name].items())}, allowed[name])
        for name, one in sorted(candidates.items())
    }
