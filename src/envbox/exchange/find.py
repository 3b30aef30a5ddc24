"""From a file to a foreign lockfile: which format it is, is seen in it, never in its name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from envbox.errors import LockfileError
from envbox.lockfile import conda_lock_foreign, explicit, pixi
from envbox.lockfile.foreign import ForeignLock, decoded

ENVIRONMENT = "environment"
READ = "conda-lock files, @EXPLICIT files, pixi.lock (versions 6 and 7) and exported environment.yml"
_KEY = re.compile(r"^['\"]?(environments|package|metadata|dependencies)['\"]?[ \t]*:", re.MULTILINE)
_URL = re.compile(r"^\s*(?:https?|file)://\S+\s*$", re.MULTILINE)


def kind_of(data: bytes, path: Path) -> str:
    """Which format a file has.

    :raises LockfileError: when it is none that is known
    """
    text = decoded(data, path)
    if any(line.strip() == explicit.MARK for line in text.splitlines()):
        return explicit.KIND
    keys = set(_KEY.findall(text))
    if "environments" in keys:
        return pixi.KIND
    if {"package", "metadata"} & keys:
        return conda_lock_foreign.KIND
    if "dependencies" in keys:
        return ENVIRONMENT
    if _URL.search(text):
        return explicit.KIND
    raise LockfileError(f"{path} is no lockfile that envbox knows", f"it reads {READ}")


def read_bytes(path: Path) -> bytes:
    """The bytes of a file that a person named.

    :raises LockfileError: when it cannot be read
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise LockfileError(f"cannot read {path}: {error.strerror}") from error


def read_foreign(
    path: Path, kind: str, environment: str | None = None, only: tuple[str, ...] = ()
) -> ForeignLock:
    """Read a foreign lockfile.

    :param environment: of a pixi.lock; None: `default`, or the only one
    :param only: platforms; others are passed over, right or wrong. Empty: all
    :raises LockfileError: when it is damaged, or not of this format
    """
    data = read_bytes(path)
    if kind == pixi.KIND:
        return pixi.loads(data, path, environment, only)
    if kind == conda_lock_foreign.KIND:
        return conda_lock_foreign.loads(data, path, only)
    found = explicit.loads(data, path)
    if only and found.platforms[0] not in only:
        raise LockfileError(f"{path} is for {found.platforms[0]}, not for {', '.join(only)}")
    return found


def joined(locks: Sequence[ForeignLock]) -> ForeignLock:
    """Several files of one environment, each for other platforms, as one.

    :raises LockfileError: when two are for the same platform
    """
    first, *others = locks
    for lock in others:
        both = sorted(set(first.platforms) & set(lock.platforms))
        if both:
            raise LockfileError(
                f"{first.path} and {lock.path} are both for {', '.join(both)}", "import one after the other"
            )
        first = replace(
            first,
            platforms=tuple(sorted((*first.platforms, *lock.platforms))),
            channels=tuple(dict.fromkeys((*first.channels, *lock.channels))),
            packages=(*first.packages, *lock.packages),
        )
    return first
