"""pixi.lock, versions 6 and 7: read both, write 6, which every pixi since 0.40 reads.

One file has several environments, each with the URLs of its packages by platform; what is known of a package
stands once, under its URL. Version 7 names platforms apart from their subdir, and marks packages that are to
be built from sources, which no lock of ours can hold.

Specification: rattler, crates/rattler_lock/src/parse/models/v6, v7
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from envbox.errors import LockfileError
from envbox.lockfile import Lock, LockedPackage
from envbox.lockfile.foreign import (
    EVERYTHING,
    Faults,
    ForeignLock,
    ForeignPackage,
    LeftOut,
    Selection,
    channels_in,
    channels_of,
    conda_package,
    decoded,
    distinct,
    document,
    pip_package,
)
from envbox.mirrors import shown
from envbox.platforms import PLATFORMS

KIND = "pixi"
VERSIONS = (6, 7)
DEFAULT = "default"
_ITSELF = (".", "./")
_ITSELF_NOTE = ': `pythonpath = ["src"]` in envbox.toml lets it be imported from where it is'
_FACTS = ("sha256", "md5", "size", "license")


def loads(data: bytes, path: Path, selection: Selection = EVERYTHING) -> ForeignLock:
    """Parse one environment of a pixi.lock. The project itself (`pypi: ./`) is in none: it is mounted.

    :raises LockfileError: with every fault that was found, up to ten
    """
    found = document(decoded(data, path), path)
    version = found.get("version")
    if version not in VERSIONS or isinstance(version, bool):
        old = isinstance(version, int) and version < VERSIONS[0]
        raise LockfileError(
            f"{path} is a pixi.lock of version {shown(version)}; envbox reads versions 6 and 7",
            "have it written anew by a newer pixi: pixi lock" if old else "a newer envbox may read it",
        )
    faults = Faults(path, f"pixi.lock, version {version}")
    chosen = _environment(found.get("environments"), selection.environment, path)
    known = _known(found.get("packages"), faults)
    subdirs = _subdirs(found.get("platforms"), faults)
    left_out, only = LeftOut(selection), selection.platforms
    packages: list[ForeignPackage] = []
    listed = chosen.get("packages")
    platforms: list[str] = []
    for label, entries in (listed if isinstance(listed, dict) else {}).items():
        platform = subdirs.get(label, label)
        if platform not in PLATFORMS:
            faults.add(f"{shown(label)} is not a conda platform")
            continue
        if only and platform not in only:
            continue
        if platform in platforms:
            faults.add(f"`{label}` is a second set of packages for {platform}, and a lock has one")
            continue
        platforms.append(platform)
        packages += _read_entries(entries, (f"{label}", platform), known, left_out, faults)
    result = distinct(packages, faults)
    channels = tuple(url.rstrip("/") for url in channels_in(chosen.get("channels"), faults))
    faults.check(() if only else platforms)
    if not platforms:
        raise LockfileError(f"{path} has no packages for {', '.join(only) or 'any platform'}")
    return ForeignLock(path, KIND, tuple(sorted(platforms)), channels or channels_of(result), result,
                       left_out.told(path))  # fmt: skip


def _environment(environments: object, wanted: str | None, path: Path) -> Mapping[str, Any]:
    found = environments if isinstance(environments, dict) else {}
    names = ", ".join(map(str, found)) or "none"
    name = wanted or (DEFAULT if DEFAULT in found or len(found) != 1 else next(iter(found)))
    chosen = found.get(name)
    if not isinstance(chosen, dict):
        raise LockfileError(
            f"{path} has no environment {name}: it has {names}",
            f"envbox import {path.name} --environment NAME" if found else None,
        )
    return chosen


def _subdirs(value: object, faults: Faults) -> dict[str, str]:
    """Return the platforms' names → their subdir (version 7)."""
    found = {}
    for entry in value if isinstance(value, list) else []:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            faults.add(f"`platforms` should be a list with a `name` each, not {shown(entry)}")
        else:
            subdir = entry.get("subdir")
            found[entry["name"]] = subdir if isinstance(subdir, str) else entry["name"]
    return found


def _known(value: object, faults: Faults) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Return what stands of a package, by (manager, URL)."""
    if not isinstance(value, list):
        faults.add("`packages` is missing, or not a list")
        return {}
    found = {}
    for number, entry in enumerate(value, 1):
        kind = next(
            (k for k in ("conda", "pypi", "conda_source") if isinstance(entry, dict) and k in entry), ""
        )
        if not kind or not isinstance(entry[kind], str):
            faults.add(f"`packages`, entry {number}: has neither `conda` nor `pypi`")
        else:
            found[kind, entry[kind]] = entry
    return found


def _read_entries(
    entries: object,
    place: tuple[str, str],
    known: Mapping[tuple[str, str], Any],
    left_out: LeftOut,
    faults: Faults,
) -> Iterator[ForeignPackage]:
    """Read what an environment has for one platform.

    :param place: what the platform is called in the file, and its subdir
    """
    label, platform = place
    if not isinstance(entries, list):
        faults.add(f"the packages of {label} should be a list")
        return
    for number, entry in enumerate(entries, 1):
        where = f"{label}, entry {number}"
        kind, url = next(iter(entry.items()), ("", "")) if isinstance(entry, dict) else ("", "")
        facts = known.get((str(kind), str(url)))
        name = _name(str(kind), str(url), facts)
        if name and left_out.is_unwanted(name, (facts or {}).get("version")):
            continue
        if kind == "pypi" and url in _ITSELF:
            left_out.words.append(f"left out: {name or 'what'} is the project itself{_ITSELF_NOTE}")
            continue
        own = faults.about(name, platform)
        if not isinstance(url, str):
            own.add(f"{where}: should be a URL, not {shown(url)}")
        elif kind == "conda_source":
            own.add(f"{where}: {url} is to be built from its sources, and only archives can be locked")
        elif kind not in ("conda", "pypi"):
            own.add(f"{where}: neither `conda` nor `pypi`: {shown(entry)}")
        elif facts is None:
            own.add(f"{where}: nothing stands under `packages` for {url}")
        elif package := _package(str(kind), facts, platform, where, own):
            yield package


def _name(kind: str, url: str, facts: Mapping[str, Any] | None) -> str | None:
    """Return what a package is called, where that can be told."""
    named = (facts or {}).get("name")
    if isinstance(named, str):
        return named
    if kind == "conda_source":
        source = re.match(r"([A-Za-z0-9_.-]+)(\[[^\]]*\])?\s*@", url)
        return source[1] if source else None
    archive = re.fullmatch(r"(.+)-[^-]+-[^-]+\.(?:conda|tar\.bz2)", url.rsplit("/", 1)[-1])
    return archive[1] if kind == "conda" and archive else None


def _package(
    kind: str, facts: Mapping[str, Any], platform: str, where: str, faults: Faults
) -> ForeignPackage | None:
    said = {key: facts[key] for key in _FACTS if facts.get(key) is not None}
    if kind == "conda":
        return conda_package(
            facts["conda"], platform, where, faults, depends=facts.get("depends") or (), **said
        )
    name, version = facts.get("name"), facts.get("version")
    if not isinstance(name, str):
        faults.add(f"{where}: a package from PyPI has no `name`")
        return None
    return pip_package(
        name, version if isinstance(version, str) else None, facts["pypi"], platform, where, faults,
        depends=facts.get("requires_dist") or (), **said,
    )  # fmt: skip


# --- writing ------------------------------------------------------------------------------------------------


def dumps(lock: Lock, platforms: tuple[str, ...]) -> bytes:
    """Write a lock as a pixi.lock of one environment, `default`."""
    import yaml

    listed = {platform: lock.for_platform(platform) for platform in sorted(platforms)}
    every = {p.url: p for packages in listed.values() for p in packages}
    default: dict[str, Any] = {"channels": [{"url": f"{c}/"} for c in channel_urls(lock)]}
    if any(p.manager == "pip" for p in every.values()):
        default["indexes"] = ["https://pypi.org/simple"]
    default["packages"] = {
        platform: [{_key(p): p.url} for p in packages] for platform, packages in listed.items()
    }
    whole = {
        "version": 6,
        "environments": {DEFAULT: default},
        "packages": [_facts(p) for p in sorted(every.values(), key=lambda p: (p.manager, p.name, p.url))],
    }
    text: str = yaml.dump(whole, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=2**30)
    return text.encode()


def channel_urls(lock: Lock) -> list[str]:
    """Return the channels of a lock as URLs: those named first, then others that packages come from."""
    from_packages = dict.fromkeys(p.channel for p in lock.packages if p.manager == "conda")
    named = [_url_of(c, tuple(from_packages)) for c in lock.channels]
    return list(dict.fromkeys([*(c for channels in named for c in channels), *from_packages]))


def _url_of(channel: str, found: tuple[str, ...]) -> tuple[str, ...]:
    if "://" in channel:
        return (channel.rstrip("/"),)
    if channel == "defaults":
        return tuple(c for c in found if c.startswith("https://repo.anaconda.com/pkgs/"))
    return (f"https://conda.anaconda.org/{channel}",)


def _key(package: LockedPackage) -> str:
    return "conda" if package.manager == "conda" else "pypi"


def _facts(package: LockedPackage) -> dict[str, Any]:
    depends = sorted(package.depends.items())
    if package.manager == "pip":
        return {
            "pypi": package.url, "name": package.name, "version": package.version, "sha256": package.sha256,
        } | ({"requires_dist": [_requirement(*d) for d in depends]} if depends else {})  # fmt: skip
    facts: dict[str, Any] = {"conda": package.url, "sha256": package.sha256, "md5": package.md5}
    facts["depends"] = [f"{name} {bound}".strip() for name, bound in depends]
    facts |= {"license": package.license, "size": package.size}
    return {key: value for key, value in facts.items() if value not in (None, "", [])}


def _requirement(name: str, bound: str) -> str:
    """Return a wheel's dependency as PEP 508 has it; what conda-lock keeps of poetry's own notation is
    left away.
    """
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        return f"{name}{SpecifierSet('' if bound.strip() == '*' else bound)}"
    except InvalidSpecifier:
        return name
