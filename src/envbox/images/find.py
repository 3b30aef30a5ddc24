"""From a name to an image: an environment of the project, or an image in the engine or a registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from envbox.errors import ImageError
from envbox.files import read_file
from envbox.images.build import repository
from envbox.images.checked import checked_blob
from envbox.images.saved import Keep, Room, SavedImage, read_archive, read_layer
from envbox.packages.link.tar import CHUNK
from envbox.platforms import container_platform
from envbox.project import Project
from envbox.registry import (
    Access,
    Reference,
    blob_path,
    fetch_blob,
    fetch_config,
    fetch_manifest,
    parse_reference,
    resolve,
)
from envbox.report import Reporter
from envbox.settings import Settings

if TYPE_CHECKING:
    from envbox.engine import Engine

REGISTRY = "docker://"
"""What a reference begins with that is looked for in its registry only; as skopeo and podman have it."""


def in_engine(
    name: str | None, project: Project, engine: Engine, keep: Keep, report: Reporter
) -> Callable[[bool], SavedImage]:
    """Give the way to read an image in the engine, as often as it takes.

    :param name: of one of the project's environments, or of an image, or its ID; without, the project's one
        environment is meant
    :raises ImageError: when there is no such image
    """
    names = [environment.name for environment in project.environments]
    if name is None or name in names:
        environment = project.environment(name)
        reference = f"{repository(environment.name)}:latest"
        hint = f"envbox build {environment.name}"
    else:
        reference = name
        hint = f"for one in a registry: {REGISTRY}{name}"
    image_id = engine.image_id(reference)
    if image_id is None:
        raise ImageError(f"there is no image {reference} in the engine", hint)

    def read(hashed: bool) -> SavedImage:
        with report.task(f"reading {reference}"):
            return read_archive(engine.save(reference), reference, keep, image_id, hashed=hashed)

    return read


def in_registry(
    name: str, platform: str | None, keep: Keep, settings: Settings, report: Reporter
) -> Callable[[bool], SavedImage]:
    """Give the way to read an image in a registry.

    :param name: a reference, with or without `docker://`
    :param platform: of several that a reference can be for; this machine's when not said
    :raises ImageError: when there is no such image
    """
    reference = parse_reference(name.removeprefix(REGISTRY))
    platform = platform or container_platform()
    digest = resolve(reference, [platform], settings)[platform]
    access = Access(Reference(reference.registry, reference.repository, reference.tag, digest), settings)
    manifest = fetch_manifest(access, digest, settings)

    def read(hashed: bool) -> SavedImage:
        layers, room = [], Room()
        with report.task(f"reading {reference}", sum(blob.size for blob in manifest.layers), "bytes") as task:
            for blob in manifest.layers:
                path = fetch_blob(access, blob, settings, task.advance)
                with checked_blob(path, blob.digest) as file:
                    pieces = iter(lambda: file.read(CHUNK), b"")
                    layers.append(read_layer(pieces, keep, hashed=hashed, size=blob.size, room=room))
        config = fetch_config(access, manifest, settings)
        return SavedImage(str(reference), config, tuple(layers), read_file(blob_path(settings, digest)))

    return read
