"""A whole program in one function: it prints the text that lies in it, up to the first NUL.

The channel needs a binary with the prefix in it that can be run to see whether the prefix was patched, for
two machines, and the rig has no compiler. So the program is an ELF header, a dozen instructions and the text.
"""

from __future__ import annotations

import struct

_BASE = 0x400000
_HEADERS = 64 + 56  # ELF header and one program header

# x86-64: length into rdx; write(1, text, rdx); write(1, newline, 1); exit(0). Addresses are relative to rip.
_X86_64 = bytes.fromhex(
    "488d3500000000"  # lea rsi, [rip + text]
    "31d2"  # xor edx, edx
    "803c1600"  # cmp byte [rsi + rdx], 0
    "7405"  # je +5
    "48ffc2"  # inc rdx
    "ebf5"  # jmp -11
    "bf01000000b8010000000f05"  # write(1, rsi, rdx)
    "488d3500000000"  # lea rsi, [rip + newline]
    "ba01000000bf01000000b8010000000f05"  # write(1, rsi, 1)
    "31ffb83c0000000f05"  # exit(0)
)
_AARCH64 = [
    0x10000001,  # adr x1, text
    0xD2800002,  # mov x2, 0
    0x38626823,  # ldrb w3, [x1, x2]
    0x34000063,  # cbz w3, +12
    0x91000442,  # add x2, x2, 1
    0x17FFFFFD,  # b -12
    0xD2800020,  # mov x0, 1
    0xD2800808,  # mov x8, 64 (write)
    0xD4000001,  # svc 0
    0x10000001,  # adr x1, newline
    0xD2800022,  # mov x2, 1
    0xD2800020,  # mov x0, 1
    0xD2800808,  # mov x8, 64
    0xD4000001,  # svc 0
    0xD2800000,  # mov x0, 0
    0xD2800BA8,  # mov x8, 93 (exit)
    0xD4000001,  # svc 0
]


def program(subdir: str, text: bytes) -> bytes:
    """An executable for a conda subdir that prints `text` and a newline."""
    code, machine = {"linux-64": (_x86_64, 62), "linux-aarch64": (_aarch64, 183)}[subdir]
    body = code() + b"\n" + text + b"\0"
    size = _HEADERS + len(body)
    entry = _BASE + _HEADERS
    header = struct.pack(
        "<4sBBBB8xHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, 0, 2, machine, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x10000)
    return header + segment + body


def _x86_64() -> bytes:
    code = bytearray(_X86_64)
    first, second = code.find(b"\x48\x8d\x35"), code.rfind(b"\x48\x8d\x35")
    struct.pack_into("<i", code, first + 3, len(code) + 1 - (first + 7))
    struct.pack_into("<i", code, second + 3, len(code) - (second + 7))
    return bytes(code)


def _aarch64() -> bytes:
    words, size = list(_AARCH64), 4 * len(_AARCH64)
    for index, word in enumerate(words):
        if word == 0x10000001:  # adr: the distance in bytes, its two low bits apart
            distance = size + (1 if index == 0 else 0) - 4 * index
            words[index] = word | (distance & 3) << 29 | (distance >> 2) << 5
    return struct.pack(f"<{len(words)}I", *words)
