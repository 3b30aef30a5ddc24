"""Into an engine: what it lacks of an image, and nothing else.

An engine is asked which layers it has; only the others of the base are fetched, which can happen while ours
are made. It can lack more than it said (somebody pruned, or it was remembered), and one that keeps blobs does
not always complain: so what was loaded is looked at, and if it is not whole, all is sent, once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from envbox.base import BaseImage, fetch_layers
from envbox.engine import NOTHING, Engine, MissingLayerError, Present
from envbox.errors import ImageError
from envbox.image.archive import Parcel, load_manifest
from envbox.image.assemble import Image
from envbox.oci import chain_ids, digest_of
from envbox.report import Reporter
from envbox.settings import Settings


def known_id(image: Image, engine: Engine) -> str | None:
    """What the engine calls the image, if all of it is there: by its config, or a manifest."""
    names = (image.id, digest_of(load_manifest(image)))
    return next((name for name in names if engine.is_whole(name)), None)


@dataclass
class Loading:
    """One image on its way into an engine.

    :param present: what the engine has, once asked
    """

    settings: Settings
    engine: Engine
    report: Reporter
    present: Present = NOTHING

    def bring_base(self, base: BaseImage, stop: threading.Event | None = None) -> None:
        """Ask what the engine has, and fetch the base's layers that it lacks."""
        self.present = self.engine.present()
        self._fetch(base, self.present, stop)

    def find(self, image: Image) -> str | None:
        """What the engine calls the image, if all of it is there, whoever put it there."""
        found = known_id(image, self.engine)
        if found is not None:
            self.engine.remember(found, Parcel(image, "").blobs)
        return found

    def load(self, image: Image, base: BaseImage, reference: str) -> str:
        """Load an image whose base was brought; what the engine calls it then is returned.

        :raises ImageError: when the engine refuses it
        :raises ToolError: when the engine goes away
        """
        parcel = Parcel(image, reference, self.present, self.engine.reads_zstd)
        found = None
        try:
            found = self._send(parcel)
        except MissingLayerError:
            if len(parcel.layers) == len(set(parcel.blobs)):
                raise
        if found is None:
            self.report.detail("the engine lacks a layer that it seemed to have: sending all of them")
            self._fetch(base, NOTHING)
            found = self._send(Parcel(image, reference, NOTHING, self.engine.reads_zstd))
        if found is None:
            raise ImageError(
                f"the engine loaded {reference}, but has no image {image.id}",
                "it may rewrite images on load; please report it, with what `docker version` prints",
            )
        self.engine.remember(found, parcel.blobs)
        return found

    def _fetch(self, base: BaseImage, present: Present, stop: threading.Event | None = None) -> None:
        chain = chain_ids([layer.diff_id for layer in base.layers])
        layers = zip(base.layers, chain, strict=True)
        wanted = [layer for layer, c in layers if not present.has(c, layer.blob.digest)]
        fetch_layers(base, wanted, self.settings, self.report, stop)

    def _send(self, parcel: Parcel) -> str | None:
        """Send what must be sent; what the engine then calls the image, None when it lacks a part of it."""
        layers, size = len(parcel.layers), parcel.size
        reused = len(parcel.image.layers) - layers
        self.report.say(f"layers: {layers} new ({_megabytes(size)} to load), {reused} reused")
        with ExitStack() as stack:
            task = stack.enter_context(self.report.task("loading into the engine", size, "bytes"))

            def counted() -> Iterator[bytes]:
                for piece in parcel.stream():
                    yield piece
                    task.advance(len(piece))
                stack.close()  # the engine has it all, and only now begins to unpack
                stack.enter_context(self.report.task("unpacking in the engine"))

            self.engine.load(counted())
        return known_id(parcel.image, self.engine)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"
