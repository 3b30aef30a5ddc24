"""What the cache holds, and how to free it: only folders of envbox's own names, and no link is ever followed.

What is removed is first renamed aside, so that a command running beside this one finds an entry whole or not
at all.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from envbox.cache.shapes import FILES, KINDS, LEFTOVERS, LIVE, NAMES
from envbox.errors import SettingsError
from envbox.files import ASIDE, PART, disk_error, is_leftover, remove_folder


@dataclass(frozen=True, slots=True)
class Holding:
    """One folder of the cache.

    :param size: on the disk, in bytes
    """

    kind: str
    meaning: str
    files: int
    size: int


def holdings(cache_dir: Path) -> tuple[Holding, ...]:
    """Return what the cache holds, by folder, the largest first.

    :raises ToolError: when a folder in it cannot be read
    """
    found = {path.name: _weigh(_content(path)) for path in _folders(cache_dir)}
    if left := _leftovers(cache_dir):
        found[LEFTOVERS] = _weigh(p for path in left for p in (path, *_walk(path)))
    holds = (Holding(kind, KINDS[kind], *weight) for kind, weight in found.items())
    return tuple(sorted(holds, key=lambda h: (-h.size, h.kind)))


def foreign(cache_dir: Path) -> tuple[str, ...]:
    """Return what is in the cache's folder and is not envbox's, which stays."""
    known = (*NAMES, *FILES)
    return tuple(
        sorted(p.name for p in _entries(cache_dir) if p.name not in known and not ASIDE.fullmatch(p.name))
    )


def free(cache_dir: Path, kinds: tuple[str, ...], in_use: Collection[Path] = ()) -> int:
    """Remove folders of the cache, and give the bytes that this frees.

    :param in_use: folders inside that stay, with all that is in them
    :raises SettingsError: when there is no such folder
    :raises ToolError: when a folder cannot be read or removed
    """
    removal = Removal(cache_dir)
    removal.check(kinds)
    removal.set_aside(kinds, in_use)
    return removal.finish()


class Removal:
    """What is freed: renamed aside at once, which takes no time, then removed."""

    def __init__(self, cache_dir: Path) -> None:
        self._cache_dir = cache_dir
        self._aside: list[tuple[Path, Path]] = []
        self._known = {holding.kind: holding for holding in holdings(cache_dir)}
        self._kinds: tuple[str, ...] = ()

    def check(self, kinds: tuple[str, ...]) -> None:
        """Refuse what the cache does not have.

        :raises SettingsError: naming it
        """
        unknown = sorted(set(kinds) - self._known.keys() - KINDS.keys())
        if unknown:
            raise SettingsError(
                f"the cache has no {', '.join(unknown)}", f"it has {', '.join(sorted(self._known))}"
            )

    def set_aside(self, kinds: tuple[str, ...], in_use: Collection[Path] = ()) -> None:
        """Take folders away from their names; parameters and errors as for `free`."""
        self._kinds = kinds
        in_use = [path for path in in_use if os.path.lexists(path)]  # containers may have another cache's
        for kind in kinds:
            tops = _leftovers(self._cache_dir) if kind == LEFTOVERS else [self._cache_dir / kind]
            for path in tops:
                for gone in _outside(path, [each for each in in_use if each.is_relative_to(path)]):
                    self._set_aside(gone)

    def finish(self) -> int:
        """Remove what was set aside, and give the bytes that are free now."""
        before = sum(self._known[kind].size for kind in self._kinds if kind in self._known)
        for path, aside in self._aside:
            try:
                while aside.exists():
                    with suppress(FileNotFoundError):  # who was making it removes what it had made
                        remove_folder(aside)
            except OSError as error:
                raise disk_error(path, error) from error
        left = (self._cache_dir / kind for kind in self._kinds if not (self._cache_dir / kind).is_symlink())
        return before - sum(_weigh(_content(path))[1] for path in left)

    def _set_aside(self, path: Path) -> None:
        try:
            name = f".{path.name.strip('.')[:100]}."
            aside = Path(tempfile.mkdtemp(prefix=name, suffix=PART, dir=self._cache_dir))
            self._aside.append((path, aside))
            with suppress(FileNotFoundError):  # another was quicker
                path.rename(aside / path.name)
        except OSError as error:
            raise disk_error(path, error) from error


def _outside(path: Path, kept: Collection[Path]) -> Iterator[Path]:
    """Yield what must go for everything in a folder to go but what is kept."""
    if not os.path.lexists(path):
        return
    if not kept:
        yield path
    elif path not in kept:
        if path.is_symlink() or not path.is_dir():
            yield path
            return
        for child in sorted(path.iterdir()):
            yield from _outside(child, [each for each in kept if each.is_relative_to(child)])


def _folders(cache_dir: Path) -> list[Path]:
    """Return the kinds' folders; a link with such a name has nothing in it that is the cache's."""
    names = NAMES - set(LIVE)
    return [
        path for path in _entries(cache_dir) if path.name in names and (path.is_symlink() or path.is_dir())
    ]


def _entries(cache_dir: Path) -> list[Path]:
    try:
        return list(cache_dir.iterdir()) if cache_dir.is_dir() else []
    except OSError as error:
        raise disk_error(cache_dir, error) from error


def _leftovers(cache_dir: Path) -> list[Path]:
    """Return what killed runs left, in all folders of envbox's own names."""
    found = [path for path in _entries(cache_dir) if is_leftover(path)]
    for folder in _entries(cache_dir):
        if folder.name in NAMES:
            found += [path for path in _walk(folder, into_leftovers=False) if is_leftover(path)]
    return found


def _content(folder: Path) -> Iterator[Path]:
    """Yield what is in a kind's folder and is no leftover."""
    return (path for path in _walk(folder, into_leftovers=False) if not is_leftover(path))


def _weigh(paths: Iterable[Path]) -> tuple[int, int]:
    sizes = {}
    for path in paths:
        with suppress(FileNotFoundError):  # removed beside us
            found = path.lstat()
            if not stat.S_ISDIR(found.st_mode):
                sizes[found.st_ino] = found.st_blocks * 512
    return len(sizes), sum(sizes.values())


def _walk(top: Path, into_leftovers: bool = True) -> Iterator[Path]:
    """Yield all that is in a folder."""

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            raise disk_error(Path(error.filename), error) from error

    if top.is_symlink():
        return
    for folder, folders, files in os.walk(top, onerror=fail):
        yield from (Path(folder, name) for name in (*folders, *files))
        folders[:] = [n for n in folders if into_leftovers or not is_leftover(Path(folder, n))]
