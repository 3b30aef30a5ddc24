"""Tar streams: one function that writes a header, one class that reads an archive without holding it.

Headers must be the same bytes everywhere, so nothing of the host is in them: uid and gid 0, no names, no
device numbers. What ustar cannot say (long or non-ASCII names, 8 GiB, times before 1970) goes into a PAX
record before it, and only then, as POSIX.1-2001 has it; GNU's own extensions are read but never written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

BLOCK = 512
END = bytes(2 * BLOCK)
"""What closes an archive; a fragment has none, so that fragments can be joined."""
CHUNK = 1 << 20
_USTAR_LIMIT = 8**11
_EXTENSION_LIMIT = 1 << 20  # a PAX or GNU extension is a few paths; a larger one is an attack
_MOST_DIGITS = len(
    str(_EXTENSION_LIMIT)
)  # of a record's length; Python refuses to read a number of thousands
_ZERO_BLOCK = bytes(BLOCK)
_ATTRIBUTE = "SCHILY.xattr."

FILE, HARD_LINK, SYMLINK, DIRECTORY = b"0", b"1", b"2", b"5"


class TarError(ValueError):
    """An archive that is damaged, or says what no honest archive says."""


def header(
    name: str, kind: bytes = FILE, *, size: int = 0, mode: int = 0o644, mtime: int = 0, link: str = ""
) -> bytes:
    """Write the header of one entry, with the PAX record before it when one is needed.

    :param name: relative, `/`-separated; a directory's ends with `/`
    :param mtime: seconds since 1970
    :param link: a symlink's target
    """
    raw_name, raw_link = name.encode(), link.encode()
    records: dict[str, str] = {}
    if len(raw_name) > 100 or not raw_name.isascii():
        records["path"] = name
    if len(raw_link) > 100 or not raw_link.isascii():
        records["linkpath"] = link
    if size >= _USTAR_LIMIT:
        records["size"] = str(size)
    if not 0 <= mtime < _USTAR_LIMIT:
        records["mtime"] = str(mtime)
    before = b""
    if records:
        body = _pax(records)
        before = _ustar(b"PaxHeaders/x", b"x", (0o644, len(body), 0), b"") + body + padding(len(body))
    numbers = (mode, 0 if "size" in records else size, 0 if "mtime" in records else mtime)
    return before + _ustar(raw_name[:100], kind, numbers, raw_link[:100])


def padding(size: int) -> bytes:
    """Return the zeros between an entry's `size` bytes and the next header."""
    return _ZERO_BLOCK[: -size % BLOCK]


def _ustar(name: bytes, kind: bytes, numbers: tuple[int, int, int], link: bytes) -> bytes:
    mode, size, mtime = numbers
    block = bytearray(BLOCK)
    block[0 : len(name)] = name
    block[100:156] = b"%07o\0%07o\0%07o\0%011o\0%011o\0        " % (mode, 0, 0, size, mtime)
    block[156:157] = kind
    block[157 : 157 + len(link)] = link
    block[257:265] = b"ustar\x0000"
    block[329:345] = b"0000000\0" * 2
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _pax(records: Mapping[str, str]) -> bytes:
    """Write PAX records: each begins with its own length in bytes, the digits of the length included."""
    out = b""
    for key, value in sorted(records.items()):
        body = f" {key}={value}\n".encode()
        length = len(body) + len(str(len(body)))
        if len(str(length)) != len(str(len(body))):
            length = len(body) + len(str(length))
        out += str(length).encode() + body
    return out


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of an archive, its extensions applied.

    :param kind: FILE, HARD_LINK, SYMLINK, DIRECTORY, or the raw type flag of anything else
    :param mode: permission bits with setuid, setgid and sticky
    :param mtime: seconds, floored
    :param owner: uid and gid
    :param attributes: extended attributes (PAX records `SCHILY.xattr.NAME`), sorted by name
    """

    name: str
    kind: bytes
    mode: int
    mtime: int
    size: int
    link: str
    owner: tuple[int, int] = (0, 0)
    attributes: tuple[tuple[str, bytes], ...] = ()


class TarReader:
    """Walk the members of a tar stream; the data of the current one can be read before going on.

    Iteration and reads raise TarError for what is damaged or cannot be told.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._left = 0
        self._pad = 0
        self.position = 0

    def __iter__(self) -> Iterator[Member]:
        extensions: dict[str, str] = {}
        extended = 0
        while True:
            self._skip()
            block = self._stream.read(BLOCK)
            self.position += len(block)
            if len(block) < BLOCK:
                if block or extensions:
                    raise TarError("ends in the middle of an entry")
                return
            if block == _ZERO_BLOCK:
                return
            kind = block[156:157]
            size = _number(block[124:136])
            _check(block)
            if kind in (b"x", b"L", b"K"):
                extended += size  # of all before one entry: they are kept until it comes
                body = self._extension(size, extended)
                if kind == b"x":
                    extensions.update(_parse_pax(body))
                else:
                    extensions["path" if kind == b"L" else "linkpath"] = _text(body)
                continue
            if kind == b"g":
                self._extension(size, size)
                continue
            member = _member(block, kind, size, extensions)
            extensions, extended = {}, 0
            self._left, self._pad = member.size, -member.size % BLOCK
            yield member

    def chunks(self) -> Iterator[bytes]:
        """Yield the rest of the current member's data, at most 1 MiB at a time."""
        while self._left:
            yield self._take(min(self._left, CHUNK))

    def read(self) -> bytes | bytearray:
        """Return the rest of the current member's data, whole; large data is held only once."""
        if self._left <= CHUNK:
            return self._take(self._left)
        data = bytearray(self._left)
        with memoryview(data) as view:
            start = 0
            for chunk in self.chunks():
                view[start : start + len(chunk)] = chunk
                start += len(chunk)
        return data

    def _take(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise TarError("ends in the middle of a file")
        self._left -= size
        self.position += size
        return data

    def _skip(self) -> None:
        for _ in self.chunks():
            pass
        if self._pad:
            if len(self._stream.read(self._pad)) < self._pad:
                raise TarError("ends in the middle of a file")
            self.position += self._pad
            self._pad = 0

    def _extension(self, size: int, total: int) -> bytes:
        if size < 0 or total > _EXTENSION_LIMIT:
            raise TarError(f"has an extension header of {total} bytes")
        self._left, self._pad = size, -size % BLOCK
        body = bytes(self.read())
        self._skip()
        return body


def _check(block: bytes) -> None:
    said = _number(block[148:156])
    if said != sum(block) - sum(block[148:156]) + 8 * 0x20:
        raise TarError("has a header with a wrong checksum")


def _number(field: bytes) -> int:
    """Return an octal number, or GNU's binary form where octal has too few digits."""
    if field[0] & 0x80:
        negative = field[0] == 0xFF
        return int.from_bytes(
            field if negative else bytes([field[0] & 0x7F]) + field[1:], "big", signed=negative
        )
    digits = field.strip(b" \0")
    try:
        return int(digits, 8) if digits else 0
    except ValueError:
        raise TarError(f"has a header with {field!r} for a number") from None


def _text(field: bytes) -> str:
    try:
        return field.split(b"\0", 1)[0].decode()
    except UnicodeDecodeError:
        raise TarError(f"has a name that is not UTF-8: {field.rstrip(bytes(1))!r}") from None


def _parse_pax(body: bytes) -> dict[str, str]:
    found = {}
    while body:
        digits, space, _ = body.partition(b" ")
        is_number = bool(space) and len(digits) <= _MOST_DIGITS and digits.isdigit()
        if not is_number or not len(digits) + 3 < int(digits) <= len(body):
            raise TarError("has a damaged extension header")
        record, body = body[len(digits) + 1 : int(digits)], body[int(digits) :]
        key, equals, value = record.partition(b"=")
        if not equals or not value.endswith(b"\n"):
            raise TarError("has a damaged extension header")
        if key.startswith(b"GNU.sparse"):
            raise TarError("has a sparse file, which is not supported")
        if key in (b"path", b"linkpath", b"size", b"mtime", b"uid", b"gid"):
            found[key.decode()] = _strict_text(value[:-1])
        elif key.startswith(_ATTRIBUTE.encode()):
            found[_text(key)] = value[:-1].decode("latin-1")  # any bytes
    return found


def _strict_text(value: bytes) -> str:
    """Return a PAX value, which has a length and so could hold NUL; `_text` would hide what follows it.

    :raises TarError: when it holds one
    """
    if b"\0" in value:
        raise TarError(f"has a NUL in a name: {value!r}")
    return _text(value)


def _member(block: bytes, kind: bytes, size: int, extensions: Mapping[str, str]) -> Member:
    name = extensions.get("path")
    if name is None:
        name = _text(block[0:100])
        if block[257:263] == b"ustar\0" and block[345]:
            name = f"{_text(block[345:500])}/{name}"
    mtime = _number(block[136:148])
    try:
        if "mtime" in extensions:
            mtime = _floor(extensions["mtime"])
        if "size" in extensions:
            size = int(extensions["size"])
        owner = (
            int(extensions.get("uid") or _number(block[108:116])),
            int(extensions.get("gid") or _number(block[116:124])),
        )
    except ValueError:
        raise TarError(f"has a damaged extension header for {name!r}") from None
    if size < 0:
        raise TarError(f"has a negative size for {name!r}")
    if kind in (b"\0", b"7"):
        kind = DIRECTORY if kind == b"\0" and name.endswith("/") else FILE
    if kind in (SYMLINK, DIRECTORY, HARD_LINK):
        size = 0  # only a name follows, whatever some writers put there (libarchive and GNU tar agree)
    link = extensions.get("linkpath")
    return Member(
        name=name,
        kind=kind,
        mode=_number(block[100:108]) & 0o7777,
        mtime=mtime,
        size=size,
        link=_text(block[157:257]) if link is None else link,
        owner=owner,
        attributes=tuple(
            (key.removeprefix(_ATTRIBUTE), value.encode("latin-1"))
            for key, value in sorted(extensions.items())
            if key.startswith(_ATTRIBUTE)
        ),
    )


def _floor(seconds: str) -> int:
    """Floor a decimal number without going through a float, which would round …9.9999999 up."""
    whole, _, fraction = seconds.partition(".")
    return int(whole) - (seconds.startswith("-") and bool(fraction.strip("0")))
