"""The cache folder: what it holds, and how to free it. Everything in it can be made or fetched again.

What is removed is first renamed aside, so that a command running beside this one finds an entry whole or not
at all.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from envbox.errors import SettingsError
from envbox.files import PART, disk_error

KINDS = {
    "packages": "archives as downloaded",
    "fragments": "packages as tar entries",
    "layers": "what is known of layers",
    "blobs": "base images",
    "compilers": "the Pythons that byte-compile",
    "builds": "which image belongs to which lockfile",
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


def free(cache_dir: Path, kinds: tuple[str, ...]) -> int:
    """Remove folders of the cache, and give the bytes that this frees.

    :raises SettingsError: when there is no such folder
    """
    known = {holding.kind: holding for holding in holdings(cache_dir)}
    unknown = sorted(set(kinds) - known.keys() - KINDS.keys())
    if unknown:
        raise SettingsError(f"the cache has no {', '.join(unknown)}", f"it has {', '.join(sorted(known))}")
    gone = [known[kind] for kind in kinds if kind in known]
    for holding in gone:
        path = cache_dir / holding.kind
        try:
            aside = Path(tempfile.mkdtemp(prefix=f".{holding.kind}.", suffix=PART, dir=cache_dir))
            path.rename(aside / holding.kind)
            shutil.rmtree(aside)
        except OSError as error:
            raise disk_error(path, error) from error
    return sum(holding.size for holding in gone)


def _folders(cache_dir: Path) -> list[Path]:
    return [path for path in cache_dir.iterdir() if path.is_dir()] if cache_dir.is_dir() else []


def _weigh(folder: Path) -> tuple[int, int]:
    sizes = {s.st_ino: s.st_blocks * 512 for s in (p.lstat() for p in folder.rglob("*") if not p.is_dir())}
    return len(sizes), sum(sizes.values())
