"""A machine that has podman and no Docker, as far as a command can see that is started on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from envbox.engine import Engine
from envbox.engine.address import Address
from envbox.engine.docker import DockerEngine
from envbox.project import read_project
from envbox.report import SILENT
from envbox.sessions.prepare import ready_environment
from envbox.settings import Settings
from support.engines import SecondEngine, second_engine

if TYPE_CHECKING:
    from support.containers import Lab

# Docker's socket and its client are not there in these mounts; podman's network is the command's own.
_HIDE = 'for path in $HIDDEN; do mount --bind /dev/null "$path" || exit 99; done; unset HIDDEN; exec "$@"'
_DOCKER = "/var/run/docker.sock"
_KEPT = ("packages", "fragments", "layers", "blobs", "compilers", "bases", "manifests")


@dataclass
class Machine:
    """Podman, and a folder that it sees where it is here.

    :param uid: who commands are run as; a user may read what root may, since Python may be in root's home,
        and has no other rights of his
    :param folder: the project is in there, the cache, podman's socket, and its client
    """

    second: SecondEngine
    folder: Path
    uid: int = 0
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def project(self) -> Path:
        """Where commands are run."""
        return self.folder / "project"

    @property
    def settings(self) -> Settings:
        """With the machine's own cache."""
        return Settings(cache_dir=self.folder / "cache")

    @property
    def engine(self) -> Engine:
        """Podman, as envbox speaks to it."""
        found = Address(f"unix://{self.second.socket}", "a test's")
        engine = DockerEngine(found, self.settings.cache_dir)
        engine.check()
        return engine

    def on(self, *command: str, docker: bool = False) -> list[str]:
        """A command, on that machine.

        :param docker: leave it the docker client, and take podman's away
        """
        hidden = [_DOCKER] if Path(_DOCKER).exists() else []
        client = shutil.which("docker")
        if client is not None and not docker:
            hidden.append(client)
        if docker and (self.folder / "bin/podman").exists():
            hidden.append(str(self.folder / "bin/podman"))
        rights = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
        user = ["setpriv", "--reuid", str(self.uid), "--regid", str(self.uid), "--groups", str(self.uid + 1)]
        return [
            *("nsenter", f"--net=/proc/{self.second.pid}/ns/net"),
            *("unshare", "--mount", "env", f"HIDDEN={' '.join(hidden)}", "sh", "-c", _HIDE, "sh"),
            *([*user, *rights] if self.uid else []),
            *command,
        ]

    def argv(self, *arguments: str, docker: bool = False) -> list[str]:
        """Envbox's command line there, in the project."""
        words = (sys.executable, "-m", "envbox", "-C", str(self.project), *arguments)
        return self.on(*words, docker=docker)

    def run(
        self, *arguments: str, input: str = "", docker: bool = False, **extra: str
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            self.argv(*arguments, docker=docker),
            input=input,
            capture_output=True,
            text=True,
            env={**self.environ, **extra},
            timeout=120,
            check=False,
        )

    def containers(self) -> list[str]:
        """The names of all containers of the project, dead ones too."""
        return [c.name for c in self.engine.containers({"io.envbox.project": str(self.project)})]

    def wait_for_no_container(self) -> None:
        """Give podman a few seconds to remove what is left of the project."""
        for _ in range(80):
            if not self.containers():
                return
            time.sleep(0.1)
        assert self.containers() == []

    def give(self, *paths: Path) -> None:
        """Make folders, and all that is in them, the user's."""
        subprocess.run(["chown", "-R", f"{self.uid}:{self.uid}", *paths], check=True)


def settings_of(made: Machine, lab: Lab) -> Settings:
    """Those of `lab`, with the machine's own cache."""
    return replace(lab.settings, cache_dir=made.settings.cache_dir)


def furnished(made: Machine, lab: Lab) -> None:
    """Give the machine the project of `lab`, and a cache that knows all but engines."""
    shutil.copytree(lab.project, made.project, dirs_exist_ok=True)
    how = "--archive" if made.uid else "--link"  # what is a user's is not root's any more
    for name in _KEPT:
        if (found := lab.settings.cache_dir / name).is_dir():
            subprocess.run(["cp", "--recursive", how, found, made.settings.cache_dir], check=True)


def handed_over(made: Machine, lab: Lab) -> None:
    """Give a user's machine the project, and the environment's files, as the user's own."""
    furnished(made, lab)
    environment = read_project(made.project).environment("lab")
    ready_environment(environment, settings_of(made, lab), made.engine, SILENT)
    made.give(made.project, made.settings.cache_dir, made.folder / "home")


@contextmanager
def machine(kind: str, environ: dict[str, str]) -> Iterator[Machine]:
    """A machine with podman for a while, in a folder that anybody may enter.

    :param kind: `podman`, `podman5`; or a user's own, `rootless`, `rootless5`, `rootless-docker`
    :param environ: which envbox is told of channels and registries by
    """
    with tempfile.TemporaryDirectory(prefix="envbox-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with _machine_in(folder, kind, environ) as made:
            yield made


@contextmanager
def _machine_in(folder: Path, kind: str, environ: dict[str, str]) -> Iterator[Machine]:
    for tool in ("nsenter", "unshare", "setpriv"):
        if not shutil.which(tool):
            pytest.skip(f"a machine with podman alone is made with {tool}")
    from rigging import second
    from rigging.places import places

    for name in ("project", "cache", "home", "bin", "tmp"):
        (folder / name).mkdir()
    with second_engine(kind, 4000, "-alone", folder) as engine:
        made = Machine(engine, folder, second.KINDS[kind].uid)
        tree = second.tree(places(os.environ), second.KINDS[kind])
        if (tree / "usr/bin/podman").exists():
            put_client(tree, folder / "bin")
        made.environ = {
            **{key: value for key, value in environ.items() if not key.startswith(("DOCKER_", "CONTAINER_"))},
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "XDG_RUNTIME_DIR": str(folder),
            "ENVBOX_CACHE_DIR": str(folder / "cache"),
        }
        if made.uid:
            made.give(folder)
        yield made
        for container in made.engine.containers({"io.envbox.project": str(made.project)}):
            made.engine.remove(container.id)
    time.sleep(2)  # the last session's watcher looks twice, and podman's client makes folders for that


def put_client(tree: Path, folder: Path) -> None:
    """Have podman's client without its system: with the libraries and the loader of its own tree."""
    inside = folder / ".podman"
    inside.mkdir()
    libraries = [path for place in ("lib", "usr/lib") for path in tree.glob(f"{place}/*-linux-gnu/*.so*")]
    loader = next(path for path in libraries if path.name.startswith("ld-linux"))
    for path in (tree / "usr/bin/podman", *libraries):
        if path.is_file():
            shutil.copy(path, inside / path.name)
    script = folder / "podman"
    script.write_text(
        f'#!/bin/sh\nexec "{inside / loader.name}" --library-path "{inside}" "{inside / "podman"}" "$@"\n'
    )
    script.chmod(0o755)


def words(done: subprocess.CompletedProcess[Any]) -> str:
    """What a command wrote, once it has succeeded."""
    assert done.returncode == 0, done.stderr
    return str(done.stdout)
