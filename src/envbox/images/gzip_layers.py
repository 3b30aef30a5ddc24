"""Layers as gzip, for what cannot read zstd: Docker before 23, and old podman, skopeo and apptainer.

Only the stored bytes are others: diff_ids, config and so the image's ID stay. zlib writes the same on every
CPU, but some systems have something else in its place (zlib-ng, hardware), so what this one writes is
compared with a golden vector, and the codec is named by what was found. Compressing is slow, so the outcome
is kept.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from envbox.cache import Memo
from envbox.errors import ToolError
from envbox.files import is_regular, open_file, remove, whole_file
from envbox.oci import LAYER_GZIP_TYPE, Descriptor, Digest, canonical_json
from envbox.packages.link.tar import CHUNK
from envbox.settings import Settings

LEVEL = 5  # 1 % larger than level 6, at 1.6 times its speed
COMMON_CODEC = f"gzip-zlib-l{LEVEL}"
_GOLDEN = "42e8e878ddac33d2118e825bcc7e3eeece51a2cb27ad0d6c13b0e7bdcc633cf2"
_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # deflate, no name, no time, no system: RFC 1952


@cache
def gzip_codec() -> str:
    """Return the name of what compresses here: COMMON_CODEC where it writes what zlib writes elsewhere."""
    text = b"".join(b"line %d of %d\n" % (n, n * n) for n in range(8192))
    noise = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(512))
    found = hashlib.sha256(b"".join(compressed([text + noise + bytes(100_000)]))).hexdigest()
    return COMMON_CODEC if found == _GOLDEN else f"gzip-{zlib.ZLIB_RUNTIME_VERSION}-l{LEVEL}-{found[:8]}"


def gzip_layer(diff_id: Digest, open_raw: Callable[[], Iterable[bytes]], settings: Settings) -> Descriptor:
    """Return what a layer is as gzip; it is compressed when that is not known yet.

    :param open_raw: its uncompressed tar
    """
    return _memo(diff_id, settings).read() or _compress(diff_id, open_raw, settings)


def open_gzip(
    diff_id: Digest, open_raw: Callable[[], Iterable[bytes]], settings: Settings
) -> Iterator[bytes]:
    """Yield the compressed layer, streamed; compressed again when it is no longer in the cache.

    :raises ToolError: when what is in the cache is damaged; it is removed, to be made again
    """
    path = _path(diff_id, settings)
    known = _memo(diff_id, settings).read()
    if known is None or not is_regular(path):
        known = _compress(diff_id, open_raw, settings)
    yield from verified(path, known.digest)


def verified(path: Path, digest: Digest) -> Iterator[bytes]:
    """Yield a file of the cache, streamed; it is removed when it turns out not to be what its digest says.

    :raises ToolError: then, at the end
    """
    found = hashlib.sha256()
    with suppress(OSError), open_file(path) as file:
        while piece := file.read(CHUNK):
            found.update(piece)
            yield piece
    if f"sha256:{found.hexdigest()}" != digest:
        with suppress(OSError):
            remove(path)
        raise ToolError(f"{path} in the cache is damaged", "it was removed; run the command again")


def compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield one gzip member of what is given."""
    deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    check = size = 0
    yield _HEADER
    for piece in pieces:
        check, size = zlib.crc32(piece, check), size + len(piece)
        yield deflate.compress(piece)
    yield deflate.flush() + struct.pack("<II", check, size & 0xFFFFFFFF)


def _compress(diff_id: Digest, open_raw: Callable[[], Iterable[bytes]], settings: Settings) -> Descriptor:
    path, digest, size = _path(diff_id, settings), hashlib.sha256(), 0
    with whole_file(path) as file:
        for piece in compressed(open_raw()):
            digest.update(piece)
            size += len(piece)
            file.write(piece)
    known = Descriptor(LAYER_GZIP_TYPE, Digest(f"sha256:{digest.hexdigest()}"), size)
    _memo(diff_id, settings).write(known)
    return known


def _memo(diff_id: Digest, settings: Settings) -> Memo[Descriptor]:
    return Memo(
        _path(diff_id, settings).with_suffix(".json"),
        lambda known: Descriptor(LAYER_GZIP_TYPE, Digest(known["digest"]), int(known["size"])),
        lambda blob: {"digest": blob.digest, "size": blob.size},
    )


def _path(diff_id: Digest, settings: Settings) -> Path:
    key = hashlib.sha256(canonical_json([gzip_codec(), diff_id])).hexdigest()
    return settings.cache_dir / "gzip" / f"{key}.gz"
