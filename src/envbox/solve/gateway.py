"""The way to the channels' indexes: rattler's gateway, with our mirrors, cache and patience."""

from __future__ import annotations

from typing import Any

from envbox.files import disk_error
from envbox.settings import Settings

TIMEOUT = 300  # seconds for one answer of a channel


def open_gateway(settings: Settings) -> Any:
    """Give a rattler gateway that asks channels, or their mirrors, and keeps what they say in the cache.

    :raises ToolError: when the cache cannot be written
    """
    from rattler import Client, Gateway
    from rattler.networking.middleware import AuthenticationMiddleware, MirrorMiddleware, RetryMiddleware

    mirrors = {key: [url] for key, url in settings.mirrors.rules.items() if "://" in key}
    middlewares = [MirrorMiddleware(mirrors), RetryMiddleware(3), AuthenticationMiddleware()]
    folder = settings.cache_dir / "repodata"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(folder, error) from error
    return Gateway(cache_dir=folder, client=Client(middlewares, user_agent="envbox", timeout=TIMEOUT))
