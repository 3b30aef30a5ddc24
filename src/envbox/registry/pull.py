"""From a registry into the cache: tags to digests, manifests and blobs by digest, verified before they count.

What has a digest is asked for once ever: a blob in the cache is never fetched again, so a registry that is
down matters only for what is not there yet. A broken transfer goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from envbox.cache import Memo
from envbox.documents import read_json
from envbox.errors import ImageError, ToolError
from envbox.files import read_file, remove, whole_file, write_whole
from envbox.oci import (
    DOCKER_INDEX_TYPE,
    DOCKER_MANIFEST_TYPE,
    INDEX_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    Digest,
    Manifest,
    digest_of,
    parse_digest,
    parse_manifest,
)
from envbox.platforms import conda_platform
from envbox.registry import access as http
from envbox.registry.access import Access, TransferStopped
from envbox.registry.parallel import at_once
from envbox.registry.reference import Reference
from envbox.registry.responses import read_bounded, reason
from envbox.settings import Settings

LARGEST_MANIFEST = 4 * 2**20  # bytes; the distribution specification's limit
LARGEST_CONFIG = 16 * 2**20  # bytes; the largest ones are of a few kB
CHUNK = 2**18
ACCEPT = {"Accept": ", ".join((INDEX_TYPE, MANIFEST_TYPE, DOCKER_INDEX_TYPE, DOCKER_MANIFEST_TYPE))}

Advance = Callable[[int], None]


def _ignore(amount: int) -> None:
    """Tell nobody how far a transfer is."""


def resolve(reference: Reference, platforms: Sequence[str], settings: Settings) -> dict[str, Digest]:
    """Return the digest of the image's manifest for each platform, as the registry has it now.

    A single-platform image counts for its own platform. With a digest in the reference, no tag is asked for.

    :raises ImageError: when there is no such image, or none for one of the platforms
    """
    access = Access(reference, settings)
    digest = reference.digest or _tag_digest(access, settings)
    top = parse_manifest(_manifest_bytes(access, digest, settings), str(reference))
    if isinstance(top, Manifest):
        found = {_platform_of(access, top, settings): digest}
    else:
        found = {platform: descriptor.digest for platform, descriptor in top.items()}
    missing = [platform for platform in platforms if platform not in found]
    if missing:
        has = ", ".join(sorted(filter(None, found))) or "no platform that conda has"
        raise ImageError(
            f"the image {reference} is not there for {', '.join(missing)}: {access.where} has it for {has}",
            "lock for fewer platforms (--platform), or set another base",
        )
    return {platform: found[platform] for platform in platforms}


def fetch_manifest(access: Access, digest: Digest, settings: Settings) -> Manifest:
    """Return one platform's manifest, from the cache or the registry.

    :raises ImageError: when it is not there, or is something else
    """
    found = parse_manifest(_manifest_bytes(access, digest, settings), f"{access.reference.name}@{digest}")
    if not isinstance(found, Manifest):
        raise ImageError(
            f"{access.reference.name}@{digest} is an index of several images, where one was meant"
        )
    return found


def blob_path(settings: Settings, digest: Digest) -> Path:
    """Return where a blob lies in the cache, or would."""
    return settings.cache_dir / "blobs" / "sha256" / digest.removeprefix("sha256:")


def fetch_blob(access: Access, blob: Descriptor, settings: Settings, advance: Advance = _ignore) -> Path:
    """Return a verified blob in the cache; nothing is asked when it is there.

    :param advance: is told of bytes
    :raises ImageError: when the registry does not have it, or sends something else under its name
    """
    path = blob_path(settings, blob.digest)
    if is_cached(path, blob):
        advance(blob.size)
        return path
    for _ in range(2):  # once more: a resumed transfer may have been joined wrongly
        got = _download(access, blob, path, advance)
        if got == blob.digest:
            if path.stat().st_size != blob.size:
                raise ImageError(
                    f"the image {access.reference} is damaged: it says that {blob.digest} is of {blob.size} "
                    f"bytes, and it is of {path.stat().st_size}"
                )
            return path
    raise ImageError(
        f"{access.where} sends something else for {blob.digest} of {access.reference}: {got}; it was deleted",
        "the registry, a mirror or a proxy in between is damaged; try another",
    )


def fetch_config(access: Access, manifest: Manifest, settings: Settings) -> bytes:
    """Return an image's config.

    :raises ImageError: when it is none, and as `fetch_blob`
    """
    if manifest.config.size > LARGEST_CONFIG:
        raise ImageError(
            f"the config of {access.reference} is larger than the {LARGEST_CONFIG >> 20} MiB that it may be"
        )
    return read_blob(access, manifest.config, settings)


def fetch_blobs(
    access: Access, blobs: Sequence[Descriptor], settings: Settings, advance: Advance = _ignore
) -> list[Path]:
    """Return several blobs at once; when one fails or the caller is interrupted, the others end as well."""
    return at_once(access, blobs, lambda blob: fetch_blob(access, blob, settings, advance))


def read_blob(access: Access, blob: Descriptor, settings: Settings) -> bytes:
    """Return a small blob's bytes; what the cache has damaged is fetched anew.

    :raises ImageError: as `fetch_blob`
    """
    for _ in range(2):
        path = fetch_blob(access, blob, settings)
        with suppress(OSError):
            data = read_file(path)
            if digest_of(data) == blob.digest:
                return data
        with suppress(OSError):
            remove(path)
    raise ImageError(f"{blob.digest} of {access.reference} cannot be kept at {path}", "envbox clean blobs")


def is_cached(path: Path, blob: Descriptor) -> bool:
    """Return whether a blob that belongs at a path needs no registry.

    Names in the cache are digests, given after checking; only a size can show later damage cheaply.
    """
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == blob.size


class _WrongDigestError(Exception):
    """What came is not what was asked for; never leaves this module."""


def _download(access: Access, blob: Descriptor, path: Path, advance: Advance) -> Digest:
    """Stream a blob to `path`, which appears only when its digest is right; returns the digest that came."""
    hasher, size = hashlib.sha256(), 0
    try:
        with whole_file(path) as file:
            for position, chunk in _chunks(access, blob):
                if position < size:  # the registry cannot resume: from the start again
                    advance(-size)
                    file.seek(0)
                    file.truncate()
                    hasher, size = hashlib.sha256(), 0
                file.write(chunk)
                hasher.update(chunk)
                size += len(chunk)
                advance(len(chunk))
            if hasher.hexdigest() != blob.digest.removeprefix("sha256:"):
                raise _WrongDigestError
    except _WrongDigestError:
        advance(-size)
    return Digest("sha256:" + hasher.hexdigest())


def _chunks(access: Access, blob: Descriptor) -> Iterator[tuple[int, bytes]]:
    """Yield the blob's bytes, each piece with its position; after a break, from there on if the registry
    can.
    """
    import requests

    position, furthest, delays = 0, 0, list(http.RETRY_DELAYS)
    while True:
        response = access.get(f"blobs/{blob.digest}", {"Range": f"bytes={position}-"} if position else {})
        if response.status_code >= 400:
            response.close()
            raise ImageError(
                f"{access.where} has the image {access.reference}, but not its blob {blob.digest}"
            )
        position = position if response.status_code == 206 else 0
        failure = ""
        try:
            for chunk in response.iter_content(CHUNK):
                if access.stop.is_set():
                    raise TransferStopped
                yield position, chunk
                position += len(chunk)
                if position > blob.size:
                    return
            return
        except requests.RequestException as error:
            failure = reason(error)
        finally:
            response.close()
        if position > furthest:
            furthest, delays = position, list(http.RETRY_DELAYS)
        if not delays:
            raise ToolError(
                f"the transfer of {blob.digest} from {access.where} broke off at {position} of {blob.size} "
                f"bytes: {failure}",
                "try again",
            )
        access.stop.wait(delays.pop(0))


def _tag_digest(access: Access, settings: Settings) -> Digest:
    """Return what the tag means now: a HEAD, which registries that count requests do not count.

    Offline, it means what it meant when it was last asked for.
    """
    path = settings.cache_dir / "bases" / f"tag-{digest_of(str(access.reference).encode())[7:23]}"
    memo = Memo(path, parse_digest, str)
    if settings.offline and (known := memo.read()):
        return known
    digest = _asked_digest(access, settings)
    memo.write(digest)
    return digest


def _asked_digest(access: Access, settings: Settings) -> Digest:
    response = access.head(f"manifests/{access.reference.tag}", ACCEPT)
    response.close()
    if response.status_code == 404:
        raise _not_found(access)
    if digest := response.headers.get("Docker-Content-Digest"):
        return parse_digest(digest)
    data = _read_manifest(access, str(access.reference.tag))
    write_whole(blob_path(settings, digest_of(data)), data)
    return digest_of(data)


def _manifest_bytes(access: Access, digest: Digest, settings: Settings) -> bytes:
    path = blob_path(settings, digest)
    try:
        data = read_file(path)
        if digest_of(data) == digest:
            return data
    except OSError:
        pass  # not there, or nothing that could be read
    data = _read_manifest(access, digest)
    if digest_of(data) != digest:
        raise ImageError(
            f"{access.where} sends something else for the manifest {digest} of {access.reference}",
            "the registry, a mirror or a proxy in between is damaged; try another",
        )
    with suppress(ToolError):  # where the cache is only read, it is asked for each time
        write_whole(path, data)
    return data


def _read_manifest(access: Access, tag_or_digest: str) -> bytes:
    import requests

    response = access.get(f"manifests/{tag_or_digest}", ACCEPT)
    if response.status_code >= 400:
        response.close()
        raise _not_found(access)
    try:
        return read_bounded(response, LARGEST_MANIFEST, f"a manifest of {access.reference} at {access.where}")
    except requests.RequestException as error:
        raise ToolError(
            f"{access.where} broke off a manifest of {access.reference}: {reason(error)}"
        ) from error


def _not_found(access: Access) -> ImageError:
    return ImageError(
        f"there is no image {access.reference} at {access.where}",
        "check its name and tag; the base is set with `base` in envbox.toml, or ENVBOX_BASE",
    )


def _platform_of(access: Access, manifest: Manifest, settings: Settings) -> str:
    try:
        config = read_json(fetch_config(access, manifest, settings))
        system, architecture = config["os"], config["architecture"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ImageError(f"{access.reference} is not a container image: it has no image config") from error
    return (conda_platform(architecture) if system == "linux" else None) or ""
