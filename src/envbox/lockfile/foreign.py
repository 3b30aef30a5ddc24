"""What a lockfile of another tool says: the same for every format, with what it does not say left open.

Formats differ in what they leave out: explicit files have no dependencies and often no hashes, old conda-lock
files no sha256, an export nothing but names. What is missing is `None` here, and is found out later
(`locks/convert/complete`). All that a reader checks is checked here, so that a fault has the same words in
each: the file, the line or the key, the value.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from envbox import files
from envbox.errors import LockfileError, listed
from envbox.lockfile import is_file_name, pip_name
from envbox.mirrors import public, public_channel, shown, without_credentials
from envbox.platforms import PLATFORMS

MAIN = "main"
"""The category of what an environment is for; others (`dev`) are taken when they are asked for."""
_FORGE = "https://conda.anaconda.org/"
_DEFAULTS = "https://repo.anaconda.com/pkgs/"
_CHANNEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
LARGEST = 16 << 20  # bytes; the largest pixi.lock that is known has 3 MB
_ARCHIVE = re.compile(r"(.+)-([^-]+)-([^-]+)\.(?:conda|tar\.bz2)")
_MD5, _SHA256 = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ForeignPackage:
    """A package as another tool has locked it.

    :param depends: match specs or requirements; None where the file does not say
    :param sha256: None where the file does not say; likewise `md5`, `size`, `license`
    """

    manager: Literal["conda", "pip"]
    name: str
    version: str
    build: str | None
    platform: str
    url: str
    depends: tuple[str, ...] | None = None
    sha256: str | None = None
    md5: str | None = None
    size: int | None = None
    license: str | None = None

    @property
    def file_name(self) -> str:
        """The archive's or wheel's own file name."""
        return unquote(self.url.rsplit("/", 1)[-1])


@dataclass(frozen=True, slots=True)
class ForeignLock:
    """A lockfile of another tool.

    :param path: the file
    :param kind: what the format is called
    :param channels: as the file has them, by priority; those of the packages where it does not say
    :param left_out: what of the file is not in `packages`, and why, for people
    """

    path: Path
    kind: str
    platforms: tuple[str, ...]
    channels: tuple[str, ...]
    packages: tuple[ForeignPackage, ...]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a foreign lockfile is taken.

    :param environment: of a pixi.lock; None: `default`, or the only one
    :param platforms: others are passed over, right or wrong. Empty: all
    :param without: names of packages that are left out, right or wrong
    :param categories: taken besides `main`
    """

    environment: str | None = None
    platforms: tuple[str, ...] = ()
    without: frozenset[str] = frozenset()
    categories: frozenset[str] = frozenset()


EVERYTHING = Selection()
"""All of it, but for what nobody wants unasked: other categories than `main`."""


@dataclass(slots=True)
class LeftOut:
    """What a reader leaves out of a file, as it goes through it."""

    selection: Selection
    names: dict[str, set[str]] = field(default_factory=dict)
    categories: dict[str, set[str]] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)

    def is_unwanted(self, name: str, version: object = None, category: object = MAIN) -> bool:
        """Return whether a package is to be left out; it is noted then."""
        if pip_name(name) in map(pip_name, self.selection.without):
            self.names.setdefault(pip_name(name), set()).add(f"{name} {version or ''}".strip())
            return True
        if isinstance(category, str) and category not in (MAIN, "", *self.selection.categories):
            self.categories.setdefault(category, set()).add(name)
            return True
        return False

    def told(self, path: Path) -> tuple[str, ...]:
        """Return what was left out, in words.

        :raises LockfileError: when a package that is to be left out, or a category, is not there
        """
        absent = sorted(n for n in self.selection.without if pip_name(n) not in self.names)
        if absent:
            raise LockfileError(f"{path} has no package {', '.join(absent)}, so it cannot be left out")
        asked = sorted(one for texts in self.names.values() for one in texts)
        said = [f"left out, as asked: {', '.join(asked)}; what imports it will not find it"] if asked else []
        for category, names in sorted(self.categories.items()):
            some = ", ".join(sorted(names)[:5]) + (", …" if len(names) > 5 else "")
            said.append(f"left out: {len(names)} of the category {category} ({some}); --category {category}")
        return (*said, *dict.fromkeys(self.words))


class Faults:
    """What is wrong with a file, collected: told all at once, with a way around all of them."""

    def __init__(self, path: Path, kind: str) -> None:
        self._path, self._kind = path, kind
        self._found: list[tuple[str, str | None, str | None]] = []
        self._about: tuple[str | None, str | None] = (None, None)

    def about(self, package: str | None, platform: str | None) -> Faults:
        """Return the same collection, for faults of one package: what it is called, and where it stands."""
        part = Faults(self._path, self._kind)
        part._found, part._about = self._found, (package, platform)
        return part

    def add(self, words: str) -> None:
        """Note one."""
        self._found.append((public(words), *self._about))

    def check(self, platforms: Sequence[str] = ()) -> None:
        """Raise what was noted, if anything.

        :param platforms: all that the file is for
        :raises LockfileError: with the first ten
        """
        if self._found:
            found = [words for words, *_ in self._found]
            raise LockfileError(
                listed(f"{self._path} ({self._kind}) cannot be used", found), self._way_around(platforms)
            )

    def _way_around(self, platforms: Sequence[str]) -> str | None:
        """Return a command that does not meet the same faults; None where there is none."""
        packages, broken = ({fault[part] for fault in self._found} for part in (1, 2))
        command = f"envbox import {shlex.quote(self._path.name)}"
        sound = [p for p in platforms if p not in broken]
        if sound and None not in broken:
            return f"it is sound for {', '.join(sound)}: {command} --platform {','.join(sound)}"
        if None not in packages:
            names = ",".join(sorted(map(str, packages)))
            return f"to do without what is wrong: {command} --without {shlex.quote(names)}"
        return None


def conda_package(
    url: str, platform: str | None, where: str, faults: Faults, **said: Any
) -> ForeignPackage | None:
    """Make a conda package of its URL, which holds name, version, build and subdir.

    :param platform: that it is locked for; None: as its URL says
    :param where: the line or key, for the words of a fault
    :param said: what else the file says, as it says it: depends, sha256, md5, size, license
    """
    url = _checked_url(url, where, faults)
    parts = _ARCHIVE.fullmatch(unquote(url.rsplit("/", 1)[-1]))
    folder = url.rsplit("/", 2)[-2] if url.count("/") > 3 else ""
    if not url:
        return None
    if parts is None:
        faults.add(f"{where}: not the address of a .conda or .tar.bz2 archive: {url}")
        return None
    if folder not in (*PLATFORMS, "noarch"):
        faults.add(f"{where}: the archive should lie in a folder named after its platform: {url}")
        return None
    if platform is not None and folder not in (platform, "noarch"):
        faults.add(f"{where}: {parts[1]} is of {folder}, and stands among the packages of {platform}")
        return None
    said = _checked_facts(said, where, faults)
    return ForeignPackage(
        "conda", parts[1].lower(), parts[2], parts[3], platform or folder, url, **said
    )  # fmt: skip


def pip_package(
    name: str, version: str | None, url: str, platform: str, where: str, faults: Faults, **said: Any
) -> ForeignPackage | None:
    """Make a wheel's package of its URL."""
    url = _checked_url(url, where, faults)
    if not url:
        return None
    file = unquote(url.rsplit("/", 1)[-1])
    if not file.endswith(".whl") or file.count("-") < 4:
        faults.add(f"{where}: {name} comes as {file}: only wheels can be locked by their hash")
        return None
    return ForeignPackage(
        "pip", pip_name(name), version or file.split("-")[1], None, platform, url,
        **_checked_facts(said, where, faults),
    )  # fmt: skip


def _checked_url(url: object, where: str, faults: Faults) -> str:
    try:
        if isinstance(url, str) and urlsplit(url).scheme in ("http", "https", "file"):
            bare = without_credentials(url)
            if is_file_name(unquote(bare.rsplit("/", 1)[-1])):
                return bare
            faults.add(f"{where}: it ends in a path, where an archive's name should be: {shown(url)}")
            return ""
    except ValueError:  # its host is none
        pass
    faults.add(f"{where}: only a URL can be locked, no local path and no git checkout: {shown(url)}")
    return ""


def _checked_facts(said: Mapping[str, Any], where: str, faults: Faults) -> dict[str, Any]:
    """Return the facts in the form that we keep; what cannot be is a fault."""
    found = dict(said)
    for key, pattern in (("md5", _MD5), ("sha256", _SHA256)):
        value = found.get(key)
        if value is not None and not (isinstance(value, str) and pattern.fullmatch(value.lower())):
            faults.add(f"{where}: {shown(value)} is no {key}")
        found[key] = str(value).lower() if value else None
    depends = found.get("depends")
    if depends is not None:
        if not isinstance(depends, list | tuple) or not all(
            isinstance(d, str) and d.strip() for d in depends
        ):
            faults.add(f"{where}: the dependencies should be a list of texts, not {shown(depends)}")
            depends = ()
        found["depends"] = tuple(depends)
    found["size"] = found["size"] if type(found.get("size")) is int else None
    found["license"] = (found["license"] or None) if isinstance(found.get("license"), str) else None
    return found


def distinct(packages: Sequence[ForeignPackage], faults: Faults) -> tuple[ForeignPackage, ...]:
    """Return the packages by name; one that stands there twice in two versions is a fault."""
    found: dict[tuple[str, str, str], ForeignPackage] = {}
    for package in packages:
        key = (package.manager, package.name, package.platform)
        other = found.setdefault(key, package)
        if other.url != package.url:
            faults.add(
                f"{package.name} stands there twice for {package.platform}: "
                f"{other.file_name} and {package.file_name}"
            )
    return tuple(found[key] for key in sorted(found))


def channels_of(packages: Sequence[ForeignPackage]) -> tuple[str, ...]:
    """Return the channels that packages come from, the one with the most first."""
    counts: dict[str, int] = {}
    for package in packages:
        if package.manager == "conda":
            channel = package.url.rsplit("/", 2)[0]
            counts[channel] = counts.get(channel, 0) + 1
    return tuple(sorted(counts, key=lambda channel: (-counts[channel], channel)))


def channel_name(url: str) -> str:
    """Return a channel as specs name it: conda-forge and the like by their name, others by their URL."""
    url = public_channel(url).rstrip("/")
    if url.startswith(_DEFAULTS):
        return "defaults"
    short = url.removeprefix(_FORGE)
    return short if url.startswith(_FORGE) and _CHANNEL.fullmatch(short) else url


def channels_in(value: object, faults: Faults) -> tuple[str, ...]:
    """Return the channels of a list, each a text or a mapping with a `url`; what is neither is passed
    over.
    """
    entries = value if isinstance(value, list) else []
    urls = [e.get("url") if isinstance(e, dict) else e for e in entries]
    found = tuple(url for url in urls if isinstance(url, str) and url)
    for url in found:
        try:
            urlsplit(url)
        except ValueError:
            faults.add(f"`channels` has a URL whose host is none: {shown(url)}")
    return found


def decoded(data: bytes, path: Path) -> str:
    """Return a lockfile's text, whatever editor saved it.

    :raises LockfileError: when it is empty, in conflict, or something else than text
    """
    if not data.strip():
        raise LockfileError(f"{path} is empty")
    if len(data) > LARGEST:
        raise LockfileError(f"{path} is {len(data)} bytes long: that is no lockfile")
    if line := files.conflict_line(data):
        raise LockfileError(f"{path} has merge conflict markers (line {line})", "settle the merge first")
    try:
        text = files.decoded(data)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise LockfileError(f"{path} is not text (line {line})", "save it as UTF-8") from error
    if text.lstrip()[:15].lower().startswith(("<!doctype", "<html", "<?xml")):
        raise LockfileError(f"{path} is a web page, not a lockfile", "save the raw file")
    return text


def document(text: str, path: Path) -> Mapping[str, Any]:
    """Parse a lockfile that is YAML.

    :raises LockfileError: when it is not, or no mapping
    """
    import yaml

    try:
        found = yaml.load(text, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        said = getattr(error, "problem", None) or str(error).partition("\n")[0]
        where = f"line {mark.line + 1}: " if mark else ""
        raise LockfileError(f"{path} is not YAML: {where}{said}") from error
    if not isinstance(found, dict):
        raise LockfileError(f"{path} is no lockfile: it should be a mapping, not {type(found).__name__}")
    return found
