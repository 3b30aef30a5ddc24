"""Fragments: each package's tar entries as one zstd frame, made once ever.

A fragment has no directory entries and no end marker, so any selection of fragments is a layer. Its key is a
hash over everything its bytes are a function of; beside it lies a small JSON with what is in it, written
last, so a fragment is there whole or not at all. Conflicts between packages need all lists of paths first:
packages are linked as if alone, then those that lost a path are linked again without it, under a key of its
own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from envbox.errors import PackageError
from envbox.files import whole_file, write_whole
from envbox.link import bytecode
from envbox.link.conda import Source, link_package
from envbox.link.conflicts import Claim, settle
from envbox.link.entries import PLAIN, EntryWriter
from envbox.link.frames import CODEC, FrameWriter, check_codec
from envbox.link.package import open_package
from envbox.link.target import GENERATED_TIME, PREFIX, PythonLayout
from envbox.link.wheel import link_wheel
from envbox.link.workers import run_all
from envbox.lockfile import Lock, LockedPackage
from envbox.oci import canonical_json
from envbox.report import Reporter
from envbox.settings import Settings
from envbox.slim import FORMAT as SLIM_FORMAT

FORMAT = 1
"""Of a fragment's bytes. Raised whenever the same package would be linked to other bytes than before."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """The entries of one package.

    :param name: the package's; a wheel's is `pip:NAME`
    :param path: of the zstd frame
    :param raw_size: uncompressed, in bytes
    :param size: of the frame, in bytes
    :param sha256: of the frame, in hex
    :param paths: of files and links, relative to `/`, sorted; folders that are entries of their own included
    :param directories: that must stand in the layer's directory fragment, relative to `/`, sorted
    :param timestamp: of the package, in seconds; 0 when it says none
    """

    key: str
    name: str
    path: Path
    raw_size: int
    size: int
    sha256: str
    paths: tuple[str, ...]
    directories: tuple[str, ...]
    timestamp: int


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A generated file; as an empty folder's entry only the mode counts."""

    data: bytes = b""
    mode: int = PLAIN


@dataclass(frozen=True, slots=True)
class LinkEntry:
    """A generated symlink."""

    target: str


@dataclass(frozen=True, slots=True)
class _Task:
    """One fragment to be made, in whatever process."""

    key: str
    name: str
    folder: Path
    source: Source
    compiler: bytecode.Compiler | None


def link_packages(
    lock: Lock, platform: str, archives: Mapping[str, Path], settings: Settings, report: Reporter
) -> tuple[Fragment, ...]:
    """Have a fragment of every package of one platform, conflicts settled.

    :param archives: sha256 → verified download, from `fetch_archives`
    :raises PackageError: when an archive is damaged, lies, or could do harm
    :raises LockfileError: when byte-code cannot be compiled with what the lock has
    """
    check_codec()
    packages = lock.for_platform(platform)
    python = _python_layout(lock, platform, archives, settings)
    sources = [_source(package, archives[package.sha256], python, lock.slim) for package in packages]
    fragments = _obtain(sources, lock, settings, report)
    lost = settle([_claim(s.package, f) for s, f in zip(sources, fragments, strict=True)])
    if lost:
        for name, paths in sorted(lost.items()):
            report.detail(f"{name} gives up {len(paths)} paths to other packages, {min(paths)} among them")
        sources = [
            replace(s, excluded=lost.get(f.name, frozenset()))
            for s, f in zip(sources, fragments, strict=True)
        ]
        fragments = _obtain(sources, lock, settings, report)
    return tuple(fragments)


def files_fragment(name: str, files: Mapping[str, FileEntry | LinkEntry], settings: Settings) -> Fragment:
    """Have a fragment of generated files.

    :param files: path relative to `/` → what is there; a path that ends in `/` is a folder with a mode of its
        own
    """
    check_codec()
    listed = [
        [path, entry.target] if isinstance(entry, LinkEntry) else [path, entry.mode, _sha256(entry.data)]
        for path, entry in sorted(files.items())
    ]
    key = _sha256(canonical_json({"format": FORMAT, "codec": CODEC, "name": name, "files": listed}))
    folder = settings.cache_dir / "fragments"
    if found := read_fragment(folder, key):
        return found
    with whole_file(folder / key) as file:
        frame = FrameWriter(file)
        out = EntryWriter(frame.write)
        for path, entry in sorted(files.items()):
            if isinstance(entry, LinkEntry):
                out.symlink(path, entry.target, GENERATED_TIME)
            elif path.endswith("/"):
                out.own_directory(path.rstrip("/"), entry.mode)
            else:
                out.file(path, entry.data, entry.mode, GENERATED_TIME)
        frame.close()
    return _remember(folder, key, name, (frame, out, 0))


def read_fragment(folder: Path, key: str) -> Fragment | None:
    """A fragment from the cache; None when it is not there, or not as it was written."""
    try:
        known = json.loads((folder / f"{key}.json").read_bytes())
        if (folder / key).stat().st_size != known["size"]:
            return None
        return Fragment(
            key=key,
            name=known["name"],
            path=folder / key,
            raw_size=known["raw_size"],
            size=known["size"],
            sha256=known["sha256"],
            paths=tuple(known["paths"]),
            directories=tuple(known["directories"]),
            timestamp=known["timestamp"],
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget_fragment(fragment: Fragment) -> None:
    """Remove a fragment that proved damaged, so that it is made again."""
    fragment.path.with_name(f"{fragment.key}.json").unlink(missing_ok=True)
    fragment.path.unlink(missing_ok=True)


def _obtain(sources: Sequence[Source], lock: Lock, settings: Settings, report: Reporter) -> list[Fragment]:
    folder = settings.cache_dir / "fragments"
    keys = [_key(source) for source in sources]
    found = {key: read_fragment(folder, key) for key in keys}
    missing = [(s, k) for s, k in zip(sources, keys, strict=True) if found[k] is None]
    if missing:
        compilers = {
            version: bytecode.obtain_compiler(lock, version, settings, report)
            for version in {s.python.version for s, _ in missing if s.python and s.python.has_hash_pycs}
        }
        tasks = [
            _Task(key, _name(s.package), folder, s, compilers.get(s.python.version) if s.python else None)
            for s, key in missing
        ]
        tasks.sort(key=lambda task: -task.source.archive.stat().st_size)  # the biggest first: even finish
        with report.task("linking packages", total=len(tasks)) as progress:
            for task, made in run_all(_make, tasks, settings.jobs):
                found[task.key] = made
                progress.advance()
    return [fragment for key in keys if (fragment := found[key])]


def _make(task: _Task) -> Fragment:
    compile_sources = task.compiler.compile_sources if task.compiler else None
    link = link_wheel if task.source.package.manager == "pip" else link_package
    with whole_file(task.folder / task.key) as file:
        frame = FrameWriter(file)
        out = EntryWriter(frame.write)
        timestamp = link(task.source, out, compile_sources)
        frame.close()
    return _remember(task.folder, task.key, task.name, (frame, out, timestamp))


def _remember(folder: Path, key: str, name: str, made: tuple[FrameWriter, EntryWriter, int]) -> Fragment:
    frame, out, timestamp = made
    known = {
        "name": name,
        "raw_size": frame.raw_size,
        "size": frame.size,
        "sha256": frame.sha256,
        "paths": sorted(out.paths),
        "directories": sorted(out.directories - out.paths),
        "timestamp": timestamp,
    }
    write_whole(folder / f"{key}.json", canonical_json(known))
    fragment = read_fragment(folder, key)
    if fragment is None:
        raise PackageError(f"the fragment of {name} was changed in the cache while it was written")
    return fragment


def _key(source: Source) -> str:
    """A hash over everything that the fragment's bytes are a function of."""
    package, python = source.package, source.python
    return _sha256(
        canonical_json(
            {
                "format": FORMAT,
                "codec": CODEC,
                "prefix": PREFIX,
                "sha256": package.sha256,
                "python": [python.version, python.site_packages, bytecode.POLICY] if python else None,
                "excluded": sorted(source.excluded),
                # what conda-meta says that is not in the archive
                "record": [package.url, package.md5, sorted(package.depends.items())],
                "name": [package.manager, package.name, package.version, package.build],
                **({"slim": [SLIM_FORMAT, *source.slim]} if source.slim else {}),
            }
        )
    )


def _source(
    package: LockedPackage, archive: Path, python: PythonLayout | None, slim: tuple[str, ...]
) -> Source:
    """A package has to do with Python when it is one for it; others stay the same when Python changes."""
    needs = package.manager == "pip" or package.subdir == "noarch" or package.name == "python"
    needs = needs or "python" in package.depends or "python_abi" in package.depends
    return Source(package, archive, python if needs else None, slim=slim)


def _claim(package: LockedPackage, fragment: Fragment) -> Claim:
    return Claim(
        fragment.name,
        frozenset(package.depends),
        fragment.paths,
        fragment.directories,
        package.manager == "pip",
    )


def _name(package: LockedPackage) -> str:
    return f"pip:{package.name}" if package.manager == "pip" else package.name


def _python_layout(
    lock: Lock, platform: str, archives: Mapping[str, Path], settings: Settings
) -> PythonLayout | None:
    """Where the locked Python has its site-packages: it says so itself when it is not the usual place."""
    python = bytecode.locked_python(lock, platform)
    if python is None:
        return None
    memo = settings.cache_dir / "fragments" / f"python-{python.sha256}.json"
    try:
        site_packages = json.loads(memo.read_bytes())["site_packages"]
    except (OSError, ValueError, KeyError, TypeError):
        with open_package(archives[python.sha256], python.sha256) as archive:
            site_packages = archive.info.index.get("python_site_packages_path")
        if not isinstance(site_packages, str):
            site_packages = f"lib/python{'.'.join(python.version.split('.')[:2])}/site-packages"
        write_whole(memo, canonical_json({"site_packages": site_packages}))
    return PythonLayout(python.version, site_packages)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
