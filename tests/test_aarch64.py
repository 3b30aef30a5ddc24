"""What an aarch64 machine makes is what an x86-64 machine makes: aarch64's Python is run, emulated.

It is the rig's own for aarch64, with the C library of the rig's base image, under qemu-user-static; the
libraries are PyPI's wheels for aarch64. Nothing has to be registered with the kernel.
"""

from __future__ import annotations

import platform
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.paper_registry import PaperRegistry, serving
from support.second_python import libraries
from support.sources import real_sources
from support.tiny import make_tiny, own_compiler, python
from support.worlds import SOURCE, World, build, mirrors

from envbox.packages.link.compiler import obtain_compiler
from envbox.registry.base import fetch_layers, pull_base, resolve_base
from envbox.report import SILENT

if TYPE_CHECKING:
    from conftest import Rig

pytestmark = pytest.mark.rig
QEMU = "qemu-aarch64-static"
WHEELS = ("manylinux2014_aarch64", "manylinux_2_17_aarch64", "manylinux_2_28_aarch64")
NEEDED = ("opt/conda/", "lib", "usr/lib/aarch64-linux-gnu/", "usr/lib/ld-")  # of the base: Python, C library
PACKAGES = ("installer", "click", "requests", "rich", "asyncio", "email")


@dataclass(frozen=True)
class Machines:
    """The same CPython for two architectures.

    :param native: of this machine
    :param emulated: a command
    :param version: X.Y.Z
    """

    native: Path
    emulated: tuple[str, ...]
    version: str


@pytest.fixture(scope="module")
def machines(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Machines:
    from envbox.locks.lock import lock
    from envbox.project import Environment

    if platform.machine() != "x86_64":
        pytest.skip("this machine is not x86-64")
    qemu = shutil.which(QEMU)
    if qemu is None:
        pytest.skip(f"{QEMU} is not here (Debian's package qemu-user-static)")
    folder = tmp_path_factory.mktemp("machines")
    spec = folder / "python.yml"
    spec.write_text("channels: [conda-forge]\ndependencies: [python]\n")
    environment = Environment("python", spec, folder / "python.conda-lock.yml")
    settings = rig.settings()
    locked = lock(environment, settings, ["linux-64", "linux-aarch64"], SILENT)
    versions = {p.version for p in locked.packages if p.name == "python"}
    if len(versions) > 1:
        pytest.skip(f"the rig has not the same Python for both architectures: {versions}")
    (version,) = versions
    base = pull_base(
        resolve_base(settings.base, ["linux-aarch64"], settings, SILENT), "linux-aarch64", settings
    )
    fetch_layers(base, base.layers, settings, SILENT)
    root = folder / "root"
    for layer in base.layers:
        with tarfile.open(layer.path) as tar:
            tar.extraction_filter = lambda member, path: member  # a Debian has absolute links
            for member in tar:
                if member.name.removeprefix("./").startswith(NEEDED):
                    tar.extract(member, root)
    executable = root / f"opt/conda/bin/python{version.rpartition('.')[0]}"
    program = obtain_compiler(locked, version, settings, SILENT).program
    native = program.folder / program.executable
    return Machines(native, (qemu, "-L", str(root), str(executable)), version)


def test_byte_code_is_the_same_for_both_architectures(machines: Machines, tmp_path: Path) -> None:
    emulated = tmp_path / "python"
    emulated.write_text(f'#!/bin/sh\nexec {" ".join(machines.emulated)} "$@"\n')
    emulated.chmod(0o755)
    sources = [source for name in PACKAGES for source in real_sources(name)]
    assert len(sources) > 200
    native = own_compiler(machines.native, machines.version).compile_sources(sources)
    assert native == own_compiler(emulated, machines.version).compile_sources(sources)
    assert sum(data is not None for data in native) > 200


def test_an_aarch64_machine_makes_the_same_images(machines: Machines, tmp_path: Path) -> None:
    """Both images, one an architecture, as both machines make them: linked, compiled, compressed there."""
    pythons = [
        python(str(machines.native), machines.version, "linux-64"),
        python(" ".join(machines.emulated), machines.version, "linux-aarch64"),
    ]
    wheels = libraries(machines.version.rpartition(".")[0], tmp_path, *WHEELS)
    there = World(
        cache="aarch64",
        python=(*machines.emulated, "-S"),
        variables={"PYTHONPATH": f"{SOURCE}:{wheels}"},
    )
    with serving(PaperRegistry()) as registry:
        tiny = make_tiny(tmp_path, registry, pythons, ("linux-64", "linux-aarch64"))
        for target in tiny.lock.platforms:
            here, _ = build(tiny.environment.lock_path, World(), tmp_path, mirrors(tiny), target)
            made, saw = build(tiny.environment.lock_path, there, tmp_path, mirrors(tiny), target)
            assert saw["machine"] == "aarch64"
            assert made == here
            assert made["config"]["architecture"] == {"linux-64": "amd64", "linux-aarch64": "arm64"}[target]
