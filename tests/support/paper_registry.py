"""A small registry in this process, for what a good one never does: refuse, break off, lie, ask who we are.

It speaks the distribution specification over real HTTP, pushing included. The images in it hold a few files:
what a base must have.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import itertools
import json
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from envbox.platforms import image_platform

OCI = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json")
DOCKER = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
LIBC = "usr/lib/x86_64-linux-gnu/libc.so.6"
BASE = {
    "usr/bin/sh": b"a shell",
    "usr/bin/bash": b"a shell",
    LIBC: b"\x7fELF..GNU C Library (Debian GLIBC 2.36-9+deb12u10) stable release version 2.36.\nCopyright",
}
"""What a base must have, by path."""
TOKEN = "a-token-of-the-paper-registry"


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A layer's uncompressed tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@dataclass
class PaperRegistry:
    """What it holds, what it was asked, and what it does wrong.

    :param statuses: answered to the next requests instead of what they ask for
    :param cut: bytes of a blob after which the connection ends
    :param ranges: whether it can go on in the middle of a blob
    :param password: (user, password) that a token is given for; None: to everybody
    :param homes: blob → repositories that have it; one that is not named here is in all of them
    :param scopes: what tokens were asked for
    :param refuses: answered to what would write, if not 0
    :param upload_statuses: answered to the next requests of uploads
    :param upload_cuts: for the next bodies of uploads: bytes after which the connection ends; None: not
    :param forgets: whether an upload that broke off is forgotten, as distribution 2.8 does it
    :param mounts: whether blobs can be mounted from another repository
    :param mangles: how many of the next bodies arrive damaged
    :param tricks: asked first for every request; one that answers it itself says so
    """

    host: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    cut: int | None = None
    ranges: bool = True
    wants_token: bool = False
    wants_basic: bool = False
    password: tuple[str, str] | None = None
    homes: dict[str, set[str]] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    scopes: list[str] = field(default_factory=list)
    refuses: int = 0
    upload_statuses: list[int] = field(default_factory=list)
    upload_cuts: list[int | None] = field(default_factory=list)
    forgets: bool = False
    mounts: bool = True
    mangles: int = 0
    tricks: list[Callable[[BaseHTTPRequestHandler], bool]] = field(default_factory=list)

    def has_blob(self, repository: str, blob: str) -> bool:
        """Whether a repository has a blob."""
        return blob in self.blobs and repository in self.homes.get(blob, {repository})

    def put_image(
        self,
        name: str,
        layers: Sequence[Mapping[str, bytes]] = (BASE,),
        platform: str = "linux-64",
        config: Mapping[str, Any] | None = None,
        types: tuple[str, str] = OCI,
    ) -> str:
        """Store an image under `REPOSITORY:TAG`, with gzip layers; its manifest's digest is returned."""
        raw = [tar_of(files) for files in layers]
        packed = [gzip.compress(tar, mtime=0) for tar in raw]
        system, architecture = image_platform(platform)
        document = {
            "os": system,
            "architecture": architecture,
            "config": dict(config or {"Env": ["PATH=/usr/bin:/bin"], "Cmd": ["bash"]}),
            "rootfs": {"type": "layers", "diff_ids": [digest(tar) for tar in raw]},
            "history": [{"created_by": f"layer {n}"} for n in range(len(raw))],
        }
        stored = json.dumps(document).encode()
        self.blobs |= {digest(data): data for data in (stored, *packed)}
        for data in (stored, *packed):
            self.homes.setdefault(digest(data), set()).add(name.partition(":")[0])
        docker = types == DOCKER
        layer_type = (
            "application/vnd.docker.image.rootfs.diff.tar.gzip"
            if docker
            else "application/vnd.oci.image.layer.v1.tar+gzip"
        )
        config_type = (
            "application/vnd.docker.container.image.v1+json"
            if docker
            else "application/vnd.oci.image.config.v1+json"
        )
        return self.put_manifest(
            name,
            types[0],
            {
                "schemaVersion": 2,
                "mediaType": types[0],
                "config": _descriptor(config_type, stored),
                "layers": [_descriptor(layer_type, data) for data in packed],
            },
        )

    def put_index(self, name: str, images: Mapping[str, str], types: tuple[str, str] = OCI) -> str:
        """Store an index of images: conda platform → manifest digest, all of the same repository."""
        repository = name.partition(":")[0]
        entries = []
        for platform, manifest in images.items():
            system, architecture = image_platform(platform)
            data = self.manifests[f"{repository}@{manifest}"][1]
            about = {"os": system, "architecture": architecture}
            entries.append({**_descriptor(types[0], data), "platform": about})
        attestation = {"os": "unknown", "architecture": "unknown"}
        entries.append({**_descriptor(types[0], b"an attestation"), "platform": attestation})
        return self.put_manifest(
            name, types[1], {"schemaVersion": 2, "mediaType": types[1], "manifests": entries}
        )

    def put_manifest(self, name: str, media_type: str, document: object) -> str:
        """Store any document where a manifest would be."""
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        repository = name.partition(":")[0]
        self.manifests[name] = self.manifests[f"{repository}@{digest(data)}"] = (media_type, data)
        return digest(data)


def _descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(data), "size": len(data)}


@contextmanager
def serving(registry: PaperRegistry) -> Iterator[PaperRegistry]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    server = _Server(("127.0.0.1", 0), _handler(registry))
    registry.host = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, address: object) -> None:
        """Say nothing of a client that went away in the middle: tests do that."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, address)  # type: ignore[arg-type]


def _handler(registry: PaperRegistry) -> type[BaseHTTPRequestHandler]:
    numbers = itertools.count(1)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # an answer is written in two pieces

        def log_message(self, *args: object) -> None: ...

        def do_GET(self) -> None:
            self._note()
            parts = urlsplit(self.path)
            if any(trick(self) for trick in registry.tricks):
                return
            if parts.path == "/token":
                self._token(parse_qs(parts.query))
            elif registry.statuses:
                self._answer(registry.statuses.pop(0), b"")
            elif not self._is_known():
                self._challenge()
            elif "/blobs/uploads/" in parts.path:
                self._tell_upload(parts.path)
            else:
                self._content(parts.path)

        do_HEAD = do_GET

        def do_POST(self) -> None:
            self._note()
            if any(trick(self) for trick in registry.tricks):
                return
            body = self._body()
            parts = urlsplit(self.path)
            if not self._is_known():
                self._challenge()
            elif registry.refuses or registry.upload_statuses:
                self._refuse(registry.refuses or registry.upload_statuses.pop(0))
            elif body is None:  # the connection has ended
                self.close_connection = True
                if registry.forgets:
                    registry.uploads.pop(parts.path, None)
            elif "/blobs/uploads/" in parts.path:
                self._upload(parts.path, {k: v[0] for k, v in parse_qs(parts.query).items()}, body)
            else:
                self._put_manifest(parts.path, body)

        do_PATCH = do_PUT = do_POST

        def _note(self) -> None:
            said = self.headers.get("Content-Range", "")
            registry.log.append(f"{self.command} {self.path}{self._range(' ')}{said and ' ' + said}")
            registry.authorizations.append(self.headers.get("Authorization", ""))

        def _challenge(self) -> None:
            bearer = f'Bearer realm="http://{registry.host}/token",service="paper"'
            challenge = 'Basic realm="paper"' if registry.wants_basic else bearer
            self._answer(401, b"", {"WWW-Authenticate": challenge})

        def _refuse(self, status: int) -> None:
            words = {"code": "PAPER", "message": "so the registry says"}
            self._answer(status, json.dumps({"errors": [words]}).encode())

        def _body(self) -> bytes | None:
            """What was sent. When the connection is to end, the part before that is what the upload keeps."""
            size = int(self.headers.get("Content-Length", 0))
            is_upload = self.command == "PATCH"
            cut = registry.upload_cuts.pop(0) if is_upload and registry.upload_cuts else None
            body = self.rfile.read(size if cut is None else min(cut, size))
            if is_upload and registry.mangles:
                registry.mangles -= 1
                body = bytes(len(body))
            if cut is None:
                return body
            registry.uploads[urlsplit(self.path).path] += body
            return None

        def _tell_upload(self, path: str) -> None:
            if path not in registry.uploads:
                self._refuse(404)
                return
            have = len(registry.uploads[path])
            self._answer(204, b"", {"Range": f"0-{max(have - 1, 0)}", "Location": path})

        def _upload(self, path: str, query: Mapping[str, str], body: bytes) -> None:
            repository = path.removeprefix("/v2/").partition("/blobs/")[0]
            if self.command == "POST":
                wanted, source = query.get("mount", ""), query.get("from", "")
                if wanted and registry.mounts and registry.has_blob(source, wanted):
                    registry.homes.setdefault(wanted, set()).add(repository)
                    self._answer(201, b"", {"Docker-Content-Digest": wanted})
                    return
                location = f"{path}{next(numbers)}"
                registry.uploads[location] = bytearray()
                self._answer(202, b"", {"Location": f"{location}?state=x", "Range": "0-0"})
                return
            upload = registry.uploads.get(path)
            if upload is None:
                self._refuse(404)
                return
            start = self.headers.get("Content-Range", "0-").partition("-")[0]
            if self.command == "PATCH" and int(start) != len(upload):
                self._refuse(416)
                return
            upload += body
            if self.command == "PATCH":
                self._answer(202, b"", {"Location": f"{path}?state=y", "Range": f"0-{len(upload) - 1}"})
                return
            data = bytes(registry.uploads.pop(path))
            if digest(data) != query["digest"]:
                self._refuse(400)
                return
            registry.blobs[digest(data)] = data
            registry.homes.setdefault(digest(data), set()).add(repository)
            self._answer(201, b"", {"Docker-Content-Digest": digest(data)})

        def _put_manifest(self, path: str, body: bytes) -> None:
            """Store what has all its parts, as a good registry does."""
            repository, _, name = path.removeprefix("/v2/").partition("/manifests/")
            document = json.loads(body)
            blobs = [d["digest"] for d in (document.get("config"), *document.get("layers", ())) if d]
            manifests = [f"{repository}@{d['digest']}" for d in document.get("manifests", ())]
            if not (
                all(registry.has_blob(repository, blob) for blob in blobs)
                and all(manifest in registry.manifests for manifest in manifests)
            ):
                self._refuse(400)
                return
            found = (self.headers["Content-Type"], body)
            registry.manifests[f"{repository}@{digest(body)}"] = found
            if not name.startswith("sha256:"):
                registry.manifests[f"{repository}:{name}"] = found
            self._answer(201, b"", {"Docker-Content-Digest": digest(body)})

        def _range(self, before: str = "") -> str:
            return before + self.headers["Range"] if "Range" in self.headers else ""

        def _is_known(self) -> bool:
            said = self.headers.get("Authorization", "")
            if registry.wants_basic:
                return registry.password is not None and said == _basic(*registry.password)
            return not registry.wants_token or said == f"Bearer {TOKEN}"

        def _token(self, query: Mapping[str, list[str]]) -> None:
            assert query["service"] == ["paper"]
            assert query["scope"][0].startswith("repository:")
            registry.scopes += query["scope"]
            said = self.headers.get("Authorization", "")
            if registry.password is None or said == _basic(*registry.password):
                self._answer(200, json.dumps({"token": TOKEN}).encode())
            else:
                self._answer(401, b"{}")

        def _content(self, path: str) -> None:
            repository, _, rest = path.removeprefix("/v2/").rpartition("/")
            repository, _, kind = repository.rpartition("/")
            if kind == "blobs" and registry.has_blob(repository, rest):
                self._blob(registry.blobs[rest])
                return
            key = f"{repository}@{rest}" if rest.startswith("sha256:") else f"{repository}:{rest}"
            if kind == "manifests" and key in registry.manifests:
                media_type, data = registry.manifests[key]
                self._answer(200, data, {"Content-Type": media_type, "Docker-Content-Digest": digest(data)})
                return
            errors = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
            self._answer(404, json.dumps(errors).encode())

        def _blob(self, data: bytes) -> None:
            start = int(self._range().removeprefix("bytes=").rstrip("-") or 0) if registry.ranges else 0
            rest = data[start:]
            self._answer(206 if start else 200, rest, body_size=registry.cut)

        def _answer(
            self,
            status: int,
            data: bytes,
            headers: Mapping[str, str] | None = None,
            body_size: int | None = None,
        ) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[:body_size])
            self.close_connection = self.close_connection or body_size is not None

    return Handler


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
