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
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from envbox.cache.memo import sealed_content
from envbox.errors import ToolError
from envbox.files import is_held, read_file, write_whole
from envbox.image_paths import PREFIX as IMAGE_PREFIX
from envbox.packages.link.target import ROOT

if TYPE_CHECKING:
    from envbox.packages.link.folders import Folder

PLACE = Path("prefixes") / "trees"
RECORD, PREFIX, BOOT, SUPERSEDED = "record.json", "prefix", "boot", "superseded"
HERE = Path("prefixes") / "here"
"""Where prefixes are seen that nobody mounts: links, one for each lock."""
DIRECTORY_MODE = 0o755
_SEALED_MODE = 0o555
_BOOTS = 64  # machines that share a cache and need not look at all files in turn
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Tree:
    """A prefix on this machine.

    :param directories: relative to the prefix, parents first; the prefix itself is `.`
    :param packages: keys of the folders that its files are from
    :param own: files of no package: path relative to the prefix → (mode, size)
    :param seen_at: the path of the prefix for what runs in it, which is written into its files
    """

    key: str
    path: Path
    directories: tuple[str, ...]
    packages: tuple[str, ...]
    own: Mapping[str, tuple[int, int]]
    seen_at: str = IMAGE_PREFIX

    @property
    def prefix(self) -> Path:
        """What is to be mounted, or seen through a link."""
        return self.path / PREFIX


def find_tree(cache_dir: Path, key: str) -> Tree | None:
    """Return the tree of that key; None when it is not there, or no longer as it was made."""
    path = cache_dir / PLACE / key
    tree = read_tree(path)
    if tree is None or not _has_its_directories(tree):
        return None
    boot = boot_id()
    boots = _boots(tree)
    if boot not in boots:
        from envbox.packages.link.folders import read_folder

        folders = [read_folder(cache_dir, package) for package in tree.packages]
        whole = [f for f in folders if f is not None and not is_damaged(f, tree.prefix, tree.own)]
        if len(whole) < len(folders) or not _has_own_files(tree):
            return None
        with suppress(ToolError):  # a cache that is only read here is looked at each time
            write_whole(path / BOOT, b"\n".join([*boots, boot][-_BOOTS:]))
    return tree


def read_tree(path: Path) -> Tree | None:
    """Return what was written of the tree in a folder; None when there is none. It is not looked at."""
    try:
        known = json.loads(sealed_content(read_file(path / RECORD)))
        own = {name: (mode, size) for name, (mode, size) in known["own"].items()}
        lists = tuple(known["directories"]), tuple(known["packages"])
        return Tree(path.name, path, *lists, own, known.get("seen_at", IMAGE_PREFIX))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def trees_in_use(cache_dir: Path) -> list[Path]:
    """Return what sessions on this machine have of a cache: trees, and the links through which they see them.

    Such a link may lead to another tree by now, which is in use then, too.
    """
    found = []
    for path in (cache_dir / PLACE).glob("*"):
        if not is_held(path / RECORD):
            continue
        found.append(path)
        tree = read_tree(path)
        if tree and not is_mounted(tree.seen_at):
            link = cache_dir / HERE / Path(tree.seen_at).name
            found.append(link)
            with suppress(OSError):  # it is not there any more
                found.append(cache_dir / PLACE / link.readlink().parent.name)
    return found


def is_mounted(seen_at: str) -> bool:
    """Return whether what runs in a prefix has it mounted at its path, and does not see it through a link
    here.
    """
    return Path(seen_at).parent.parts[-len(HERE.parts) :] != HERE.parts


def directory_mode(seen_at: str) -> int:
    """Return the mode of all directories in a prefix: the image's; in what is not mounted read-only, only
    root can write.
    """
    return DIRECTORY_MODE if is_mounted(seen_at) else _SEALED_MODE


def _has_its_directories(tree: Tree) -> bool:
    mode = stat.S_IFDIR | directory_mode(tree.seen_at)
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
    """Return whether files of a package are not in a prefix as they were unpacked: by type, mode, size and
    time.

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


def _boots(tree: Tree) -> list[bytes]:
    """Return since which starts a tree was looked at, of all machines that share the cache."""
    try:
        return read_file(tree.path / BOOT).split(b"\n")
    except OSError:
        return []


def boot_id() -> bytes:
    """Return what the machine calls the time since it was started; empty where it does not say."""
    try:
        return _BOOT_ID.read_bytes().strip()
    except OSError:
        return b""
