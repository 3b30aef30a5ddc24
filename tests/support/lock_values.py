"""Locks as values, and as Hypothesis draws them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from envbox.lockfile import Base, Lock, LockedPackage
from envbox.lockfile.conda_lock_v1 import sealed
from envbox.slim import KINDS

HERE = Path("maps.conda-lock.yml")


PLATFORMS = ("linux-64", "linux-aarch64")


def package(name: str, platform: str = "linux-64", version: str = "1.0", **changes: Any) -> LockedPackage:
    made = LockedPackage(
        manager="conda",
        name=name,
        version=version,
        build="h0_0",
        platform=platform,
        depends={},
        url=f"https://conda.anaconda.org/conda-forge/{platform}/{name}-{version}-h0_0.conda",
        sha256="a" * 64,
        md5="b" * 32,
    )
    return replace(made, **changes)


def wheel(name: str, platform: str = "linux-64") -> LockedPackage:
    url = f"https://files.pythonhosted.org/packages/t/{name}-1.0-py3-none-any.whl"
    return LockedPackage("pip", name, "1.0", None, platform, {"numpy": ">=1"}, url, "c" * 64)


def lock_of(*packages: LockedPackage, **changes: Any) -> Lock:
    platforms = tuple(sorted({p.platform for p in packages}))
    made = Lock(
        name="maps",
        platforms=platforms,
        channels=("conda-forge",),
        content_hash=dict.fromkeys(platforms, "d" * 64),
        packages=packages,
        base=Base(
            "docker.io/a/b:1",
            dict.fromkeys(platforms, "sha256:" + "e" * 64),
            dict.fromkeys(platforms, "2.36"),
        ),
        digest="",
        sources=("maps.yml",),
        requested=dict.fromkeys(platforms, ("numpy >=1.0", "pip: tqdm")),
        variables={"A": "1.10"},
    )
    return sealed(replace(made, **changes))


MAPS = lock_of(
    package("numpy", depends={"python": ">=3.11,<3.12.0a0", "__glibc": ">=2.17"}),
    package("python", version="3.11.7"),
    package("numpy", "linux-aarch64"),
    wheel("tqdm"),
)


NAMES = st.text("abz09_.-", min_size=1, max_size=6).filter(lambda n: n[0] in "abz_" and n[:2] != "__")


VERSIONS = st.text("0123!a_.+", min_size=1, max_size=6)


BUILDS = st.text("hH0_.+", min_size=1, max_size=6)


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff"), max_size=12)


HASHES = st.binary(min_size=32, max_size=32).map(bytes.hex)


SIZES = st.none() | st.integers(0, 2**40)


LICENSES = st.none() | st.sampled_from(["MIT", "BSD-3-Clause AND (GPL-2.0-or-later OR ü)"])


@st.composite
def locks(draw: st.DrawFn) -> Lock:
    """A complete lock: nothing is needed that is not in it."""
    platforms = draw(st.sampled_from([PLATFORMS, ("linux-64",), ("osx-arm64", "win-64")]))
    packages = []
    for platform in platforms:
        names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
        for name in names:
            version, build = draw(VERSIONS), draw(BUILDS)
            needs = draw(st.dictionaries(st.sampled_from([*names, "__glibc"]), TEXTS, max_size=3))
            channel = draw(st.sampled_from(["https://conda.anaconda.org/conda-forge", "file:///srv/channel"]))
            subdir = draw(st.sampled_from([platform, "noarch"]))
            ending = draw(st.sampled_from([".conda", ".tar.bz2"]))
            url = f"{channel}/{subdir}/{name}-{version}-{build}{ending}"
            depends = dict(sorted(needs.items()))
            md5 = draw(st.none() | st.binary(min_size=16, max_size=16).map(bytes.hex))
            size, license_ = draw(SIZES), draw(LICENSES)
            packages.append(
                LockedPackage(
                    "conda",
                    name,
                    version,
                    build,
                    platform,
                    depends,
                    url,
                    draw(HASHES),
                    md5,
                    size=size,
                    license=license_,
                )
            )
        packages += [wheel(name, platform) for name in draw(st.lists(NAMES, max_size=2, unique=True))]
    based = draw(st.booleans())
    changes: dict[str, Any] = {} if based else {"base": None}
    requested = {
        p: tuple(sorted({q.name for q in packages if q.platform == p and q.manager == "conda"}))
        for p in platforms
    }
    return lock_of(
        *packages,
        name=draw(NAMES.filter(lambda name: name[0].isalnum())),
        channels=tuple(
            draw(st.lists(st.sampled_from(["conda-forge", "https://h/c", "a/label/b"]), min_size=1))
        ),
        variables=draw(st.dictionaries(st.text("AB_", min_size=1, max_size=4), TEXTS, max_size=3)),
        requested=requested,
        slim=tuple(sorted(draw(st.sets(st.sampled_from(sorted(KINDS)))))),
        exclude_newer=draw(st.none() | st.just("2024-05-01T00:00:00Z")),
        strategy=draw(st.none() | st.just("lowest-direct")),
        virtual=draw(
            st.dictionaries(st.sampled_from(platforms), st.dictionaries(NAMES, VERSIONS, max_size=2))
        ),
        **changes,
    )
