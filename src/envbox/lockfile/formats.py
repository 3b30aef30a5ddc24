"""The formats of lockfiles, in one table: what each is called, and who reads and writes it.

Which format a file has is seen in it, never in its name. A format is one module beside this, and one row.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from envbox.errors import LockfileError
from envbox.files import conflict_line
from envbox.lockfile import Lock, LockedPackage, conda_lock_foreign, conda_lock_v1, explicit, pixi
from envbox.lockfile.foreign import (
    EVERYTHING,
    MAIN,
    ForeignLock,
    ForeignPackage,
    Selection,
    channel_name,
    decoded,
)
from envbox.project import name_of_foreign

ENVIRONMENT, REQUIREMENTS = "environment", "requirements"


@dataclass(frozen=True, slots=True)
class Format:
    """A format.

    :param name: as a command line has it
    :param about: what people call such files; empty: it is only written
    :param loads: its reader; None: it is no lockfile but a spec, or only written
    :param is_for_one: whether a file can say what is on one platform only
    """

    name: str
    about: str
    loads: Callable[[bytes, Path, Selection], ForeignLock] | None
    is_for_one: bool = False


FORMATS = (
    Format(conda_lock_foreign.KIND, "conda-lock files", conda_lock_foreign.loads),
    Format(ENVIRONMENT, "exported environment.yml", None, is_for_one=True),
    Format(explicit.KIND, "@EXPLICIT files", explicit.loads, is_for_one=True),
    Format(pixi.KIND, "pixi.lock (versions 6 and 7)", pixi.loads),
    Format(REQUIREMENTS, "", None, is_for_one=True),
)
"""All of them are written (`envbox.locks.convert.export`)."""
BY_NAME = {one.name: one for one in FORMATS}
READ = ", ".join(one.about for one in FORMATS if one.about)

_KEY = re.compile(r"^['\"]?(environments|package|metadata|dependencies)['\"]?[ \t]*:", re.MULTILINE)
_URL = re.compile(r"^\s*(?:https?|file)://\S+\s*$", re.MULTILINE)
_OURS = b"envbox.name:"  # in the custom metadata of every lockfile that envbox has written


def kind_of(data: bytes, path: Path) -> str:
    """Return which format a file has.

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


def is_spec(path: Path) -> bool:
    """Return whether a file is a spec: one that is called like one, and is no lockfile."""
    if path.suffix.lower() not in (".yml", ".yaml"):
        return False
    try:
        return kind_of(path.read_bytes(), path) == ENVIRONMENT
    except (OSError, LockfileError):
        return not path.name.endswith("conda-lock.yml")  # whoever reads it says in words what it is


def read_foreign(data: bytes, path: Path, selection: Selection = EVERYTHING) -> ForeignLock:
    """Read a lockfile of another tool, of whichever format.

    :param path: where the bytes are from
    :raises LockfileError: when it is damaged, or of no format that is a lockfile
    """
    kind = kind_of(data, path)
    loads = BY_NAME[kind].loads
    if loads is None:
        raise LockfileError(
            f"{path} is a spec, and no lockfile",
            f"lock it, and name that: envbox lock {shlex.quote(path.name)}",
        )
    return loads(data, path, selection)


def read_ours(data: bytes, path: Path) -> Lock | None:
    """Read a lockfile that a build can use as it is; None where it is to be taken over first.

    That is one of ours, or a conda-lock file that pins everything by sha256 and has no category but `main`.

    :raises LockfileError: when it is one of ours, and damaged
    """
    try:
        lock = conda_lock_v1.loads(data, path)
    except LockfileError:
        if not data.strip() or conflict_line(data) or _OURS in data:
            raise
        return None  # one that is broken, and not only old, is refused by its other reader
    return lock if lock.packages and all(p.category == MAIN for p in lock.packages) else None


def read_any(data: bytes, path: Path) -> Lock:
    """Read a lockfile of whichever format, ours too, to be looked at.

    Nothing is fetched: what the file does not say (a hash, what a package needs, the base) is empty.

    :raises LockfileError: when it is damaged, or of no format that is a lockfile
    """
    if (ours := read_ours(data, path)) is not None:
        return ours
    found = read_foreign(data, path)
    return Lock(
        name=name_of_foreign(path),
        platforms=found.platforms,
        channels=tuple(dict.fromkeys(map(channel_name, found.channels))),
        content_hash={},
        packages=tuple(map(_as_it_is, found.packages)),
        base=None,
        digest="",
    )


def _as_it_is(package: ForeignPackage) -> LockedPackage:
    return LockedPackage(
        manager=package.manager,
        name=package.name,
        version=package.version,
        build=package.build,
        platform=package.platform,
        depends=_names(package.depends or ()),
        url=package.url,
        sha256=package.sha256 or "",
        md5=package.md5,
        size=package.size,
        license=package.license,
    )


def _names(depends: Sequence[str]) -> dict[str, str]:
    pairs = (text.partition(" ") for text in depends)
    return dict(sorted((name, bound.strip()) for name, _, bound in pairs))
