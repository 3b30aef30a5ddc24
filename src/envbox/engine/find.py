"""Find the engine that is meant, and see that it answers."""

from __future__ import annotations

import os

from envbox.engine import Engine
from envbox.engine.address import find_address
from envbox.engine.docker import DockerEngine
from envbox.settings import Settings


def find_engine(settings: Settings) -> Engine:
    """Find the engine as the docker command does (DOCKER_HOST, contexts), or podman. Nothing is sent yet.

    :raises ToolError: when docker's configuration cannot be read, or names a context that is not there
    """
    return DockerEngine(find_address(os.environ), settings.cache_dir)


def connect(settings: Settings) -> Engine:
    """Find the engine, and see that it answers.

    :raises ToolError: when none answers, or does not let us in, or is too old
    """
    engine = find_engine(settings)
    engine.check()
    return engine
