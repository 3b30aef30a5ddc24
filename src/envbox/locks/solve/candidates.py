"""Which versions of a project one platform could take, and why it could not take the others.

Only wheels are taken: what a source archive becomes depends on the machine that builds it, and to ask one
what it needs is to run its code. So a version without a wheel that fits is no candidate, and an older one
that has one is; what was passed over is remembered, to be told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from envbox.lockfile import pip_name
from envbox.locks.solve.index import Indexes, IndexProject
from envbox.locks.solve.index_page import File
from envbox.locks.solve.tags import Target, made_for
from envbox.mirrors import public

if TYPE_CHECKING:
    from packaging.tags import Tag
    from packaging.version import Version

_SOURCES = (".tar.gz", ".zip", ".tar.bz2", ".tar.xz", ".tgz")


@dataclass(frozen=True, slots=True)
class Candidate:
    """The wheel that a platform would take of a version."""

    name: str
    version: Version
    file: File

    @property
    def is_yanked(self) -> bool:
        """Whether who published it asks not to take it (PEP 592)."""
        return self.file.yanked is not None


@dataclass(slots=True)
class Release:
    """All files of one version, by what becomes of them.

    :param fitting: place among the target's tags → wheel
    :param foreign: the platforms that its other wheels are for, with their Python where it is not ours
    """

    fitting: list[tuple[int, tuple[int, str], File]] = field(default_factory=list)
    foreign: set[str] = field(default_factory=set)
    has_source: bool = False
    needs_python: str = ""
    is_too_new: bool = False
    is_undated: bool = False
    is_unhashed: bool = False

    @property
    def lacks_only_a_wheel(self) -> bool:
        """Whether nothing else is in the way."""
        return not (
            self.fitting or self.needs_python or self.is_too_new or self.is_undated or self.is_unhashed
        )


@dataclass(frozen=True, slots=True)
class Rules:
    """Which files are looked at.

    :param until: what was uploaded later is not; nor, then, what has no time of upload (as uv has it)
    :param hashes: project → the only sha256 that are allowed
    :param direct: project → the one wheel that is to be taken, wherever it is
    :param kept: sha256 of wheels that are locked: of several of one version, these stay
    """

    until: datetime | None = None
    hashes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    direct: Mapping[str, File] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()


class Candidates:
    """What one platform could take."""

    def __init__(self, indexes: Indexes, target: Target, rules: Rules) -> None:
        self.indexes, self.target, self.rules = indexes, target, rules
        self._places = {tag: place for place, tag in enumerate(target.tags)}
        self._known: dict[str, tuple[dict[Version, Candidate], dict[Version, Release]]] = {}

    def of(self, name: str) -> dict[Version, Candidate]:
        """Return the versions of a project that could be taken, the newest first."""
        return self._read(name)[0]

    def _read(self, name: str) -> tuple[dict[Version, Candidate], dict[Version, Release]]:
        name = pip_name(name)
        if name not in self._known:
            releases = self._releases(name)
            found = {
                version: Candidate(name, version, best)
                for version in sorted(releases, reverse=True)
                if (best := self._best(releases[version])) is not None
            }
            self._known[name] = found, releases
        return self._known[name]

    def _best(self, release: Release) -> File | None:
        """Return the wheel that is locked, or fits best; one that was not yanked before one that was."""
        ranked = (
            ((file.sha256 in self.rules.kept, file.yanked is None, place, build, file.name), file)
            for place, build, file in release.fitting
        )
        return max(ranked, key=lambda one: one[0], default=(None, None))[1]

    def _project(self, name: str) -> IndexProject:
        direct = self.rules.direct.get(name)
        return self.indexes.project(name) if direct is None else IndexProject("", (direct,))

    def _releases(self, name: str) -> dict[Version, Release]:
        from packaging.utils import (
            InvalidSdistFilename,
            InvalidWheelFilename,
            parse_sdist_filename,
            parse_wheel_filename,
        )
        from packaging.version import InvalidVersion

        found: dict[Version, Release] = {}
        for file in self._project(name).files:
            try:
                if file.name.endswith(".whl"):
                    owner, version, build, tags = parse_wheel_filename(file.name)
                    release = found.setdefault(version, Release()) if owner == name else Release()
                    self._sort_in(file, release, tags, (build[0], build[1]) if build else (-1, ""))
                elif file.name.endswith(_SOURCES):
                    owner, version = parse_sdist_filename(_as_sdist(file.name))
                    if owner == name:
                        found.setdefault(version, Release()).has_source = True
            except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
                continue  # an old name, of before there was a rule
        return found

    def _sort_in(self, file: File, release: Release, tags: Iterable[Tag], build: tuple[int, str]) -> None:
        allowed = self.rules.hashes.get(pip_name(file.name.partition("-")[0]))
        if allowed is not None and file.sha256 not in allowed:
            release.is_unhashed = True
            return
        is_direct = file in self.rules.direct.values()
        if self.rules.until is not None and not is_direct:
            if file.uploaded is None:
                release.is_undated = True
                return
            if file.uploaded > self.rules.until:
                release.is_too_new = True
                return
        places = [self._places[tag] for tag in tags if tag in self._places]
        if not places:
            release.foreign |= {_words(tag, self.target) for tag in tags}
        elif not _allows(file.requires, self.target.python):
            release.needs_python = file.requires
        else:
            release.fitting.append((-min(places), build, file))

    # --- why not ----------------------------------------------------------------------------------------

    def passed_over(self, name: str, allowed: Iterable[Version]) -> list[Version]:
        """Return the versions, of these, that have files but none that fits, the newest first."""
        releases = self._read(name)[1]
        return [v for v in sorted(allowed, reverse=True) if v in releases and not releases[v].fitting]

    def without_wheel(self, name: str, allowed: Iterable[Version]) -> list[Version]:
        """Return the versions, of these, that only lack a wheel for the platform, the newest first."""
        releases = self._read(name)[1]
        return [v for v in self.passed_over(name, allowed) if releases[v].lacks_only_a_wheel]

    def versions(self, name: str) -> list[Version]:
        """Return all versions that an index has, fit or not, the newest first."""
        return sorted(self._read(name)[1], reverse=True)

    def reason(self, name: str, version: Version) -> str:
        """Return why a version cannot be taken, in words that begin with its name."""
        release = self._read(name)[1][version]
        what, platform = f"{pip_name(name)} {version}", self.target.platform
        if release.needs_python:
            return f"{what} needs Python {release.needs_python}, and {self.target.python} is locked"
        if release.foreign:
            return f"{what} has no wheel for {platform}, only for {', '.join(sorted(release.foreign))}"
        if release.is_unhashed:
            return f"{what} has no wheel of the hash that is asked for"
        if release.is_undated:
            index = self.indexes.project(name).index
            return f"{what} is passed over: the index {index} does not say when it was uploaded (PEP 700)"
        if release.is_too_new:
            return f"{what} was uploaded later"
        return f"{what} has no wheel for {platform}, only a source archive"

    def why_none(self, name: str) -> str | None:
        """Return why no version of a project can be taken, in words; None where one can."""
        candidates, releases = self._read(name)
        if candidates:
            return None
        if not releases:
            project = self._project(name)
            where = project.index or ", ".join(map(public, self.indexes.addresses))
            return f"there is no {name} in the package index {where}"
        newest = max(releases, key=lambda v: (not v.is_prerelease, v))
        return self.reason(name, newest)


def _allows(requires: str, python: str) -> bool:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        return not requires or SpecifierSet(requires).contains(python, prereleases=True)
    except InvalidSpecifier:
        return True  # as pip takes it


def _words(tag: Tag, target: Target) -> str:
    place = made_for(tag)
    if tag.interpreter not in {t.interpreter for t in target.tags}:
        return f"{place} ({tag.interpreter})"
    if place == target.platform:
        return tag.platform if tag.abi in ("none", "abi3") else f"{tag.abi}-{tag.platform}"
    return place


def _as_sdist(name: str) -> str:
    """Return a source archive's name with an ending that has a rule."""
    for ending in _SOURCES:
        if name.endswith(ending):
            return name.removesuffix(ending) + ".tar.gz"
    return name
