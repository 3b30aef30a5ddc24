"""What specs and lockfiles ask for: where their packages are from, the base, variables that lead elsewhere.

The difficulty is to see at least what every other reader of the same file will see. So a spec is looked at
with all its dependencies, whatever their selectors, and with the requirement files that it names; of its YAML
every key counts, also one that is there twice. A lockfile that is not of the one shape that
envbox writes is not understood at all here: whatever looks like an address in it counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from envbox import __version__
from envbox.files import decoded
from envbox.lockfile.plain import read_plain
from envbox.locks.spec.nodes import mapping, pairs, readings, requirement_files, scalars
from envbox.trust import Ask, united
from envbox.trust.addresses import Own, address_asks, base_asks, channel_asks, dependency_asks
from envbox.trust.variables import variable_asks

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")
_BASE, _VARIABLES = "envbox.base", "envbox.variables"


FORMAT = 3
"""Raise it when the same files ask for something else."""


def content_asks(spec: Path, locks: Sequence[Path], own: Own, place: Path) -> tuple[Ask, ...]:
    """Return what a spec and its lockfiles ask for, worked out once for the same bytes.

    :param place: the user's folder of allowances, where that is kept
    """
    from envbox.trust import allowances as allowing

    paths = (spec, *locks, *(file for found in requirement_files(spec) for file in found.files))
    names = [path.name for path in paths]
    said = [FORMAT, __version__, own.known, names, [_digest(path) for path in paths]]
    key = sha256(repr(said).encode(errors="surrogateescape")).hexdigest()
    found = allowing.recall(place, key)
    if found is None:
        found = united([*spec_asks(spec, own), *(one for path in locks for one in lock_asks(path, own))])
        allowing.keep(place, key, found)
    return found


def _digest(path: Path) -> str | None:
    try:
        return sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    except OSError:
        return None


def spec_asks(path: Path, own: Own) -> Iterator[Ask]:
    """Yield what a spec asks for; nothing where there is none, or none that can be used."""
    for text in readings(path):
        for key, value in pairs(text):
            for scalar in scalars(value):
                if key == "channels":
                    yield from channel_asks(scalar, own)
                elif key == "pip-repositories":
                    yield from address_asks(scalar, own)
                elif key == "dependencies":
                    yield from dependency_asks(scalar, own)
            if key == "variables":
                yield from variable_asks(dict(mapping(value)), path.name)
    for found in requirement_files(path):
        for line in (*found.lines, *found.constraints):
            yield from dependency_asks(line.text, own)


def lock_asks(path: Path, own: Own) -> Iterator[Ask]:
    """Yield what a lockfile asks for, whichever tool wrote it; nothing where there is none."""
    try:
        data = path.read_bytes() if path.is_file() else b""  # a pipe would be waited for
    except OSError:
        return
    document = read_plain(data)
    if document is None:
        yield from _any_asks(data, path, own)
        return
    metadata = document["metadata"]
    channels = metadata.get("channels")
    for channel in channels if isinstance(channels, list) else []:
        name = channel.get("url") if isinstance(channel, dict) else channel
        yield from channel_asks(str(name), own)
    urls = {_folder_of(entry["url"]): entry["url"] for entry in document["package"]}
    for url in urls.values():  # one of each folder
        yield from address_asks(url, own)
    yield from _custom_asks(metadata.get("custom_metadata"), path, own)


def _folder_of(url: str) -> str:
    """Return the folder that answers for a package's address; itself, where more than its name counts."""
    return url if re.search(r"[$?#%\\]", url) else url.rpartition("/")[0]


def _custom_asks(custom: object, path: Path, own: Own) -> Iterator[Ask]:
    said = custom if isinstance(custom, dict) else {}
    base, variables = said.get(_BASE), said.get(_VARIABLES)
    yield from base_asks(None if base is None else str(base), own)
    try:
        found = json.loads(variables) if isinstance(variables, str) else None
    except (ValueError, RecursionError):
        found = None
    yield from variable_asks(found if isinstance(found, dict) else {}, path.name)


def _any_asks(data: bytes, path: Path, own: Own) -> Iterator[Ask]:
    """Yield what a file of another shape asks for, by whatever in it could be an address."""
    try:
        text = decoded(data)
    except UnicodeDecodeError:
        text = data.decode(errors="replace")
    keys = list(pairs(text, is_deep=True))
    is_yaml = bool(keys) and "@EXPLICIT" not in text
    urls = [] if is_yaml else _URL.findall(text)  # of an explicit file, or one that is damaged
    for key, value in keys:
        found = list(scalars(value, has_keys=False))
        urls += [url for scalar in (key, *found) for url in _URL.findall(scalar)]
        if key in ("channel", "channels", "url"):  # a channel by its name
            for name in found:
                yield from channel_asks(name, own) if re.fullmatch(r"[\w./-]+", name) else ()
        elif key == "dependencies":
            for name in found:
                yield from dependency_asks(name, own) if name.count(":") > 1 else ()
        elif key == "custom_metadata":
            yield from _custom_asks(dict(mapping(value)), path, own)
        elif key == "variables":
            yield from variable_asks(dict(mapping(value)), path.name)
    for url in dict.fromkeys(urls):
        yield from address_asks(url.rstrip(",;)]}"), own)
