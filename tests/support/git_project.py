"""A project in a repository, and nobody who has images."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def git(folder: Path, *arguments: str) -> None:
    ours = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    words = ("-c", "user.name=a", "-c", "user.email=a@example.org", *arguments)
    subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, env=os.environ | ours)


def no_image(name: str) -> bytes:
    raise AssertionError(f"{name} was taken for an image")
