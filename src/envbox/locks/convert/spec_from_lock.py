"""From packages to the spec that would ask for them: what nothing else needs, at the version that is locked.

A lockfile does not say what was asked for. What no other package needs must have been; of those that need
each other in a circle, all stand there. Python always does, since a change of it changes everything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from envbox.lockfile import LockedPackage

SELECTORS = {
    "linux-64": "linux64",
    "linux-aarch64": "aarch64",
    "linux-ppc64le": "ppc64le",
    "osx-64": "osx64",
    "osx-arm64": "arm64",
    "win-64": "win64",
}
"""A platform → the selector (`# [linux64]`) that means it and no other, in conda-lock."""
_SAFE = re.compile(r"[A-Za-z_][A-Za-z0-9_./@-]*(://?[A-Za-z0-9_./@:-]+)?")
_WORDS = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")


def roots(packages: Sequence[LockedPackage]) -> tuple[LockedPackage, ...]:
    """Return the packages of one platform that no other needs, and Python."""
    needs: dict[tuple[str, str], set[tuple[str, str]]] = {
        (p.manager, p.name): {(m, n) for n in p.depends for m in ("conda", "pip")} for p in packages
    }
    reached: dict[tuple[str, str], set[tuple[str, str]]] = {}

    def below(key: tuple[str, str]) -> set[tuple[str, str]]:
        if key not in reached:
            seen: set[tuple[str, str]] = set()
            todo = [key]
            while todo:
                following = (needs[todo.pop()] & needs.keys()) - seen
                seen |= following
                todo += following
            reached[key] = seen
        return reached[key]

    def is_root(key: tuple[str, str]) -> bool:
        return key == ("conda", "python") or all(
            other in below(key) for other in needs if key in below(other)
        )

    return tuple(p for p in packages if is_root((p.manager, p.name)))


def spec_text(
    name: str,
    source: str,
    channels: Sequence[str],
    locked: Mapping[str, Sequence[LockedPackage]],
    variables: Mapping[str, str],
) -> str:
    """Write the spec for what is locked.

    :param source: where it is from, for the comment
    :param locked: platform → its packages
    """
    found = {platform: roots(packages) for platform, packages in locked.items()}
    lines = [
        f"# What {source} has, by `envbox import`: what no other package needs, at the version that is",
        "# locked. Loosen it as you like; what still fits stays locked.",
        f"name: {_scalar(name)}",
        "channels:",
        *(f"  - {_scalar(channel)}" for channel in channels),
        "platforms:",
        *(f"  - {platform}" for platform in found),
        "dependencies:",
    ]
    lines += ["  - " + text for text in _asked(found, "conda", "=")]
    lines += _wheels(found)
    if variables:
        lines += ["variables:", *(f"  {_scalar(k)}: {json.dumps(v)}" for k, v in sorted(variables.items()))]
    return "\n".join(lines) + "\n"


def _wheels(found: Mapping[str, Sequence[LockedPackage]]) -> list[str]:
    """Return the `pip:` section; one for each platform where they differ, since an empty one is none."""
    here = {p: _asked({p: packages}, "pip", "==") for p, packages in found.items()}
    if all(texts == next(iter(here.values())) for texts in here.values()):
        texts = next(iter(here.values()), [])
        return ["  - pip:", *("      - " + text for text in texts)] if texts else []
    return [
        line
        for platform, texts in here.items()
        if texts
        for selector in [f"  # [{SELECTORS[platform]}]"]
        for line in (f"  - pip:{selector}", *(f"      - {text}{selector}" for text in texts))
    ]


def _scalar(text: str) -> str:
    """Return a text as YAML, in quotes where it could be something else."""
    return text if _SAFE.fullmatch(text) and text.lower() not in _WORDS else json.dumps(text)


def _asked(found: Mapping[str, Sequence[LockedPackage]], manager: str, sign: str) -> list[str]:
    """Return the lines, Python first, then by name; a line that is not for all platforms has selectors."""
    texts: dict[tuple[bool, str, str], list[str]] = {}
    for platform, packages in found.items():
        for package in packages:
            if package.manager == manager:
                key = (package.name != "python", package.name, package.version)
                texts.setdefault(key, []).append(platform)
    return [
        line
        for (_, name, version), platforms in sorted(texts.items())
        for line in _lines(f"{name}{sign}{version}", platforms, len(found))
    ]


def _lines(text: str, platforms: Sequence[str], of: int) -> list[str]:
    if len(platforms) == of:
        return [text]
    return [f"{text}  # [{SELECTORS[platform]}]" for platform in platforms]
