"""Serves a folder on 127.0.0.1, in a way that rattler, pip and poetry are content with.

Python's own handler sends a 304 without validators, which rattler refuses; has no ranges, which poetry needs
to read the metadata out of a wheel; and speaks HTTP/1.0, a connection a file. `python3 -m rigging.http_server
FOLDER PORT`.
"""

from __future__ import annotations

import email.utils
import functools
import os
import re
import sys
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


class Handler(SimpleHTTPRequestHandler):
    """GET and HEAD of files; a folder's `index.html`; nothing else."""

    protocol_version = "HTTP/1.1"
    server_version = "envbox-rig"
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    timeout = 300

    def log_message(self, *_: Any) -> None:
        """Say nothing: a test run makes tens of thousands of requests."""

    def do_GET(self) -> None:
        """Send a file."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Send what `GET` would, without the file."""
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        path = Path(self.translate_path(self.path))
        if path.is_dir():
            if not self.path.partition("?")[0].endswith("/"):
                self.send_response(HTTPStatus.MOVED_PERMANENTLY)
                self.send_header("Location", self.path + "/")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            path /= "index.html"
        try:
            file = path.open("rb")
        except OSError:
            self._not_found()
            return
        with file:
            self._send(path, file, with_body)

    def _not_found(self) -> None:
        body = b"not found\n"
        self.send_response(HTTPStatus.NOT_FOUND)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _send(self, path: Path, file: Any, with_body: bool) -> None:
        status = os.fstat(file.fileno())
        tag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        modified = email.utils.formatdate(int(status.st_mtime), usegmt=True)
        first, last, code = 0, status.st_size - 1, HTTPStatus.OK
        if self._is_known(tag, modified):
            code = HTTPStatus.NOT_MODIFIED
        elif wanted := self._range(status.st_size):
            (first, last), code = wanted, HTTPStatus.PARTIAL_CONTENT
            if first > last:
                code = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        self.send_response(code)
        self.send_header("ETag", tag)
        self.send_header("Last-Modified", modified)
        self.send_header("Accept-Ranges", "bytes")
        if "repodata" in path.name or path.name in ("index.html", "mapping.json"):
            # a client that trusts its copy for a while would not see that the channel has changed
            self.send_header("Cache-Control", "no-cache")
        if code == HTTPStatus.PARTIAL_CONTENT:
            self.send_header("Content-Range", f"bytes {first}-{last}/{status.st_size}")
        if code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            self.send_header("Content-Range", f"bytes */{status.st_size}")
            first, last = 0, -1
        if code != HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Type", self.guess_type(str(path)))
            self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        if with_body and code != HTTPStatus.NOT_MODIFIED:
            self._copy(file, first, last - first + 1)

    def _is_known(self, tag: str, modified: str) -> bool:
        if given := self.headers.get("If-None-Match"):
            return tag in given
        return bool(self.headers.get("If-Modified-Since") == modified)

    def _range(self, size: int) -> tuple[int, int] | None:
        """The first and last byte asked for; one range only, others are answered in full."""
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not found or not (found[1] or found[2]):
            return None
        if found[1]:
            return int(found[1]), min(int(found[2] or size), size - 1)
        return max(0, size - int(found[2])), size - 1

    def _copy(self, file: Any, first: int, left: int) -> None:
        file.seek(first)
        while left > 0 and (chunk := file.read(min(left, _CHUNK))):
            self.wfile.write(chunk)
            left -= len(chunk)


class Server(ThreadingHTTPServer):
    """Loopback only; a thread a connection."""

    request_queue_size = 256
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no event."""


def serve(folder: Path, port: int) -> Server:
    """A server of `folder` that is bound and not yet running; port 0 takes a free one."""
    return Server(("127.0.0.1", port), functools.partial(Handler, directory=os.fspath(folder)))


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2])).serve_forever()
