"""Puts blobs and manifests into a registry on this machine: OCI's distribution API, plain http, no engine."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from rigging.state import RigError


@dataclass(frozen=True, slots=True)
class Registry:
    """One repository of a registry at `host:port`."""

    address: str
    repository: str

    def put_blob(self, data: bytes) -> str:
        """Upload a blob unless it is there; return its digest."""
        digest = _digest(data)
        if self._ask("HEAD", f"/v2/{self.repository}/blobs/{digest}")[0] == http.HTTPStatus.OK:
            return digest
        status, headers = self._ask("POST", f"/v2/{self.repository}/blobs/uploads/")
        self._demand(status, http.HTTPStatus.ACCEPTED, "start an upload")
        where = urlsplit(headers["location"])
        query = f"{where.query}&digest={digest}" if where.query else f"digest={digest}"
        status, _ = self._ask(
            "PUT", f"{where.path}?{query}", data, {"Content-Type": "application/octet-stream"}
        )
        self._demand(status, http.HTTPStatus.CREATED, "upload a blob")
        return digest

    def put_manifest(self, data: bytes, kind: str, tag: str | None = None) -> str:
        """Upload a manifest or an index, under its digest or a tag; return its digest."""
        digest = _digest(data)
        path = f"/v2/{self.repository}/manifests/{tag or digest}"
        status, _ = self._ask("PUT", path, data, {"Content-Type": kind})
        self._demand(status, http.HTTPStatus.CREATED, "upload a manifest")
        return digest

    def digest_of(self, tag: str) -> str | None:
        """The digest that a tag has; None when the registry does not have it."""
        kinds = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
        status, headers = self._ask(
            "HEAD", f"/v2/{self.repository}/manifests/{tag}", headers={"Accept": kinds}
        )
        return headers.get("docker-content-digest") if status == http.HTTPStatus.OK else None

    def _ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str]]:
        connection = http.client.HTTPConnection(self.address, timeout=60)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            response.read()
            return response.status, {key.lower(): value for key, value in response.getheaders()}
        except OSError as error:
            raise RigError(f"the registry at {self.address} does not answer: {error}") from error
        finally:
            connection.close()

    def _demand(self, status: int, wanted: int, what: str) -> None:
        if status != wanted:
            raise RigError(f"the registry at {self.address} answers {status} to an attempt to {what}")


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
