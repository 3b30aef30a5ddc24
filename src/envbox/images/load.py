"""Into an engine: what it lacks of an image, and nothing else.

An engine is asked which layers it has; only the others of the base are fetched, which can happen while ours
are made. It can lack more than it said (somebody pruned, or it was remembered), and one that keeps blobs does
not always complain: so what was loaded is looked at, and if it is not whole, all is sent, once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from envbox.engine import NOTHING, Engine, EngineContents, MissingLayerError
from envbox.errors import ImageError
from envbox.images.archive import ImageArchive, load_manifest
from envbox.images.assemble import Image
from envbox.oci import Digest, chain_ids, digest_of
from envbox.registry.base import BaseImage, fetch_layers
from envbox.report import Reporter, Task
from envbox.settings import Settings

Gate = Callable[[Iterator[bytes]], Iterator[bytes]]
"""What the pieces of an archive go through on their way into an engine; it may wait."""


def known_id(image: Image, engine: Engine) -> str | None:
    """Return what the engine calls the image, if all of it is there: by its config, or a manifest."""
    names = (image.id, digest_of(load_manifest(image)))
    return next((name for name in names if engine.is_whole(name)), None)


@dataclass
class Loading:
    """One image on its way into an engine.

    :param present: what the engine has, once asked
    :param ahead: digests of layers that were loaded before the image was known, and their bytes
    """

    settings: Settings
    engine: Engine
    report: Reporter
    present: EngineContents = NOTHING
    ahead: dict[Digest, int] = field(default_factory=dict)

    def bring_base(self, base: BaseImage, stop: threading.Event | None = None) -> None:
        """Ask what the engine has, and fetch the base's layers that it lacks."""
        self.present = self.engine.present()
        self._fetch(base, self.present, stop)

    def pack_part(self, part: Image) -> ImageArchive:
        """Return what is to be sent of an image's lower part. It counts as present at once."""
        parcel = ImageArchive(part, "", self.present, self.engine.reads_zstd)
        self.ahead |= {layer.diff_id: parcel.size_of(layer) for layer in parcel.layers}
        self.present = replace(self.present, chain_ids=self.present.chain_ids.union(chain_ids(part.diff_ids)))
        return parcel

    def load_part(self, parcel: ImageArchive, gate: Gate) -> None:
        """Load what was packed of a part; several threads may, each its own.

        :raises ImageError: when the engine refuses it
        :raises ToolError: when the engine goes away
        """
        with self.report.task("sending what is linked", parcel.size, "bytes") as task:
            self.engine.load(gate(_counted(parcel, task)))

    def find(self, image: Image) -> str | None:
        """Return what the engine calls the image, if all of it is there, whoever put it there."""
        found = known_id(image, self.engine)
        if found is not None:
            self.engine.remember(found, ImageArchive(image, "").blobs)
        return found

    def load(self, image: Image, base: BaseImage, reference: str, gate: Gate = iter) -> str:
        """Load an image whose base was brought; what the engine calls it then is returned.

        :param gate: raises MissingLayerError when a part that was loaded before is not there
        :raises ImageError: when the engine refuses it
        :raises ToolError: when the engine goes away
        """
        parcel = ImageArchive(image, reference, self.present, self.engine.reads_zstd)
        found = None
        try:
            found = self._send(parcel, gate)
        except MissingLayerError:
            if len(parcel.layers) == len(set(parcel.blobs)):
                raise
        if found is None:
            self.report.detail("the engine lacks a layer that it seemed to have: sending all of them")
            self._fetch(base, NOTHING)
            found = self._send(ImageArchive(image, reference, NOTHING, self.engine.reads_zstd))
        if found is None:
            raise ImageError(
                f"the engine loaded {reference}, but has no image {image.id}",
                "it may rewrite images on load; please report it, with what `docker version` prints",
            )
        self.engine.remember(found, parcel.blobs)
        return found

    def _fetch(self, base: BaseImage, present: EngineContents, stop: threading.Event | None = None) -> None:
        chain = chain_ids([layer.diff_id for layer in base.layers])
        layers = zip(base.layers, chain, strict=True)
        wanted = [layer for layer, c in layers if not present.has(c, layer.blob.digest)]
        fetch_layers(base, wanted, self.settings, self.report, stop)

    def _send(self, parcel: ImageArchive, gate: Gate = iter) -> str | None:
        """Send what must be sent; what the engine then calls the image, None when it lacks a part of it."""
        size = parcel.size
        ahead = {digest: self.ahead[digest] for digest in parcel.image.diff_ids if digest in self.ahead}
        new = len(parcel.layers) + len(ahead)
        words = f"{_megabytes(size)} to load"
        if ahead:
            words += f", {_megabytes(sum(ahead.values()))} loaded while packages were linked"
        self.report.say(f"layers: {new} new ({words}), {len(parcel.image.layers) - new} reused")
        with ExitStack() as stack:
            task = stack.enter_context(self.report.task("loading into the engine", size, "bytes"))

            def told() -> Iterator[bytes]:
                yield from gate(_counted(parcel, task))
                stack.close()  # the engine has it all, and only now begins to unpack
                stack.enter_context(self.report.task("unpacking in the engine"))

            self.engine.load(told())
        return known_id(parcel.image, self.engine)


def _counted(parcel: ImageArchive, task: Task) -> Iterator[bytes]:
    for piece in parcel.stream():
        yield piece
        task.advance(len(piece))


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"
