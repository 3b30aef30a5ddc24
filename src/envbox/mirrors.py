"""Mirrors: where a canonical address is really fetched from. A lock only ever holds the canonical one.

A mapping of prefixes, `https://conda.anaconda.org/conda-forge` → `http://127.0.0.1:8000/channel`. A key
without a scheme names a registry (`docker.io` → `127.0.0.1:5000`).
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit

VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
"""The name of an environment variable in an address: `$NAME` or `${NAME}`."""
_TOKEN = re.compile(r"/t/[^/\s]+")
_SECRET = re.compile(
    rf"(?<!\w)\w+://[^\s\"<>]*[^\s\"'<>(),.;:]|{_TOKEN.pattern}"
)  # where one may be in a text
_URLS = re.compile(r"(?<!\w)\w{1,30}://[^\s\"'<>]+")  # one, or several with commas between
_LOGIN = re.compile(r"(?<=://)[^/]+@")
_SHORTEST = 4  # characters of a secret that deserves the name
_USUAL = frozenset({
    "api", "artifactory", "binary", "cache", "channel", "channels", "conda", "docker", "files", "get",
    "index", "main", "mirror", "mirrors", "nexus", "packages", "proxy", "public", "pypi", "registry",
    "release", "repo", "repos", "repository", "repositories", "root", "simple", "static", "v1", "v2",
    "v3", "web", "wheels", "whl",
})  # fmt: skip
"""Words of the paths of artifactory's, nexus's and other servers' mirrors."""


@dataclass(frozen=True, slots=True)
class Mirrors:
    """Prefix substitutions, longest prefix first."""

    rules: Mapping[str, str] = field(default_factory=dict)

    def rewrite(self, url: str) -> str:
        """Return the address to fetch `url` from: its mirror's, or itself."""
        return _substitute(url, self._pairs())

    def canonical(self, url: str) -> str:
        """Return the address that a lock may hold for `url`: the inverse of `rewrite`."""
        return _substitute(url, ((without_credentials(there), here) for here, there in self._pairs()))

    def _pairs(self) -> Iterator[tuple[str, str]]:
        for key in sorted(self.rules, key=len, reverse=True):
            yield key.rstrip("/"), self.rules[key].rstrip("/")


def _substitute(url: str, pairs: Iterator[tuple[str, str]]) -> str:
    for old, new in pairs:
        if url == old or url.startswith(old + "/"):
            return new + url[len(old) :]
    return url


def without_credentials(url: str) -> str:
    """Return the URL without user, password and anaconda's `/t/TOKEN/`: none of them may reach a lockfile.

    A wheel's index has no tokens, but folders named after letters.
    """
    parts = urlsplit(url)
    path = parts.path if parts.path.endswith(".whl") else _TOKEN.sub("", parts.path, count=1)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, parts.query, ""))


def expanded(text: str, environ: Mapping[str, str]) -> str:
    """Return a text with `$NAME` and `${NAME}` replaced by the variables that there are."""
    return VARIABLE.sub(lambda found: environ.get(found[1] or found[2], found[0]), text)


def unset(text: str, environ: Mapping[str, str]) -> list[str]:
    """Return the variables that a text names and that are not there."""
    return [name for a, b in VARIABLE.findall(text) if (name := a or b) not in environ]


def public_channel(channel: str) -> str:
    """Return a channel by its name, or by its URL without credentials, as a lock may hold it."""
    return without_credentials(channel) if "://" in channel else channel


def public(text: str) -> str:
    """Return a URL, or a text with URLs in it, that may be shown: without credentials, query and fragment."""
    return _SECRET.sub(lambda found: _public_url(found[0]) if "://" in found[0] else "", text)


def without_logins(text: str) -> str:
    """Return any text, such as another library's message, without the logins and tokens of the URLs in it."""
    return _URLS.sub(lambda found: _without_login(found[0]), text)


def _without_login(urls: str) -> str:
    urls = _LOGIN.sub("", urls)
    return urls if ".whl" in urls else _TOKEN.sub("", urls)


def secret_parts(mirrors: Mirrors) -> frozenset[str]:
    """Return what in the paths of mirrors may be a secret, as in `https://HOST/SECRET/conda-forge`.

    Nothing tells a secret from a folder's name. So all of it is one that the canonical address does not have
    as well, and that is no usual word of such paths.
    """
    found: set[str] = set()
    for key, url in mirrors.rules.items():
        known = {*key.split("/"), *_USUAL}
        if url.startswith("file:"):
            continue
        parts = urlsplit(url).path.split("/") if "://" in url else url.split("/")[1:]
        secret = (part for part in parts if len(part) >= _SHORTEST and part not in known)
        found |= {form for part in secret for form in (part, unquote(part))}
    return frozenset(found)


class _Short(reprlib.Repr):
    """Values in a few words: an alias in YAML may stand for gigabytes, and no number is written that long."""

    maxlevel, maxlist, maxtuple, maxset, maxdict, maxother = 3, 4, 4, 4, 4, 100

    def repr_str(self, x: str, level: int) -> str:
        del level
        return repr(public(x[:100_000]))

    def repr_int(self, x: int, level: int) -> str:
        del level
        return "a huge number" if abs(x) >= 1 << 256 else repr(x)


def shown(value: object) -> str:
    """Return a value from a file as it may be printed: short, whatever it is, and without credentials."""
    said = _Short().repr(value)
    return said if len(said) < 100 else said[:97] + "..."


def _public_url(url: str) -> str:
    try:
        return without_credentials(re.split(r"[?#]", url, maxsplit=1)[0])
    except ValueError:  # its host is none
        return url.partition("://")[0] + "://…"
