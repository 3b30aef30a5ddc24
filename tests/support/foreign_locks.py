"""Other tools' lockfiles, as they write them."""

from __future__ import annotations

import hashlib

from envbox.lockfile import Lock, LockedPackage

FORGE = "https://conda.anaconda.org/conda-forge"


BOTH = ("linux-64", "osx-arm64")


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def conda(
    name: str, version: str = "1.0", platform: str = "linux-64", subdir: str = "", **depends: str
) -> LockedPackage:
    stem = f"{name}-{version}-h0_0"
    return LockedPackage(
        "conda", name, version, "h0_0", platform, depends, f"{FORGE}/{subdir or platform}/{stem}.conda",
        sha(stem), md5(stem), size=10, license="MIT",
    )  # fmt: skip


def wheel(name: str, version: str = "2.0", platform: str = "linux-64", **depends: str) -> LockedPackage:
    file = f"{name}-{version}-py3-none-any.whl"
    url = f"https://files.pythonhosted.org/packages/ab/{file}"
    return LockedPackage("pip", name, version, None, platform, depends, url, sha(file))


def a_lock() -> Lock:
    packages = [
        conda("zlib"),
        conda("python", "3.11.7", zlib=">=1,<2.0a0"),
        conda("tzdata", "2026a", subdir="noarch"),
        conda("zlib", platform="osx-arm64"),
        conda("tzdata", "2026a", platform="osx-arm64", subdir="noarch"),
        wheel("basic"),
        wheel("cartopy", basic=">=1"),
    ]
    return Lock(
        "maps", BOTH, ("conda-forge",), dict.fromkeys(BOTH, "0" * 64),
        tuple(packages), None, "",
    )  # fmt: skip
