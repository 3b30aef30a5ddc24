"""What tests of launches share: a project whose environment is built, and envbox's command line in it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from envbox.engine.find import connect
from envbox.sessions.jupyter.servers import container_name
from envbox.sessions.launch.container import Launch
from envbox.settings import Settings

if TYPE_CHECKING:
    from conftest import Rig

SPEC = """\
channels: [conda-forge]
dependencies: [python, ipykernel, jupyterlab, numpy]
variables: {LAB_VARIABLE: set by the spec, LAB_SESSION: "%s"}
"""


@dataclass(frozen=True)
class Lab:
    """A project with one environment, `lab`, whose image is in the engine."""

    image: str
    project: Path
    settings: Settings
    environ: dict[str, str]

    def argv(self, *arguments: str) -> list[str]:
        """Envbox's command line, in the project."""
        return [sys.executable, "-m", "envbox", "-C", str(self.project), *arguments]

    def run(
        self, *arguments: str, input: str = "", extra_env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            self.argv(*arguments),
            input=input,
            capture_output=True,
            text=True,
            env={**self.environ, **(extra_env or {})},
            timeout=180,
            check=False,
        )

    def containers(self) -> list[str]:
        """The names of all containers of the project, dead ones too."""
        found = connect(self.settings).containers({"io.envbox.project": str(self.project)})
        return [container.name for container in found]

    def forget(self) -> None:
        """Remove the volume of the project's server."""
        connect(self.settings).remove_volume(container_name(Launch(self.image, "lab", self.project, ())))

    def wait_for_no_container(self) -> None:
        """Give the engine a few seconds to remove what is left of the project."""
        for _ in range(50):
            if not self.containers():
                return
            time.sleep(0.1)
        assert self.containers() == []

    def free_port(self) -> int:
        """A port that was free a moment ago."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def lab(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Lock and build the environment once; remove what is left of it in the engine at the end.

    It is unlike that of any other session: the same lock would be the same image, which the other removes.
    """
    from envbox.project import read_project
    from envbox.report import SILENT
    from envbox.sessions.prepare import ready_image

    project = tmp_path_factory.mktemp("lab project")
    (project / "environments").mkdir()
    (project / "environments" / "lab.yml").write_text(SPEC % uuid4())
    (project / "data.txt").write_text("of the project\n")
    settings = rig.settings()
    engine = connect(settings)
    image = ready_image(read_project(project).environment("lab"), settings, engine, SILENT)
    environ = {**os.environ, **rig.env, "ENVBOX_CACHE_DIR": str(settings.cache_dir)}
    made = Lab(image.id, project, settings, environ)
    yield made
    for name in made.containers():
        engine.remove(name)
    made.forget()
    for reference in (image.reference, "envbox/lab:latest"):
        engine.remove_image(reference)
