"""A foreign package whose gaps are filled, as ours."""

from __future__ import annotations

from collections.abc import Sequence

from envbox.lockfile import LockedPackage
from envbox.lockfile.foreign import ForeignPackage


def locked(package: ForeignPackage, every: Sequence[ForeignPackage]) -> LockedPackage:
    """Give a package whose sha256 is known as we keep it.

    :param every: what else is locked; of a wheel's requirements, those are kept that it meets
    """
    from envbox.locks.solve.match_specs import joined_depends

    depends = package.depends or ()
    if package.manager == "pip":
        wheels = {p.name for p in every if p.platform == package.platform}
        joined = _requirements(depends, wheels)
    else:
        joined = joined_depends(depends)
    return LockedPackage(
        manager=package.manager,
        name=package.name,
        version=package.version,
        build=package.build,
        platform=package.platform,
        depends=dict(sorted(joined.items())),
        url=package.url,
        sha256=str(package.sha256),
        md5=package.md5,
        size=package.size,
        license=package.license,
    )


def _requirements(texts: Sequence[str], locked: set[str]) -> dict[str, str]:
    """Return the requirements that were met by what is locked; those of extras and other systems were not."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    found = {}
    for text in texts:
        try:
            requirement = Requirement(text)
            name, bound = canonicalize_name(requirement.name), str(requirement.specifier)
        except InvalidRequirement:  # conda-lock keeps some in poetry's own notation
            head, _, bound = text.partition(" ")
            name = canonicalize_name(head)
        if name in locked:
            found[str(name)] = bound
    return found
