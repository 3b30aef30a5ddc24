"""Folders: each package's files unpacked once, for prefixes on this machine to hard-link.

The second form of a linked package, with the very entries that its fragment has. A folder is flat: files are
numbered in the order of the package's entries, and a record, written last, says which path each one is, with
mode, time and size. So an archive can name no place outside, no disk's rules about names matter, and few
directories are made, which are what costs most (ext4 takes longer for a directory than for ten links). Where
the package has a fragment already, it is read from there: its byte-code is compiled. A folder may also have
only some files of its own, and all others from another folder of the same package.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from envbox.cache.memo import sealed, sealed_content
from envbox.errors import PackageError
from envbox.files import discard_folder, is_regular, open_file, read_file, whole_folder
from envbox.oci import canonical_json
from envbox.packages.link.entries import EntryWriter
from envbox.packages.link.fragments import Fragment, forget_fragment, read_fragment
from envbox.packages.link.frames import HashingReader, check_codec
from envbox.packages.link.packages import LinkTask
from envbox.packages.link.tar import CHUNK, SYMLINK, TarError, TarReader

FORMAT = 1
PLACE = Path("prefixes") / "packages"
_RECORD = "record.json"


@dataclass(frozen=True, slots=True)
class UnpackedFile:
    """A file of a package.

    :param path: relative to `/`
    :param source: the file in the cache, to be linked
    :param mtime: in whole seconds
    :param size: in bytes
    """

    path: str
    source: str
    mode: int
    mtime: int
    size: int


@dataclass(frozen=True, slots=True)
class UnpackedLink:
    """A symlink of a package.

    :param path: relative to `/`
    """

    path: str
    target: str
    mtime: int


@dataclass(frozen=True)
class Folder:
    """A package, unpacked.

    :param files: in the package's own order
    :param directories: that it needs, relative to `/`, sorted
    :param timestamp: of the package, in seconds; 0 when it says none
    :param whole: the folder that the files are from which this one does not have itself
    """

    key: str
    name: str
    path: Path
    files: tuple[UnpackedFile, ...]
    links: tuple[UnpackedLink, ...]
    directories: tuple[str, ...]
    timestamp: int
    whole: Path | None = None

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """Of files and links, relative to `/`, sorted."""
        return tuple(sorted([*(file.path for file in self.files), *(link.path for link in self.links)]))


def read_folder(cache_dir: Path, key: str) -> Folder | None:
    """Return a folder from the cache, None when it is not there; its files are not looked at."""
    path = cache_dir / PLACE / key
    try:
        known = json.loads(sealed_content(read_file(path / _RECORD)))
        if known["format"] != FORMAT:
            return None
        files = tuple(UnpackedFile(p, f"{path}/{n}", *rest) for n, (p, *rest) in enumerate(known["files"]))
        if whole_key := known.get("whole"):
            whole = read_folder(cache_dir, whole_key)
            return whole and _with_own(whole, key, path, files)
        return Folder(
            key=key,
            name=known["name"],
            path=path,
            files=files,
            links=tuple(UnpackedLink(*link) for link in known["links"]),
            directories=tuple(known["directories"]),
            timestamp=known["timestamp"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _with_own(whole: Folder, key: str, path: Path, files: Iterable[UnpackedFile]) -> Folder:
    own = {file.path: file for file in files}
    mixed = tuple(own.get(file.path, file) for file in whole.files)
    return replace(whole, key=key, path=path, files=mixed, whole=whole.path)


def forget_folder(folder: Folder) -> None:
    """Remove a folder that proved damaged, so that it is made again."""
    discard_folder(folder.path)
    if folder.whole:
        discard_folder(folder.whole)


class VanishedError(PackageError):
    """A package's files in the cache are gone, though they were there a moment ago."""


class FolderWriter(EntryWriter):
    """Puts a package's files into an empty folder; modes and times are theirs, whatever the umask."""

    def __init__(self, folder: Path) -> None:
        super().__init__(lambda data: None)
        self._folder = folder
        self.files: list[tuple[str, int, int, int]] = []
        self.links: list[tuple[str, str, int]] = []

    def stream(self, path: str, size: int, data: Iterable[bytes | memoryview], mode: int, mtime: int) -> None:
        """Write a regular file whose data comes in pieces of `size` bytes altogether."""
        self._add(path)
        handle = os.open(f"{self._folder}/{len(self.files)}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            for piece in data:
                view = memoryview(piece)
                while view:
                    view = view[os.write(handle, view) :]
            os.fchmod(handle, mode)
            os.utime(handle, (mtime, mtime))
        finally:
            os.close(handle)
        self.files.append((path, mode, mtime, size))

    def symlink(self, path: str, target: str, mtime: int) -> None:
        """Remember a symlink: it is made where it is needed."""
        self._add(path)
        self.links.append((path, target, mtime))

    def own_directory(self, path: str, mode: int) -> None:
        """Refuse: packages have none."""
        raise ValueError(f"{path}: a package's folder cannot have a mode of its own")


def make_folder(task: LinkTask) -> Folder:
    """Unpack a package, or its fragment.

    :raises PackageError: when the archive is damaged, lies, or could do harm
    """
    with new_folder(task) as part:
        out = FolderWriter(part)
        fragment = read_fragment(task.cache_dir / "fragments", task.key)
        timestamp = _from_fragment(fragment, out) if fragment else None
        if timestamp is None:
            _empty(part)
            out = FolderWriter(part)
            timestamp = task.link(out)
        known = {
            "name": task.name,
            "files": out.files,
            "links": out.links,
            "directories": sorted(out.directories - out.paths),
            "timestamp": timestamp,
        }
        write_record(part, known)
    return made_folder(task)


def new_folder(task: LinkTask) -> AbstractContextManager[Path]:
    """Return a folder for a package's files. Where another process was faster, its own stays: it may be in
    use.
    """
    stays = partial(read_folder, task.cache_dir, task.key)
    return whole_folder(task.cache_dir / PLACE / task.key, stays)


def write_record(folder: Path, known: Mapping[str, object]) -> None:
    """Write what is in a folder, which makes it one."""
    (folder / _RECORD).write_bytes(sealed(canonical_json({"format": FORMAT, **known})))


def is_there(cache_dir: Path, key: str) -> bool:
    """Return whether there is a folder of that key."""
    return is_regular(cache_dir / PLACE / key / _RECORD)


def made_folder(task: LinkTask) -> Folder:
    """Return the folder that was just made.

    :raises VanishedError: when it is not there
    """
    folder = read_folder(task.cache_dir, task.key)
    if folder is None:
        raise VanishedError(f"the files of {task.name} were changed in the cache while they were written")
    return folder


def _from_fragment(fragment: Fragment, out: FolderWriter) -> int | None:
    """Unpack a fragment; None when it is damaged, which also removes it."""
    import zstandard

    check_codec()
    try:
        with open_file(fragment.path) as file:
            hashed: Any = HashingReader(file)
            stream = zstandard.ZstdDecompressor().stream_reader(hashed, read_size=CHUNK)
            reader = TarReader(io.BufferedReader(stream, CHUNK))
            for member in reader:
                if member.kind == SYMLINK:
                    out.symlink(member.name, member.link, member.mtime)
                else:
                    out.stream(member.name, member.size, reader.chunks(), member.mode, member.mtime)
            while hashed.read(CHUNK):
                pass
    except OSError as error:
        if error.filename is None or Path(error.filename) != fragment.path:  # of what is written
            raise
        forget_fragment(fragment)
        return None
    except (TarError, zstandard.ZstdError):
        forget_fragment(fragment)
        return None
    if hashed.digest.hexdigest() != fragment.sha256 or tuple(sorted(out.paths)) != fragment.paths:
        forget_fragment(fragment)
        return None
    out.directories.update(fragment.directories)
    return fragment.timestamp


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
