"""Whether the wheels that are locked still are what the requirements ask for: then no index is asked.

A lock has no markers and no extras, only what each wheel needed where it was resolved. That holds as long as
the Python is the same one; whoever asks for extras, by the same words as before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envbox.lockfile import LockedPackage, pip_name
from envbox.locks.solve.tags import Target
from envbox.mirrors import without_credentials

if TYPE_CHECKING:
    from packaging.requirements import Requirement


@dataclass(frozen=True, slots=True)
class PreviousWheels:
    """What a platform's lock had for pip.

    :param wheels: those that may stay
    :param texts: the requirements that they were resolved for
    :param python: version of the Python that they were resolved for
    """

    wheels: tuple[LockedPackage, ...] = ()
    texts: tuple[str, ...] = ()
    python: str | None = None


def settled(
    requirements: Sequence[Requirement],
    before: PreviousWheels,
    conda: Mapping[str, LockedPackage],
    target: Target,
) -> tuple[LockedPackage, ...] | None:
    """Return the locked wheels that the requirements need, where these satisfy them; else None.

    :param conda: project → what conda has of it
    """
    if before.python is None or _short(before.python) != _short(target.python):
        return None
    wheels = {pip_name(package.name): package for package in before.wheels}
    known = {_shape(text) for text in before.texts}
    todo = []
    for requirement in requirements:
        name, text = pip_name(requirement.name), _shape(str(requirement))
        wheel = wheels.get(name)
        if (requirement.extras or requirement.url) and text not in known:
            return None
        if requirement.url and (wheel is None or wheel.sha256 != requirement.url.rpartition("=")[2]):
            return None
        todo.append((name, "" if requirement.url else str(requirement.specifier)))
    found: dict[str, LockedPackage] = {}
    while todo:
        name, constraint = todo.pop()
        there = conda.get(name) or wheels.get(name)
        if there is None or not _allows(constraint, there.version):
            return None
        if there.manager == "pip" and name not in found:
            if not _fits(there, target):
                return None
            found[name] = there
            todo += [(pip_name(n), c) for n, c in there.depends.items()]
    return tuple(found[name] for name in sorted(found))


def _shape(text: str) -> str:
    """Return a requirement so that two that mean the same are the same."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        return str(Requirement(re.sub(r"\s--hash[= ]\S+", "", text)))
    except InvalidRequirement:
        return without_credentials(text)


def _short(python: str) -> list[str]:
    return python.split(".")[:2]


def _allows(constraint: str, version: str) -> bool:
    """Return whether a constraint, pip's or as a lock has it (`>=1,<2 || >3`), allows a version."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.version import InvalidVersion

    parts = ["" if part.strip() == "*" else part.strip() for part in constraint.split("||")]
    try:
        return any(SpecifierSet(_exact(part)).contains(version, prereleases=True) for part in parts)
    except (InvalidSpecifier, InvalidVersion):
        return False


def _exact(part: str) -> str:
    return f"=={part}" if re.match(r"\d", part) else part


def _fits(wheel: LockedPackage, target: Target) -> bool:
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        tags = parse_wheel_filename(wheel.file_name)[3]
    except InvalidWheelFilename:
        return False
    return not tags.isdisjoint(target.tags)
