"""Bytes that must not drift: what people have built and named by digest must come out the same tomorrow.

The environment here is written by hand down to the last byte, so that its digests are true on any machine.
Its Python is from before hash-based byte-code, so it has none: those bytes belong to a CPython's X.Y.Z, and
are held apart below.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.packages import PLACEHOLDER, File, Package, Wheel
from support.paper_registry import BASE
from support.tampering import tar_of
from support.tiny import own_compiler

from envbox.images.assemble import IMAGE_FORMAT
from envbox.images.build import make_image
from envbox.lockfile import Base, Lock
from envbox.lockfile.conda_lock_v1 import dumps, sealed
from envbox.mirrors import Mirrors
from envbox.oci import LAYER_TAR_TYPE, Descriptor, digest_of
from envbox.packages.link.bytecode import Compiler
from envbox.packages.link.compiler import obtain_compiler
from envbox.platforms import host_platform
from envbox.registry import parse_reference
from envbox.registry.base import BaseImage, BaseLayer
from envbox.registry.lock_with_base import LockWithBase
from envbox.report import SILENT
from envbox.settings import Settings

if TYPE_CHECKING:
    from conftest import Rig

# --- the digests. They change with IMAGE_FORMAT and in no other commit.

FORMAT = "2"
INPUT = "sha256:c016f4b0c18ba67996b54b39bc79bebf2ae30102b0f11e3521a0db6dc1dce1da"
IMAGE = "sha256:643591fae56ee353935ad16fb3f4443c992788bbbd2cd00a8aca741b1ff6e683"
MANIFEST = "sha256:a350baef121b92562cfbbe326a42fac62057b0bcc54dcc297643616f9d0e0ae9"
LAYERS = {
    "large": "1638d9e843881629",
    "linked, pure": "f32c5a16454059a1",
    "loses": "a1ad792ec5ac8415",
    "python": "21118d1360ed6637",
    "pip:wheeled, wins": "de4dc487baefc658",
    "environment": "8246448e50773584",
}
BYTE_CODE = {
    "3.11.2": "4a9b77f003f43106240361a0e330b2632cddd03d3c727f8e35dc3ef9d2cb2d83",
    "3.11.7": "9605023ed7be63ce70f4160ddaf2fc57aec596447744bc61fe23e77da820da1a",
    "3.12.1": "5ed4e603f70e669560ffb93404d7bae3ba0270fdfb9e831eea3b9d6695fb7dac",
    "3.13.0": "ad62b264e613042dd25f5bd53eb49a920aee8b88d0aca4af65b59e57dc9d23e7",
}

DRIFTED = """\
the same lockfile now gives another image than before: {what} differ. If that is not meant, it is a bug.
If it is meant: raise IMAGE_FORMAT in image/assemble.py (and FORMAT in link/fragments.py, if the bytes of a
package changed), say in CHANGELOG.md under Unreleased that images differ and why, and put these here:
FORMAT = {format!r}
IMAGE = "{image}"
MANIFEST = "{manifest}"
LAYERS = {layers}
"""

SHORT = "3.6"
_NOISE = hashlib.shake_256(b"large").digest(2 << 20)  # nothing compresses it


def test_the_image_of_a_lockfile_is_what_it_was(tmp_path: Path) -> None:
    locked, base = golden(tmp_path)
    assert digest_of(locked.data) == INPUT, (
        "the packages or the lockfile that this test writes are other bytes than before, so that nothing can "
        "be said of the image. Was tests/packages.py changed, or how a lockfile is written?"
    )
    rules = {"https://conda.anaconda.org/conda-forge": (tmp_path / "channel").as_uri(),
             "https://files.pythonhosted.org/packages": (tmp_path / "channel").as_uri()}  # fmt: skip
    settings = Settings(cache_dir=tmp_path / "cache", mirrors=Mirrors(rules), jobs=1)
    image = make_image(locked, base, settings, SILENT)
    layers = {
        ", ".join(layer.packages): layer.diff_id.removeprefix("sha256:")[:16]
        for layer in image.layers
        if not isinstance(layer, BaseLayer)
    }
    found = (IMAGE_FORMAT, image.id, image.digest, layers)
    different = sorted(name for name in layers.keys() | LAYERS if layers.get(name) != LAYERS.get(name))
    what = f"the layers of {'; '.join(different)}" if different else "config or manifest"
    assert found == (FORMAT, IMAGE, MANIFEST, LAYERS), DRIFTED.format(
        what=what, format=IMAGE_FORMAT, image=image.id, manifest=image.digest,
        layers=json.dumps(layers, indent=4, ensure_ascii=False),
    )  # fmt: skip


def golden(folder: Path) -> tuple[LockWithBase, BaseImage]:
    """A lock and a base whose every byte is decided here."""
    channel = folder / "channel"
    archives = [
        package.locked(package.write(channel / ("noarch" if package.noarch else "linux-64")))
        for package in _packages()
    ]
    archives.append(_WHEEL.locked(_WHEEL.write(channel)))
    raw = tar_of([(tarfile.TarInfo(name), data) for name, data in BASE.items()])
    path = folder / "base.tar"
    path.write_bytes(raw)
    layer = BaseLayer(Descriptor(LAYER_TAR_TYPE, digest_of(raw), len(raw)), digest_of(raw), path)
    config = {
        "os": "linux", "architecture": "amd64",
        "config": {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["bash"], "Labels": {"maintainer": "somebody"}},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
    }  # fmt: skip
    digest = digest_of(json.dumps(config, sort_keys=True).encode())
    base = Base("docker.io/a/b:1", {"linux-64": digest}, {"linux-64": "2.36"})
    lock = sealed(
        Lock(
            name="golden",
            platforms=("linux-64",),
            channels=("conda-forge",),
            content_hash={"linux-64": "0" * 64},
            packages=tuple(archives),
            base=base,
            digest="",
            requested={"linux-64": ("pip: wheeled", "pure >=1")},
            variables={"Z": "z", "Y": 'it\'s "quoted"'},
        )
    )
    image = BaseImage("linux-64", parse_reference("a/b:1"), digest, config, (layer,))
    return LockWithBase(lock, dumps(lock), base), image


def _packages() -> list[Package]:
    text = File(f"#!{PLACEHOLDER}/bin/sh\nhome={PLACEHOLDER}\n".encode(), 0o755, placeholder="text")
    binary = File(
        b"\x7fELF\0" + f"{PLACEHOLDER}/a:{PLACEHOLDER}/b".encode() + b"\0rest", placeholder="binary"
    )
    python = Package(
        "python",
        f"{SHORT}.15",
        files=[
            (f"bin/python{SHORT}", File(b"a python\n", 0o755)),
            (f"lib/python{SHORT}/os.py", File(b"sep = '/'\n")),
        ],
    )
    pure = Package(
        "pure",
        noarch="python",
        depends=["python"],
        entry_points=["pure = pure.main:run", "pure.sub=pure:Thing.do"],
        files=[
            ("site-packages/pure/__init__.py", File(b"class Thing:\n    def do(): ...\n")),
            ("site-packages/pure/main.py", File(b"def run():\n    print('pure')\n", mtime=1_600_000_000.75)),
            ("site-packages/Pure-1.0.dist-info/METADATA", File(b"Metadata-Version: 2.1\nName: Pure\n")),
            ("python-scripts/pure-script", text),
        ],
    )
    linked = Package(
        "linked",
        files=[
            ("share/\u00fc ber", File("\u03a9".encode())),
            ("bin/text", text),
            ("lib/binary.so", binary),
            ("share/link", File(kind=tarfile.SYMTYPE, link="one.txt")),
            ("share/one.txt", File(b"one\n", mode=0o664)),
            ("share/hard", File(kind=tarfile.LNKTYPE, link="share/one.txt")),
            ("share/" + "long-" * 30 + "name", File(b"long")),
            ("share/empty", File(kind=tarfile.DIRTYPE)),
            ("etc/conda/env_vars.d/v.json", File(b'{"B": "1", "A": "2"}')),
            ("etc/conda/activate.d/act.sh", File(b"export ACT=1\n")),
        ],
    )
    return [
        python,
        pure,
        linked,
        Package("large", files=[("lib/large.bin", File(_NOISE))]),  # which gets it a layer of its own
        Package("loses", files=[("share/both", File(b"loses"))]),
        Package("wins", files=[("share/both", File(b"wins"))], depends=["loses"]),
    ]


_WHEEL = Wheel(
    "wheeled",
    files={"wheeled.py": (b"def main(): ...\n", False), "wheeled-1.0.data/data/share/w": (b"data", True)},
    entry_points="[console_scripts]\nwheeled = wheeled:main\n",
    compression=zipfile.ZIP_STORED,
)


# --- byte-code, which is a CPython's own

SOURCES = [
    (
        "/opt/envbox/lib/python3.11/site-packages/golden/__init__.py",
        b'''"""Constants of every kind, and what refers to them twice."""
from __future__ import annotations
import os.path as path
NAMES = {"one", "two", "three", "four"}
TABLE = {name: len(name) for name in sorted(NAMES)}
BIG, SMALL, FLOAT, COMPLEX = 2**200, -1, 1.5e300, 3j
TEXT = "\\u00fc \\U0001f600" "joined" f"{BIG:x} {path.sep!r}"
def has(name, *, among=frozenset({"a", "b", "c"})):
    return name in {"one", "two", "three"} or name in among or name in ("one", ("two", b"three"))
''',
    ),
    (
        "/opt/envbox/lib/python3.11/site-packages/golden/flow.py",
        b'''import asyncio, contextlib
class Base:
    __slots__ = ("value",)
    def __init__(self, value: "int" = 0) -> None:
        self.value = value
    @property
    def twice(self):
        return self.value * 2
async def gather(things):
    async with contextlib.AsyncExitStack() as stack:
        return [x async for x in things if (y := x) and await asyncio.sleep(0, y)]
def walk(value):
    match value:
        case {"a": [first, *rest], **other} if rest:
            yield from (first, rest, other)
        case Base(value=int(n)) | [n, _]:
            try:
                yield n / 0
            except* ZeroDivisionError as group:
                raise ValueError from group
            finally:
                del n
        case _:
            yield (lambda a, /, b=1, *args, c, **kw: (a, b, args, c, kw))
''',
    ),
]  # fmt: skip


def byte_code(compiler: Compiler) -> str:
    """The hash of all byte-code of the sources above."""
    compiled = compiler.compile_sources(SOURCES)
    assert all(compiled)
    return hashlib.sha256(b"".join(data for data in compiled if data)).hexdigest()


def check_byte_code(compiler: Compiler) -> None:
    found = byte_code(compiler)
    if compiler.version not in BYTE_CODE:
        pytest.skip(f"the byte-code of CPython {compiler.version} was not noted: {found}")
    assert found == BYTE_CODE[compiler.version], (
        f"the byte-code of CPython {compiler.version} is not what it was ({found}). If that is meant: "
        "another POLICY in link/bytecode.py and IMAGE_FORMAT, a line in CHANGELOG.md, and the new hash here"
    )


def test_the_byte_code_of_this_python_is_what_it_was() -> None:
    check_byte_code(own_compiler())


@pytest.mark.rig
def test_the_byte_code_of_the_rig_s_python_is_what_it_was(rig: Rig, tmp_path: Path) -> None:
    from envbox.locks.lock import lock
    from envbox.project import Environment

    spec = tmp_path / "golden.yml"
    spec.write_text("channels: [conda-forge]\ndependencies: [python]\n")
    environment = Environment("golden", spec, tmp_path / "golden.conda-lock.yml")
    locked = lock(environment, rig.settings(), [host_platform()], SILENT)
    version = next(p.version for p in locked.packages if p.name == "python")
    check_byte_code(obtain_compiler(locked, version, rig.settings(), SILENT))
