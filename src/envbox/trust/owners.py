"""Whose a project's files are, and where its links lead: git's rule for repositories, for projects.

A project that belongs to somebody else is that person's word at any time, whatever it says now. Root is
somebody else, too, except that under sudo the files of whoever called it are his own. In a user namespace a
uid that is not mapped shows as the overflow uid, which nobody is; so it counts as somebody else's.
https://git-scm.com/docs/git-config#Documentation/git-config.txt-safedirectory
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from envbox.trust import Ask, ask, plain
from envbox.trust.rules import Place


def callers_uids(environ: Mapping[str, str], uid: int | None = None) -> frozenset[int]:
    """Return the uids whose files are the caller's own.

    :param uid: the caller's effective uid, where it is not this process's
    """
    uid = os.geteuid() if uid is None else uid
    said = environ.get("SUDO_UID", "")
    return frozenset({uid, int(said)} if uid == 0 and said.isdecimal() else {uid})


def owner_asks(paths: Iterable[Path], mine: frozenset[int], place: Place) -> Iterator[Ask]:
    """Yield what is asked of a caller to whom some of these files do not belong. What is not there is
    nobody's.
    """
    found: dict[int, Path] = {}
    for path in paths:
        for look in (path.lstat, path.stat):
            with suppress(OSError):
                found.setdefault(look().st_uid, path)
    for uid, path in sorted(found.items()):
        if uid not in mine:
            inside = os.path.relpath(path, place.root) if path.is_relative_to(place.root) else str(path)
            words = f"belongs to {_who(uid)}, who can change it at any time: {plain(str(path))}"
            yield ask(words, "owner", uid, inside if inside.startswith("/") else "")


def open_asks(root: Path, here: Path) -> Iterator[Ask]:
    """Yield what is asked of a caller who is below a project that everybody could have put there."""
    if here == root:
        return
    for folder in (root, root / "environments"):
        with suppress(OSError):
            mode = folder.stat().st_mode
            if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
                words = f"lies in a folder that everybody can write to: {plain(str(folder))}"
                yield ask(words, "open", folder.name if folder != root else "")


def link_asks(read: Iterable[Path], written: Iterable[Path], place: Place) -> Iterator[Ask]:
    """Yield what links ask for that lead out of the project.

    :param read: files of the project that are read; `written`: those that are written, too
    """
    for verb, paths in (("reads and writes", written), ("reads", read)):
        for path in paths:
            real = place.reached(path) if path.is_relative_to(place.root) else None
            if real is not None:
                words = f"{verb} {plain(str(real))}, where {plain(str(path))} leads"
                yield ask(words, "link", os.path.relpath(path, place.root), str(real))


def _who(uid: int) -> str:
    import pwd

    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"somebody without a name here (uid {uid})"
