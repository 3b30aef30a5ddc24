"""What an image that was built consists of: its layers, and the packages in them. Kept beside builds' memo.

It is written when an image is made and read only by those who ask why something changed, so building with
nothing changed costs no more for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from envbox.cache import Memo
from envbox.oci import Digest
from envbox.settings import Settings

if TYPE_CHECKING:
    from envbox.images.assemble import Image
    from envbox.lockfile import Lock, LockedPackage
    from envbox.packages.link.fragments import Fragment

VERSION = 2
BASE, OWN, BUCKET, ENVIRONMENT = "base", "package", "bucket", "environment"


@dataclass(frozen=True, slots=True)
class PackageRecord:
    """A package in a layer.

    :param name: a wheel's is `pip:NAME`
    :param key: of its fragment: another key, other bytes
    :param archive_size: of what it was linked from, in bytes
    :param raw_size: uncompressed, in bytes
    :param size: compressed, in bytes
    """

    name: str
    version: str
    build: str
    key: str
    archive_size: int
    raw_size: int
    size: int


@dataclass(frozen=True, slots=True)
class LayerRecord:
    """A layer.

    :param home: what the layer is for: BASE, OWN of one package, BUCKET of small ones, ENVIRONMENT
    :param number: of the bucket, or of the base's layer
    :param raw_size: uncompressed, in bytes; of the base's not known
    :param size: compressed, in bytes
    """

    diff_id: Digest
    home: str
    number: int
    raw_size: int
    size: int
    packages: tuple[PackageRecord, ...] = ()

    @property
    def place(self) -> tuple[str, int | str]:
        """What makes it the same layer in another build."""
        return self.home, self.packages[0].name if self.home == OWN else self.number


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image's layers, from the bottom up.

    :param id: the config's digest
    :param slim: kinds of files that were left out
    """

    id: Digest
    layers: tuple[LayerRecord, ...]
    slim: tuple[str, ...] = ()

    @property
    def packages(self) -> Mapping[str, tuple[LayerRecord, PackageRecord]]:
        """Each package, and the layer that it is in."""
        return {package.name: (layer, package) for layer in self.layers for package in layer.packages}


def record_of(image: Image, lock: Lock, platform: str) -> ImageRecord:
    """Describe an image that was made."""
    from envbox.images.layers import plan_homes
    from envbox.registry.base import BaseLayer

    known = {("pip:" if p.manager == "pip" else "") + p.name: p for p in lock.for_platform(platform)}
    ours = [layer for layer in image.layers if not isinstance(layer, BaseLayer)]
    homes = plan_homes({f.name: f.archive_size for layer in ours for f in layer.fragments if f.name in known})
    layers = []
    for number, layer in enumerate(image.layers):
        if isinstance(layer, BaseLayer):
            layers.append(LayerRecord(layer.diff_id, BASE, number, 0, layer.blob.size))
            continue
        packages = tuple(_package(f, known[f.name]) for f in layer.fragments if f.name in known)
        bucket = homes[packages[0].name] if packages else None
        home = ENVIRONMENT if not packages else OWN if bucket is None else BUCKET
        layers.append(
            LayerRecord(layer.diff_id, home, bucket or 0, layer.raw_size, layer.blob.size, packages)
        )
    return ImageRecord(image.id, tuple(layers), lock.slim)


def _package(fragment: Fragment, locked: LockedPackage) -> PackageRecord:
    return PackageRecord(
        name=fragment.name,
        version=locked.version,
        build=locked.build or "",
        key=fragment.key,
        archive_size=fragment.archive_size,
        raw_size=fragment.raw_size,
        size=fragment.size,
    )


def remember_record(image_id: str, record: ImageRecord, settings: Settings) -> None:
    """Keep a record.

    :param image_id: what the engine calls the image
    """
    _memo(image_id, settings).write(record)


def recall_record(image_id: str, settings: Settings) -> ImageRecord | None:
    """Return the record of an image; None when there is none, or one of another version."""
    return _memo(image_id, settings).read()


def _record(known: dict[str, Any]) -> ImageRecord:
    if known["version"] != VERSION:
        raise ValueError
    layers = tuple(_layer(layer) for layer in known["layers"])
    return ImageRecord(Digest(known["id"]), layers, tuple(known["slim"]))


def _layer(known: dict[str, Any]) -> LayerRecord:
    packages = tuple(PackageRecord(**package) for package in known.pop("packages"))
    return LayerRecord(packages=packages, **known)


def _memo(image_id: str, settings: Settings) -> Memo[ImageRecord]:
    path = settings.cache_dir / "builds" / f"layers-{sha256(image_id.encode()).hexdigest()}.json"
    return Memo(path, _record, lambda record: {"version": VERSION, **asdict(record)})
