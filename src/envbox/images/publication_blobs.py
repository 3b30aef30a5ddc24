"""An image's layers as blobs for others: the base's as its registry has them, ours as zstd or gzip.

Nothing is compressed or fetched for a blob that nobody opens: its digest is known before.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from envbox.errors import ToolError
from envbox.files import open_file, remove
from envbox.images.assemble import Image
from envbox.images.gzip_layers import gzip_layer, open_gzip, verified
from envbox.images.layers import Layer
from envbox.oci import LAYER_ZSTD_TYPE
from envbox.packages.link.tar import CHUNK
from envbox.registry.base import BaseImage, BaseLayer, fetch_layers
from envbox.registry.reference import endpoint
from envbox.registry.upload import Blob
from envbox.report import Reporter
from envbox.settings import Settings


def zstd_blobs(image: Image, base: BaseImage, settings: Settings, report: Reporter) -> list[Blob]:
    """Return the layers as the image's own manifest has them."""
    return [
        _base_blob(layer, base, settings, report)
        if isinstance(layer, BaseLayer)
        else Blob(layer.blob, layer.open_blob)
        for layer in image.layers
    ]


def gzip_blobs(image: Image, base: BaseImage, settings: Settings, report: Reporter) -> list[Blob]:
    """Return the layers without zstd; compresses those that were not compressed before.

    :raises ToolError: when the disk is full
    """

    def work(layer: BaseLayer | Layer) -> Blob:
        if isinstance(layer, BaseLayer) and layer.blob.media_type != LAYER_ZSTD_TYPE:
            return _base_blob(layer, base, settings, report)
        open_raw = (
            partial(_raw, layer, base, settings, report) if isinstance(layer, BaseLayer) else layer.open_raw
        )
        blob = gzip_layer(layer.diff_id, open_raw, settings)
        task.advance()
        return Blob(blob, partial(open_gzip, layer.diff_id, open_raw, settings))

    with (
        report.task("compressing layers", len(image.layers)) as task,
        ThreadPoolExecutor(settings.jobs, "gzip") as pool,
    ):
        try:
            return list(pool.map(work, image.layers))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _base_blob(layer: BaseLayer, base: BaseImage, settings: Settings, report: Reporter) -> Blob:
    return Blob(
        layer.blob,
        partial(_fetched, layer, base, settings, report),
        endpoint(base.reference, settings.mirrors),
    )


def _fetched(layer: BaseLayer, base: BaseImage, settings: Settings, report: Reporter) -> Iterator[bytes]:
    fetch_layers(base, [layer], settings, report)
    yield from verified(layer.path, layer.blob.digest)


def _raw(layer: BaseLayer, base: BaseImage, settings: Settings, report: Reporter) -> Iterator[bytes]:
    """Yield a zstd layer of the base, unpacked."""
    import zstandard

    fetch_layers(base, [layer], settings, report)
    with open_file(layer.path) as file:
        reader = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        try:
            while piece := reader.read(CHUNK):
                yield piece
        except zstandard.ZstdError as error:
            remove(layer.path)
            raise ToolError(
                f"layer {layer.blob.digest} of the base is damaged in the cache: {error}",
                "it was removed; run the command again",
            ) from error
