"""Asking channels: what they have is sound where it is in the cache, and nobody waits for ever.

Whoever asks channels for anything does it here, whatever is asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from envbox.errors import EnvboxError
from envbox.locks.solve.gateway import Channels
from envbox.locks.solve.match_specs import channel_url
from envbox.locks.solve.seals import Seals
from envbox.locks.solve.silent_channels import patient
from envbox.settings import Settings

T = TypeVar("T")

_MOST_ROUNDS = 3  # an index that comes anew may name what is damaged; then all of that is gone


async def ask_channels(channels: Channels, work: Callable[[Any], Awaitable[T]], settings: Settings) -> T:
    """Do some work with a gateway to channels; once more, where it was done with what was damaged.

    :raises ToolError: when a channel is silent, or the cache cannot be written
    :raises SettingsError: when the certificates that are named cannot be used
    """
    subdirs = [
        f"{channel_url(name).rstrip('/')}/{subdir}/" for name in channels.names for subdir in channels.subdirs
    ]
    rounds = 0
    while True:
        rounds += 1
        seals = Seals(settings.cache_dir / "repodata", subdirs, settings.offline)
        was_damaged = seals.discard_unsound()
        try:
            found = await patient(work, channels, settings)
        except Exception as error:
            if seals.seal() or rounds == _MOST_ROUNDS:
                raise _told(error, was_damaged and settings.offline) from error
        else:
            if seals.seal() or rounds == _MOST_ROUNDS:
                return found


def _told(error: Exception, was_damaged: bool) -> Exception:
    if not was_damaged or not isinstance(error, EnvboxError):
        return error
    return type(error)(f"{error.message} (what was there was damaged, and is removed)", error.hint)
