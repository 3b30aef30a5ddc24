"""`envbox push`: from the lockfile into a registry, without an engine.

What was pushed once is known by its documents, so to push it again is to ask for each blob whether it is
there. Nothing is made before the registry has answered once: a wrong name or password shows at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from envbox.images.publication import Publication, PublishRequest, make, remembered
from envbox.oci import Digest
from envbox.registry.push import means, missing_blobs, push_access, put_document, upload_blobs
from envbox.registry.reference import Reference
from envbox.report import Reporter
from envbox.settings import Settings


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a registry has now.

    :param sent: bytes of blobs that had to be sent
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


def push(wanted: PublishRequest, reference: Reference, settings: Settings, report: Reporter) -> Pushed:
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
    sent = 0
    if publication is None or missing:
        made = make(wanted, settings, report)
        access = push_access(reference, settings, made.blobs)
        if publication != made.publication:
            missing = missing_blobs(access, made.publication.blobs)
        publication = made.publication
        wanting = [blob for blob in made.blobs if blob.descriptor.digest in missing]
        sent = upload_blobs(access, wanting, report) if wanting else 0
    if publication.top != publication.images[0].manifest:
        for image in publication.images:
            put_document(access, image.manifest)
    if before != publication.digest:
        put_document(access, publication.top, tag)
    there = len(publication.blobs) - len(missing)
    report.say(f"blobs: {len(missing)} new ({sent / 1e6:,.1f} MB sent), {there} there at {access.where}")
    return Pushed(reference, publication, sent, before != publication.digest)
