"""An image as one tar stream that any engine loads, without the layers that it has.

Docker's own store reads `manifest.json` and takes a layer as a raw tar or as the registry's gzip; the
containerd store and podman read the OCI layout beside it, where a manifest must list the very blobs that are
in the archive. So our layers are sent raw (the engine unpacks them anyway), the base's as they are, and
`load_manifest` says just that. Docker before 23 reads no zstd, and no OCI layout either: it is sent a base's
zstd layers raw, and no manifest of blobs that are in no archive.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md and, for manifest.json,
https://github.com/moby/docker-image-spec/blob/main/spec.md
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import IO, cast

from envbox.engine import NOTHING, EngineContents
from envbox.errors import ImageError
from envbox.images.assemble import Image
from envbox.images.checked import checked_blob, checked_chunks
from envbox.images.layers import Layer
from envbox.oci import (
    CONFIG_TYPE,
    INDEX_TYPE,
    LAYER_TAR_TYPE,
    LAYER_ZSTD_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    Digest,
    Manifest,
    canonical_json,
    chain_ids,
    digest_of,
)
from envbox.packages.link.tar import CHUNK, END, header, padding
from envbox.registry.base import BaseLayer, Bounded


@dataclass(frozen=True, slots=True)
class ImageArchive:
    """An image on its way to one engine.

    :param reference: `NAME:TAG` that the image gets in the engine; none when empty
    :param present: what the engine has
    :param reads_zstd: whether the engine does
    """

    image: Image
    reference: str
    present: EngineContents = NOTHING
    reads_zstd: bool = True

    @property
    def blobs(self) -> tuple[Digest, ...]:
        """What the archive calls the layers, from the bottom up, those too that are left out."""
        return tuple(self._name(layer) for layer in self.image.layers)

    @property
    def layers(self) -> tuple[BaseLayer | Layer, ...]:
        """Those that must be sent, each once."""
        layers = zip(self.blobs, chain_ids(self.image.diff_ids), self.image.layers, strict=True)
        missing = {blob: layer for blob, chain, layer in layers if not self.present.has(chain, blob)}
        return tuple(missing.values())

    @property
    def size(self) -> int:
        """How many bytes of layers must be sent."""
        return sum(self.size_of(layer) for layer in self.layers)

    def stream(self) -> Iterator[bytes]:
        """Yield the archive.

        :raises ToolError: when something in the cache is damaged; it is removed, to be made again
        """
        if self.reads_zstd:
            manifest = load_manifest(self.image)
            yield from _entry("oci-layout", canonical_json({"imageLayoutVersion": "1.0.0"}))
            yield from _entry("index.json", _index(manifest, self.image, self.reference))
            yield from _entry(_path(digest_of(manifest)), manifest)
        yield from _entry(_path(self.image.id), self.image.config)
        for layer in self.layers:
            size = self.size_of(layer)
            yield header(_path(self._name(layer)), size=size)
            yield from self._open(layer)
            yield padding(size)
        docker = {
            "Config": _path(self.image.id),
            "RepoTags": [self.reference] if self.reference else None,
            "Layers": [_path(blob) for blob in self.blobs],
        }
        yield from _entry("manifest.json", canonical_json([docker]))
        yield END

    def _is_unpacked(self, layer: BaseLayer | Layer) -> bool:
        """Return whether a layer of the base is sent raw, that is not so stored."""
        is_zstd = isinstance(layer, BaseLayer) and layer.blob.media_type == LAYER_ZSTD_TYPE
        return is_zstd and not self.reads_zstd

    def _name(self, layer: BaseLayer | Layer) -> Digest:
        return layer.diff_id if self._is_unpacked(layer) else _shipped(layer).digest

    def size_of(self, layer: BaseLayer | Layer) -> int:
        """Return the bytes of a layer as it is sent."""
        if isinstance(layer, BaseLayer) and self._is_unpacked(layer):
            return _unpacked_size(layer)
        return _shipped(layer).size

    def _open(self, layer: BaseLayer | Layer) -> Iterator[bytes]:
        if isinstance(layer, Layer):
            return layer.open_raw()
        return _unpacked(layer) if self._is_unpacked(layer) else _stored(layer)


def load_manifest(image: Image) -> bytes:
    """Return the manifest of what is loaded: an engine with the containerd store calls the image by its
    digest.
    """
    config = Descriptor(CONFIG_TYPE, image.id, len(image.config))
    return Manifest(config, tuple(_shipped(layer) for layer in image.layers)).dumps()


def _shipped(layer: BaseLayer | Layer) -> Descriptor:
    """Return a layer as it is in an archive for an engine that reads whatever there is."""
    if isinstance(layer, BaseLayer):
        return layer.blob
    return Descriptor(LAYER_TAR_TYPE, layer.diff_id, layer.raw_size)


def _stored(layer: BaseLayer) -> Iterator[bytes]:
    yield from checked_chunks(layer.path, layer.blob.digest)


def _unpacked(layer: BaseLayer) -> Iterator[bytes]:
    import zstandard

    with checked_blob(layer.path, layer.blob.digest) as file:
        source = cast("IO[bytes]", file)  # anything with read(size) will do
        reader = zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True)
        plain = Bounded(cast("IO[bytes]", reader), layer.blob.size)
        try:
            while data := plain.read(CHUNK):
                yield data
        except ValueError as error:
            raise ImageError(f"layer {layer.blob.digest} cannot be used: {error}") from error


@cache
def _unpacked_size(layer: BaseLayer) -> int:
    """Return the size of the raw tar: a tar says an entry's size before its bytes, so that they are
    unpacked twice.
    """
    return sum(map(len, _unpacked(layer)))


def _index(manifest: bytes, image: Image, reference: str) -> bytes:
    config = json.loads(image.config)
    entry = {
        **Descriptor(MANIFEST_TYPE, digest_of(manifest), len(manifest)).to_json(),
        "platform": {key: config[key] for key in ("architecture", "os", "variant") if key in config},
    }
    if reference:
        entry["annotations"] = {
            "io.containerd.image.name": f"docker.io/{reference}",
            "org.opencontainers.image.ref.name": reference.rpartition(":")[2],
        }
    return canonical_json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]})


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _entry(name: str, data: bytes) -> Iterator[bytes]:
    yield header(name, size=len(data))
    yield data
    yield padding(len(data))
