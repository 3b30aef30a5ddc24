"""What an engine has of images, and so need not be sent again.

Docker's own store and podman's keep unpacked layers: one may be left out when a layer of its chain ID is
there. The containerd store keeps blobs, and says neither which, nor always that one is missing: an image that
lacks some can be listed, named, inspected. So only what loads of our own put there is left out, as long as
the image that they loaded is there whole; whether it is, the list of images tells.

https://docs.docker.com/reference/api/engine/version/v1.47/#tag/Image/operation/ImageList
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from envbox.cache import Memo
from envbox.engine import EngineContents
from envbox.oci import Digest, chain_ids, parse_digest

_BLOB_STORE = ["driver-type", "io.containerd.snapshotter.v1"]


@dataclass
class Store:
    """The images of one engine.

    :param ask: a GET in JSON, None when there is no such thing
    :param folder: of the cache, for what was learned of engines
    """

    ask: Callable[[str], Any]
    folder: Path

    @cached_property
    def _info(self) -> dict[str, Any]:
        return self.ask("/info") or {}

    @property
    def keeps_blobs(self) -> bool:
        """Whether it is the containerd store."""
        return _BLOB_STORE in (self._info.get("DriverStatus") or [])

    def present(self) -> EngineContents:
        """Return what may be left out of an archive to load."""
        images = self._images()
        if self.keeps_blobs:
            loaded = (self._loads(image).read() for image, is_whole in images.items() if is_whole)
            return EngineContents(blobs=frozenset(blob for blobs in loaded for blob in blobs or ()))
        chains = (chain_ids(self._diff_ids(image)) for image in images)
        return EngineContents(
            frozenset(chain_id for chain in chains for chain_id in chain), keeps_layers=True
        )

    def is_whole(self, image: str) -> bool:
        """Return whether all of an image is there, by its ID."""
        if self.keeps_blobs:
            return self._images().get(image, False)
        return self.ask(f"/images/{image}/json") is not None

    def remember(self, image: str, blobs: Collection[Digest]) -> None:
        """Note what an image consists of that is there whole."""
        if self.keeps_blobs:
            self._loads(image).write(list(blobs))

    def _images(self) -> dict[str, bool]:
        """Return the IDs of all images, and whether all of each is there."""
        return {image["Id"]: _is_whole(image) for image in self.ask("/images/json?manifests=1") or ()}

    def _loads(self, image: str) -> Memo[list[Digest]]:
        """Return where it is noted what an image of this engine, and no other, was loaded with."""
        engine = sha256(str(self._info.get("ID")).encode()).hexdigest()[:16]
        return _digests(self.folder / "loads" / engine / image.removeprefix("sha256:"))

    def _diff_ids(self, image: str) -> list[Digest]:
        """Return an image's layers: its ID is the digest of what says so, so that asked once is asked for
        good.
        """
        memo = _digests(self.folder / "images" / image.removeprefix("sha256:"))
        if (known := memo.read()) is not None:
            return known
        inspected = self.ask(f"/images/{image}/json") or {}  # none when it was removed in between
        diff_ids = [parse_digest(layer) for layer in inspected.get("RootFS", {}).get("Layers") or ()]
        if inspected:
            memo.write(diff_ids)
        return diff_ids


def _is_whole(image: dict[str, Any]) -> bool:
    """Tell whether an image is whole. Up to 26 an image of which a blob is missing is not listed; from 27
    on it is, and says so.
    """
    manifests = image.get("Manifests") or ()
    return all(manifest.get("Available") for manifest in manifests if manifest.get("Kind") == "image")


def _digests(path: Path) -> Memo[list[Digest]]:
    return Memo(path, lambda known: [parse_digest(digest) for digest in known], list)
