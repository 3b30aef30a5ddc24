"""Real packages for tests: `.conda`, `.tar.bz2` and wheels with right hashes, and wrong ones when asked for.

A package is described by its files; what an honest packer would write (paths.json, index.json, RECORD)
follows, and every part can be replaced to make a hostile one.
"""

from __future__ import annotations

import base64
import bz2
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zstandard

from envbox.lockfile import Lock, LockedPackage

PLACEHOLDER = "/home/conda/feedstock_root/build_artifacts/" + "placehold_" * 21
TIME = 1_700_000_000


@dataclass(frozen=True)
class File:
    """One member of a package's payload.

    :param kind: a tarfile type
    :param placeholder: `text` or `binary`
    :param listed: what paths.json says of it besides or instead of the truth; None leaves it out
    """

    data: bytes = b""
    mode: int = 0o644
    kind: bytes = tarfile.REGTYPE
    link: str = ""
    mtime: float = TIME
    placeholder: str | None = None
    listed: Mapping[str, Any] | None = field(default_factory=dict)
    pax: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Package:
    """A conda package to be written; members stand in the archive in the order given."""

    name: str = "demo"
    version: str = "1.0"
    build: str = "h0_0"
    files: Sequence[tuple[str, File]] = ()
    depends: Sequence[str] = ()
    noarch: str | None = None
    subdir: str = "linux-64"
    entry_points: Sequence[str] = ()
    index: Mapping[str, Any] = field(default_factory=dict)
    info: Mapping[str, bytes | None] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        return f"{self.name}-{self.version}-{self.build}"

    def write(self, folder: Path, extension: str = ".conda") -> Path:
        """Write the archive, info last in a `.conda` and first in a `.tar.bz2`, as conda's own tools do."""
        path = folder / f"{self.stem}{extension}"
        folder.mkdir(parents=True, exist_ok=True)
        info = [
            (f"info/{name}", File(data)) for name, data in sorted(self._info().items()) if data is not None
        ]
        if extension == ".conda":
            write_conda(path, self.stem, info, self.files)
        else:
            path.write_bytes(bz2.compress(tarball([*info, *self.files])))
        return path

    def locked(self, path: Path, platform: str = "linux-64") -> LockedPackage:
        """What a lock says of the written archive."""
        data = path.read_bytes()
        depends = {d.partition(" ")[0]: d.partition(" ")[2] for d in self.depends}
        return LockedPackage(
            manager="conda",
            name=self.name,
            version=self.version,
            build=self.build,
            platform=platform,
            depends=dict(sorted(depends.items())),
            url=f"https://conda.anaconda.org/conda-forge/{self._subdir}/{path.name}",
            sha256=hashlib.sha256(data).hexdigest(),
            md5=hashlib.md5(data, usedforsecurity=False).hexdigest(),
        )

    @property
    def _subdir(self) -> str:
        return "noarch" if self.noarch else self.subdir

    def _info(self) -> dict[str, bytes | None]:
        index = {
            "name": self.name,
            "version": self.version,
            "build": self.build,
            "build_number": 0,
            "depends": list(self.depends),
            "subdir": self._subdir,
            "timestamp": TIME * 1000,
            **({"noarch": self.noarch} if self.noarch else {}),
            **self.index,
        }
        paths = [line for name, file in self.files if (line := self._line(name, file))]
        info: dict[str, bytes | None] = {
            "index.json": json.dumps(index).encode(),
            "paths.json": json.dumps({"paths": paths, "paths_version": 1}).encode(),
            "files": "".join(f"{line['_path']}\n" for line in paths).encode(),
        }
        if self.noarch == "python":
            link = {"noarch": {"type": "python", "entry_points": list(self.entry_points)}}
            info["link.json"] = json.dumps({**link, "package_metadata_version": 1}).encode()
        return {**info, **self.info}

    def _line(self, name: str, file: File) -> dict[str, Any] | None:
        if file.listed is None:
            return None
        data = file.data
        if file.kind == tarfile.LNKTYPE:
            data = dict(self.files)[file.link].data
        kinds = {tarfile.SYMTYPE: "softlink", tarfile.DIRTYPE: "directory"}
        line: dict[str, Any] = {"_path": name, "path_type": kinds.get(file.kind, "hardlink")}
        if file.kind not in kinds:
            line |= {"sha256": hashlib.sha256(data).hexdigest(), "size_in_bytes": len(data)}
        if file.placeholder:
            line |= {"file_mode": file.placeholder, "prefix_placeholder": PLACEHOLDER}
        return {**line, **file.listed}


def tarball(files: Sequence[tuple[str, File]]) -> bytes:
    """A PAX tarball, by Python's own tarfile: a reader of ours must not be tested with a writer of ours."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, file in files:
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.mtime = file.kind, file.mode, file.mtime
            member.linkname, member.uid, member.uname = file.link, 1000, "conda"
            member.pax_headers = dict(file.pax)
            if file.kind == tarfile.REGTYPE:
                member.size = len(file.data)
            archive.addfile(member, io.BytesIO(file.data))
    return buffer.getvalue()


def write_conda(
    path: Path, stem: str, info: Sequence[tuple[str, File]], files: Sequence[tuple[str, File]]
) -> None:
    """Zip two compressed tarballs, to the same bytes at any time."""
    compress = zstandard.ZstdCompressor(level=1).compress
    members = {
        "metadata.json": b'{"conda_pkg_format_version": 2}',
        f"pkg-{stem}.tar.zst": compress(tarball(files)),
        f"info-{stem}.tar.zst": compress(tarball(info)),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)  # of 1980


@dataclass(frozen=True)
class Wheel:
    """A wheel to be written.

    :param files: path in the wheel → (content, executable)
    :param compression: a zipfile constant; DEFLATED bytes depend on the zlib that is here
    """

    name: str = "demo"
    version: str = "1.0"
    files: Mapping[str, tuple[bytes, bool]] = field(default_factory=dict)
    entry_points: str | None = None
    tag: str = "py3-none-any"
    compression: int = zipfile.ZIP_DEFLATED

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}-{self.version}-{self.tag}.whl"
        info = f"{self.name}-{self.version}.dist-info"
        files = dict(self.files)
        files[f"{info}/METADATA"] = (
            f"Metadata-Version: 2.1\nName: {self.name}\nVersion: {self.version}\n".encode(),
            False,
        )
        pure = str(self.tag.endswith("-any")).lower()
        files[f"{info}/WHEEL"] = (
            f"Wheel-Version: 1.0\nRoot-Is-Purelib: {pure}\nTag: {self.tag}\n".encode(),
            False,
        )
        if self.entry_points:
            files[f"{info}/entry_points.txt"] = (self.entry_points.encode(), False)
        record = "".join(
            f"{name},sha256={_record_hash(data)},{len(data)}\n" for name, (data, _) in files.items()
        )
        files[f"{info}/RECORD"] = (f"{record}{info}/RECORD,,\n".encode(), False)
        with zipfile.ZipFile(path, "w") as archive:
            for name, (data, executable) in files.items():
                member = zipfile.ZipInfo(name, (2024, 5, 17, 12, 30, 10))
                member.external_attr = (0o100755 if executable else 0o100644) << 16
                member.compress_type = self.compression  # else a ZipInfo of one's own is STORED
                archive.writestr(member, data)
        return path

    def locked(self, path: Path, platform: str = "linux-64") -> LockedPackage:
        return LockedPackage(
            manager="pip",
            name=self.name,
            version=self.version,
            build=None,
            platform=platform,
            depends={},
            url=f"https://files.pythonhosted.org/packages/{path.name}",
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        )


def _record_hash(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def lock_of(*packages: LockedPackage, name: str = "demo") -> Lock:
    """A lock with nothing but packages."""
    platforms = tuple(sorted({package.platform for package in packages}))
    return Lock(name, platforms, ("conda-forge",), {}, tuple(packages), None, "sha256:" + "0" * 64)
