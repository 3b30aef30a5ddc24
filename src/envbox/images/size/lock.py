"""The sizes of an environment from its lockfile alone: what its packages' fragments hold. No engine is asked.

A fragment's list has no sizes, and a file's share of a compressed frame stands nowhere. So each fragment is
decompressed once, a few kilobytes at a time, which tells at which byte of the frame each byte of the tar is;
what was found is remembered under the fragment's key.
"""

from __future__ import annotations

import io
import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from envbox.cache import Memo
from envbox.files import open_file
from envbox.images.size import Item, Sizes
from envbox.packages.link.fragments import Fragment, damaged
from envbox.packages.link.tar import FILE, TarError, TarReader
from envbox.packages.link.target import ROOT
from envbox.platforms import preferred_platform
from envbox.slim import FORMAT as SLIM_FORMAT
from envbox.slim import KINDS, left_out

if TYPE_CHECKING:
    from envbox.project import Environment
    from envbox.report import Reporter
    from envbox.settings import Settings

VERSION = 1
_PIECE = 4096  # bytes of a frame at a time: so fine is a file's share known
_SITE_PACKAGES = re.compile(rf"{ROOT}/(lib/python[^/]+/site-packages)/")


def sizes_of_lock(
    environment: Environment, settings: Settings, report: Reporter, platform: str | None = None
) -> Sizes:
    """Give the sizes of all files that an environment's packages have, linking what is not linked yet.

    :param platform: a conda platform; this machine's when not said and locked, else the first one
    :raises LockfileError: when there is no sound lockfile, or none for the platform
    :raises PackageError: when a package is not what the lock says
    """
    from envbox.lockfile.conda_lock_v1 import read_lockfile
    from envbox.packages.fetch import fetch_archives
    from envbox.packages.link.fragments import link_packages

    lock = read_lockfile(environment.lock_path)
    platform = platform or preferred_platform(lock.platforms)
    packages = lock.for_platform(platform)
    archives = fetch_archives(packages, settings, report)
    fragments = link_packages(lock, platform, archives, settings, report)
    names = {("pip:" if p.manager == "pip" else "") + p.name: p.version for p in packages}
    items = tuple(item for content in _weighed(fragments, settings, report) for item in content)
    return Sizes(environment.name, platform, items, names, lock.slim)


@dataclass(frozen=True, slots=True)
class _Task:
    fragment: Fragment
    site_packages: str | None
    folder: Path


def _weighed(
    fragments: tuple[Fragment, ...], settings: Settings, report: Reporter
) -> Iterator[tuple[Item, ...]]:
    from envbox.packages.link.workers import run_all

    site_packages = next((m[1] for f in fragments for p in f.paths if (m := _SITE_PACKAGES.match(p))), None)
    tasks = [_Task(fragment, site_packages, settings.cache_dir / "sizes") for fragment in fragments]
    found = {task.fragment.key: _memo(task).read() for task in tasks}
    missing = [task for task in tasks if found[task.fragment.key] is None]
    missing.sort(key=lambda task: -task.fragment.raw_size)
    with report.task("weighing packages", total=len(missing)) as progress:
        for task, entries in run_all(weigh, missing, settings.jobs):
            found[task.fragment.key] = entries
            progress.advance()
    for fragment in fragments:
        for_package = found[fragment.key] or []
        yield tuple(Item(path, size, packed, fragment.name, kind) for path, size, packed, kind in for_package)


def weigh(task: _Task) -> list[Any]:
    """Measure one fragment, in whatever process: [path, size, packed, kind] of each file.

    :raises ToolError: when it is damaged; it is removed, to be made again
    """
    import zstandard

    fragment = task.fragment
    try:
        sizes, marks = _walked(fragment)
        ends = [mark for _, mark, _ in sizes[1:]] + [fragment.raw_size]
        at = [marks.packed_at(mark) for mark in (0, *ends)]
        packed = [after - before for before, after in pairwise(at)]
        inner = {name.removeprefix(f"{ROOT}/"): name for name, _, _ in sizes}
        kinds = left_out(inner.keys(), KINDS, task.site_packages, lambda: _modules(fragment))
    except (TarError, zstandard.ZstdError, OSError) as error:
        raise damaged(fragment) from error
    entries = [
        [name, size, round(share, 1), kinds.get(name.removeprefix(f"{ROOT}/"))]
        for (name, _, size), share in zip(sizes, packed, strict=True)
    ]
    _memo(task).write(entries)
    return entries


def _walked(fragment: Fragment) -> tuple[list[tuple[str, int, int]], _Marks]:
    """Return (path, where its data begins in the tar, its size) of each entry, and where that is in the
    frame.
    """
    with open_file(fragment.path) as file:
        marks = _Marks(file)
        reader = TarReader(cast(BinaryIO, io.BufferedReader(marks, 1 << 20)))
        sizes = [(m.name.rstrip("/"), reader.position, m.size if m.kind == FILE else 0) for m in reader]
    if sizes:
        sizes[0] = (sizes[0][0], 0, sizes[0][2])  # the headers before it count as its own
    return sizes, marks


def _modules(fragment: Fragment) -> Iterator[tuple[str, bytes | bytearray]]:
    with open_file(fragment.path) as file:
        reader = TarReader(cast(BinaryIO, io.BufferedReader(_Marks(file), 1 << 20)))
        for member in reader:
            if member.kind == FILE and member.name.endswith(".py"):
                yield member.name.removeprefix(f"{ROOT}/"), reader.read()


class _Marks(io.RawIOBase):
    """The tar in a frame, as a file that remembers how many bytes of the frame each part of it took."""

    def __init__(self, file: IO[bytes]) -> None:
        import zstandard

        self._file = file
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._ready = memoryview(b"")
        self._taken = 0
        self._raw, self._packed = [0], [0]

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            piece = self._file.read(_PIECE)
            if not piece:
                return 0
            raw = self._frame.decompress(piece)
            self._taken += len(piece)
            if raw:  # nothing comes before a block is whole
                self._raw.append(self._raw[-1] + len(raw))
                self._packed.append(self._taken)
                self._ready = memoryview(raw)
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def packed_at(self, raw: int) -> float:
        """Return the byte of the frame that a byte of the tar is at, between two marks by proportion."""
        at = bisect_left(self._raw, raw)
        if at == 0 or at == len(self._raw):
            return float(self._packed[at and -1])
        low, high = self._raw[at - 1], self._raw[at]
        return self._packed[at - 1] + (self._packed[at] - self._packed[at - 1]) * (raw - low) / (high - low)


def _memo(task: _Task) -> Memo[list[Any]]:
    return Memo(task.folder / f"{task.fragment.key}-{VERSION}.{SLIM_FORMAT}.json", _entries, list)


def _entries(known: Any) -> list[Any]:
    if not all(len(entry) == 4 for entry in known):
        raise ValueError
    return list(known)
