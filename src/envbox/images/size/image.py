"""The sizes of an image in the engine: what is in its layers, uppermost first, and whose it is.

Whose a file is stands in conda's records and in wheels' RECORD, which are in the image; so it works for any
image with a conda environment in it. Layers are compressed on the way, since no engine tells what that gives;
within a layer, files share it by their size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from envbox.documents import read_json
from envbox.errors import ImageError
from envbox.images.size import NOBODY, Item, Sizes
from envbox.packages.activation import LOCKFILE
from envbox.packages.link.target import ROOT
from envbox.slim import kind_of

if TYPE_CHECKING:
    from envbox.engine import Engine
    from envbox.images.saved import SavedImage
    from envbox.report import Reporter

OWN = "(environment)"
"""Stands for the package of what belongs to the environment itself: activation, the lockfile, history."""
_RECORD = re.compile(r"(?P<prefix>.+)/conda-meta/[^/]+\.json")
_WHEEL = re.compile(r"(?P<site>.+/site-packages)/(?P<name>[^/]+?)-(?P<version>[^/-]+)\.dist-info/RECORD")
_LOCKFILE = LOCKFILE.lstrip("/")
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


def sizes_of_image(reference: str, engine: Engine, report: Reporter) -> Sizes:
    """Give the sizes of all files of an image in the engine.

    :param reference: the image's name, or its ID
    :raises ImageError: when there is none, or it is damaged
    """
    from envbox.images.saved import read_archive

    image_id = engine.image_id(reference)
    if image_id is None:
        raise ImageError(
            f"there is no image {reference} in the engine", "docker images lists those there are"
        )
    with report.task(f"reading {reference}"):
        pieces = engine.save(reference)
        image = read_archive(pieces, reference, _is_kept, image_id, hashed=False, packed=True)
    return sizes_of_saved(image)


def sizes_of_saved(image: SavedImage) -> Sizes:
    """Give the sizes of all files of an image that was read with its records. Pure."""
    there = _merged(image)
    kept = {path: content for path in there if (content := image.kept(path)) is not None}
    prefix = _prefix(kept)
    mine = {path: content for path, content in sorted(kept.items()) if path.startswith(f"{prefix}/")}
    owners: dict[str, str] = {}
    versions: dict[str, str] = {}
    for path, content in mine.items():
        if _RECORD.fullmatch(path):
            name, version, files = _recorded(path, content)
            versions[name] = version
            owners |= dict.fromkeys((path, *(f"{prefix}/{file}" for file in files)), name)
    wheels = {path: match for path in mine if (match := _WHEEL.fullmatch(path))}
    for path, match in wheels.items():
        if path not in owners:  # else a conda package's
            name = f"pip:{match['name'].lower().replace('_', '-')}"
            versions[name] = match["version"]
            for file in _listed(mine[path], match["site"]):
                owners.setdefault(file, name)
    site_packages = next((m["site"].removeprefix(f"{prefix}/") for m in wheels.values()), None)
    items = tuple(
        Item(path, size, packed, *_about(path, owners, prefix, site_packages))
        for path, (size, packed) in sorted(there.items())
    )
    return Sizes(image.name, image.platform, items, versions, _slim(image), is_by_path=True)


def _is_kept(path: str) -> bool:
    return path == _LOCKFILE or bool(_RECORD.fullmatch(path) or _WHEEL.fullmatch(path))


def _about(
    path: str, owners: Mapping[str, str], prefix: str | None, site_packages: str | None
) -> tuple[str, str | None]:
    inside = prefix is not None and path.startswith(f"{prefix}/")
    owner = owners.get(path) or (OWN if inside else NOBODY)
    return owner, kind_of(path[len(prefix) + 1 :], site_packages) if prefix and inside else None


def _merged(image: SavedImage) -> dict[str, tuple[int, float]]:
    """Return path → size and compressed share of every file, as the container sees them."""
    there: dict[str, tuple[int, float]] = {}
    for layer in image.layers:
        for entry in layer.entries:
            folder, _, name = entry.path.rpartition("/")
            if name == _OPAQUE:
                _remove(there, folder)
            elif name.startswith(_WHITEOUT):
                _remove(there, f"{folder}/{name.removeprefix(_WHITEOUT)}".lstrip("/"))
        total = sum(entry.size + 512 for entry in layer.entries) or 1
        for entry in layer.entries:
            if entry.kind != b"5" and not entry.path.rpartition("/")[2].startswith(_WHITEOUT):
                size = entry.size if entry.kind == b"0" else 0
                there[entry.path] = (size, layer.packed * (entry.size + 512) / total)
    return there


def _remove(there: dict[str, tuple[int, float]], path: str) -> None:
    there.pop(path, None)
    for inner in [other for other in there if other.startswith(f"{path}/")]:
        del there[inner]


def _prefix(kept: Iterable[str]) -> str | None:
    """Return the environment that is looked at: ours, else the one with the most packages."""
    counts: dict[str, int] = {}
    for path in kept:
        if match := _RECORD.fullmatch(path):
            counts[match["prefix"]] = counts.get(match["prefix"], 0) + 1
    return ROOT if ROOT in counts else max(sorted(counts), key=lambda prefix: counts[prefix], default=None)


def _recorded(path: str, content: bytes) -> tuple[str, str, list[str]]:
    try:
        record = read_json(content)
        return str(record["name"]), str(record["version"]), [str(file) for file in record.get("files") or ()]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ImageError(f"/{path} is not a record of conda's") from error


def _listed(content: bytes, folder: str) -> Iterator[str]:
    import csv
    import posixpath

    for row in csv.reader(content.decode("utf-8", "replace").splitlines()):
        if row:
            yield posixpath.normpath(posixpath.join(folder, row[0]))


def _slim(image: SavedImage) -> tuple[str, ...]:
    from envbox.lockfile.conda_lock_v1 import loads

    lockfile = image.kept(_LOCKFILE)
    return loads(lockfile, Path(LOCKFILE)).slim if lockfile else ()
