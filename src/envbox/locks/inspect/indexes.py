"""The newest wheels that package indexes have of what pip is to install.

An index is asked as `lock` asks it: those that the settings name, then PyPI's simple one, or its mirror.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from envbox.errors import SpecError
from envbox.lockfile import Lock, LockedPackage
from envbox.lockfile.custom import PIP_PREFIX
from envbox.locks.inspect.graph import PIP, Graph, graph_of, key_of
from envbox.report import Reporter
from envbox.settings import Settings

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

    from envbox.locks.solve.index_page import File
    from envbox.locks.solve.tags import Target

Found = dict[tuple[str, str], str]
"""(platform, key of a package) → version."""


def newest_wheels(lock: Lock, settings: Settings, report: Reporter) -> tuple[Found, Found]:
    """Return the newest version of each wheel that the requirements allow, and the newest there is.

    :raises ToolError: when an index cannot be reached
    """
    wheels = [p for p in lock.packages if p.manager == "pip"]
    if not wheels:
        return {}, {}
    from envbox.locks.solve.index import INDEX, Indexes

    indexes = Indexes([*settings.extra_index_urls, INDEX], settings)
    pages = {name: _wheels(indexes.project(name).files) for name in sorted({p.name for p in wheels})}
    for name in sorted(name for name, files in pages.items() if not files):
        report.detail(f"no index has a wheel of {name}")
    graphs = {platform: graph_of(lock, platform) for platform in lock.platforms}
    targets = {platform: _target(lock, platform) for platform in {p.platform for p in wheels}}
    within, newest = Found(), Found()
    for package in wheels:
        place, graph = (package.platform, key_of(package)), graphs[package.platform]
        versions = sorted(_usable(package, pages[package.name], targets[package.platform]))
        allowed = _allowed(graph, key_of(package))
        if versions:
            newest[place] = str(versions[-1])
        if fitting := [v for v in versions if allowed.contains(v, prereleases=True)]:
            within[place] = str(fitting[-1])
    return within, newest


# --- what fits ----------------------------------------------------------------------------------------------


def _wheels(files: Iterable[File]) -> list[File]:
    return [file for file in files if file.name.endswith(".whl") and file.yanked is None]


def _usable(package: LockedPackage, files: Iterable[File], target: Target | None) -> Iterator[Version]:
    """Yield the versions that have a wheel for the platform's system and its Python.

    A pre-release is only of interest to who has one.
    """
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename
    from packaging.version import InvalidVersion, Version

    try:
        has_early = Version(package.version).is_prerelease
    except InvalidVersion:
        has_early = False
    if target is None:
        return
    for file in files:
        try:
            _, version, _, tags = parse_wheel_filename(file.name)
            is_for = not file.requires or SpecifierSet(file.requires).contains(target.python)
        except (InvalidWheelFilename, InvalidVersion, InvalidSpecifier):
            continue
        if is_for and not tags.isdisjoint(target.tags) and (has_early or not version.is_prerelease):
            yield version


def _target(lock: Lock, platform: str) -> Target | None:
    """Return what a platform's Python and system can use; None where there is no Python, or no wheel is
    for it.
    """
    from envbox.locks.solve.request import virtual_packages
    from envbox.locks.solve.wheels import target_for

    virtual = virtual_packages(platform, lock.base)
    try:
        versions = {name: version for name, (version, _) in virtual.items()}
        return target_for(platform, lock.for_platform(platform), versions)
    except SpecError:
        return None


def _allowed(graph: Graph, key: str) -> SpecifierSet:
    """Return what the requirements, and the wheels that need it, allow together."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    allowed = SpecifierSet()
    for text in graph.asked.get(key, ()):
        try:
            allowed &= Requirement(text.removeprefix(PIP_PREFIX)).specifier
        except InvalidRequirement:
            continue  # as conda-lock takes it, and pip does not: then the newest there is
    for user, constraint in graph.needed_by.get(key, {}).items():
        if user.startswith(PIP):
            try:
                allowed &= SpecifierSet(constraint)
            except InvalidSpecifier:
                continue
    return allowed
