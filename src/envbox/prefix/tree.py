"""A prefix as a tree of hard links: the files that the image would have at /opt/envbox, on this machine.

It is looked at before each use. Every directory has the image's time, 1970: adding, removing or renaming
anything would change one, so a few milliseconds show that. Sizes and times of the files are held against the
records when a tree is made, and once after each start of the machine, since nothing was flushed to the disk.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from envbox.files import write_whole
from envbox.link.target import ROOT

if TYPE_CHECKING:
    from envbox.link.folders import Folder

PLACE = Path("prefixes") / "trees"
RECORD, PREFIX, BOOT, SUPERSEDED = "record.json", "prefix", "boot", "superseded"
DIRECTORY_MODE = 0o755
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Tree:
    """A prefix on this machine.

    :param directories: relative to the prefix, parents first; the prefix itself is `.`
    :param packages: keys of the folders that its files are from
    :param own: files of no package: path relative to the prefix → (mode, size)
    """

    key: str
    path: Path
    directories: tuple[str, ...]
    packages: tuple[str, ...]
    own: Mapping[str, tuple[int, int]]

    @property
    def prefix(self) -> Path:
        """What is to be mounted."""
        return self.path / PREFIX


def find_tree(cache_dir: Path, key: str) -> Tree | None:
    """The tree of that key; None when it is not there, or no longer as it was made."""
    path = cache_dir / PLACE / key
    try:
        known = json.loads((path / RECORD).read_bytes())
        own = {name: (mode, size) for name, (mode, size) in known["own"].items()}
        tree = Tree(key, path, tuple(known["directories"]), tuple(known["packages"]), own)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not _has_its_directories(tree):
        return None
    boot = boot_id()
    if _last_boot(tree) != boot:
        from envbox.link.folders import read_folder

        folders = [read_folder(cache_dir, package) for package in tree.packages]
        whole = [f for f in folders if f is not None and not is_damaged(f, tree.prefix, tree.own)]
        if len(whole) < len(folders) or not _has_own_files(tree):
            return None
        write_whole(path / BOOT, boot)
    return tree


def _has_its_directories(tree: Tree) -> bool:
    mode = stat.S_IFDIR | DIRECTORY_MODE
    prefix = str(tree.prefix)
    try:
        for directory in tree.directories:
            found = os.lstat(f"{prefix}/{directory}")
            if found.st_mtime_ns or found.st_mode != mode:
                return False
    except OSError:
        return False
    return True


def is_damaged(folder: Folder, prefix: Path, own: Collection[str]) -> bool:
    """Whether files of a package are not in a prefix as they were unpacked: by type, mode, size and time.

    :param own: paths relative to the prefix that are not the package's, even if it has such a file
    """
    start = len(ROOT) + 1
    try:
        for file in folder.files:
            path = file.path[start:]
            found = os.lstat(f"{prefix}/{path}")
            said = (stat.S_IFREG | file.mode, file.size, file.mtime)
            if (found.st_mode, found.st_size, int(found.st_mtime)) != said and path not in own:
                return True
        for link in folder.links:
            path = link.path[start:]
            if path not in own and os.readlink(prefix / path) != link.target:  # noqa: PTH115
                return True
    except OSError:
        return True
    return False


def _has_own_files(tree: Tree) -> bool:
    try:
        found = {path: (tree.prefix / path).lstat() for path in tree.own}
    except OSError:
        return False
    return all((stat.S_IMODE(s.st_mode), s.st_size) == tree.own[path] for path, s in found.items())


def _last_boot(tree: Tree) -> bytes:
    try:
        return (tree.path / BOOT).read_bytes()
    except OSError:
        return b""


def boot_id() -> bytes:
    """What the machine calls the time since it was started; empty where it does not say."""
    try:
        return _BOOT_ID.read_bytes().strip()
    except OSError:
        return b""
