"""Making a tree: directories, hard links of packages' files, and what belongs to no package.

Nothing is copied, so a tree is made in the time that its directories take; and what is mounted read-only in
containers and never written to can be shared by any number of trees. Seen from inside it is the image's
prefix: paths, bytes, modes, times and link targets.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path

from envbox.cache.memo import sealed
from envbox.errors import ToolError
from envbox.files import PART, is_held, remove_folder, whole_folder
from envbox.image_paths import PREFIX as IMAGE_PREFIX
from envbox.oci import canonical_json
from envbox.packages.link.folders import PLACE as PACKAGES
from envbox.packages.link.folders import Folder, UnpackedFile
from envbox.packages.link.fragments import FileEntry
from envbox.packages.link.target import GENERATED_TIME, ROOT
from envbox.prefixes.tree import (
    BOOT,
    DIRECTORY_MODE,
    PLACE,
    PREFIX,
    RECORD,
    SUPERSEDED,
    Tree,
    boot_id,
    directory_mode,
    find_tree,
    is_damaged,
    is_mounted,
    read_tree,
)

FORMAT = 1
_AT_ONCE = 4  # threads that make directories
_STARTING = 60  # seconds; a container that was given a prefix has it by then


class DamagedError(ToolError):
    """Packages' files in the cache are not what was unpacked.

    :ivar folders: those packages
    """

    def __init__(self, path: Path, folders: Collection[Folder] = ()) -> None:
        names = ", ".join(sorted(folder.name for folder in folders))
        what = f"the files of {names} in the cache are damaged ({path})" if names else f"{path} was changed"
        super().__init__(what, "envbox clean prefixes, then run the command again")
        self.folders = tuple(folders)


def tree_key(folders: Sequence[Folder], own: Mapping[str, FileEntry], seen_at: str = IMAGE_PREFIX) -> str:
    """Return a hash over everything that a tree's bytes are a function of.

    :param own: files of no package, by path relative to `/`, all in the prefix
    :param seen_at: the path of its prefix for what runs in it
    """
    listed = [[path, entry.mode, sha256(entry.data).hexdigest()] for path, entry in sorted(own.items())]
    said = [
        FORMAT,
        [folder.key for folder in folders],
        listed,
        *([seen_at] if seen_at != IMAGE_PREFIX else []),
    ]
    return sha256(canonical_json(said)).hexdigest()


def make_tree(
    folders: Sequence[Folder], own: Mapping[str, FileEntry], cache_dir: Path, seen_at: str = IMAGE_PREFIX
) -> Tree:
    """Make the tree of these packages. One that is there is set aside: sessions may have it still.

    :param own: files of no package, by path relative to `/`, all in the prefix
    :param seen_at: the path of its prefix for what runs in it, which is in the packages' files
    :raises DamagedError: when a package's file in the cache is not what was unpacked
    :raises ToolError: when the disk is full or the directory cannot be written
    """
    key = tree_key(folders, own, seen_at)
    inside = {_inside(path): entry for path, entry in own.items()}
    directories = _directories(folders, inside)
    mode = directory_mode(seen_at)
    with whole_folder(cache_dir / PLACE / key) as part:
        prefix = part / PREFIX
        _make_directories(prefix, directories)
        _link_files(folders, prefix, inside)
        for path, entry in inside.items():
            (prefix / path).write_bytes(entry.data)
            (prefix / path).chmod(entry.mode)
            os.utime(prefix / path, (GENERATED_TIME, GENERATED_TIME))
        for path in (f"{prefix}/{directory}" for directory in directories):
            os.chmod(path, mode)  # noqa: PTH101  # a Path for each takes longer than the call
            os.utime(path, (0, 0))  # last: an entry made in a directory changes its time
        if damaged := [folder for folder in folders if is_damaged(folder, prefix, inside)]:
            raise DamagedError(cache_dir / PLACE, damaged)
        known = {
            "directories": directories,
            "packages": [folder.key for folder in folders],
            "own": {path: [entry.mode, len(entry.data)] for path, entry in inside.items()},
            "seen_at": seen_at,
        }
        (part / RECORD).write_bytes(sealed(canonical_json(known)))
        (part / BOOT).write_bytes(boot_id())
        part.chmod(DIRECTORY_MODE)
        _set_aside(cache_dir / PLACE / key)  # now: who sees it through a link has the next one at once
    tree = find_tree(cache_dir, key)
    if tree is None:
        raise DamagedError(cache_dir / PLACE / key)
    return tree


def clear_leftovers(cache_dir: Path, in_use: Collection[str] | None) -> None:
    """Remove what killed processes left, and trees that were set aside, but those that somebody has.

    :param in_use: keys of trees that containers have; None: nobody knows, and only what no container can have
        is removed
    """
    if in_use is None:
        _clear_unmounted(cache_dir)
        return
    for mark in (cache_dir / PLACE).glob(f"*/{SUPERSEDED}"):
        is_used = mark.parent.name in in_use or is_held(mark.parent / RECORD)
        with suppress(FileNotFoundError):
            # what is far ahead was superseded before the clock was set back
            if not is_used and abs(time.time() - mark.lstat().st_mtime) > _STARTING:
                _set_aside(mark.parent)
    for place in (cache_dir / PLACE, cache_dir / PACKAGES):
        for path in place.glob(f".*{PART}"):
            if path.name.split(".")[1] not in in_use and not is_held(path / RECORD):
                with suppress(OSError):
                    remove_folder(path)


def _clear_unmounted(cache_dir: Path) -> None:
    """Remove trees that were set aside, and were for a path of this machine: who has one holds it."""
    for path in (cache_dir / PLACE).glob(f".*{PART}"):
        tree = read_tree(path)
        if tree and not is_mounted(tree.seen_at) and not is_held(path / RECORD):
            with suppress(OSError):
                remove_folder(path)


def supersede(tree: Tree) -> None:
    """Let a tree be removed once no container has it, nor is about to start with it."""
    with suppress(OSError):  # it is gone, or stays for now
        (tree.path / SUPERSEDED).touch()


def _set_aside(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.rename(path.with_name(f".{path.name}.{os.urandom(4).hex()}{PART}"))


def _inside(path: str) -> str:
    """Return a path relative to `/` → relative to the prefix."""
    if not path.startswith(f"{ROOT}/"):
        raise ValueError(f"{path} does not lie in the prefix")
    return path[len(ROOT) + 1 :]


def _directories(folders: Sequence[Folder], own: Mapping[str, FileEntry]) -> list[str]:
    """Return all that there must be, parents first."""
    found = {_inside(d) for folder in folders for d in folder.directories if d.startswith(f"{ROOT}/")}
    for path in own:
        parent = path.rpartition("/")[0]
        while parent and parent not in found:
            found.add(parent)
            parent = parent.rpartition("/")[0]
    return [".", *sorted(found)]


def _make_directories(prefix: Path, directories: Sequence[str]) -> None:
    """Make them, level by level; ext4 takes longer for one than for ten links, and makes several at once."""
    top, *below = directories
    (prefix / top).mkdir()
    levels: dict[int, list[str]] = {}
    for directory in below:
        levels.setdefault(directory.count("/"), []).append(directory)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for _, level in sorted(levels.items()):
            parts = [level[start::_AT_ONCE] for start in range(_AT_ONCE)]
            list(pool.map(partial(_make_all, prefix), parts))


def _make_all(prefix: Path, directories: Sequence[str]) -> None:
    for directory in directories:
        os.mkdir(f"{prefix}/{directory}")  # noqa: PTH102  # as above


def _link_files(folders: Sequence[Folder], prefix: Path, own: Collection[str]) -> None:
    """Link all files, directory by directory, then make the symlinks: nothing is ever put through one.

    :param own: paths that are not the packages': in an image, too, the environment's layer is on top
    """
    by_directory: dict[str, list[tuple[str, UnpackedFile]]] = {}
    for folder in folders:
        for file in folder.files:
            path = _inside(file.path)
            directory, _, name = path.rpartition("/")
            if path not in own:
                by_directory.setdefault(directory, []).append((name, file))
    for directory, files in by_directory.items():
        handle = os.open(f"{prefix}/{directory}", os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name, file in files:
                try:
                    os.link(file.source, name, dst_dir_fd=handle, follow_symlinks=False)
                except OSError:
                    if os.path.isfile(file.source):  # noqa: PTH113  # as above
                        raise
                    # else the check that follows says whose it is
        finally:
            os.close(handle)
    for folder in folders:
        for link in folder.links:
            path = _inside(link.path)
            if path not in own:
                os.symlink(link.target, f"{prefix}/{path}")  # noqa: PTH211  # as above
                os.utime(f"{prefix}/{path}", (link.mtime, link.mtime), follow_symlinks=False)
