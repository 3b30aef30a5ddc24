"""The newest wheels that package indexes have of what pip is to install.

An index is asked as `lock` asks it: PyPI's simple one, or its mirror, and those that the settings name.

Specification: https://packaging.python.org/en/latest/specifications/simple-repository-api/
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import unescape
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from envbox.errors import ToolError
from envbox.lockfile import Lock, LockedPackage, pip_name
from envbox.lockfile.custom import PIP_PREFIX
from envbox.mirrors import public
from envbox.reading.graph import PIP, Graph, graph_of, key_of
from envbox.report import Reporter
from envbox.settings import Settings

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet
    from packaging.tags import Tag
    from packaging.version import Version

INDEX = "https://pypi.org/simple"
_TYPES = "application/vnd.pypi.simple.v1+json, text/html;q=0.1"
_LINK = re.compile(r"<a\s([^>]*)>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""([\w-]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'))?""")
_LARGEST = 64 << 20  # bytes of an index's page; the largest known has 20 MB

_GLIBC, _MACOS = "2.28", (13, 0)  # where the lock does not say: as conda-lock takes it

Found = dict[tuple[str, str], str]
"""(platform, key of a package) → version."""


@dataclass(frozen=True, slots=True)
class Fits:
    """Which wheels a platform can use.

    :param python: its version
    :param tags: of wheels, whichever order they are preferred in
    """

    python: str
    tags: frozenset[Tag]


def newest_wheels(lock: Lock, settings: Settings, report: Reporter) -> tuple[Found, Found]:
    """The newest version of each wheel that the requirements allow, and the newest there is.

    :raises ToolError: when an index cannot be reached
    """
    wheels = [p for p in lock.packages if p.manager == "pip"]
    if not wheels:
        return {}, {}
    from envbox.transport import Transport

    transport = Transport(settings)
    indexes = [settings.mirrors.rewrite(url) for url in (*settings.extra_index_urls, INDEX)]
    pages = {name: _files(name, indexes, transport) for name in sorted({p.name for p in wheels})}
    for name in sorted(name for name, files in pages.items() if not files):
        report.detail(f"no index has a wheel of {name}")
    graphs = {platform: graph_of(lock, platform) for platform in lock.platforms}
    fits = {platform: _fits(lock, platform) for platform in {p.platform for p in wheels}}
    within, newest = Found(), Found()
    for package in wheels:
        place, graph = (package.platform, key_of(package)), graphs[package.platform]
        versions = sorted(_usable(package, pages[package.name], fits[package.platform]))
        allowed = _allowed(graph, key_of(package))
        if versions:
            newest[place] = str(versions[-1])
        if fitting := [v for v in versions if allowed.contains(v, prereleases=True)]:
            within[place] = str(fitting[-1])
    return within, newest


# --- what fits ----------------------------------------------------------------------------------------------


def _usable(package: LockedPackage, files: Mapping[str, str], fits: Fits) -> Iterator[Version]:
    """The versions that have a wheel for the platform's system and its Python.

    A pre-release is only of interest to who has one.
    """
    from packaging.specifiers import InvalidSpecifier, SpecifierSet
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename
    from packaging.version import InvalidVersion, Version

    try:
        has_early = Version(package.version).is_prerelease
    except InvalidVersion:
        has_early = False
    for name, requires in files.items():
        try:
            _, version, _, tags = parse_wheel_filename(name)
            is_for = not requires or SpecifierSet(requires).contains(fits.python)
        except (InvalidWheelFilename, InvalidVersion, InvalidSpecifier):
            continue
        if is_for and tags & fits.tags and (has_early or not version.is_prerelease):
            yield version


def _fits(lock: Lock, platform: str) -> Fits:
    """What a platform's Python and system can use; never this machine's."""
    from packaging.tags import compatible_tags, cpython_tags, mac_platforms

    from envbox.solve.poetry import manylinux_tags

    python = next((p.version for p in lock.for_platform(platform) if p.name == "python"), "3")
    short = tuple(int(part) for part in re.findall(r"\d+", python)[:2])
    system, _, word = platform.partition("-")
    machine = {"64": "x86_64", "32": "i686"}.get(word, word)
    if system == "linux":
        glibc = lock.base.glibc.get(platform, _GLIBC) if lock.base else _GLIBC
        platforms = [*(f"manylinux{tag}_{machine}" for tag in manylinux_tags(glibc)), f"linux_{machine}"]
    elif system == "osx":
        platforms = list(mac_platforms(_MACOS, machine))
    else:
        platforms = [{"64": "win_amd64", "32": "win32"}.get(word, f"win_{word}")]
    name = "cp" + "".join(map(str, short))
    return Fits(
        python,
        frozenset(cpython_tags(short, [name], platforms))
        | frozenset(compatible_tags(short, name, platforms)),
    )


def _allowed(graph: Graph, key: str) -> SpecifierSet:
    """What the requirements, and the wheels that need it, allow together."""
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


# --- asking an index ----------------------------------------------------------------------------------------


def _files(name: str, indexes: Iterable[str], transport: Any) -> dict[str, str]:
    """The wheels of a project: file name → versions of Python that it requires, if it says so."""
    found: dict[str, str] = {}
    for index in indexes:
        address = f"{index.rstrip('/')}/{pip_name(name)}/"
        found |= _page(address, transport)
    return found


def _page(address: str, transport: Any) -> dict[str, str]:
    import requests

    try:
        with transport.get(address, {"Accept": _TYPES}) as answer:
            if answer.status_code == 404:
                return {}
            if answer.status_code != 200:
                raise ToolError(
                    f"cannot read the package index: {public(address)} answers {answer.status_code}",
                    "check its address, and the login for it",
                )
            data = answer.raw.read(_LARGEST, decode_content=True)
            is_json = "json" in answer.headers.get("Content-Type", "")
    except (requests.RequestException, OSError) as error:
        raise ToolError(
            f"cannot read the package index {public(address)}: {public(str(error))}",
            "check the network and try again; a mirror can be set under [mirrors] in envbox.toml",
        ) from error
    files = _from_json(data) if is_json else _from_html(data.decode(errors="replace"))
    return {file: requires for file, requires in files if file.endswith(".whl")}


def _from_json(data: bytes) -> Iterator[tuple[str, str]]:
    try:
        for file in json.loads(data)["files"]:
            if not file.get("yanked"):
                yield str(file["filename"]), str(file.get("requires-python") or "")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ToolError("what the package index answers is no list of files") from error


def _from_html(page: str) -> Iterator[tuple[str, str]]:
    for link in _LINK.finditer(page):
        said = {a[1].lower(): unescape(a[2] or a[3] or "") for a in _ATTRIBUTE.finditer(link[1])}
        if "href" in said and "data-yanked" not in said:
            name = unquote(said["href"].partition("#")[0].rsplit("/", 1)[-1])
            yield name, said.get("data-requires-python", "")
