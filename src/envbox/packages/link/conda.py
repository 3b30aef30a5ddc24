"""Linking: a conda package's archive → the tar entries that installing it at the image's prefix would make.

The difficulty is to do in one forward pass, with bounded memory, what installers do on a disk. So: what has
no placeholder is streamed through; a hard link's content is taken on another pass; a `.py` whose shipped
`.pyc` has not come yet waits for it, because the `.pyc` stores the time that the `.py` must have to be its
source. Rules as rattler has them (the tests compare with its install of every package of the rig).
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envbox.errors import LockfileError, PackageError
from envbox.image_paths import PREFIX
from envbox.lockfile import LockedPackage
from envbox.packages.link.conda_meta import SCRIPT, conda_meta, generated_record, record_of, timestamp_of
from envbox.packages.link.entries import EXECUTABLE, PLAIN, EntryWriter
from envbox.packages.link.entry_points import entry_point_scripts
from envbox.packages.link.package import Archive, PackageInfo, PathEntry, open_package, safe_path
from envbox.packages.link.placeholder import replace_prefix
from envbox.packages.link.tar import FILE, HARD_LINK, SYMLINK, Member, TarReader
from envbox.packages.link.target import GENERATED_TIME, ROOT, PythonLayout
from envbox.slim import left_out

Compile = Callable[[Sequence[tuple[str, bytes]]], list[bytes | None]]
"""(path in the image, source) of many files → their .pyc, None for what does not compile."""

_STREAMED = 4 << 20  # larger files without a placeholder are never held
_HELD = 64 << 20  # of sources waiting for their .pyc or for the compiler


@dataclass(frozen=True, slots=True)
class ArchiveSource:
    """One package to link.

    :param archive: the verified download
    :param python: the locked Python's layout, where the package has to do with Python
    :param excluded: paths relative to `/` that another package's file takes
    :param slim: kinds of files to leave out
    :param prefix: where it is seen when it runs
    :param compiler: a digest of the Python that compiles here, where byte-code of it may be in the entries
    """

    package: LockedPackage
    archive: Path
    python: PythonLayout | None = None
    excluded: frozenset[str] = frozenset()
    slim: tuple[str, ...] = ()
    prefix: str = PREFIX
    compiler: str | None = None


def link_package(source: ArchiveSource, out: EntryWriter, compile_sources: Compile | None = None) -> int:
    """Write the entries of one conda package, its conda-meta record included.

    :returns: the package's timestamp in seconds, 0 when it has none
    :raises PackageError: when the archive is damaged, lies, or could do harm; what was written is then void
    """
    with open_package(source.archive, source.package.sha256) as archive:
        linking = _Linking(source, archive, out, compile_sources)
        linking.run()
        return timestamp_of(archive.info)


@dataclass
class _Linking:
    source: ArchiveSource
    archive: Archive
    out: EntryWriter
    compile_sources: Compile | None
    records: list[dict[str, Any]] = field(default_factory=list)
    pyc_times: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, tuple[str, bytes | bytearray, int, int]] = field(default_factory=dict)
    sources: list[tuple[str, bytes]] = field(default_factory=list)
    source_size: int = 0
    held: int = 0

    def __post_init__(self) -> None:
        info, python = self.archive.info, self.source.python
        if info.is_noarch_python and python is None:
            raise LockfileError(
                f"{self.source.package.name} is a noarch python package, and the lock has no python",
                "add python to the spec",
            )
        _refuse_another_package(self.source.package, info)
        _refuse_link_scripts(info)
        self.finals = {path: self._final(path) for path in info.paths}
        self.final_set = set(self.finals.values())
        if len(self.final_set) < len(self.finals):
            raise PackageError("lists two files that install to one path")
        self.scripts = entry_point_scripts(info.entry_points, python) if python else {}
        self.library = f"{python.library}/" if python else None
        self.left_out: Collection[str] = ()
        if self.source.slim:
            site_packages = python.site_packages if python else None
            paths = [self.finals[p] + "/" * (e.kind == "directory") for p, e in info.paths.items()]
            unneeded = left_out(paths, self.source.slim, site_packages, self._modules)
            self.left_out = {path.rstrip("/") for path in unneeded}

    def _final(self, path: str) -> str:
        """Return a path in the archive → the path in the prefix."""
        python = self.source.python
        if self.archive.info.is_noarch_python and python:
            if path.startswith("site-packages/"):
                return python.site_packages + path.removeprefix("site-packages")
            if path.startswith("python-scripts/"):
                return "bin/" + path.removeprefix("python-scripts/")
        return path

    def _modules(self) -> Iterator[tuple[str, bytes | bytearray]]:
        for path, member, reader in self.archive.members():
            if path.endswith(".py") and path in self.finals and member.kind == FILE:
                yield self.finals[path], reader.read()

    def _is_excluded(self, final: str) -> bool:
        return f"{ROOT}/{final}" in self.source.excluded or final in self.left_out

    def run(self) -> None:
        missing = {path for path, entry in self.archive.info.paths.items() if entry.kind != "directory"}
        hard_links: dict[str, list[tuple[PathEntry, Member]]] = {}
        for path, member, reader in self.archive.members():
            entry = self._admit(member, path)
            if entry is None:
                continue
            missing.discard(path)
            if self.finals[path] in self.scripts or self._is_excluded(self.finals[path]):
                continue
            if member.kind == HARD_LINK:
                hard_links.setdefault(safe_path(member.link), []).append((entry, member))
            elif member.kind == SYMLINK:
                self._symlink(entry, member)
            else:
                self._file(entry, member, reader)
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise PackageError(f"lists {min(missing)!r}{more}, but does not have it")
        self._hard_links(hard_links)
        self._directories()
        self._flush_waiting()
        self._generate()

    def _admit(self, member: Member, path: str) -> PathEntry | None:
        """Return what paths.json says of a member; None when it is not to be installed."""
        if member.kind not in (FILE, HARD_LINK, SYMLINK):
            raise PackageError(f"has {path!r}, which is a device, a pipe or of an unknown kind")
        if member.mode & 0o6000 and member.kind != SYMLINK:
            raise PackageError(f"has {path!r} with a setuid or setgid bit")
        if "\0" in member.link or "\n" in member.link:
            raise PackageError(f"has {path!r} with a control character in its target")
        entry = self.archive.info.paths.get(path)
        if entry and (entry.kind == "directory" or (entry.kind == "softlink") != (member.kind == SYMLINK)):
            is_odd_link = entry.kind == "hardlink" and member.kind == SYMLINK  # conda-build writes these
            if not is_odd_link:
                raise PackageError(f"lists {path!r} as a {entry.kind}, but has something else there")
        return entry

    def _symlink(self, entry: PathEntry, member: Member) -> None:
        final, prefix = self.finals[entry.path], self.source.prefix
        where = posixpath.normpath(posixpath.join(prefix, posixpath.dirname(final), member.link))
        if not member.link or not (where == prefix or where.startswith(prefix + "/")):
            raise PackageError(f"has a link that leads out of the prefix: {final!r} → {member.link!r}")
        self.out.symlink(f"{ROOT}/{final}", member.link, member.mtime)
        self.records.append(record_of(final, entry))

    def _file(self, entry: PathEntry, member: Member, reader: TarReader) -> None:
        if entry.size is not None and entry.size != member.size:
            raise PackageError(f"lists {entry.path!r} with {entry.size} bytes, but has {member.size}")
        final = self.finals[entry.path]
        mode = EXECUTABLE if member.mode & 0o111 else PLAIN
        if member.size > _STREAMED and not entry.placeholder and not final.endswith((".py", ".pyc")):
            digest = hashlib.sha256()
            chunks = _hashed(reader.chunks(), digest)
            self.out.stream(f"{ROOT}/{final}", member.size, chunks, mode, member.mtime)
            self.records.append(record_of(final, entry, _checked(entry, digest.hexdigest()), member.size))
            return
        self._content(entry, reader.read(), mode, member.mtime)

    def _content(self, entry: PathEntry, data: bytes | bytearray, mode: int, mtime: int) -> None:
        final = self.finals[entry.path]
        sha256 = _checked(entry, hashlib.sha256(data).hexdigest())
        record = record_of(final, entry, sha256, len(data))
        if entry.placeholder and entry.mode:
            data = replace_prefix(data, entry.placeholder, self.source.prefix, entry.mode)
            patched = hashlib.sha256(data).hexdigest()
            if patched != sha256:
                mtime = GENERATED_TIME
                record["sha256_in_prefix"] = patched
            record["size_in_bytes"] = len(data)
        self.records.append(record)
        if self.library and final.startswith(self.library):
            if final.endswith(".py"):
                self._source(final, data, mode, mtime)
                return
            if final.endswith(".pyc"):
                self._shipped_pyc(final, data, mtime, mode)
                return
        self.out.file(f"{ROOT}/{final}", data, mode, mtime)

    def _source(self, final: str, data: bytes | bytearray, mode: int, mtime: int) -> None:
        """Write a module; one with a shipped .pyc must have the time that is stored there."""
        assert self.source.python
        pyc = self.source.python.cache_path(final)
        if pyc not in self.final_set:
            self.out.file(f"{ROOT}/{final}", data, mode, mtime)
            self._to_compile(final, pyc, data)
        elif pyc in self.pyc_times or mtime == GENERATED_TIME or self._is_excluded(pyc):
            self.out.file(f"{ROOT}/{final}", data, mode, self.pyc_times.get(pyc, mtime))
        else:
            self.waiting[pyc] = (final, data, mode, mtime)
            self.held += len(data)
            if self.held > _HELD:
                self._flush_waiting()

    def _shipped_pyc(self, final: str, data: bytes | bytearray, mtime: int, mode: int) -> None:
        self.out.file(f"{ROOT}/{final}", data, mode, mtime)
        if len(data) >= 16 and data[4:8] == bytes(4):  # PEP 552: no flags, a timestamp follows
            self.pyc_times[final] = int.from_bytes(data[8:12], "little")
        if final in self.waiting:
            path, source, source_mode, source_time = self.waiting.pop(final)
            self.held -= len(source)
            self.out.file(f"{ROOT}/{path}", source, source_mode, self.pyc_times.get(final, source_time))

    def _flush_waiting(self) -> None:
        for path, data, mode, mtime in self.waiting.values():
            self.out.file(f"{ROOT}/{path}", data, mode, mtime)
        self.waiting.clear()
        self.held = 0

    def _to_compile(self, final: str, pyc: str, data: bytes | bytearray) -> None:
        python = self.source.python
        if python and self.compile_sources and python.is_compiled(final) and not self._is_excluded(pyc):
            self.sources.append((final, bytes(data)))
            self.source_size += len(data)
            if self.source_size > _HELD:
                self._compile()

    def _compile(self) -> None:
        if not self.sources or not self.compile_sources or not self.source.python:
            return
        named = [(f"{self.source.prefix}/{final}", data) for final, data in self.sources]
        for (final, _), pyc in zip(self.sources, self.compile_sources(named), strict=True):
            if pyc is not None:
                path = self.source.python.cache_path(final)
                self.out.file(f"{ROOT}/{path}", pyc, PLAIN, GENERATED_TIME)
                self.records.append(generated_record(path, pyc, "pyc_file"))
        self.sources = []
        self.source_size = 0

    def _hard_links(self, wanted: dict[str, list[tuple[PathEntry, Member]]]) -> None:
        """Write hard links as files of their own. Large content is taken once a name, small once for all."""
        while wanted:
            found = set()
            for target, member, reader in self.archive.members():
                if target not in wanted or member.kind != FILE:
                    continue
                found.add(target)
                names = wanted.pop(target)
                if member.size > _STREAMED:
                    wanted.update({target: names[1:]} if names[1:] else {})
                    entry, link = names[0]
                    self._file(entry, _as_file(member, link), reader)
                    continue
                data = reader.read()
                for entry, link in names:
                    if entry.size is not None and entry.size != member.size:
                        raise PackageError(
                            f"lists {entry.path!r} with {entry.size} bytes, but has {member.size}"
                        )
                    mode = EXECUTABLE if link.mode & 0o111 else PLAIN
                    self._content(entry, bytes(data), mode, link.mtime)
            if wanted and not found:
                raise PackageError(f"has a hard link to {min(wanted)!r}, which is no file in it")

    def _directories(self) -> None:
        for path, entry in self.archive.info.paths.items():
            if entry.kind == "directory" and not self._is_excluded(self.finals[path]):
                self.out.directory(f"{ROOT}/{self.finals[path]}")
                self.records.append(record_of(self.finals[path], entry))

    def _generate(self) -> None:
        for final, script in self.scripts.items():
            if not self._is_excluded(final):
                self.out.file(f"{ROOT}/{final}", script, EXECUTABLE, GENERATED_TIME)
                self.records.append(generated_record(final, script, SCRIPT))
        self._compile()
        if both := self.out.paths & self.out.directories:
            raise PackageError(f"has {min(both)!r} as a folder and as something else")
        package = self.source.package
        name = f"{package.name}-{package.version}-{package.build}"
        meta = conda_meta(package, self.archive.info, self.records)
        self.out.file(f"{ROOT}/conda-meta/{name}.json", meta, PLAIN, GENERATED_TIME)


def _refuse_another_package(package: LockedPackage, info: PackageInfo) -> None:
    said = (info.index["name"].lower(), info.index["version"], info.index["build"])
    if (
        said != (package.name.lower(), package.version, package.build)
        or "/" in f"{package.name}{package.version}{package.build}"
    ):
        raise PackageError(
            f"says it is {' '.join(said)}, the lock says {package.name} {package.version} {package.build}"
        )


def _refuse_link_scripts(info: PackageInfo) -> None:
    """Refuse link scripts: no code from packages runs in a build."""
    for path in info.paths:
        name = path.rsplit("/", 1)[-1]
        if path.startswith(("bin/.", "python-scripts/.")) and name.endswith(
            ("-post-link.sh", "-pre-link.sh")
        ):
            raise PackageError(
                f"wants to run {path} when it is installed, which envbox does not do",
                f"leave {info.index['name']} out of the spec, or find a build of it without that script",
            )


def _as_file(target: Member, link: Member) -> Member:
    return Member(link.name, FILE, link.mode, link.mtime, target.size, "")


def _hashed(chunks: Iterator[bytes], digest: Any) -> Iterator[bytes]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


def _checked(entry: PathEntry, sha256: str) -> str:
    if entry.sha256 and entry.sha256 != sha256:
        raise PackageError(
            f"has {entry.path!r} with sha256 {sha256}, but its own paths.json says {entry.sha256}"
        )
    return sha256
