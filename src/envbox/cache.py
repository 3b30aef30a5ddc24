"""The cache folder: what it holds, and how to free it. Everything in it can be made or fetched again.

What is removed is first renamed aside, so that a command running beside this one finds an entry whole or not
at all.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from envbox.errors import SettingsError
from envbox.files import PART, disk_error, is_leftover, remove_folder

KINDS = {
    "packages": "archives as downloaded",
    "fragments": "packages as tar entries",
    "layers": "what is known of layers",
    "blobs": "base images, and others that were pulled",
    "gzip": "layers as --compat stores them",
    "bytecode": "what Python sources were compiled to",
    "compilers": "the Pythons that byte-compile",
    "builds": "which image belongs to which lockfile",
    "leftovers": "what killed runs left",
    "prefixes": "packages unpacked, and linked together to be mounted",
    "jupyter": "lockfiles of the Jupyter for environments that have none",
    "sizes": "how large the files of packages are",
}
LEFTOVERS = "leftovers"
_LIVE = ("servers",)  # of running servers; not ours to remove


@dataclass(frozen=True, slots=True)
class Holding:
    """One folder of the cache.

    :param size: on the disk, in bytes
    """

    kind: str
    meaning: str
    files: int
    size: int


def holdings(cache_dir: Path) -> tuple[Holding, ...]:
    """What the cache holds, by folder, the largest first.

    :raises ToolError: when a folder in it cannot be read
    """
    found = {path.name: _weigh(_content(path)) for path in _folders(cache_dir)}
    if left := _leftovers(cache_dir):
        found[LEFTOVERS] = _weigh(p for path in left for p in (path, *_walk(path)))
    holds = (Holding(kind, KINDS.get(kind, "indexes and records"), *weight) for kind, weight in found.items())
    return tuple(sorted(holds, key=lambda h: (-h.size, h.kind)))


def free(cache_dir: Path, kinds: tuple[str, ...], in_use: Collection[Path] = ()) -> int:
    """Remove folders of the cache, and give the bytes that this frees.

    :param in_use: folders inside that stay, with all that is in them
    :raises SettingsError: when there is no such folder
    :raises ToolError: when a folder cannot be read or removed
    """
    known = {holding.kind: holding for holding in holdings(cache_dir)}
    unknown = sorted(set(kinds) - known.keys() - KINDS.keys())
    if unknown:
        raise SettingsError(f"the cache has no {', '.join(unknown)}", f"it has {', '.join(sorted(known))}")
    before = sum(known[kind].size for kind in kinds if kind in known)
    for kind in kinds:
        tops = _leftovers(cache_dir) if kind == LEFTOVERS else [cache_dir / kind]
        for path in tops:
            for gone in _outside(path, [each for each in in_use if each.is_relative_to(path)]):
                _remove(gone, cache_dir)
    return before - sum(_weigh(_content(cache_dir / kind))[1] for kind in kinds)


def _outside(path: Path, kept: Collection[Path]) -> Iterator[Path]:
    """What must go for everything in a folder to go but what is kept."""
    if not os.path.lexists(path):
        return
    if not kept:
        yield path
    elif path not in kept:
        for child in sorted(path.iterdir()):
            yield from _outside(child, [each for each in kept if each.is_relative_to(child)])


def _remove(path: Path, cache_dir: Path) -> None:
    try:
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name.strip('.')[:100]}.", suffix=PART, dir=cache_dir))
        with suppress(FileNotFoundError):  # another was quicker
            path.rename(aside / path.name)
        while aside.exists():
            with suppress(FileNotFoundError):  # who was making it removes what it had made
                remove_folder(aside)
    except OSError as error:
        raise disk_error(path, error) from error


def _folders(cache_dir: Path) -> list[Path]:
    """The kinds' folders; what begins with a dot is on its way out of the cache."""
    try:
        found = list(cache_dir.iterdir()) if cache_dir.is_dir() else []
        return [p for p in found if p.is_dir() and p.name not in _LIVE and not p.name.startswith(".")]
    except OSError as error:
        raise disk_error(cache_dir, error) from error


def _leftovers(cache_dir: Path) -> list[Path]:
    """What killed runs left, in all folders."""
    return [path for path in _walk(cache_dir, into_leftovers=False) if is_leftover(path)]


def _content(folder: Path) -> Iterator[Path]:
    """What is in a kind's folder and is no leftover."""
    return (path for path in _walk(folder, into_leftovers=False) if not is_leftover(path))


def _weigh(paths: Iterable[Path]) -> tuple[int, int]:
    sizes = {}
    for path in paths:
        with suppress(FileNotFoundError):  # removed beside us
            found = path.lstat()
            if not stat.S_ISDIR(found.st_mode):
                sizes[found.st_ino] = found.st_blocks * 512
    return len(sizes), sum(sizes.values())


def _walk(top: Path, into_leftovers: bool = True) -> Iterator[Path]:
    """All that is in a folder."""

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise disk_error(Path(error.filename), error) from error

    for folder, folders, files in os.walk(top, onerror=fail):
        yield from (Path(folder, name) for name in (*folders, *files))
        folders[:] = [n for n in folders if into_leftovers or not is_leftover(Path(folder, n))]
