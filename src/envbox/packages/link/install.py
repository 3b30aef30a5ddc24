"""Packages installed into an empty folder, for a program of theirs to be run from: the Python that compiles.

What goes in passes the linker, which believes nothing of an archive: no path, and no link, leads out of the
folder. Links are made when all files are there, so nothing is ever put through one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from envbox.errors import PackageError
from envbox.files import disk_error
from envbox.lockfile import LockedPackage
from envbox.packages.link.conda import ArchiveSource, link_package
from envbox.packages.link.entries import EntryWriter
from envbox.packages.link.target import ROOT


class PrefixWriter(EntryWriter):
    """Puts entries of packages into a folder, one after the other; the first to have a path keeps it."""

    def __init__(self, prefix: Path) -> None:
        super().__init__(lambda data: None)
        self._prefix = prefix
        self._links: list[tuple[str, str]] = []

    def stream(self, path: str, size: int, data: Iterable[bytes | memoryview], mode: int, mtime: int) -> None:
        """Write a regular file whose data comes in pieces of `size` bytes altogether."""
        if path in self.paths:
            for _ in data:
                pass
            return
        self._add(path)
        with self._new(path) as file:
            for piece in data:
                file.write(piece)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.utime(file.fileno(), (mtime, mtime))

    def symlink(self, path: str, target: str, mtime: int) -> None:
        """Remember a symlink until all files are there."""
        del mtime
        if path not in self.paths:
            self._add(path)
            self._links.append((path, target))

    def own_directory(self, path: str, mode: int) -> None:
        """Refuse: packages have none."""
        raise ValueError(f"{path}: a package's folder cannot have a mode of its own")

    def finish(self) -> None:
        """Make the links."""
        for path, target in self._links:
            with _in_words(path):
                os.symlink(target, self._place(path))  # noqa: PTH211

    @contextmanager
    def _new(self, path: str) -> Iterator[IO[bytes]]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with _in_words(path), os.fdopen(os.open(self._place(path), flags, 0o600), "wb") as file:
            yield file

    def _place(self, path: str) -> str:
        """Return where a path belongs, with the folders above it."""
        place = f"{self._prefix}/{path.removeprefix(f'{ROOT}/')}"
        os.makedirs(os.path.dirname(place), exist_ok=True)  # noqa: PTH103, PTH120  # thousands of them
        return place


@contextmanager
def _in_words(path: str) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise PackageError(f"has {path!r}, where another package has something else") from error
    except OSError as error:
        raise disk_error(Path("/", path), error) from error


def install_packages(packages: Sequence[LockedPackage], archives: Mapping[str, Path], prefix: Path) -> None:
    """Install packages into a folder that is made for it. None may be a noarch python package.

    :param archives: sha256 → verified download
    :raises PackageError: when an archive is damaged, lies, or could do harm
    :raises ToolError: when the disk is full or the folder cannot be written
    """
    prefix.mkdir()
    out = PrefixWriter(prefix)
    for package in packages:
        link_package(ArchiveSource(package, archives[package.sha256]), out)
    out.finish()
