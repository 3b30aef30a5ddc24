"""A tiny environment that has one of everything: what linking and compiling do, in a tenth of a second.

Its `python` starts the Python that runs the tests, so its byte-code is real, and it must be trusted:
confined, it would find none. Its other packages are by hand.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from envbox.lockfile import Base, Lock, LockedPackage
from envbox.lockfile.conda_lock_v1 import dumps
from envbox.mirrors import Mirrors
from envbox.packages.confine.converse import Program
from envbox.packages.link.bytecode import Compiler
from envbox.project import Environment
from envbox.registry.base import resolve_base
from envbox.report import SILENT
from envbox.settings import Settings
from support.packages import PLACEHOLDER, File, Package, Wheel
from support.paper_registry import BASE, PaperRegistry

CHANNEL = "https://conda.anaconda.org/conda-forge"
WHEELS = "https://files.pythonhosted.org/packages"
VERSION = ".".join(map(str, sys.version_info[:3]))
SHORT = ".".join(map(str, sys.version_info[:2]))
BASE_NAME = "a/b:1"


def python(command: str = sys.executable, version: str = VERSION, subdir: str = "linux-64") -> Package:
    """A package whose Python is another that is here already."""
    script = f'#!/bin/sh\nexec {command} "$@"\n'.encode()
    short = version.rpartition(".")[0]
    return Package("python", version, files=[(f"bin/python{short}", File(script, mode=0o755))], subdir=subdir)


def own_compiler(executable: Path = Path(sys.executable), version: str = VERSION) -> Compiler:
    """A Python that is here already, as it is."""
    folder = executable.parent.parent
    return Compiler(Program(folder, str(executable.relative_to(folder)), str(executable)), version, "trusted")


def pure() -> Package:
    """A noarch python package of real sources, with a command."""
    spec = importlib.util.find_spec("installer")
    assert spec
    assert spec.submodule_search_locations
    root = Path(spec.submodule_search_locations[0])
    modules = [
        (f"site-packages/{path.relative_to(root.parent)}", File(path.read_bytes()))
        for path in sorted(root.rglob("*.py"))
    ]
    broken = ("site-packages/installer/broken.py", File(b"print 'for another Python'\n"))
    return Package(
        "pure", noarch="python", files=[*modules, broken], depends=["python"],
        entry_points=["install = installer.__main__:main"],
    )  # fmt: skip


def packages() -> list[Package]:
    """Packages without code: prefixes, links, names, a conflict, variables, an activation script."""
    prefixed = File(f"#!{PLACEHOLDER}/bin/sh\nhome={PLACEHOLDER}\n".encode(), mode=0o755, placeholder="text")
    binary = File(b"\x7fELF\0" + f"{PLACEHOLDER}/lib".encode() + b"\0rest", placeholder="binary")
    like_target = {
        "sha256": hashlib.sha256(b"one\n").hexdigest(),
        "size_in_bytes": 4,
    }  # as conda-build has it
    return [
        Package(
            "one",
            files=[
                ("share/ü ber", File(b"one")),
                ("bin/one", prefixed),
                ("lib/one.so", binary),
                ("share/link", File(kind=tarfile.SYMTYPE, link="one.txt", listed=like_target)),
                ("share/one.txt", File(b"one\n", mode=0o664)),
                ("share/hard", File(kind=tarfile.LNKTYPE, link="share/one.txt")),
                ("share/" + "long-" * 30 + "name", File(b"long")),
            ],
        ),
        Package("two", files=[("share/two", File(b"2" * 2000)), ("share/both", File(b"two"))]),
        Package("three", files=[("share/both", File(b"three"))], depends=["two"]),
        Package("vars", files=[("etc/conda/env_vars.d/v.json", File(b'{"B": "1", "A": "2"}'))]),
        Package("act", files=[("etc/conda/activate.d/act.sh", File(b"export ACT=1\n"))]),
    ]


def wheel() -> Wheel:
    """A wheel with a module and a command."""
    return Wheel(
        "wheeled", files={"wheeled.py": (b"def main():\n    return {'a', 'b', 'c'}\n", False)},
        entry_points="[console_scripts]\nwheeled = wheeled:main\n",
    )  # fmt: skip


@dataclass(frozen=True)
class Tiny:
    """A channel, a registry and a lockfile.

    :param channel: its URL, when it is not that of the folder
    """

    folder: Path
    registry: PaperRegistry
    environment: Environment
    lock: Lock
    channel: str = ""

    @property
    def rules(self) -> dict[str, str]:
        """The mirrors that lead to where everything is."""
        channel = self.channel or (self.folder / "channel").as_uri()
        return {"docker.io": self.registry.host, CHANNEL: channel, WHEELS: f"{channel}/wheels"}

    def settings(self, cache: str = "cache", jobs: int = 1) -> Settings:
        """Settings that use it, with a cache folder."""
        return Settings(
            cache_dir=self.folder / cache,
            base=BASE_NAME,
            mirrors=Mirrors(self.rules),
            jobs=jobs,
            trust_python=True,
        )

    @property
    def environ(self) -> dict[str, str]:
        """The variables that make the command use it."""
        rules = " ".join(f"{here}={there}" for here, there in self.rules.items())
        return {"ENVBOX_MIRRORS": rules, "ENVBOX_TRUST_PYTHON": "1"}


def make_tiny(
    folder: Path,
    registry: PaperRegistry,
    pythons: Sequence[Package] | None = None,
    platforms: Sequence[str] = ("linux-64",),
    motd: bytes = b"hello",
) -> Tiny:
    """Write the packages and the lockfile.

    :param motd: in the base's last layer; where no engine shall know the image's layers, something new
    :param pythons: one for each platform; without, the tests' own
    """
    for platform in platforms:
        registry.put_image(f"a/b:{platform}", [BASE, {"etc/motd": motd}], platform)
    if len(platforms) > 1:
        digests = {p: _manifest(registry, p) for p in platforms}
        registry.put_index(BASE_NAME, digests)
    else:
        registry.put_image(BASE_NAME, [BASE, {"etc/motd": motd}], platforms[0])
    environment = Environment("tiny", folder / "tiny.yml", folder / "tiny.conda-lock.yml")
    made = Tiny(folder, registry, environment, Lock("tiny", (), (), {}, (), None, ""))
    locked: list[LockedPackage] = []
    written = wheel().write(folder / "channel" / "wheels")
    for platform, own in zip(platforms, pythons or [python(subdir=p) for p in platforms], strict=True):
        for package in [own, pure(), *(replace(package, subdir=platform) for package in packages())]:
            subdir = "noarch" if package.noarch else package.subdir
            archive = package.write(folder / "channel" / subdir)
            locked.append(package.locked(archive, platform))
        locked.append(wheel().locked(written, platform))
    base: Base = resolve_base(BASE_NAME, list(platforms), made.settings(), SILENT)
    lock = Lock(
        name="tiny",
        platforms=tuple(platforms),
        channels=("conda-forge",),
        content_hash=dict.fromkeys(platforms, "0" * 64),
        packages=tuple(locked),
        base=base,
        digest="",
        variables={"Z": "z", "Y": "y"},
    )
    environment.lock_path.write_bytes(dumps(lock))
    return Tiny(folder, registry, environment, lock)


def _manifest(registry: PaperRegistry, platform: str) -> str:
    from support.paper_registry import digest

    return digest(registry.manifests[f"a/b:{platform}"][1])
