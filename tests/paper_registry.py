"""A small registry in this process, for what a good one never does: refuse, break off, lie, ask who we are.

It speaks the distribution specification over real HTTP. The images in it hold a few files: what a base must
have.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from envbox.oci import image_platform

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
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(registry))
    server.daemon_threads = True
    registry.host = f"127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(registry: PaperRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None: ...

        def do_GET(self) -> None:
            registry.log.append(f"{self.command} {self.path}{self._range(' ')}")
            registry.authorizations.append(self.headers.get("Authorization", ""))
            parts = urlsplit(self.path)
            if parts.path == "/token":
                self._token(parse_qs(parts.query))
            elif registry.statuses:
                self._answer(registry.statuses.pop(0), b"")
            elif not self._is_known():
                bearer = f'Bearer realm="http://{registry.host}/token",service="paper"'
                challenge = 'Basic realm="paper"' if registry.wants_basic else bearer
                self._answer(401, b"", {"WWW-Authenticate": challenge})
            else:
                self._content(parts.path)

        do_HEAD = do_GET

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
            said = self.headers.get("Authorization", "")
            if registry.password is None or said == _basic(*registry.password):
                self._answer(200, json.dumps({"token": TOKEN}).encode())
            else:
                self._answer(401, b"{}")

        def _content(self, path: str) -> None:
            repository, _, rest = path.removeprefix("/v2/").rpartition("/")
            repository, _, kind = repository.rpartition("/")
            if kind == "blobs" and rest in registry.blobs:
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
