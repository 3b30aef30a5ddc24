"""Into an engine: what it lacks of an image, and nothing else.

An engine is asked which layers it has; only the others of the base are fetched, which can happen while ours
are made. It can lack more than it said (somebody pruned, or it was remembered): then all is sent, once.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from envbox.base import BaseImage, fetch_layers
from envbox.engine import Engine, MissingLayerError
from envbox.errors import ImageError
from envbox.image.archive import image_archive, load_manifest, missing_layers, sent_size
from envbox.image.assemble import Image
from envbox.oci import chain_ids, digest_of
from envbox.report import Reporter
from envbox.settings import Settings


def known_id(image: Image, engine: Engine) -> str | None:
    """What the engine calls the image, if it has it: by config, or where blobs are kept, by manifest."""
    names = (image.id, digest_of(load_manifest(image)))
    return next((name for name in names if engine.has_image(name)), None)


@dataclass
class Loading:
    """One image on its way into an engine.

    :param present: chain IDs of the layers that the engine has, once asked
    """

    settings: Settings
    engine: Engine
    report: Reporter
    present: set[str] = field(default_factory=set)

    def bring_base(self, base: BaseImage, stop: threading.Event | None = None) -> None:
        """Ask what the engine has, and fetch the base's layers that it lacks."""
        self.present.update(self.engine.chain_ids())
        self._fetch(base, self.present, stop)

    def load(self, image: Image, base: BaseImage, reference: str) -> str:
        """Load an image whose base was brought; what the engine calls it then is returned.

        :raises ImageError: when the engine refuses it
        """
        try:
            self._send(image, reference, self.present)
        except MissingLayerError:
            if not self.present:
                raise
        if found := known_id(image, self.engine):
            return found
        self.report.detail("the engine lacks a layer that it seemed to have: sending all of them")
        self._fetch(base, ())
        self._send(image, reference, ())
        if found := known_id(image, self.engine):
            return found
        raise ImageError(
            f"the engine loaded {reference}, but has no image {image.id}",
            "it may rewrite images on load; please report it, with what `docker version` prints",
        )

    def _fetch(self, base: BaseImage, present: Collection[str], stop: threading.Event | None = None) -> None:
        chain = chain_ids([layer.diff_id for layer in base.layers])
        wanted = [layer for layer, c in zip(base.layers, chain, strict=True) if c not in present]
        fetch_layers(base, wanted, self.settings, self.report, stop)

    def _send(self, image: Image, reference: str, present: Collection[str]) -> None:
        missing = missing_layers(image, present)
        size, reused = sent_size(missing), len(image.layers) - len(missing)
        self.report.say(f"layers: {len(missing)} new ({_megabytes(size)} to load), {reused} reused")
        with ExitStack() as stack:
            task = stack.enter_context(self.report.task("loading into the engine", size, "bytes"))

            def counted() -> Iterator[bytes]:
                for piece in image_archive(image, reference, present):
                    yield piece
                    task.advance(len(piece))
                stack.close()  # the engine has it all, and only now begins to unpack
                stack.enter_context(self.report.task("unpacking in the engine"))

            self.engine.load(counted())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"
