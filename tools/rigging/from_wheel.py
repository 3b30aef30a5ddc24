"""A wheel → a conda package.

A pure wheel becomes `noarch: python` (files under `site-packages/`, entry points for the installer to make);
one with compiled code belongs to a subdir and to the Python it was compiled for; one for the stable ABI
(abi3) to a subdir and any Python, which conda-forge writes as `noarch: python` in the subdir. Requirements
become match specs, the libraries it needs become dependencies, RECORD is written anew for the places that
files have in a prefix.
"""

from __future__ import annotations

import base64
import calendar
import configparser
import csv
import email.parser
import hashlib
import io
import posixpath
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from packaging.requirements import Requirement
from packaging.tags import Tag
from packaging.utils import canonicalize_name, parse_wheel_filename

from rigging import elf, names
from rigging.conda_package import NEVER, PLACEHOLDER, Entry, Package

SITE_PACKAGES = f"lib/python{names.PYTHON}/site-packages"
PYTHON_DEPENDS = (
    f"python >={names.PYTHON},<3.{int(names.PYTHON[2:]) + 1}.0a0",
    f"python_abi {names.PYTHON}.* *_cp{names.PYTHON.replace('.', '')}",
)


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel as it was downloaded, with what its name and METADATA say."""

    path: Path
    project: str
    version: str
    tags: frozenset[Tag]
    metadata: Message
    dist_info: str

    @property
    def is_pure(self) -> bool:
        return all(tag.platform == "any" and tag.abi == "none" for tag in self.tags)

    @property
    def is_abi3(self) -> bool:
        return not self.is_pure and any(tag.abi == "abi3" for tag in self.tags)

    @property
    def is_relocatable(self) -> bool:
        """Whether the installer decides where site-packages is."""
        return self.is_pure or self.is_abi3

    @property
    def machine(self) -> str:
        return "aarch64" if any("aarch64" in tag.platform for tag in self.tags) else "x86_64"

    @property
    def machines(self) -> tuple[str, ...]:
        """The machines it runs on, of those that the rig knows."""
        return ("x86_64", "aarch64") if self.is_pure else (self.machine,)

    @property
    def subdir(self) -> str:
        if self.is_pure:
            return "noarch"
        return {"x86_64": "linux-64", "aarch64": "linux-aarch64"}[self.machine]

    @property
    def requirements(self) -> list[Requirement]:
        return [Requirement(text) for text in self.metadata.get_all("Requires-Dist") or []]

    @property
    def extras(self) -> set[str]:
        return {canonicalize_name(text) for text in self.metadata.get_all("Provides-Extra") or []}


def read(path: Path) -> Wheel:
    """What a wheel says of itself."""
    name, version, _, tags = parse_wheel_filename(path.name)
    with zipfile.ZipFile(path) as archive:
        dist_info = next(
            n.split("/")[0] for n in archive.namelist() if n.split("/")[0].endswith(".dist-info")
        )
        text = archive.read(f"{dist_info}/METADATA").decode("utf-8", "replace")
    metadata = email.parser.HeaderParser().parsestr(text)
    return Wheel(path, name, str(version), frozenset(tags), metadata, dist_info)


def convert(wheel: Wheel) -> Package:
    """The conda package that a wheel is."""
    site = "site-packages" if wheel.is_relocatable else SITE_PACKAGES
    with zipfile.ZipFile(wheel.path) as archive:
        files = {path: entry for info in archive.infolist() for path, entry in _place(wheel, archive, info)}
        entry_points = _entry_points(archive, wheel.dist_info)
        timestamp = _newest(archive)
    if not wheel.is_relocatable:
        files.update(_scripts(entry_points))
    files[f"{site}/{wheel.dist_info}/INSTALLER"] = Entry(b"conda")
    files[f"{site}/{wheel.dist_info}/REQUESTED"] = Entry(b"")
    files[f"{site}/{wheel.dist_info}/RECORD"] = Entry(_record(files, site, wheel.dist_info))
    license_text = wheel.metadata.get("License-Expression") or wheel.metadata.get("License") or ""
    return Package(
        name=names.conda_name(wheel.project),
        version=wheel.version,
        subdir=wheel.subdir,
        build="pyh" if wheel.is_pure else f"py{names.PYTHON.replace('.', '')}h",
        depends=tuple(sorted(_depends(wheel, files))),
        files=files,
        index={"noarch": "python"} if wheel.is_relocatable else {},
        entry_points=tuple(f"{name} = {target}" for name, target in entry_points)
        if wheel.is_relocatable
        else (),
        about={
            "license": license_text.split("\n")[0][:60],
            "summary": wheel.metadata.get("Summary") or "",
            "home": wheel.metadata.get("Home-page") or "",
        },
        info={
            f"info/licenses/{posixpath.basename(path)}": entry.data
            for path, entry in files.items()
            if re.match(rf"{re.escape(f'{site}/{wheel.dist_info}/')}(licenses/|LICEN[SC]E|COPYING)", path)
        },
        timestamp=timestamp,
    )


def _depends(wheel: Wheel, files: dict[str, Entry]) -> set[str]:
    found, _ = names.depends(wheel.requirements, wheel.machines)
    if wheel.is_pure:
        return found | {names.python_spec(wheel.metadata.get("Requires-Python"))}
    glibc = [
        (int(m[1]), int(m[2]))
        for tag in wheel.tags
        if (m := re.match(r"manylinux_(\d+)_(\d+)_", tag.platform))
    ]
    if glibc:  # auditwheel puts the newest first that it really needs; the highest is the safe reading
        found.add("__glibc >={}.{},<3.0.a0".format(*max(glibc)))
    found |= elf.depends(files)
    if wheel.is_abi3:
        oldest = min(int(tag.interpreter[3:]) for tag in wheel.tags if tag.abi == "abi3")
        return found | {"python", f"cpython >=3.{oldest}", "_python_abi3_support 1.*"}
    return found | set(PYTHON_DEPENDS)


def _place(wheel: Wheel, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[tuple[str, Entry]]:
    """Where in a prefix a wheel's file goes: PEP 427's rules, with conda's folders."""
    name = info.filename
    if info.is_dir() or name.startswith(f"{wheel.dist_info}/RECORD"):
        return
    data = archive.read(info)
    is_program = data[:4] == elf.MAGIC and ".so" not in name
    mode = 0o755 if (info.external_attr >> 16) & 0o100 or is_program else 0o644
    site, scripts = ("site-packages", "python-scripts") if wheel.is_relocatable else (SITE_PACKAGES, "bin")
    top, _, rest = name.partition("/")
    if not top.endswith(".data"):
        yield f"{site}/{name}", Entry(data, mode)
        return
    scheme, _, rest = rest.partition("/")
    if scheme == "scripts":
        mode = 0o755
        if data.startswith(b"#!python"):
            data = f"#!{PLACEHOLDER}/bin/python".encode() + b"\n" + data.split(b"\n", 1)[1]
    places = {
        "purelib": f"{site}/{rest}",
        "platlib": f"{site}/{rest}",
        "data": rest,
        "headers": f"include/python{names.PYTHON}/{wheel.project}/{rest}",
        "scripts": f"{scripts}/{rest}",
    }
    yield places[scheme], Entry(data, mode)


def _entry_points(archive: zipfile.ZipFile, dist_info: str) -> list[tuple[str, str]]:
    name = f"{dist_info}/entry_points.txt"
    if name not in archive.namelist():
        return []
    parser = configparser.ConfigParser(delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
    parser.read_string(archive.read(name).decode())
    return [
        (key.strip(), re.sub(r"\s*\[.*\]$", "", value).strip().replace(" ", ""))
        for section in ("console_scripts", "gui_scripts")
        if parser.has_section(section)
        for key, value in parser.items(section)
    ]


def _scripts(entry_points: list[tuple[str, str]]) -> Iterator[tuple[str, Entry]]:
    for name, target in entry_points:
        module, _, function = target.partition(":")
        text = (
            f"#!{PLACEHOLDER}/bin/python{names.PYTHON}\n"
            f"import sys\n\nfrom {module} import {function.split('.')[0]}\n\n"
            f"if __name__ == '__main__':\n    sys.exit({function}())\n"
        )
        yield f"bin/{name}", Entry(text.encode(), 0o755)


def _record(files: dict[str, Entry], site: str, dist_info: str) -> bytes:
    """RECORD for the installed places; files that the prefix is written into have no digest there."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for path, entry in sorted(files.items()):
        there = path.replace("python-scripts/", "bin/", 1) if path.startswith("python-scripts/") else path
        there = SITE_PACKAGES + there[len(site) :] if there.startswith(f"{site}/") else there
        digest = base64.urlsafe_b64encode(hashlib.sha256(entry.data).digest()).rstrip(b"=").decode()
        known = ("", "") if entry.placeholder else (f"sha256={digest}", len(entry.data))
        writer.writerow([posixpath.relpath(there, SITE_PACKAGES), *known])
    writer.writerow([f"{dist_info}/RECORD", "", ""])
    return text.getvalue().encode()


def _newest(archive: zipfile.ZipFile) -> int:
    """The wheel's newest time in seconds; a zip's times have no zone and begin in 1980."""
    newest = max(info.date_time for info in archive.infolist())
    return calendar.timegm((*newest, 0, 0, 0)) if newest[0] > 2000 else NEVER
