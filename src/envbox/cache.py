"""The cache folder: what it holds, and how to free it. Everything in it can be made or fetched again.

What is removed is first renamed aside, so that a command running beside this one finds an entry whole or not
at all.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from envbox.errors import SettingsError
from envbox.files import PART, disk_error

KINDS = {
    "packages": "archives as downloaded",
    "fragments": "packages as tar entries",
    "layers": "what is known of layers",
    "blobs": "base images, and others that were pulled",
    "gzip": "layers as --compat stores them",
    "compilers": "the Pythons that byte-compile",
    "builds": "which image belongs to which lockfile",
    "prefixes": "packages unpacked, and linked together to be mounted",
    "sizes": "how large the files of packages are",
}
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
    """What the cache holds, by folder, the largest first."""
    folders = [path for path in _folders(cache_dir) if path.name not in _LIVE]
    found = [
        Holding(path.name, KINDS.get(path.name, "indexes and records"), *_weigh(path)) for path in folders
    ]
    return tuple(sorted(found, key=lambda h: (-h.size, h.kind)))


def free(cache_dir: Path, kinds: tuple[str, ...], in_use: Collection[Path] = ()) -> int:
    """Remove folders of the cache, and give the bytes that this frees.

    :param in_use: folders inside that stay, with all that is in them
    :raises SettingsError: when there is no such folder
    """
    known = {holding.kind: holding for holding in holdings(cache_dir)}
    unknown = sorted(set(kinds) - known.keys() - KINDS.keys())
    if unknown:
        raise SettingsError(f"the cache has no {', '.join(unknown)}", f"it has {', '.join(sorted(known))}")
    before = sum(known[kind].size for kind in kinds if kind in known)
    for kind in kinds:
        path = cache_dir / kind
        kept = [each for each in in_use if each.is_relative_to(path)]
        try:
            for gone in _outside(path, kept):
                aside = Path(tempfile.mkdtemp(prefix=f".{kind}.", suffix=PART, dir=cache_dir))
                gone.rename(aside / gone.name)
                shutil.rmtree(aside)
        except OSError as error:
            raise disk_error(path, error) from error
    return before - sum(_weigh(cache_dir / kind)[1] for kind in kinds)


def _outside(path: Path, kept: Collection[Path]) -> Iterator[Path]:
    """What must go for everything in a folder to go but what is kept."""
    if not path.exists():
        return
    if not kept:
        yield path
    elif path not in kept:
        for child in sorted(path.iterdir()):
            yield from _outside(child, [each for each in kept if each.is_relative_to(child)])


def _folders(cache_dir: Path) -> list[Path]:
    return [path for path in cache_dir.iterdir() if path.is_dir()] if cache_dir.is_dir() else []


def _weigh(folder: Path) -> tuple[int, int]:
    sizes = {s.st_ino: s.st_blocks * 512 for s in (p.lstat() for p in folder.rglob("*") if not p.is_dir())}
    return len(sizes), sum(sizes.values())
