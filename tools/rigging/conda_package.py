"""Writes conda packages: `.conda` and `.tar.bz2`, the same bytes from the same contents.

The converters on PyPI lose marker dependencies or entry points, or need conda. The format is small: a zip of
two compressed tars (CEP "conda v2"), `info/index.json` for the solver, `info/paths.json` for whoever
installs. The build string holds a digest of the contents, so that no two files ever share a name.
"""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import posixpath
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# What stands in files for the prefix they will be installed at: 255 bytes, as conda-build makes it.
PLACEHOLDER = ("/home/conda/feedstock_root/build_artifacts/_h_env_" + "placehold_" * 30)[:255]
NEVER = 1767225600  # 2026-01-01: the time of what is generated and has no better one, in seconds
LEVEL = 3  # of zstd: the channel is made once and read on the same machine


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a package.

    :param data: a file's contents; what a link points to; nothing for a directory
    :param kind: paths.json's word: `hardlink` (a file), `softlink`, `directory`
    :param same_as: the path that this file is a hard link to, in the archive
    :param mtime: seconds, with a fraction where the archive has one; None for the package's own time
    """

    data: bytes
    mode: int = 0o644
    kind: str = "hardlink"
    same_as: str | None = None
    mtime: float | None = None

    @property
    def placeholder(self) -> str | None:
        """paths.json's file_mode: how the prefix lies in the file; None when it does not."""
        if self.kind != "hardlink" or PLACEHOLDER.encode() not in self.data:
            return None
        return "binary" if b"\0" in self.data else "text"


def softlink(target: str) -> Entry:
    """A symbolic link."""
    return Entry(target.encode(), 0o777, "softlink")


def directory() -> Entry:
    """An empty directory."""
    return Entry(b"", 0o755, "directory")


@dataclass(frozen=True, slots=True)
class Package:
    """A conda package before it is written.

    :param build: the build string's beginning; a digest of the contents and the number are added
    :param index: what else goes into index.json (`noarch`, `constrains`, `python_site_packages_path`, …)
    :param entry_points: `name = module:function`, of a noarch Python package
    :param info: further files under info/
    :param timestamp: seconds
    """

    name: str
    version: str
    subdir: str
    build: str = "h"
    build_number: int = 0
    suffix: str = ""
    depends: tuple[str, ...] = ()
    files: Mapping[str, Entry] = field(default_factory=dict)
    index: Mapping[str, Any] = field(default_factory=dict)
    entry_points: tuple[str, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)
    info: Mapping[str, bytes] = field(default_factory=dict)
    timestamp: int = NEVER

    @property
    def build_string(self) -> str:
        """The whole build string: a function of everything else in the package."""
        whole = hashlib.sha256()
        for value in (self.depends, dict(self.index), self.entry_points, self.timestamp):
            whole.update(json.dumps(value, sort_keys=True, default=list).encode())
        for path, entry in sorted(self.files.items()):
            whole.update(f"{path}\0{entry.mode}{entry.kind}{entry.same_as}{entry.mtime}\0".encode())
            whole.update(hashlib.sha256(entry.data).digest())
        return f"{self.build}{whole.hexdigest()[:7]}_{self.build_number}{self.suffix}"

    @property
    def stem(self) -> str:
        return f"{self.name}-{self.version}-{self.build_string}"


def write(package: Package, channel: Path) -> Path:
    """Write `package` as a `.conda` into its subdir of `channel`."""
    import zstandard

    compressor = zstandard.ZstdCompressor(level=LEVEL)
    stem = package.stem
    info = {name: Entry(data) for name, data in _info(package)}
    path = channel / package.subdir / f"{stem}.conda"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in (
            ("metadata.json", b'{"conda_pkg_format_version": 2}'),
            (f"pkg-{stem}.tar.zst", compressor.compress(_tar(package.files, package.timestamp))),
            (f"info-{stem}.tar.zst", compressor.compress(_tar(info, package.timestamp))),
        ):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)
    return path


def write_tar_bz2(package: Package, channel: Path) -> Path:
    """Write `package` in the older format, one compressed tar."""
    members = {**dict(package.files), **{name: Entry(data) for name, data in _info(package)}}
    path = channel / package.subdir / f"{package.stem}.tar.bz2"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bz2.compress(_tar(members, package.timestamp)))
    return path


def _tar(files: Mapping[str, Entry], timestamp: int) -> bytes:
    buffer = io.BytesIO()
    pax = any(entry.mtime is not None for entry in files.values())
    # a hard link comes after what it is a link to
    order = sorted(files, key=lambda path: (files[path].same_as is not None, path))
    with tarfile.open(
        fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT if pax else tarfile.GNU_FORMAT
    ) as tar:
        for path in order:
            entry = files[path]
            member = tarfile.TarInfo(path)
            member.mtime = timestamp if entry.mtime is None else entry.mtime
            member.mode = entry.mode
            if entry.kind == "softlink":
                member.type, member.linkname = tarfile.SYMTYPE, entry.data.decode()
                tar.addfile(member)
            elif entry.kind == "directory":
                member.type = tarfile.DIRTYPE
                tar.addfile(member)
            elif entry.same_as is not None:
                member.type, member.linkname = tarfile.LNKTYPE, entry.same_as
                tar.addfile(member)
            else:
                member.size = len(entry.data)
                tar.addfile(member, io.BytesIO(entry.data))
    return buffer.getvalue()


def _info(package: Package) -> Iterator[tuple[str, bytes]]:
    index = {
        "arch": {"linux-64": "x86_64", "linux-aarch64": "aarch64"}.get(package.subdir),
        "build": package.build_string,
        "build_number": package.build_number,
        "depends": sorted(package.depends),
        "license": package.about.get("license", ""),
        "name": package.name,
        "platform": None if package.subdir == "noarch" else "linux",
        "subdir": package.subdir,
        "timestamp": package.timestamp * 1000,
        "version": package.version,
        **package.index,
    }
    paths = [_path(path, package.files) for path in sorted(package.files)]
    yield "info/index.json", _json(index)
    yield "info/paths.json", _json({"paths": paths, "paths_version": 1})
    yield "info/files", "".join(f"{path['_path']}\n" for path in paths).encode()
    yield "info/about.json", _json(dict(package.about))
    if package.index.get("noarch") == "python":
        yield (
            "info/link.json",
            _json(
                {
                    "noarch": {"type": "python", "entry_points": list(package.entry_points)},
                    "package_metadata_version": 1,
                }
            ),
        )
    yield from sorted(package.info.items())


def _path(path: str, files: Mapping[str, Entry]) -> dict[str, Any]:
    entry = files[path]
    if entry.kind == "directory":
        return {"_path": path, "path_type": "directory"}
    data = _behind(path, files) if entry.kind == "softlink" else entry.data
    found: dict[str, Any] = {
        "_path": path,
        "path_type": entry.kind,
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_in_bytes": len(data),
    }
    if entry.placeholder:
        found.update(file_mode=entry.placeholder, prefix_placeholder=PLACEHOLDER)
    return found


def _behind(path: str, files: Mapping[str, Entry]) -> bytes:
    """The data that a link leads to within the package; none when it leads nowhere or to a directory."""
    for _ in range(10):
        entry = files.get(path)
        if entry is None:
            return b""
        if entry.kind != "softlink":
            return entry.data
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), entry.data.decode()))
    return b""


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode()
