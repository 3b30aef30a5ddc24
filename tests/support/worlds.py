"""One lockfile built in worlds that differ."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.second_python import second_python  # noqa: F401  # a fixture
from support.tiny import Tiny

if TYPE_CHECKING:
    pass


SOURCE = Path(__file__).parents[2] / "src"


BUILD = """
import json, os, sys, time
from pathlib import Path
os.umask(int(sys.argv[2], 8))
from envbox.images.archive import load_manifest
from envbox.registry.base import pull_base
from envbox.images.build import make_image
from envbox.registry.lock_with_base import read_lock_with_base as read_locked
from envbox.oci import digest_of
from envbox.project import Environment
from envbox.report import SILENT
from envbox.settings import read_settings
lock, platform = Path(sys.argv[1]), sys.argv[3]
settings = read_settings(Path.cwd(), os.environ)
environment = Environment(lock.name.partition(".")[0], lock, lock)
locked = read_locked(environment, lock.read_bytes(), platform, settings, SILENT)
image = make_image(locked, pull_base(locked.base, platform, settings), settings, SILENT)
made = {
    "diff_ids": image.diff_ids, "config": json.loads(image.config), "id": image.id,
    "manifest": image.digest, "loaded": digest_of(load_manifest(image)),
}
world = {
    "uid": os.getuid(), "year": time.localtime().tm_year, "umask": f"{os.umask(0):03o}",
    "python": ".".join(map(str, sys.version_info[:2])), "zone": time.strftime("%z"),
    "encoding": sys.getfilesystemencoding(), "machine": os.uname().machine, "jobs": settings.jobs,
    "hash": hash("seed"),
}
print(json.dumps([made, world]))
"""


@dataclass(frozen=True)
class World:
    """What must not matter.

    :param cache: the cache folder, below one of the test's
    :param before: a command that starts the build in it
    :param python: what runs envbox
    """

    cache: str = "cache"
    umask: str = "022"
    variables: Mapping[str, str] = field(default_factory=dict)
    before: tuple[str, ...] = ()
    python: tuple[str, ...] = (sys.executable,)
    uid: int | None = None


def build(
    lock: Path, world: World, folder: Path, env: Mapping[str, str], platform: str = "linux-64"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Build in a process and a world of its own: the image, and what the process saw of its world."""
    home = folder / "home"
    cache = folder / world.cache
    for path in (home, cache):
        path.mkdir(parents=True, exist_ok=True)
        if world.uid is not None:
            os.chown(path, world.uid, world.uid)
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(SOURCE),
        "HOME": str(home),
        "TZ": "UTC",
        "LC_ALL": "C.UTF-8",
        "ENVBOX_JOBS": "1",
        **env,
        **world.variables,
        "ENVBOX_CONFIG": os.devnull,
        "ENVBOX_CACHE_DIR": str(cache),
    }
    done = subprocess.run(
        [*world.before, *world.python, "-c", BUILD, str(lock), world.umask, platform],
        env=environ, cwd=home, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    made, seen = json.loads(done.stdout)
    return made, seen


def mirrors(tiny: Tiny) -> dict[str, str]:
    return tiny.environ
