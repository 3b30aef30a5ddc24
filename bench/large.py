"""A lockfile as large as they get: 500 packages for each of four platforms, and the spec that it is fresh by.

Nothing in it can be fetched; reading, writing and checking look at no archive. Every package needs some of
those before it, as in a real one, and all of that holds.
"""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from envbox.lockfile import Base, Lock, LockedPackage
from envbox.lockfile.conda_lock_v1 import dumps, sealed
from envbox.locks.freshness.content_hash import read_asked
from envbox.project import Environment
from envbox.settings import Settings

NAME = "large"
PLATFORMS = ("linux-64", "linux-aarch64", "osx-64", "osx-arm64")
_FORGE = "https://conda.anaconda.org/conda-forge"
_LICENSES = ("MIT", "BSD-3-Clause", "Apache-2.0", "GPL-3.0-or-later", "LGPL-2.1-or-later AND MIT")
_ASKED = 25  # packages that the spec names
_SEED = 20260101


def write_large(folder: Path, settings: Settings, number: int = 500) -> tuple[Environment, Lock]:
    """Write the spec and the lockfile of `number` packages for each platform.

    :param folder: of a project; its `environments/` is made
    """
    environment = Environment(
        NAME, folder / "environments" / f"{NAME}.yml", folder / "environments" / f"{NAME}.conda-lock.yml"
    )
    environment.spec_path.parent.mkdir(parents=True, exist_ok=True)
    packages = tuple(package for platform in PLATFORMS for package in _packages(platform, number))
    asked = sorted({p.name: p for p in packages}.values(), key=lambda p: p.name)[:: number // _ASKED]
    lines = [f"  - {p.name} >={'.'.join(p.version.split('.')[:2])}" for p in asked]
    head = [f"name: {NAME}", "channels: [conda-forge]", f"platforms: [{', '.join(PLATFORMS)}]"]
    environment.spec_path.write_text("\n".join([*head, "dependencies:", *lines, ""]))
    spec = read_asked(environment.spec_path, PLATFORMS, settings)
    linux = [p for p in PLATFORMS if p.startswith("linux-")]
    lock = sealed(
        Lock(
            NAME, PLATFORMS, spec.channels, spec.hashes, packages,
            Base(settings.base, {p: f"sha256:{_sha256(p)}" for p in linux}, dict.fromkeys(linux, "2.36")),
            "", sources=(environment.spec_path.name,), requested=spec.conda,
        )
    )  # fmt: skip
    environment.lock_path.write_bytes(dumps(lock))
    return environment, lock


def _packages(platform: str, number: int) -> list[LockedPackage]:
    chance = random.Random(_SEED)
    found: list[LockedPackage] = []
    for count in range(number):
        is_noarch = count % 3 == 0
        needs = chance.sample(found, min(len(found), chance.choice([0, 1, 2, 3, 5, 8, 12])))
        version = f"{chance.randrange(1, 9)}.{chance.randrange(30)}.{chance.randrange(12)}"
        build = "pyhd8ed1ab_0" if is_noarch else f"h{chance.getrandbits(28):07x}_{chance.randrange(4)}"
        name = f"{chance.choice(['lib', 'py', 'jupyter-', 'r-', ''])}package{count}"
        file = f"{name}-{version}-{build}.conda"
        subdir = "noarch" if is_noarch else platform
        found.append(
            LockedPackage(
                "conda", name, version, build, platform, {p.name: _bound(p) for p in needs},
                f"{_FORGE}/{subdir}/{file}", _sha256(subdir + file), _sha256(subdir + file)[:32],
                size=chance.randrange(10_000, 30_000_000), license=chance.choice(_LICENSES),
            )
        )  # fmt: skip
    return found


def _bound(package: LockedPackage) -> str:
    major = int(package.version.split(".")[0])
    return f">={package.version},<{major + 1}.0a0"


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
