"""Builds the channel: every package, in parallel, then the index. Runs in the rig's virtual environment.

Byte-identical from run to run: packages hold no time of building, and the index's `indexed_timestamp`, which
`index_fs` sets to now and which `exclude_newer` looks at first, is set to the package's own time.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from packaging.version import Version

from rigging import awkward, basemap, conda_package, from_debs, from_wheel, metapackages, wheels
from rigging.debian import ARCHITECTURES, available
from rigging.debian_names import LIBRARIES, PYTHON_DEBS
from rigging.from_wheel import Wheel
from rigging.places import Places

CONDA_FORGE, OTHER = "conda-forge", "awkward"  # the two channels, by the names that locks hold


def build(places: Places, profile: str, target: Path) -> int:
    """Make both channels in `target`, whole or not at all; return the number of packages.

    :param profile: `full` or `small`
    """
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    shutil.rmtree(aside, ignore_errors=True)
    main = aside / CONDA_FORGE
    for channel in (main, aside / OTHER):
        for subdir in ("noarch", *ARCHITECTURES):
            (channel / subdir).mkdir(parents=True)
    use = "channel" if profile == "full" else "small"
    found = [from_wheel.read(places.wheels / pin.file) for pin in wheels.used_for(use)]
    found.sort(key=lambda wheel: -wheel.path.stat().st_size)  # the long ones first
    with ProcessPoolExecutor() as pool:
        work = [pool.submit(_write, from_wheel.convert, (wheel,), main) for wheel in found]
        work += [
            pool.submit(_write, basemap.convert, (wheel,), main)
            for wheel in found
            if basemap.lacks_aarch64(wheel)
        ]
        for subdir, architecture in ARCHITECTURES.items():
            debs = available(places, architecture)
            python = [debs[name] for name in PYTHON_DEBS]
            work.append(pool.submit(_write, from_debs.convert_python, (subdir, python), main))
            for library in LIBRARIES:
                if not library.is_noarch or subdir == "linux-64":
                    files = [debs[name] for name in library.debs]
                    work.append(
                        pool.submit(_write, from_debs.convert_library, (library, subdir, files), main)
                    )
        for package in _small_ones(found, places):
            conda_package.write(package, main)
        conda_package.write_tar_bz2(awkward.old_format(), main)
        for package in awkward.elsewhere():
            conda_package.write(package, aside / OTHER)
        for task in work:
            task.result()
    for channel in (main, aside / OTHER):
        asyncio.run(index(channel))
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)
    return len(list(target.glob("*/*/*.conda"))) + len(list(target.glob("*/*/*.tar.bz2")))


def _small_ones(found: Sequence[Wheel], places: Places) -> Iterable[conda_package.Package]:
    yield from awkward.packages()
    debs = available(places, "amd64")
    yield from metapackages.python_markers(from_debs.python_version(debs[PYTHON_DEBS[0]]))
    yield from metapackages.extras(found)
    yield from {
        w.version: metapackages.matplotlib(w.version) for w in found if w.project == "matplotlib"
    }.values()
    newest = max((w for w in found if w.project == "certifi"), key=lambda w: Version(w.version))
    yield metapackages.certificates(newest)


def _write(
    convert: Callable[..., conda_package.Package], arguments: tuple[object, ...], channel: Path
) -> None:
    conda_package.write(convert(*arguments), channel)


async def index(channel: Path) -> None:
    """Write the index of a channel, in all its forms."""
    from rattler.index import index_fs

    await index_fs(channel)
    for path in channel.glob("*/repodata.json"):
        index = json.loads(path.read_text(encoding="utf-8"))
        for kind in ("packages", "packages.conda"):
            for record in index.get(kind, {}).values():
                record["indexed_timestamp"] = record["timestamp"]
        path.write_text(json.dumps(index), encoding="utf-8")
        # the second time it keeps the times that it finds, in one of these forms or another: leave it one
        shutil.rmtree(path.parent / "shards", ignore_errors=True)  # a subdir without packages has none
        (path.parent / "repodata_shards.msgpack.zst").unlink(missing_ok=True)
        (path.parent / "repodata.json.zst").unlink(missing_ok=True)
    await index_fs(channel)
    shutil.rmtree(channel / ".tmp", ignore_errors=True)
    for path in channel.glob("*/repodata_shards.msgpack.zst"):
        path.write_bytes(_settled(path.read_bytes()))


def _settled(shards: bytes) -> bytes:
    """An index of shards, sorted, that does not say when it was made."""
    import msgpack
    import zstandard

    index = msgpack.unpackb(zstandard.ZstdDecompressor().stream_reader(shards).read())
    index["info"]["created_at"] = "2026-01-01T00:00:00Z"
    index["shards"] = dict(sorted(index["shards"].items()))
    return zstandard.ZstdCompressor(level=conda_package.LEVEL).compress(msgpack.packb(index))


if __name__ == "__main__":
    root, profile_name, where = sys.argv[1:]
    print(build(Places(Path(root)), profile_name, Path(where)), "packages")
