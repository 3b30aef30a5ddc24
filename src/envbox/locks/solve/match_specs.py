"""Match specs and channels as texts: what conda means, said so that rattler means the same."""

from __future__ import annotations

import re
from collections.abc import Iterable
from posixpath import expandvars
from typing import Any
from urllib.parse import unquote

from envbox.errors import SpecError
from envbox.lockfile import lock_anew
from envbox.mirrors import shown
from envbox.net.credentials import split_login

DEFAULTS = ("https://repo.anaconda.com/pkgs/main", "https://repo.anaconda.com/pkgs/r")
"""What conda means by the channel `defaults` on Linux and macOS."""
_ARCHIVE_URL = re.compile(
    r"(?P<channel>\w+://.+)/[^/]+/(?P<name>[^/]+)-(?P<version>[^/-]+)-(?P<build>[^/-]+)\.(?:conda|tar\.bz2)(?:#.*)?"
)

_PATTERN = re.compile(
    r"""^([^\s\[=<>!~|]*[*?][^\s\[]*)::|\[[^\]]*\bchannel\s*=\s*['"]?([^\s,'"\]]*[*?][^,'"\]]*)"""
)


def parse_match_spec(text: str) -> Any:
    """Give rattler's MatchSpec of a checked text, with conda's meaning of `defaults::` and of a URL.

    rattler takes a URL as a package outside of any channel, fetches it, and gives no hash; to conda it names
    a record.

    :raises SpecError: when it is none: a lockfile's texts were never checked
    """
    from rattler import MatchSpec
    from rattler.exceptions import InvalidMatchSpecError

    try:
        return MatchSpec(_said_for_rattler(text))
    except InvalidMatchSpecError as error:
        raise SpecError(f"{shown(text)} is not a match spec", lock_anew()) from error


def _said_for_rattler(text: str) -> str:
    url = _ARCHIVE_URL.fullmatch(text)
    if pattern := _PATTERN.search(text):
        raise SpecError(
            f"{text}: the channel {pattern[1] or pattern[2]!r} is a pattern, which any channel could fit",
            "name one channel, as conda-forge::NAME, or none",
        )
    if url:
        name, version, build = (unquote(url[part]) for part in ("name", "version", "build"))
        return f"{_bare(url['channel'])}::{name} =={version} {build}"
    if "://" in (channel := text.partition("::")[0]):
        return _bare(channel) + text[len(channel) :]
    return re.sub(r"^(defaults|pkgs/main)::", DEFAULTS[0] + "::", text)


def ask_strictly(texts: Iterable[str]) -> tuple[list[Any], list[str]]:
    """Return what to ask rattler for, and the bounds that hold besides, so that no bound leads to a lower
    channel.

    rattler looks in the next channel when the first one has the name, but nothing within the bounds: there a
    private package would be replaced by a stranger's of its name. So it is asked for the name alone. A
    channel that is named is meant, and so is a hash, which nobody else's file has.
    """
    asked, bounds = [], []
    for text in texts:
        spec = parse_match_spec(text)
        if spec.channel is not None or spec.sha256 is not None:
            asked.append(spec)
        else:
            asked.append(parse_match_spec(spec.name.normalized))
            bounds.append(text)
    return asked, bounds


def sources(channels: Iterable[str], specs: Iterable[str]) -> list[str]:
    """Return the channels to ask, by priority: those named, then those that only a match spec names; no
    logins.
    """
    named = [url for channel in channels for url in (DEFAULTS if channel == "defaults" else (channel,))]
    for text in specs:
        channel = parse_match_spec(text).channel
        if channel is not None:
            named.append(channel.base_url)
    unique: dict[str, str] = {}
    for channel in named:
        unique.setdefault(channel_url(channel), _bare(channel))
    return list(unique.values())


def addresses(channels: Iterable[str], specs: Iterable[str]) -> list[str]:
    """Return the addresses of channels as they stand in a spec, with the logins that may be in them."""
    found = list(channels)
    for text in specs:
        url = _ARCHIVE_URL.fullmatch(text)
        found.append(url["channel"] if url else text.partition("::")[0])
    return [expandvars(text) for text in found if "://" in text]


def channel_url(channel: str) -> str:
    """Return the address of a channel that is named as specs name it."""
    from rattler import Channel

    return str(Channel(_bare(channel)).base_url)


def _bare(channel: str) -> str:
    """Return a channel with its variables, and without a login: rattler would send it along to a mirror."""
    expanded = expandvars(channel)
    return split_login(expanded)[0] if "://" in expanded else expanded


def joined_depends(depends: Iterable[str]) -> dict[str, str]:
    """Return dependencies by name, as the lockfile has them: versions joined by commas, then the build, if
    any.

    Both constraints of `python >=3.9` and `python <3.13` hold, so neither may replace the other.
    """
    found: dict[str, tuple[list[str], str]] = {}
    for text in depends:
        name, _, rest = text.partition(" ")
        version, _, build = rest.strip().partition(" ")
        versions, known = found.setdefault(name, ([], ""))
        if version and version not in versions and (version != "*" or not versions):
            versions.append(version)
        found[name] = versions, build.strip() or known
    return {name: f"{','.join(versions)} {build}".strip() for name, (versions, build) in found.items()}
