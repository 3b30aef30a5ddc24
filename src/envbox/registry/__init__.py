"""Images in a registry: resolve a reference, fetch and push manifests and blobs, all of it checked by digest.

Nothing here needs an engine. https://github.com/opencontainers/distribution-spec
"""

from __future__ import annotations

from envbox.registry.access import Access
from envbox.registry.pull import (
    blob_path,
    fetch_blob,
    fetch_blobs,
    fetch_config,
    fetch_manifest,
    is_cached,
    read_blob,
    resolve,
)
from envbox.registry.reference import Reference, parse_reference

__all__ = [
    "Access",
    "Reference",
    "blob_path",
    "fetch_blob",
    "fetch_blobs",
    "fetch_config",
    "fetch_manifest",
    "is_cached",
    "parse_reference",
    "read_blob",
    "resolve",
]
