"""Benchmarks beside what a Dockerfile does: packages installed in a container, which is then committed.

The stand-in for such an installer is py-rattler, put into the base once: no other unpacks and links faster.
It is spared the solve, the network and the downloads, since archives lie in a volume; and byte-compiling what
has no byte-code, as conda and micromamba do, is a part of it. The engine is Docker 26 on overlay2, the rig's.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from changes import PLATFORM, Subject
from incremental import overlay2
from measure import Action, Row, command, pairs
from pipeline import KEPT
from stage import ENVBOX, NAME, Stage

from envbox.images.archive import ImageArchive
from envbox.images.assemble import assemble_bare
from envbox.images.layers import build_layers
from envbox.packages.activation import home_files
from envbox.packages.fetch import fetch_archives
from envbox.packages.link.fragments import files_fragment
from envbox.registry.base import fetch_layers, pull_base
from envbox.report import SILENT

BASE, STAND_IN, INSTALLED = "envbox-bench-bare:1", "envbox-bench-stand-in:1", "envbox-bench-installed:1"
MAKE, FILL = "envbox-bench-make", "envbox-bench-fill"
ARCHIVES, CACHE = "envbox-bench-archives", "envbox-bench-cache"
INSIDE = ("--network", "none", "--entrypoint", "/opt/conda/bin/python")
SITE = "import sysconfig; print(sysconfig.get_path('platlib'))"
INSTALL = """
import asyncio, subprocess, sys
from pathlib import Path
from rattler import install
from rattler.repo_data.record import RepoDataRecord
async def work():
    archives = Path("/archives").glob("*.conda")
    records = await asyncio.gather(*map(RepoDataRecord.from_package_archive, archives))
    await install(records, target_prefix="/opt/envbox", cache_dir="/cache", show_progress=False)
asyncio.run(work())
compiling = ["/opt/envbox/bin/python", "-m", "compileall", "-q", "-j", "2", "/opt/envbox/lib"]
subprocess.run(compiling, check=False)
"""


@dataclass(frozen=True)
class Yard:
    """An engine that has the base, and the stand-in for an installer."""

    stage: Stage
    env: dict[str, str]

    @property
    def build(self) -> Action:
        """Bring what is locked into the engine."""
        return command(*ENVBOX, "build", NAME, "--frozen", env=self.env, cwd=self.stage.folder)

    def install(self) -> None:
        """The baseline: install in a container, then make an image of it."""
        volumes = ["-v", f"{ARCHIVES}:/archives:ro", "-v", f"{CACHE}:/cache"]
        self.docker("run", *INSIDE, *volumes, "--name", CACHE, STAND_IN, "-c", INSTALL)
        self.docker("commit", CACHE, INSTALLED)

    def forget_installed(self) -> None:
        """Remove what the baseline made, but what it has unpacked."""
        self.docker("rm", "--force", CACHE, check=False)
        self.docker("rmi", "--force", INSTALLED, check=False)

    def forget_unpacked(self) -> None:
        """Remove all that the baseline made."""
        self.forget_installed()
        self.docker("volume", "rm", "--force", CACHE)

    def forget_everything(self) -> None:
        """Remove all that was made for the baseline."""
        self.forget_unpacked()
        self.docker("rm", "--force", MAKE, FILL, check=False)
        self.docker("volume", "rm", "--force", ARCHIVES)

    def forget_ours(self) -> None:
        """Leave what a cold build finds: archives, and the base."""
        for entry in self.stage.cache.iterdir():
            if entry.name not in KEPT:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        self.forget_images()

    def forget_changed(self) -> None:
        """Remove the image of what is locked now; the one before stays."""
        locked = f"sha256:{hashlib.sha256(self.stage.lockfile.read_bytes()).hexdigest()}"
        found = self.docker(
            "images", "-q", "--no-trunc", "--filter", f"label=io.envbox.lock={locked}"
        ).split()
        if found:
            self.docker("rmi", "--force", *set(found))

    def forget_images(self) -> None:
        """Remove our images from the engine."""
        ids = set(self.docker("images", "-q", "--no-trunc", f"envbox/{NAME}").split())
        if ids:
            self.docker("rmi", "--force", *ids)

    def docker(self, *arguments: str, check: bool = True) -> str:
        """What docker prints."""
        env = {**os.environ, **self.env}
        done = subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True, env=env)
        if check and done.returncode:
            raise SystemExit(f"docker {' '.join(arguments)[:200]} failed:\n{done.stderr[-2000:]}")
        return done.stdout


def cold_install_row(stage: Stage, runs: int) -> Row:
    """A build with nothing but archives, beside an installation with nothing but archives."""
    with _yard(stage) as yard:
        ours, baseline = pairs(yard.build, yard.install, runs, (yard.forget_ours, yard.forget_unpacked))
    return Row("envbox build, cold, overlay2", "install in a container, commit", ours, baseline, 0.667)


def changed_install_row(stage: Stage, runs: int) -> Row:
    """A build after one small package has changed; the baseline finds everything unpacked."""
    subject = Subject(stage)
    with _yard(stage) as yard:
        before = stage.lockfile.read_bytes()
        stage.lockfile.write_bytes(subject.changed("packaging"))
        try:
            forgetting = (yard.forget_changed, yard.forget_installed)
            ours, baseline = pairs(yard.build, yard.install, runs, forgetting)
        finally:
            stage.lockfile.write_bytes(before)
    return Row("envbox build, one package changed", "install in a container, commit", ours, baseline, 0.1)


@contextmanager
def _yard(stage: Stage) -> Iterator[Yard]:
    subject = Subject(stage)
    with overlay2(stage) as env:
        yard = Yard(stage, env)
        yard.forget_everything()  # of a run that was killed
        yard.build()
        _load_base(subject, yard)
        site = yard.docker("run", "--rm", *INSIDE, BASE, "-c", SITE).strip()
        yard.docker("create", "--name", MAKE, BASE, "true")
        for library in ("rattler", "py_rattler"):
            if spec := importlib.util.find_spec(library):
                yard.docker("cp", str(Path(str(spec.origin)).parent), f"{MAKE}:{site}/{library}")
        yard.docker("commit", MAKE, STAND_IN)
        yard.docker("rm", MAKE)
        yard.docker("create", "--name", FILL, "-v", f"{ARCHIVES}:/archives", BASE, "true")
        for path in fetch_archives(subject.lock.for_platform(PLATFORM), subject.settings).values():
            yard.docker("cp", str(path), f"{FILL}:/archives/{path.name}")
        try:
            yield yard
        finally:
            yard.forget_everything()


def _load_base(subject: Subject, yard: Yard) -> None:
    """Have the base as an image, with the home folder that launching needs."""
    assert subject.lock.base
    base = pull_base(subject.lock.base, PLATFORM, subject.settings)
    fetch_layers(base, base.layers, subject.settings, SILENT)
    home = files_fragment("home", home_files(), subject.settings)
    (layer,) = build_layers((), home, subject.settings, SILENT)
    with subprocess.Popen(
        ["docker", "load", "--quiet"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        env={**os.environ, **yard.env},
    ) as loading:  # fmt: skip
        assert loading.stdin
        for piece in ImageArchive(assemble_bare(base, layer), BASE).stream():
            loading.stdin.write(piece)
        loading.stdin.close()
    assert loading.returncode == 0
