"""git, without anybody's configuration."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git(folder: Path, *arguments: str, check: bool = True) -> str:
    """Run git there, as nobody in particular and with nobody's settings."""
    who = [
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b",
        "-c",
        "commit.gpgsign=false",
        "-c",
        "init.defaultBranch=main",
    ]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, check=check, capture_output=True, text=True)
    return done.stdout
