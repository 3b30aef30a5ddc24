"""The codec of layers: zstd frames that are the same bytes on every machine.

A compressor's output is stable across CPUs but not across its versions, so the version and every parameter
are pinned here and checked against a golden vector before the first use. Concatenated frames are one valid
stream (RFC 8878 §3), which is what makes a layer a mere list of frames.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from typing import IO, Any

from envbox.errors import ToolError

CODEC = "zstd-1.5.7-l3"
"""Names the compressor, its version and its level: a part of every key whose bytes it decides."""
LEVEL = 3  # 334 MB/s a core at ratio 0.22 on real environments; level 9 saves 8 % at a fifth of the speed
CHUNK = 1 << 20
_ZSTD_VERSION = (1, 5, 7)
_GOLDEN = "68b7c6729c1bb2f8f14b710c007cf11270750f7d615c3d538c928c209b4a4b04"


@cache
def check_codec() -> None:
    """Prove that this compressor writes the bytes that the codec's name promises.

    :raises ToolError: when another version of zstd is installed, or it writes other bytes
    """
    import zstandard

    if zstandard.ZSTD_VERSION != _ZSTD_VERSION:
        raise ToolError(
            f"zstd is {'.'.join(map(str, zstandard.ZSTD_VERSION))}, layers are written with {CODEC}",
            "pip install zstandard==0.25.0",
        )
    found = hashlib.sha256(compress(_golden_input())).hexdigest()
    if found != _GOLDEN:
        raise ToolError(
            f"this build of zstd does not write the bytes of {CODEC} (golden vector {found[:16]})",
            "reinstall zstandard from PyPI's wheel: pip install --force-reinstall zstandard==0.25.0",
        )


def _golden_input() -> bytes:
    """Return three blocks of text-like, random-like and empty bytes, made from nothing but arithmetic."""
    text = b"".join(b"line %d of %d\n" % (n, n * n) for n in range(8192))
    noise = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(4096))
    return text + noise + bytes(200_000)


def _compressor() -> Any:
    import zstandard

    return zstandard.ZstdCompressor(level=LEVEL, write_checksum=False, write_content_size=False, threads=0)


def compress(data: bytes) -> bytes:
    """Return one frame of `data`, the same bytes as a FrameWriter makes of it."""
    import io

    file = io.BytesIO()
    writer = FrameWriter(file)
    writer.write(data)
    writer.close()
    return file.getvalue()


class FrameWriter:
    """Write one frame into a file; knows afterwards what it wrote.

    The compressor is always fed in pieces of exactly 1 MiB, so that the frame depends on the bytes alone and
    not on how they were cut into writes.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._frame = _compressor().compressobj()
        self._digest = hashlib.sha256()
        self._pending = bytearray()
        self.raw_size = 0
        self.size = 0

    @property
    def sha256(self) -> str:
        """Of the compressed bytes written so far, in hex."""
        return self._digest.hexdigest()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes to the frame."""
        self.raw_size += len(data)
        self._pending += data
        if len(self._pending) >= CHUNK:
            view = memoryview(self._pending)
            whole = len(view) - len(view) % CHUNK
            for start in range(0, whole, CHUNK):
                self._put(self._frame.compress(view[start : start + CHUNK]))
            rest = bytes(view[whole:])
            view.release()
            self._pending = bytearray(rest)

    def close(self) -> None:
        """End the frame; the file stays open."""
        if self._pending:
            self._put(self._frame.compress(bytes(self._pending)))
            self._pending = bytearray()
        self._put(self._frame.flush())

    def _put(self, data: bytes) -> None:
        if data:
            self._digest.update(data)
            self._file.write(data)
            self.size += len(data)


class HashingReader:
    """A file that knows the sha256 of what was read from it.

    :param total: a digest over more than this file, updated as well
    """

    def __init__(self, file: IO[bytes], total: Any = None) -> None:
        self._file = file
        self._total = total
        self.digest = hashlib.sha256()
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        """Read and count."""
        data = self._file.read(size)
        self.digest.update(data)
        if self._total is not None:
            self._total.update(data)
        self.size += len(data)
        return data


def decompress(file: Any) -> Iterator[bytes]:
    """Yield the raw bytes of the one frame in a file, 1 MiB at a time; a truncated one just ends early.

    :param file: anything with `read(size)`
    """
    import zstandard

    reader = zstandard.ZstdDecompressor().stream_reader(file, read_size=CHUNK)
    while raw := reader.read(CHUNK):
        yield raw
