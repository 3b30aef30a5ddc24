"""Which settings of a project are asks. Each key has its rule here, or stands among those that need none.

A setting without a rule is refused by a test, so that a new one cannot take effect by being forgotten.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from envbox.image_paths import HOME, PREFIX
from envbox.sessions.launch.bindings import is_named, split_volume
from envbox.settings import EnvironmentSettings, Layers
from envbox.trust import Ask, ask, plain
from envbox.trust.addresses import Own, address_asks, base_asks, channel_asks, mirror_asks
from envbox.trust.content import spec_asks
from envbox.trust.variables import env_file_asks, variable_asks

NO_ASK = frozenset({
    "platforms", "environment", "jobs", "offline", "exclude_newer", "timeout",
    "cache_dir", "trust_python",  # never a project's: its files are refused that say them
})  # fmt: skip
"""Settings that stay inside the project, whatever their value."""
NO_ENVIRONMENT_ASK = frozenset({
    "command", "memory", "cpus", "gpus", "slim", "cuda",
    "ports",  # on the loopback address, or not at all
    "pythonpath",  # folders of the project alone, in sessions that run the project's code anyway
})  # fmt: skip
_NETWORKS = ("none", "bridge", "default")
_SYSTEMS = (
    PREFIX, HOME, "/opt/conda", "/root", "/etc", "/usr", "/bin", "/sbin", "/lib", "/lib64", "/run",
    "/var/run", "/proc", "/sys", "/dev",
)  # fmt: skip
_WHOLE = ("/", "/etc", "/home", "/root", "/run", "/usr", "/var", "/proc", "/sys", "/dev")


@dataclass(frozen=True, slots=True)
class Place:
    """The project that asks.

    :param root: its directory
    :param own: what is its user's own
    """

    root: Path
    own: Own

    def reached(self, path: Path) -> Path | None:
        """Return where a path leads, if that is outside the project, through whatever links there are."""
        try:
            real = Path(os.path.realpath(path))
        except ValueError:  # no path can be like this
            return path
        return None if real.is_relative_to(os.path.realpath(self.root)) else real

    def path(self, written: str) -> Path:
        """Return a path as the project's file has it."""
        try:
            return self.root / Path(written).expanduser()
        except RuntimeError:  # the home of somebody who is not known here
            return self.root / written

    def name(self, real: Path, written: str) -> str:
        """Return a path outside, as a digest counts it: the same in every clone where it was written so."""
        home = Path.home()
        if written.startswith("~") and real.is_relative_to(home):
            return f"~/{real.relative_to(home)}"
        if Path(written).is_absolute():
            return str(real)
        return os.path.relpath(real, os.path.realpath(self.root))


def settings_asks(layers: Layers, place: Place) -> Iterator[Ask]:
    """Yield what the settings of a project ask for, without those of its environments."""
    for key, value in layers.project.items():
        if key in RULES and key not in place.own.keys - {"mirrors"} and value != place.own.said.get(key):
            yield from RULES[key](value, place)


def table_asks(name: str, table: EnvironmentSettings, place: Place) -> Iterator[Ask]:
    """Yield what the table of one environment asks for."""
    for key, rule in ENVIRONMENT_RULES.items():
        value = getattr(table, key)
        if value:
            yield from rule(value, place, f"[environments.{plain(name)}]")


# --- of the project -----------------------------------------------------------------------------------------


def _channels(value: Iterable[str], place: Place) -> Iterator[Ask]:
    for channel in value:
        yield from channel_asks(channel, place.own)


def _indexes(value: Iterable[str], place: Place) -> Iterator[Ask]:
    for url in value:
        yield from address_asks(url, place.own)


def _mirrors(value: Mapping[str, str], place: Place) -> Iterator[Ask]:
    for prefix, target in sorted(value.items()):
        yield from mirror_asks(prefix, target, place.own)


def _mapping_url(value: str, place: Place) -> Iterator[Ask]:
    del place
    yield ask(f"takes the names of packages from {plain(value)}", "mapping_url", value)


def _ca_bundle(value: Path, place: Place) -> Iterator[Ask]:
    words = f"believes whatever server has a certificate by {plain(str(value))}"
    yield ask(words, "ca_bundle", place.name(value, os.path.relpath(value, place.root)), _content(value))


def _jupyter(value: Path, place: Place) -> Iterator[Ask]:
    words = f"puts a Jupyter of its own, by {plain(str(value))}, beside environments that have none"
    name = place.name(value, os.path.relpath(value, place.root))
    yield ask(words, "jupyter", name, _content(value), use="launch")
    yield from spec_asks(value, place.own)


def _engine(value: str, place: Place) -> Iterator[Ask]:
    del place
    if value == "host":
        yield ask("runs on this machine itself, without a container", "engine", value, use="launch")


def _own_path(value: bool, place: Place) -> Iterator[Ask]:
    del place
    if value:
        words = "uses environments at a path in the cache, without a mount of their own"
        yield ask(words, "own_path", use="launch")


def _base(value: str, place: Place) -> Iterator[Ask]:
    yield from base_asks(value, place.own)


RULES: Mapping[str, Callable[[Any, Place], Iterator[Ask]]] = {
    "base": _base,
    "channels": _channels,
    "mirrors": _mirrors,
    "mapping_url": _mapping_url,
    "extra_index_urls": _indexes,
    "ca_bundle": _ca_bundle,
    "jupyter": _jupyter,
    "engine": _engine,
    "own_path": _own_path,
}


# --- of one environment -------------------------------------------------------------------------------------


def _own_base(value: str, place: Place, table: str) -> Iterator[Ask]:
    del table
    yield from base_asks(value, place.own)


def _env(value: Mapping[str, str], place: Place, table: str) -> Iterator[Ask]:
    del place
    yield from variable_asks(value, table)


def _env_file(value: str, place: Place, table: str) -> Iterator[Ask]:
    path = place.path(value)
    real = place.reached(path)
    if real is not None:
        words = f"gives its sessions what is in {plain(str(real))} ({table})"
        yield ask(words, "env_file", place.name(real, value), use="launch")
        return
    try:
        text = path.read_text(encoding="utf-8-sig", errors="replace") if path.is_file() else ""
    except OSError:
        return  # who reads it next says so in words
    yield from env_file_asks(text, plain(value))


def _volumes(value: Iterable[str], place: Place, table: str) -> Iterator[Ask]:
    for text in value:
        parts = split_volume(text)
        if parts is None:
            continue  # refused, when it is to be mounted
        source, target, options = parts
        how = "to be read" if "ro" in options.split(",") else "writable"
        if is_named(source):
            words = f"mounts the engine's volume {source} at {plain(target)}, {how} ({table})"
            yield ask(words, "volume", source, target, options, use="launch")
            continue
        real = place.reached(place.path(source))
        if real is None and _is_systems(target):
            words = f"puts its own {plain(source)} over {plain(target)} in its containers ({table})"
            yield ask(words, "over", source, target, use="launch")
        elif real is not None:
            words = f"mounts {plain(str(real))}{_meaning(real)} at {plain(target)}, {how} ({table})"
            yield ask(words, "mount", place.name(real, source), target, options, use="launch")


def _is_systems(target: str) -> bool:
    """Return whether a path in a container is one where programs, or the configuration of a server, are."""
    path = os.path.normpath("/" + target.lstrip("/"))
    return any(path == one or path.startswith(f"{one}/") for one in _SYSTEMS) or path == "/"


def _meaning(real: Path) -> str:
    try:
        if stat.S_ISSOCK(real.stat().st_mode):
            return " (a socket: whoever listens there, such as an engine, obeys)"
    except (OSError, ValueError):
        return ""
    return " (your machine, not only your project)" if str(real) in _WHOLE or real == Path.home() else ""


def _network(value: str, place: Place, table: str) -> Iterator[Ask]:
    del place
    if value in _NETWORKS:
        return
    whose = {"host": "this machine's own network, with all that listens on it"}
    words = f"joins {whose.get(value, f'the network {plain(value)}')} ({table})"
    yield ask(words, "network", value, use="launch")


ENVIRONMENT_RULES: Mapping[str, Callable[[Any, Place, str], Iterator[Ask]]] = {
    "base": _own_base,
    "env": _env,
    "env_file": _env_file,
    "volumes": _volumes,
    "network": _network,
}


def _content(path: Path) -> str | None:
    """Return the digest of a file's bytes; of a folder's files, by their names; None of what cannot be
    read.
    """
    try:
        if not path.is_dir():
            return sha256(path.read_bytes()).hexdigest() if path.is_file() else None
        files = sorted(p for p in path.iterdir() if p.is_file())
        return sha256(
            repr([(p.name, sha256(p.read_bytes()).hexdigest()) for p in files]).encode()
        ).hexdigest()
    except OSError:
        return None
