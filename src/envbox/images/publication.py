"""An environment's image as others get it: a manifest for each platform, an index over several, and blobs.

The same whether it goes to a registry or into a file, so one digest names it everywhere. It is a function of
the lock, so it is remembered: the documents alone tell which blobs there are, and only when one of them is
wanted are packages looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from envbox import __version__
from envbox.cache import Memo, memo_key
from envbox.errors import LockfileError
from envbox.lockfile.file import read_lock_bytes
from envbox.oci import (
    CONFIG_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    Digest,
    Manifest,
    canonical_json,
    digest_of,
    parse_manifest,
)
from envbox.packages.link.frames import CODEC
from envbox.platforms import IMAGE_PLATFORMS, image_platform
from envbox.project import Environment
from envbox.registry.push import PushedDocument
from envbox.registry.upload import Blob
from envbox.report import Reporter
from envbox.settings import Settings

if TYPE_CHECKING:
    from envbox.engine import Engine
    from envbox.images.assemble import Image
    from envbox.images.build import BuiltImage
    from envbox.registry.base import BaseImage

MEMO_VERSION = 2


@dataclass(frozen=True, slots=True)
class PublishRequest:
    """What is to be published.

    :param platforms: conda's; empty: all that are locked and that an image can be of
    :param is_compat: with gzip layers, for what reads no zstd
    """

    environment: Environment
    platforms: tuple[str, ...] = ()
    is_compat: bool = False


@dataclass(frozen=True, slots=True)
class PlatformImage:
    """One platform's image.

    :param about: the platform in the words of an index
    """

    platform: str
    about: Mapping[str, str]
    manifest: PushedDocument

    @property
    def parts(self) -> Manifest:
        """Its config and layers."""
        found = parse_manifest(self.manifest.data, self.platform)
        assert isinstance(found, Manifest)
        return found

    @property
    def id(self) -> Digest:
        """The config's digest."""
        return self.parts.config.digest


@dataclass(frozen=True, slots=True)
class Publication:
    """All of an image that is not layers.

    :param name: the environment's
    """

    name: str
    images: tuple[PlatformImage, ...]

    @property
    def top(self) -> PushedDocument:
        """What a tag means: the only manifest, or the index of several."""
        if len(self.images) == 1:
            return self.images[0].manifest
        entries = [{**i.manifest.descriptor.to_json(), "platform": dict(i.about)} for i in self.images]
        return PushedDocument(
            INDEX_TYPE, canonical_json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries})
        )

    @property
    def digest(self) -> Digest:
        """What a registry calls it."""
        return self.top.descriptor.digest

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """All blobs, each once."""
        found = [blob for image in self.images for blob in (image.parts.config, *image.parts.layers)]
        return tuple({blob.digest: blob for blob in found}.values())

    def to_json(self) -> dict[str, Any]:
        """Return what programs are told of it."""
        images = [
            {"platform": i.platform, "id": i.id, "digest": i.manifest.descriptor.digest} for i in self.images
        ]
        return {"name": self.name, "digest": self.digest, "images": images}


@dataclass(frozen=True, slots=True)
class PublicationBlobs:
    """A publication, and where its blobs' bytes come from.

    :param bases: what the images stand on
    """

    publication: Publication
    blobs: tuple[Blob, ...]
    bases: tuple[BaseImage, ...]


def remembered(wanted: PublishRequest, settings: Settings) -> Publication | None:
    """Return a publication of which everything was made once; None when that is not known."""
    images = _memo(wanted, settings).read()
    return Publication(wanted.environment.name, images) if images else None


def make(wanted: PublishRequest, settings: Settings, report: Reporter) -> PublicationBlobs:
    """Make what is missing of each platform's image; no engine has to do with it, and nothing is emulated.

    :raises EnvboxError: what `images.build` can raise
    """
    from envbox.images.build import make_image
    from envbox.registry.base import pull_base
    from envbox.registry.lock_with_base import read_lock_with_base

    environment = wanted.environment
    data = read_lock_bytes(environment.lock_path)
    made: list[tuple[PlatformImage, list[Blob], BaseImage]] = []
    is_pinned = True
    for platform in _platforms(wanted, data):
        report.detail(f"making the image for {platform}")
        locked = read_lock_with_base(environment, data, platform, settings, report)
        is_pinned = is_pinned and locked.lock.base is not None
        base = pull_base(locked.base, platform, settings)
        image = make_image(locked, base, settings, report)
        made.append((*_published(image, base, wanted, settings, report), base))
    publication = Publication(environment.name, tuple(image for image, _, _ in made))
    if is_pinned:  # else what the base's tag means may change
        _memo(wanted, settings).write(publication.images)
    blobs = {blob.descriptor.digest: blob for _, found, _ in made for blob in found}
    return PublicationBlobs(publication, tuple(blobs.values()), tuple(base for _, _, base in made))


def build_platforms(
    wanted: PublishRequest, settings: Settings, engine: Engine, report: Reporter
) -> tuple[Publication, BuiltImage | None]:
    """Make the images of several platforms, and load the one that is for the engine, if one is.

    :raises EnvboxError: what `images.build` can raise
    """
    from envbox.images.build import build

    own = engine.platform
    publication = remembered(wanted, settings) or make(wanted, settings, report).publication
    if own not in [image.platform for image in publication.images]:
        report.say(f"nothing to load: the engine's containers are {own}")
        return publication, None
    loaded = build(wanted.environment, settings, engine, report, own)
    report.say(f"for {own}: {loaded.reference}")
    return publication, loaded


def _platforms(wanted: PublishRequest, data: bytes) -> tuple[str, ...]:
    from envbox.lockfile.conda_lock_v1 import loads

    if wanted.platforms:
        for platform in wanted.platforms:
            image_platform(platform)
        return tuple(sorted(set(wanted.platforms)))  # whatever their order, one index
    locked = loads(data, wanted.environment.lock_path).platforms
    found = tuple(sorted(platform for platform in locked if platform in IMAGE_PLATFORMS))
    if not found:
        raise LockfileError(
            f"{wanted.environment.name} is locked for {', '.join(locked)}, and no image can be of these",
            f"envbox lock {wanted.environment.name} --platform linux-64",
        )
    return found


def _published(
    image: Image, base: BaseImage, wanted: PublishRequest, settings: Settings, report: Reporter
) -> tuple[PlatformImage, list[Blob]]:
    """Return an image in the form in which it is given away."""
    from envbox.images.publication_blobs import gzip_blobs, zstd_blobs

    if wanted.is_compat:
        layers = gzip_blobs(image, base, settings, report)
        manifest = _gzip_manifest(image, layers, report)
    else:
        layers = zstd_blobs(image, base, settings, report)
        manifest = image.manifest
    config = json.loads(image.config)
    about = {key: config[key] for key in ("architecture", "os", "variant") if key in config}
    found = PlatformImage(base.platform, about, PushedDocument(MANIFEST_TYPE, manifest))
    return found, [*layers, Blob(found.parts.config, lambda: iter((image.config,)))]


def _gzip_manifest(image: Image, layers: Sequence[Blob], report: Reporter) -> bytes:
    from envbox.images.assemble import CODEC_ANNOTATION
    from envbox.images.gzip_layers import COMMON_CODEC, gzip_codec

    if gzip_codec() != COMMON_CODEC:
        report.warn(
            f"the zlib of this Python compresses in a way of its own ({gzip_codec()}): the image's ID is the "
            "same everywhere, but its digest in a registry is not"
        )
    config = Descriptor(CONFIG_TYPE, image.id, len(image.config))
    return Manifest(config, tuple(b.descriptor for b in layers), {CODEC_ANNOTATION: gzip_codec()}).dumps()


def _memo(wanted: PublishRequest, settings: Settings) -> Memo[tuple[PlatformImage, ...]]:
    codec = CODEC
    if wanted.is_compat:
        from envbox.images.gzip_layers import gzip_codec

        codec = gzip_codec()
    lock = digest_of(read_lock_bytes(wanted.environment.lock_path))
    platforms = sorted(set(wanted.platforms))
    key = memo_key(MEMO_VERSION, __version__, "publication", wanted.environment.name, lock, platforms, codec)
    return Memo(settings.cache_dir / "builds" / f"{key}.json", _images, _said)


def _images(known: Any) -> tuple[PlatformImage, ...]:
    return tuple(
        PlatformImage(i["platform"], i["about"], PushedDocument(MANIFEST_TYPE, i["manifest"].encode()))
        for i in known["images"]
    )


def _said(images: tuple[PlatformImage, ...]) -> Mapping[str, Any]:
    return {
        "images": [
            {"platform": i.platform, "about": dict(i.about), "manifest": i.manifest.data.decode()}
            for i in images
        ]
    }
