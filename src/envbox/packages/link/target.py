"""Where packages are linked to: the image's one prefix, and the layout of the Python that lives there.

What is linked for another place than the image has that place's path in its files, but the same entries: they
stand below `ROOT`, wherever they are put.
"""

from __future__ import annotations

from dataclasses import dataclass

from envbox.image_paths import PREFIX

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
    :param prefix: where it is seen when it runs
    """

    version: str
    site_packages: str
    prefix: str = PREFIX

    @property
    def short(self) -> str:
        """Its X.Y."""
        return ".".join(self.version.split(".")[:2])

    @property
    def library(self) -> str:
        """The folder of the standard library, relative to the prefix."""
        return self.site_packages.rsplit("/", 1)[0]

    @property
    def executable(self) -> str:
        """The interpreter's path."""
        return f"{self.prefix}/bin/python{self.short}"

    @property
    def cache_tag(self) -> str:
        """What byte-code files are named with (`cpython-311`)."""
        return "cpython-" + self.short.replace(".", "")

    @property
    def has_hash_pycs(self) -> bool:
        """Whether this Python knows hash-based byte-code files (PEP 552, since 3.7)."""
        major, minor = self.short.split(".")
        return (int(major), int(minor)) >= (3, 7)

    def cache_path(self, path: str) -> str:
        """Return where this Python looks for the byte-code of a module (PEP 3147)."""
        folder, _, name = path.rpartition("/")
        return f"{folder}/__pycache__/{name.removesuffix('.py')}.{self.cache_tag}.pyc"

    def is_compiled(self, path: str) -> bool:
        """Return whether a file is a module that we compile when its package ships no byte-code for it.

        :param path: relative to the prefix. Tests are not compiled: nobody waits for their import, and of
            pandas, SciPy and NumPy they are half of all byte-code.
        """
        is_module = path.startswith(f"{self.library}/") and path.endswith(".py")
        return is_module and not ("/tests/" in path or "/test/" in path)
