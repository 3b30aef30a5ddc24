"""Wheels → tar entries, by PyPA's own `installer`; neither pip nor a wheel's code runs.

`installer` knows what goes where, and drives: scripts, data folders, RECORD. What it wants written goes into
the fragment instead of onto a disk. A wheel's RECORD is written anew and not held against the files: real
wheels have wrong ones, which pip takes, and the lock's sha256 is over the whole archive anyway. Wheels only:
an sdist would have to run its own code to become one.
https://packaging.python.org/en/latest/specifications/binary-distribution-format/
"""

from __future__ import annotations

import base64
import calendar
import configparser
import csv
import hashlib
import posixpath
import stat
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from typing import Any, BinaryIO

from envbox.errors import LockfileError, PackageError
from envbox.packages.link.conda import ArchiveSource, Compile
from envbox.packages.link.entries import EXECUTABLE, PLAIN, EntryWriter
from envbox.packages.link.package import honest_limit, open_archive, safe_path, verify
from envbox.packages.link.placeholder import python_shebang
from envbox.packages.link.tar import CHUNK
from envbox.packages.link.target import GENERATED_TIME, ROOT, PythonLayout
from envbox.slim import left_out

INSTALLER = b"envbox\n"
_HELD = 4 << 20  # larger files are streamed through
_TOTAL_LIMIT = 16 << 30


def link_wheel(source: ArchiveSource, out: EntryWriter, compile_sources: Compile | None = None) -> int:
    """Write the entries of one wheel.

    :returns: the newest time in the archive, in seconds
    :raises PackageError: when it is no wheel, is damaged, lies, or could do harm; what was written is then
        void
    :raises LockfileError: when the lock has no Python for it
    """
    name = source.archive.name
    if source.python is None:
        raise LockfileError(f"{name} needs a python, and the lock has none", "add python to the spec")
    if not name.endswith(".whl"):
        raise PackageError(
            f"{name} is not a wheel: to install it, code from it would have to run",
            f"ask for a version of {source.package.name} that has wheels, or take it from conda",
        )
    from installer.exceptions import InstallerError
    from installer.records import InvalidRecordEntry

    try:
        with open_archive(source.archive, source.package.sha256) as file:
            verify(file, source.archive, source.package.sha256)
            with zipfile.ZipFile(file) as archive:
                return _link(source, archive, out, compile_sources)
    except PackageError as error:
        if error.message.startswith(name):
            raise
        raise PackageError(f"{name} {error.message}", error.hint) from error
    except (InvalidRecordEntry, csv.Error) as error:
        raise PackageError(f"{name} has a RECORD that is none: {error}") from error
    except configparser.Error as error:
        raise PackageError(f"{name} has entry points that are none: {error.message}") from error
    except (
        InstallerError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        RuntimeError,
        ValueError,
        KeyError,
    ) as error:
        raise PackageError(f"{name} is damaged: {error}") from error
    except AssertionError as error:  # installer's way to say that an entry point is none
        raise PackageError(f"{name} has an entry point that is not `name = module:function`") from error
    except OSError as error:
        raise PackageError(f"{name} cannot be read: {error.strerror or error}") from error


def _link(
    source: ArchiveSource, archive: zipfile.ZipFile, out: EntryWriter, compile_sources: Compile | None
) -> int:
    from installer import install
    from installer.sources import WheelFile

    assert source.python
    _refuse_harm(archive)
    wheel = WheelFile(archive)
    destination = _Destination(source, wheel.distribution, archive, out, compile_sources)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a shipped __pycache__ is left out
        install(wheel, destination, {"INSTALLER": INSTALLER})
    if both := out.paths & out.directories:
        raise PackageError(f"has {min(both)!r} as a folder and as something else")
    return max((_time(info) for info in archive.infolist()), default=0)


def _refuse_harm(archive: zipfile.ZipFile) -> None:
    seen = set()
    compressed = total = 0
    for info in archive.infolist():
        path = safe_path(info.filename)
        if path in seen:
            raise PackageError(f"has {path!r} twice")
        seen.add(path)
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise PackageError(f"has {path!r}, which is neither a file nor a folder")
        if mode & 0o6000 and not info.is_dir():
            raise PackageError(f"has {path!r} with a setuid or setgid bit")
        compressed += info.compress_size
        total += info.file_size
    if total > min(_TOTAL_LIMIT, honest_limit(compressed)):
        raise PackageError(f"says it unpacks to {total} bytes, from {compressed}")


class _Destination:
    """What `installer` writes to: its WheelDestination protocol, into a fragment."""

    def __init__(
        self,
        source: ArchiveSource,
        distribution: str,
        archive: zipfile.ZipFile,
        out: EntryWriter,
        compile_sources: Compile | None,
    ) -> None:
        assert source.python
        self._source = source
        self._python: PythonLayout = source.python
        self._archive = archive
        self._out = out
        self._compile = compile_sources
        self._sources: list[tuple[str, bytes]] = []
        self._schemes = {
            "purelib": self._python.site_packages,
            "platlib": self._python.site_packages,
            "headers": f"include/python{self._python.short}/{distribution}",
            "scripts": "bin",
            "data": "",
        }
        self._left_out: Collection[str] = ()
        if source.slim:
            paths = [self._in_prefix(info.filename) for info in archive.infolist() if not info.is_dir()]
            self._left_out = left_out(paths, source.slim, self._python.site_packages, self._modules)

    def write_script(self, name: str, module: str, attr: str, section: Any) -> Any:
        """Write the script of an entry point."""
        from installer.scripts import Script

        script, data = Script(name, module, attr, section).generate(self._python.executable, "posix")
        if "/" in script:
            raise PackageError(f"has an entry point with a path for a name: {script!r}")
        return self._put("scripts", script, data, EXECUTABLE, GENERATED_TIME)

    def write_file(self, scheme: str, path: Any, stream: BinaryIO, is_executable: bool) -> Any:
        """Write a file of the wheel, or one that the installation adds."""
        name = getattr(stream, "name", None)  # only what comes out of the zip has one
        info = self._archive.getinfo(name) if isinstance(name, str) else None
        mtime = _time(info) if info else GENERATED_TIME
        mode = EXECUTABLE if is_executable else PLAIN
        if info and info.file_size > _HELD and not str(path).endswith(".py") and scheme != "scripts":
            return self._stream(scheme, str(path), (stream, info.file_size), mode, mtime)
        if scheme == "scripts":
            return self._put(scheme, str(path), self._with_shebang(stream.read()), mode, mtime)
        return self._put(scheme, str(path), stream.read(), mode, mtime)

    def _with_shebang(self, script: bytes) -> bytes:
        """Return a script for whatever Python it is installed with → for the locked one."""
        if not script.startswith(b"#!python"):
            return script
        return python_shebang(self._python.executable).encode() + b"\n" + script.partition(b"\n")[2]

    def finalize_installation(
        self, scheme: str, record_file_path: str, records: Iterable[tuple[str, Any]]
    ) -> None:
        """Write the byte-code, then RECORD, which lists it too."""
        from installer.records import RecordEntry
        from installer.utils import construct_record_file

        listed = [
            (where, record)
            for where, record in records
            if not self._left_out or self._final(where, record.path) not in self._left_out
        ]
        for path in self._byte_code():
            relative = posixpath.relpath(path, self._schemes[scheme])
            listed.append((scheme, RecordEntry(relative, None, None)))  # pip writes no hash for these either

        def prefix_for_scheme(other: Any) -> str | None:
            if self._schemes[other] == self._schemes[scheme]:
                return None
            there = posixpath.relpath(self._schemes[other] or ".", self._schemes[scheme])
            return there + "/"

        with construct_record_file(listed, prefix_for_scheme) as stream:
            self._put(scheme, record_file_path, stream.read(), PLAIN, GENERATED_TIME)

    def _byte_code(self) -> Iterator[str]:
        if not self._compile or not self._sources:
            return
        named = [(f"{self._source.prefix}/{path}", data) for path, data in self._sources]
        for (path, _), pyc in zip(self._sources, self._compile(named), strict=True):
            if pyc is not None:
                cached = self._python.cache_path(path)
                self._out.file(f"{ROOT}/{cached}", pyc, PLAIN, GENERATED_TIME)
                yield cached

    def _modules(self) -> Iterator[tuple[str, bytes]]:
        for info in self._archive.infolist():
            if info.filename.endswith(".py"):
                yield self._in_prefix(info.filename), self._archive.read(info)

    def _in_prefix(self, name: str) -> str:
        """Return where a member of the archive goes; those in `.data` folders by the scheme they name."""
        top, _, rest = safe_path(name).partition("/")
        if not top.endswith(".data"):
            return self._final("purelib", name)
        scheme, _, path = rest.partition("/")
        return self._final(scheme, path) if scheme in self._schemes and path else safe_path(name)

    def _is_excluded(self, final: str) -> bool:
        return f"{ROOT}/{final}" in self._source.excluded or final in self._left_out

    def _final(self, scheme: str, path: str) -> str:
        folder = self._schemes[scheme]
        return f"{folder}/{safe_path(path)}" if folder else safe_path(path)

    def _put(self, scheme: str, path: str, data: bytes, mode: int, mtime: int) -> Any:
        from installer.records import Hash, RecordEntry

        final = self._final(scheme, path)
        if not self._is_excluded(final):
            self._out.file(f"{ROOT}/{final}", data, mode, mtime)
            cached = self._python.cache_path(final)
            if self._python.is_compiled(final) and not self._is_excluded(cached):
                self._sources.append((final, data))
        return RecordEntry(path, Hash("sha256", _record_hash(hashlib.sha256(data))), len(data))

    def _stream(self, scheme: str, path: str, content: tuple[BinaryIO, int], mode: int, mtime: int) -> Any:
        from installer.records import Hash, RecordEntry

        final, (stream, size) = self._final(scheme, path), content
        digest = hashlib.sha256()

        def chunks() -> Iterator[bytes]:
            while data := stream.read(CHUNK):
                digest.update(data)
                yield data

        if self._is_excluded(final):
            for _ in chunks():
                pass
        else:
            self._out.stream(f"{ROOT}/{final}", size, chunks(), mode, mtime)
        return RecordEntry(path, Hash("sha256", _record_hash(digest)), size)


def _record_hash(digest: Any) -> str:
    return base64.urlsafe_b64encode(digest.digest()).decode().rstrip("=")


def _time(info: zipfile.ZipInfo) -> int:
    """Return a member's time, read as UTC on every machine; a zip can hold times that are none."""
    try:
        return calendar.timegm((*info.date_time, 0, 1, 0)) if info.date_time[1] else GENERATED_TIME
    except (ValueError, OverflowError):
        return GENERATED_TIME
