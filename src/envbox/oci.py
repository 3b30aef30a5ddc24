"""The OCI image format's values: digests, descriptors, platforms. Names are the specification's own.

https://github.com/opencontainers/image-spec (descriptor.md, manifest.md, config.md)
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, NewType

from envbox.errors import ImageError

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

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ARCHITECTURES = {
    "linux-64": ("linux", "amd64"),
    "linux-aarch64": ("linux", "arm64"),
    "linux-ppc64le": ("linux", "ppc64le"),
    "linux-s390x": ("linux", "s390x"),
    "linux-riscv64": ("linux", "riscv64"),
}


def digest_of(data: bytes) -> Digest:
    """The digest of stored bytes."""
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
        """The descriptor as the specification writes it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


def canonical_json(value: object) -> bytes:
    """JSON that is the same bytes for the same value: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def image_platform(platform: str) -> tuple[str, str]:
    """The OCI (os, architecture) of a conda platform.

    :raises ImageError: when no Linux container can be of that platform
    """
    if platform not in _ARCHITECTURES:
        raise ImageError(
            f"no container image can be of platform {platform}",
            f"images are made for {', '.join(_ARCHITECTURES)}",
        )
    return _ARCHITECTURES[platform]


def conda_platform(architecture: str) -> str | None:
    """The conda platform of a Linux image's architecture (`amd64` → `linux-64`), None when conda has none."""
    return next((p for p, (_, a) in _ARCHITECTURES.items() if a == architecture), None)
