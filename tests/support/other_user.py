"""envbox run by another, plain user: one who may read what everybody may, and no more."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

NOBODY = 65534
SOURCE = Path(__file__).parents[2] / "src"


def before_nobody() -> tuple[str, ...]:
    """What a command is started by so that nobody runs it; skips where that cannot be."""
    if os.getuid() or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv, to become another user")
    return ("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups")


@cache
def nobodys_envbox() -> tuple[tuple[str, ...], dict[str, str]]:
    """A command line of envbox as nobody, and the variables it needs; skips without a Python for it.

    The one that runs the tests may lie in a home folder.
    """
    before = before_nobody()
    packages = [path for path in (*site.getsitepackages(), *sys.path) if path.endswith("site-packages")]
    env = {"PYTHONPATH": ":".join([str(SOURCE), *dict.fromkeys(packages)]), "PYTHONDONTWRITEBYTECODE": "1"}
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        probe = "import os, sys, envbox.cli; sys.exit(not os.access(sys.executable, os.X_OK))"
        try:
            subprocess.run(
                [*before, python, "-c", probe], env=os.environ | env, cwd="/", capture_output=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return (*before, python, "-m", "envbox"), env
    pytest.skip("there is no Python that another user may run")
