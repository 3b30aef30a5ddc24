"""The tree of a lock: its packages unpacked, linked together, with or without waiting for their byte-code.

Compiling is nearly all of the time that a new environment takes (of maps: 13 s of 15 on two cores), and no
session needs it: Python compiles what it imports. So who wants a prompt at once gets the tree without, and
another process makes the one with it, for the next session; nothing that is mounted ever changes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from envbox.files import is_only_read, only_one, open_file
from envbox.packages.activation import environment_files, home_files, is_variables_file, read_activation
from envbox.packages.fetch import fetch_archives
from envbox.packages.link.folders import Folder, UnpackedFile, forget_folder
from envbox.packages.link.unpack import left_to_compile, unpack_packages
from envbox.prefixes.assembly import DamagedError, clear_leftovers, make_tree, tree_key
from envbox.prefixes.background_compile import Finisher
from envbox.prefixes.request import PrefixRequest
from envbox.prefixes.tree import PLACE, Tree, find_tree
from envbox.report import Reporter

if TYPE_CHECKING:
    from envbox.packages.activation import Activation

FEW = 8
"""Packages that are compiled while somebody waits: about a second."""


@dataclass(frozen=True, slots=True)
class ObtainedPrefix:
    """A tree, and what was learned from its packages.

    :param created: when the newest package was built, in seconds
    :param is_compiled: whether it has the image's byte-code
    """

    tree: Tree
    activation: Activation
    created: int
    is_compiled: bool


def obtain_tree(
    wanted: PrefixRequest, in_use: Collection[str] | None, report: Reporter, *, at_once: bool = False
) -> ObtainedPrefix:
    """Have the tree of a lock.

    :param in_use: keys of trees that containers have; None: nobody knows, so that no such tree is removed
    :param at_once: do not wait for the byte-code of more than a few packages
    """
    settings = wanted.settings
    archives = fetch_archives(wanted.locked.lock.for_platform(wanted.platform), settings, report)
    if is_only_read(settings.cache_dir / PLACE):
        return _as_it_is(wanted, archives, report)
    finisher = Finisher(settings.cache_dir, wanted.locked.lock.digest, wanted.platform, wanted.seen_at)
    with only_one(settings.cache_dir / PLACE / ".lock"):  # two at once would only do the same work twice
        if not finisher.is_anybody_at_work():
            clear_leftovers(settings.cache_dir, in_use)
        compiled = not at_once or finisher.has_failed() or _is_quick(wanted, archives)
        found = _sound(wanted, archives, report, compiled=compiled)
    if compiled:
        finisher.forget()
    else:
        finisher.leave(wanted, found.tree)
    return found


def unpack(
    wanted: PrefixRequest, archives: Mapping[str, Path], report: Reporter, *, compiled: bool = True
) -> ObtainedPrefix:
    """Unpack what is missing, and link it together.

    :raises DamagedError: when packages' files in the cache are not what was unpacked
    """
    lock, settings = wanted.locked.lock, wanted.settings
    folders = unpack_packages(wanted.installation(archives), settings, report, compiled=compiled)
    files = [file for folder in folders for file in folder.files]
    variables = _variables(folders)
    paths = [*(file.path for file in files), *(link.path for folder in folders for link in folder.links)]
    activation = read_activation(lock, paths, variables, wanted.seen_at)
    created = max((folder.timestamp for folder in folders), default=0)
    own = environment_files(lock, wanted.platform, wanted.locked.data, activation, created)
    own = {path: entry for path, entry in own.items() if path not in home_files()} | dict(wanted.own)
    tree = find_tree(settings.cache_dir, tree_key(folders, own, wanted.seen_at))
    tree = tree or make_tree(folders, own, settings.cache_dir, wanted.seen_at)
    return ObtainedPrefix(tree, activation, created, compiled)


def _variables(folders: Collection[Folder]) -> dict[str, bytes]:
    """Return the contents of packages' env_vars.d files."""
    found = {}
    for folder in folders:
        for file in folder.files:
            if is_variables_file(file.path):
                try:
                    found[file.path] = _unchanged(file)
                except OSError as error:
                    raise DamagedError(Path(file.source), [folder]) from error
    return found


def _unchanged(file: UnpackedFile) -> bytes:
    """Return a file's bytes, if it is as it was unpacked.

    :raises OSError: when it is not
    """
    with open_file(Path(file.source)) as opened:
        found = os.fstat(opened.fileno())
        if (found.st_size, int(found.st_mtime)) != (file.size, file.mtime):
            raise OSError(errno.EIO, "not as it was unpacked", file.source)
        return opened.read()


def _as_it_is(wanted: PrefixRequest, archives: Mapping[str, Path], report: Reporter) -> ObtainedPrefix:
    """Take the tree out of a cache that is only read: with byte-code, or if that is not finished, without."""
    is_finished = left_to_compile(wanted.installation(archives), wanted.settings) == 0
    return unpack(wanted, archives, report, compiled=is_finished)


def _is_quick(wanted: PrefixRequest, archives: Mapping[str, Path]) -> bool:
    return left_to_compile(wanted.installation(archives), wanted.settings) <= FEW


def _sound(
    wanted: PrefixRequest, archives: Mapping[str, Path], report: Reporter, *, compiled: bool
) -> ObtainedPrefix:
    """Unpack; what proves damaged, once more."""
    try:
        return unpack(wanted, archives, report, compiled=compiled)
    except DamagedError as error:
        report.detail(f"{error.message}: unpacking them again")
        for folder in error.folders:
            forget_folder(folder)
    return unpack(wanted, archives, report, compiled=compiled)
