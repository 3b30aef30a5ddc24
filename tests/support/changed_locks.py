"""Locks that differ from each other in one thing."""

from __future__ import annotations

from hashlib import sha256

from envbox.lockfile import Lock, LockedPackage

CHANNEL = "https://conda.anaconda.org/conda-forge"


BOTH = ("linux-64", "linux-aarch64")


def package(name: str, version: str = "1.0", build: str = "0", platform: str = "linux-64") -> LockedPackage:
    url = f"{CHANNEL}/{platform}/{name}-{version}-{build}.conda"
    return LockedPackage("conda", name, version, build, platform, {}, url, sha256(url.encode()).hexdigest())


def wheel(name: str, version: str = "1.0", platform: str = "linux-64") -> LockedPackage:
    url = f"https://files.pythonhosted.org/packages/{name}-{version}-py3-none-any.whl"
    return LockedPackage("pip", name, version, None, platform, {}, url, "1" * 64)


def lock_of(*packages: LockedPackage, platforms: tuple[str, ...] = ("linux-64",)) -> Lock:
    return Lock("maps", platforms, ("conda-forge",), {}, packages, None, "")
