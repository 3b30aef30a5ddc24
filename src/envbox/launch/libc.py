"""Which C library an image has, where nobody has said it: asked of a container."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace

from envbox.engine import Engine
from envbox.launch.container import Launch, client_env, run_argv
from envbox.launch.session import prepare
from envbox.settings import Settings


def glibc_inside(launch: Launch, engine: Engine, settings: Settings) -> str | None:
    """X.Y of the glibc in a launch's image; None when it is another library, or does not say.

    :raises LaunchError: when the project cannot be mounted
    :raises ToolError: when the engine's client is not there
    """
    asking = replace(launch, kind="run", command=("getconf", "GNU_LIBC_VERSION"), ports=(), network="none")
    asking = prepare(asking, engine, settings)
    argv, env = run_argv(asking, engine.client_argv()), client_env(asking, os.environ)
    done = subprocess.run(
        argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    found = re.fullmatch(r"glibc (\d+\.\d+)\S*\n", done.stdout)
    return found[1] if found else None
