"""What a wheel says of itself, without fetching all of it where that can be.

Beside the wheel (PEP 658), else out of the wheel's end by range requests, else out of the whole wheel. It is
a function of the wheel's bytes, so it is kept under their hash.
"""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast
from urllib.parse import urlsplit
from urllib.request import url2pathname

from envbox.errors import PackageError, ToolError
from envbox.locks.solve.cached_answers import keep, kept
from envbox.locks.solve.index import ask, read_body, unreachable
from envbox.locks.solve.index_page import File
from envbox.mirrors import public
from envbox.net.transport import TooLongError, Transport
from envbox.settings import Settings

if TYPE_CHECKING:
    import requests

_LARGEST = 4 << 20  # bytes of metadata; a long README has 200 KB
_LARGEST_TABLE = 64 << 20  # bytes of a wheel's table of contents; of 10,000 files it has 1 MB
LARGEST_WHEEL = 16 << 30  # bytes; the largest known have 3 GB
_BLOCK = 1 << 16  # bytes asked for at once; most wheels' metadata and table of contents fit


def metadata_of(file: File, transport: Transport, settings: Settings) -> bytes:
    """Return the METADATA of a wheel.

    :raises ToolError: when it cannot be fetched
    :raises PackageError: when it is not what the index's hash says, or there is none in the wheel
    """
    path = settings.cache_dir / "pypi" / "metadata" / (file.sha256 or "unknown")
    if file.sha256 and (known := kept(path)) is not None:
        return known
    if file.url.startswith("file://"):
        with Path(url2pathname(urlsplit(file.url).path)).open("rb") as opened:
            found = _in_wheel(opened, file)
    else:
        url = settings.mirrors.rewrite(file.url)
        found = (_beside(file, url, transport) if file.has_metadata else None) or _within(
            file, url, transport
        )
    if file.sha256:
        keep(path, found)
    return found


def _beside(file: File, url: str, transport: Transport) -> bytes | None:
    address = f"{url}.metadata"
    with ask(transport, address, {}) as answer:
        if answer.status_code != 200:
            return None  # promised, and not there: the wheel itself has it too
        data = read_body(answer, _LARGEST, transport)
    if file.metadata_sha256 and hashlib.sha256(data).hexdigest() != file.metadata_sha256:
        raise PackageError(
            f"the metadata at {public(address)} is not what the package index says it is (sha256)",
            "try again; if it stays so, ask who runs the index",
        )
    return data


def _within(file: File, url: str, transport: Transport) -> bytes:
    with ask(transport, url, {"Range": f"bytes=-{_BLOCK}"}) as answer:
        if answer.status_code == 206 and (
            total := re.search(r"/(\d+)$", answer.headers.get("Content-Range", ""))
        ):
            remote = _Remote(url, int(total[1]), read_body(answer, _BLOCK, transport), transport)
            return _in_wheel(remote, file)
        if answer.status_code != 200:
            raise ToolError(
                f"cannot read {public(url)}: the package index's server answers {answer.status_code}",
                "check the index; it names a file that is not there" if answer.status_code == 404 else None,
            )
        with tempfile.TemporaryFile() as whole:
            digest = hashlib.sha256()
            for piece in _pieces(answer, transport):
                digest.update(piece)
                whole.write(piece)
            if file.sha256 and digest.hexdigest() != file.sha256:
                raise PackageError(
                    f"{public(url)} is not what the package index says it is (sha256)",
                    "try again; if it stays so, ask who runs the index",
                )
            return _in_wheel(whole, file)


def _pieces(answer: requests.Response, transport: Transport) -> Iterator[bytes]:
    import requests
    import urllib3

    try:
        yield from transport.pieces(answer, LARGEST_WHEEL)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise unreachable(answer.url, error) from error
    except TooLongError as error:
        raise ToolError(f"what is at {public(answer.url)} is larger than any wheel") from error


def _in_wheel(opened: IO[bytes] | _Remote, file: File) -> bytes:
    stem = "-".join(file.name.split("-")[:2]).lower().replace(".", "_")
    try:
        with zipfile.ZipFile(cast(IO[bytes], opened)) as wheel:
            for entry in wheel.infolist():
                folder, _, name = entry.filename.partition("/")
                is_own = folder.lower().endswith(".dist-info") and name == "METADATA"
                plain = folder.removesuffix(".dist-info").lower().replace("-", "_").replace(".", "_")
                if is_own and plain == stem.replace("-", "_") and entry.file_size <= _LARGEST:
                    with wheel.open(entry) as opened_entry:
                        return opened_entry.read(_LARGEST)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise PackageError(f"{file.name} is no wheel: {error}") from error
    raise PackageError(f"{file.name} is no wheel: there is no METADATA in it")


class _Remote(io.RawIOBase):
    """A file on a server, read by ranges; its end is here already."""

    def __init__(self, url: str, size: int, end: bytes, transport: Transport) -> None:
        self._url, self._size, self._transport = url, size, transport
        self._start, self._block = size - len(end), end  # one block is held
        self._at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        end = self._size if size is None or size < 0 else min(self._size, self._at + size)
        if end - self._at > _LARGEST_TABLE:
            raise zipfile.BadZipFile("its table of contents is larger than it can be")
        found = b""
        while self._at < end:
            if not self._start <= self._at < self._start + len(self._block):
                self._fetch(self._at, min(self._size, max(end, self._at + _BLOCK)) - 1)
            first = self._at - self._start
            piece = self._block[first : first + end - self._at]
            found += piece
            self._at += len(piece)
        return found

    def _fetch(self, first: int, last: int) -> None:
        with ask(self._transport, self._url, {"Range": f"bytes={first}-{last}"}) as answer:
            if answer.status_code != 206:
                raise ToolError(f"{public(self._url)} can no longer be read: {answer.status_code}")
            block = read_body(answer, last - first + 1, self._transport)
        if not block:
            raise EOFError(f"nothing at {first}")
        self._start, self._block = first, block
