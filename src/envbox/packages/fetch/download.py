"""The bytes of a file, as they come: over HTTP or from the disk, hashed, in one piece or in several.

What may pass (a reset, a timeout, 5xx, 429) is tried again with growing pauses, from where it broke off.
"""

from __future__ import annotations

import hashlib
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from envbox.errors import EnvboxError, PackageError, ToolError
from envbox.lockfile import lock_anew
from envbox.mirrors import public
from envbox.net.credentials import hint_for
from envbox.net.transport import LEAST, TooLongError, Transport, certificate_hint

if TYPE_CHECKING:
    import requests

_ATTEMPTS = 5  # in a row that bring next to nothing
_FIRST_PAUSE = 0.5  # seconds; doubled each time, with up to half as much again by chance
_LONGEST_PAUSE = 60.0  # seconds that a server may ask us to wait
_CHUNK = 1 << 20
LARGEST = 16 << 30  # bytes, where nothing says how long a file is; the largest known packages have 3 GB
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_GONE = f"the channel no longer has this file: {lock_anew()}"

Progress = Callable[[int], None]


class _PassingError(Exception):
    """A failure that may be over on the next attempt.

    :param wait: seconds that the server asks for
    """

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


@dataclass(slots=True)
class PartialFile:
    """What has come of a file so far: written aside, and hashed.

    :param is_joined: whether it came in several answers, which may have been of different files
    :param can_join: whether there is a hash to find that out by
    :param gone: what to do when the server does not have it
    :param most: bytes that it may have
    :param md5: a hash of `new_md5`, where that is wanted as well
    """

    file: IO[bytes]
    can_join: bool = True
    gone: str = _GONE
    most: int = LARGEST
    md5: Any = None
    sha256: Any = field(default_factory=hashlib.sha256)
    size: int = 0
    is_joined: bool = False

    def add(self, piece: bytes) -> None:
        """Write and hash the next bytes.

        :raises TooLongError: when there are more than there should be
        """
        if self.size + len(piece) > self.most:
            raise TooLongError
        self.sha256.update(piece)
        if self.md5 is not None:
            self.md5.update(piece)
        self.file.write(piece)
        self.size += len(piece)

    def begin_again(self) -> None:
        """Forget what has come."""
        if self.size:
            self.file.seek(0)
            self.file.truncate()
        self.sha256, self.size, self.is_joined = hashlib.sha256(), 0, False
        if self.md5 is not None:
            self.md5 = new_md5()


def new_md5() -> Any:
    """Return a hash for what a lockfile knows by md5; also where the machine's policy forbids it for
    secrets.
    """
    return hashlib.md5(usedforsecurity=False)


def receive(address: str, part: PartialFile, transport: Transport, progress: Progress | None) -> None:
    """Bring what is missing of a file; what fails and may pass is tried again from there.

    :param address: of http, https or file
    :param progress: called with the number of bytes that came, again and again; it may raise, which ends it
    :raises ToolError: when it cannot be had
    :raises PackageError: when it is longer than it should be: no more than that is written
    """
    failures, most = 0, part.size
    while True:
        if progress:
            progress(0)  # may raise: nobody waits for this file any more
        try:
            with _open(address, part, transport) as (pieces, length):
                for piece in pieces:
                    part.add(piece)
                    if progress:
                        progress(len(piece))
            if length is not None and part.size != length:
                raise _PassingError(f"the transfer broke off after {part.size} of {length} bytes")
            return
        except TooLongError as error:
            raise PackageError(
                f"{public(address)} has more than the {part.most} bytes that it should have: it is not taken",
                "the server's file is not the one that is meant: use another mirror, or ask who runs it",
            ) from error
        except _PassingError as error:
            failures = 1 if part.size >= most + LEAST else failures + 1
            most = max(most, part.size)
            if not part.can_join:
                part.begin_again()
            if failures == _ATTEMPTS or error.wait > _LONGEST_PAUSE:
                asked = f" and asks to wait for {error.wait:.0f} seconds" if error.wait else ""
                raise ToolError(
                    f"cannot fetch {public(address)}: {error}{asked}",
                    "check the network, a proxy (HTTPS_PROXY), or set a mirror under [mirrors]",
                ) from error
            pause = _FIRST_PAUSE * 2 ** (failures - 1)
            time.sleep(max(error.wait, pause + random.uniform(0, pause / 2)))  # noqa: S311 - not a secret


@contextmanager
def _open(
    address: str, part: PartialFile, transport: Transport
) -> Iterator[tuple[Iterator[bytes], int | None]]:
    """Give the pieces that are to be added to a part, and how many bytes the whole should be."""
    scheme = urlsplit(address).scheme
    if scheme == "file":
        path = Path(unquote(urlsplit(address).path))
        part.begin_again()
        try:
            with path.open("rb") as file:
                yield iter(lambda: file.read(_CHUNK), b""), None
        except EnvboxError:
            raise
        except OSError as error:
            raise ToolError(f"cannot read {path}: {error.strerror}") from error
    elif scheme in ("http", "https"):
        with _open_http(address, part, transport) as found:
            yield found
    else:
        raise ToolError(f"cannot fetch {public(address)}: only http, https and file are known")


@contextmanager
def _open_http(
    address: str, part: PartialFile, transport: Transport
) -> Iterator[tuple[Iterator[bytes], int | None]]:
    import requests
    import urllib3

    wanted = {"Range": f"bytes={part.size}-"} if part.size else {}
    try:
        with transport.get(address, wanted) as answer:
            if answer.status_code in _PASSING:
                raise _PassingError(
                    f"the server says {answer.status_code} {answer.reason}",
                    _seconds(answer.headers.get("Retry-After", "")),
                )
            if answer.status_code == 416:  # what we have is not the beginning of what is there
                part.begin_again()
                raise _PassingError("the server has not the rest of what it gave")
            if answer.status_code not in (200, 206):
                raise ToolError(
                    f"cannot fetch {public(address)}: the server says {answer.status_code} {answer.reason}",
                    _status_hint(address, answer.status_code, part, transport),
                )
            yield transport.pieces(answer), _whole_length(answer, part)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
            raise ToolError(public(f"cannot fetch {address}: {error}")) from error
        if isinstance(error, requests.exceptions.SSLError):
            raise ToolError(
                f"cannot fetch {public(address)}: {_reason(error)}", certificate_hint(address)
            ) from error
        raise _PassingError(_reason(error)) from error


def _whole_length(answer: requests.Response, part: PartialFile) -> int | None:
    """Return how long the whole file is; a part is kept only where the answer goes on from its end."""
    if answer.status_code == 206 and part.size:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if not found or int(found[1]) != part.size:
            part.begin_again()
            raise _PassingError("the server does not go on from where it broke off")
        part.is_joined = True
        return int(found[2]) if found[2].isdecimal() else None
    part.begin_again()
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _seconds(text: str) -> float:
    """Read Retry-After, as seconds or as a date.

    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def _status_hint(address: str, status: int, part: PartialFile, transport: Transport) -> str | None:
    if status in (404, 410):
        return part.gone
    if status in (401, 403):
        return hint_for(address, transport.logins)
    if status == 407:
        return "the proxy wants a login: HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT"
    return None


def _reason(error: BaseException) -> str:
    """Return the innermost reason, which is the one a person can use."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return public(str(error)) or type(error).__name__
