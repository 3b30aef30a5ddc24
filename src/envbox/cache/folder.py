"""The one way to a cache: a folder that envbox made, where nobody else can have put anything.

A folder that is absent or empty becomes one, with a marker and the tag by which backups leave it out
(https://bford.info/cachedir/). One that holds anything else is refused: what is in a cache is freed, and may
be executed. The root, a home, a project, and whatever these lie in never are one, by whatever path.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from envbox.cache.in_use import hold
from envbox.cache.owners import OWNER_VARIABLE, check_owners, trusted_owners
from envbox.cache.shapes import FORMAT, MARKER_TEXT, NAMES, TAG, TAG_TEXT, is_known, is_known_inside
from envbox.errors import SettingsError, ToolError
from envbox.files import CACHE_MARK, CACHE_MARKER, disk_error, is_regular, read_file, remove, write_whole

_NOT_NOW = (errno.EROFS, errno.ENOSPC, errno.EDQUOT)
_SHOWN = 3  # names of what is not a cache's
_ELSEWHERE = "set ENVBOX_CACHE_DIR (or `cache_dir`) to a folder that does not exist yet, or is empty"


def open_cache(path: Path, project: Path, environ: Mapping[str, str]) -> Path:
    """Have a folder be a cache of the caller's, and say that it is in use.

    One that cannot be made, or marked, is no fault yet: many commands need none, and what one needs and
    cannot write is said then.

    :param project: the project's directory
    :returns: the same path
    :raises SettingsError: when the path can be no cache
    :raises ToolError: when others can have written what is in it, or it cannot be looked at
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100  # `..` must go, symlinks stay
    owners = trusted_owners(environ.get(OWNER_VARIABLE, ""))
    _refuse_protected(path, _protected(project, environ))
    try:
        _make(path, owners)
        if path.is_dir():
            folders = _folders(path)
            check_owners(path, folders, owners)
            _mark(path)
            hold(path)
    except PermissionError as error:
        raise ToolError(
            f"not allowed to look into the cache {path}: {error.strerror}",
            f"chmod u+rwx '{path}', have its owner let you read it, or set ENVBOX_CACHE_DIR to another one",
        ) from error
    except OSError as error:
        raise disk_error(path, error) from error
    return path


def _make(path: Path, owners: Iterable[int]) -> None:
    """Make the folder, where none is there."""
    if path.is_dir():
        return
    if os.path.lexists(path):
        raise SettingsError(f"the cache {path} is not a folder", _ELSEWHERE)
    check_owners(path, (), frozenset(owners))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(0o700, exist_ok=True)
    except PermissionError:
        return
    except OSError as error:
        if error.errno in _NOT_NOW:
            return
        raise SettingsError(f"cannot make the cache {path}: {error.strerror}", _ELSEWHERE) from error


def _protected(project: Path, environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """Yield what no cache may contain."""
    homes = [os.path.normpath(environ.get("HOME", "") or ".")]
    with suppress(ImportError, KeyError):
        import pwd

        homes.append(pwd.getpwuid(os.getuid()).pw_dir)
    for home in filter(os.path.isabs, homes):
        yield f"the home {home}", Path(home)
    yield f"the project {project}", project


def _refuse_protected(path: Path, protected: Iterable[tuple[str, Path]]) -> None:
    own = _identity(path)
    if str(path) == "/" or own == _identity("/"):
        raise SettingsError("the cache cannot be /: everything lies in it", _ELSEWHERE)
    for name, inside in protected:
        for above in dict.fromkeys((*_up(str(inside)), *_up(os.path.realpath(inside)))):
            if str(path) == above or (own and own == _identity(above)):
                what = name if above == str(inside) else f"a folder that {name} is in"
                raise SettingsError(f"the cache cannot be {path}: that is {what}", _ELSEWHERE)


def _up(path: str) -> Iterator[str]:
    path = os.path.abspath(path)  # noqa: PTH100  # a Path for each takes longer than the call
    while (above := os.path.dirname(path)) != path:  # noqa: PTH120  # as above
        yield path
        path = above


def _identity(path: Path | str) -> tuple[int, int] | None:
    """Return what tells whether two paths lead to one folder: through links, or by another mount of it."""
    try:
        found = os.stat(path)  # noqa: PTH116  # as above
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _folders(path: Path) -> list[Path]:
    """Return the known folders that are there; what is none, and has such a name, is removed."""
    found = []
    for name in NAMES:
        each = path / name
        try:
            mode = each.lstat().st_mode
        except FileNotFoundError:
            continue
        if not stat.S_ISDIR(mode) and not os.path.isdir(each):  # noqa: PTH112  # one that leads astray is none
            if _format(path) is not None:  # else it is not ours
                with suppress(OSError):  # who only reads it finds nothing there
                    remove(each)
            continue
        if stat.S_ISDIR(mode) and mode & 0o700 != 0o700:
            with suppress(OSError):  # it is somebody else's
                each.chmod(stat.S_IMODE(mode) | 0o700)
        found.append(each)
    return found


def _format(path: Path) -> int | None:
    """Return the format that a cache's marker names; None without a sound one, and without our tag.

    Where the marker is damaged, the tag tells that the folder is ours.
    """
    with suppress(OSError):
        if found := CACHE_MARK.fullmatch(read_file(path / CACHE_MARKER)):
            return int(found[1])
    with suppress(OSError):
        if read_file(path / TAG) == TAG_TEXT.encode():
            return 0
    return None


def _mark(path: Path) -> None:
    """See that a folder is a cache of a format that is known, or may become one, and make it one."""
    known = _format(path)
    if known is None:
        if found := sorted(_foreign(path)):
            more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            raise SettingsError(
                f"{path} is not a cache of envbox: it has {', '.join(found[:_SHOWN])}{more}",
                _ELSEWHERE,
            )
    elif known > FORMAT:
        raise SettingsError(
            f"the cache {path} was made by a newer envbox (format {known}; this one knows {FORMAT})",
            "use that envbox, or set ENVBOX_CACHE_DIR to another folder",
        )
    with suppress(ToolError):  # where it is only read, or the disk is full
        if not known:
            _clear(path / CACHE_MARKER)
            write_whole(path / CACHE_MARKER, MARKER_TEXT.format(FORMAT).encode())
        if not known or not is_regular(path / TAG):
            _clear(path / TAG)
            write_whole(path / TAG, TAG_TEXT.encode())


def _clear(path: Path) -> None:
    """Remove a folder, or whatever cannot be replaced, from where one of our own files should be."""
    with suppress(OSError):
        if path.is_dir():
            remove(path)


def _foreign(path: Path) -> Iterator[str]:
    """Yield what is in a folder without a marker that no envbox has put there."""
    for entry in os.scandir(path):
        if not is_known(entry.name):
            yield entry.name
        elif entry.name in NAMES:
            if not entry.is_dir(follow_symlinks=False):
                yield entry.name
                continue
            for inner in os.scandir(entry.path):
                if not is_known_inside(entry.name, inner.name):
                    yield f"{entry.name}/{inner.name}"
