"""A channel that takes the call and says nothing is given up after `timeout`, and named.

rattler's client can only bound an answer as a whole, which has to be enough for the largest index on a slow
line, and then asks again. So when nothing has come for a while, the channels are asked for something small
beside it: who answers that is slow, and waited for; who does not is silent.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from envbox.credentials import read_logins
from envbox.errors import ToolError
from envbox.mirrors import public
from envbox.settings import Settings
from envbox.solve.match_specs import channel_url

T = TypeVar("T")


async def patient(
    work: Awaitable[T], asked: Sequence[str], addresses: Sequence[str], settings: Settings
) -> T:
    """Wait for what the channels are asked for.

    :param asked: the channels, without logins
    :param addresses: of channels as the spec has them, maybe with logins
    :raises ToolError: when a channel is silent
    """
    import asyncio

    task = asyncio.ensure_future(work)
    while not task.done():
        await asyncio.wait({task}, timeout=settings.timeout)
        if task.done() or settings.offline:
            continue
        silent = await asyncio.to_thread(_silent, asked, addresses, settings)
        if silent and not task.done():
            task.cancel()
            raise ToolError(
                f"the channel {', '.join(silent)} does not answer (waited for {settings.timeout:g} s)",
                "check the network; a mirror can be set under [mirrors] in envbox.toml, and more patience as "
                "`timeout`",
            )
    return task.result()


def _silent(asked: Sequence[str], addresses: Sequence[str], settings: Settings) -> list[str]:
    import requests

    from envbox.transport import Transport

    logins = read_logins(os.environ, [*addresses, *settings.mirrors.rules.values()])
    transport = Transport(settings, logins)
    found = []
    for channel in asked:
        place = settings.mirrors.rewrite(channel_url(channel).rstrip("/"))
        if not place.startswith("http"):
            continue
        try:
            transport.get(f"{place}/noarch/repodata.json.zst").close()
        except requests.Timeout:
            found.append(public(channel))
        except requests.RequestException:
            continue  # rattler will say what is wrong
    return found
