"""gzip with the same bytes from every Python: the standard library's header changes between versions."""

from __future__ import annotations

import struct
import zlib

_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # deflate, no name, no time, no operating system
_LEVEL = 6


def compress(data: bytes) -> bytes:
    """One gzip member."""
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflate.compress(data) + deflate.flush()
    return _HEADER + body + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)
