"""conda-lock files as every conda-lock since 1.0 has written them, also those that no build can use.

Before 2.0 there is often no sha256, channels are bare names, and a package stands there once per category.
What a build needs and the file lacks is left open, as for any other foreign lockfile.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envbox.errors import LockfileError
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

KIND = "conda-lock"


def loads(data: bytes, path: Path, selection: Selection = EVERYTHING) -> ForeignLock:
    """Parse a conda-lock file of version 1.

    :raises LockfileError: with every fault that was found, up to ten
    """
    found = document(decoded(data, path), path)
    version = found.get("version")
    if version != 1 or isinstance(version, bool):
        words = "has no `version`: it was cut off, or is no lockfile" if version is None else ""
        raise LockfileError(
            f"{path} {words or f'is of version {shown(version)}; envbox reads version 1 of conda-lock files'}"
        )
    faults = Faults(path, KIND)
    entries = found.get("package")
    if not isinstance(entries, list):
        faults.add("`package` is missing, or not a list")
        entries = []
    left_out = LeftOut(selection)
    read = (
        _entry(entry, number, faults)
        for number, entry in enumerate(entries, 1)
        if not (isinstance(entry, dict) and _is_passed_over(entry, left_out))
    )
    packages = distinct([p for p in read if p], faults)
    metadata = found.get("metadata")
    kept = channels_in(metadata.get("channels") if isinstance(metadata, dict) else None, faults)
    only = selection.platforms
    faults.check(() if only else sorted({p.platform for p in packages}))
    if not packages:
        raise LockfileError(f"{path} locks no package" + (f" for {', '.join(only)}" if only else ""))
    platforms = tuple(sorted({p.platform for p in packages}))
    told = left_out.told(path)
    return ForeignLock(path, KIND, platforms, kept or channels_of(packages), packages, told)


def _is_passed_over(entry: Mapping[str, Any], left_out: LeftOut) -> bool:
    """Pass over virtual packages, which some releases wrote without a URL, and what is not asked for."""
    name, only = entry.get("name"), left_out.selection.platforms
    if (isinstance(name, str) and name.startswith("__")) or (only and entry.get("platform") not in only):
        return True
    category = entry.get("category")
    if category is None and entry.get("optional") is True:
        category = "optional"
    return isinstance(name, str) and left_out.is_unwanted(name, entry.get("version"), category)


def _entry(entry: object, number: int, faults: Faults) -> ForeignPackage | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        faults.add(f"package {number} has no `name`")
        return None
    name, platform = entry["name"], entry.get("platform")
    if not isinstance(platform, str) or platform not in PLATFORMS:
        faults.about(name, None).add(f"{name}: `platform` is not a conda platform")
        return None
    where, faults = f"{name} ({platform})", faults.about(name, platform)
    said = _said(entry, where, faults)
    if entry.get("manager") == "conda":
        return conda_package(entry.get("url", ""), platform, where, faults, **said)
    if entry.get("manager") != "pip":
        faults.add(f"{where}: `manager` should be conda or pip, not {shown(entry.get('manager'))}")
        return None
    version = entry.get("version")
    return pip_package(
        name, version if isinstance(version, str) else None, entry.get("url", ""), platform, where, faults,
        **said,
    )  # fmt: skip


def _said(entry: Mapping[str, Any], where: str, faults: Faults) -> dict[str, Any]:
    hashes = entry.get("hash") or {}
    depends = entry.get("dependencies") or {}
    if not isinstance(hashes, dict):
        faults.add(f"{where}: `hash` should be a mapping, not {shown(hashes)}")
        hashes = {}
    if not isinstance(depends, dict):
        faults.add(f"{where}: `dependencies` should be a mapping, not {shown(depends)}")
        depends = {}
    return {
        "md5": hashes.get("md5"),
        "sha256": hashes.get("sha256"),
        "depends": [
            f"{key} {bound if isinstance(bound, str) else ''}".strip()
            for key, bound in depends.items()
            if isinstance(key, str)
        ],
    }
