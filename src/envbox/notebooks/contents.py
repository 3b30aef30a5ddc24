"""Which modules locked packages have, by their own lists of files: where the cache has their archives.

A lockfile lists packages, not modules, and `yaml` is not in every package that is called like it. What is
cached tells for certain; of what is not, nothing is known, and nothing is fetched.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field

from envbox.errors import PackageError
from envbox.lockfile import LockedPackage
from envbox.packages.fetch import archive_path
from envbox.settings import Settings

_SITE = re.compile(r"(?:lib/python\d[^/]*/|Lib/|)site-packages/(.+)")
_LEADS = re.compile(r"(?<!-nspkg)(?<!distutils-precedence)\.(?:pth|egg-link)$")
_DEEPEST = 4  # parts of a module's name that count; `known_module` gives no more
_SUFFIX = re.compile(r"\.(?:py|pyc|pyx|so|pyd|dylib|(?:cpython|abi|cp|pypy)[\w.-]*\.(?:so|pyd))$")


@dataclass(slots=True)
class Contents:
    """What the cache tells of locked packages.

    :param settings: of the cache
    :param known: sha256 → the modules of a package that was looked at, with dots; None where it is not known
    """

    settings: Settings
    known: dict[str, frozenset[str] | None] = field(default_factory=dict)

    def modules(self, package: LockedPackage) -> frozenset[str] | None:
        """Return every module of a package; None where the cache does not have it, or it is damaged."""
        if package.sha256 not in self.known:
            self.known[package.sha256] = self._read(package)
        return self.known[package.sha256]

    def _read(self, package: LockedPackage) -> frozenset[str] | None:
        from envbox.packages.link.package import open_package

        try:
            path = archive_path(package, self.settings)
            if not path.is_file():
                return None
            if package.manager == "pip":
                with zipfile.ZipFile(path) as wheel:
                    return modules_of(f"site-packages/{name}" for name in wheel.namelist())
            with open_package(path, package.sha256) as archive:
                return modules_of(archive.info.paths)
        except (PackageError, OSError, ValueError, RecursionError, zipfile.BadZipFile, NotImplementedError):
            return None


def modules_of(paths: Iterable[str]) -> frozenset[str]:
    """Return the modules among a package's files.

    Those of a package with a `.pth` file, or outside of site-packages, where a variable may lead to them, are
    there by their bare names as well.
    """
    listed = list(paths)
    found: set[str] = set()
    leads_elsewhere = any(_LEADS.search(path) for path in listed)
    for path in listed:
        match = _SITE.fullmatch(path)
        stem, is_module = _SUFFIX.subn("", match[1] if match else path)
        if not is_module:
            continue
        parts = stem.split("/")
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if match:
            found.update(".".join(parts[:depth]) for depth in range(1, min(len(parts), _DEEPEST) + 1))
        if leads_elsewhere or not match:
            found.update(parts)
    return frozenset(found)
