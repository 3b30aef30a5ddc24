"""The way to the channels' indexes: rattler's gateway, with our mirrors, logins, cache and patience.

rattler finds what its own tools have left (its store, a keyring, a netrc) by itself. What only we know it is
told in two ways: a header for what lies below a channel's address, and for conda's tokens, which stand in the
path, a mirror of the channel. No address that it is given has a login in it: those reach its cache, and
a mirror's server.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from envbox.errors import EnvboxError, SpecError, ToolError
from envbox.files import disk_error
from envbox.locks.solve.match_specs import channel_url
from envbox.mirrors import public, without_credentials
from envbox.net.credentials import Logins, hint_for, read_logins, without_user
from envbox.net.transport import certificate_hint, certificates
from envbox.settings import Settings

TIMEOUT = 6 * 3600  # seconds for one answer of a channel, whole: who is silent is given up by `patience`
_RETRIES = 3
_CAUSE = "Caused by: "
_LONGEST = 400  # characters of a cause, which may quote what an index has


@dataclass(frozen=True, slots=True)
class Channels:
    """Whom to ask.

    :param names: the channels, without logins
    :param platforms: whose subdirs are looked at, besides noarch
    :param addresses: of channels as the spec has them, maybe with logins
    """

    names: tuple[str, ...]
    platforms: tuple[str, ...]
    addresses: tuple[str, ...] = ()

    @property
    def subdirs(self) -> tuple[str, ...]:
        """The subdirs of each that are looked at."""
        return tuple(dict.fromkeys([*self.platforms, "noarch"]))


def open_gateway(channels: Channels, settings: Settings, asks: Callable[[], None] = lambda: None) -> Any:
    """Give a rattler gateway that asks channels, or their mirrors, and keeps what they say in the cache.

    :param asks: called whenever something is asked for, also once more
    :raises ToolError: when the cache cannot be written
    :raises SettingsError: when the certificates that are named cannot be used
    """
    from rattler import Gateway
    from rattler.repo_data.gateway import SourceConfig

    folder = settings.cache_dir / "repodata"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise disk_error(folder, error) from error
    logins = read_logins(os.environ, [*channels.addresses, *settings.mirrors.rules.values()])
    places = [settings.mirrors.rewrite(channel_url(channel).rstrip("/")) for channel in channels.names]
    places += [url for key, url in settings.mirrors.rules.items() if "://" in key]
    endpoints = list(dict.fromkeys(without_user(place)[0].rstrip("/") for place in places))
    return Gateway(
        cache_dir=folder,
        default_config=SourceConfig(
            cache_action="force-cache-only" if settings.offline else "cache-or-fetch"
        ),
        client=_client(settings, endpoints, logins, asks),
    )


def _client(settings: Settings, endpoints: Sequence[str], logins: Logins, asks: Callable[[], None]) -> Any:
    from rattler import Client
    from rattler.networking.middleware import (
        AddHeadersMiddleware,
        AuthenticationMiddleware,
        MirrorMiddleware,
        RetryMiddleware,
    )

    mirrors = {
        f"{key.rstrip('/')}/": [f"{without_user(url)[0].rstrip('/')}/"]
        for key, url in settings.mirrors.rules.items()
        if "://" in key
    }
    tokens, told = with_tokens(endpoints, logins), headers_for(endpoints, logins)

    def headers(host: str, path: str) -> dict[str, str] | None:
        asks()
        return told(host, path)

    ours = [
        MirrorMiddleware(mirrors), MirrorMiddleware({key: [url] for key, url in tokens.items()}),
        RetryMiddleware(_RETRIES), AddHeadersMiddleware(headers),
    ]  # fmt: skip
    # it would put a token into a path that has one already, and it stops at a store it cannot read
    theirs = [] if tokens or logins.problems else [AuthenticationMiddleware()]
    with _trusted(certificates(settings, os.environ)):
        return Client([*ours, *theirs], user_agent="envbox", timeout=TIMEOUT)


def with_tokens(endpoints: Iterable[str], logins: Logins) -> Mapping[str, str]:
    """Return the addresses that have to have a token in their path, and what they are then."""
    found = {}
    for endpoint in endpoints:
        login = logins.find(endpoint)
        if login and login.kind == "token" and (signed := login.sign(endpoint)[0]) != endpoint:
            found[f"{endpoint}/"] = f"{signed}/"
    return found


def headers_for(endpoints: Sequence[str], logins: Logins) -> Callable[[str, str], dict[str, str] | None]:
    """Say which headers to send, by host and path; none where these could mean two places.

    rattler does not tell the port: of two servers on one host, each with a login of its own, neither may be
    shown the other's.
    """

    def headers(host: str, path: str) -> dict[str, str] | None:
        there = [e for e in endpoints if urlsplit(e).hostname == host and _is_below(path, urlsplit(e).path)]
        longest = max((len(urlsplit(e).path) for e in there), default=0)
        found = {logins.find(e) for e in there if len(urlsplit(e).path) == longest}
        login = found.pop() if len(found) == 1 else None
        return login.sign("")[1] or None if login and login.kind != "token" else None

    return headers


def _is_below(path: str, above: str) -> bool:
    return path.startswith(above.rstrip("/") + "/")


@contextmanager
def _trusted(bundle: str | bool) -> Iterator[None]:
    """Have a client that is made now trust these certificates: rattler reads them from one variable."""
    if isinstance(bundle, bool):
        yield
        return
    key = "SSL_CERT_DIR" if Path(bundle).is_dir() else "SSL_CERT_FILE"
    before = os.environ.get(key)
    os.environ[key] = bundle
    try:
        yield
    finally:
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before


# --- why a channel could not be read ------------------------------------------------------------------------


async def channel_failure(
    broken: Sequence[BaseException], asked: Sequence[str], gateway: Any, settings: Settings
) -> BaseException:
    """Find out why a channel could not be read: of requests that share a download, only one is told."""
    from rattler import Channel
    from rattler.exceptions import GatewayError

    error = next((e for e in broken if "://" in str(e) or not isinstance(e, GatewayError)), broken[0])
    if "://" not in str(error) and isinstance(error, GatewayError):
        try:
            for channel in asked:
                await gateway.query([Channel(channel)], ["noarch"], ["python"], False, "disabled")
        except GatewayError as alone:
            error = alone
    if not isinstance(error, GatewayError):
        return error
    found = _channel_error(str(error), asked, settings)
    found.__cause__ = error
    return found


def _channel_error(text: str, asked: Sequence[str], settings: Settings) -> EnvboxError:
    text = public(text)
    cause = text.replace("\n", "").split(_CAUSE)[-1]
    cause = cause if len(cause) <= _LONGEST else f"{cause[: _LONGEST // 2]} … {cause[-_LONGEST // 2 :]}"
    url = next(iter(re.findall(r"\((\w+://[^)]+)\)", text)), "")
    missing = re.search(r"no usable repodata cache for (\w+://\S+?)/([^/\s]+)/(?=\s|$)", text)
    urls = {without_credentials(channel_url(channel)): channel for channel in asked}
    named = next(
        (c for u, c in urls.items() if u in text or url.startswith(public(settings.mirrors.rewrite(u)))), url
    )
    channel = without_credentials(named) if "://" in named else named or ", ".join(urls)
    shard = re.search(r"the shard for package '([^']+)' is not in the cache", text)
    if missing or shard:
        what = f"for {missing[2]}" if missing else f"of {shard[1]}" if shard else ""
        return ToolError(
            f"what the channel {channel} has {what} is not in the cache, and --offline fetches nothing",
            "lock it once without --offline (or `offline` in the settings)",
        )
    if refused := re.search(r"\b(401|403|407)\b [A-Z][\w ]+", text):
        return ToolError(
            f"the channel {channel} does not let us read it: {refused[0]}",
            hint_for(settings.mirrors.rewrite(url or channel_url(named)), read_logins(os.environ)),
        )
    if "could not find subdir" in text or "(404 " in text:
        return SpecError(
            f"there is no channel {channel}: {cause}", "check its name under `channels:` in the spec"
        )
    if "certificate" in cause:
        return ToolError(f"the channel {channel} cannot be read: {cause}", certificate_hint(url or named))
    return ToolError(
        f"the channel {channel} cannot be read: {cause}" + (f" ({url})" if url not in cause else ""),
        "check the network and try again; a mirror can be set under [mirrors] in envbox.toml",
    )
