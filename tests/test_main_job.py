"""The main job as a person does it: from environments/maps.yml to a map drawn in a container."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import ROOT, Rig

pytestmark = pytest.mark.rig


@dataclass(frozen=True)
class Desk:
    """A person's clone of the project, with a cache that was empty."""

    folder: Path
    env: dict[str, str]

    def envbox(self, *arguments: str, check: bool = True, **environ: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "envbox", *arguments],
            cwd=self.folder,
            env={**os.environ, **self.env, **environ},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def image_id(self, **environ: str) -> str:
        return str(json.loads(self.envbox("build", "maps", "--json", **environ).stdout)["id"])


@pytest.fixture(scope="module")
def desk(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("clone")
    for name in ("environments", "notebooks"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("*.conda-lock.yml", "*.png")
        )
    env = {**rig.env, "ENVBOX_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}
    # an image of a person's own, of the same name, is not ours to remove
    kept = subprocess.run(
        ["docker", "images", "-q", "envbox/maps"], capture_output=True, text=True, check=True
    )
    yield Desk(folder, env)
    if not kept.stdout:
        made = subprocess.run(
            ["docker", "images", "-q", "--no-trunc", "envbox/maps"],
            capture_output=True,
            text=True,
            check=True,
        )
        subprocess.run(["docker", "rmi", "-f", *set(made.stdout.split())], capture_output=True, check=False)


def test_a_spec_becomes_a_lockfile_for_both_platforms(desk: Desk) -> None:
    done = desk.envbox("lock", "maps", "--json")
    (told,) = json.loads(done.stdout)
    assert set(told["packages"]) == {"linux-64", "linux-aarch64"}
    assert min(told["packages"].values()) > 100
    before = desk.folder.joinpath("environments/maps.conda-lock.yml").read_bytes()
    desk.envbox("lock", "maps")
    assert desk.folder.joinpath("environments/maps.conda-lock.yml").read_bytes() == before


def test_two_builds_with_empty_caches_give_the_same_image(desk: Desk, tmp_path: Path) -> None:
    first = desk.image_id()
    subprocess.run(["docker", "rmi", "-f", first], capture_output=True, check=True)
    again = desk.image_id(ENVBOX_CACHE_DIR=str(tmp_path / "another cache"), TZ="Asia/Tokyo", ENVBOX_JOBS="1")
    assert again == first
    assert desk.envbox("build", "maps").stdout.startswith("envbox/maps:")


def test_the_notebook_draws_its_map_in_the_container(desk: Desk) -> None:
    desk.envbox("run", "maps", "--network", "none", "--", "jupyter", "execute", "notebooks/maps.ipynb")
    picture = desk.folder / "notebooks/maps.png"
    head = picture.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    assert width > 1000
    assert height > 500
    assert picture.stat().st_size > 200_000  # relief and coastlines, not an empty sheet
    assert picture.stat().st_uid == os.getuid()


def test_what_is_missing_is_made_and_said(desk: Desk) -> None:
    (desk.folder / "environments/tiny.yml").write_text("dependencies: [python]\n")
    first = desk.envbox("run", "tiny", "--", "python", "-c", "print(6 * 7)")
    assert first.stdout == "42\n"
    assert "locking tiny: there is no lockfile yet" in first.stderr
    assert desk.envbox("run", "tiny", "--", "true").stderr == ""


def test_a_changed_spec_is_locked_again_unless_frozen(desk: Desk) -> None:
    spec = desk.folder / "environments/tiny.yml"
    spec.write_text("dependencies: [python, tzdata]\nvariables: {GREETING: hello}\n")
    assert desk.envbox("run", "tiny", "--frozen", "--", "printenv", "GREETING", check=False).returncode == 1
    done = desk.envbox("run", "tiny", "--", "printenv", "GREETING")
    assert done.stdout == "hello\n"
    assert "locking tiny: tiny.yml has changed" in done.stderr


def test_a_broken_spec_leaves_the_lockfile_and_says_why(desk: Desk) -> None:
    spec = desk.folder / "environments/tiny.yml"
    lockfile = desk.folder / "environments/tiny.conda-lock.yml"
    before = lockfile.read_bytes()
    spec.write_text("dependencies: [python >=3.11, python <3]\n")
    done = desk.envbox("lock", "tiny", check=False)
    assert done.returncode == 1
    assert "python" in done.stderr
    assert "Traceback" not in done.stderr
    assert lockfile.read_bytes() == before


def test_an_interrupted_lock_leaves_the_old_file(desk: Desk) -> None:
    lockfile = desk.folder / "environments/maps.conda-lock.yml"
    before = lockfile.read_bytes()
    (desk.folder / "environments/maps.yml").write_text("dependencies: [basemap, jupyterlab, pandas]\n")
    argv = [sys.executable, "-m", "envbox", "lock", "maps"]
    for delay in (0.1, 0.3, 0.5, 0.7):
        process = subprocess.Popen(
            argv, cwd=desk.folder, env={**os.environ, **desk.env}, stderr=subprocess.PIPE
        )
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        if process.returncode == 0:
            break  # it was quicker
        assert process.returncode in (130, -signal.SIGINT)
        assert lockfile.read_bytes() == before
        assert not list(lockfile.parent.glob(".*"))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_is_said_and_the_next_build_finishes(desk: Desk, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m,mode=700", "tmpfs", small], check=True)
    try:
        done = desk.envbox("build", "base", check=False, ENVBOX_CACHE_DIR=str(small))
        assert done.returncode == 1
        assert "no space left" in done.stderr
        assert "ENVBOX_CACHE_DIR" in done.stderr
        assert not list(small.rglob("*.part"))
        subprocess.run(["mount", "-o", "remount,size=2g", small], check=True)
        assert desk.envbox("build", "base", ENVBOX_CACHE_DIR=str(small)).stdout.startswith("envbox/base:")
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_no_engine_is_said_with_where_it_was_looked_for(desk: Desk) -> None:
    nowhere = {"DOCKER_HOST": "unix:///nowhere/docker.sock", "ENVBOX_ENGINE": "docker"}
    done = desk.envbox("shell", "maps", check=False, **nowhere)
    assert done.returncode == 1
    assert "/nowhere/docker.sock" in done.stderr
    assert "hint:" in done.stderr
