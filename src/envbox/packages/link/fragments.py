"""Fragments: each package's tar entries as one zstd frame, made once ever.

A fragment has no directory entries and no end marker, so any selection of fragments is a layer. Its key is a
hash over everything its bytes are a function of; beside it lies a small JSON with what is in it, written
last, so a fragment is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import stat
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from envbox.cache.memo import sealed, sealed_content
from envbox.errors import PackageError, ToolError
from envbox.files import read_file, remove, whole_file, write_whole
from envbox.lockfile import Lock, LockedPackage
from envbox.oci import canonical_json
from envbox.packages.link.entries import PLAIN, EntryWriter
from envbox.packages.link.frames import CODEC, FrameWriter, check_codec
from envbox.packages.link.packages import FORMAT, Installation, LinkTask, Maker, link_lock, linked_name
from envbox.packages.link.target import GENERATED_TIME
from envbox.report import Reporter
from envbox.settings import Settings

_NICE = 5
"""An engine takes layers, one after the other on one core, while others are linked on all: it goes first."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """The entries of one package.

    :param name: the package's; a wheel's is `pip:NAME`
    :param path: of the zstd frame
    :param archive_size: of what it was linked from, in bytes; 0 when it was generated
    :param raw_size: uncompressed, in bytes
    :param size: of the frame, in bytes
    :param sha256: of the frame, in hex
    :param paths: of files and links, relative to `/`, sorted; folders that are entries of their own included
    :param directories: that must stand in the layer's directory fragment, relative to `/`, sorted
    :param timestamp: of the package, in seconds; 0 when it says none
    """

    key: str
    name: str
    path: Path
    archive_size: int
    raw_size: int
    size: int
    sha256: str
    paths: tuple[str, ...]
    directories: tuple[str, ...]
    timestamp: int


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A generated file; as an empty folder's entry only the mode counts."""

    data: bytes = b""
    mode: int = PLAIN


@dataclass(frozen=True, slots=True)
class LinkEntry:
    """A generated symlink."""

    target: str


def link_packages(
    lock: Lock, platform: str, archives: Mapping[str, Path], settings: Settings, report: Reporter
) -> tuple[Fragment, ...]:
    """Have a fragment of every package of one platform, conflicts settled.

    :param archives: sha256 → verified download, from `fetch_archives`
    :raises PackageError: when an archive is damaged, lies, or could do harm
    :raises LockfileError: when byte-code cannot be compiled with what the lock has
    """
    return link_lock(Installation(lock, platform, archives), settings, report, fragment_maker())


def fragment_maker(seen: Callable[[Fragment], None] = lambda fragment: None) -> Maker[Fragment]:
    """Return how packages are made into fragments.

    :param seen: told of each one at once; once more when a conflict made it give up paths
    """
    check_codec()
    return Maker(_read, _make, "linking packages", seen=seen, nice=_NICE)


def archive_sizes(packages: Iterable[LockedPackage], archives: Mapping[str, Path]) -> dict[str, int]:
    """Return what the fragments of packages will say as `archive_size`, by their names."""
    return {linked_name(package): archives[package.sha256].stat().st_size for package in packages}


def files_fragment(name: str, files: Mapping[str, FileEntry | LinkEntry], settings: Settings) -> Fragment:
    """Have a fragment of generated files.

    :param files: path relative to `/` → what is there; a path that ends in `/` is a folder with a mode of its
        own
    """
    check_codec()
    listed = [
        [path, entry.target] if isinstance(entry, LinkEntry) else [path, entry.mode, _sha256(entry.data)]
        for path, entry in sorted(files.items())
    ]
    key = _sha256(canonical_json({"format": FORMAT, "codec": CODEC, "name": name, "files": listed}))
    folder = settings.cache_dir / "fragments"
    if found := read_fragment(folder, key):
        return found
    with whole_file(folder / key) as file:
        frame = FrameWriter(file)
        out = EntryWriter(frame.write)
        for path, entry in sorted(files.items()):
            if isinstance(entry, LinkEntry):
                out.symlink(path, entry.target, GENERATED_TIME)
            elif path.endswith("/"):
                out.own_directory(path.rstrip("/"), entry.mode)
            else:
                out.file(path, entry.data, entry.mode, GENERATED_TIME)
        frame.close()
    return _remember(folder, key, name, (frame, out), {"archive_size": 0, "timestamp": 0})


def read_fragment(folder: Path, key: str) -> Fragment | None:
    """Return a fragment from the cache; None when it is not there, or not as it was written."""
    try:
        known = json.loads(sealed_content(read_file(folder / f"{key}.json")))
        found = (folder / key).lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_size != known["size"]:
            return None
        return Fragment(
            key=key,
            name=known["name"],
            path=folder / key,
            archive_size=known["archive_size"],
            raw_size=known["raw_size"],
            size=known["size"],
            sha256=known["sha256"],
            paths=tuple(known["paths"]),
            directories=tuple(known["directories"]),
            timestamp=known["timestamp"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def damaged(fragment: Fragment) -> ToolError:
    """Remove a fragment that turned out not to be what was written, and say so."""
    forget_fragment(fragment)
    return ToolError(
        f"the fragment of {fragment.name} in the cache is damaged ({fragment.path})",
        "it was removed; run the command again",
    )


def forget_fragment(fragment: Fragment) -> None:
    """Remove a fragment that proved damaged, so that it is made again."""
    for path in (fragment.path.with_name(f"{fragment.key}.json"), fragment.path):
        with suppress(OSError):  # what cannot be removed is made anew all the same, or said then
            remove(path)


def _read(cache_dir: Path, key: str) -> Fragment | None:
    return read_fragment(cache_dir / "fragments", key)


def _make(task: LinkTask) -> Fragment:
    folder = task.cache_dir / "fragments"
    with whole_file(folder / task.key) as file:
        frame = FrameWriter(file)
        out = EntryWriter(frame.write)
        timestamp = task.link(out)
        frame.close()
    said = {"archive_size": task.source.archive.stat().st_size, "timestamp": timestamp}
    return _remember(folder, task.key, task.name, (frame, out), said)


def _remember(
    folder: Path, key: str, name: str, made: tuple[FrameWriter, EntryWriter], said: Mapping[str, int]
) -> Fragment:
    frame, out = made
    known = {
        "name": name,
        "raw_size": frame.raw_size,
        "size": frame.size,
        "sha256": frame.sha256,
        "paths": sorted(out.paths),
        "directories": sorted(out.directories - out.paths),
        **said,
    }
    write_whole(folder / f"{key}.json", sealed(canonical_json(known)))
    fragment = read_fragment(folder, key)
    if fragment is None:
        raise PackageError(f"the fragment of {name} was changed in the cache while it was written")
    return fragment


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
