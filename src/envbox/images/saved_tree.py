"""Layers laid over each other, as an engine does it: an upper entry hides a lower one, a whiteout removes it.

https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from envbox.errors import ImageError
from envbox.images.saved import Entry, SavedImage
from envbox.packages.link.target import ROOT

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"


@dataclass(frozen=True, slots=True)
class ImageTree:
    """What the layers above the base come to.

    :param entries: by path
    :param kept: content of the files that were kept, by path
    :param removed: what a layer of ours takes away that is not ours
    """

    entries: Mapping[str, Entry]
    kept: Mapping[str, bytes]
    removed: tuple[str, ...]


def tree_of(saved: SavedImage) -> ImageTree:
    """Lay the layers over each other, from the first that has something at the image's prefix.

    :raises ImageError: when none has
    """
    first = next((n for n, layer in enumerate(saved.layers) if any(map(_is_ours, layer.entries))), None)
    if first is None:
        raise ImageError(f"there is nothing at /{ROOT} in {saved.name}: it was not made by envbox")
    ours = saved.layers[first:]
    removed: list[str] = []
    entries = overlay((layer.entries for layer in ours), removed)
    kept = {path: data for layer in ours for path, data in layer.kept.items() if path in entries}
    return ImageTree(entries, kept, tuple(removed))


def overlay(layers: Iterable[Sequence[Entry]], removed: list[str] | None = None) -> dict[str, Entry]:
    """Return what is at each path in the end.

    :param removed: gets the paths of whiteouts that hide nothing of these layers
    """
    entries: dict[str, Entry] = {}
    for layer in layers:
        for whiteout in (entry.path for entry in layer if is_whiteout(entry.path)):
            gone = [path for path in entries if hides(whiteout, path)]
            for path in gone:
                del entries[path]
            if not gone and removed is not None:
                removed.append(_target(whiteout))
        entries |= {entry.path: entry for entry in layer if not is_whiteout(entry.path)}
    return entries


def is_whiteout(path: str) -> bool:
    """Return whether an entry of this name says that something is gone."""
    return posixpath.basename(path).startswith(_WHITEOUT)


def hides(whiteout: str, path: str) -> bool:
    """Return whether a whiteout takes away what is at a path in the layers below."""
    target = _target(whiteout)
    is_opaque = posixpath.basename(whiteout) == _OPAQUE  # the folder stays, and is empty
    return path.startswith(f"{target}/") or (path == target and not is_opaque)


def _target(whiteout: str) -> str:
    folder, name = posixpath.split(whiteout)
    return folder if name == _OPAQUE else posixpath.join(folder, name.removeprefix(_WHITEOUT))


def _is_ours(entry: Entry) -> bool:
    return entry.path.startswith(f"{ROOT}/")
