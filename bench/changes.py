"""One package changed: what that means for blobs by each rule, and a lockfile in which it is so."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import zstandard
from stage import NAME, Stage

from envbox.images import layers
from envbox.images.build import make_image
from envbox.images.layers import Layer, plan_groups
from envbox.lockfile import Lock, LockedPackage
from envbox.lockfile.conda_lock_v1 import dumps, loads, sealed
from envbox.packages.fetch import archive_path, fetch_archives
from envbox.project import Environment
from envbox.registry.base import pull_base
from envbox.registry.lock_with_base import read_lock_with_base
from envbox.report import SILENT
from envbox.settings import Settings, read_settings

PLATFORM = "linux-64"
GROWTH = 1.02  # of a package that changes: size classes may be passed
Groups = Sequence[Sequence[str]]
Rule = Callable[[Mapping[str, int]], Groups]


def one_layer(sizes: Mapping[str, int]) -> Groups:
    """Everything in one layer, as a Dockerfile's RUN or conda-pack has it."""
    return [sorted(sizes)]


def by_size(sizes: Mapping[str, int], budget: int = 10) -> Groups:
    """The largest alone, the rest merged: apko's rule, with the budget that its docs/layering.md advises."""
    names = sorted(sizes, key=lambda name: (-sizes[name], name))
    return [*([name] for name in names[: budget - 1]), sorted(names[budget - 1 :])]


@dataclass(frozen=True)
class Subject:
    """The environment that is measured, made and looked into."""

    stage: Stage

    @cached_property
    def settings(self) -> Settings:
        """Those of the stage."""
        return read_settings(self.stage.folder, {**os.environ, **self.stage.env})

    @cached_property
    def lock(self) -> Lock:
        """What is locked."""
        return loads(self.stage.lockfile.read_bytes(), self.stage.lockfile)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Our layers of the image; the last is the environment's own."""
        environment = Environment(NAME, self.stage.spec, self.stage.lockfile)
        data = self.stage.lockfile.read_bytes()
        locked = read_lock_with_base(environment, data, PLATFORM, self.settings, SILENT)
        base = pull_base(locked.base, PLATFORM, self.settings)
        image = make_image(locked, base, self.settings, SILENT)
        return tuple(layer for layer in image.layers if isinstance(layer, Layer))

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Package → its archive's size in bytes."""
        return {f.name: f.archive_size for layer in self.layers[:-1] for f in layer.fragments}

    @cached_property
    def blobs(self) -> Mapping[str, int]:
        """Package → compressed size in bytes."""
        return {f.name: f.size for layer in self.layers[:-1] for f in layer.fragments}

    @property
    def own_blob(self) -> int:
        """The compressed size of the environment's own layer, in bytes: it changes with every change."""
        return self.layers[-1].blob.size

    def new_blobs(self, rule: Rule, name: str) -> int:
        """How many compressed bytes are new when one package changes, by a rule of grouping."""
        changed = {**self.sizes, name: round(self.sizes[name] * GROWTH)}
        before = {tuple(group) for group in rule(self.sizes)}
        new = [group for group in rule(changed) if name in group or tuple(group) not in before]
        return self.own_blob + sum(self.blobs[n] for group in new for n in group)

    def changed(self, name: str) -> bytes:
        """A lockfile in which one package is another build; its archive is put into the cache."""
        package = next(p for p in self.lock.for_platform(PLATFORM) if p.name == name)
        path = fetch_archives([package], self.settings)[package.sha256]
        build = f"{package.build}x"
        data = _rebuilt(path, build)
        url = package.url.rsplit("/", 1)[0] + f"/{package.name}-{package.version}-{build}.conda"
        other = replace(
            package,
            build=build,
            url=url,
            sha256=hashlib.sha256(data).hexdigest(),
            md5=hashlib.md5(data, usedforsecurity=False).hexdigest(),
        )
        kept = archive_path(other, self.settings)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(data)
        packages = tuple(_swapped(p, package, other) for p in self.lock.packages)
        return dumps(sealed(replace(self.lock, packages=packages)))


def ours(sizes: Mapping[str, int]) -> Groups:
    """The rule of envbox."""
    return plan_groups(sizes)


def varied(buckets: int = layers.BUCKETS, large: int = layers.LARGE) -> Rule:
    """The rule of envbox with another number of buckets, or another limit in bytes."""

    def rule(sizes: Mapping[str, int]) -> Groups:
        kept = layers.BUCKETS, layers.LARGE
        layers.BUCKETS, layers.LARGE = buckets, large
        try:
            return plan_groups(sizes, layers.BUDGET - kept[0] + buckets)
        finally:
            layers.BUCKETS, layers.LARGE = kept

    return rule


def _swapped(package: LockedPackage, old: LockedPackage, new: LockedPackage) -> LockedPackage:
    return replace(new, platform=package.platform) if package.sha256 == old.sha256 else package


def _rebuilt(path: Path, build: str) -> bytes:
    """An archive's bytes with another build string: new metadata, the same files."""
    out = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename.startswith("info-"):
                data = zstandard.compress(_with_build(zstandard.decompress(data, 1 << 28), build), 3)
            new.writestr(zipfile.ZipInfo(info.filename), data)
    return out.getvalue()


def _with_build(tarball: bytes, build: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(tarball)) as old, tarfile.open(fileobj=out, mode="w") as new:
        for member in old:
            data = old.extractfile(member).read() if member.isfile() else b""  # type: ignore[union-attr]
            if member.name == "info/index.json":
                index: dict[str, Any] = json.loads(data)
                data = json.dumps({**index, "build": build}).encode()
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    return out.getvalue()
