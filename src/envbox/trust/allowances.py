"""What a user has allowed: one file for each project, in his own folder, which only he can write.

A file holds the keys of what was allowed, so that what changes is asked for again and what comes back is not.
It is written whole or not at all. One that another could have written is not believed, as ssh does not
believe its keys then: it, its folder, and the folders above them.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from envbox.errors import EnvboxError, TrustError
from envbox.files import write_whole
from envbox.trust import Ask

_VERSION = 1
_KEPT = 256  # readings
_LARGEST = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Allowance:
    """What was allowed to one project.

    :param project: its path, without links
    :param allowed: key → the words that it was allowed in
    :param doubt: why it is not believed, in words; None: it is
    """

    project: str
    allowed: Mapping[str, str] = field(default_factory=dict)
    doubt: str | None = None


def folder() -> Path:
    """Return where a user's allowances are."""
    import platformdirs

    return Path(platformdirs.user_state_dir("envbox", appauthor=False)) / "trust"


def read(place: Path, project: Path) -> Allowance:
    """Return what was allowed to a project; nothing where nothing was, or where it cannot be believed.

    :param place: the user's folder
    """
    path = _path(place, project)
    real = os.path.realpath(project)
    try:
        doubt = _doubt(path)
        if doubt:
            return Allowance(real, {}, doubt)
        found = _parsed(path)
    except FileNotFoundError:
        return Allowance(real)
    except (OSError, ValueError, RecursionError) as error:
        return Allowance(real, {}, f"{path} cannot be read: {error}")
    return found if found.project == real else Allowance(real)


def allow(place: Path, project: Path, asks: Iterable[Ask]) -> None:
    """Keep that a project may have what it asks for, beside what it may have already.

    :raises ToolError: when it cannot be written
    """
    before = read(place, project)
    allowed = {**before.allowed, **{one.key: one.words for one in asks}}
    document = {"version": _VERSION, "project": before.project, "allowed": dict(sorted(allowed.items()))}
    _make(place)
    text = json.dumps(document, indent=1) + "\n"
    write_whole(_path(place, project), text.encode(), mode=0o600, is_cache=False)


def revoke(place: Path, project: Path) -> None:
    """Take back all that was allowed to a project.

    :raises TrustError: when nothing was
    """
    try:
        _path(place, project).unlink()
    except FileNotFoundError:
        raise TrustError(f"nothing was allowed to {project}", "envbox trust --list shows what was") from None
    except OSError as error:
        raise TrustError(f"cannot take back what {project} may: {error}") from error


def known(place: Path) -> Iterator[Allowance]:
    """Yield all projects that something was allowed to, by path."""
    found = []
    for path in sorted(place.glob("*.json")):
        try:
            doubt = _doubt(path)
            one = _parsed(path)
            found.append(Allowance(one.project, one.allowed, doubt))
        except (OSError, ValueError, RecursionError):
            continue
    yield from sorted(found, key=lambda one: one.project)


def recall(place: Path, key: str) -> tuple[Ask, ...] | None:
    """Return what files of this content ask for, if it was worked out before; by the same rules of belief."""
    path = place / "read" / f"{key}.json"
    try:
        if _doubt(path) or _doubt(place):
            return None
        return tuple(Ask(words, own, use) for words, own, use in json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def keep(place: Path, key: str, asks: Iterable[Ask]) -> None:
    """Spare the next command the reading of the same files; where it cannot be kept, it is read again."""
    folder = place / "read"
    with suppress(EnvboxError, OSError):
        _make(place)
        _make(folder)
        text = json.dumps([(one.words, one.key, one.use) for one in asks])
        write_whole(folder / f"{key}.json", text.encode(), mode=0o600, is_cache=False)
        old = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for path in old[:-_KEPT]:
            path.unlink(missing_ok=True)


def _path(place: Path, project: Path) -> Path:
    return place / f"{sha256(os.fsencode(os.path.realpath(project))).hexdigest()[:32]}.json"


def _make(place: Path) -> None:
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.chmod(0o700)
    except OSError as error:
        raise TrustError(
            f"cannot keep what is allowed in {place}: {error.strerror}",
            "allow it for one call: envbox --trust …",
        ) from error


def _parsed(path: Path) -> Allowance:
    data = path.read_bytes()[: _LARGEST + 1]
    document = json.loads(data) if len(data) <= _LARGEST else None
    match document:
        case {"version": 1, "project": str(project), "allowed": dict(allowed)} if all(
            isinstance(words, str) for words in allowed.values()
        ):
            return Allowance(project, allowed)
    raise ValueError("it is not of envbox's form")


def _doubt(path: Path) -> str | None:
    """Return why a file may be another's word: who could have written it or put it there."""
    for one, is_strict in ((path, True), (path.parent, True), *((p, False) for p in path.parent.parents)):
        about = one.stat() if not is_strict else one.lstat()
        loose = stat.S_IWGRP | stat.S_IWOTH if is_strict else stat.S_IWOTH
        if about.st_uid not in ({os.geteuid()} if is_strict else {os.geteuid(), 0, _overflow()}):
            return f"{one} belongs to another user (uid {about.st_uid})"
        if stat.S_ISLNK(about.st_mode):
            return f"{one} is a link"
        if about.st_mode & loose and not (about.st_mode & stat.S_ISVTX and not is_strict):
            return f"others may write {one} (mode {stat.S_IMODE(about.st_mode):04o})"
    return None


def _overflow() -> int:
    """Return the uid that stands for those of a machine outside a user namespace, such as the owner of
    `/`.
    """
    try:
        return int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 65534
