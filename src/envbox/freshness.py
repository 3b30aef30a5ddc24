"""Whether a lockfile still is what its spec asks for: checked without a solve and without the network.

The content hash alone misses what was edited in the lockfile, and what is set outside of the spec; so each
match spec is held against what is locked, and the base, channels and variables are compared. Every command
that launches asks this first, so the answer is remembered under everything it depends on, and asking again
reads three files and imports nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from envbox import __version__
from envbox.errors import SpecError
from envbox.files import write_whole
from envbox.lockfile import Lock, LockedPackage
from envbox.mirrors import without_credentials
from envbox.project import Environment
from envbox.settings import EnvironmentSettings, Settings
from envbox.spec import EnvSpec, read_spec

FORMAT = 1
"""Raise it when the same spec, lockfile and settings are judged in another way."""


def is_fresh(environment: Environment, settings: Settings) -> bool:
    """Whether the lockfile is there and is what the spec asks for.

    :raises SpecError: when the spec cannot be read
    :raises LockfileError: when the lockfile is damaged
    """
    return environment.lock_path.is_file() and not differences(environment, settings)


def differences(environment: Environment, settings: Settings) -> tuple[str, ...]:
    """What the spec and the settings ask for that the lockfile does not have, a line each.

    :raises SpecError: when the spec cannot be read
    :raises LockfileError: when the lockfile is missing or damaged
    """
    memo = settings.cache_dir / "fresh" / _key(environment, settings)
    known = _remembered(memo)
    if known is not None:
        return known
    from envbox.lockfile.conda_lock_v1 import read_lockfile

    lock = read_lockfile(environment.lock_path)
    spec = read_spec(environment.spec_path, lock.platforms, settings)
    found = tuple(_compare(spec, lock, settings.for_environment(environment.name)))
    write_whole(memo, json.dumps(found).encode())
    return found


def remember_fresh(environment: Environment, settings: Settings) -> None:
    """Spare the next command the check of a lockfile that was just made from the spec."""
    write_whole(settings.cache_dir / "fresh" / _key(environment, settings), b"[]")


def _key(environment: Environment, settings: Settings) -> str:
    digest = hashlib.sha256()
    own = settings.for_environment(environment.name)
    said = (FORMAT, __version__, own.base, own.slim, settings.platforms, settings.channels)
    digest.update(repr(said).encode())
    for path in (environment.spec_path, environment.lock_path):
        digest.update(b"\0" + hashlib.sha256(_bytes(path)).digest())
    return digest.hexdigest()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""  # the one who reads it says so in words
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror}") from error


def _remembered(memo: Path) -> tuple[str, ...] | None:
    try:
        return tuple(json.loads(memo.read_bytes()))
    except (OSError, ValueError):
        return None  # never asked, or not ours: then it is worked out


# --- the comparison -----------------------------------------------------------------------------------------


def _compare(spec: EnvSpec, lock: Lock, own: EnvironmentSettings) -> Iterator[str]:
    from envbox.registry.reference import parse_reference
    from envbox.spec import content_hashes

    for platform in spec.named:
        if platform not in lock.platforms:
            yield f"{platform} is not locked"
    channels = tuple(without_credentials(c) if "://" in c else c for c in spec.channels)
    if channels != lock.channels:
        yield f"the channels are {', '.join(channels)}; locked with {', '.join(lock.channels)}"
    if lock.base is None:
        yield "no base is pinned"
    elif own.base is not None and lock.base.reference != str(parse_reference(own.base)):
        yield f"the base is {own.base}; locked for {lock.base.reference}"
    if own.slim != lock.slim:
        yield f"slim leaves out {_words(own.slim)}; locked with {_words(lock.slim)} left out"
    if dict(spec.variables) != dict(lock.variables):
        yield "the variables differ"
    hashes = content_hashes(spec)
    for platform in lock.platforms:
        unmet = list(_unmet(spec.conda[platform], lock.for_platform(platform)))
        yield from (f"{platform}: {words}" for words in unmet)
        if not unmet and hashes[platform] != lock.content_hash.get(platform):
            yield f"{platform}: the spec has changed"


def _words(kinds: Sequence[str]) -> str:
    return ", ".join(kinds) or "nothing"


def _unmet(specs: Sequence[str], packages: Sequence[LockedPackage]) -> Iterator[str]:
    """The match specs that what is locked does not satisfy."""
    locked = {p.name: p for p in packages if p.manager == "conda"}
    for text in specs:
        from envbox.solve.match_specs import parse_match_spec

        match_spec = parse_match_spec(text)
        package = locked.get(match_spec.name.normalized)
        if package is None:
            yield f"{text} is not locked"
        elif not _matches(match_spec, package):
            yield f"{text} is asked for, {package.version} {package.build} is locked"


def _matches(match_spec: object, package: LockedPackage) -> bool:
    from rattler import PackageRecord
    from rattler.package import BuildString

    build = package.build or ""
    number = re.search(r"_(\d+)$", build) or re.search(r"(\d+)$", build)
    record = PackageRecord(
        package.name, package.version, BuildString.new_unchecked(build), int(number[1]) if number else 0,
        package.subdir, sha256=bytes.fromhex(package.sha256), md5=bytes.fromhex(package.md5 or "") or None,
    )  # fmt: skip
    channel = getattr(match_spec, "channel", None)
    if channel is not None and without_credentials(channel.base_url).rstrip("/") != package.channel:
        return False
    return bool(record.matches(match_spec))
