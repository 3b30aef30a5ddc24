"""A lock's packages made into something linked: what to link, under which keys, with conflicts settled.

There are two forms of a linked package, with the same entries: fragments (tar entries, for layers) and
folders (files, for prefixes on this machine). What both share stands here. Conflicts between packages need
all lists of paths first: packages are linked as if alone, then those that lost a path are linked again
without it, under a key of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from envbox.cache import Memo
from envbox.image_paths import PREFIX
from envbox.lockfile import Lock, LockedPackage
from envbox.oci import canonical_json
from envbox.packages.link import bytecode
from envbox.packages.link.compiler import compiler_digest, locked_python, obtain_compiler
from envbox.packages.link.conda import ArchiveSource, link_package
from envbox.packages.link.conflicts import Claim, settle
from envbox.packages.link.entries import EntryWriter
from envbox.packages.link.frames import CODEC
from envbox.packages.link.package import open_package, safe_path
from envbox.packages.link.target import PythonLayout
from envbox.packages.link.wheel import link_wheel
from envbox.packages.link.workers import run_all
from envbox.report import Reporter, counted
from envbox.settings import Settings
from envbox.slim import FORMAT as SLIM_FORMAT

FORMAT = 1
"""Of a package's entries. Raised whenever the same package would be linked to other bytes than before."""


class Linked(Protocol):
    """A linked package, in whatever form; paths are relative to `/`."""

    @property
    def name(self) -> str:
        """The package's; a wheel's is `pip:NAME`."""

    @property
    def paths(self) -> tuple[str, ...]:
        """Of files and links."""

    @property
    def directories(self) -> tuple[str, ...]:
        """That it needs."""


Form = TypeVar("Form", bound=Linked)


@dataclass(frozen=True, slots=True)
class Installation:
    """The packages of a lock for one platform, downloaded, and where they are to be seen when they run.

    :param archives: sha256 → verified download, from `fetch_archives`
    :param prefix: the path that is written into their files
    """

    lock: Lock
    platform: str
    archives: Mapping[str, Path]
    prefix: str = PREFIX


@dataclass(frozen=True, slots=True)
class LinkTask:
    """One package to be linked, in whatever process.

    :param cache_dir: where every form has its folder
    :param image_key: the key of the same package as the image has it
    """

    key: str
    name: str
    cache_dir: Path
    source: ArchiveSource
    compiler: bytecode.Compiler | None
    image_key: str

    def link(self, out: EntryWriter) -> int:
        """Write the package's entries; when it was built is returned, in seconds."""
        link = link_wheel if self.source.package.manager == "pip" else link_package
        return link(self.source, out, self.compiler.compile_sources if self.compiler else None)

    def as_in_image(self) -> LinkTask:
        """Return the same package at the image's prefix."""
        return replace(self, key=self.image_key, source=_at(PREFIX, self.source))

    def excluding(self, paths: frozenset[str]) -> LinkTask:
        """Return the same package without some paths, which are relative to `/`."""
        return replace(self, source=replace(self.source, excluded=self.source.excluded | paths))


@dataclass(frozen=True, slots=True)
class Maker(Generic[Form]):
    """How one form is read from the cache and made.

    :param read: (the cache folder, key) → what is there, None when it is not, or not whole
    :param make: runs in a worker process
    :param compiles: whether what has no byte-code gets some
    :param seen: told of each one at once
    :param nice: by how much the worker processes go behind what waits for them
    """

    read: Callable[[Path, str], Form | None]
    make: Callable[[LinkTask], Form]
    label: str
    compiles: bool = True
    seen: Callable[[Form], None] = lambda form: None
    nice: int = 0


def link_lock(
    installation: Installation, settings: Settings, report: Reporter, maker: Maker[Form]
) -> tuple[Form, ...]:
    """Have every package of one platform in one form, conflicts settled.

    :raises PackageError: when an archive is damaged, lies, or could do harm
    :raises LockfileError: when byte-code cannot be compiled with what the lock has
    """
    sources = sources_of(installation, settings)
    made = obtain(sources, installation.lock, settings, report, maker)
    lost = settle([_claim(s.package, m) for s, m in zip(sources, made, strict=True)])
    if lost:
        _tell(lost, made, report)
        sources = [
            replace(s, excluded=lost.get(m.name, frozenset())) for s, m in zip(sources, made, strict=True)
        ]
        made = obtain(sources, installation.lock, settings, report, maker)
    return tuple(made)


def _tell(lost: Mapping[str, frozenset[str]], made: Sequence[Linked], report: Reporter) -> None:
    """Say whose files are not there because another package's are, and, in detail, whose those are."""
    gone = {path for paths in lost.values() for path in paths}
    owner = {p: m.name for m in made for p in m.paths if p in gone and p not in lost.get(m.name, ())}
    files = sum(map(len, lost.values()))
    names = ", ".join(sorted(lost)[:3]) + (", …" if len(lost) > 3 else "")
    report.say(f"{counted(files, 'file')} of {names} give way to other packages' (-v: whose)")
    for name, paths in sorted(lost.items()):
        for winner in sorted({owner.get(path, "another package") for path in paths}):
            here = sorted(p for p in paths if owner.get(p, "another package") == winner)
            report.detail(f"{counted(len(here), 'file')} of {name} give way to {winner}'s: {here[0]}, …")


def package_keys(installation: Installation, settings: Settings) -> list[tuple[LockedPackage, str]]:
    """Return the keys under which packages are in the cache, with byte-code and as if each were alone."""
    return [(s.package, _key(s, compiles=True)) for s in sources_of(installation, settings)]


def sources_of(installation: Installation, settings: Settings) -> list[ArchiveSource]:
    """Return what is to be linked, each package as if it were alone."""
    python = _python_layout(installation, settings)
    compiler = compiler_digest(installation.lock)
    return [
        _source(p, installation, python, compiler)
        for p in installation.lock.for_platform(installation.platform)
    ]


def obtain(
    sources: Sequence[ArchiveSource], lock: Lock, settings: Settings, report: Reporter, maker: Maker[Form]
) -> list[Form]:
    """Have these in one form, out of the cache or made anew by several processes, in their order."""
    keys = [_key(source, maker.compiles) for source in sources]
    found = {key: maker.read(settings.cache_dir, key) for key in keys}
    missing = [(s, k) for s, k in zip(sources, keys, strict=True) if found[k] is None]
    if missing:
        compilers = {
            version: obtain_compiler(lock, version, settings, report)
            for version in {s.python.version for s, _ in missing if s.python and s.python.has_hash_pycs}
            if maker.compiles
        }
        tasks = [
            LinkTask(
                k,
                linked_name(s.package),
                settings.cache_dir,
                s,
                compilers.get(s.python.version) if s.python else None,
                _key(_at(PREFIX, s), maker.compiles),
            )
            for s, k in missing
        ]
        tasks.sort(key=_turn)
        for form in filter(None, found.values()):
            maker.seen(form)
        with report.task(maker.label, total=len(tasks)) as progress:
            for task, made in run_all(maker.make, tasks, settings.jobs, maker.nice):
                found[task.key] = made
                maker.seen(made)
                progress.advance()
    return [linked for key in keys if (linked := found[key])]


def _turn(task: LinkTask) -> tuple[int, str]:
    """Return the biggest first, so that all processes finish at once; by powers of two, as layers are
    ordered.
    """
    return -task.source.archive.stat().st_size.bit_length(), task.name


def _at(prefix: str, source: ArchiveSource) -> ArchiveSource:
    """Return the same package, to be seen elsewhere."""
    python = source.python and replace(source.python, prefix=prefix)
    return replace(source, prefix=prefix, python=python)


def _key(source: ArchiveSource, compiles: bool) -> str:
    """Return a hash over everything that a package's entries, as a fragment, are a function of."""
    package, python = source.package, source.python
    made_by = [bytecode.POLICY, source.compiler] if compiles else [None]
    said = {
        "format": FORMAT,
        "codec": CODEC,
        "prefix": source.prefix,
        "sha256": package.sha256,
        "python": [python.version, python.site_packages, *made_by] if python else None,
        "excluded": sorted(source.excluded),
        # what conda-meta says that is not in the archive
        "record": [package.url, package.md5, sorted(package.depends.items())],
        "name": [package.manager, package.name, package.version, package.build],
        **({"slim": [SLIM_FORMAT, *source.slim]} if source.slim else {}),
    }
    return hashlib.sha256(canonical_json(said)).hexdigest()


def _source(
    package: LockedPackage, installation: Installation, python: PythonLayout | None, compiler: str | None
) -> ArchiveSource:
    """Return a package with what its layer depends on: on Python only where it is one for it, so that others
    stay the same when Python changes.
    """
    needs = package.manager == "pip" or package.subdir == "noarch" or package.name == "python"
    needs = needs or "python" in package.depends or "python_abi" in package.depends
    return ArchiveSource(
        package,
        installation.archives[package.sha256],
        python if needs else None,
        slim=installation.lock.slim,
        prefix=installation.prefix,
        compiler=compiler if needs else None,
    )


def _claim(package: LockedPackage, made: Linked) -> Claim:
    is_wheel = package.manager == "pip"
    return Claim(made.name, frozenset(package.depends), made.paths, made.directories, is_wheel)


def linked_name(package: LockedPackage) -> str:
    """Return what a linked package is called; a wheel's name says that it is one."""
    return f"pip:{package.name}" if package.manager == "pip" else package.name


def _python_layout(installation: Installation, settings: Settings) -> PythonLayout | None:
    """Return where the locked Python has its site-packages: it says so itself when it is not the usual
    place.
    """
    python = locked_python(installation.lock, installation.platform)
    if python is None:
        return None
    path = settings.cache_dir / "fragments" / f"python-{python.sha256}.json"
    memo = Memo(path, lambda known: str(known["site_packages"]), lambda folder: {"site_packages": folder})
    site_packages: object = memo.read()
    if site_packages is None:
        with open_package(installation.archives[python.sha256], python.sha256) as archive:
            site_packages = archive.info.index.get("python_site_packages_path")
            if isinstance(site_packages, str):
                site_packages = safe_path(site_packages)
        if not isinstance(site_packages, str):
            site_packages = f"lib/python{'.'.join(python.version.split('.')[:2])}/site-packages"
        memo.write(site_packages)
    return PythonLayout(python.version, str(site_packages), installation.prefix)
