"""Whether what is locked satisfies what is asked for, and what the packages ask of each other.

A lockfile that was edited or merged by hand can hold every package and still be no solution: each may need
another version of the next. So every dependency is held against what is locked, by rattler, as in a solve.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from envbox.lockfile import LockedPackage
from envbox.mirrors import without_credentials

System = Mapping[str, tuple[str, str]]
"""Virtual package → version and build, as `envbox.locks.solve.request.virtual_packages` has them."""
_NOTHING: System = {}
_VERSIONS_ONLY = re.compile(r"(?:(?:[<>=!~]=|[<>])?[0-9][0-9a-zA-Z.]*\*?[,|]?)+")


def unmet(
    specs: Sequence[str], packages: Sequence[LockedPackage], system: System = _NOTHING
) -> Iterator[str]:
    """Yield the match specs that what is locked for a platform does not satisfy, in words.

    :param system: what the platform's machines offer: a spec may ask for that too, and it is never locked
    """
    from envbox.locks.solve.match_specs import parse_match_spec

    locked = {p.name: p for p in packages if p.manager == "conda"}
    for text in specs:
        match_spec = parse_match_spec(text)
        name = match_spec.name.normalized
        package = locked.get(name)
        if name.startswith("__"):
            if name not in system:
                yield f"{text} is asked for, and the machines that are locked for have no {name}"
            elif not _virtual(name, *system[name]).matches(match_spec):
                yield f"{text} is asked for, {' '.join(system[name])} is what is locked for"
        elif package is None:
            yield f"{text} is not locked"
        elif not (_is_of_channel(match_spec, package) and _record(package).matches(match_spec)):
            yield f"{text} is asked for, {package.version} {package.build} is locked"


def unmet_wheels(requirements: Sequence[str], packages: Sequence[LockedPackage]) -> Iterator[str]:
    """Yield the requirements whose wheel is locked in another version.

    One that has no wheel may be met by a conda package of another name, which only a solve can tell.
    """
    if not requirements:
        return
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    locked = {canonicalize_name(p.name): p for p in packages if p.manager == "pip"}
    for text in requirements:
        try:
            requirement = Requirement(re.sub(r"\s--hash[= ]\S+", "", text))
        except InvalidRequirement:
            continue
        package = locked.get(canonicalize_name(requirement.name))
        if package is not None and not requirement.specifier.contains(package.version, prereleases=True):
            yield f"{text} is asked for, {package.version} is locked"


def broken(packages: Sequence[LockedPackage]) -> Iterator[str]:
    """Yield the dependencies of conda packages on each other that do not hold, in words."""
    locked = {p.name.lower(): p for p in packages if p.manager == "conda"}
    for package in locked.values():
        for name, constraint in package.depends.items():
            other = locked.get(name.lower())
            if constraint and other is not None and not _fits(constraint, other):
                yield f"{package.name} needs {name} {constraint}, {other.version} {other.build} is locked"


def _fits(constraint: str, package: LockedPackage) -> bool:
    """Return whether a package is what another needs. Most answers are every platform's."""
    is_version = _VERSIONS_ONLY.fullmatch(constraint)
    return _answer(package.name, constraint, package.version, "" if is_version else package.build or "")


@lru_cache(maxsize=1 << 16)
def _answer(name: str, constraint: str, version: str, build: str) -> bool:
    from rattler import MatchSpec
    from rattler.exceptions import InvalidMatchSpecError

    if "[" in constraint or "::" in constraint:  # only its channel can tell
        return True
    try:
        return bool(_virtual(name, version, build).matches(MatchSpec(f"{name} {constraint}")))
    except InvalidMatchSpecError:
        return True


def _virtual(name: str, version: str, build: str) -> Any:
    """Return a record that has nothing but a name, a version and a build, as the system's own packages
    have.
    """
    from rattler import PackageRecord
    from rattler.package import BuildString

    return PackageRecord(name, version, BuildString.new_unchecked(build), 0, "noarch")


def _is_of_channel(match_spec: Any, package: LockedPackage) -> bool:
    channel = match_spec.channel
    return channel is None or without_credentials(channel.base_url).rstrip("/") == package.channel


def _record(package: LockedPackage) -> Any:
    from rattler import PackageRecord
    from rattler.package import BuildString

    build = package.build or ""
    number = re.search(r"_(\d+)$", build) or re.search(r"(\d+)$", build)
    return PackageRecord(
        package.name, package.version, BuildString.new_unchecked(build), int(number[1]) if number else 0,
        package.subdir, sha256=bytes.fromhex(package.sha256), md5=bytes.fromhex(package.md5 or "") or None,
    )  # fmt: skip
