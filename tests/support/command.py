"""The command line, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def envbox(*arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a person would, with settings of its own."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("ENVBOX_")}
    env |= {"ENVBOX_CACHE_DIR": str(cwd / ".cache"), "ENVBOX_CONFIG": str(cwd / ".none.toml")} | environ
    return subprocess.run(
        [sys.executable, "-m", "envbox", *arguments],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
