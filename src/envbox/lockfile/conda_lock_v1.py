"""conda-lock's unified lockfile, version 1: read, written, and byte for byte the same for the same solution.

The difficulty is that the file is both a format that other tools read and write, and the one thing that every
later stage trusts. So reading takes whatever conda-lock itself writes, but checks what an edit, a bad merge
or a cut-off copy can break, all faults at once; and writing is one function of the `Lock`: sorted, no time,
no machine. `version` is written last, so that a file that was cut off anywhere lacks it.

What envbox adds stands in `metadata.custom_metadata`, where conda-lock keeps strings for others: see
`envbox.lockfile.custom`.

Specification: conda_lock/lockfile/v1/models.py and https://schemas.conda.org/conda-lock-v1.schema.json
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from envbox.errors import LockfileError, listed
from envbox.files import conflict_line
from envbox.lockfile import Lock, LockedPackage, plain_lines
from envbox.lockfile.custom import PIP_PREFIX, with_custom, write_custom
from envbox.lockfile.entries import NO_SHA256, read_packages, read_texts
from envbox.lockfile.plain import read_plain, write_plain
from envbox.mirrors import public_channel, shown
from envbox.oci import digest_of
from envbox.platforms import PLATFORMS
from envbox.project import LOCK_SUFFIX

__all__ = ["PIP_PREFIX", "dumps", "loads", "lock_hint", "name_from", "read_lockfile", "salvaged", "sealed"]

VERSION = 1

_ASKED = re.compile(r"(?:[^\s:]+::)?([A-Za-z0-9_.-]+)(?![^\s]*://)")  # a match spec's name; none of a URL's


def read_lockfile(path: Path) -> Lock:
    """Read and check a lockfile.

    :raises LockfileError: when it is missing, damaged, or of a version that is not known
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise LockfileError(f"there is no lockfile {path}", lock_hint(path)) from None
    except OSError as error:
        raise LockfileError(f"cannot read the lockfile {path}: {error.strerror}") from error
    return loads(data, path)


def loads(data: bytes, path: Path) -> Lock:
    """Parse a lockfile's bytes.

    :param path: where they are from: for the words of an error, and the name where the file does not say one
    :raises LockfileError: with every fault that was found, up to ten
    """
    data = plain_lines(data)
    again = f"restore it, or remove it and lock anew: {lock_hint(path)}"
    document = _document(data, path, again)
    faults: list[str] = []
    lock = _parse(document, path, faults)
    if lock is None or faults:
        raise LockfileError(listed(f"the lockfile {path} is damaged", faults), _way_out(path, faults, again))
    return replace(lock, digest=digest_of(data))


def salvaged(data: bytes, path: Path) -> Lock:
    """Return what is sound of a lockfile that need not be whole: to be preferred by a solve, and for nothing
    else.

    :raises LockfileError: when nothing of it is
    """
    data = plain_lines(data)
    again = f"remove it and lock anew: {lock_hint(path)}"
    faults: list[str] = []
    lock = _parse(_document(data, path, again), path, faults)
    if lock is None:
        raise LockfileError(listed(f"the lockfile {path} is damaged", faults), again)
    return replace(lock, digest=digest_of(data))


def _way_out(path: Path, faults: list[str], again: str) -> str:
    """Return what to do about faults; an old one of conda-lock's, which has MD5 alone, can be taken over."""
    if not all(NO_SHA256 in words for words in faults):
        return again
    return (
        f"keep what it has, and make the spec anew of it: envbox import --force {shlex.quote(path.name)}; "
        f"or remove it and lock anew: {lock_hint(path)}"
    )


def dumps(lock: Lock) -> bytes:
    """Write a lock as text. `lock.digest` is not looked at: it is the digest of what this returns."""
    entries = _sorted(lock)
    head = _HEADER.format(name=lock.name) + _yaml({"metadata": _metadata(lock)})
    body = write_plain(entries) or _yaml({"package": [_entry(p) for p in entries]})
    return (head + body + _yaml({"version": VERSION})).encode()


def _yaml(document: object) -> str:
    import yaml

    text: str = yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=2**30)
    return text


def sealed(lock: Lock) -> Lock:
    """Return the lock as it will be read back: in the file's order, with the file's digest."""
    ordered = replace(lock, packages=tuple(_sorted(lock)), platforms=tuple(sorted(lock.platforms)))
    return replace(ordered, digest=digest_of(dumps(ordered)))


# --- writing ------------------------------------------------------------------------------------------------

_HEADER = """\
# Locked by envbox, in conda-lock's format. To change it, edit the spec and run: envbox lock {name}
"""


def _sorted(lock: Lock) -> list[LockedPackage]:
    return sorted(lock.packages, key=lambda p: (p.manager, p.name, p.platform))


def _metadata(lock: Lock) -> dict[str, Any]:
    return {
        "content_hash": dict(sorted(lock.content_hash.items())),
        "channels": [{"url": channel, "used_env_vars": []} for channel in lock.channels],
        "platforms": sorted(lock.platforms),
        "sources": list(lock.sources),
        "custom_metadata": write_custom(lock),
    }


def _entry(package: LockedPackage) -> dict[str, Any]:
    hashes = {"md5": package.md5} if package.md5 else {}
    return {
        "name": package.name,
        "version": package.version,
        "manager": package.manager,
        "platform": package.platform,
        "dependencies": dict(sorted(package.depends.items())),
        "url": package.url,
        "hash": {**hashes, "sha256": package.sha256},
        "category": package.category,
        "optional": package.category != "main",
    }


# --- reading: from bytes to a document ----------------------------------------------------------------------


def _document(data: bytes, path: Path, again: str) -> Mapping[str, Any]:
    import yaml

    if not data.strip():
        raise LockfileError(f"the lockfile {path} is empty", again)
    if line := conflict_line(data):
        settle = f"settle it from the spec, with what both sides have: {lock_hint(path)}"
        raise LockfileError(f"the lockfile {path} has merge conflict markers (line {line})", settle)
    try:
        document = read_plain(data) or yaml.load(data, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise LockfileError(f"the lockfile {path} is not YAML: {_problem(error)}", again) from error
    if not isinstance(document, dict):
        raise LockfileError(f"{path} is not a lockfile: it holds no `metadata` and `package`", again)
    version = document.get("version")
    if version is None:
        raise LockfileError(f"the lockfile {path} has no `version`: it was cut off, or is no lockfile", again)
    if version != VERSION or isinstance(version, bool):
        raise LockfileError(
            f"the lockfile {path} is of version {shown(version)}; this envbox reads version {VERSION}",
            "a newer envbox may read it",
        )
    return document


def _problem(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    said = getattr(error, "problem", None) or str(error).partition("\n")[0]
    return f"line {mark.line + 1}: {said}" if mark else said


def name_from(path: Path) -> str:
    """Return the name of the environment whose lockfile has this path."""
    if path.name.endswith(LOCK_SUFFIX):
        return path.name[: -len(LOCK_SUFFIX)]
    return path.absolute().parent.name or "environment"


def lock_hint(path: Path) -> str:
    """Return the command that locks the environment whose lockfile has this path, as a shell takes it.

    A name may be any file's; and a spec that lies elsewhere than projects have theirs is named by its path.
    """
    name = name_from(path)
    specs = [f"{name}{end}" for end in (".yml", ".yaml")] if path.name.endswith(LOCK_SUFFIX) else []
    beside = next((spec for spec in specs if path.with_name(spec).is_file()), None)
    is_apart = beside is not None and path.absolute().parent.name != "environments"
    return f"envbox lock {shlex.quote(str(beside) if is_apart else name)}"


# --- reading: from a document to a lock ---------------------------------------------------------------------


def _parse(document: Mapping[str, Any], path: Path, faults: list[str]) -> Lock | None:
    metadata, entries = document.get("metadata"), document.get("package")
    if not isinstance(metadata, dict):
        faults.append("`metadata` is missing")
    if not isinstance(entries, list):
        faults.append("`package` is missing, or not a list")
    if not isinstance(metadata, dict) or not isinstance(entries, list):
        return None
    custom = read_texts(metadata.get("custom_metadata"), "metadata.custom_metadata", faults)
    platforms = _platforms(metadata.get("platforms"), faults)
    packages = read_packages(entries, platforms, faults)
    lock = Lock(
        name=name_from(path),
        platforms=platforms,
        channels=_channels(metadata.get("channels"), faults),
        content_hash=read_texts(metadata.get("content_hash"), "metadata.content_hash", faults),
        packages=packages,
        base=None,
        digest="",
        sources=_sources(metadata.get("sources"), faults),
    )
    lock = with_custom(lock, custom, faults)
    if not faults:
        _check_complete(lock, faults)
    return lock


def _platforms(value: object, faults: list[str]) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(p, str) for p in value):
        faults.append("`metadata.platforms` should be a list of platforms")
        return ()
    for platform in value:
        if platform not in PLATFORMS:
            faults.append(f"{shown(platform)} in `metadata.platforms` is not a conda platform")
    return tuple(sorted(set(value)))


def _channels(value: object, faults: list[str]) -> tuple[str, ...]:
    entries = value if isinstance(value, list) else [None]
    urls: list[Any] = [e.get("url") if isinstance(e, dict) else e for e in entries]
    if not all(isinstance(url, str) for url in urls):
        faults.append("`metadata.channels` should be a list of channels, each with a `url`")
        return ()
    try:
        return tuple(map(public_channel, urls))
    except ValueError:
        faults.append(f"`metadata.channels` has a URL whose host is none: {shown(urls)}")
        return ()


def _sources(value: object, faults: list[str]) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(s, str) for s in value):
        faults.append("`metadata.sources` should be a list of paths")
        return ()
    return tuple(value)


def _check_complete(lock: Lock, faults: list[str]) -> None:
    """Find what an edit, a merge or a cut took away: what is needed or was asked for, but is not locked."""
    names: dict[str, set[str]] = {platform: set() for platform in lock.platforms}
    for package in lock.packages:
        names[package.platform].add(package.name.lower() if package.manager == "conda" else "")
    for platform, found in names.items():
        if not found:
            faults.append(f"nothing is locked for {platform}")
    for platform, texts in lock.requested.items():
        asked = {
            m[1].lower() for text in texts if not text.startswith(PIP_PREFIX) and (m := _ASKED.match(text))
        }
        for name in sorted(n for n in asked - names.get(platform, asked) if not n.startswith("__")):
            faults.append(f"{name} was asked for, but is not locked for {platform}")
    for package in lock.packages:
        if package.manager == "conda":
            for name in package.depends:
                if not name.startswith("__") and name.lower() not in names[package.platform]:
                    faults.append(f"{package.name} needs {name}, which is not locked for {package.platform}")
