"""The lockfile that lies inside an image, given back.

It is a small file in the uppermost layer that we make, so of an image in a registry the layers are read from
the top, and only until it is found; an engine gives an image only as a whole.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from envbox.errors import ImageError, LockfileError, ToolError
from envbox.images.checked import checked_blob
from envbox.images.find import REGISTRY, in_engine
from envbox.images.saved import read_layer
from envbox.lockfile.conda_lock_v1 import loads
from envbox.packages.activation import LOCKFILE
from envbox.packages.link.tar import CHUNK
from envbox.platforms import container_platform
from envbox.project import Project, is_reference
from envbox.registry import Access, Reference, fetch_blob, fetch_manifest, parse_reference, resolve
from envbox.report import Reporter
from envbox.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from envbox.engine import Engine

_PATH = LOCKFILE.lstrip("/")


def lockfile_in_engine(name: str, project: Project, engine: Engine, report: Reporter) -> bytes:
    """Return the lockfile of an image in the engine: an environment's name, an image's name or its ID.

    :raises ImageError: when there is no such image, or no lockfile in it
    """
    image = in_engine(name, project, engine, _is_lockfile, report)(False)
    return _checked(image.kept(_PATH), name)


def lockfile_in_registry(name: str, platform: str | None, settings: Settings, report: Reporter) -> bytes:
    """Return the lockfile of an image in a registry.

    :param platform: of several that a reference can be for; the lockfile is the same in each that envbox made
    :raises ImageError: when there is no such image, or no lockfile in it
    """
    reference = parse_reference(name.removeprefix(REGISTRY))
    platform = platform or container_platform()
    digest = resolve(reference, [platform], settings)[platform]
    access = Access(Reference(reference.registry, reference.repository, reference.tag, digest), settings)
    for blob in reversed(fetch_manifest(access, digest, settings).layers):
        with report.task(f"reading {reference}", blob.size, "bytes") as task:
            path = fetch_blob(access, blob, settings, task.advance)
            with checked_blob(path, blob.digest) as file:
                pieces = iter(lambda: file.read(CHUNK), b"")
                layer = read_layer(pieces, _is_lockfile, hashed=False, size=blob.size)
            found = layer.kept.get(_PATH)
        if found is not None:
            return _checked(found, str(reference))
    return _checked(None, str(reference))


def find_lockfile(
    name: str, project: Project, connect: Callable[[], Engine], settings: Settings, report: Reporter
) -> bytes:
    """Return the lockfile inside an image: of the engine, or a registry where that has none of this
    reference.

    :param name: an environment's, an image's or its ID; `docker://…` is looked for in its registry only
    :param connect: gives the engine; a registry needs none
    :raises ImageError: when there is no such image, or no lockfile in it
    """
    if name.startswith(REGISTRY):
        return lockfile_in_registry(name, None, settings, report)
    is_ours = name in {environment.name for environment in project.environments}
    if is_reference(name) and not is_ours and not _is_in_engine(name, connect):
        report.say(f"{name} is not in the engine: looking in its registry")
        return lockfile_in_registry(name, None, settings, report)
    return lockfile_in_engine(name, project, connect(), report)


def _is_in_engine(name: str, connect: Callable[[], Engine]) -> bool:
    try:
        return connect().image_id(name) is not None
    except ToolError:  # there is no engine here
        return False


def _checked(found: bytes | None, name: str) -> bytes:
    if found is None:
        raise ImageError(f"{name} has no lockfile: there is no {LOCKFILE} in it, so envbox did not make it")
    try:
        loads(found, Path(LOCKFILE))
    except LockfileError as error:
        raise ImageError(f"the lockfile in {name} is damaged: {error.message}") from error
    return found


def _is_lockfile(path: str) -> bool:
    return path == _PATH
