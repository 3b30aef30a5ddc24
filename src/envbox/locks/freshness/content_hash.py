"""What a spec asks for, and conda-lock's hash of that, without importing conda-lock where that can be.

The difficulty is that importing conda-lock takes a second, and a check should take a tenth of it; but what a
spec means is conda-lock's to say. So a spec of plain match specs, which most are, is read here by a grammar
that is narrow enough to be sure of, and its hash is made from the same parts; everything else goes the long
way. A hash that comes out as the lockfile has it proves by itself that this was right; one that does not is
made again by conda-lock, before anybody is told.

Follows conda_lock/content_hash.py, virtual_package.py, src_parser/selectors.py and environment_yaml.py (4.x).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from envbox.errors import SpecError
from envbox.lockfile import pip_name
from envbox.lockfile.variables import variable_fault
from envbox.locks.spec.document import Document, parsed
from envbox.locks.spec.selectors import SELECTORS, content_hash, twin
from envbox.locks.spec.text import read_text, text_faults
from envbox.settings import Settings


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for.

    :param named: the platforms that the spec or the settings name
    :param conda: platform → match specs, as written
    :param pip: platform → requirements, as written
    :param hashes: platform → conda-lock's content hash
    :param is_quick: whether conda-lock was not asked
    """

    named: tuple[str, ...]
    channels: tuple[str, ...]
    variables: Mapping[str, str]
    conda: Mapping[str, tuple[str, ...]]
    pip: Mapping[str, tuple[str, ...]]
    hashes: Mapping[str, str]
    is_quick: bool


def read_asked(path: Path, platforms: Sequence[str], settings: Settings) -> Asked:
    """Read a spec for these platforms, by conda-lock.

    :raises SpecError: with every fault that was found
    """
    from envbox.locks.spec import content_hashes, read_spec

    spec = read_spec(path, platforms, settings)
    return Asked(
        spec.named, spec.channels, spec.variables, spec.conda, spec.pip, content_hashes(spec), is_quick=False
    )


# --- without conda-lock -------------------------------------------------------------------------------------

_KEYS = {"name", "channels", "dependencies", "platforms", "variables"}
_VERSION = r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,5}(?:[a-z]{1,4}[0-9]{0,4})?"
_BOUND = rf"(?:>=|<=|>|<|!=){_VERSION}"
_CONDA = re.compile(
    r"(?:(?P<channel>[a-z][a-z-]*)::)?(?P<name>[a-z_][a-z0-9_.-]*)"
    rf"(?: ?(?:(?P<bounds>{_BOUND}(?:,{_BOUND})*)|==(?P<exact>{_VERSION})|=(?P<fuzzy>{_VERSION}))"
    rf"| (?P<glob>{_VERSION}\.\*)|=(?P<pinned>{_VERSION})=(?P<build>[a-z0-9_]+))?"
)
_NUMBER = r"(?:0|[1-9][0-9]{0,8})"
_PIP_BOUND = rf"(?:(?:>=|<=|>|<|!=|==){_NUMBER}|~={_NUMBER}\.{_NUMBER})(?:\.{_NUMBER})*"
_PIP = re.compile(
    rf"(?P<name>[A-Za-z][A-Za-z0-9]*(?:[-_.][A-Za-z0-9]+)*) ?(?P<bounds>{_PIP_BOUND}(?:,{_PIP_BOUND})*)?"
)
_CHANNEL = re.compile(r"[a-z][a-z0-9_-]*(?:/[a-z0-9_-]+)*|https?://[a-z0-9.-]+(?:/[a-z0-9_-]{2,})+")


class _NotPlainError(Exception):
    """The spec is one that conda-lock has to read."""


def read_quickly(path: Path, platforms: Sequence[str], settings: Settings) -> Asked | None:
    """Read a plain spec; None when it is not plain enough to be sure, or has any fault."""
    try:
        text = read_text(path)
        return _read(parsed(text, path), platforms, settings) if not text_faults(text) else None
    except (SpecError, _NotPlainError):
        return None  # who reads it the long way says so in words


def _read(whole: Document, platforms: Sequence[str], settings: Settings) -> Asked:
    document = whole.values
    named = _texts(document.get("platforms") or [])
    own = _texts(document.get("channels") or [])
    variables = _variables(whole.text) if "variables" in document else {}
    _demand(not document.keys() - _KEYS and not {*platforms, *named} - SELECTORS.keys())
    _demand(len(set(own)) == len(own) and all(_CHANNEL.fullmatch(c) for c in own))
    channels = tuple(c for c in own if c != "nodefaults")
    _demand(isinstance(document.get("dependencies"), list))
    asked = {p: _dependencies(whole.dependencies(p)) for p in platforms}
    return Asked(
        named=named or settings.platforms,
        channels=channels or settings.channels,
        variables=variables,
        conda={p: conda for p, (conda, _) in asked.items()},
        pip={p: pip for p, (_, pip) in asked.items()},
        hashes={p: _content_hash(p, channels, conda, pip) for p, (conda, pip) in asked.items()},
        is_quick=True,
    )


def _demand(is_plain: bool) -> None:
    if not is_plain:
        raise _NotPlainError


def _texts(value: object) -> tuple[str, ...]:
    _demand(isinstance(value, list) and all(isinstance(v, str) for v in value))
    assert isinstance(value, list)
    return tuple(value)


def _variables(text: str) -> dict[str, str]:
    import yaml

    variables = yaml.load(text, Loader=yaml.BaseLoader).get("variables") or {}  # noqa: S506 - texts only
    _demand(isinstance(variables, dict))
    for name, value in variables.items():
        _demand(isinstance(value, str) and not variable_fault(name, value))
    return dict(sorted(variables.items()))


def _dependencies(found: list[Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    _demand(bool(found))
    sections = [item for item in found if isinstance(item, dict)]
    _demand(len(sections) <= 1 and all(list(section) == ["pip"] for section in sections))
    conda = _texts([item for item in found if not isinstance(item, dict)])
    pip = _texts([line for section in sections for line in section["pip"] or []])
    _demand(all(_CONDA.fullmatch(t) for t in conda) and all(_PIP.fullmatch(t) for t in pip))
    if pip and "pip" not in conda:
        conda = (*conda, "pip")
    return conda, pip


# --- conda-lock's content hash ------------------------------------------------------------------------------


def _content_hash(platform: str, channels: Sequence[str], conda: Sequence[str], pip: Sequence[str]) -> str:
    specs = {("conda", spec["name"]): spec for spec in map(_conda_part, conda)}
    wheels = {("pip", spec["name"]): spec for spec in map(_pip_part, pip)}
    _demand(len(specs) == len(conda) and len(wheels) == len(pip))
    if pip:
        specs["conda", "pip"] = _part("pip", "conda", "*")
    content = {
        "channels": [json.dumps({"url": c, "used_env_vars": []}, separators=(",", ":")) for c in channels],
        "specs": [spec for _, spec in sorted({**specs, **wheels}.items())],
        "virtual_package_hash": _virtual_packages(twin(platform)),
    }
    return content_hash(hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(), platform)


def _part(name: str, manager: str, version: str) -> dict[str, Any]:
    return {
        "name": name, "manager": manager, "category": "main", "extras": [], "version": version,
        "build": None, "conda_channel": None, "hash": None,
    }  # fmt: skip


def _conda_part(text: str) -> dict[str, Any]:
    found = _CONDA.fullmatch(text)
    assert found
    fuzzy = f"{found['fuzzy']}.*" if found["fuzzy"] else None
    version = fuzzy or found["exact"] or found["pinned"] or found["glob"] or found["bounds"] or ""
    part = _part(found["name"], "conda", version)
    return {**part, "build": found["build"], "conda_channel": found["channel"]}


def _pip_part(text: str) -> dict[str, Any]:
    found = _PIP.fullmatch(text)
    assert found
    bounds = sorted((found["bounds"] or "*").split(","))
    _demand(len({re.sub("[0-9.]", "", bound) for bound in bounds}) == len(bounds))  # two alike may be one
    return _part(pip_name(found["name"]), "pip", ",".join(bounds))


@cache
def _virtual_packages(platform: str) -> Mapping[str, Any]:
    """Return the virtual packages that conda-lock takes for granted, which are part of its hash."""
    import yaml

    place = find_spec("conda_lock")  # of the package itself: that imports nothing
    _demand(place is not None and bool(place.submodule_search_locations))
    assert place is not None
    table = Path((place.submodule_search_locations or [""])[0], "default-virtual-packages.yaml")
    try:
        subdirs = yaml.load(table.read_bytes(), Loader=yaml.CSafeLoader)["subdirs"]
        packages = [(n, *str(v).partition(" ")[::2]) for n, v in subdirs[platform]["packages"].items()]
    except (OSError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        raise _NotPlainError from None
    if platform == "osx-64":
        packages.append(("__osx", "10.15", ""))  # counted twice by every version, and so kept
    entries = dict(_virtual_package(*package, platform) for package in packages)
    return {
        "noarch": {"info": {"subdir": "noarch"}, "packages": {}},
        platform: {"info": {"subdir": platform}, "packages": entries},
    }


def _virtual_package(name: str, version: str, build: str, platform: str) -> tuple[str, dict[str, Any]]:
    full = f"{build}_0" if build else "0"
    return f"{name}-{version}-{full}.tar.bz2", {
        "name": name, "version": version, "build_string": build, "build_number": 0, "build": full,
        "noarch": "", "depends": [], "timestamp": 1577854800000, "package_type": "virtual_system",
        "subdir": platform,
    }  # fmt: skip
