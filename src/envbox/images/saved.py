"""An image as an engine or a registry has it: its config, and what is in its layers, entry by entry.

The difficulty is size, and that `docker save` sends the manifest last. So the stream is walked once and
nothing is kept of a layer but the digest of its tar, one small value an entry, and the few files that are
asked for; which layer is which is settled at the end. Layers come raw or compressed: the first bytes tell.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from sys import getsizeof
from typing import IO, Any, BinaryIO, cast

from envbox.documents import read_json
from envbox.errors import ImageError
from envbox.oci import Digest, digest_of
from envbox.packages.link.frames import FrameWriter
from envbox.packages.link.tar import CHUNK, FILE, SYMLINK, TarError, TarReader
from envbox.platforms import conda_platform
from envbox.registry.base import Bounded

_KEPT_LIMIT = 64 << 20  # of one file that is kept; the largest conda-meta record is about 30 MB
_DOCUMENT_LIMIT = 16 << 20  # configs, manifests
_MOST_ENTRIES = 2_000_000  # of an image; large ones have a tenth of it
_MOST_HELD = 256 << 20
"""Bytes of names, attributes and kept files of an image: 200,000 entries take 40 MB, and a thousand records
of packages 100 MB; but a name of 1 MiB packs to 1 kB, and a file of 64 MiB to 64."""

Keep = Callable[[str], bool]
"""Whether the content of the file at a path (relative to `/`) is wanted."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a layer's tar.

    :param path: relative to `/`, a directory's without a slash at its end
    :param kind: a tar type flag
    :param sha256: of a file's content, in hex; empty for what is no file, and where nobody asked
    """

    path: str
    kind: bytes
    mode: int
    mtime: int
    size: int
    link: str
    owner: tuple[int, int]
    attributes: tuple[tuple[str, bytes], ...]
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class SavedLayer:
    """What is in a layer.

    :param diff_id: computed from the bytes, whatever anybody says of them
    :param entries: in the tar's order
    :param kept: path → content
    :param packed: what its tar takes compressed by our codec, in bytes; 0 where nobody asked
    """

    diff_id: Digest
    entries: tuple[Entry, ...]
    kept: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    packed: int = 0


@dataclass(frozen=True, slots=True)
class SavedImage:
    """An image as it was found.

    :param name: what it was asked for by
    :param config: its bytes
    :param layers: from the bottom up
    :param manifest: its bytes, where it is kept by its manifest
    """

    name: str
    config: bytes
    layers: tuple[SavedLayer, ...]
    manifest: bytes | None = None

    @property
    def id(self) -> Digest:
        """The config's digest."""
        return digest_of(self.config)

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        found = (self.document.get("config") or {}).get("Labels") or {}
        return {str(key): str(value) for key, value in found.items()}

    @property
    def document(self) -> Mapping[str, Any]:
        """The config as a value.

        :raises ImageError: when it is no config
        """
        try:
            document = read_json(self.config)
            if isinstance(document, dict) and isinstance(document.get("config") or {}, dict):
                return document
        except (ValueError, RecursionError):
            pass
        raise ImageError(f"{self.name} is no image: its config is not one")

    @property
    def platform(self) -> str:
        """The conda platform that it is for.

        :raises ImageError: when conda has none for it
        """
        document = self.document
        system, architecture = document.get("os"), str(document.get("architecture"))
        platform = conda_platform(architecture) if system == "linux" else None
        if platform is None:
            raise ImageError(f"{self.name} is for {system}/{architecture}, which no conda platform is")
        return platform

    def kept(self, path: str) -> bytes | None:
        """Return the content of a file that was asked for; the uppermost layer's."""
        return next((layer.kept[path] for layer in reversed(self.layers) if path in layer.kept), None)


class Room:
    """What may still be held in memory of an image, all its layers together."""

    def __init__(self) -> None:
        self._entries, self._bytes = _MOST_ENTRIES, _MOST_HELD

    def add(self, entry: Entry) -> None:
        """Count an entry.

        :raises TarError: when there are too many, or their names are too long
        """
        self._entries -= 1
        if self._entries < 0:
            raise TarError(f"it has more than {_MOST_ENTRIES:,} entries")
        attributes = sum(len(key) + len(value) for key, value in entry.attributes)
        self.take(getsizeof(entry.path) + getsizeof(entry.link) + attributes)  # a letter has up to 4 bytes

    def take(self, size: int) -> None:
        """Count bytes that are to be held.

        :raises TarError: when there are too many
        """
        self._bytes -= size
        if self._bytes < 0:
            raise TarError(f"its names and lists take more than {_MOST_HELD >> 20} MiB")


def read_archive(
    pieces: Iterable[bytes],
    name: str,
    keep: Keep,
    image_id: str = "",
    *,
    hashed: bool = True,
    packed: bool = False,
) -> SavedImage:
    """Read what `docker save` gives for one image, in the old layout or OCI's.

    :param image_id: what the engine calls the image, to find its manifest by
    :param hashed: whether to hash every file; without, entries have no `sha256`
    :param packed: whether to compress every layer, only to know what it takes
    :raises ImageError: when it is damaged, or no such archive
    """
    documents: dict[str, bytes] = {}
    layers: dict[str, SavedLayer] = {}
    links: dict[str, str] = {}
    room = Room()
    try:
        reader = TarReader(cast(BinaryIO, io.BufferedReader(_Pieces(pieces), CHUNK)))
        for member in reader:
            path = member.name.removeprefix("./")
            if member.kind == SYMLINK:
                links[path] = member.link.rpartition("../")[2]  # 20.10: one layer.tar for several layers
            elif member.kind == FILE:
                stream = io.BufferedReader(_Pieces(reader.chunks()), CHUNK)
                head = stream.peek(1)[:1]
                if path.endswith(".tar") or (path.startswith("blobs/") and head not in (b"{", b"[")):
                    layers[path] = _read_layer(stream, keep, room, hashed=hashed, packed=packed)
                elif member.size <= _DOCUMENT_LIMIT:
                    room.take(member.size)
                    documents[path] = stream.read()
        (said,) = read_json(documents["manifest.json"])
        return SavedImage(
            name,
            config=documents[said["Config"]],
            layers=tuple(layers[links.get(path, path)] for path in said["Layers"]),
            manifest=_manifest(documents.get("blobs/" + image_id.replace(":", "/"))),
        )
    except (TarError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ImageError(f"what the engine saves of {name} is damaged: {error!r}") from error


def read_layer(
    pieces: Iterable[bytes],
    keep: Keep,
    *,
    hashed: bool = True,
    size: int | None = None,
    room: Room | None = None,
) -> SavedLayer:
    """Read one layer, raw or compressed.

    :param size: of the pieces in all, where they are of others: what grows as no honest layer does is refused
    :param room: what the layers of one image share
    :raises ImageError: when it is damaged
    """
    stream = io.BufferedReader(_Pieces(pieces), CHUNK)
    return _read_layer(stream, keep, room or Room(), hashed=hashed, size=size)


def _read_layer(
    stream: io.BufferedReader[Any],
    keep: Keep,
    room: Room,
    *,
    hashed: bool,
    packed: bool = False,
    size: int | None = None,
) -> SavedLayer:
    import zlib

    import zstandard

    entries: list[Entry] = []
    kept: dict[str, bytes] = {}
    plain = _decompressed(stream)
    raw = _Hashed(plain if size is None else Bounded(plain, size), packed=packed)
    try:
        buffered = io.BufferedReader(raw, CHUNK)
        reader = TarReader(cast(BinaryIO, buffered))
        for member in reader:
            path = member.name.removeprefix("./").rstrip("/")
            sha256 = ""
            if member.kind == FILE and member.size <= _KEPT_LIMIT and keep(path):
                room.take(member.size)
                kept[path] = bytes(reader.read())
                sha256 = hashlib.sha256(kept[path]).hexdigest()
            elif member.kind == FILE and hashed:
                digest = hashlib.sha256()
                for piece in reader.chunks():
                    digest.update(piece)
                sha256 = digest.hexdigest()
            entries.append(
                Entry(
                    path,
                    member.kind,
                    member.mode,
                    member.mtime,
                    member.size,
                    member.link,
                    member.owner,
                    member.attributes,
                    sha256,
                )
            )
            room.add(entries[-1])
        while buffered.read(CHUNK):
            pass  # what follows the end marker is a part of the digest
    except (ValueError, EOFError, OSError, zlib.error, zstandard.ZstdError) as error:
        raise ImageError(f"a layer is damaged: {error}") from error
    return SavedLayer(Digest(f"sha256:{raw.digest.hexdigest()}"), tuple(entries), kept, raw.packed())


def _decompressed(stream: io.BufferedReader[Any]) -> Any:
    head = stream.peek(4)[:4]
    if head[:2] == b"\x1f\x8b":
        import gzip

        return gzip.GzipFile(fileobj=stream)
    if head == b"\x28\xb5\x2f\xfd":
        import zstandard

        return zstandard.ZstdDecompressor().stream_reader(cast(Any, stream), read_across_frames=True)
    return stream


def _manifest(data: bytes | None) -> bytes | None:
    """Return what an engine that keeps images by manifest has under their ID; others have the config
    there.
    """
    return data if data is not None and "layers" in read_json(data) else None


class _Pieces(io.RawIOBase):
    """A file out of pieces."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces: Iterator[bytes] = iter(pieces)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


class _Hashed(io.RawIOBase):
    """A file that hashes what is read from it, and compresses it when asked, to know what it takes."""

    def __init__(self, file: Any, *, packed: bool = False) -> None:
        self._file = file
        self._frame = FrameWriter(cast(IO[bytes], _Nowhere())) if packed else None
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = int(self._file.readinto(buffer) or 0)
        self.digest.update(memoryview(buffer)[:size])
        if self._frame:
            self._frame.write(memoryview(buffer)[:size])
        return size

    def packed(self) -> int:
        """Say what all of it takes compressed, in bytes; 0 when nobody asked."""
        if self._frame:
            self._frame.close()
        return self._frame.size if self._frame else 0


class _Nowhere(io.RawIOBase):
    """A file that takes everything and keeps nothing."""

    def write(self, data: Any) -> int:
        return len(data)
