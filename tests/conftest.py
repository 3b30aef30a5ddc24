"""The rig for tests: started when the first test asks for it, left running for the next session."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.containers import lab  # noqa: F401  # a fixture
from support.host_project import here  # noqa: F401  # a fixture
from support.local_project import loaded, workshop  # noqa: F401  # fixtures
from support.publishing import press  # noqa: F401  # a fixture

from envbox.settings import Settings, read_settings

ROOT = Path(__file__).parents[1]
TOOLS = ROOT / "tools"
sys.path.insert(0, str(TOOLS))  # for the rig's own modules


@dataclass(frozen=True)
class Rig:
    """A channel, a package index, a registry with the base image, and an engine, on this machine.

    :param env: the environment variables that point envbox at it
    """

    env: dict[str, str]
    scratch: pytest.TempPathFactory

    @property
    def channel_dir(self) -> Path:
        """The channel's folder: subdirs with archives and repodata."""
        return Path(self.env["RIG_CHANNEL_DIR"])

    @property
    def registry(self) -> str:
        """The registry, `127.0.0.1:PORT`."""
        return self.env["RIG_REGISTRY"]

    def settings(self, **overrides: Any) -> Settings:
        """Settings that use the rig, with a cache of their own unless `cache_dir` is given."""
        overrides.setdefault("cache_dir", self.scratch.mktemp("cache"))
        return read_settings(self.scratch.mktemp("project"), self.env, overrides)


@pytest.fixture(scope="session", autouse=True)
def state_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what tests allow out of what the person who runs them has allowed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody may enter: pytest closes its own to others whenever a session begins."""
    with tempfile.TemporaryDirectory(prefix="envbox-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Rig:
    subprocess.run([TOOLS / "rig", "up"], check=True)
    done = subprocess.run([TOOLS / "rig", "env"], check=True, capture_output=True, text=True)
    env = dict(word.partition("=")[::2] for word in shlex.split(done.stdout) if word != "export")
    env["ENVBOX_CONFIG"] = os.devnull  # not the settings of whoever runs the tests
    return Rig(env, tmp_path_factory)


@pytest.fixture(scope="session")
def package_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """rattler's cache of unpacked packages, shared by the tests that install with it."""
    return tmp_path_factory.mktemp("packages")
