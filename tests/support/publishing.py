"""An environment to publish, for two platforms, from a channel and a base that are on paper."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zstandard

from envbox.images.publication import PublishRequest
from envbox.lockfile import Lock
from envbox.lockfile.conda_lock_v1 import dumps
from envbox.mirrors import Mirrors
from envbox.project import Environment
from envbox.registry import Reference, access, parse_reference
from envbox.registry.base import resolve_base
from envbox.report import SILENT
from envbox.settings import Settings
from support.packages import File, Package
from support.paper_registry import BASE, PaperRegistry, serving

CHANNEL = "https://conda.anaconda.org/conda-forge"
PLATFORMS = ("linux-64", "linux-aarch64")


@dataclass
class Words:
    """A reporter that keeps what is said."""

    said: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    task = staticmethod(SILENT.task)

    def say(self, text: str) -> None:
        self.said.append(text)

    def detail(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        self.warned.append(text)


@dataclass
class Press:
    """A project with one environment, and a registry that has its base and takes its image."""

    folder: Path
    registry: PaperRegistry
    settings: Settings
    environment: Environment
    report: Words = field(default_factory=Words)

    def lock(self, *contents: bytes, name: str = "paper") -> Lock:
        """Lock one package for each content, for both platforms."""
        packages = []
        for platform in PLATFORMS:
            for number, content in enumerate(contents):
                files = [
                    (f"share/{number}", File(content)),
                    (f"share/platform-{number}", File(platform.encode())),
                ]
                package = Package(f"package{number}", f"{len(content)}.0", files=files, subdir=platform)
                path = self.folder / "channel" / platform / f"{package.stem}.conda"
                written = path if path.exists() else package.write(path.parent)
                packages.append(package.locked(written, platform))
        lock = Lock(
            name=name,
            platforms=PLATFORMS,
            channels=("conda-forge",),
            content_hash=dict.fromkeys(PLATFORMS, "0" * 64),
            packages=tuple(packages),
            base=resolve_base(self.settings.base, PLATFORMS, self.settings, SILENT),
            digest="",
        )
        self.environment.lock_path.write_bytes(dumps(lock))
        return lock

    def wanted(self, *platforms: str, compat: bool = False) -> PublishRequest:
        """The environment, to be published."""
        return PublishRequest(self.environment, platforms, compat)

    def reference(self, name: str = "me/paper:1") -> Reference:
        """A name in the registry."""
        return parse_reference(f"{self.registry.host}/{name}")

    def requests(self) -> list[str]:
        """What the registry was asked since the last time, without what blobs are called."""
        found = [line.split("sha256:")[0] for line in self.registry.log]
        self.registry.log.clear()
        return found


@pytest.fixture
def press(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Press]:
    monkeypatch.setattr(access, "RETRY_DELAYS", (0.01, 0.01))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    with serving(PaperRegistry()) as registry:
        images = {
            platform: registry.put_image("a/b:1", [BASE, {"etc/motd": platform.encode()}], platform)
            for platform in PLATFORMS
        }
        registry.put_index("a/b:1", images)
        mirrors = Mirrors({"docker.io": registry.host, CHANNEL: f"file://{tmp_path / 'channel'}"})
        settings = Settings(cache_dir=tmp_path / "cache", base="a/b:1", mirrors=mirrors, jobs=1)
        environment = Environment("paper", tmp_path / "paper.yml", tmp_path / "paper.conda-lock.yml")
        made = Press(tmp_path, registry, settings, environment)
        made.lock(b"one", b"two" * 1000)
        registry.log.clear()
        yield made


def unpack(data: bytes, media_type: str) -> bytes:
    """A layer's uncompressed tar."""
    if media_type.endswith("+gzip"):
        return gzip.decompress(data)
    if media_type.endswith("+zstd"):
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read()
    return data


def check_image(manifest: bytes, blobs: Mapping[str, bytes]) -> dict[str, Any]:
    """Hash everything that a manifest speaks of, unpack the layers and hash these; the config is returned."""
    document = json.loads(manifest)
    for descriptor in (document["config"], *document["layers"]):
        data = blobs[descriptor["digest"]]
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == descriptor["digest"]
        assert len(data) == descriptor["size"]
    config: dict[str, Any] = json.loads(blobs[document["config"]["digest"]])
    raw = [unpack(blobs[layer["digest"]], layer["mediaType"]) for layer in document["layers"]]
    assert [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in raw] == config["rootfs"]["diff_ids"]
    for tar in raw:
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            assert archive.getnames()
    return config
