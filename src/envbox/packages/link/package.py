"""A conda package's archive, read once and in order: what it says of itself, then its files.

Two formats: `.conda` (a zip of an info and a package tarball, each zstd) and `.tar.bz2` (one tarball, info in
it). Neither is unpacked. What stands in an archive is foreign: sizes are held against what paths.json says
before a byte is decompressed into memory, names are checked, and every fault is a PackageError that names the
archive.
https://docs.conda.io/projects/conda-build/en/latest/resources/package-spec.html
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shlex
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from envbox.documents import read_json
from envbox.errors import PackageError
from envbox.files import open_file, remove
from envbox.packages.link.tar import CHUNK, DIRECTORY, Member, TarError, TarReader

_INFO_FILES = ("index.json", "paths.json", "link.json", "files", "has_prefix", "no_link")
_INFO_LIMIT = 64 << 20  # of one file in info/; the largest paths.json on conda-forge is about 20 MB
_STREAM_LIMIT = 1 << 30  # of the info tarball, licences and recipe included
_HONEST_SIZE = 1 << 30  # an archive may always unpack to this much,
_HONEST_RATIO = 1000  # beyond it to this many times its own size
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_OLD_PLACEHOLDER = "/opt/anaconda1anaconda2anaconda3"  # conda's, where has_prefix names none


def honest_limit(size: int) -> int:
    """Return how many bytes an archive or wheel of `size` bytes may unpack to."""
    return max(_HONEST_SIZE, _HONEST_RATIO * size)


@dataclass(frozen=True, slots=True)
class PathEntry:
    """One line of paths.json.

    :param kind: `hardlink` (a file), `softlink` or `directory`
    :param mode: `text` or `binary`, how the placeholder is replaced; None without one
    """

    path: str
    kind: str
    sha256: str | None
    size: int | None
    placeholder: str | None = None
    mode: str | None = None
    no_link: bool = False


@dataclass(frozen=True, slots=True)
class PackageInfo:
    """What a package says of itself, from its info folder.

    :param paths: by path in the archive
    :param entry_points: `command = module:function`, of noarch python packages
    """

    index: Mapping[str, Any]
    paths: Mapping[str, PathEntry]
    entry_points: tuple[str, ...] = ()

    @property
    def is_noarch_python(self) -> bool:
        """Whether its site-packages go where the environment's Python has them."""
        return bool(self.index.get("noarch") == "python")


@dataclass
class Archive:
    """An opened archive. `members` may be walked again and again, from the start each time."""

    path: Path
    file: IO[bytes]
    info: PackageInfo = field(init=False)

    def __post_init__(self) -> None:
        size = self.file.seek(0, io.SEEK_END)
        self.limit = honest_limit(size)
        self.info = _read_info(self)
        total = sum(entry.size or 0 for entry in self.info.paths.values())
        if total > self.limit:
            raise PackageError(f"says it unpacks to {total} bytes, from {size}")

    def members(self) -> Iterator[tuple[str, Member, TarReader]]:
        """Yield every member outside the info folder: its checked path, itself, the reader that has its
        data.
        """
        seen = set()
        with _tarball(self.path, self.file, "pkg-") as reader:
            for member in reader:
                name = safe_path(member.name)
                if member.kind == DIRECTORY or name.startswith("info/"):
                    continue
                if name in seen:
                    raise PackageError(f"has {name!r} twice")
                seen.add(name)
                _bound(reader, member, 2 * self.limit)  # what is not listed counts as well
                yield name, member, reader


@contextmanager
def open_package(path: Path, sha256: str) -> Iterator[Archive]:
    """Verify an archive, read its info folder and keep it open.

    :raises PackageError: when the archive is not what the lock says, is damaged, or says what none may say;
        also for faults met while its members are read
    """
    try:
        with open_archive(path, sha256) as file:
            verify(file, path, sha256)
            yield Archive(path, file)
    except PackageError as error:
        if error.message.startswith(path.name):
            raise
        raise PackageError(f"{path.name} {error.message}", error.hint) from error
    except OSError as error:
        raise PackageError(f"{path.name} cannot be read: {error.strerror or error}") from error
    except Exception as error:
        if not _is_damage(error):
            raise
        raise PackageError(f"{path.name} {_words(error)}") from error


def verify(file: BinaryIO | IO[bytes], path: Path, sha256: str) -> None:
    """Hold the open file against the lock's hash; in the cache, a wrong one is deleted, to be fetched anew.

    :raises PackageError: when it is another file than the lock says
    """
    digest = hashlib.sha256()
    while data := file.read(CHUNK):
        digest.update(data)
    file.seek(0)
    if digest.hexdigest() != sha256:
        is_cached = _is_cached(path, sha256)
        if is_cached:
            remove(path)
        raise PackageError(
            f"{path.name} is damaged: it has sha256 {digest.hexdigest()}, the lock says {sha256}",
            "it was deleted from the cache; run the command again to fetch it anew" if is_cached else None,
        )


def open_archive(path: Path, sha256: str) -> IO[bytes]:
    """Open an archive; in the cache, what cannot be opened is deleted, to be fetched anew."""
    if not _is_cached(path, sha256):
        return path.open("rb")
    try:
        return open_file(path)
    except OSError as error:
        remove(path)
        raise PackageError(
            f"{path.name} cannot be read: {error.strerror}",
            "it was deleted from the cache; run the command again to fetch it anew",
        ) from error


def _is_cached(path: Path, sha256: str) -> bool:
    """Return whether it is the cache's own, and not some file that a caller points at."""
    return path.parent.name == sha256


def safe_path(name: str) -> str:
    """Check that a name from an archive stays inside the prefix; returns it without a leading `./`.

    :raises PackageError: when it does not, or has characters that no package needs
    """
    path = name.removeprefix("./").rstrip("/")
    parts = path.split("/")
    if name.startswith("/") or ".." in parts or "" in parts[:-1] or "." in parts[:-1]:
        raise PackageError(f"has a path that leads out of the prefix: {name!r}")
    if _CONTROL.search(name):
        raise PackageError(f"has a path with a control character: {name!r}")
    return path


def _is_damage(error: Exception) -> bool:
    import zlib

    import zstandard

    foreign = (TarError, zipfile.BadZipFile, zstandard.ZstdError, zlib.error, EOFError, json.JSONDecodeError)
    return isinstance(error, (*foreign, UnicodeDecodeError, NotImplementedError))


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, TarError) else f"is damaged: {error}"


@contextmanager
def _tarball(path: Path, file: IO[bytes], part: str) -> Iterator[TarReader]:
    """Open the tarball whose name begins with `part`, or the only one."""
    file.seek(0)
    if path.name.endswith(".conda"):
        import zstandard

        with zipfile.ZipFile(file) as archive:
            names = [n for n in archive.namelist() if n.startswith(part) and n.endswith(".tar.zst")]
            if len(names) != 1:
                raise PackageError(f"has {len(names)} {part}*.tar.zst, not one")
            if (kind := archive.getinfo(names[0]).compress_type) not in (
                zipfile.ZIP_STORED,
                zipfile.ZIP_DEFLATED,
            ):
                raise PackageError(
                    f"has a {part}*.tar.zst that is packed again, in a way ({kind}) that none is"
                )
            with archive.open(names[0]) as stream:
                raw = zstandard.ZstdDecompressor().stream_reader(stream, read_size=CHUNK)
                yield TarReader(io.BufferedReader(cast(Any, raw), CHUNK))
    elif path.name.endswith(".tar.bz2"):
        import bz2

        with bz2.open(file) as stream:
            yield TarReader(cast(BinaryIO, stream))
    else:
        raise PackageError("is neither a .conda nor a .tar.bz2")


def _read_info(archive: Archive) -> PackageInfo:
    found: dict[str, bytes] = {}
    is_split = archive.path.name.endswith(".conda")
    with _tarball(archive.path, archive.file, "info-") as reader:
        for member in reader:
            name = safe_path(member.name)
            _bound(reader, member, _STREAM_LIMIT if is_split else 2 * archive.limit)
            if not name.startswith("info/"):
                # conda-build puts info first: no need to unpack a whole .tar.bz2 only to find no more
                if not is_split and _is_complete(found):
                    break
                continue
            if name.removeprefix("info/") in _INFO_FILES:
                if member.size > _INFO_LIMIT:
                    raise PackageError(f"has {name} of {member.size} bytes")
                found[name.removeprefix("info/")] = bytes(reader.read())
    return _parse_info(found)


def _bound(reader: TarReader, member: Member, limit: int) -> None:
    if reader.position + member.size > limit:
        raise PackageError(f"unpacks to more than {limit} bytes")


def _is_complete(found: Mapping[str, bytes]) -> bool:
    if "index.json" not in found or "paths.json" not in found:
        return False
    return "link.json" in found or _object(found, "index.json").get("noarch") != "python"


def _parse_info(found: Mapping[str, bytes]) -> PackageInfo:
    index = _object(found, "index.json")
    for key in ("name", "version", "build"):
        if not isinstance(index.get(key), str):
            raise PackageError(f"has no {key} in info/index.json")
    points: object = []
    if index.get("noarch") == "python" and "link.json" in found:
        points = (_object(found, "link.json").get("noarch") or {}).get("entry_points") or []
    if not isinstance(points, list) or not all(isinstance(point, str) for point in points):
        raise PackageError("has entry points in info/link.json that are not a list of texts")
    entries = _parse_paths(_object(found, "paths.json")) if "paths.json" in found else _old_paths(found)
    paths: dict[str, PathEntry] = {}
    for entry in entries:
        if entry.path in paths:
            raise PackageError(f"lists {entry.path!r} twice")
        paths[entry.path] = entry
    return PackageInfo(index, paths, tuple(points))


def _object(found: Mapping[str, bytes], name: str) -> dict[str, Any]:
    if name not in found:
        raise PackageError(f"has no info/{name}")
    value = read_json(found[name])
    if not isinstance(value, dict):
        raise PackageError(f"has an info/{name} that is not an object")
    return value


def _parse_paths(document: Mapping[str, Any]) -> Iterator[PathEntry]:
    lines = document.get("paths")
    if not isinstance(lines, list) or document.get("paths_version", 1) != 1:
        raise PackageError("has an info/paths.json of an unknown version")
    for line in lines:
        try:
            entry = PathEntry(
                path=safe_path(line["_path"]),
                kind=line["path_type"],
                sha256=line.get("sha256"),
                size=line.get("size_in_bytes"),
                placeholder=line.get("prefix_placeholder"),
                mode=line.get("file_mode", "text") if line.get("prefix_placeholder") else None,
                no_link=bool(line.get("no_link")),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise PackageError(f"has a line in info/paths.json without {error}") from error
        if entry.kind not in ("hardlink", "softlink", "directory") or entry.mode not in (
            None,
            "text",
            "binary",
        ):
            raise PackageError(f"has {entry.path!r} in info/paths.json as {entry.kind!r}, {entry.mode!r}")
        if not isinstance(entry.size, int | None) or (entry.size or 0) < 0:
            raise PackageError(f"has {entry.path!r} in info/paths.json with a size of {entry.size!r}")
        yield entry


def _old_paths(found: Mapping[str, bytes]) -> Iterator[PathEntry]:
    """Yield the paths of a package from before paths.json (conda-build 2.1, 2017): three plain lists."""
    if "files" not in found:
        raise PackageError("has neither info/paths.json nor info/files")
    no_link = set(found.get("no_link", b"").decode().splitlines())
    prefixes: dict[str, tuple[str, str]] = {}
    for line in found.get("has_prefix", b"").decode().splitlines():
        try:
            words = shlex.split(line)
        except ValueError as error:
            raise PackageError(f"has a line in info/has_prefix that is none: {error}") from error
        if len(words) == 3:
            prefixes[words[2]] = (words[0], words[1])
        elif words:
            prefixes[line.strip()] = (_OLD_PLACEHOLDER, "text")
    for name in filter(None, (line.strip() for line in found["files"].decode().splitlines())):
        placeholder, mode = prefixes.get(name, (None, None))
        yield PathEntry(safe_path(name), "hardlink", None, None, placeholder, mode, name in no_link)
