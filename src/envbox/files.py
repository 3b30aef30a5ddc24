"""Files and folders that are whole or not there: written aside, flushed (files), renamed.

The one rule behind "any command can be killed at any moment": a path either has its old content or all of its
new content. Temporary names begin with `.` and end in `.part`, in the same directory, so a rename never
crosses a filesystem and a leftover is recognised. Once it is older than a day, whoever wrote it is gone:
`envbox clean` frees it, and a lockfile's or a compiler's is swept when the next one is made.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from envbox.errors import ToolError

PART = ".part"
_CONFLICT = re.compile(rb"^(<{7} |>{7} |={7}\r?$)", re.MULTILINE)
_ASIDE = re.compile(rf"\..+{re.escape(PART)}")
_LONG = 24 * 3600  # seconds; no download or install takes a day


@contextmanager
def whole_file(path: Path, mode: int = 0o644, is_cache: bool = True) -> Iterator[IO[bytes]]:
    """Yield a binary file that becomes `path` when the block ends well, and is removed when it does not.

    A person's own file stays what it is: written through links, with its mode and owner; what is no plain
    file, such as /dev/null or a pipe, is written into.

    :param mode: of a new file
    :param is_cache: whether it lies in the cache folder, which can be put elsewhere
    :raises ToolError: when the disk is full or the directory cannot be written
    """
    before = None
    try:
        if not is_cache:
            path = Path(os.path.realpath(path))
            before = path.stat() if path.exists() else None
        if before is not None and not stat.S_ISREG(before.st_mode):
            with path.open("wb") as file:
                yield file
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=PART, dir=path.parent)
    except OSError as error:
        raise disk_error(path, error, is_cache) from error
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if before is not None:
            with suppress(OSError):  # only root can give a file to somebody else
                os.chown(part, before.st_uid, before.st_gid)
        part.chmod(mode if before is None else stat.S_IMODE(before.st_mode))
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise disk_error(path, error, is_cache) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_whole(path: Path, data: bytes, mode: int = 0o644, is_cache: bool = True) -> None:
    """Put `data` at `path`, whole or not at all.

    :param is_cache: as for `whole_file`
    :raises ToolError: when the disk is full or the directory cannot be written
    """
    with whole_file(path, mode, is_cache) as file:
        file.write(data)


def is_leftover(path: Path) -> bool:
    """Whether it was written aside, and so long ago that nobody can be at it any more."""
    try:
        return bool(_ASIDE.fullmatch(path.name)) and path.lstat().st_mtime < time.time() - _LONG
    except FileNotFoundError:  # it has its name now
        return False


def decoded(data: bytes) -> str:
    """The text of a file that a person saved: UTF-8, or UTF-16 as PowerShell's `>` writes it, with its mark.

    :raises UnicodeDecodeError: when it is neither
    """
    return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")


def conflict_line(data: bytes) -> int:
    """The line of the first of git's conflict markers in a text file; 0 when there is none."""
    found = _CONFLICT.search(data)
    return data.count(b"\n", 0, found.start()) + 1 if found else 0


@contextmanager
def whole_folder(path: Path, stays: Callable[[], object] = lambda: False) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` when the block ends well; what was there before goes.

    Nothing is flushed: who relies on it after a crash of the machine must look at what is in it.

    :param stays: whether what is there by then, of another who was faster, is as good
    :raises ToolError: when the disk is full or the directory cannot be written
    """
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name[:100]}.", suffix=PART, dir=path.parent))
        yield part
        while True:
            try:
                part.rename(path)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                if stays():
                    return
                discard_folder(path)
            else:
                return
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        if part is not None:
            with suppress(OSError):
                remove_folder(part)


def remove_folder(path: Path) -> None:
    """Remove a folder and all in it, also out of folders that nobody may write to.

    :raises OSError: when that cannot be; FileNotFoundError when something is removed by another meanwhile
    """
    try:
        shutil.rmtree(path)
    except PermissionError:
        for folder, _, _ in os.walk(path):
            os.chmod(folder, 0o700)  # noqa: PTH101  # a Path for each takes longer than the call
        shutil.rmtree(path)


def discard_folder(path: Path) -> None:
    """Remove a folder, first from its name, so that nobody finds half of it."""
    try:
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name[:100]}.", suffix=PART, dir=path.parent))
        try:
            path.rename(aside / path.name)
        except FileNotFoundError:
            return
        finally:
            with suppress(OSError):
                remove_folder(aside)
    except OSError as error:
        raise disk_error(path, error) from error


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Let one process at a time into the block; ends with the process, however it ends.

    :param path: a file to lock, made when it is not there; its folder must be
    """
    import fcntl

    with path.open("w") as file:
        _lock(file.fileno(), fcntl.LOCK_EX, path)
        yield


def _lock(handle: int, how: int, path: Path) -> None:
    """flock(2).

    :raises ToolError: when the filesystem has no locks, as Lustre without its option
    """
    import fcntl

    try:
        fcntl.flock(handle, how)
    except OSError as error:
        raise ToolError(
            f"{path} cannot be locked: {error.strerror}",
            "set ENVBOX_CACHE_DIR to a folder on a disk that has locks",
        ) from error


def held(path: Path) -> int:
    """Open a file in a way that says it is in use, as long as this process or one that inherits it lives."""
    import fcntl

    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    _lock(handle, fcntl.LOCK_SH, path)
    return handle


def is_held(path: Path) -> bool:
    """Whether somebody holds a file; one that is not there is held by nobody."""
    import fcntl

    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)  # on NFS, only who may write can lock alone
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # where there are no locks, nobody can hold one
        return False
    finally:
        os.close(handle)
    return False


def disk_error(path: Path, error: OSError, is_cache: bool = True) -> ToolError:
    """Say an OSError met at `path` in words, with a way out."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ToolError(
            f"no space left on the disk while writing {path}",
            "free some space" + ", or set ENVBOX_CACHE_DIR to a folder on another disk" * is_cache,
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ToolError(
            f"not allowed to write {path}: {error.strerror}",
            "check the folder's permissions" + ", or set ENVBOX_CACHE_DIR to one that is yours" * is_cache,
        )
    return ToolError(
        f"cannot write {path}: {error.strerror or error}",
        "set ENVBOX_CACHE_DIR to a folder that is yours" if is_cache else None,
    )
