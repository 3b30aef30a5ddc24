"""A package index of real wheels without code, on loopback: PEP 503, 592, 658, 691, 700, ranges, logins."""

from __future__ import annotations

import hashlib
import io
import json
import re
import threading
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JSON = "application/vnd.pypi.simple.v1+json"


def wheel_bytes(name: str, version: str, tag: str = "py3-none-any", needs: Sequence[str] = ()) -> bytes:
    """A wheel that holds what it says of itself, and some weight that a reader of that need not fetch."""
    info = f"{name}-{version}.dist-info"
    told = [
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}",
        *(f"Requires-Dist: {n}" for n in needs),
    ]
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(f"{name}/weight.bin", bytes(300_000))
        for file, text in (("METADATA", "\n".join(told) + "\n"), ("WHEEL", f"Tag: {tag}\n"), ("RECORD", "")):
            archive.writestr(zipfile.ZipInfo(f"{info}/{file}"), text)
    return data.getvalue()


@dataclass
class Paper:
    """An index, and what it was asked.

    :param speaks: `json` or `html`
    :param wants: an Authorization header without which there is nothing
    :param files: project → file name → its bytes, and what its page says of it
    :param asked: path and Authorization header of each request
    :param sent: bytes of bodies
    :param pause: seconds before an answer
    :param most_at_once: requests
    :param meeting: where requests for metadata wait for each other
    """

    url: str = ""
    speaks: str = "json"
    wants: str = ""
    status: int = 0
    files: dict[str, dict[str, tuple[bytes, dict[str, Any]]]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    sent: int = 0
    has_metadata: bool = True
    meeting: threading.Barrier | None = None
    takes_ranges: bool = True
    pause: float = 0
    at_once: int = 0
    most_at_once: int = 0
    lock: Any = field(default_factory=threading.Lock)

    @property
    def simple(self) -> str:
        """The index's address."""
        return f"{self.url}/simple"

    def add(
        self, name: str, version: str, tag: str = "py3-none-any", needs: Sequence[str] = (), **told: Any
    ) -> str:
        """Publish a wheel; gives its sha256."""
        data = wheel_bytes(name, version, tag, needs)
        self.files.setdefault(name, {})[f"{name}-{version}-{tag}.whl"] = data, told
        return hashlib.sha256(data).hexdigest()

    def add_source(self, name: str, version: str) -> None:
        """Publish a source archive, which nothing should open."""
        self.files.setdefault(name, {})[f"{name}-{version}.tar.gz"] = b"no archive", {}

    def paths(self, part: str = "") -> list[str]:
        """What was asked for, of the paths that have a part."""
        return [path for path, _ in self.asked if part in path]

    def page(self, project: str) -> bytes:
        """A project's page."""
        entries = [self._entry(name, *one) for name, one in self.files[project].items()]
        if self.speaks == "json":
            return json.dumps({"meta": {"api-version": "1.1"}, "name": project, "files": entries}).encode()
        return ("<!DOCTYPE html><html><body>" + "\n".join(map(_link, entries)) + "</body></html>").encode()

    def _entry(self, name: str, data: bytes, told: dict[str, Any]) -> dict[str, Any]:
        found = {"filename": name, "url": f"../../files/{name}", **told}
        found.setdefault("hashes", {"sha256": hashlib.sha256(data).hexdigest()})
        if self.has_metadata and name.endswith(".whl"):
            found["core-metadata"] = {"sha256": hashlib.sha256(metadata_in(data)).hexdigest()}
        return found


def metadata_in(data: bytes) -> bytes:
    """What a wheel says of itself."""
    with zipfile.ZipFile(io.BytesIO(data)) as wheel:
        return wheel.read(next(n for n in wheel.namelist() if n.endswith("METADATA")))


def _link(entry: dict[str, Any]) -> str:
    told = [f'href="{entry["url"]}#sha256={entry["hashes"]["sha256"]}"']
    if "requires-python" in entry:
        told.append(f'data-requires-python="{entry["requires-python"].replace(">", "&gt;")}"')
    if entry.get("yanked"):
        told.append(f'data-yanked="{entry["yanked"]}"')
    if "core-metadata" in entry:
        told.append(f'data-core-metadata="sha256={entry["core-metadata"]["sha256"]}"')
    return f"<a {' '.join(told)}>{entry['filename']}</a>"


@contextmanager
def paper_index(speaks: str = "json", wants: str = "") -> Iterator[Paper]:
    """Serve an index that is empty yet."""
    paper = Paper(speaks=speaks, wants=wants)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            said = self.headers.get("Authorization", "")
            paper.asked.append((self.path, said))
            with paper.lock:
                paper.at_once += 1
                paper.most_at_once = max(paper.most_at_once, paper.at_once)
            time.sleep(paper.pause)
            try:
                self.get(said)
            finally:
                with paper.lock:
                    paper.at_once -= 1

        def get(self, said: str) -> None:
            if paper.status:
                return self.answer(paper.status)
            if paper.wants and said != paper.wants:
                return self.answer(401)
            if found := re.fullmatch(r"/simple/([^/]+)/", self.path):
                if found[1] not in paper.files:
                    return self.answer(404)
                kind = JSON if paper.speaks == "json" else "text/html"
                return self.whole(paper.page(found[1]), kind)
            name = self.path.rpartition("/")[2]
            files = {n: data for project in paper.files.values() for n, (data, _) in project.items()}
            if name in files:
                return self.part(files[name])
            if paper.has_metadata and name.removesuffix(".metadata") in files:
                if paper.meeting:
                    paper.meeting.wait()
                return self.whole(metadata_in(files[name.removesuffix(".metadata")]), "text/plain")
            return self.answer(404)

        def whole(self, data: bytes, kind: str) -> None:
            etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
            if self.headers.get("If-None-Match") == etag:
                return self.answer(304)
            return self.answer(200, data, Content_Type=kind, ETag=etag)

        def part(self, data: bytes) -> None:
            asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            if not asked or not paper.takes_ranges:
                return self.answer(200, data)
            first = int(asked[1]) if asked[1] else max(0, len(data) - int(asked[2]))
            last = int(asked[2]) if asked[1] and asked[2] else len(data) - 1
            where = f"bytes {first}-{last}/{len(data)}"
            return self.answer(206, data[first : last + 1], Content_Range=where)

        def answer(self, code: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(code)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)
            paper.sent += len(body)

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    paper.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield paper
    finally:
        server.shutdown()
        server.server_close()
