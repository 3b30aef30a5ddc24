"""An image made anew from its lockfile, and held against the one that is there.

Nothing that was made before is used: fragments, layers, byte-code and the Python that compiles it are made in
a cache folder of their own, which is gone afterwards. Archives as they were downloaded may come from the
cache, since they are held against the lock's hash when they are opened; so may the base's config.

An image may be anybody's, and so is the lockfile inside it. Its Python compiles confined, as any other's; its
packages come from servers, by the user's own mirrors and logins, and no other place is looked at.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from envbox.documents import read_json
from envbox.errors import ImageError
from envbox.files import disk_error, make_folder, open_file, read_file, write_whole
from envbox.image_paths import FORMAT_LABEL
from envbox.images.archive import load_manifest
from envbox.images.assemble import CODEC_ANNOTATION, IMAGE_FORMAT, Image
from envbox.images.build import make_image
from envbox.images.saved import Entry, SavedImage, SavedLayer, read_layer
from envbox.images.saved_tree import overlay
from envbox.images.verify.compare import (
    FileDifference,
    compare_entries,
    compare_on_top,
    compare_values,
    paired_layers,
)
from envbox.lockfile import Base, Lock, plain_lines
from envbox.lockfile.conda_lock_v1 import loads
from envbox.mirrors import public
from envbox.oci import Digest, digest_of, parse_digest
from envbox.packages.activation import LOCKFILE
from envbox.packages.link.frames import CODEC
from envbox.project import LOCK_SUFFIX
from envbox.registry import blob_path
from envbox.registry.base import BaseLayer, fetch_layers, pull_base
from envbox.registry.lock_with_base import LockWithBase
from envbox.report import Reporter
from envbox.settings import Settings

if TYPE_CHECKING:
    from envbox.images.layers import Layer
    from envbox.registry.base import BaseImage

Read = Callable[[bool], SavedImage]
"""Read the image; True: with a hash of every file."""

_TITLE = "org.opencontainers.image.title"
_SAYS_NOTHING = ("", "None", "False", "[]", "{}")
_BASE_NAME, _BASE_DIGEST = "org.opencontainers.image.base.name", "org.opencontainers.image.base.digest"


@dataclass(frozen=True, slots=True)
class Verification:
    """What comparing came to.

    :param id: of the image that is there
    :param expected_id: of the one that was made
    :param layers: how many it has
    :param notes: what could not be compared, and why
    """

    image: str
    id: Digest
    expected_id: Digest
    lock_digest: str
    platform: str
    layers: int
    differences: tuple[FileDifference, ...]
    notes: tuple[str, ...] = ()

    @property
    def is_identical(self) -> bool:
        """Whether nothing differs."""
        return not self.differences


def is_lockfile(path: str) -> bool:
    """Return whether a path (relative to `/`) is that of the lockfile inside an image."""
    return path == LOCKFILE.lstrip("/")


def verify_image(
    read: Read, settings: Settings, report: Reporter, lockfile: Path | None = None, *, fresh: bool = False
) -> Verification:
    """Make an image anew from its lockfile and compare: layers, then the config, then the manifest.

    :param lockfile: that the image should be of; without, the one inside it
    :param fresh: take nothing from the cache, but fetch every archive anew
    :raises ImageError: when it has no lockfile, or its base is not there
    :raises EnvboxError: what building can raise
    """
    saved = read(False)
    platform = saved.platform
    data = plain_lines(lockfile.read_bytes()) if lockfile else saved.kept(LOCKFILE.lstrip("/"))
    if data is None:
        raise ImageError(
            f"there is no lockfile in {saved.name}, so envbox cannot tell what it should be",
            "envbox verify IMAGE --lock FILE",
        )
    title = saved.labels.get(_TITLE) or "image"
    lock = loads(data, lockfile or Path(f"{title}{LOCK_SUFFIX}"))
    if lockfile is None:
        _refuse_odd_places(lock, saved.name)
    lock.for_platform(platform)  # else it is said before anything is fetched
    base = lock.base or _base_of(saved, platform)
    with _fresh_cache(settings, base, platform, fresh=fresh) as apart:
        pulled = pull_base(base, platform, apart)
        image = make_image(LockWithBase(lock, data, base), pulled, apart, report)
        differences = list(_layer_differences(image, pulled, read, saved, (apart, report)))
        differences += _config_differences(image, saved, is_same=not differences)
    notes = [*_format_note(saved)]
    if not differences:
        differences, notes = _manifest_differences(image, saved, notes)
    return Verification(
        saved.name,
        saved.id,
        image.id,
        lock.digest,
        platform,
        len(saved.layers),
        tuple(differences),
        tuple(notes),
    )


def _refuse_odd_places(lock: Lock, name: str) -> None:
    """See that a lockfile, which an image brought, sends us to servers and nowhere else.

    :raises ImageError: naming the package and where it is said to be
    """
    for package in lock.packages:
        parts = urlsplit(package.url)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise ImageError(
                f"the lockfile in {name} says that {package.name} is at {public(package.url)}, "
                "which is no server's address",
                "if you have that lockfile from somebody you trust: envbox verify IMAGE --lock FILE",
            )


def _base_of(saved: SavedImage, platform: str) -> Base:
    """Return the base that the image says it stands on: its lockfile pins none."""
    labels = saved.labels
    if _BASE_NAME not in labels or _BASE_DIGEST not in labels:
        raise ImageError(
            f"neither the lockfile nor the labels of {saved.name} say what its base is",
            "it was not made by envbox, or its labels were removed",
        )
    return Base(labels[_BASE_NAME], {platform: labels[_BASE_DIGEST]}, {})


@contextmanager
def _fresh_cache(settings: Settings, base: Base, platform: str, *, fresh: bool) -> Iterator[Settings]:
    """Yield settings with a cache folder that is gone afterwards."""
    try:
        make_folder(settings.cache_dir)
        with tempfile.TemporaryDirectory(
            prefix=".verify.", suffix=".part", dir=settings.cache_dir, ignore_cleanup_errors=True
        ) as name:
            apart = replace(settings, cache_dir=Path(name))
            if not fresh:
                archives = settings.cache_dir / "packages"
                make_folder(archives)
                (apart.cache_dir / "packages").symlink_to(archives)
                _bring_base(base, platform, settings, apart)
            yield apart
    except OSError as error:
        raise disk_error(settings.cache_dir, error) from error


def _bring_base(base: Base, platform: str, settings: Settings, apart: Settings) -> None:
    """Take the base's manifest and config from the cache where they are what their digests say."""
    if platform not in base.digests:
        return
    wanted = [parse_digest(base.digests[platform])]
    for digest in wanted:
        try:
            data = read_file(blob_path(settings, digest))
        except OSError:
            return
        if digest_of(data) != digest:
            return
        write_whole(blob_path(apart, digest), data)
        if len(wanted) == 1:
            wanted.append(parse_digest(read_json(data)["config"]["digest"]))


def _layer_differences(
    image: Image, base: BaseImage, read: Read, saved: SavedImage, ways: tuple[Settings, Reporter]
) -> Iterator[FileDifference]:
    pairs = list(paired_layers(image.diff_ids, [layer.diff_id for layer in saved.layers]))
    if not pairs:
        return
    settings, report = ways
    found = read(True).layers  # once more, now with the hash of every file
    read_anew = [image.layers[mine] for mine, _ in pairs if mine is not None]
    fetch_layers(base, [x for x in read_anew if isinstance(x, BaseLayer)], settings, report)
    for mine, theirs in pairs:
        layer = None if mine is None else image.layers[mine]
        entries = () if theirs is None else found[theirs].entries
        owner = _owner(image, layer)
        if layer is None:
            yield from compare_on_top(_all_entries(image, found), entries, owner, f"layer {theirs}")
        else:
            yield from compare_entries(_entries(layer), entries, owner, f"layer {mine}")


def _all_entries(image: Image, found: Sequence[SavedLayer]) -> Mapping[str, Entry]:
    """Return what should be at each path. A layer that is there already need not be read anew."""
    known = {layer.diff_id: layer.entries for layer in found}
    return overlay(known.get(layer.diff_id) or _entries(layer) for layer in image.layers)


def _entries(layer: BaseLayer | Layer) -> Sequence[Entry]:
    if not isinstance(layer, BaseLayer):
        return read_layer(layer.open_raw(), lambda path: False).entries
    with open_file(layer.path) as file:
        pieces = iter(lambda: file.read(1 << 20), b"")
        return read_layer(pieces, lambda path: False, size=layer.blob.size).entries


def _owner(image: Image, layer: BaseLayer | Layer | None) -> Callable[[str], str | None]:
    """Return who has a path: a package of the layer, else of the image, else nobody."""
    known: dict[str, str] = {}
    for other in (*image.layers, layer):
        if other is not None and not isinstance(other, BaseLayer):
            for fragment in other.fragments:
                known |= dict.fromkeys(fragment.paths, fragment.name)
    if isinstance(layer, BaseLayer):
        return lambda path: "(base)"
    return known.get


def _config_differences(image: Image, saved: SavedImage, *, is_same: bool) -> Iterator[FileDifference]:
    """Yield what the configs say differently; their lists of layers were compared when the layers were."""
    if image.config == saved.config:
        return
    expected, found = dict(json.loads(image.config)), dict(saved.document)
    if not is_same:
        expected.pop("rootfs", None)
        found.pop("rootfs", None)
    differences = list(compare_values(expected, found))
    # engines that wrote a config themselves put in a lot that says nothing
    telling = [d for d in differences if not (d.field == "extra" and d.found in _SAYS_NOTHING)]
    yield from telling or differences
    if is_same and not differences:
        yield FileDifference(
            "config", "encoding", "the JSON that envbox writes", "JSON that says the same otherwise"
        )


def _manifest_differences(
    image: Image, saved: SavedImage, notes: Sequence[str]
) -> tuple[list[FileDifference], list[str]]:
    if saved.manifest is None:
        return [], [*notes, "layers and config were compared; the engine keeps no manifest"]
    if saved.manifest in (image.manifest, load_manifest(image)):
        return [], list(notes)
    found = json.loads(saved.manifest)
    codec = (found.get("annotations") or {}).get(CODEC_ANNOTATION)
    if codec != CODEC:
        said = f"with {codec}" if codec else "by somebody else"
        return [], [
            *notes,
            f"its manifest was not compared: the layers were compressed {said}, not with {CODEC}",
        ]
    return list(compare_values(json.loads(image.manifest), found, "manifest")), list(notes)


def _format_note(saved: SavedImage) -> Iterator[str]:
    said = saved.labels.get(FORMAT_LABEL)
    if said != IMAGE_FORMAT:
        yield f"it says it is of image format {said}, and this envbox makes format {IMAGE_FORMAT}"
