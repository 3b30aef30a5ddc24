"""Where packages are linked to: the image's one prefix, and the layout of the Python that lives there."""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "/opt/envbox"
"""The same for every environment of everybody: files have it patched in, so only then can images share
layers."""
ROOT = PREFIX.lstrip("/")

GENERATED_TIME = 315532800
"""The mtime (1980-01-01) of what linking makes or changes: patched files, scripts, byte-code, conda-meta.

It must be fixed, must differ from the time that a shipped .pyc may have stored for its unpatched source, and
is the earliest that zip archives can hold, so that tools which zip an installed package still work.
"""


@dataclass(frozen=True, slots=True)
class PythonLayout:
    """What noarch packages and wheels need to know of the locked Python.

    :param version: X.Y.Z
    :param site_packages: relative to the prefix (`lib/python3.11/site-packages`)
    """

    version: str
    site_packages: str

    @property
    def short(self) -> str:
        """X.Y"""
        return ".".join(self.version.split(".")[:2])

    @property
    def library(self) -> str:
        """The folder of the standard library, relative to the prefix."""
        return self.site_packages.rsplit("/", 1)[0]

    @property
    def executable(self) -> str:
        """The interpreter's path in the image."""
        return f"{PREFIX}/bin/python{self.short}"

    @property
    def cache_tag(self) -> str:
        """What byte-code files are named with (`cpython-311`)."""
        return "cpython-" + self.short.replace(".", "")

    @property
    def has_hash_pycs(self) -> bool:
        """Whether this Python knows hash-based byte-code files (PEP 552, since 3.7)."""
        major, minor = self.short.split(".")
        return (int(major), int(minor)) >= (3, 7)
