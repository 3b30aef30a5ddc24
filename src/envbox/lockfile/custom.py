"""What envbox adds to a conda-lock file: texts in `metadata.custom_metadata`, which conda-lock leaves alone.

The difficulty is that conda-lock forbids unknown keys everywhere else, so that what belongs to a package (its
size, its licence) has to stand here as well; and that a lock without such a thing must be written as it
always was, byte for byte. So nothing that is not known leaves a key behind.

| key | what it holds |
|---|---|
| `envbox.name` | the environment's name |
| `envbox.base`, `envbox.base-digest.PLATFORM`, `envbox.glibc.PLATFORM` | the base image |
| `envbox.requested.PLATFORM` | JSON: what was asked for; a pip requirement begins with `pip: ` |
| `envbox.variables`, `envbox.slim` | JSON |
| `envbox.exclude-newer`, `envbox.strategy` | how it was solved, where not as usual |
| `envbox.virtual.PLATFORM` | JSON: virtual packages that were assumed |
| `envbox.about.NAME`, `envbox.about.pip:NAME` | JSON: `license` and `size` (platform → bytes) of a package |
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from envbox.lockfile import Base, Lock, LockedPackage
from envbox.lockfile.entries import SHA256
from envbox.mirrors import shown
from envbox.platforms import DEFAULT_PLATFORMS
from envbox.slim import KINDS

PIP_PREFIX = "pip: "
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_REQUESTED, _VIRTUAL, _ABOUT = "envbox.requested.", "envbox.virtual.", "envbox.about."


# --- writing ------------------------------------------------------------------------------------------------


def write_custom(lock: Lock) -> dict[str, str]:
    """Return what of a lock stands in the custom metadata, sorted by key."""
    custom = {"envbox.name": lock.name}
    if lock.base is not None:
        custom["envbox.base"] = lock.base.reference
        custom |= {f"envbox.base-digest.{p}": digest for p, digest in lock.base.digests.items()}
        custom |= {f"envbox.glibc.{p}": version for p, version in lock.base.glibc.items()}
    if lock.variables:
        custom["envbox.variables"] = _json(dict(sorted(lock.variables.items())))
    if lock.slim:
        custom["envbox.slim"] = _json(sorted(lock.slim))
    if lock.exclude_newer:
        custom["envbox.exclude-newer"] = lock.exclude_newer
    if lock.strategy:
        custom["envbox.strategy"] = lock.strategy
    custom |= {_VIRTUAL + p: _json(dict(sorted(found.items()))) for p, found in lock.virtual.items()}
    custom |= {_REQUESTED + p: _json(sorted(texts)) for p, texts in lock.requested.items()}
    return dict(sorted((custom | _about(lock)).items()))


def _about(lock: Lock) -> dict[str, str]:
    found: dict[str, dict[str, LockedPackage]] = {}
    for package in lock.packages:
        found.setdefault(_about_key(package), {})[package.platform] = package
    told = {key: _about_one(dict(sorted(by_platform.items()))) for key, by_platform in found.items()}
    return {key: _json(one) for key, one in told.items() if one}


def _about_key(package: LockedPackage) -> str:
    return _ABOUT + ("pip:" if package.manager == "pip" else "") + package.name


def _about_one(packages: Mapping[str, LockedPackage]) -> dict[str, object]:
    """Return the licence once, unless the platforms differ in it; the sizes by platform."""
    licenses = {platform: package.license or None for platform, package in packages.items()}
    same = set(licenses.values())
    told: dict[str, object] = {}
    if len(same) > 1:
        told["license"] = {platform: text for platform, text in licenses.items() if text is not None}
    elif same != {None}:
        told["license"] = same.pop()
    if sizes := {platform: p.size for platform, p in packages.items() if p.size is not None}:
        told["size"] = sizes
    return told


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


# --- reading ------------------------------------------------------------------------------------------------


def with_custom(lock: Lock, custom: Mapping[str, str], faults: list[str]) -> Lock:
    """Return a lock with what its custom metadata says, and whatever is wrong with that added to `faults`."""
    return replace(
        lock,
        name=_name(custom, faults) or lock.name,
        base=_base(custom, lock.platforms, faults),
        requested=_by_platform(custom, _REQUESTED, lambda key: tuple(_json_value(custom, key, list, faults))),
        variables=_json_value(custom, "envbox.variables", dict, faults),
        slim=_slim(custom, faults),
        exclude_newer=custom.get("envbox.exclude-newer"),
        strategy=custom.get("envbox.strategy"),
        virtual=_by_platform(custom, _VIRTUAL, lambda key: _json_value(custom, key, dict, faults)),
        packages=_with_about(lock.packages, custom, faults),
    )


def _name(custom: Mapping[str, str], faults: list[str]) -> str | None:
    """Return the environment's name, which stands in images' names, prompts and commands that people copy."""
    name = custom.get("envbox.name")
    if name and not _NAME.fullmatch(name):
        faults.append(f"`envbox.name` is {shown(name)}; a name is made of letters, digits, `-`, `_` and `.`")
    return name


def _by_platform(custom: Mapping[str, str], prefix: str, read: Callable[[str], Any]) -> dict[str, Any]:
    return {key.removeprefix(prefix): read(key) for key in custom if key.startswith(prefix)}


def _json_value(custom: Mapping[str, str], key: str, kind: type, faults: list[str]) -> Any:
    text = custom.get(key)
    if text is None:
        return kind()
    value = _loaded(text)
    items = [*value, *value.values()] if isinstance(value, dict) else value
    if not isinstance(value, kind) or not all(isinstance(item, str) for item in items or []):
        faults.append(f"`{key}` in `metadata.custom_metadata` should be JSON: a {kind.__name__} of texts")
        return kind()
    return value


def _loaded(text: str) -> Any:
    try:
        value = json.loads(text)
        if "\\u" in text:
            _json(value).encode()  # half a character cannot be written again
        return value
    except (ValueError, RecursionError):
        return None


def _with_about(
    packages: tuple[LockedPackage, ...], custom: Mapping[str, str], faults: list[str]
) -> tuple[LockedPackage, ...]:
    """Return the packages with size and licence. What is said of a package that is not locked is nobody's
    matter.
    """
    told = _by_platform(custom, _ABOUT, lambda key: _read_about(custom[key], key, faults))
    if not told:
        return packages
    found = []
    for package in packages:
        license_, sizes = told.get(_about_key(package).removeprefix(_ABOUT), (None, {}))
        text = license_.get(package.platform) if isinstance(license_, dict) else license_
        found.append(replace(package, size=sizes.get(package.platform), license=text or None))
    return tuple(found)


def _read_about(
    text: str, key: str, faults: list[str]
) -> tuple[Mapping[str, str] | str | None, Mapping[str, int]]:
    """Return a package's licence, by platform where they differ, and its sizes."""
    value = _loaded(text)
    license_, sizes = (
        (value.get("license"), value.get("size", {})) if isinstance(value, dict) else (None, None)
    )
    licenses = license_.values() if isinstance(license_, dict) else [license_ or ""]
    if (
        not all(isinstance(one, str) for one in licenses)
        or not isinstance(sizes, dict)
        or not all(type(size) is int and size >= 0 for size in sizes.values())
    ):
        faults.append(f"`{key}` should be JSON: a `license`, and a `size` in bytes for each platform")
        return None, {}
    return license_, sizes


def _slim(custom: Mapping[str, str], faults: list[str]) -> tuple[str, ...]:
    kinds = set(_json_value(custom, "envbox.slim", list, faults))
    if unknown := sorted(kinds - KINDS.keys()):
        faults.append(f"`envbox.slim` has {', '.join(unknown)}, and this envbox knows {', '.join(KINDS)}")
    return tuple(sorted(kinds))


def _base(custom: Mapping[str, str], platforms: tuple[str, ...], faults: list[str]) -> Base | None:
    reference = custom.get("envbox.base")
    if reference is None:
        return None
    found = {
        kind: {p: custom[key] for p in platforms if (key := f"envbox.{kind}.{p}") in custom}
        for kind in ("base-digest", "glibc")
    }
    for platform, digest in found["base-digest"].items():
        if not SHA256.fullmatch(digest.removeprefix("sha256:")) or not digest.startswith("sha256:"):
            faults.append(f"`envbox.base-digest.{platform}` is not a sha256 digest: {shown(digest)}")
    for platform in platforms:
        there = [platform in part for part in found.values()]
        if any(there) != all(there) or (platform in DEFAULT_PLATFORMS and not any(there)):
            faults.append(f"the base {reference} is not pinned for {platform}")
    return Base(reference, found["base-digest"], found["glibc"])
