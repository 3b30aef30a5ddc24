"""A channel that falls silent, or sends without end, is given up and named, whatever it was saying.

rattler's client can only bound an answer as a whole, which has to be enough for the largest index on a slow
line; and it bounds no index's size once that is unpacked. So it is watched from outside, by what a process
can know of itself: how much its connections have brought, how busy it was, how much memory it has, and how
large what it writes to its cache has become. Nothing brought and nothing done: somebody is silent.

Layouts: tcp_info of linux/tcp.h, tcp_connection_info of macOS's netinet/tcp.h.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from envbox.errors import ToolError
from envbox.locks.solve.gateway import Channels, open_gateway
from envbox.mirrors import public
from envbox.settings import Settings

T = TypeVar("T")

LEAST = 1024
"""Bytes that all channels together bring within `timeout`, else they are silent: one byte each second is no
answer, and a modem of 1980 brought more."""
LARGEST_INDEX = 2 << 30
"""Bytes of one index, unpacked. conda-forge's largest, linux-64 with ten years of builds, has 0.4 GB."""
MOST_MEMORY = 3 << 30
"""Bytes of memory that reading indexes and solving may take: 450,000 records, read whole, take 0.7 GB."""
_BUSY = 0.05  # of one processor: a solver that works has more, also on a machine that others use
_PAUSE = 0.1  # seconds between two looks; zstd unpacks half a GB of nothing meanwhile
_COUNTS = {
    "linux": (11, 136, 128),
    "darwin": (0x106, 96, 88),
}  # option, length, where the bytes received stand


@dataclass(slots=True)
class Watch:
    """What this process has received and done since something last came of it.

    :param timeout: seconds
    """

    timeout: float
    _received: dict[int, int] = field(default_factory=dict)
    _bytes: int = 0
    _since: float = field(default_factory=time.monotonic)
    _busy: float = field(default_factory=time.process_time)

    def begin(self) -> None:
        """Count from now: somebody is asked for something."""
        self._bytes, self._since, self._busy = 0, time.monotonic(), time.process_time()

    def is_silent(self) -> bool:
        """Look, and say whether nothing has come and nothing was done for too long."""
        for connection, received in _connections():
            self._bytes += max(0, received - self._received.get(connection, 0))
            self._received[connection] = received
        if self._bytes >= LEAST or time.process_time() - self._busy >= _BUSY * self.timeout:
            self.begin()
        return time.monotonic() - self._since >= self.timeout


async def patient(work: Callable[[Any], Awaitable[T]], channels: Channels, settings: Settings) -> T:
    """Do some work with a gateway to channels.

    :raises ToolError: when a channel is silent, or its index is larger than any can be
    """
    import asyncio

    watch, memory, folder = Watch(settings.timeout), _memory(), settings.cache_dir / "repodata"
    before = _sizes(folder)
    gateway = open_gateway(channels, settings, watch.begin)
    watch.is_silent()  # what came before is not counted
    task = asyncio.ensure_future(work(gateway))
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=min(_PAUSE, settings.timeout / 4))
            if task.done() or settings.offline:
                continue
            if watch.is_silent():
                raise await _silent(channels, gateway, settings)
            grown = (size for name, size in _sizes(folder).items() if size != before.get(name))
            if _memory() - memory > MOST_MEMORY or max(grown, default=0) > LARGEST_INDEX:
                raise await _endless(channels, gateway)
    finally:
        task.cancel()
    return task.result()


async def _silent(channels: Channels, gateway: Any, settings: Settings) -> ToolError:
    names = ", ".join(await _waited_for(channels, gateway))
    return ToolError(
        f"the channel {names} does not answer (waited for {settings.timeout:g} s)",
        "check the network; a mirror can be set under [mirrors] in envbox.toml, and more patience as "
        "`timeout`",
    )


async def _endless(channels: Channels, gateway: Any) -> ToolError:
    names = ", ".join(await _waited_for(channels, gateway))
    return ToolError(
        f"the index of the channel {names} is larger than {LARGEST_INDEX >> 30} GiB when it is unpacked, or "
        f"takes more than {MOST_MEMORY >> 30} GiB of memory; no channel is that large",
        "ask who runs the channel; a mirror can be set under [mirrors] in envbox.toml",
    )


async def _waited_for(channels: Channels, gateway: Any) -> list[str]:
    """Return the channels that do not answer; all of them, where each has said which packages it has.

    To ask for what is asked for already sends nothing: it waits with the others, or has it at once.
    """
    import asyncio

    from rattler import Channel

    async def is_there(channel: str) -> bool:
        asking = gateway.names([Channel(channel)], channels.subdirs, channel_relations="disabled")
        with suppress(Exception):  # one that fails has answered
            await asyncio.wait_for(asking, 0.5)
            return True
        return False

    there = await asyncio.gather(*map(is_there, channels.names))
    waiting = [c for c, answered in zip(channels.names, there, strict=True) if not answered]
    return [public(channel) for channel in waiting or channels.names]


def _connections() -> Iterator[tuple[int, int]]:
    """Return this process' connections, each with the bytes that it has received."""
    known = _COUNTS.get(sys.platform)
    if known is None:
        return
    option, length, place = known
    for handle in _handles():
        with suppress(OSError, struct.error):
            found = os.fstat(handle)
            if stat.S_ISSOCK(found.st_mode):
                one = socket.socket(fileno=handle)
                try:
                    told = one.getsockopt(socket.IPPROTO_TCP, option, length)
                finally:
                    one.detach()
                yield found.st_ino or handle, struct.unpack_from("=Q", told, place)[0]


def _handles() -> Iterable[int]:
    try:
        return [int(name) for name in os.listdir("/dev/fd")]  # noqa: PTH208 - a Path for each takes longer
    except OSError:
        return ()


def _memory() -> int:
    """Return the bytes of memory that are this process' own; 0 where nothing tells."""
    with suppress(OSError, ValueError, IndexError):
        resident, shared = Path("/proc/self/statm").read_text(encoding="ascii").split()[1:3]
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _sizes(folder: Path) -> dict[str, int]:
    """Return the bytes of each file in a folder."""
    found = {}
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):
                found[entry.name] = entry.stat(follow_symlinks=False).st_size
    return found
