"""What an image has inside that somebody else made: asked of a container."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, replace

from envbox.engine import Engine
from envbox.errors import LaunchError
from envbox.image_paths import PREFIX
from envbox.sessions.launch.container import Launch, client_env, run_argv
from envbox.sessions.launch.session import prepare
from envbox.settings import Settings

_ASK = f"""\
getconf GNU_LIBC_VERSION
for kernel in {PREFIX}/share/jupyter/kernels/*/kernel.json; do [ -e "$kernel" ] && echo "kernel $kernel"; done
exit 0
"""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What there is.

    :param glibc: X.Y; None when it is another library, or the image does not say
    """

    glibc: str | None
    has_kernels: bool


def look_inside(launch: Launch, engine: Engine, settings: Settings) -> ImageFacts:
    """Look into a launch's image.

    :raises LaunchError: when the project cannot be mounted, or no container of it starts
    :raises ToolError: when the engine's client is not there
    """
    asking = replace(launch, kind="run", command=("sh", "-c", _ASK), ports=(), network="none")
    asking = prepare(asking, engine, settings)
    argv, env = run_argv(asking, engine.client_argv()), client_env(asking, os.environ)
    done = subprocess.run(
        argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode != 0:
        raise LaunchError(f"{launch.name} does not start: {done.stderr.strip()[-500:]}")
    lines = done.stdout.splitlines()  # an entrypoint may say something first
    glibc = next((found[1] for line in lines if (found := re.match(r"glibc (\d+\.\d+)", line))), None)
    return ImageFacts(glibc, any(line.startswith("kernel /") for line in lines))
