"""A prefix as a tree of hard links: the files that the image would have at /opt/envbox, on this machine.

Nothing is copied, so a tree is made in the time that its directories take; and what is mounted read-only in
containers and never written to can be shared by any number of trees. Seen from inside it is the image's
prefix: paths, bytes, modes, times and link targets.

It is looked at before each use. Every directory has the image's time, 1970: adding, removing or renaming
anything would change one, so a few milliseconds show that. Sizes and times of the files are held against the
records when a tree is made, and once after each start of the machine, since nothing was flushed to the disk.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from envbox.errors import ToolError
from envbox.files import PART, whole_folder, write_whole
from envbox.link.folders import PLACE as PACKAGES
from envbox.link.folders import Folder, UnpackedFile, read_folder
from envbox.link.fragments import FileEntry
from envbox.link.target import GENERATED_TIME, ROOT
from envbox.oci import canonical_json

FORMAT = 1
PLACE = Path("prefixes") / "trees"
_RECORD, _PREFIX, _BOOT = "record.json", "prefix", "boot"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_DIRECTORY_MODE = 0o755


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
        return self.path / _PREFIX


class DamagedError(ToolError):
    """Packages' files in the cache are not what was unpacked.

    :ivar folders: those packages
    """

    def __init__(self, path: Path, folders: Collection[Folder] = ()) -> None:
        names = ", ".join(sorted(folder.name for folder in folders))
        what = f"the files of {names} in the cache are damaged ({path})" if names else f"{path} was changed"
        super().__init__(what, "envbox clean prefixes, then run the command again")
        self.folders = tuple(folders)


def tree_key(folders: Sequence[Folder], own: Mapping[str, FileEntry]) -> str:
    """A hash over everything that a tree's bytes are a function of.

    :param own: files of no package, by path relative to `/`, all in the prefix
    """
    listed = [[path, entry.mode, sha256(entry.data).hexdigest()] for path, entry in sorted(own.items())]
    return sha256(canonical_json([FORMAT, [folder.key for folder in folders], listed])).hexdigest()


def find_tree(cache_dir: Path, key: str) -> Tree | None:
    """The tree of that key; None when it is not there, or no longer as it was made."""
    path = cache_dir / PLACE / key
    try:
        known = json.loads((path / _RECORD).read_bytes())
        own = {name: (mode, size) for name, (mode, size) in known["own"].items()}
        tree = Tree(key, path, tuple(known["directories"]), tuple(known["packages"]), own)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if not _has_its_directories(tree):
        return None
    boot = _boot_id()
    if _last_boot(tree) != boot:
        folders = [read_folder(cache_dir, package) for package in tree.packages]
        whole = [f for f in folders if f is not None and not _is_damaged(f, tree.prefix)]
        if len(whole) < len(folders) or not _has_own_files(tree):
            return None
        write_whole(path / _BOOT, boot)
    return tree


def make_tree(folders: Sequence[Folder], own: Mapping[str, FileEntry], cache_dir: Path) -> Tree:
    """Make the tree of these packages. One that is there is set aside: containers may have it still.

    :param own: files of no package, by path relative to `/`, all in the prefix
    :raises DamagedError: when a package's file in the cache is not what was unpacked
    :raises ToolError: when the disk is full or the directory cannot be written
    """
    key = tree_key(folders, own)
    inside = {_inside(path): entry for path, entry in own.items()}
    directories = _directories(folders, inside)
    _set_aside(cache_dir / PLACE / key)
    with whole_folder(cache_dir / PLACE / key) as part:
        prefix = part / _PREFIX
        for directory in directories:
            (prefix / directory).mkdir()
        _link_files(folders, prefix)
        for path, entry in inside.items():
            (prefix / path).write_bytes(entry.data)
            (prefix / path).chmod(entry.mode)
            os.utime(prefix / path, (GENERATED_TIME, GENERATED_TIME))
        for directory in directories:  # last: an entry made in a directory changes its time
            (prefix / directory).chmod(_DIRECTORY_MODE)
            os.utime(prefix / directory, (0, 0))
        if damaged := [folder for folder in folders if _is_damaged(folder, prefix)]:
            raise DamagedError(cache_dir / PLACE, damaged)
        known = {
            "directories": directories,
            "packages": [folder.key for folder in folders],
            "own": {path: [entry.mode, len(entry.data)] for path, entry in inside.items()},
        }
        (part / _RECORD).write_bytes(canonical_json(known))
        (part / _BOOT).write_bytes(_boot_id())
        part.chmod(_DIRECTORY_MODE)
    tree = find_tree(cache_dir, key)
    if tree is None:
        raise DamagedError(cache_dir / PLACE / key)
    return tree


def clear_leftovers(cache_dir: Path, in_use: Collection[str]) -> None:
    """Remove what killed processes left, and trees that were set aside, but those that containers have.

    :param in_use: keys of trees
    """
    for place in (cache_dir / PLACE, cache_dir / PACKAGES):
        for path in place.glob(f".*{PART}"):
            if path.name.split(".")[1] not in in_use:
                shutil.rmtree(path, ignore_errors=True)


# --- making -------------------------------------------------------------------------------------------------


def _set_aside(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.rename(path.with_name(f".{path.name}.{os.urandom(4).hex()}{PART}"))


def _inside(path: str) -> str:
    """A path relative to `/` → relative to the prefix."""
    if not path.startswith(f"{ROOT}/"):
        raise ValueError(f"{path} does not lie in the prefix")
    return path[len(ROOT) + 1 :]


def _directories(folders: Sequence[Folder], own: Mapping[str, FileEntry]) -> list[str]:
    """All that there must be, parents first."""
    found = {_inside(d) for folder in folders for d in folder.directories if d.startswith(f"{ROOT}/")}
    for path in own:
        parent = path.rpartition("/")[0]
        while parent and parent not in found:
            found.add(parent)
            parent = parent.rpartition("/")[0]
    return [".", *sorted(found)]


def _link_files(folders: Sequence[Folder], prefix: Path) -> None:
    """Link all files, directory by directory, then make the symlinks: nothing is ever put through one."""
    by_directory: dict[str, list[tuple[str, UnpackedFile]]] = {}
    for folder in folders:
        for file in folder.files:
            directory, _, name = _inside(file.path).rpartition("/")
            by_directory.setdefault(directory, []).append((name, file))
    for directory, files in by_directory.items():
        handle = os.open(prefix / directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name, file in files:
                _link(file, name, handle)
        finally:
            os.close(handle)
    for folder in folders:
        for link in folder.links:
            path = prefix / _inside(link.path)
            path.symlink_to(link.target)
            os.utime(path, (link.mtime, link.mtime), follow_symlinks=False)


def _link(file: UnpackedFile, name: str, directory: int) -> None:
    try:
        os.link(file.source, name, dst_dir_fd=directory)
    except FileNotFoundError:
        return  # the check that follows says whose it is
    except OSError as error:
        if error.errno != errno.EMLINK:  # empty files are many: ext4 takes 65,000 links to one
            raise
        copy = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
        with Path(file.source).open("rb") as source, os.fdopen(copy, "wb") as target:
            shutil.copyfileobj(source, target)
            target.flush()
            os.fchmod(copy, file.mode)
            os.utime(copy, (file.mtime, file.mtime))


# --- looking ------------------------------------------------------------------------------------------------


def _has_its_directories(tree: Tree) -> bool:
    mode = stat.S_IFDIR | _DIRECTORY_MODE
    prefix = str(tree.prefix)
    try:
        for directory in tree.directories:
            found = os.lstat(f"{prefix}/{directory}")
            if found.st_mtime_ns or found.st_mode != mode:
                return False
    except OSError:
        return False
    return True


def _is_damaged(folder: Folder, prefix: Path) -> bool:
    start = len(ROOT) + 1
    try:
        for file in folder.files:
            found = os.lstat(f"{prefix}/{file.path[start:]}")
            said = (stat.S_IFREG | file.mode, file.size, file.mtime)
            if (found.st_mode, found.st_size, int(found.st_mtime)) != said:
                return True
        targets = [(os.readlink(prefix / link.path[start:]), link.target) for link in folder.links]  # noqa: PTH115
        return any(found != said for found, said in targets)
    except OSError:
        return True


def _has_own_files(tree: Tree) -> bool:
    try:
        found = {path: (tree.prefix / path).lstat() for path in tree.own}
    except OSError:
        return False
    return all((stat.S_IMODE(s.st_mode), s.st_size) == tree.own[path] for path, s in found.items())


def _last_boot(tree: Tree) -> bytes:
    try:
        return (tree.path / _BOOT).read_bytes()
    except OSError:
        return b""


def _boot_id() -> bytes:
    """What the machine calls the time since it was started; empty where it does not say."""
    try:
        return _BOOT_ID.read_bytes().strip()
    except OSError:
        return b""
