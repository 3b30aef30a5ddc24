"""Whether a lockfile still is what its spec asks for: checked without a solve and without the network.

The content hash alone misses what was edited in the lockfile, and what is set outside of the spec; so each
match spec is held against what is locked, and the base, channels and variables are compared. Every command
that launches asks this first, so the answer is remembered under everything it depends on, and asking again
reads three files and imports nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envbox import __version__
from envbox.cache import Memo
from envbox.errors import SpecError
from envbox.project import Environment
from envbox.settings import EnvironmentSettings, Settings

if TYPE_CHECKING:
    from envbox.lockfile import Lock
    from envbox.locks.freshness.content_hash import Asked

FORMAT = 3
"""Raise it when the same spec, lockfile and settings are judged in another way."""
_MAY_NAME_FILES = re.compile(rb"-[rc-]|\\|\0")  # as `spec.nodes` has it, of text in UTF-16 too
CHANGED = "the spec has changed"
"""What is said when only the hash tells."""


def is_fresh(environment: Environment, settings: Settings) -> bool:
    """Return whether the lockfile is there and is what the spec asks for.

    :raises SpecError: when the spec cannot be read
    :raises LockfileError: when the lockfile is damaged
    """
    return environment.lock_path.is_file() and not differences(environment, settings)


def differences(environment: Environment, settings: Settings) -> tuple[str, ...]:
    """Return what the spec and the settings ask for that the lockfile does not have, a line each.

    :raises SpecError: when the spec cannot be read
    :raises LockfileError: when the lockfile is missing or damaged
    """
    memo = _memo(environment, settings)
    known = memo.read()
    if known is not None:
        return known
    from envbox.lockfile.conda_lock_v1 import read_lockfile
    from envbox.locks.solve.request import policy_differences

    lock = read_lockfile(environment.lock_path)
    told = policy_differences(lock, settings, settings.for_environment(environment.name))
    found = (*_found(environment, lock, settings), *told)
    memo.write(found)
    return found


def _found(environment: Environment, lock: Lock, settings: Settings) -> Sequence[str]:
    """Return the differences, by the quick way if that can tell."""
    from envbox.locks.freshness.content_hash import read_asked, read_quickly

    own = settings.for_environment(environment.name)
    quick = read_quickly(environment.spec_path, lock.platforms, settings)
    if quick is not None:
        found = tuple(_compare(quick, lock, own))
        if not any(words.endswith(CHANGED) for words in found):
            return found
    return tuple(_compare(read_asked(environment.spec_path, lock.platforms, settings), lock, own))


def remember_fresh(environment: Environment, settings: Settings) -> None:
    """Spare the next command the check of a lockfile that was just made from the spec."""
    _memo(environment, settings).write(())


def _memo(environment: Environment, settings: Settings) -> Memo[tuple[str, ...]]:
    return Memo(settings.cache_dir / "fresh" / _key(environment, settings), _lines, list)


def _lines(known: Any) -> tuple[str, ...]:
    if not all(isinstance(line, str) for line in known):
        raise TypeError
    return tuple(known)


def _key(environment: Environment, settings: Settings) -> str:
    digest = hashlib.sha256()
    own = settings.for_environment(environment.name)
    solve = (own.cuda, settings.exclude_newer)
    said = (FORMAT, __version__, own.base, own.slim, settings.platforms, settings.channels, solve)
    digest.update(repr(said).encode())
    for path in (environment.spec_path, environment.lock_path, *_named_files(environment.spec_path)):
        digest.update(b"\0" + hashlib.sha256(_bytes(path)).digest())
    return digest.hexdigest()


def _named_files(spec: Path) -> Iterator[Path]:
    """Yield the requirement files that a spec names; most name none, and nothing is imported for those."""
    if _MAY_NAME_FILES.search(_bytes(spec)):
        from envbox.locks.spec.nodes import requirement_files

        yield from (file for found in requirement_files(spec) for file in found.files)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""  # the one who reads it says so in words
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror}") from error


# --- the comparison -----------------------------------------------------------------------------------------


def _compare(asked: Asked, lock: Lock, own: EnvironmentSettings) -> Iterator[str]:
    from envbox.mirrors import public_channel

    for platform in asked.named:
        if platform not in lock.platforms:
            yield f"{platform} is not locked"
    channels = tuple(map(public_channel, asked.channels))
    if channels != lock.channels:
        yield f"the channels are {', '.join(channels)}; locked with {', '.join(lock.channels)}"
    if lock.base is None:
        yield "no base is pinned"
    elif own.base not in (None, lock.base.reference) and lock.base.reference != _canonical(own.base):
        yield f"the base is {own.base}; locked for {lock.base.reference}"
    if own.slim != lock.slim:
        yield f"slim leaves out {_words(own.slim)}; locked with {_words(lock.slim)} left out"
    if dict(asked.variables) != dict(lock.variables):
        yield "the variables differ"
    by_words: dict[str, list[str]] = {}
    for platform in lock.platforms:
        for words in _of_platform(asked, lock, platform):
            by_words.setdefault(words, []).append(platform)
    yield from (f"{', '.join(platforms)}: {words}" for words, platforms in by_words.items())


def _of_platform(asked: Asked, lock: Lock, platform: str) -> list[str]:
    from envbox.locks.freshness.requirements import broken, unmet, unmet_wheels
    from envbox.locks.solve.request import virtual_packages

    packages = lock.for_platform(platform)
    cuda = lock.virtual.get(platform, {}).get("__cuda")
    system = virtual_packages(platform, lock.base, cuda)
    found = [*unmet(asked.conda[platform], packages, system), *unmet_wheels(asked.pip[platform], packages)]
    if not found and asked.hashes[platform] != lock.content_hash.get(platform):
        found = list(_moved(asked, lock, platform)) or [CHANGED]
    return [*found, *broken(packages)]


def _moved(asked: Asked, lock: Lock, platform: str) -> Iterator[str]:
    """Yield what was asked for when it was locked, and is not now, and the other way round."""
    from envbox.lockfile.custom import PIP_PREFIX

    now = {*asked.conda[platform], *(PIP_PREFIX + text for text in asked.pip[platform])}
    then = {*lock.requested.get(platform, now)}
    yield from (f"{CHANGED}: {text} is asked for, and was not" for text in sorted(now - then))
    yield from (f"{CHANGED}: {text} was asked for, and is not now" for text in sorted(then - now))


def _canonical(reference: str) -> str:
    from envbox.registry.reference import parse_reference

    return str(parse_reference(reference))


def _words(kinds: Sequence[str]) -> str:
    return ", ".join(kinds) or "nothing"
