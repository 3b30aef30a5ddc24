"""What the Python of a platform can use: the tags of wheels, best first, and the values of markers.

A function of the lock alone, never of this machine: its base's C library, its macOS, its Python.

Specifications: https://packaging.python.org/en/latest/specifications/platform-compatibility-tags/ and
https://packaging.python.org/en/latest/specifications/dependency-specifiers/#environment-markers
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from envbox.errors import SpecError

if TYPE_CHECKING:
    from packaging.tags import Tag

_OLDEST_GLIBC = 5  # of manylinux1: 2.5
_LEGACY_TAGS = {5: "1", 12: "2010", 17: "2014"}  # glibc 2.x → the manylinux tags from before PEP 600
_MACHINES = {"64": "x86_64", "32": "i686"}  # other platforms' second half is the machine's name itself
_SYSTEMS = {
    "linux": ("linux", "Linux", "posix"),
    "osx": ("darwin", "Darwin", "posix"),
    "win": ("win32", "Windows", "nt"),
}


@dataclass(frozen=True, slots=True)
class Target:
    """What wheels are chosen for.

    :param platform: conda's name of it
    :param python: version of its Python (`3.12.1`)
    :param tags: of the wheels that it can use, the best first
    :param markers: a marker's variable → its value there; what a platform does not decide is not in it
    """

    platform: str
    python: str
    tags: tuple[Tag, ...]
    markers: Mapping[str, str]


def target_of(
    platform: str, python: str, virtual: Mapping[str, str], is_free_threaded: bool = False
) -> Target:
    """Return what the Python of a platform can use.

    :param virtual: versions of the virtual packages there, of which `__glibc` and `__osx` are looked at
    :raises SpecError: when wheels are not made for the platform
    """
    from packaging.tags import compatible_tags, cpython_tags

    short = tuple(int(part) for part in re.findall(r"\d+", python)[:2])
    name = "cp" + "".join(map(str, short))
    platforms = _platform_tags(platform, virtual)
    abis = [name + "t"] if is_free_threaded else [name]
    tags = [*cpython_tags(short, abis, platforms), *compatible_tags(short, name, platforms)]
    return Target(platform, python, tuple(dict.fromkeys(tags)), _markers(platform, python))


def manylinux_tags(glibc: str) -> list[str]:
    """Return what follows `manylinux` in the tags of wheels that a C library can use (PEP 600 and before)."""
    every = range(_OLDEST_GLIBC, int(glibc.split(".")[1]) + 1)
    return [tag for minor in every for tag in (_LEGACY_TAGS.get(minor), f"_2_{minor}") if tag]


def _platform_tags(platform: str, virtual: Mapping[str, str]) -> list[str]:
    from packaging.tags import mac_platforms

    system, _, word = platform.partition("-")
    machine = _MACHINES.get(word, word)
    if system == "linux":
        newest_first = reversed(manylinux_tags(virtual["__glibc"]))
        return [*(f"manylinux{tag}_{machine}" for tag in newest_first), f"linux_{machine}"]
    if system == "osx":
        major, minor = (int(part) for part in f"{virtual['__osx']}.0".split(".")[:2])
        return list(mac_platforms((major, minor), machine))
    if system == "win":
        return [{"64": "win_amd64", "32": "win32"}.get(word, f"win_{word}")]
    raise SpecError(
        f"there is a `pip:` section, but pip cannot install for {platform}",
        "take these packages from conda, or leave the section out there with a selector",
    )


def _markers(platform: str, python: str) -> dict[str, str]:
    system, _, word = platform.partition("-")
    sys_platform, platform_system, os_name = _SYSTEMS[system]
    machine = _MACHINES.get(word, word)
    if system == "win":
        machine = {"64": "AMD64", "32": "x86"}.get(word, word.upper())
    return {
        "sys_platform": sys_platform,
        "platform_system": platform_system,
        "os_name": os_name,
        "platform_machine": machine,
        "python_version": ".".join(python.split(".")[:2]),
        "python_full_version": python,
        "implementation_name": "cpython",
        "implementation_version": python,
        "platform_python_implementation": "CPython",
    }


def made_for(tag: Tag) -> str:
    """Return the platform that a wheel's tag is for, as conda names it; the tag's own word where conda has
    none.
    """
    word = tag.platform
    if word == "any":
        return "any platform"
    if found := re.fullmatch(r"(?:many|musl)?linux[\d_]*?_(x86_64|i686|[a-z]\w*)", word):
        libc = " with musl" if word.startswith("musl") else ""
        return f"linux-{_CONDA_WORDS.get(found[1], found[1])}{libc}"
    if found := re.fullmatch(r"macosx_\d+_\d+_(\w+)", word):
        return {"x86_64": "osx-64", "arm64": "osx-arm64", "universal2": "macOS"}.get(found[1], word)
    return {"win_amd64": "win-64", "win32": "win-32", "win_arm64": "win-arm64"}.get(word, word)


_CONDA_WORDS = {"x86_64": "64", "i686": "32"}
