"""An image into a registry, without an engine: what is not there is sent, and the name is given at last.

Blobs go first, then the manifests by digest, then what the tag shall mean: a push that is broken off at any
moment leaves a registry in which the tag still means what it meant. The next push asks again (a HEAD for each
blob) and sends the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from envbox.errors import ImageError, ToolError
from envbox.oci import Descriptor, Digest, digest_of
from envbox.registry.access import Access
from envbox.registry.parallel import at_once
from envbox.registry.pull import ACCEPT
from envbox.registry.reference import Reference, push_endpoint
from envbox.registry.upload import Blob, has_blob, mount_source, upload_blob
from envbox.report import Reporter
from envbox.settings import Settings


@dataclass(frozen=True, slots=True)
class PushedDocument:
    """A manifest or an index: its bytes, and what they are."""

    media_type: str
    data: bytes

    @property
    def descriptor(self) -> Descriptor:
        """What points to it."""
        return Descriptor(self.media_type, digest_of(self.data), len(self.data))


def push_access(reference: Reference, settings: Settings, blobs: Iterable[Blob] = ()) -> Access:
    """Return the way to a repository that is to be written.

    :param blobs: what is to be stored; what can be mounted must be allowed to be read
    :raises ImageError: when the reference has a digest: what is pushed has its own
    """
    if reference.digest is not None:
        raise ImageError(
            f"{reference} names what is to be made by its digest", f"push to a tag: {reference.name}:latest"
        )
    target = push_endpoint(reference, settings.mirrors)
    sources = {source for blob in blobs if (source := mount_source(blob, target))}
    return Access(reference, settings, actions="pull,push", also=sorted(sources))


def missing_blobs(access: Access, descriptors: Iterable[Descriptor]) -> set[Digest]:
    """Return the digests that the repository does not have: a HEAD for each."""
    wanted = list({descriptor.digest: descriptor for descriptor in descriptors}.values())
    found = at_once(access, wanted, lambda descriptor: has_blob(access, descriptor))
    return {descriptor.digest for descriptor, there in zip(wanted, found, strict=True) if not there}


def upload_blobs(access: Access, blobs: Iterable[Blob], report: Reporter) -> int:
    """Store blobs, several at once; when one fails or the caller is interrupted, the others end as well.

    :returns: how many bytes had to be sent; what the registry could mount is not among them

    :raises ImageError: when we may not
    :raises ToolError: when the registry keeps failing
    """
    wanted = sorted(
        {blob.descriptor.digest: blob for blob in blobs}.values(), key=lambda blob: -blob.descriptor.size
    )
    total = sum(blob.descriptor.size for blob in wanted)
    with report.task(f"pushing {access.reference.name}", total, "bytes") as task:
        return sum(at_once(access, wanted, lambda blob: upload_blob(access, blob, task.advance)))


def put_document(access: Access, document: PushedDocument, tag: str | None = None) -> None:
    """Store a manifest or an index under its digest, or under a tag; a HEAD when it is there already.

    :raises ToolError: when the registry refuses it
    """
    digest = document.descriptor.digest
    if means(access, tag or digest) == digest:
        return
    response = access.request(
        "PUT", f"manifests/{tag or digest}", {"Content-Type": document.media_type}, document.data
    )
    response.close()
    if response.status_code == 404:
        raise ToolError(
            f"{access.where} has lost a part of {access.reference} that was there a moment ago", "push again"
        )
    stored = response.headers.get("Docker-Content-Digest", digest)
    if stored != digest:
        raise ToolError(
            f"{access.where} stored {stored} under {access.reference}, where {digest} was sent",
            "the registry or a proxy in between rewrites manifests; try another",
        )


def means(access: Access, name: str) -> str | None:
    """Return the digest of the manifest that a tag or digest names in the repository; None when there is
    none.
    """
    response = access.head(f"manifests/{name}", ACCEPT)
    response.close()
    if response.status_code >= 400:
        return None
    return response.headers.get("Docker-Content-Digest", "unknown")


__all__ = ["Blob", "PushedDocument", "means", "missing_blobs", "push_access", "put_document", "upload_blobs"]
