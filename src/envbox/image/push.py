"""`envbox push`: from the lockfile into a registry, without an engine.

What was pushed once is known by its documents, so to push it again is to ask for each blob whether it is
there. Nothing is made before the registry has answered once: a wrong name or password shows at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from envbox.image.publication import Publication, Wanted, make, remembered
from envbox.oci import Descriptor, Digest
from envbox.registry.access import Access
from envbox.registry.push import means, missing_blobs, push_access, put_document, upload_blobs
from envbox.registry.reference import Reference
from envbox.report import Reporter
from envbox.settings import Settings


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a registry has now.

    :param sent: bytes of blobs that it did not have
    :param is_new: whether the tag was moved
    """

    reference: Reference
    publication: Publication
    sent: int
    is_new: bool

    @property
    def name(self) -> str:
        """The name that never means anything else: repository and digest."""
        return f"{self.reference}@{self.publication.digest}"


def push(wanted: Wanted, reference: Reference, settings: Settings, report: Reporter) -> Pushed:
    """Have an environment's image in a registry, for all platforms that are wanted, under a tag.

    :raises ImageError: when we may not, or there is no such repository
    :raises ToolError: when the registry cannot be reached, or keeps failing; the tag means what it meant then
    :raises EnvboxError: what building can raise
    """
    access = push_access(reference, settings)
    tag = str(reference.tag)
    before = means(access, tag)
    publication = remembered(wanted, settings)
    missing = missing_blobs(access, publication.blobs) if publication else set[Digest]()
    if publication is None or missing:
        made = make(wanted, settings, report)
        access = push_access(reference, settings, made.blobs)
        if publication != made.publication:
            missing = missing_blobs(access, made.publication.blobs)
        publication = made.publication
        _say(publication.blobs, missing, access, report)
        upload_blobs(access, [b for b in made.blobs if b.descriptor.digest in missing], report)
    if before != publication.digest:
        if publication.top != publication.images[0].manifest:
            for image in publication.images:
                put_document(access, image.manifest)
        put_document(access, publication.top, tag)
    sent = sum(blob.size for blob in publication.blobs if blob.digest in missing)
    return Pushed(reference, publication, sent, before != publication.digest)


def _say(blobs: tuple[Descriptor, ...], missing: set[Digest], access: Access, report: Reporter) -> None:
    size = sum(blob.size for blob in blobs if blob.digest in missing)
    there = len(blobs) - len(missing)
    report.say(f"blobs: {len(missing)} new ({size / 1e6:,.1f} MB), {there} there at {access.where}")
