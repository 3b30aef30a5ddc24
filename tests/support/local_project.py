"""A project with one environment, on a channel and a registry of its own; its images are removed at last."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest

from envbox.engine import Engine
from envbox.engine.find import connect
from envbox.images.build import BuiltImage, build, make_image, repository
from envbox.lockfile import Base, Lock
from envbox.lockfile.conda_lock_v1 import dumps
from envbox.mirrors import Mirrors
from envbox.project import Environment
from envbox.registry import access
from envbox.registry.base import pull_base, resolve_base
from envbox.registry.lock_with_base import read_lock_with_base
from envbox.report import SILENT, Task, Unit
from envbox.settings import Settings
from support.packages import Package
from support.paper_registry import BASE, PaperRegistry, serving

CHANNEL = "https://conda.anaconda.org/conda-forge"
BUILD = """
import json, sys
from pathlib import Path
from envbox.images.build import build
from envbox.engine.find import connect
from envbox.mirrors import Mirrors
from envbox.project import Environment
from envbox.report import SILENT
from envbox.settings import Settings
name, lock, cache, rules = sys.argv[1:]
settings = Settings(cache_dir=Path(cache), mirrors=Mirrors(json.loads(rules)))
build(Environment(name, Path(lock), Path(lock)), settings, connect(settings), SILENT, "linux-64")
print(*sys.modules)
"""


@dataclass
class Recorder:
    """A reporter that keeps what it is told, and can interrupt like Ctrl-C."""

    said: list[str] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    interrupt_at: str | None = None

    def say(self, text: str) -> None:
        self.said.append(text)

    def detail(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.said.append(text)

    def task(
        self, label: str, total: int | None = None, unit: Unit = "items"
    ) -> AbstractContextManager[Task]:
        self.tasks.append(label)
        if self.interrupt_at is not None and label.startswith(self.interrupt_at):
            raise KeyboardInterrupt
        return SILENT.task(label, total, unit)


@dataclass
class Workshop:
    """A project with one environment, on a channel and a registry of its own."""

    folder: Path
    registry: PaperRegistry
    settings: Settings
    environment: Environment
    report: Recorder = field(default_factory=Recorder)

    def lock(self, *packages: Package, base: Base | None = None, pinned: bool = True) -> Lock:
        """Write packages into the channel, and a lockfile that has them."""
        channel = self.folder / "channel" / "linux-64"
        if base is None and pinned:
            base = resolve_base("a/b:1", ["linux-64"], self.settings, SILENT)
        lock = Lock(
            name=self.environment.name,
            platforms=("linux-64",),
            channels=("conda-forge",),
            content_hash={"linux-64": "0" * 64},
            packages=tuple(package.locked(package.write(channel)) for package in packages),
            base=base,
            digest="",
        )
        self.environment.lock_path.write_bytes(dumps(lock))
        return lock

    def build(self, engine: Engine | None = None) -> BuiltImage:
        """Build what is locked."""
        self.report = Recorder(interrupt_at=self.report.interrupt_at)
        engine = engine or connect(self.settings)
        return build(self.environment, self.settings, engine, self.report, "linux-64")

    def command(self) -> list[str]:
        """A process that builds, and prints the modules it needed for that."""
        rules = json.dumps(dict(self.settings.mirrors.rules))
        name, lock, cache = self.environment.name, self.environment.lock_path, self.settings.cache_dir
        return [sys.executable, "-c", BUILD, name, str(lock), str(cache), rules]

    def make(self) -> str:
        """The ID of the image that would be built, without an engine."""
        data = self.environment.lock_path.read_bytes()
        locked = read_lock_with_base(self.environment, data, "linux-64", self.settings, self.report)
        base = pull_base(locked.base, "linux-64", self.settings)
        return make_image(locked, base, self.settings, self.report).id


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workshop]:
    monkeypatch.setattr(access, "RETRY_DELAYS", (0.01,))
    name = f"paper-{uuid4().hex[:12]}"
    unique = {"etc/unique": name.encode()}  # so that no layer of another test is in the engine
    with serving(PaperRegistry()) as registry:
        registry.put_image("a/b:1", [BASE | unique, {"etc/motd": b"hello"}])
        mirrors = Mirrors({"docker.io": registry.host, CHANNEL: f"file://{tmp_path / 'channel'}"})
        settings = Settings(cache_dir=tmp_path / "cache", base="a/b:1", mirrors=mirrors)
        environment = Environment(name, tmp_path / f"{name}.yml", tmp_path / f"{name}.conda-lock.yml")
        yield Workshop(tmp_path, registry, settings, environment)


@pytest.fixture
def loaded(workshop: Workshop) -> Iterator[Workshop]:
    """A workshop whose images are removed from the engine at the end."""
    yield workshop
    found = subprocess.run(
        ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}", repository(workshop.environment.name)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    for reference in found.stdout.split():
        connect(workshop.settings).remove_image(reference)


def docker(*arguments: str) -> bytes:
    return subprocess.run(["docker", *arguments], capture_output=True, check=True).stdout
