"""What is asked of the solver: match specs, and the system that the environment will run in.

That system is the base image on the platform that is locked for, and never this machine; what it offers
stands as virtual packages (https://github.com/conda/ceps/blob/main/cep-0030.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from envbox.lockfile import Base, LockedPackage

LINUX = "5.10"  # conda-lock's own assumption; no package is known that asks for more
MACOS = "13.0"
_ARCHSPEC = {"64": "x86_64", "32": "x86"}  # other platforms' second half is the name itself


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the solver for one platform.

    :param virtual: names of virtual packages → their version and build
    :param locked: to be kept where they still fit
    """

    platform: str
    specs: tuple[str, ...]
    virtual: Mapping[str, tuple[str, str]]
    locked: tuple[LockedPackage, ...] = ()


def virtual_packages(platform: str, base: Base | None) -> dict[str, tuple[str, str]]:
    """What the system that an environment will run in offers, by the name of the virtual package."""
    system, _, architecture = platform.partition("-")
    found = {"__archspec": ("1", _ARCHSPEC.get(architecture, architecture))}
    if system == "win":
        return found | {"__win": ("0", "0")}
    found["__unix"] = ("0", "0")
    if system == "osx":
        return found | {"__osx": (MACOS, "0")}
    found["__linux"] = (LINUX, "0")
    if base is not None and platform in base.glibc:
        found["__glibc"] = (base.glibc[platform], "0")
    return found
