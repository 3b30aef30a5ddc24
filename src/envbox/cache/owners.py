"""Whether nobody but the user can have written what a path leads to.

What lies in the cache is executed. So its folder, the folders that it is in, and the links on the way belong
to the user or to root, and nobody else may write there, as ssh has it for its own files. A folder with the
sticky bit, such as /tmp, will do on the way: others cannot rename there what is not theirs. A group that has
no other member will do as well: many systems give each user one, with a umask of 002.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from envbox.errors import ToolError

OWNER_VARIABLE = "ENVBOX_CACHE_OWNER"
_MOST_LINKS = 40  # as the kernel


def trusted_owners(said: str) -> frozenset[int]:
    """Return the users whose caches are trusted: the caller, root, and those that are named.

    :param said: names or numbers, with commas or blanks
    :raises ToolError: when there is no such user
    """
    found = {0, os.geteuid()}
    for word in said.replace(",", " ").split():
        found.add(int(word) if word.isdecimal() else _uid_of(word))
    return frozenset(found)


def check_owners(path: Path, folders: Collection[Path], owners: Collection[int]) -> None:
    """Refuse a cache that others than its trusted owners can have written.

    :param folders: in it, which are looked at as well
    :raises ToolError: naming what others can write
    """
    for each in _on_the_way(path):
        _check(each, path, owners, is_way=True)
    for each in (path, *folders):
        _check(each, path, owners, is_way=False)


def _check(each: Path, cache: Path, owners: Collection[int], *, is_way: bool) -> None:
    try:
        found = each.lstat() if is_way else each.stat()
    except OSError:
        return  # what is not there is made by us
    if is_way and not stat.S_ISDIR(found.st_mode) and not stat.S_ISLNK(found.st_mode):
        return  # a folder in it can neither be there nor be made
    if found.st_uid not in owners and not (is_way and _is_nobodys(found.st_uid)):
        name = _name_of(found.st_uid)
        raise ToolError(
            f"{_the(each, cache)} belongs to {name}, and what is in the cache is executed",
            "set ENVBOX_CACHE_DIR to a folder of your own; or, where you trust that user with all that is "
            f"yours, set {OWNER_VARIABLE}={name}",
        )
    if stat.S_ISLNK(found.st_mode) or (is_way and found.st_mode & stat.S_ISVTX):
        return
    who = "others" if found.st_mode & stat.S_IWOTH else ""
    if not who and found.st_mode & stat.S_IWGRP and _has_others(found.st_gid, owners):
        who = f"the group {_group_name(found.st_gid)}"
    if who:
        raise ToolError(
            f"{_the(each, cache)} can be written by {who}, and what is in the cache is executed",
            f"chmod {'go-w' if is_way else '-R go-w'} '{each}', if nobody has; else remove it, or set "
            "ENVBOX_CACHE_DIR to another folder",
        )


def _the(each: Path, cache: Path) -> str:
    if each == cache:
        return f"the cache {each}"
    where = "of" if each.is_relative_to(cache) else "on the way to"
    return f"{each}, {where} the cache {cache},"


def _on_the_way(path: Path) -> Iterator[Path]:
    """Yield each folder above a path and each link, as they are followed; not the folder itself."""
    todo = list(reversed(path.parts[1:]))
    at, links = Path(path.anchor), 0
    yield at
    while todo:
        part = todo.pop()
        if part == "..":
            at = at.parent
            continue
        each = at / part
        if each.is_symlink() and links < _MOST_LINKS:
            links += 1
            yield each
            target = each.readlink()
            todo += reversed(target.parts[1:] if target.is_absolute() else target.parts)
            at = Path(target.anchor) if target.is_absolute() else at
            continue
        at = each
        if todo:
            yield at


def _is_nobodys(uid: int) -> bool:
    """Return whether it is the number of all who have none in this user namespace, root outside of it
    first.
    """
    try:
        mapped = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
        overflow = int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return False
    return uid == overflow and mapped != ["0", "0", "4294967295"]


def _has_others(gid: int, owners: Collection[int]) -> bool:
    """Return whether a group has members besides trusted owners."""
    import grp
    import pwd

    try:
        names = grp.getgrgid(gid).gr_mem
    except KeyError:
        names = []
    try:
        if any(pwd.getpwnam(name).pw_uid not in owners for name in names):
            return True
    except KeyError:
        return True
    return any(user.pw_gid == gid and user.pw_uid not in owners for user in pwd.getpwall())


def _uid_of(name: str) -> int:
    import pwd

    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ToolError(f"{OWNER_VARIABLE} names {name}, and there is no such user") from None


def _name_of(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group_name(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
