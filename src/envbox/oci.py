"""The OCI image format's values: digests, descriptors, platforms. Names are the specification's own.

https://github.com/opencontainers/image-spec (descriptor.md, manifest.md, config.md)
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NewType

from envbox.documents import read_json
from envbox.errors import ImageError
from envbox.platforms import conda_platform

Digest = NewType("Digest", str)
"""`sha256:` and 64 lower-case hex digits. Make one with `digest_of` or `parse_digest`, never by hand."""

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
LAYER_TAR_TYPE = "application/vnd.oci.image.layer.v1.tar"
LAYER_GZIP_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD_TYPE = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX_TYPE = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_OCI_TYPES = {
    "application/vnd.docker.container.image.v1+json": CONFIG_TYPE,
    DOCKER_MANIFEST_TYPE: MANIFEST_TYPE,
    DOCKER_INDEX_TYPE: INDEX_TYPE,
    DOCKER_LAYER_TYPE: LAYER_GZIP_TYPE,
    "application/vnd.docker.image.rootfs.diff.tar": LAYER_TAR_TYPE,
    "application/vnd.docker.image.rootfs.diff.tar.zstd": LAYER_ZSTD_TYPE,
}
"""Docker's name of a media type → OCI's."""


def digest_of(data: bytes) -> Digest:
    """Return the digest of stored bytes."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def parse_digest(text: str) -> Digest:
    """Check that foreign text is a sha256 digest.

    :raises ImageError: when it is anything else
    """
    if not _DIGEST.fullmatch(text):
        raise ImageError(f"not a sha256 digest: {text!r}")
    return Digest(text)


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What points to a blob.

    :param size: of the stored bytes
    """

    media_type: str
    digest: Digest
    size: int

    def to_json(self) -> dict[str, Any]:
        """Return the descriptor as the specification writes it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True, slots=True)
class Manifest:
    """One platform's image: its config, and its layers from the bottom up. Media types are OCI's own."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    def dumps(self) -> bytes:
        """Return the manifest as it is stored."""
        value: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": self.config.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        return canonical_json(value)


def parse_manifest(data: bytes, name: str) -> Manifest | dict[str, Descriptor]:
    """Read a manifest, or an index: conda platform → descriptor of that platform's manifest.

    :param name: the image's, for an error
    :raises ImageError: when it is neither
    """
    try:
        document = read_json(data)
        if "manifests" in document:
            return _parse_index(document["manifests"])
        if document.get("schemaVersion") == 1:
            raise ImageError("it is of Docker's old format (schema 1)")
        return Manifest(
            _parse_descriptor(document["config"]),
            tuple(_parse_descriptor(layer) for layer in document["layers"]),
            {str(k): str(v) for k, v in document.get("annotations", {}).items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ImageError(f"{name} has no image manifest, but {data[:60]!r}") from error
    except ImageError as error:
        raise ImageError(f"{name} has a manifest that cannot be used: {error.message}") from error


def _parse_index(entries: Sequence[Mapping[str, Any]]) -> dict[str, Descriptor]:
    found: dict[str, Descriptor] = {}
    for entry in entries:
        about = entry.get("platform") or {}
        platform = conda_platform(about.get("architecture", "")) if about.get("os") == "linux" else None
        if platform and (platform not in found or "variant" not in about):
            found[platform] = _parse_descriptor(entry)
    return found


def _parse_descriptor(value: Mapping[str, Any]) -> Descriptor:
    media_type, size = str(value["mediaType"]), value["size"]
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ValueError(size)
    return Descriptor(_OCI_TYPES.get(media_type, media_type), parse_digest(str(value["digest"])), size)


def canonical_json(value: object) -> bytes:
    """Write JSON that is the same bytes for the same value: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def chain_ids(diff_ids: Sequence[Digest]) -> tuple[Digest, ...]:
    """Return what each layer is together with all below it: the identity of an unpacked layer in an engine.

    https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid
    """
    chain: list[Digest] = []
    for diff_id in diff_ids:
        chain.append(digest_of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(chain)
