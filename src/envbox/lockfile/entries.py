"""The packages of a conda-lock file, each checked by its own structure: what an edit breaks is named."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

from envbox.lockfile import LockedPackage, is_file_name
from envbox.mirrors import shown, without_credentials

SHA256 = re.compile(r"[0-9a-f]{64}")
NO_SHA256 = "has no sha256"
"""What is said of a package that only an old lockfile can have."""
_MD5 = re.compile(r"[0-9a-f]{32}")
_CLEAN = re.compile(r'(?:https?|file)://(?!.*/t/)[!-"$->A-~]+')  # a URL that can hold no credentials
_ARCHIVE = re.compile(r"(.+)-([^-]+)-([^-]+)\.(?:conda|tar\.bz2)", re.IGNORECASE)


def read_packages(
    entries: list[Any], platforms: tuple[str, ...], faults: list[str]
) -> tuple[LockedPackage, ...]:
    """Read the packages, and add to `faults` whatever is wrong with them."""
    found: dict[tuple[str, str, str], LockedPackage] = {}
    for number, entry in enumerate(entries, 1):
        package = _package(entry, number, platforms, faults)
        if package is None:
            continue
        key = (package.manager, package.name, package.platform)
        other = found.setdefault(key, package)
        if other is package:
            continue
        # conda-lock repeats a package for each category that it is in, alike in everything else
        if other.category == package.category or replace(other, category=package.category) != package:
            faults.append(f"{package.name} is locked twice for {package.platform}")
        elif package.category == "main":
            found[key] = package
    return tuple(found[key] for key in sorted(found))


def _package(
    entry: object, number: int, platforms: tuple[str, ...], faults: list[str]
) -> LockedPackage | None:
    if not isinstance(entry, dict):
        faults.append(f"package {number} is not a mapping")
        return None
    name, platform = entry.get("name"), entry.get("platform")
    label = f"{name} ({platform})" if isinstance(name, str) and isinstance(platform, str) else ""
    label = label or f"package {number}"
    before = len(faults)
    for key in ("name", "version", "manager", "platform", "url"):
        value = entry.get(key)
        if not isinstance(value, str) or not value:
            faults.append(
                f"{label} has no `{key}`"
                if value is None
                else f"`{key}` of {label} should be text, in quotes, not {shown(value)}"
            )
    depends = read_texts(entry.get("dependencies"), "dependencies of " + label, faults)
    hashes = entry.get("hash")
    hashes = hashes if isinstance(hashes, dict) else {}
    sha256, md5 = hashes.get("sha256"), hashes.get("md5")
    if not sha256:
        faults.append(f"{label} {NO_SHA256}, and without it nothing that is fetched can be checked")
    elif not isinstance(sha256, str) or not SHA256.fullmatch(sha256.lower()):
        faults.append(f"the sha256 of {label} is not 64 hex digits: {shown(sha256)}")
    if md5 is not None and (not isinstance(md5, str) or not _MD5.fullmatch(md5.lower())):
        faults.append(f"the md5 of {label} is not 32 hex digits: {shown(md5)}")
    if len(faults) > before:
        return None
    url = _canonical(entry["url"])
    if url is None:
        faults.append(f"the url of {label} has no host that can be one: {shown(entry['url'])}")
        return None
    parts = _archive(url) if entry["manager"] == "conda" else None
    package = LockedPackage(
        manager=entry["manager"],
        name=entry["name"],
        version=entry["version"],
        build=parts[3] if parts else None,
        platform=entry["platform"],
        depends=dict(sorted(depends.items())),
        url=url,
        sha256=str(sha256).lower(),
        md5=md5.lower() if md5 else None,
        category=str(entry.get("category") or "main"),
    )
    return package if _is_sound(package, parts, (label, platforms), faults) else None


def _is_sound(
    package: LockedPackage,
    parts: re.Match[str] | None,
    place: tuple[str, tuple[str, ...]],
    faults: list[str],
) -> bool:
    """Return whether an entry's parts agree.

    :param parts: name, version and build, as the archive's own name has them
    :param place: what the entry is called, and the platforms that there are
    """
    label, platforms = place
    if package.manager not in ("conda", "pip"):
        faults.append(f"`manager` of {label} should be conda or pip, not {shown(package.manager)}")
        return False
    if package.platform not in platforms:
        faults.append(f"{label} is for a platform that `metadata.platforms` does not name")
    if not package.url.startswith(("https://", "http://", "file://")):
        faults.append(f"the url of {label} should begin with https://, http:// or file://: {package.url}")
        return False
    if not is_file_name(unquote(package.file_name)):
        faults.append(f"the url of {label} ends in a path, where an archive's name should be: {package.url}")
        return False
    if package.manager == "pip":
        return True
    if parts is None or (parts[1].lower(), parts[2]) != (package.name.lower(), package.version):
        faults.append(f"the url of {label} is not of version {package.version}: {package.file_name}")
        return False
    if package.subdir not in (package.platform, "noarch"):
        faults.append(f"the url of {label} is of another platform: {package.subdir}")
    return True


def _archive(url: str) -> re.Match[str] | None:
    return _ARCHIVE.fullmatch(unquote(url.rsplit("#", 1)[0].rsplit("/", 1)[-1]))


def _canonical(url: str) -> str | None:
    """Return the URL without credentials; None when it is none."""
    try:
        return url if _CLEAN.fullmatch(url) and "[" not in url else without_credentials(url)
    except ValueError:
        return None


def read_texts(value: object, where: str, faults: list[str]) -> dict[str, str]:
    """Read a mapping of texts; None is an empty one."""
    if value is None:
        return {}
    if isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        return value
    faults.append(f"`{where}` should map names to texts")
    return {}
