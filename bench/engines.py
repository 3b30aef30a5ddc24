"""Benchmarks of loads into Docker 26 on overlay2, an engine of the rig's own, beside the same in one layer.

The baseline is as fast as one layer can be: its archive is ready on the disk, nothing is made or hashed. Both
sides find the base in the engine, and ours finds its fragments in the cache.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from measure import Action, Row, command, pairs
from stage import ENVBOX, NAME, Stage

RIG = Path(__file__).parents[1] / "tools/rig"
KIND = "overlay2"
BASE, ONE = "envbox-bench-base:1", "envbox-bench-one:1"
BASELINE = "docker load, the same files in one layer"


@dataclass(frozen=True)
class Bay:
    """An engine that has the base, and the archive of the baseline.

    :param image: ours, as it was when this was made
    """

    stage: Stage
    env: dict[str, str]
    image: str
    archive: Path

    @property
    def build(self) -> Action:
        """Bring what is locked into the engine."""
        return command(*ENVBOX, "build", NAME, "--frozen", env=self.env, cwd=self.stage.folder)

    @property
    def load(self) -> Action:
        """The baseline."""
        return command("docker", "load", "--quiet", "--input", self.archive, env=self.env)

    def forget(self, *images: str) -> Action:
        """Remove images, where they are."""

        def act() -> None:
            _docker(self.env, "rmi", "--force", *images)

        return act


def first_load_row(stage: Stage, runs: int) -> Row:
    """`envbox build` of an image that the engine has nothing of but the base."""
    with _bay(stage) as bay:
        ours, baseline = pairs(bay.build, bay.load, runs, (bay.forget(bay.image), bay.forget(ONE)))
    return Row("envbox build, overlay2, first load", BASELINE, ours, baseline, 1.5)


def changed_load_row(stage: Stage, runs: int) -> Row:
    """`envbox build` after one small package has changed, to and fro, what was before being kept."""
    with _bay(stage) as bay:
        before, spec = stage.lockfile.read_bytes(), stage.spec.read_text()
        locked = _version(before, "packaging")
        try:
            stage.spec.write_text(spec.rstrip() + f"\n  - packaging <{locked}\n")
            stage.envbox("lock", NAME, "--platform", "linux-64")()
            bay.build()
            changed = json.loads(_run([*ENVBOX, "build", NAME, "--json"], bay.env, stage.folder))["id"]
            ours, baseline = pairs(bay.build, bay.load, runs, (bay.forget(changed), bay.forget(ONE)))
        finally:
            stage.spec.write_text(spec)
            stage.lockfile.write_bytes(before)
    return Row("envbox build, overlay2, one package", BASELINE, ours, baseline, 0.25)


def unchanged_load_row(stage: Stage, runs: int) -> Row:
    """`envbox build` of what the engine has."""
    with _bay(stage) as bay:
        ours, baseline = pairs(bay.build, bay.load, runs, (None, bay.forget(ONE)))
    return Row("envbox build, overlay2, no change", BASELINE, ours, baseline, 0.1)


@contextmanager
def _bay(stage: Stage) -> Iterator[Bay]:
    said = subprocess.run([RIG, "engine", "start", KIND], check=True, capture_output=True, text=True).stdout
    env = stage.env | {"DOCKER_HOST": said.split("=", 1)[1].strip()}
    try:
        built = json.loads(_run([*ENVBOX, "build", NAME, "--frozen", "--json"], env, stage.folder))
        yield Bay(stage, env, built["id"], _one_layer(stage.folder / "one-layer.tar", built["id"], env))
    finally:
        subprocess.run([RIG, "engine", "stop", KIND], check=True, capture_output=True)


def _one_layer(archive: Path, image: str, env: dict[str, str]) -> Path:
    """Keep the base in the engine as an image, and pack the image's prefix as one layer on it."""
    (about,) = json.loads(_docker(env, "image", "inspect", image))
    made = _docker(env, "history", "--no-trunc", "--format", "{{.CreatedBy}}", image).splitlines()
    layers = about["RootFS"]["Layers"]
    base = layers[: len(layers) - sum(line.startswith("envbox: ") for line in made)]
    bare = archive.with_name("base.tar")
    _write(bare, BASE, base)
    _docker(env, "load", "--input", str(bare))
    if not archive.exists():
        tree = archive.with_name("tree.tar")
        container = _docker(env, "create", "--network", "none", image, "true").strip()
        with tree.open("wb") as file:
            words = ["docker", "cp", f"{container}:/opt/envbox", "-"]
            subprocess.run(words, stdout=file, env={**os.environ, **env}, check=True)
        _docker(env, "rm", container)
        _write(archive, ONE, base, tree)
        tree.unlink()
    return archive


def _write(archive: Path, reference: str, base: Sequence[str], layer: Path | None = None) -> None:
    """Write a docker archive that leaves the base's layers out."""
    diff_ids = list(base)
    if layer:
        with layer.open("rb") as file:
            diff_ids.append("sha256:" + hashlib.file_digest(file, "sha256").hexdigest())
    config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    names = [f"{diff_id.removeprefix('sha256:')}.tar" for diff_id in diff_ids]
    manifest = [{"Config": "config.json", "RepoTags": [reference], "Layers": names}]
    with tarfile.open(archive, "w") as tar:
        for name, value in (("config.json", config), ("manifest.json", manifest)):
            data = json.dumps(value).encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        if layer:
            tar.add(layer, names[-1])


def _version(lockfile: bytes, package: str) -> str:
    """The version of a package that a lockfile has."""
    lines = lockfile.decode().splitlines()
    at = next(i for i, line in enumerate(lines) if line.strip() in (f"- name: {package}", f"name: {package}"))
    line = next(line for line in lines[at:] if line.strip().startswith("version:"))
    return line.split(":", 1)[1].strip().strip("'\"")


def _docker(env: dict[str, str], *arguments: str) -> str:
    return _run(["docker", *arguments], env)


def _run(argv: Sequence[str], env: dict[str, str], cwd: Path | None = None) -> str:
    full = {**os.environ, **env}
    return subprocess.run(argv, check=True, capture_output=True, text=True, env=full, cwd=cwd).stdout
