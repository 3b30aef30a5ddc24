"""An image taken apart, for tests that change something in it and put it together again."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from envbox.images.assemble import Image
from envbox.images.saved import read_archive
from envbox.oci import digest_of
from envbox.registry.base import BaseLayer

Members = list[tuple[tarfile.TarInfo, bytes]]


@dataclass
class Loose:
    """An image whose config and layers may be changed.

    :param layers: uncompressed tars, from the bottom up
    """

    config: dict[str, Any]
    layers: list[bytes]

    def change(self, path: str, edit: Callable[[tarfile.TarInfo, bytes], bytes]) -> None:
        """Change the entry at a path: its fields in place, its content by what is returned."""
        number = self.layer_of(path)

        def one(members: Members) -> Members:
            return [
                (info, edit(info, data) if info.name.rstrip("/") == path else data) for info, data in members
            ]

        self.rewrite(number, one)

    def layer_of(self, path: str) -> int:
        """The number of the layer that has a path."""
        for number, data in enumerate(self.layers):
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                if path in (name.rstrip("/") for name in tar.getnames()):
                    return number
        raise AssertionError(f"no layer has {path}")

    def rewrite(self, number: int, edit: Callable[[Members], Members]) -> None:
        """Write a layer anew with other members."""
        with tarfile.open(fileobj=io.BytesIO(self.layers[number])) as tar:
            members = [(info, tar.extractfile(info).read() if info.isreg() else b"") for info in tar]  # type: ignore[union-attr]
        self.layers[number] = tar_of(edit(members))

    def archive(self, reference: str) -> bytes:
        """What `docker load` takes and `docker save` gives, with a config that fits the layers."""
        self.config["rootfs"]["diff_ids"] = [digest_of(layer) for layer in self.layers]
        missing = len(self.layers) - sum(not h.get("empty_layer") for h in self.config["history"])
        self.config["history"] += [{"created_by": "somebody"}] * missing
        config = json.dumps(self.config).encode()
        files = {f"{n}/layer.tar": layer for n, layer in enumerate(self.layers)}
        entry = {"Config": "config.json", "RepoTags": [reference], "Layers": list(files)}
        files |= {"config.json": config, "manifest.json": json.dumps([entry]).encode()}
        return tar_of([(tarfile.TarInfo(name), data) for name, data in files.items()])


def tar_of(members: Members) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            info.size = len(data) if info.isreg() else 0
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def taken_apart(image: Image) -> Loose:
    """An image's config and layers."""
    layers = []
    for layer in image.layers:
        if isinstance(layer, BaseLayer):
            import gzip

            layers.append(gzip.decompress(layer.path.read_bytes()))
        else:
            layers.append(b"".join(layer.open_raw()))
    return Loose(json.loads(image.config), layers)


def saved(archive: bytes, keep: Callable[[str], bool], *, hashed: bool = True) -> Any:
    """Read an archive as if an engine had sent it."""
    pieces = (archive[at : at + 70_000] for at in range(0, len(archive), 70_000))
    return read_archive(pieces, "it", keep, hashed=hashed)
