"""Putting the real prefix where a package has its build-time placeholder, by conda's rules.

As rattler applies them: in text every occurrence is replaced. In a binary the file's length must stay, so
within each NUL-terminated string that holds the placeholder, all occurrences are replaced and the string is
padded with NULs to its old length. A `#!` line longer than Linux reads, or with a blank in the prefix, is
rewritten to find its interpreter another way.
"""

from __future__ import annotations

import re

from envbox.errors import PackageError
from envbox.image_paths import PREFIX

SHEBANG_LIMIT = 127  # what Linux before 5.1 reads of a first line
_SHEBANG = re.compile(r"(#!(?:[ ]*)(/(?:\\ |[^ \n\r\t])*)(.*))", re.DOTALL)
_PYTHON = re.compile(r"python(?:\d+(?:\.\d+)?)?")


def replace_prefix(data: bytes | bytearray, placeholder: str, prefix: str, mode: str) -> bytes | bytearray:
    """Replace the placeholder in one file; a bytearray may be changed in place.

    :param mode: `text` or `binary`
    :raises PackageError: when the prefix does not fit into a binary
    """
    old, new = placeholder.encode(), prefix.encode()
    return _in_binary(data, old, new) if mode == "binary" else _in_text(data, old, new)


def python_shebang(interpreter: str, options: str = "") -> str:
    """Return the first line of a script for a Python; where Linux could not read that, two, by which sh finds
    it.

    :param options: with a blank before
    """
    line = f"#!{interpreter}{options}"
    if len(line.encode(errors="surrogateescape")) <= SHEBANG_LIMIT and " " not in interpreter:
        return line
    return f"#!/bin/sh\n'''exec' \"{interpreter}\"{options} \"$0\" \"$@\" #'''"


def _in_text(data: bytes | bytearray, old: bytes, new: bytes) -> bytes | bytearray:
    end = data.find(b"\n")
    if not data.startswith(b"#!") or end < 0:
        return data.replace(old, new)
    line = bytes(data[:end])
    first = line.replace(old, new)
    if len(first) > SHEBANG_LIMIT or (b" " in new and old in line):
        first = _other_shebang(line, old.decode(), new.decode()) or first
    return first + data[end:].replace(old, new)


def _other_shebang(line: bytes, old: str, new: str) -> bytes | None:
    """Return a first line that Linux can read: by /bin/sh for Python, by env for anything else.

    :param line: with the placeholder, which has no blank in it
    """
    match = _SHEBANG.fullmatch(line.decode(errors="surrogateescape"))
    if not match:
        return None
    path, rest = match[2].replace(old, new), match[3].replace(old, new)
    name = path.rsplit("/", 1)[-1]
    text = python_shebang(path, rest) if _PYTHON.fullmatch(name) else f"#!/usr/bin/env {name}{rest}"
    return text.encode(errors="surrogateescape")


def _in_binary(data: bytes | bytearray, old: bytes, new: bytes) -> bytes | bytearray:
    if len(new) > len(old):
        hint = None if new.decode() == PREFIX else "a cache with a shorter path will do: ENVBOX_CACHE_DIR"
        raise PackageError(f"has a placeholder shorter than {new.decode()}: {old.decode()!r}", hint)
    found = data.find(old)
    if found < 0:
        return data
    patched = data if isinstance(data, bytearray) else bytearray(data)
    while found >= 0:
        end = patched.find(b"\0", found)
        end = len(patched) if end < 0 else end
        patched[found:end] = patched[found:end].replace(old, new).ljust(end - found, b"\0")
        found = patched.find(old, end)
    return patched
