"""What a person is told of the wheels that were chosen, or of why none could be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from envbox.errors import SolveError, listed
from envbox.lockfile import LockedPackage, pip_name
from envbox.locks.solve.candidates import Candidates
from envbox.locks.solve.index import Indexes
from envbox.locks.solve.poetry import NoSolutionError, Resolution, ResolveRequest

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_MOST_HINTS = 5


def there(requirements: Iterable[Requirement], conda: Mapping[str, LockedPackage]) -> list[str]:
    """Return the requirements that conda's packages are already, in words."""
    found = ((r, conda.get(pip_name(r.name))) for r in requirements)
    return [
        f"{r.name} is there already as conda's {package.name} {package.version}; pip adds nothing to it"
        for r, package in found
        if package is not None and _contains(r, package.version)
    ]


def is_there(requirement: Requirement, conda: Mapping[str, LockedPackage]) -> bool:
    """Return whether a package of conda's is what a requirement asks for."""
    package = conda.get(pip_name(requirement.name))
    return package is not None and _contains(requirement, package.version)


def _contains(requirement: Requirement, version: str) -> bool:
    from packaging.version import InvalidVersion

    try:
        return not requirement.url and requirement.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return False


def refuse_shadows(
    chosen: Mapping[str, Resolution], conda: Mapping[str, LockedPackage], platform: str
) -> None:
    """Refuse two packages of one name: they would write the same files, and neither would be whole."""
    for name in sorted(chosen.keys() & conda.keys()):
        version, package = chosen[name].candidate.version, conda[name]
        raise SolveError(
            f"the pip requirements need {name} {version}, but conda has {package.version} for {platform}",
            f"ask conda for {package.name} {version} too, or take it from one of them only",
        )


def yanked(chosen: Mapping[str, Resolution], wanted: ResolveRequest) -> list[str]:
    """Return the wheels that who published them asks not to take, in words."""
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


def on_mirrors(wheels: Iterable[LockedPackage], indexes: Indexes) -> list[str]:
    """Return the wheels whose address is a mirror's and stays it, since no rule says whose it is, in
    words.
    """
    found: dict[str, list[str]] = {}
    for wheel in wheels:
        mirror = indexes.index_of(wheel.name)
        if mirror in indexes.mirrored and urlsplit(wheel.url).netloc == urlsplit(mirror).netloc:
            found.setdefault(mirror, []).append(wheel.name)
    return [
        f"the mirror {mirror} has {', '.join(names)} at an address that nobody else may reach, and the lock "
        f"names it: add where its files lie to [mirrors], beside {indexes.mirrored[mirror]}"
        for mirror, names in found.items()
    ]


def older(chosen: Mapping[str, Resolution], candidates: Candidates) -> list[str]:
    """Return which newer versions would have been taken, had they a wheel that fits."""
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


def in_words(
    error: NoSolutionError, requirements: Sequence[Requirement], candidates: Candidates
) -> SolveError:
    """Return what poetry found, and what it does not know: why a version was no candidate.

    :param requirements: that conda's packages are not already; all that nothing fits are named
    """
    faults = {r.name: why for r in requirements if (why := _why_unmet(r, candidates)) is not None}
    if not faults:
        unmet = ((name, candidates.why_none(name)) for name in sorted(error.names))
        faults = {name: why for name, why in unmet if why is not None}
    if len(faults) == 1:
        ((name, why),) = faults.items()
        return SolveError(why, _way_out(name, why, candidates))
    if faults:
        return _all_unmet(faults, candidates)
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


def _why_unmet(requirement: Requirement, candidates: Candidates) -> str | None:
    """Return why nothing fits a requirement, whatever else is asked for; None where something does."""
    name = pip_name(requirement.name)
    if (why := candidates.why_none(name)) is not None:
        return why
    fits = requirement.specifier.contains
    if requirement.url or any(fits(version, prereleases=True) for version in candidates.of(name)):
        return None
    if passed := candidates.passed_over(
        name, [v for v in candidates.versions(name) if fits(v, prereleases=True)]
    ):
        return candidates.reason(name, passed[0])
    index = candidates.indexes.index_of(name)
    return f"there is no {name} {requirement.specifier} in the package index {index}"


def _all_unmet(faults: Mapping[str, str], candidates: Candidates) -> SolveError:
    gone = {name: why for name, why in faults.items() if why.startswith(f"there is no {pip_name(name)} in ")}
    lines = [why for name, why in faults.items() if name not in gone]
    if len(gone) > 1:
        where = next(iter(gone.values())).partition(" in the ")[2]
        lines.insert(0, f"there is no {', '.join(map(pip_name, gone))} in the {where}")
    else:
        lines = [*gone.values(), *lines]
    hints = dict.fromkeys(_way_out(pip_name(name), why, candidates) for name, why in faults.items())
    head = f"the pip requirements cannot be satisfied on {candidates.target.platform}"
    return SolveError(listed(head, lines, most=len(lines)), "; ".join([*hints][:_MOST_HINTS]))


def _way_out(name: str, why: str, candidates: Candidates) -> str:
    if why.startswith(f"there is no {name} in "):
        return "check its name; a package index of your own is set as `extra_index_urls` in envbox.toml"
    if "PEP 700" in why or "uploaded later" in why:
        return "take a later date, or `--exclude-newer none`"
    if fitting := list(candidates.of(name)):
        if why.startswith("there is no"):
            return f"the newest {name} there is {max(fitting)}"
        shown = ", ".join(map(str, fitting[:5]))
        return f"ask for a version of {name} that has one ({shown}), or take {name} from conda instead"
    return f"take {name} from conda instead, or ask for a version that has a wheel"
