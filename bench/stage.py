"""Where benchmarks play: a copy of environments/maps.yml, a cache of its own, and the rig's addresses."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from measure import Action, command

NAME = "bench-maps"  # a name of its own, so that nobody's image is removed
ENVBOX = (sys.executable, "-m", "envbox")


@dataclass(frozen=True)
class Stage:
    """A project with `environments/bench-maps.yml`, and the environment variables that envbox runs with."""

    folder: Path
    env: dict[str, str]

    @classmethod
    def prepare(cls, folder: Path, root: Path) -> Stage:
        """Copy the spec, point envbox at the rig, and fill the cache with one build."""
        (folder / "environments").mkdir()
        shutil.copy(root / "environments" / "maps.yml", folder / "environments" / f"{NAME}.yml")
        exports = subprocess.run(
            [root / "tools/rig", "env"], check=True, capture_output=True, text=True
        ).stdout
        env = dict(word.split("=", 1) for word in shlex.split(exports) if "=" in word)
        env["ENVBOX_CACHE_DIR"] = str(folder / "cache")
        env["PYTHONDONTWRITEBYTECODE"] = ""  # as on a person's machine
        stage = cls(folder, env)
        stage.envbox("build", NAME)()
        return stage

    @property
    def cache(self) -> Path:
        """The cache folder of the envbox that is measured."""
        return self.folder / "cache"

    @property
    def lockfile(self) -> Path:
        """The lockfile of the environment that is measured."""
        return self.folder / "environments" / f"{NAME}.conda-lock.yml"

    def envbox(self, *arguments: str) -> Action:
        """An action that runs one envbox command in the project."""
        return command(*ENVBOX, *arguments, env=self.env, cwd=self.folder)

    def envbox_json(self, *arguments: str) -> dict[str, object]:
        """What one envbox command prints with --json."""
        done = subprocess.run(
            [*ENVBOX, *arguments, "--json"],
            env={**os.environ, **self.env},
            cwd=self.folder,
            check=True,
            capture_output=True,
            text=True,
        )
        found: dict[str, object] = json.loads(done.stdout)
        return found

    @cached_property
    def image(self) -> str:
        """The ID of the image that is measured."""
        return str(self.envbox_json("build", NAME)["id"])

    @property
    def spec(self) -> Path:
        """The spec of the environment that is measured."""
        return self.folder / "environments" / f"{NAME}.yml"

    @property
    def channel(self) -> str:
        """The address of the rig's channel, which conda-forge's mirror is set to."""
        rules = dict(pair.split("=", 1) for pair in self.env["ENVBOX_MIRRORS"].split())
        return rules["https://conda.anaconda.org/conda-forge"]

    def remove_images(self) -> None:
        """Remove the images that benchmarks made."""
        names = subprocess.run(
            ["docker", "images", "-q", "--no-trunc", f"envbox/{NAME}"],
            capture_output=True,
            text=True,
            check=False,
        )
        if ids := sorted(set(names.stdout.split())):
            subprocess.run(["docker", "rmi", "-f", *ids], capture_output=True, check=False)
