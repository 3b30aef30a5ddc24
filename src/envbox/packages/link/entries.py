"""Writing tar entries into a fragment, and remembering what was written: paths, and the folders they need.

The rules of every entry are here: modes are 0755 or 0644, folders are only remembered, since each stands once
in a layer's own directory fragment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from envbox.errors import PackageError
from envbox.packages.link.tar import CHUNK, DIRECTORY, FILE, SYMLINK, header, padding

EXECUTABLE, PLAIN = 0o755, 0o644


class EntryWriter:
    """A sink for one fragment's entries. Paths are relative to `/`, without a leading slash."""

    def __init__(self, write: Callable[[bytes | bytearray | memoryview], None]) -> None:
        self._write = write
        self.paths: set[str] = set()
        self.directories: set[str] = set()
        self._known_parents: set[str] = set()

    def file(self, path: str, data: bytes | bytearray, mode: int, mtime: int) -> None:
        """Write a regular file."""
        view = memoryview(data)
        self.stream(
            path, len(data), (view[at : at + CHUNK] for at in range(0, len(data), CHUNK)), mode, mtime
        )

    def stream(self, path: str, size: int, data: Iterable[bytes | memoryview], mode: int, mtime: int) -> None:
        """Write a regular file whose data comes in pieces of `size` bytes altogether."""
        self._add(path)
        self._write(header(path, FILE, size=size, mode=mode, mtime=mtime))
        for piece in data:
            self._write(piece)
        if size % 512:
            self._write(padding(size))

    def symlink(self, path: str, target: str, mtime: int) -> None:
        """Write a symlink."""
        self._add(path)
        self._write(header(path, SYMLINK, mode=0o777, mtime=mtime, link=target))

    def directory(self, path: str) -> None:
        """Ask for an empty folder."""
        _check(path)
        self.directories.add(path)
        self._parents(path)

    def own_directory(self, path: str, mode: int) -> None:
        """Write a folder with a mode of its own: an entry of this fragment, not of the directory fragment."""
        self._add(path)
        self._write(header(path + "/", DIRECTORY, mode=mode))

    def _add(self, path: str) -> None:
        if path in self.paths:
            raise ValueError(f"{path} is written twice")
        _check(path)
        self.paths.add(path)
        self._parents(path)

    def _parents(self, path: str) -> None:
        parent = path.rpartition("/")[0]
        while parent and parent not in self._known_parents:
            self._known_parents.add(parent)
            self.directories.add(parent)
            parent = parent.rpartition("/")[0]


def _check(path: str) -> None:
    """See that a path stays below `/`, however it was put together: here everything comes by.

    :raises PackageError: when it does not
    """
    if path.startswith("/") or any(part in ("", ".", "..") for part in path.rstrip("/").split("/")):
        raise PackageError(f"has a path that leads out of the prefix: {path!r}")


def directory_entries(directories: Iterable[str]) -> bytes:
    """Return the directory fragment: every folder once, parents first, as any host would make it."""
    return b"".join(header(f"{path}/", DIRECTORY, mode=EXECUTABLE) for path in sorted(set(directories)))
