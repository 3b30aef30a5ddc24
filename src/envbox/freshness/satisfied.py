"""Whether what is locked satisfies what is asked for, and what the packages ask of each other.

A lockfile that was edited or merged by hand can hold every package and still be no solution: each may need
another version of the next. So every dependency is held against what is locked, by rattler, as in a solve.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from envbox.lockfile import LockedPackage
from envbox.mirrors import without_credentials


def unmet(specs: Sequence[str], packages: Sequence[LockedPackage]) -> Iterator[str]:
    """The match specs that what is locked for a platform does not satisfy, in words."""
    from envbox.solve.match_specs import parse_match_spec

    locked = {p.name: p for p in packages if p.manager == "conda"}
    for text in specs:
        match_spec = parse_match_spec(text)
        package = locked.get(match_spec.name.normalized)
        if package is None:
            yield f"{text} is not locked"
        elif not (_is_of_channel(match_spec, package) and _record(package).matches(match_spec)):
            yield f"{text} is asked for, {package.version} {package.build} is locked"


def unmet_wheels(requirements: Sequence[str], packages: Sequence[LockedPackage]) -> Iterator[str]:
    """The requirements whose wheel is locked in another version.

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
    """The dependencies of conda packages on each other that do not hold, in words."""
    locked = {p.name.lower(): (p, _record(p)) for p in packages if p.manager == "conda"}
    for package, _ in locked.values():
        for name, constraint in package.depends.items():
            if not constraint or name.lower() not in locked:
                continue
            match_spec = _dependency(f"{name} {constraint}")
            other, record = locked[name.lower()]
            if match_spec is not None and not record.matches(match_spec):
                yield f"{package.name} needs {name} {constraint}, {other.version} {other.build} is locked"


@lru_cache(maxsize=1 << 16)
def _dependency(text: str) -> Any:
    """A dependency's match spec; None for what only its channel can tell."""
    from rattler import MatchSpec
    from rattler.exceptions import InvalidMatchSpecError

    if "[" in text or "::" in text:
        return None
    try:
        return MatchSpec(text)
    except InvalidMatchSpecError:
        return None


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
