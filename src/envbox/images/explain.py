"""Why layers of an image are new: which packages of which versions, held against the image before.

The image before is what the engine has as `envbox/NAME:latest`. A layer can be new to an engine in two ways:
its bytes are (then some package changed, came, went or moved), or they are not, but it lies on one that is:
an engine that keeps unpacked layers must then unpack it again, while a registry has it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from envbox.images.record import BASE, BUCKET, ENVIRONMENT, OWN, ImageRecord, LayerRecord, PackageRecord
from envbox.oci import Digest

if TYPE_CHECKING:
    from envbox.engine import Engine
    from envbox.project import Environment
    from envbox.report import Reporter
    from envbox.settings import Settings

NEW, RESTACKED, REUSED = "new", "restacked", "reused"
ADDED, REMOVED, UPDATED, RELINKED, CAME, WENT = "added", "removed", "updated", "relinked", "came", "went"
_LARGE = "1 MiB"


@dataclass(frozen=True, slots=True)
class Cause:
    """What about one package made a layer new.

    :param change: ADDED, REMOVED, UPDATED; RELINKED: the same package, other bytes; CAME from another layer
        or WENT to one
    :param before: the version, with the build string where that tells them apart
    :param reason: in words, where the change alone does not say it
    :param raw_size: of the package as it is now, uncompressed, in bytes
    """

    package: str
    change: str
    before: str | None
    after: str | None
    reason: str
    raw_size: int

    def __str__(self) -> str:
        if self.change == UPDATED:
            words = f"{self.package} {self.before} → {self.after}"
        elif self.change in (ADDED, REMOVED):
            words = f"{self.package} {self.after or self.before} {self.change}"
        else:
            words = self.package
        return f"{words}: {self.reason}" if self.reason else words


@dataclass(frozen=True, slots=True)
class LayerStory:
    """A layer of the new image.

    :param name: for people
    :param state: NEW bytes; RESTACKED: the same bytes, to be loaded again; REUSED: the engine has it
    :param raw_size: uncompressed, in bytes; 0 for the base's
    :param size: compressed, in bytes
    """

    name: str
    diff_id: Digest
    state: str
    raw_size: int
    size: int
    causes: tuple[Cause, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """What building an image brings that was not there.

    :param previous: ID of the image before; None when there is none
    :param is_known: whether it is known what the image before consisted of
    """

    id: Digest
    previous: str | None
    is_known: bool
    layers: tuple[LayerStory, ...]

    def of(self, state: str) -> tuple[LayerStory, ...]:
        """Return the layers of one state."""
        return tuple(layer for layer in self.layers if layer.state == state)

    def to_json(self) -> dict[str, Any]:
        """Return all of it, for a program to read."""
        sums = {
            state: {
                "layers": len(found := self.of(state)),
                "raw_size": sum(layer.raw_size for layer in found),
                "size": sum(layer.size for layer in found),
            }
            for state in (NEW, RESTACKED, REUSED)
        }
        return {**asdict(self), **sums}


def explain(
    environment: Environment,
    settings: Settings,
    engine: Engine,
    report: Reporter,
    platform: str | None = None,
) -> Explanation:
    """Say what building an environment's image would bring into the engine; nothing is loaded.

    What is missing of the layers is made, since only then their bytes are known.

    :raises EnvboxError: what `build` raises
    """
    from envbox.images.archive import ImageArchive
    from envbox.images.build import make_image, repository
    from envbox.images.record import recall_record, record_of
    from envbox.lockfile.file import read_lock_bytes
    from envbox.registry.base import pull_base
    from envbox.registry.lock_with_base import read_lock_with_base

    platform = platform or engine.platform
    previous = engine.image_id(f"{repository(environment.name)}:latest")
    locked = read_lock_with_base(
        environment, read_lock_bytes(environment.lock_path), platform, settings, report
    )
    base = pull_base(locked.base, platform, settings)
    image = make_image(locked, base, settings, report)
    parcel = ImageArchive(image, "explained:1", engine.present(), engine.reads_zstd)
    before = recall_record(previous, settings) if previous else None
    missing = {layer.diff_id for layer in parcel.layers}
    return compare(record_of(image, locked.lock, platform), before, missing, previous)


def compare(
    now: ImageRecord, before: ImageRecord | None, missing: Collection[Digest], previous: str | None = None
) -> Explanation:
    """Hold an image against the one before. Pure.

    :param missing: diff_ids of the layers that the engine lacks
    """
    old = {layer.diff_id for layer in before.layers} if before else set()
    stories = []
    for layer in now.layers:
        is_new = layer.diff_id not in old
        state = REUSED if layer.diff_id not in missing else NEW if is_new else RESTACKED
        causes = tuple(_causes(layer, now, before)) if before and is_new else ()
        stories.append(LayerStory(_name(layer), layer.diff_id, state, layer.raw_size, layer.size, causes))
    return Explanation(now.id, previous, before is not None, tuple(stories))


def _name(layer: LayerRecord) -> str:
    if layer.home == OWN:
        return layer.packages[0].name
    if layer.home == BUCKET:
        many = len(layer.packages)
        return f"bucket {layer.number} ({many} package{'s' * (many > 1)})"
    return f"base, layer {layer.number + 1}" if layer.home == BASE else ENVIRONMENT


def _causes(layer: LayerRecord, now: ImageRecord, before: ImageRecord) -> Iterator[Cause]:
    counterpart = next((old for old in before.layers if old.place == layer.place), None)
    if layer.home == BASE:
        yield Cause("the base image", RELINKED, None, None, "it is another one", 0)
    elif layer.home == ENVIRONMENT:
        yield Cause("the lockfile", RELINKED, None, None, "it changed, and lies in the image", 0)
        places = {other.place for other in now.layers}
        for old in before.layers:  # a layer that is gone altogether
            if old.place not in places:
                yield from _gone(old, now)
    for package in layer.packages:
        yield from _cause(layer, package, now, before)
    if counterpart and counterpart.home != BASE:
        yield from _gone(counterpart, now)


def _gone(old: LayerRecord, now: ImageRecord) -> Iterator[Cause]:
    """Yield what was in a layer, and is not in the same one now."""
    for package in old.packages:
        if package.name not in now.packages:
            yield Cause(package.name, REMOVED, package.version, None, "", 0)
            continue
        there, new = now.packages[package.name]
        if there.place != old.place:
            reason = f"went to {_place(there)}, {_why(package, new, there)}"
            yield Cause(package.name, WENT, package.version, new.version, reason, 0)


def _cause(
    layer: LayerRecord, package: PackageRecord, now: ImageRecord, before: ImageRecord
) -> Iterator[Cause]:
    if package.name not in before.packages:
        yield Cause(package.name, ADDED, None, package.version, "", package.raw_size)
        return
    old_layer, old = before.packages[package.name]
    came = "" if old_layer.place == layer.place else f"from {_place(old_layer)}, {_why(old, package, layer)}"
    if (old.version, old.build) != (package.version, package.build):
        versions = (old.version, package.version)
        if old.version == package.version:
            versions = (f"{old.version} {old.build}", f"{package.version} {package.build}")
        yield Cause(package.name, UPDATED, *versions, came and f"it came {came}", package.raw_size)
    elif old.key != package.key:
        reason = _relinked(now, before) + (f"; it came {came}" if came else "")
        yield Cause(package.name, RELINKED, old.version, package.version, reason, package.raw_size)
    elif came:
        yield Cause(package.name, CAME, old.version, package.version, f"came {came}", package.raw_size)


def _place(layer: LayerRecord) -> str:
    return "a layer of its own" if layer.home == OWN else f"bucket {layer.number}"


def _why(old: PackageRecord, new: PackageRecord, layer: LayerRecord) -> str:
    """Return why a package has another home than before."""
    from envbox.images.layers import LARGE

    if layer.home == OWN:
        return f"now over {_LARGE}" if old.archive_size <= LARGE else "now one of the largest"
    return f"now under {_LARGE}" if new.archive_size <= LARGE else "others are larger now"


def _relinked(now: ImageRecord, before: ImageRecord) -> str:
    """Return why the same package was linked to other bytes."""
    if now.slim != before.slim:
        return f"slim leaves out {', '.join(now.slim) or 'nothing'} now"
    pythons = [image.packages["python"][1].version for image in (before, now) if "python" in image.packages]
    if len(pythons) == 2 and pythons[0] != pythons[1]:
        return f"its byte-code is for python {pythons[1]} now"
    return "it is linked otherwise"
