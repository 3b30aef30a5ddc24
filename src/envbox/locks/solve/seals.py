"""Channels' indexes in the cache are what was put there, or are fetched anew.

rattler takes what it finds in its cache as it is: shards lie there unpacked, under the hash of what was
packed, and of a whole index only the size and the time are looked at. So a bit that flips on the disk would
end up in a lockfile. Here what rattler has put there is hashed once, when it came, into a log of lines that
are only ever added to; and before it is used again it is held against that. What is not in the log, of a
process that was killed, is fetched anew where that can be.

Names: rattler_repodata_gateway (url_to_cache_filename, `.shards-cache-v1`, `shards-v1`).
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from envbox.errors import ToolError
from envbox.files import discard_folder, disk_error, write_whole

LOG = "seals"
FEW = 1000
"""Shards that are hashed sooner than it is found out which of them the indexes name, of 20,000 names each."""
_LONGEST_LOG = 1 << 20  # bytes; beyond, what is told twice or of files that are gone is left out
_SHARD = re.compile(rb"\xc4\x20(.{32})", re.DOTALL)  # a sha256, as msgpack has it in an index of shards
_NAME = re.compile(r"shards-v1/([0-9a-f]{64})\.msgpack")
_LINE = re.compile(r"([0-9a-f]{64}) (\S+)")
_BLOCK = 1 << 20  # bytes


class Seals:
    """What is kept of some channels' subdirs."""

    def __init__(self, folder: Path, subdirs: Iterable[str], is_offline: bool = False) -> None:
        """Look at what there is.

        :param folder: rattler's cache of indexes
        :param subdirs: addresses, as rattler is told them, each with a slash at its end
        :param is_offline: whether what is not in the log has to do
        """
        self._folder, self._is_offline = folder, is_offline
        self._indexes = [name for subdir in subdirs for name in _index_names(subdir)]
        self._log = _read_log(folder / LOG)
        self._there = _shards(folder)
        self._sound: set[str] = set()
        self._read: dict[tuple[str, int, int], frozenset[bytes]] = {}

    def discard_unsound(self) -> bool:
        """Remove what is not what was put there; whether there was any.

        :raises ToolError: when it cannot be removed
        """
        indexes = [name for name in self._indexes if self._is_unsound(name)]
        for name in indexes:
            self._discard(name)
        live = [name for name in self._live() if name in self._there]
        shards = [name for name in live if self._is_unsound(name)]
        for name in shards:
            self._discard(name)
        self._sound = set(live) - set(shards)
        return bool(indexes or shards)

    def _discard(self, name: str) -> None:
        try:
            _remove(self._folder / name)
        except ToolError:
            if name in self._log:  # else it was there before there was a log, in a cache that is read only
                raise

    def seal(self) -> bool:
        """Put down what rattler has made of it; whether all that it may have read was sound.

        :returns: False when an index that came now names what lay there before and is not sound; it is gone
        """
        live = self._live()
        before = [name for name in live if name in self._there and name not in self._sound]
        unsound = [name for name in before if self._is_unsound(name)]
        for name in unsound:
            _remove(self._folder / name)
        added = {}
        for name in [*self._indexes, *(n for n in live if n not in self._there)]:
            digest = _digest(self._folder / name)
            if digest and self._log.get(name) != digest:
                added[name] = digest
        self._log |= added
        with suppress(OSError):  # a cache that is read only: what is there stays as it is
            _append(self._folder / LOG, added)
        return not unsound

    def _is_unsound(self, name: str) -> bool:
        digest, sealed = _digest(self._folder / name), self._log.get(name)
        if digest and sealed is None and self._is_offline:
            return False
        return digest is not None and sealed != digest

    def _live(self) -> list[str]:
        """Return the shards that are there and that the indexes name; all, where they are few."""
        there = {bytes.fromhex(m[1]): name for name in _shards(self._folder) if (m := _NAME.fullmatch(name))}
        if len(there) <= FEW:
            return list(there.values())
        found: dict[str, None] = {}
        for index in self._indexes:
            if index.endswith(".shards-cache-v1"):
                named = self._named(self._folder / index)
                found |= dict.fromkeys(name for digest, name in there.items() if digest in named)
        return list(found)

    def _named(self, index: Path) -> frozenset[bytes]:
        """Return the shards that an index names."""
        try:
            told = index.lstat()
            if not stat.S_ISREG(told.st_mode):
                return frozenset()
            key = index.name, told.st_mtime_ns, told.st_size
            if key not in self._read:
                self._read[key] = frozenset(_SHARD.findall(index.read_bytes()))
            return self._read[key]
        except OSError:
            return frozenset()


def _index_names(subdir: str) -> Iterator[str]:
    """Yield the files of a subdir's index in rattler's cache."""
    yield f"{_key(subdir + 'repodata_shards.msgpack.zst/')}.shards-cache-v1"
    whole = _key(subdir.rstrip("/"))
    yield f"{whole}.json"
    yield f"{whole}.info.json"


def _key(address: str) -> str:
    return hashlib.md5(address.encode(), usedforsecurity=False).hexdigest()[:8]


def _shards(folder: Path) -> set[str]:
    try:
        return {f"shards-v1/{path}" for path in os.listdir(folder / "shards-v1")}  # noqa: PTH208 - thousands
    except OSError:
        return set()


def _digest(path: Path) -> str | None:
    """Return the sha256 of a file; "": it is none, or cannot be read; None: it is not there."""
    found = hashlib.sha256()
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return ""
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                found.update(block)
    except FileNotFoundError:
        return None
    except OSError:
        return ""
    return found.hexdigest()


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            discard_folder(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise disk_error(path, error) from error


def _read_log(path: Path) -> dict[str, str]:
    if not path.is_file() or path.is_symlink():
        if os.path.lexists(path):
            _remove(path)
        return {}
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}
    lines = (_LINE.fullmatch(line) for line in text.splitlines())
    found = {line[2]: line[1] for line in lines if line}
    if len(text) > _LONGEST_LOG:
        kept = {name: digest for name, digest in found.items() if (path.parent / name).exists()}
        with suppress(ToolError):
            write_whole(path, _lines(kept))
    return found


def _lines(seals: dict[str, str]) -> bytes:
    return "".join(f"{digest} {name}\n" for name, digest in seals.items()).encode()


def _append(path: Path, seals: dict[str, str]) -> None:
    if seals:
        with path.open("ab") as file:
            file.write(b"\n" + _lines(seals))  # what a killed process had begun is a line of its own
