"""Sizes as trees: folders for a table, and the packages and folders that a treemap draws. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from envbox.images.size import Item, Part, Sizes

SMALLEST = 4000
"""A treemap has no tile for what is less than this part of the whole: nobody could see it."""

_TYPES = {
    "code": (".so", ".a", ".o", ".dll", ".dylib"),
    "python": (".py", ".pyi", ".pxd", ".pyx"),
    "bytecode": (".pyc",),
    "web": (".js", ".mjs", ".css", ".html", ".map", ".svg", ".woff", ".woff2", ".ts"),
}
"""What a file is, by how its name ends; any other is data."""


@dataclass(slots=True)
class FolderSize:
    """A folder with what is in it, while it is gathered."""

    name: str
    folders: dict[str, FolderSize] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    files: int = 0
    size: int = 0
    packed: float = 0.0

    def add(self, item: Item, path: Sequence[str]) -> None:
        """Put a file in, at a path relative to this folder."""
        self.files, self.size, self.packed = self.files + 1, self.size + item.size, self.packed + item.packed
        if len(path) == 1:
            self.items.append(item)
        else:
            inner = self.folders.setdefault(path[0], FolderSize(f"{self.name}/{path[0]}".lstrip("/")))
            inner.add(item, path[1:])


def folder_of(items: Iterable[Item]) -> FolderSize:
    """Return all files below one root."""
    root = FolderSize("")
    for item in items:
        root.add(item, item.path.split("/"))
    return root


def largest_folders(sizes: Sizes, most: int) -> tuple[Part, ...]:
    """Cut all files into about `most` folders, none in another, so that they add up.

    The largest folder is opened again and again: those of its folders that are a hundredth of all stand alone
    then, the rest of it is `FOLDER/*`.
    """
    whole = folder_of(sizes.items)
    heap = [(0, "", whole)]
    closed: list[FolderSize] = []
    while heap and len(heap) + len(closed) < most:
        _, _, folder = heapq.heappop(heap)
        large = [inner for inner in folder.folders.values() if inner.size * 100 >= whole.size]
        if not large:
            closed.append(folder)
            continue
        for inner in large:
            heapq.heappush(heap, (-inner.size, inner.name, inner))
        rest = FolderSize(f"{folder.name}/*".lstrip("/"))
        rest.files = folder.files - sum(inner.files for inner in large)
        rest.size = folder.size - sum(inner.size for inner in large)
        rest.packed = folder.packed - sum(inner.packed for inner in large)
        closed += [rest] if rest.files else []
    found = [*closed, *(folder for _, _, folder in heap)]
    parts = (Part(f.name or "/", f.files, f.size, round(f.packed)) for f in found)
    return tuple(sorted(parts, key=lambda part: (-part.size, part.name)))


def package_tiles(sizes: Sizes) -> dict[str, Any]:
    """Return the tree that a treemap draws: packages, in them folders, in them files."""
    groups: dict[str, list[Item]] = {}
    for item in sizes.items:
        groups.setdefault(item.package, []).append(item)
    least = _least(sizes)
    tiles = []
    for name, items in groups.items():
        tile = _tile(folder_of(items), least)
        while len(tile.get("c", ())) == 1 and "c" in tile["c"][0]:
            tile = tile["c"][0]
        tiles.append({**tile, "n": f"{name} {sizes.versions.get(name, '')}".strip()})
    return _whole("", tiles, least)


def folder_tiles(sizes: Sizes) -> dict[str, Any]:
    """Return the tree that a treemap draws: folders, in them files."""
    return _tile(folder_of(sizes.items), _least(sizes))


def _least(sizes: Sizes) -> float:
    return sum(item.size for item in sizes.items) / SMALLEST


def _tile(folder: FolderSize, least: float) -> dict[str, Any]:
    """Return a folder's name, size, compressed size and content: n, s, p, c; a file's type and kind: t, k."""
    tiles = [_tile(inner, least) for inner in folder.folders.values()]
    tiles += [
        {
            "n": item.path.rsplit("/", 1)[-1],
            "s": item.size,
            "p": round(item.packed),
            "t": _type(item.path),
            **({"k": item.kind} if item.kind else {}),
        }
        for item in folder.items
    ]
    tile = _whole(folder.name.rsplit("/", 1)[-1], tiles, least)
    while len(tile["c"]) == 1 and "c" in tile["c"][0] and tile["n"]:  # a/b/c with nothing else in a and b
        inner = tile["c"][0]
        tile = {**inner, "n": f"{tile['n']}/{inner['n']}"}
    return tile


def _whole(name: str, tiles: Sequence[dict[str, Any]], least: float) -> dict[str, Any]:
    """Return one tile of many, those that are too small to be seen being one."""
    seen = sorted((tile for tile in tiles if tile["s"] >= least), key=_by_size)
    small = [tile for tile in tiles if tile["s"] < least]
    if small:
        seen += _merged(small)
    return {"n": name, "s": sum(t["s"] for t in tiles), "p": sum(t["p"] for t in tiles), "c": seen}


def _merged(small: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the small ones as a tile for each type and kind."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for leaf in _leaves(small):
        found.setdefault((leaf["t"], leaf.get("k", "")), []).append(leaf)
    return [
        {
            "n": leaves[0]["n"]
            if (many := sum(leaf.get("m", 1) for leaf in leaves)) == 1
            else f"{many} small files",
            "s": sum(leaf["s"] for leaf in leaves),
            "p": sum(leaf["p"] for leaf in leaves),
            "m": many,
            "t": kind[0],
            **({"k": kind[1]} if kind[1] else {}),
        }
        for kind, leaves in sorted(found.items())
    ]


def _leaves(tiles: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    for tile in tiles:
        if "c" in tile:
            yield from _leaves(tile["c"])
        else:
            yield tile


_by_size: Callable[[dict[str, Any]], tuple[int, str]] = lambda tile: (-tile["s"], tile["n"])  # noqa: E731


def _type(path: str) -> str:
    name = path.rsplit("/", 1)[-1]
    if ".so." in name or path.rpartition("/")[0].endswith("/bin"):
        return "code"
    suffix = name[name.rfind(".") :] if "." in name else ""
    return next((kind for kind, endings in _TYPES.items() if suffix in endings), "data")
