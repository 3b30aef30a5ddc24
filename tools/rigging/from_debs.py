"""Shared libraries and CPython: Debian's packages → conda packages."""

from __future__ import annotations

import json
import posixpath
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from rigging import debian, elf, names
from rigging.conda_package import PLACEHOLDER, Entry, Package, softlink
from rigging.debian_names import Library

TRIPLETS = {"linux-64": "x86_64-linux-gnu", "linux-aarch64": "aarch64-linux-gnu"}
GLIBC = "__glibc >=2.36,<3.0.a0"  # Debian bookworm's


_LEFT_OUT = re.compile(
    r"(^|/)(__pycache__|site-packages|dist-packages|idle_test|test|tests|turtledemo)(/|$)|EXTERNALLY-MANAGED|"
    r"sitecustomize\.py$|lib-dynload/(nis|_tkinter|_dbm|_gdbm|ossaudiodev|xxlimited|_test|_xx)[^/]*\.so$"
)


def convert_library(library: Library, subdir: str, debs: Sequence[Path]) -> Package:
    """The conda package of a shared library and what it needs at run time."""
    files: dict[str, Entry] = {}
    info: dict[str, bytes] = {}
    timestamp = 0
    for deb in debs:
        for member, data in debian.contents(deb):
            if member.isdir():
                continue
            timestamp = max(timestamp, int(member.mtime))
            if copyright_of := re.match(r"usr/share/doc/([^/]+)/copyright$", member.name):
                info[f"info/licenses/{copyright_of[1]}-copyright"] = data
            elif path := _library_place(member.name, TRIPLETS[subdir]):
                files.setdefault(path, _library_entry(path, member, data))
    files = {
        path: entry
        for path, entry in files.items()
        if entry.kind != "softlink" or _target(path, entry) in files  # links to what was left out
    }
    if library.name == "ncurses":  # Debian's libtinfo knows nothing of this prefix
        value = {"TERMINFO_DIRS": f"{PLACEHOLDER}/share/terminfo:/usr/share/terminfo:/lib/terminfo"}
        files["etc/conda/env_vars.d/ncurses.json"] = Entry(json.dumps(value).encode())
    fields = debian.fields(debs[0])
    needed = {spec for spec in elf.depends(files) if spec.split()[0] != library.name}
    extra = {"openssl": {"ca-certificates"}}.get(library.name, set())
    return Package(
        name=library.name,
        version=debian.upstream_version(fields["Version"].strip()),
        subdir="noarch" if library.is_noarch else subdir,
        depends=() if library.is_noarch else tuple(sorted(needed | extra | {GLIBC})),
        files=files,
        index={"noarch": "generic"} if library.is_noarch else {},
        about={"license": library.license, "summary": fields["Description"].strip().split("\n")[0]},
        info=info,
        timestamp=timestamp,
    )


def _library_place(name: str, triplet: str) -> str | None:
    """Where a file of a .deb goes in a prefix; None for what a library does not need."""
    if found := re.match(rf"(?:usr/)?lib/(?:{triplet}/)?(.*\.so.*)$", name):
        return f"lib/{found[1]}"
    if found := re.match(r"usr/bin/([^/]+)$", name):
        return f"bin/{found[1]}"
    if name in ("usr/lib/ssl/openssl.cnf", "etc/ssl/openssl.cnf"):
        return "ssl/openssl.cnf"
    if found := re.match(r"(?:usr/share|lib)/terminfo/(.+)$", name):
        return f"share/terminfo/{found[1]}"
    if name.startswith("usr/share/zoneinfo/") and not name.endswith(("localtime", "posixrules")):
        return name.removeprefix("usr/")
    return None


def _library_entry(path: str, member: tarfile.TarInfo, data: bytes) -> Entry:
    if member.issym():
        target = member.linkname
        return softlink(posixpath.basename(target) if target.startswith("/") else target)
    if data[:4] == elf.MAGIC:
        data = elf.with_rpath(data, path)
    return Entry(data, 0o755 if member.mode & 0o100 else 0o644)


def _target(path: str, entry: Entry) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), entry.data.decode()))


def convert_python(subdir: str, debs: Sequence[Path]) -> Package:
    """The conda package of CPython, out of Debian's.

    Debian's third party packages live in `dist-packages`; a conda prefix has `site-packages`. The name is as
    long as the other one, so it can be put in its place everywhere: in `site.py`, and in the copy of it that
    is frozen into the executable (3.11 and later read only that one).
    """
    files: dict[str, Entry] = {}
    timestamp = 0
    for deb in debs:
        for member, data in debian.contents(deb):
            path = member.name.removeprefix("usr/")
            if path.startswith((f"lib/python{names.PYTHON}/", "bin/python")) and not _LEFT_OUT.search(path):
                timestamp = max(timestamp, int(member.mtime))
                files.update(_python_files(path, member, data))
    for link in ("python", "python3"):
        files[f"bin/{link}"] = softlink(f"python{names.PYTHON}")
    files[f"lib/python{names.PYTHON}/site-packages/README.txt"] = Entry(
        b"This directory exists so that 3rd party packages can be installed here.\n"
    )
    return Package(
        name="python",
        version=python_version(debs[0]),
        subdir=subdir,
        suffix="_cpython",
        depends=tuple(sorted(elf.depends(files) | {"tzdata", GLIBC})),
        files=files,
        index={
            "constrains": [f"python_abi {names.PYTHON}.* *_cp{names.PYTHON.replace('.', '')}"],
            "python_site_packages_path": f"lib/python{names.PYTHON}/site-packages",
        },
        about={"license": "Python-2.0", "home": "https://www.python.org/"},
        info={"info/licenses/LICENSE": files[f"lib/python{names.PYTHON}/LICENSE.txt"].data},
        timestamp=timestamp,
    )


def python_version(deb: Path) -> str:
    """The X.Y.Z of the CPython in a .deb."""
    return debian.upstream_version(debian.fields(deb)["Version"].strip())


def _python_files(path: str, member: tarfile.TarInfo, data: bytes) -> Iterator[tuple[str, Entry]]:
    if member.isdir():
        return
    if member.issym():
        if not member.linkname.startswith("/"):
            yield path, softlink(member.linkname)
        return
    if path.startswith("bin/") or path.endswith("/site.py"):
        data = data.replace(b"dist-packages", b"site-packages")
    if path.endswith("/sysconfig.py"):
        # the installation scheme that Debian puts in the place of upstream's
        if data.count(b"'prefix': prefix_scheme,") != 1:
            raise ValueError("Debian's patch of sysconfig.py is not the one that is known")
        data = data.replace(b"'prefix': prefix_scheme,", b"'prefix': 'posix_prefix',")
    if posixpath.basename(path).startswith("_sysconfigdata"):
        data = re.sub(rb"(?<=['\"= ])/usr(?=['\"]|/(?:lib|include|share/man)\b)", PLACEHOLDER.encode(), data)
        data = data.replace(b"'BINDIR': '/usr/bin'", f"'BINDIR': '{PLACEHOLDER}/bin'".encode())
    if data[:4] == elf.MAGIC:
        data = elf.with_rpath(data, path)
    yield path, Entry(data, 0o755 if member.mode & 0o100 else 0o644)
