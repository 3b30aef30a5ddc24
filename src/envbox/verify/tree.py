"""What the layers above the base come to: as an engine would lay them over each other, whiteouts included.

https://github.com/opencontainers/image-spec/blob/main/layer.md#whiteouts
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass

from envbox.errors import ImageError
from envbox.link.target import ROOT
from envbox.verify.saved import Entry, SavedImage

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"


@dataclass(frozen=True, slots=True)
class Tree:
    """What the layers above the base come to.

    :param removed: files of the base that a layer of ours takes away
    """

    entries: Mapping[str, Entry]
    kept: Mapping[str, bytes]
    removed: tuple[str, ...]


def tree_of(saved: SavedImage) -> Tree:
    first = next(
        (n for n, x in enumerate(saved.layers) if any(e.path.startswith(f"{ROOT}/") for e in x.entries)), None
    )
    if first is None:
        raise ImageError(f"there is nothing at /{ROOT} in {saved.name}: it was not made by envbox")
    entries: dict[str, Entry] = {}
    kept: dict[str, bytes] = {}
    removed: list[str] = []
    for layer in saved.layers[first:]:
        for entry in layer.entries:
            folder, _, name = entry.path.rpartition("/")
            if not name.startswith(_WHITEOUT):
                continue
            gone = folder if name == _OPAQUE else posixpath.join(folder, name.removeprefix(_WHITEOUT))
            inner = [path for path in entries if path.startswith(f"{gone}/") or (path == gone != folder)]
            for path in inner:
                del entries[path]
            if not inner:
                removed.append(gone)
        plain = [e for e in layer.entries if not e.path.rpartition("/")[2].startswith(_WHITEOUT)]
        entries |= {entry.path: entry for entry in plain}
        kept |= layer.kept
    return Tree(entries, {path: data for path, data in kept.items() if path in entries}, tuple(removed))
