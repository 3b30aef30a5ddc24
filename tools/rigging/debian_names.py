"""Which of Debian's packages the rig takes, and what each becomes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Library:
    """A conda package that is some Debian packages."""

    name: str
    debs: tuple[str, ...]
    license: str
    is_noarch: bool = False


LIBRARIES = (
    Library("libzlib", ("zlib1g",), "Zlib"),
    Library("bzip2", ("libbz2-1.0",), "bzip2-1.0.6"),
    Library("liblzma", ("liblzma5",), "0BSD"),
    Library("libffi", ("libffi8",), "MIT"),
    Library("openssl", ("libssl3", "openssl"), "Apache-2.0"),
    Library("libsqlite", ("libsqlite3-0",), "blessing"),
    Library("ncurses", ("libncursesw6", "libtinfo6", "ncurses-base"), "X11"),
    Library("readline", ("libreadline8",), "GPL-3.0-only"),
    Library("libuuid", ("libuuid1",), "BSD-3-Clause"),
    Library("libexpat", ("libexpat1",), "MIT"),
    Library("libxcrypt", ("libcrypt1",), "LGPL-2.1-or-later"),
    Library("libgcc", ("libgcc-s1",), "GPL-3.0-only WITH GCC-exception-3.1"),
    Library("libstdcxx", ("libstdc++6",), "GPL-3.0-only WITH GCC-exception-3.1"),
    Library("tzdata", ("tzdata",), "LicenseRef-Public-Domain", is_noarch=True),
)
PYTHON_DEBS = ("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib")
LIBRARY_DEBS = tuple(sorted({deb for library in LIBRARIES for deb in library.debs} | set(PYTHON_DEBS)))

# What Debian marks as essential, and what continuumio/miniconda3 adds that envbox or its users touch.
_TREE = (
    "apt base-files base-passwd bash bsdutils ca-certificates coreutils dash debian-archive-keyring "
    "debianutils diffutils dpkg findutils grep gzip hostname init-system-helpers libc-bin login mawk mount "
    "ncurses-base ncurses-bin passwd perl-base sed sysvinit-utils tar usr-is-merged util-linux"
)
TREE = tuple(_TREE.split())
