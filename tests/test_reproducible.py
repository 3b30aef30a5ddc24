"""The same lock and base give the same image, whatever machine, user and moment.

It is built twice, in processes that share nothing but the lockfile and where bytes come from.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from packages import PLACEHOLDER, File, Package
from paper_registry import PaperRegistry, serving

from envbox.base import resolve_base
from envbox.lockfile import Lock
from envbox.lockfile.conda_lock_v1 import dumps
from envbox.mirrors import Mirrors
from envbox.report import SILENT
from envbox.settings import Settings

if TYPE_CHECKING:
    from conftest import Rig

SOURCE = Path(__file__).parents[1] / "src"
CHANNEL = "https://conda.anaconda.org/conda-forge"
BUILD = """
import json, os, sys
from pathlib import Path
os.umask(int(sys.argv[2], 8))
from envbox.image.archive import load_manifest
from envbox.base import pull_base
from envbox.image.build import make_image, read_locked
from envbox.oci import digest_of
from envbox.project import Environment
from envbox.report import SILENT
from envbox.settings import read_settings
lock = Path(sys.argv[1])
settings = read_settings(Path.cwd(), os.environ)
environment = Environment(lock.name.partition(".")[0], lock, lock)
locked = read_locked(environment, lock.read_bytes(), "linux-64", settings, SILENT)
image = make_image(locked, pull_base(locked.base, "linux-64", settings), settings, SILENT)
print(json.dumps({
    "diff_ids": image.diff_ids, "config": json.loads(image.config), "id": image.id,
    "manifest": image.digest, "loaded": digest_of(load_manifest(image)),
}))
"""


@dataclass(frozen=True)
class World:
    """What must not matter."""

    cache: str
    umask: str
    variables: Mapping[str, str]


WORLDS = [
    World("c", "022", {"TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "0", "ENVBOX_JOBS": "1"}),
    World(
        "a much longer path, with spaces and ümlauts/and/some/more/folders",
        "077",
        {"TZ": "Pacific/Apia", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "12345", "ENVBOX_JOBS": "4"},
    ),
]


def build(lock: Path, world: World, folder: Path, env: Mapping[str, str]) -> dict[str, Any]:
    """Build in a process and a world of its own."""
    home = folder / world.cache / "home"
    home.mkdir(parents=True)
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(SOURCE),
        "HOME": str(home),
        **env,
        **world.variables,
        "ENVBOX_CACHE_DIR": str(folder / world.cache / "cache"),
    }
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(lock), world.umask],
        env=environ, cwd=home, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    made: dict[str, Any] = json.loads(done.stdout)
    return made


@pytest.fixture
def registry() -> Iterator[PaperRegistry]:
    with serving(PaperRegistry()) as running:
        yield running


def test_two_worlds_make_the_same_image(registry: PaperRegistry, tmp_path: Path) -> None:
    registry.put_image("a/b:1")
    channel = tmp_path / "channel" / "linux-64"
    prefixed = File(f"home={PLACEHOLDER}\n".encode(), placeholder="text")
    packages = [
        Package("one", files=[("share/ü ber", File(b"one")), ("etc/one.cfg", prefixed)]),
        Package("two", files=[("bin/two", File(b"#!/bin/sh\n", mode=0o775)), ("share/both", File(b"2"))]),
        Package("three", files=[("share/both", File(b"3"))], depends=["two"]),
        Package("vars", files=[("etc/conda/env_vars.d/v.json", File(b'{"B": "1", "A": "2"}'))]),
    ]
    rules = {"docker.io": registry.host, CHANNEL: f"file://{tmp_path / 'channel'}"}
    settings = Settings(cache_dir=tmp_path / "cache", mirrors=Mirrors(rules))
    lock = Lock(
        name="tiny",
        platforms=("linux-64",),
        channels=("conda-forge",),
        content_hash={"linux-64": "0" * 64},
        packages=tuple(package.locked(package.write(channel)) for package in packages),
        base=resolve_base("a/b:1", ["linux-64"], settings, SILENT),
        digest="",
        variables={"Z": "z", "Y": "y"},
    )
    path = tmp_path / "tiny.conda-lock.yml"
    path.write_bytes(dumps(lock))
    env = {"ENVBOX_MIRRORS": " ".join(f"{here}={there}" for here, there in rules.items())}
    first, second = (build(path, world, tmp_path, env) for world in WORLDS)
    assert first == second
    assert str(tmp_path) not in json.dumps(first)


@pytest.mark.rig
def test_two_worlds_make_the_same_image_of_a_real_environment(rig: Rig, tmp_path: Path) -> None:
    from envbox.lock import lock
    from envbox.project import Environment

    spec = tmp_path / "real.yml"
    spec.write_text("channels: [conda-forge]\ndependencies: [python, ipython]\nvariables: {B: b, A: a}\n")
    environment = Environment("real", spec, tmp_path / "real.conda-lock.yml")
    lock(environment, rig.settings(), ["linux-64"], SILENT)
    first, second = (build(environment.lock_path, world, tmp_path, rig.env) for world in WORLDS)
    assert first["diff_ids"] == second["diff_ids"]
    assert first == second
    assert len(first["diff_ids"]) > 10
