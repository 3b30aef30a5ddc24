"""One blob into a repository: mounted from where the registry has it, or sent, going on after a break.

The difficulty is knowing how much of a broken transfer arrived. Only the registry can say: an upload has an
address (the last `Location` it gave), and that answers with a `Range`. A registry that has forgotten the
upload, or is out of step with it, gets the blob from the start again. Until the closing PUT nothing exists
under the blob's digest, and that PUT is where the registry checks it.
https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-a-blob-in-chunks
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from envbox.errors import ImageError, ToolError
from envbox.oci import Descriptor
from envbox.registry import access as http
from envbox.registry.access import Access, TransferStopped
from envbox.registry.reference import Endpoint
from envbox.registry.responses import reason, said

if TYPE_CHECKING:
    import requests

CREATED = 201
PASSING = (401, 429)  # a token that has run out is renewed by the question for the position
LOST = (404, 416)  # the registry knows the upload no longer, or has another part of it than we think
Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Blob:
    """Something to be stored in a registry.

    :param open: its bytes, from the start; called for each attempt, and not at all when it can be mounted
    :param origin: a repository that has it; it can be mounted from there when that is of the same registry
    """

    descriptor: Descriptor
    open: Callable[[], Iterator[bytes]]
    origin: Endpoint | None = None


class _BrokenError(Exception):
    """The transfer ended early, which may pass."""


def upload_blob(access: Access, blob: Blob, advance: Advance) -> int:
    """Store a blob that the registry does not have; how many bytes had to be sent.

    :param advance: is told of bytes, also of those that a mount saves
    :raises ImageError: when we may not
    :raises ToolError: when the transfer keeps breaking off, or the registry refuses it
    """
    return _Upload(access, blob, advance).run()


class _Upload:
    """The state of one transfer.

    :param location: the upload's address; None before it was begun
    :param position: bytes that the registry has
    """

    def __init__(self, access: Access, blob: Blob, advance: Advance) -> None:
        self.access, self.blob, self.advance = access, blob, advance
        self.size = blob.descriptor.size
        self.location: str | None = None
        self.position = self.furthest = self.told = self.sent = 0
        self.is_damaged = False

    def run(self) -> int:
        delays = list(http.RETRY_DELAYS)
        while True:
            try:
                if self.location is None and self._is_mounted_or_begun():
                    break
                self._send_rest()
                self._finish()
                break
            except _BrokenError as error:
                if self.position > self.furthest:
                    self.furthest, delays = self.position, list(http.RETRY_DELAYS)
                if not delays:
                    raise self._gave_up(str(error)) from error
                self.access.stop.wait(delays.pop(0))
                if self.location is not None and self._find_position():
                    break
        self._tell(self.size)
        return self.sent

    def _is_mounted_or_begun(self) -> bool:
        """Mount the blob, or have an address to send it to; whether nothing is left to do."""
        digest, source = self.blob.descriptor.digest, mount_source(self.blob, self.access.endpoint)
        response = None
        if source is not None:
            with suppress(ImageError):  # not allowed to read there: then it is sent
                query = f"mount={digest}&from={quote(source, safe='')}"
                response = self.access.request("POST", f"blobs/uploads/?{query}", body=b"")
        if response is None:
            response = self.access.request("POST", "blobs/uploads/", body=b"")
        response.close()
        if response.status_code == CREATED:
            return True
        if response.status_code == 404:
            raise ImageError(
                f"there is no repository {self.access.reference.name} at {self.access.where}",
                "create it there first: this registry makes none by itself",
            )
        self.position = 0
        self._follow(response)
        if self.location is None:
            raise ToolError(f"the registry {self.access.where} begins an upload, but does not say where")
        return False

    def _send_rest(self) -> None:
        """Send what the registry does not have. The first time in one piece, as every registry takes it."""
        while self.position < self.size:
            headers = {"Content-Type": "application/octet-stream"}
            if self.position:
                headers["Content-Range"] = f"{self.position}-{self.size - 1}"
            response = self._attempt("PATCH", str(self.location), headers, self._body())
            before, self.position = self.position, self._received(response, self.size)
            self._follow(response)
            if self.position <= before:
                raise _BrokenError("the registry took nothing")
            self._tell(self.position)

    def _finish(self) -> None:
        """Close the upload: now the registry hashes it."""
        separator = "&" if urlsplit(str(self.location)).query else "?"
        address = f"{self.location}{separator}digest={self.blob.descriptor.digest}"
        try:
            self._attempt("PUT", address, {"Content-Type": "application/octet-stream"}, b"")
        except _RefusedDigestError as error:
            if self.is_damaged:
                raise ToolError(
                    f"{self.access.where} received something else for {self.blob.descriptor.digest} twice: "
                    f"{error}",
                    "a proxy in between may be damaged; try another network",
                ) from error
            self.is_damaged, self.location = True, None  # a resumed transfer may have been joined wrongly
            raise _BrokenError(str(error)) from error

    def _attempt(
        self, method: str, address: str, headers: dict[str, str], body: bytes | http.Body
    ) -> requests.Response:
        """Make one request of the upload, once; what is worth another try raises _BrokenError."""
        import requests

        try:
            response = self.access.attempt(method, address, headers, body)
        except requests.RequestException as error:
            raise _BrokenError(reason(error)) from error
        if 300 <= response.status_code < 400 and isinstance(body, http.Body):
            response.close()
            raise ToolError(
                f"the registry {self.access.where} sends an upload on to elsewhere, which is not done"
            )
        if response.status_code < 400:
            response.close()
            return response
        failure = f"HTTP {response.status_code}{said(response)}"
        response.close()
        if response.status_code in LOST:
            self.location = None
        elif method == "PUT" and response.status_code == 400:
            raise _RefusedDigestError(failure)
        elif response.status_code not in PASSING and response.status_code < 500:
            raise self.access.refusal(response.status_code, failure)
        raise _BrokenError(failure)

    def _find_position(self) -> bool:
        """Ask how much has arrived, or begin again; whether it is all there and closed."""
        response = self.access.request("GET", str(self.location))
        response.close()
        if response.status_code in LOST:  # forgotten; or it was closed, and only the answer got lost
            self.location, self.position = None, 0
            return has_blob(self.access, self.blob.descriptor)
        self.position = self._received(response, 0)
        self._follow(response)
        return False

    def _received(self, response: requests.Response, otherwise: int) -> int:
        """Return the bytes that the registry says it has: `Range: 0-99` is 100, and `0-0` is none."""
        found = re.fullmatch(r"(?:bytes=)?0-(\d+)", response.headers.get("Range", "").strip())
        if found is None:
            return otherwise
        return min(int(found[1]) + 1, self.size) if found[1] != "0" or self.size == 1 else 0

    def _follow(self, response: requests.Response) -> None:
        if location := response.headers.get("Location"):
            self.location = self.access.absolute(location)

    def _body(self) -> http.Body:
        return http.Body(self._rest(), self.size - self.position)

    def _rest(self) -> Iterator[bytes]:
        """Yield the bytes from the position on, and exactly as many as were said to come."""
        start = 0
        for piece in self.blob.open():
            if self.access.stop.is_set():
                raise TransferStopped
            rest = piece[max(self.position - start, 0) :]
            start += len(piece)
            if start > self.size:
                break
            if rest:
                yield rest
                self.sent += len(rest)
                self._tell(start)
        if start != self.size:
            raise ToolError(
                f"{self.blob.descriptor.digest} is not of the {self.size} bytes that it was when it was made",
                "the cache is damaged: envbox clean fragments layers gzip, then push again",
            )

    def _tell(self, position: int) -> None:
        self.advance(position - self.told)
        self.told = position

    def _gave_up(self, failure: str) -> ToolError:
        digest = self.blob.descriptor.digest
        return ToolError(
            f"the transfer of {digest} to {self.access.where} broke off at {self.furthest} of {self.size} "
            f"bytes: {failure}",
            "try again: what has arrived is not sent twice",
        )


class _RefusedDigestError(Exception):
    """The registry hashed something else."""


def mount_source(blob: Blob, target: Endpoint) -> str | None:
    """Return the repository that a blob may be mounted from: another one of the same registry, or None."""
    origin = blob.origin
    is_near = origin is not None and origin.url == target.url and origin.repository != target.repository
    return origin.repository if origin is not None and is_near else None


def has_blob(access: Access, descriptor: Descriptor) -> bool:
    """Return whether the repository has a blob."""
    response = access.head(f"blobs/{descriptor.digest}")
    response.close()
    return response.status_code < 400
