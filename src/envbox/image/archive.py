"""An image as one tar stream that any engine loads, without the layers that it has.

Docker's own store reads `manifest.json` and takes a layer as a raw tar or as the registry's gzip; the
containerd store reads the OCI layout beside it, where a manifest must list the very blobs that are in the
archive. So our layers are shipped raw (the engine unpacks them anyway, and 20.10 knows no zstd), the base's
as they are, and `load_manifest` says just that. What is left out is found by chain ID.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md and, for manifest.json,
https://github.com/moby/docker-image-spec/blob/main/spec.md
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator

from envbox.base import BaseLayer
from envbox.image.assemble import Image
from envbox.image.layers import Layer
from envbox.link.tar import CHUNK, END, header, padding
from envbox.oci import (
    CONFIG_TYPE,
    INDEX_TYPE,
    LAYER_TAR_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    Manifest,
    canonical_json,
    chain_ids,
    digest_of,
)


def missing_layers(image: Image, present: Collection[str]) -> tuple[BaseLayer | Layer, ...]:
    """The layers that must be sent to an engine that has those chain IDs, each once."""
    chain = chain_ids(image.diff_ids)
    missing = [layer for layer, c in zip(image.layers, chain, strict=True) if c not in present]
    return tuple({_shipped(layer).digest: layer for layer in missing}.values())


def sent_size(layers: Iterable[BaseLayer | Layer]) -> int:
    """How many bytes sending these layers takes."""
    return sum(_shipped(layer).size for layer in layers)


def load_manifest(image: Image) -> bytes:
    """The manifest of what is loaded: an engine with the containerd store calls the image by its digest."""
    config = Descriptor(CONFIG_TYPE, image.id, len(image.config))
    return Manifest(config, tuple(_shipped(layer) for layer in image.layers)).dumps()


def image_archive(image: Image, reference: str, present: Collection[str] = ()) -> Iterator[bytes]:
    """The archive, streamed.

    :param reference: `NAME:TAG` that the image gets in the engine
    :param present: chain IDs of layers that the engine has
    """
    manifest = load_manifest(image)
    yield from _entry("oci-layout", canonical_json({"imageLayoutVersion": "1.0.0"}))
    yield from _entry("index.json", _index(manifest, image, reference))
    yield from _entry(_path(digest_of(manifest)), manifest)
    yield from _entry(_path(image.id), image.config)
    for layer in missing_layers(image, present):
        blob = _shipped(layer)
        yield header(_path(blob.digest), size=blob.size)
        yield from _stored(layer) if isinstance(layer, BaseLayer) else layer.open_raw()
        yield padding(blob.size)
    docker = {
        "Config": _path(image.id),
        "RepoTags": [reference],
        "Layers": [_path(_shipped(layer).digest) for layer in image.layers],
    }
    yield from _entry("manifest.json", canonical_json([docker]))
    yield END


def _shipped(layer: BaseLayer | Layer) -> Descriptor:
    """A layer as it is in the archive."""
    if isinstance(layer, BaseLayer):
        return layer.blob
    return Descriptor(LAYER_TAR_TYPE, layer.diff_id, layer.raw_size)


def _stored(layer: BaseLayer) -> Iterator[bytes]:
    with layer.path.open("rb") as file:
        while data := file.read(CHUNK):
            yield data


def _index(manifest: bytes, image: Image, reference: str) -> bytes:
    config = json.loads(image.config)
    entry = {
        **Descriptor(MANIFEST_TYPE, digest_of(manifest), len(manifest)).to_json(),
        "platform": {key: config[key] for key in ("architecture", "os", "variant") if key in config},
        "annotations": {
            "io.containerd.image.name": f"docker.io/{reference}",
            "org.opencontainers.image.ref.name": reference.rpartition(":")[2],
        },
    }
    return canonical_json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [entry]})


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _entry(name: str, data: bytes) -> Iterator[bytes]:
    yield header(name, size=len(data))
    yield data
    yield padding(len(data))
