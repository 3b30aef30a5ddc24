"""Files and folders that are whole or not there: written aside, flushed (files), renamed.

The one rule behind "any command can be killed at any moment": a path either has its old content or all of its
new content. Temporary names begin with `.` and end in `.part`, in the same directory, so a rename never
crosses a filesystem and a leftover is recognised. Once it is older than a day, whoever wrote it is gone:
`envbox clean` frees it, and a lockfile's or a compiler's is swept when the next one is made.

A cache heals: what stands in one where a file or a folder should be, and is none (a FIFO, a link, a
folder), is not there for those who read, and is removed by those who write. It never blocks anybody, and
nothing outside a folder with a cache's marker is ever removed for it.
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
from typing import IO, TypeVar

from envbox.errors import ToolError

PART = ".part"
CACHE_MARKER = ".envbox-cache"
"""The file that makes a folder a cache."""
CACHE_MARK = re.compile(rb"envbox cache, format (\d+)\n")
"""What stands in it: the format of the cache."""
_LONGEST_MARK = 64  # bytes
_IN_THE_WAY = (errno.ENOTDIR, errno.EACCES, errno.EPERM)
Made = TypeVar("Made")
_CONFLICT = re.compile(rb"^(<{7} |>{7} |={7}\r?$)", re.MULTILINE)
ASIDE = re.compile(rf"\..+{re.escape(PART)}")
"""The names of what is written aside."""
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
        handle, name = _in_folder(
            path.parent,
            lambda: tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=PART, dir=path.parent),
            is_cache,
        )
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
        _take_place(part, path, is_cache)
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
    """Return whether it was written aside, and so long ago that nobody can be at it any more.

    What is as far ahead was written before the clock was set back.
    """
    try:
        return bool(ASIDE.fullmatch(path.name)) and abs(time.time() - path.lstat().st_mtime) > _LONG
    except (FileNotFoundError, NotADirectoryError):  # it has its name now
        return False


def decoded(data: bytes) -> str:
    """Return the text of a file that a person saved: UTF-8, or UTF-16 as PowerShell's `>` writes it, with its
    mark.

    :raises UnicodeDecodeError: when it is neither
    """
    return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")


def conflict_line(data: bytes) -> int:
    """Return the line of the first of git's conflict markers in a text file; 0 when there is none."""
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
        part = _in_folder(
            path.parent,
            lambda: Path(tempfile.mkdtemp(prefix=f".{path.name[:100]}.", suffix=PART, dir=path.parent)),
        )
        yield part
        while True:
            try:
                part.rename(path)
            except OSError as error:
                if error.errno in _IN_THE_WAY and clear_way(path, is_folder=True):
                    continue
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
        _unseal(path)
        shutil.rmtree(path)


def _unseal(path: Path | str) -> None:
    """Let everything in a folder be removed, links not followed."""
    os.chmod(path, 0o700)  # noqa: PTH101  # a Path for each takes longer than the call
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                _unseal(entry.path)


def discard_folder(path: Path) -> None:
    """Remove a folder, first from its name, so that nobody finds half of it."""
    try:
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name[:100]}.", suffix=PART, dir=path.parent))
        try:
            try:
                path.rename(aside / path.name)
            except PermissionError:  # who moves a folder must be able to write to it
                if not clear_way(path, is_folder=True):
                    raise
                path.rename(aside / path.name)
        except FileNotFoundError:
            return
        finally:
            with suppress(OSError):
                remove_folder(aside)
    except OSError as error:
        raise disk_error(path, error) from error


def open_file(path: Path) -> IO[bytes]:
    """Open a regular file to read it. A FIFO would let wait for ever, and a link leads elsewhere.

    :raises OSError: when it is not there, may not be read, or is something else
    """
    file = open(path, "rb", opener=_plainly)  # noqa: SIM115  # the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return file


def _plainly(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def read_file(path: Path) -> bytes:
    """Read a regular file, and nothing else.

    :raises OSError: as `open_file`
    """
    with open_file(path) as file:
        return file.read()


def is_regular(path: Path) -> bool:
    """Return whether a regular file with something in it is there: no link, no FIFO, nothing cut off at
    once.
    """
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size > 0


def is_only_read(folder: Path) -> bool:
    """Return whether a folder of a cache is there that the caller cannot write to."""
    with suppress(OSError):
        clear_way(folder, is_folder=True)
    return os.path.isdir(folder) and not os.access(folder, os.W_OK)  # noqa: PTH112  # never raises


def remove(path: Path) -> None:
    """Remove whatever is there: a folder with all in it; of a link only the link.

    :raises OSError: when that cannot be
    """
    try:
        path.unlink()
    except (FileNotFoundError, NotADirectoryError):
        return
    except (IsADirectoryError, PermissionError):  # what a folder is refused with, by system
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise
        with suppress(FileNotFoundError):  # another was quicker
            remove_folder(path)


def make_folder(path: Path, mode: int = 0o777) -> None:
    """Have a folder, and those that it is in.

    :raises OSError: when that cannot be
    """
    try:
        path.mkdir(mode, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError):
        if not clear_way(path, is_folder=True):
            raise
        path.mkdir(mode, parents=True, exist_ok=True)


def _in_folder(folder: Path, make: Callable[[], Made], is_cache: bool = True) -> Made:
    """Make something in a folder, and the folder if need be."""
    if not is_cache:  # what stands in the way is a person's
        folder.mkdir(parents=True, exist_ok=True)
        return make()
    make_folder(folder)
    try:
        return make()
    except OSError:
        if not clear_way(folder, is_folder=True):
            raise
        make_folder(folder)
        return make()


def clear_way(path: Path, *, is_folder: bool = False) -> bool:
    """Remove what stands where a cache has a file or a folder, and is none; nothing outside a cache.

    What is the caller's, and was closed to its owner, is opened.

    :param is_folder: whether a folder is to be there
    :returns: whether something was changed
    :raises OSError: when that cannot be
    """
    is_opened = False
    below: list[Path] = []
    for folder in path.parents:
        if _is_cache(folder):
            break
        below.append(folder)
    else:
        return False
    for folder in (*reversed(below), *([path] if is_folder else [])):
        if not os.path.lexists(folder):
            return False
        if not os.path.isdir(folder) or (folder == path and folder.is_symlink()):  # noqa: PTH112  # never raises
            remove(folder)
            return True
        found = folder.stat()
        if found.st_uid == os.geteuid() and found.st_mode & 0o700 != 0o700:
            folder.chmod(stat.S_IMODE(found.st_mode) | 0o700)
            is_opened = True
    if is_folder or not os.path.lexists(path):
        return is_opened
    found = path.lstat()
    if stat.S_ISREG(found.st_mode):
        if found.st_uid == os.geteuid() and found.st_mode & 0o600 != 0o600:
            path.chmod(stat.S_IMODE(found.st_mode) | 0o600)
            is_opened = True
        return is_opened
    remove(path)
    return True


def _is_cache(folder: Path) -> bool:
    """Return whether a folder has a cache's marker. A file of its name alone may be anybody's."""
    with suppress(OSError), open_file(folder / CACHE_MARKER) as file:
        return bool(CACHE_MARK.fullmatch(file.read(_LONGEST_MARK)))
    return False


def _take_place(part: Path, path: Path, is_cache: bool) -> None:
    """Rename what is finished to its name."""
    try:
        part.replace(path)
    except (IsADirectoryError, NotADirectoryError, FileExistsError):
        if not is_cache or not clear_way(path):
            raise
        part.replace(path)


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Let one process at a time into the block; ends with the process, however it ends.

    :param path: a file of the cache to lock, made when it is not there, with its folder
    :raises ToolError: when it cannot be made, or the filesystem has no locks
    """
    import fcntl

    handle = lock_file(path)
    try:
        _lock(handle, fcntl.LOCK_EX, path)
        yield
    finally:
        os.close(handle)


def lock_file(path: Path) -> int:
    """Open a file of the cache that is there to be locked.

    :raises ToolError: when it cannot be made
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        make_folder(path.parent)
        try:
            handle = os.open(path, flags, 0o644)
        except OSError:
            if not clear_way(path):
                raise
            handle = os.open(path, flags, 0o644)
        if not stat.S_ISREG(os.fstat(handle).st_mode):  # a FIFO can be opened
            os.close(handle)
            clear_way(path)
            handle = os.open(path, flags | os.O_EXCL, 0o644)
    except OSError as error:
        raise disk_error(path, error) from error
    return handle


def _lock(handle: int, how: int, path: Path) -> None:
    """Call flock(2).

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
    """Open a file in a way that says it is in use, as long as this process or one that inherits it lives.

    :raises ToolError: when it is gone, or the filesystem has no locks
    """
    import fcntl

    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise disk_error(path, error) from error
    _lock(handle, fcntl.LOCK_SH, path)
    return handle


def is_held(path: Path) -> bool:
    """Return whether somebody holds a file; one that is not there is held by nobody."""
    import fcntl

    try:
        handle = os.open(
            path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
        )  # on NFS, only who may write can lock alone
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
    if error.errno == errno.ENOSPC:
        return ToolError(
            f"no space left on the disk while writing {path}",
            "free some space" + ", or set ENVBOX_CACHE_DIR to a folder on another disk" * is_cache,
        )
    if error.errno == errno.EDQUOT:
        return ToolError(
            f"your quota on the disk is used up: no space left for you while writing {path}",
            "remove files of yours there" + ", or set ENVBOX_CACHE_DIR to a folder elsewhere" * is_cache,
        )
    if error.errno == errno.EROFS:
        return ToolError(
            f"not allowed to write {path}: {error.strerror}",
            "set ENVBOX_CACHE_DIR to a folder that can be written" if is_cache else None,
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return ToolError(
            f"not allowed to write {path}: {error.strerror}",
            "check the folder's permissions" + ", or set ENVBOX_CACHE_DIR to one that is yours" * is_cache,
        )
    if isinstance(error, FileNotFoundError) and is_cache:
        return ToolError(
            f"cannot write {path}: {error.strerror}",
            "if it was removed meanwhile, run the command again; else set ENVBOX_CACHE_DIR to another folder",
        )
    return ToolError(
        f"cannot write {path}: {error.strerror or error}",
        "set ENVBOX_CACHE_DIR to a folder that is yours" if is_cache else None,
    )
