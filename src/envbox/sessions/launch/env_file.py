"""Env files: NAME=VALUE lines, read once and by one rule, so that every engine has the same variables.

The rule is that of `docker run --env-file`, which has no quotes, no `export` and no continued lines:

- UTF-8; a byte order mark at the beginning is passed over; a line ends with a line feed, and a carriage
  return before that belongs to the end.
- Blanks before a name are passed over; a line that is then empty, or begins with `#`, says nothing.
- All behind the first `=` is the value, as it is: quotes, `#`, `$`, blanks at its end.
- A name without `=` takes the value that the variable has here; one that has none is passed over.
- Of a name that comes twice, the last line counts.
- A name is not empty, and has no blank in it: `export A=1` and `A = 1` are refused, and so is what no process
  can be given: a NUL, more than 128 KiB for one variable.

Values are secrets: no message repeats one, nor a name that may be part of one.
https://docs.docker.com/reference/cli/docker/container/run/#env
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from envbox.errors import LaunchError, listed

_MOST = 1 << 20  # bytes of a file: execve(2) takes little more for all variables together
_LONGEST = (128 << 10) - 1  # bytes of NAME=VALUE: MAX_ARG_STRLEN, less the NUL at its end


def read_env_file(path: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Read the variables of an env file, which may be a pipe.

    :raises LaunchError: when it cannot be read, with each line that cannot be used
    """
    try:
        found = path.stat()
        is_plain = stat.S_ISREG(found.st_mode)
        data = _read(path) if is_plain else _read_once(path, found.st_dev, found.st_ino)
    except OSError as error:
        raise LaunchError(f"cannot read the env file {path}: {error.strerror}") from error
    if len(data) > _MOST:
        raise LaunchError(
            f"the env file {path} has more than {_MOST >> 20} MiB, and no process can have so many variables",
            "put what is large into a file of its own, and its path into a variable",
        )
    values, faults = _parse(data.removeprefix(b"\xef\xbb\xbf"), environ)
    if faults:
        raise LaunchError(
            listed(f"the env file {path} cannot be used", faults),
            "write NAME=VALUE lines in UTF-8, without quotes: the value is all behind the first `=`",
        )
    return values


def _parse(data: bytes, environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the variables, and what is wrong with which line."""
    values: dict[str, str] = {}
    faults: list[str] = []
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return {}, ["line 1: it is UTF-16, as PowerShell writes, and not UTF-8"]
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            text = line.removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            faults.append(f"line {number}: not UTF-8")
            continue
        name, equals, value = text.lstrip().partition("=")
        if (not name and not equals) or name.startswith("#"):
            continue
        if fault := _fault(name, value, bool(equals)):
            faults.append(f"line {number}: {fault}")
        elif equals:
            values[_native(name)] = _native(value)
        elif _native(name) in environ:
            values[_native(name)] = environ[_native(name)]
    return values, faults


def _native(text: str) -> str:
    """Return a text that becomes the file's bytes again, whatever the locale is."""
    return os.fsdecode(text.encode())


def _fault(name: str, value: str, has_value: bool) -> str | None:
    if "\0" in name + value:
        return "a NUL, which no variable can hold"
    if not name:
        return "no name before the `=`"
    if name.split(maxsplit=1)[0] == "export" and name != "export":
        return "`export` is a shell's, leave it out"
    if any(c.isspace() for c in name):
        return f"a blank {'before the `=`' if has_value else 'in a name'}"
    if len(f"{name}={value}".encode()) > _LONGEST:
        return f"more than {(_LONGEST + 1) >> 10} KiB, which no process can be given"
    return None


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MOST + 1)


@cache
def _read_once(path: Path, device: int, inode: int) -> bytes:
    """Return what a pipe holds can be read once, and several launches of one command line may ask for it."""
    del device, inode
    return _read(path)
