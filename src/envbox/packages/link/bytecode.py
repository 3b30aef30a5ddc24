"""Byte-code for the image: compiled at build by the locked Python, bit for bit the same on every machine.

The image's prefix is read-only to its users, so what has no `.pyc` would be compiled at each start again
(measured: importing numpy, basemap and IPython 2.0 s instead of 0.6 s). One policy for every lock: each `.py`
under the Python's library folder for which its package ships no `.pyc` gets one, the standard library
included and tests excluded; what does not compile (templates, samples of wrong syntax) is left without, as
conda does.

Bytes that do not vary: unchecked hash-based files (PEP 552), so no times; PYTHONHASHSEED=0; and, since
`marshal` flags references by what else the process has alive (CPython #129724), one fresh process a package
that compiles its files in the archive's order. The compiler is the very X.Y.Z of the lock as built for the
machine that envbox runs on, installed from the lock (`compiler`); byte-code does not depend on the
architecture.

A lockfile's Python can be any program, so it runs confined (`packages/confine`), what it answers must have
the form of what was asked, and is kept for the very packages that it is made of alone.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from envbox.errors import ToolError
from envbox.files import read_file, write_whole
from envbox.oci import canonical_json
from envbox.packages.confine.converse import Program, Request
from envbox.packages.confine.roads import Road, run_program

POLICY = "unchecked-hash-1"
"""Names how byte-code is made and for which files; part of every fragment's key."""

STORE = "bytecode"
_DIGEST = hashlib.sha256().digest_size

_LENGTHS = struct.Struct("<IQ")
_RESULT = struct.Struct("<q")
_SCRIPT = """\
import sys
sys.path[:] = [p for p in sys.path if p]
import importlib.util, marshal, struct
read, write = sys.stdin.buffer.read, sys.stdout.buffer.write
results = []
while True:
    lengths = read(12)
    if not lengths:
        break
    n, size = struct.unpack("<IQ", lengths)
    path, source = read(n).decode(), read(size)
    try:
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
        data = marshal.dumps(code)
    except Exception:
        results.append(None)
        continue
    head = importlib.util.MAGIC_NUMBER + b"\\1\\0\\0\\0" + importlib.util.source_hash(source)
    results.append(head + data)
    del code, data, source
for result in results:
    write(struct.pack("<q", -1 if result is None else len(result)))
    write(result or b"")
"""
# -S: no site-packages, no .pth files; -s -P: nothing of the user's or of the working directory. Not -I or -E,
# which would ignore PYTHONHASHSEED; the environment holds nothing else anyway.
_FLAGS = ("-S", "-s", "-W", "ignore")
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}

# What a program may use for a request: far more than any honest one was seen to need. Byte-code has some
# times the size of its source; compiling takes about a second a MB, and a hundred bytes of memory a byte.
_ANSWER, _ANSWER_EACH = 16 << 20, 16  # bytes, and for each byte of the request
_SECONDS, _BYTES_A_SECOND = 120, 50_000
_MEMORY, _MEMORY_EACH = 2 << 30, 64

UNCHECKED = b"\1\0\0\0"
_HEAD = 16  # bytes before the code: magic number, flags, hash of the source
_CODE = ord("c")  # marshal's TYPE_CODE, which may have FLAG_REF
_REF = 0x80


@dataclass(frozen=True, slots=True)
class Compiler:
    """An installed Python that compiles.

    :param version: X.Y.Z
    :param road: how it is confined
    :param closure: a digest of all the packages that it is made of
    :param magic: the magic number of its byte-code, in hex; "" when it is not known yet
    :param is_hash_known: whether it hashes sources as we do
    :param store: a folder for what was compiled, so that the same sources are compiled once ever
    """

    program: Program
    version: str
    road: Road
    closure: str = ""
    magic: str = ""
    is_hash_known: bool = False
    store: Path | None = None

    def compile_sources(self, sources: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
        """Compile files in a process of their own, in their order.

        :param sources: (path in the image, source)
        :returns: what the `.pyc` files hold; None for what does not compile
        :raises ToolError: when the Python dies, oversteps its bounds, or answers something else
        """
        request = b"".join(_request(path, source) for path, source in sources)
        if not self.store:
            return self._compiled(request, sources)[1]
        key = hashlib.sha256(canonical_json([POLICY, self.version, self.closure]) + request).hexdigest()
        found = _read_stored(self.store / key)
        if found is not None:
            return self._checked(found, sources)
        answer, results = self._compiled(request, sources)
        write_whole(self.store / key, _to_store(answer))
        return results

    def _compiled(
        self, request: bytes, sources: Sequence[tuple[str, bytes]]
    ) -> tuple[bytes, list[bytes | None]]:
        answer = self.run(_SCRIPT, request)
        return answer, self._checked(answer, sources)

    def run(self, script: str, data: bytes) -> bytes:
        """Have it run a script of ours, and return its answer.

        :raises ToolError: when it dies or oversteps its bounds
        """
        asked = Request(
            (*_FLAGS, "-c", script),
            _ENVIRONMENT,
            data,
            answer=_ANSWER + _ANSWER_EACH * len(data),
            seconds=_SECONDS + len(data) // _BYTES_A_SECOND,
            memory=_MEMORY + _MEMORY_EACH * len(data),
        )
        done = run_program(self.road, self.program, asked)
        if done.status:
            how = f"signal {-done.status}" if done.status < 0 else f"exit status {done.status}"
            raise ToolError(
                f"{self.program.who} failed with {how}: {done.complaint or 'it said nothing'}",
                "is it made for this machine's C library? to have it installed again: envbox clean compilers",
            )
        return done.answer

    def _checked(self, answer: bytes, sources: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
        """Take an answer apart; each result must be byte-code, made for its source."""
        results: list[bytes | None] = []
        at = 0
        for path, source in sources:
            size = _RESULT.unpack_from(answer, at)[0] if at + _RESULT.size <= len(answer) else -2
            at += _RESULT.size
            result = answer[at : at + size] if size >= 0 else None
            if size < -1 or (result is not None and not self._is_for(source, result, size)):
                raise self._dishonest(f"no byte-code of {path}")
            results.append(result)
            at += max(size, 0)
        if at != len(answer):
            raise self._dishonest("more than it was asked")
        return results

    def _is_for(self, source: bytes, result: bytes, size: int) -> bool:
        if len(result) != size or size <= _HEAD or result[4:8] != UNCHECKED or result[_HEAD] & ~_REF != _CODE:
            return False
        if self.magic and result[:4].hex() != self.magic:
            return False
        return not self.is_hash_known or result[8:_HEAD] == hash_of(result[:4], source)

    def _dishonest(self, what: str) -> ToolError:
        return ToolError(
            f"{self.program.who} answered {what}: nothing of it was kept",
            "no honest Python does that: do not use this lockfile, and ask whoever wrote it",
        )


def hash_of(magic: bytes, source: bytes) -> bytes:
    """Hash a source as this Python does; CPython does it the same way since 3.11 (PEP 552)."""
    import _imp

    return _imp.source_hash(int.from_bytes(magic, "little"), source)


def _request(path: str, source: bytes) -> bytes:
    name = path.encode()
    return _LENGTHS.pack(len(name), len(source)) + name + source


def _read_stored(path: Path) -> bytes | None:
    """Return what was stored; None when there is nothing, or it is no longer what was written."""
    import zstandard

    try:
        stored = read_file(path)
        found = zstandard.ZstdDecompressor().decompress(stored[_DIGEST:])
    except (OSError, zstandard.ZstdError):
        return None
    return found if hashlib.sha256(found).digest() == stored[:_DIGEST] else None


def _to_store(answer: bytes) -> bytes:
    import zstandard

    return hashlib.sha256(answer).digest() + zstandard.ZstdCompressor(level=1).compress(answer)
