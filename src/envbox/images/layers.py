"""Layers: fragments grouped by a plan that stays put when one package changes, and joined.

A layer is its directory fragment, its packages' fragments by name, and the end marker, each a zstd frame. No
layer is stored: its bytes are streamed from the fragments whenever somebody wants them, raw or compressed,
and only its digests are remembered, under a key of what they are a function of. The plan is the outcome of
107 real monthly re-locks of an 809-package environment: one package changed moves 56 MB of blobs (one layer
for everything: 2,982 MB; sorted by size with a merged rest: 873 MB).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from envbox.cache import Memo, memo_key
from envbox.files import open_file
from envbox.oci import LAYER_ZSTD_TYPE, Descriptor, Digest
from envbox.packages.link.entries import directory_entries
from envbox.packages.link.fragments import Fragment, damaged
from envbox.packages.link.frames import CODEC, HashingReader, check_codec, compress, decompress
from envbox.packages.link.tar import CHUNK, END
from envbox.report import Reporter
from envbox.settings import Settings

BUDGET = 57
"""Layers we add at most: leaves room under overlay2's 125 for the base's and for what a user adds."""
BUCKETS = 16  # for the many small packages: about the size of a middle package each
LARGE = 1 << 20  # bytes of an archive; below this a layer of its own costs more in overhead than it saves


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an image.

    :param diff_id: of the uncompressed tar
    :param blob: of the zstd-compressed tar
    :param raw_size: of the uncompressed tar, in bytes
    :param packages: names of the fragments in it
    """

    diff_id: Digest
    blob: Descriptor
    raw_size: int
    packages: tuple[str, ...]
    fragments: tuple[Fragment, ...] = field(repr=False)

    def open_raw(self) -> Iterator[bytes]:
        """Yield the uncompressed tar, streamed.

        :raises ToolError: when a fragment in the cache is damaged; it is removed, to be made again
        """
        yield _directories(self.fragments)
        for fragment in self.fragments:
            yield from _raw_fragment(fragment)
        yield END

    def open_blob(self) -> Iterator[bytes]:
        """Yield the compressed tar, streamed.

        :raises ToolError: when a fragment in the cache is damaged; it is removed, to be made again
        """
        yield compress(_directories(self.fragments))
        for fragment in self.fragments:
            yield from _stored_fragment(fragment)
        yield _end_frame()


def plan_groups(sizes: Mapping[str, int], budget: int = BUDGET) -> tuple[tuple[str, ...], ...]:
    """Group packages into layers, one of the budget being left for the environment's own.

    The largest packages over 1 MiB have a layer each, ordered by the power of two of their size, then by
    name; the others are dealt into buckets by a hash of their name. So a package that changes moves no other.

    :param sizes: package → its archive's size in bytes, which is known before anything is linked
    """
    homes = plan_homes(sizes, budget)
    own = [name for name, bucket in homes.items() if bucket is None]
    own.sort(key=lambda name: (-sizes[name].bit_length(), name))
    dealt: dict[int, list[str]] = {}
    for name, bucket in sorted(homes.items()):
        if bucket is not None:
            dealt.setdefault(bucket, []).append(name)
    return (*((name,) for name in own), *(tuple(dealt[bucket]) for bucket in sorted(dealt)))


def plan_homes(sizes: Mapping[str, int], budget: int = BUDGET) -> dict[str, int | None]:
    """Return where each package goes: None for a layer of its own, else the number of its bucket.

    :param sizes: package → its archive's size in bytes
    """
    if budget < 2:
        raise ValueError(f"a budget of {budget} layers has no room for packages and environment")
    buckets = min(BUCKETS, budget - 1)
    by_size = sorted((name for name in sizes if sizes[name] > LARGE), key=lambda name: (-sizes[name], name))
    own = set(by_size[: budget - 1 - buckets])
    return {
        name: None
        if name in own
        else int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % buckets
        for name in sizes
    }


def build_layers(
    fragments: Sequence[Fragment], environment: Fragment, settings: Settings, report: Reporter
) -> tuple[Layer, ...]:
    """Group the fragments and know each layer's digests; the environment's own layer is the last.

    :raises ToolError: when a fragment in the cache is damaged; it is removed, to be made again
    """
    check_codec()
    by_name = {fragment.name: fragment for fragment in fragments}
    groups = plan_groups({name: fragment.archive_size for name, fragment in by_name.items()})
    contents = [tuple(by_name[name] for name in group) for group in groups] + [(environment,)]
    known = [_remembered(content, settings) for content in contents]
    missing = [content for content, layer in zip(contents, known, strict=True) if layer is None]
    if missing:
        size = sum(fragment.raw_size for content in missing for fragment in content)
        with (
            report.task("hashing layers", total=size, unit="bytes") as task,
            ThreadPoolExecutor(settings.jobs) as pool,
        ):

            def work(content: tuple[Fragment, ...]) -> Layer:
                layer = _measure(content, settings)
                task.advance(sum(fragment.raw_size for fragment in content))
                return layer

            try:
                made = iter(list(pool.map(work, missing)))
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
        return tuple(layer or next(made) for layer in known)
    return tuple(layer for layer in known if layer)


def measured(fragments: tuple[Fragment, ...], settings: Settings) -> Layer:
    """Return one layer, with its digests.

    :raises ToolError: when a fragment in the cache is damaged; it is removed, to be made again
    """
    return _remembered(fragments, settings) or _measure(fragments, settings)


def _directories(fragments: Sequence[Fragment]) -> bytes:
    return directory_entries(path for fragment in fragments for path in fragment.directories)


@cache
def _end_frame() -> bytes:
    return compress(END)


def _stored_fragment(fragment: Fragment) -> Iterator[bytes]:
    with _whole(fragment), open_file(fragment.path) as file:
        reader = HashingReader(file)
        while data := reader.read(CHUNK):
            yield data
        _check(fragment, reader, fragment.raw_size)


def _raw_fragment(fragment: Fragment, total: Any = None) -> Iterator[bytes]:
    with _whole(fragment), open_file(fragment.path) as file:
        reader = HashingReader(file, total)
        size = 0
        for raw in decompress(reader):
            size += len(raw)
            yield raw
        _check(fragment, reader, size)


class _DamagedError(Exception):
    pass


def _check(fragment: Fragment, reader: HashingReader, raw_size: int) -> None:
    if reader.digest.hexdigest() != fragment.sha256 or raw_size != fragment.raw_size:
        raise _DamagedError


@contextmanager
def _whole(fragment: Fragment) -> Iterator[None]:
    """Remove a fragment that turns out not to be what was written, and say so."""
    import zstandard

    try:
        yield
    except (_DamagedError, zstandard.ZstdError, OSError) as error:
        raise damaged(fragment) from error


def _memo(fragments: Sequence[Fragment], settings: Settings) -> Memo[Layer]:
    key = memo_key("layer", CODEC, [f.key for f in fragments])
    return Memo(settings.cache_dir / "layers" / f"{key}.json", _layer, _said)


def _remembered(fragments: tuple[Fragment, ...], settings: Settings) -> Layer | None:
    known = _memo(fragments, settings).read()
    return known and replace(known, packages=tuple(f.name for f in fragments), fragments=fragments)


def _layer(known: Mapping[str, Any]) -> Layer:
    """Return a layer of what was noted, without its fragments."""
    return Layer(
        diff_id=Digest(known["diff_id"]),
        blob=Descriptor(LAYER_ZSTD_TYPE, Digest(known["digest"]), known["size"]),
        raw_size=known["raw_size"],
        packages=(),
        fragments=(),
    )


def _said(layer: Layer) -> Mapping[str, Any]:
    return {
        "diff_id": layer.diff_id,
        "digest": layer.blob.digest,
        "raw_size": layer.raw_size,
        "size": layer.blob.size,
    }


def _measure(fragments: tuple[Fragment, ...], settings: Settings) -> Layer:
    """Return both digests in one pass over the fragments."""
    raw, blob = hashlib.sha256(), hashlib.sha256()
    raw_size = size = 0

    def add(generated: bytes) -> None:
        nonlocal raw_size, size
        frame = compress(generated)
        raw.update(generated)
        blob.update(frame)
        raw_size += len(generated)
        size += len(frame)

    add(_directories(fragments))
    for fragment in fragments:
        for piece in _raw_fragment(fragment, blob):
            raw.update(piece)
        raw_size += fragment.raw_size
        size += fragment.size
    add(END)
    layer = Layer(
        diff_id=Digest(f"sha256:{raw.hexdigest()}"),
        blob=Descriptor(LAYER_ZSTD_TYPE, Digest(f"sha256:{blob.hexdigest()}"), size),
        raw_size=raw_size,
        packages=tuple(fragment.name for fragment in fragments),
        fragments=fragments,
    )
    _memo(fragments, settings).write(layer)
    return layer
