"""An image as a value: its config, its manifest, and the layers that both speak of.

The config's digest is the image's ID, and a pure function of the lock, the base's digest and IMAGE_FORMAT: no
clock, no host and no compressor is in it. (The compressor is in the manifest, which names the blobs; an
annotation says which one it was.) https://github.com/opencontainers/image-spec/blob/main/config.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from envbox.image_paths import FORMAT_LABEL, LOCK_LABEL, WORK
from envbox.lockfile import Lock, LockedPackage
from envbox.oci import CONFIG_TYPE, Descriptor, Digest, Manifest, canonical_json, digest_of
from envbox.packages.activation import ENTRYPOINT, Activation, image_env
from envbox.packages.link.frames import CODEC
from envbox.platforms import image_platform
from envbox.registry.base import BaseImage, BaseLayer

if TYPE_CHECKING:
    from envbox.images.layers import Layer

IMAGE_FORMAT = "2"
"""Raised, with a line in the CHANGELOG, whenever the same lock and base give another image than before."""
CODEC_ANNOTATION = "io.envbox.codec"
_OCI_LABELS = "org.opencontainers.image."
_KEPT = ("User", "StopSignal")  # the rest of the base's config is about what the base itself runs


@dataclass(frozen=True, slots=True)
class Parts:
    """What an image is assembled from.

    :param layers: ours, from the bottom up
    :param created: seconds since 1970; the newest package's time, since nothing else is in the lock
    """

    base: BaseImage
    layers: tuple[Layer, ...]
    activation: Activation
    created: int


@dataclass(frozen=True, slots=True)
class Image:
    """An image for one platform.

    :param config: its bytes
    :param manifest: its bytes, as a registry has them: the base's blobs as they are, ours as zstd
    :param layers: the base's, then ours, from the bottom up
    """

    config: bytes
    manifest: bytes
    layers: tuple[BaseLayer | Layer, ...]

    @property
    def id(self) -> Digest:
        """The config's digest: the identity that is promised."""
        return digest_of(self.config)

    @property
    def digest(self) -> Digest:
        """The manifest's digest: what a registry calls it, reproducible for one codec."""
        return digest_of(self.manifest)

    @property
    def diff_ids(self) -> tuple[Digest, ...]:
        """Of its layers, from the bottom up."""
        return tuple(layer.diff_id for layer in self.layers)

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        labels: dict[str, str] = json.loads(self.config)["config"]["Labels"]
        return labels


def assemble(lock: Lock, parts: Parts) -> Image:
    """Put base and layers together. Pure."""
    config = canonical_json(image_config(lock, parts))
    layers: tuple[BaseLayer | Layer, ...] = (*parts.base.layers, *parts.layers)
    manifest = Manifest(
        Descriptor(CONFIG_TYPE, digest_of(config), len(config)),
        tuple(layer.blob for layer in layers),
        {CODEC_ANNOTATION: CODEC},
    )
    return Image(config, manifest.dumps(), layers)


def image_config(lock: Lock, parts: Parts) -> dict[str, Any]:
    """Return the image's config as the specification has it."""
    created = timestamp_text(parts.created)
    packages = {
        ("pip:" if p.manager == "pip" else "") + p.name: p for p in lock.for_platform(parts.base.platform)
    }
    own = {
        "Env": list(image_env(parts.activation, _base_config(parts.base).get("Env") or [])),
        "Labels": image_labels(lock, parts.base, parts.created),
    }
    history = [_history(layer, packages, created) for layer in parts.layers]
    return _config(parts.base, parts.layers, created, own, history)


def assemble_bare(base: BaseImage, layer: Layer) -> Image:
    """Return the base as an image that a prefix can be mounted into: the same for every environment. Pure.

    Entrypoint and working directory are an environment's; what differs between environments is not in it.

    :param layer: of a home and a place to work
    """
    said = _base_config(base)
    created = base.config.get("created") or timestamp_text(0)
    own = {"Env": said.get("Env") or [], "Labels": _kept_labels(base)}
    history = [{"created": created, "created_by": "envbox: a home"}]
    config = canonical_json(_config(base, (layer,), created, own, history))
    return _unpublished(config, (*base.layers, layer))


def assemble_part(base: BaseImage, layers: Sequence[Layer]) -> Image:
    """Return the lower part of an image, to be loaded before there is the rest. Nothing is run from it.
    Pure.
    """
    created = timestamp_text(0)
    history = [{"created": created, "created_by": "envbox: a part of an image"} for _ in layers]
    config = canonical_json(_config(base, layers, created, {}, history))
    return _unpublished(config, (*base.layers, *layers))


def _unpublished(config: bytes, layers: tuple[BaseLayer | Layer, ...]) -> Image:
    manifest = Manifest(
        Descriptor(CONFIG_TYPE, digest_of(config), len(config)), tuple(layer.blob for layer in layers)
    )
    return Image(config, manifest.dumps(), layers)


def _config(
    base: BaseImage,
    layers: Sequence[Layer],
    created: str,
    own: Mapping[str, Any],
    history: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    system, architecture = image_platform(base.platform)
    said = _base_config(base)
    config: dict[str, Any] = {key: said[key] for key in _KEPT if said.get(key)}
    config |= {"Entrypoint": [ENTRYPOINT], "WorkingDir": WORK, **own}
    return {
        **({"variant": base.config["variant"]} if base.config.get("variant") else {}),
        "architecture": architecture,
        "os": system,
        "created": created,
        "config": config,
        "history": [*_base_history(base.config, base), *history],
        "rootfs": {
            "type": "layers",
            "diff_ids": [*(b.diff_id for b in base.layers), *(ours.diff_id for ours in layers)],
        },
    }


def _base_config(base: BaseImage) -> Mapping[str, Any]:
    return base.config.get("config") or {}


def timestamp_text(seconds: int) -> str:
    """Return seconds since 1970 as RFC 3339, in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def image_labels(lock: Lock, base: BaseImage, created: int) -> dict[str, str]:
    """Return the base's labels, but those that describe the base itself, and ours.

    :param created: seconds since 1970
    """
    return _kept_labels(base) | {
        f"{_OCI_LABELS}title": lock.name,
        f"{_OCI_LABELS}created": timestamp_text(created),
        f"{_OCI_LABELS}base.name": str(base.reference),
        f"{_OCI_LABELS}base.digest": base.digest,
        LOCK_LABEL: lock.digest,
        FORMAT_LABEL: IMAGE_FORMAT,
    }


def _kept_labels(base: BaseImage) -> dict[str, str]:
    labels: Mapping[str, str] = _base_config(base).get("Labels") or {}
    return {key: value for key, value in labels.items() if not key.startswith(_OCI_LABELS)}


def _base_history(config: Mapping[str, Any], base: BaseImage) -> Sequence[Mapping[str, Any]]:
    """Return the base's history, if it has an entry for each layer: engines refuse what does not add up."""
    history: Sequence[Mapping[str, Any]] = config.get("history") or []
    if sum(not entry.get("empty_layer") for entry in history) == len(base.layers):
        return history
    return [{"created_by": f"base {base.reference.name}@{base.digest}"} for _ in base.layers]


def _history(layer: Layer, packages: Mapping[str, LockedPackage], created: str) -> dict[str, str]:
    names = [f"{name} {packages[name].version}" if name in packages else name for name in layer.packages]
    return {"created": created, "created_by": f"envbox: {', '.join(names)}"}
