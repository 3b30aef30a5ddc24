"""Images for tests: a few real fragments on a base that is two small layers."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from envbox.images.assemble import Image, Parts, assemble
from envbox.images.layers import build_layers
from envbox.lockfile import Lock, LockedPackage
from envbox.oci import LAYER_GZIP_TYPE, Descriptor, digest_of
from envbox.packages.activation import Activation
from envbox.packages.link.fragments import FileEntry, Fragment, files_fragment
from envbox.registry import parse_reference
from envbox.registry.base import BaseImage, BaseLayer
from envbox.report import SILENT
from envbox.settings import Settings
from support.paper_registry import BASE, tar_of

REFERENCE = "envbox/paper:1"
CREATED = 1_700_000_000


def a_package(name: str, version: str = "1.0") -> LockedPackage:
    url = f"https://conda.anaconda.org/conda-forge/linux-64/{name}-{version}-0.conda"
    return LockedPackage("conda", name, version, "0", "linux-64", {}, url, "0" * 64)


def a_lock(*packages: LockedPackage) -> Lock:
    return Lock(
        name="paper",
        platforms=("linux-64", "linux-aarch64"),
        channels=("conda-forge",),
        content_hash={},
        packages=packages,
        base=None,
        digest=digest_of(b"lock"),
    )


def a_fragment(name: str, settings: Settings, data: bytes = b"data") -> Fragment:
    return files_fragment(name, {f"opt/envbox/share/{name}": FileEntry(data)}, settings)


def a_base(
    folder: Path, config: Mapping[str, Any] | None = None, unique: bytes = b"", **top: Any
) -> BaseImage:
    """A base of two layers, the second with a file of its own.

    :param unique: makes another base of it
    """
    layers = []
    folder.mkdir(parents=True, exist_ok=True)
    for files in (BASE | ({"etc/unique": unique} if unique else {}), {"etc/motd": b"hello"}):
        raw = tar_of(files)
        packed = gzip.compress(raw, mtime=0)
        path = folder / digest_of(packed).removeprefix("sha256:")
        path.write_bytes(packed)
        layers.append(
            BaseLayer(Descriptor(LAYER_GZIP_TYPE, digest_of(packed), len(packed)), digest_of(raw), path)
        )
    return on_layers(layers, config, **top)


def on_layers(layers: Sequence[BaseLayer], config: Mapping[str, Any] | None = None, **top: Any) -> BaseImage:
    """A base of these two layers."""
    document = {
        "os": "linux",
        "architecture": "amd64",
        "config": config or {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["bash"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [
            {"created_by": "one"},
            {"empty_layer": True},
            {"created_by": "two"},
        ],
        **top,
    }
    digest = digest_of(json.dumps(document).encode())
    return BaseImage("linux-64", parse_reference("a/b:1"), digest, document, tuple(layers))


def an_image(settings: Settings, *names: str, base: BaseImage | None = None) -> Image:
    """An image of packages that have a file each."""
    fragments = [a_fragment(name, settings) for name in names or ("one", "two")]
    layers = build_layers(fragments, a_fragment("environment", settings), settings, SILENT)
    base = base or a_base(settings.cache_dir / "base")
    lock = a_lock(*(a_package(fragment.name) for fragment in fragments))
    return assemble(lock, Parts(base, layers, Activation("paper"), CREATED))
