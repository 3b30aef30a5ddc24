"""A lock of a few packages, as a value."""

from __future__ import annotations

from dataclasses import replace

from envbox.lockfile import Lock, LockedPackage
from support.changed_locks import package, wheel


def needing(one: LockedPackage, **depends: str) -> LockedPackage:
    return replace(one, depends={name.replace("__", "-"): text for name, text in depends.items()})


def small() -> Lock:
    """Two things asked for that share what is below; a wheel on conda's packages; a circle."""
    packages = (
        needing(package("python", "3.11"), openssl=">=3,<4", pip="*"),
        needing(package("pip", "24"), python=">=3.8"),
        replace(package("openssl", "3.1"), depends={"__glibc": ">=2.17", "ca-certs": "*"}, size=2_500_000),
        replace(package("ca-certs", "2024"), license="ISC", size=100_000),
        needing(package("numpy", "1.26"), python=">=3.11,<3.12", libblas=">=3.9"),
        needing(package("libblas", "3.9"), openblas="*"),
        package("openblas", "0.3"),
        needing(package("typing_extensions", "4"), python="*"),
        replace(wheel("maps-kit", "2"), depends={"Typing.Extensions": ">=4", "numpy": ">=1", "gone": "*"}),
    )
    asked = ("numpy >=1.20", "pip: maps_kit >=1; python_version > '3'", "python 3.11.*")
    return Lock(
        "maps",
        ("linux-64",),
        ("conda-forge",),
        {"linux-64": "0"},
        packages,
        None,
        "",
        requested={"linux-64": asked},
    )
