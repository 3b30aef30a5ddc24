"""Benchmarks of linking: over cores, over the number of packages; and how large what is linked is."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from changes import PLATFORM, Subject
from measure import Action, Row, pairs
from stage import Stage

from envbox.images.size.lock import sizes_of_lock
from envbox.packages.fetch import fetch_archives
from envbox.packages.link.conda import ArchiveSource
from envbox.packages.link.fragments import fragment_maker, link_packages
from envbox.packages.link.packages import Installation, obtain, sources_of
from envbox.project import Environment
from envbox.report import SILENT
from envbox.settings import Settings

FEW, MANY = 50, 500


def cores_row(stage: Stage, runs: int) -> Row:
    """Linking the whole environment with two processes and with one."""
    subject = Subject(stage)
    archives = fetch_archives(subject.lock.for_platform(PLATFORM), subject.settings)

    def link(jobs: int) -> Action:
        settings = replace(subject.settings, jobs=jobs)
        return lambda: _linked(lambda: link_packages(subject.lock, PLATFORM, archives, settings, SILENT))

    forget = _forget(subject.settings)
    ours, baseline = pairs(link(2), link(1), runs, (forget, forget))
    return Row("linking, 2 processes", "linking, 1 process", ours, baseline, round(1 / 1.7, 3))


def number_row(stage: Stage, runs: int) -> Row:
    """Linking 500 packages, and ten times the 50 that they are copies of, each for a tenth of its time."""
    subject = Subject(stage)
    few = _some(subject, FEW)
    many = [replace(s, excluded=frozenset({f"copy/{n}"})) for n in range(MANY // FEW) for s in few]
    forget = _forget(subject.settings)

    def link(sources: Sequence[ArchiveSource]) -> Action:
        return lambda: _linked(
            lambda: obtain(sources, subject.lock, subject.settings, SILENT, fragment_maker())
        )

    ours, baseline = pairs(link(many), link(few), runs, (forget, forget))
    per_fifty = tuple(seconds * FEW / MANY for seconds in ours)
    return Row(f"linking {MANY} packages, a tenth of it", f"linking {FEW} of them", per_fifty, baseline, 1.1)


def size_row(stage: Stage, runs: int) -> Row:
    """The files of our layers beside those of rattler's prefix, byte-code apart, in MB."""
    del runs  # nothing varies
    subject = Subject(stage)
    environment = Environment("bench", stage.spec, stage.lockfile)
    sizes = sizes_of_lock(environment, subject.settings, SILENT, PLATFORM)
    mine = sum(item.size for item in sizes.items if not item.path.endswith(".pyc"))
    byte_code = sum(item.size for item in sizes.items if item.path.endswith(".pyc"))
    with tempfile.TemporaryDirectory(dir=stage.folder) as folder:
        prefix = Path(folder) / "prefix"
        asyncio.run(_install(subject, prefix, Path(folder) / "cache"))
        theirs = sum(
            path.lstat().st_size
            for path in prefix.rglob("*")
            if path.is_file() and not path.is_symlink() and path.suffix != ".pyc"
        )
    raw = sum(layer.raw_size for layer in subject.layers)
    notes = {"byte_code_mb": round(byte_code / 1e6, 1), "layers_as_tar_mb": round(raw / 1e6, 1)}
    what = ("files of the image, no byte-code", "rattler's prefix")
    return Row(*what, (mine / 1e6,), (theirs / 1e6,), 1.05, notes=notes, unit="MB")


async def _install(subject: Subject, prefix: Path, cache: Path) -> None:
    from rattler import install
    from rattler.repo_data.record import RepoDataRecord

    archives = fetch_archives(subject.lock.for_platform(PLATFORM), subject.settings)
    records = [await RepoDataRecord.from_package_archive(path) for path in sorted(archives.values())]
    await install(
        records, target_prefix=prefix, cache_dir=cache, show_progress=False, execute_link_scripts=False
    )


def _some(subject: Subject, number: int) -> list[ArchiveSource]:
    """Packages of the middle size: neither all metadata nor one giant."""
    archives = fetch_archives(subject.lock.for_platform(PLATFORM), subject.settings)
    every = sources_of(Installation(subject.lock, PLATFORM, archives), subject.settings)
    sources = [s for s in every if s.package.manager == "conda" and s.package.name != "python"]
    middle = statistics.median(s.archive.stat().st_size for s in sources)
    sources.sort(key=lambda s: abs(s.archive.stat().st_size - middle))
    return sources[:number]


def _forget(settings: Settings) -> Action:
    return lambda: shutil.rmtree(settings.cache_dir / "fragments", ignore_errors=True)


def _linked(work: object) -> None:
    assert callable(work)
    assert work(), "nothing was linked"
