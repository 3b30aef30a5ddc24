"""Who we are to a channel: what other tools of this field have left for its host, read where they keep it.

In this order: what stands in the address itself (a channel of the spec, a mirror); `ENVBOX_CREDENTIALS`;
rattler's and pixi's store (`RATTLER_AUTH_FILE`, `~/.rattler/credentials.json`); conda's `.condarc`;
`~/.netrc`; and the keyring that rattler and pixi write to, which may wait for a person and is asked only when
a server refuses. A login is for one host (one in an address: for its port, and what lies below its path), and
is kept in memory alone. Netrc's `default` entry is not taken: it would be sent to every host there is.
"""

from __future__ import annotations

import base64
import json
import posixpath
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, unquote, urlsplit

from envbox.errors import SettingsError
from envbox.mirrors import expanded

VARIABLE = "ENVBOX_CREDENTIALS"
_PORTS = {"https": 443, "http": 80}
_TOKEN = re.compile(r"/t/([^/]+)")
_CONDA_KEYS = (
    "channel_alias", "channels", "default_channels", "custom_channels", "custom_multichannels",
    "channel_settings", "mirrored_channels",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Login:
    """What is shown to a server: a user's password, a bearer token, or conda's token in the path."""

    kind: Literal["basic", "bearer", "token"]
    secret: str = field(repr=False)
    user: str = field(default="", repr=False)

    def sign(self, url: str) -> tuple[str, dict[str, str]]:
        """Return the address to ask, and the headers to ask with."""
        if self.kind == "token":
            parts = urlsplit(url)
            if _TOKEN.match(parts.path):
                return url, {}
            return parts._replace(path=f"/t/{quote(self.secret, safe='')}{parts.path}").geturl(), {}
        if self.kind == "bearer":
            return url, {"Authorization": f"Bearer {self.secret}"}
        pair = base64.b64encode(f"{self.user}:{self.secret}".encode()).decode()
        return url, {"Authorization": f"Basic {pair}"}


@dataclass(frozen=True, slots=True)
class LoginPlace:
    """Where a login is for.

    :param host: a name, or `*.DOMAIN` for a domain and all below it
    :param port: None: whichever
    :param path: and what lies below it
    """

    host: str
    login: Login
    port: int | None = None
    path: str = ""

    def holds(self, url: str) -> bool:
        """Return whether an address lies there."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        wild = self.host.startswith("*.") and (host == self.host[2:] or host.endswith(self.host[1:]))
        if not (wild or host == self.host) or self.port not in (None, parts.port or _PORTS.get(parts.scheme)):
            return False
        below = self.path.rstrip("/")
        return not below or parts.path == below or parts.path.startswith(below + "/")


class Logins:
    """The logins of this user. May be used by several threads; what a keyring has said is kept.

    :param problems: in words, why a file could not be read: told when a server refuses
    """

    def __init__(self, places: Iterable[LoginPlace], problems: Iterable[str] = ()) -> None:
        self._places = tuple(places)
        self.problems = tuple(problems)
        self._from_keyring: dict[str, Login | None] = {}
        self._lock = threading.Lock()

    def find(self, url: str) -> Login | None:
        """Return the login for an address, if anything has one."""
        return next((place.login for place in self._places if place.holds(url)), None)

    def ask_keyring(self, url: str) -> Login | None:
        """Return the login that rattler or pixi left in the system's keyring, if there is one."""
        host = urlsplit(url).hostname or ""
        with self._lock:
            if host not in self._from_keyring:
                self._from_keyring[host] = _keyring_login(host)
            return self._from_keyring[host]


def read_logins(environ: Mapping[str, str], addresses: Iterable[str] = ()) -> Logins:
    """Return all logins that are known here.

    :param addresses: of channels and mirrors, which may have a login in them
    :raises SettingsError: when ENVBOX_CREDENTIALS is not what it should be
    """
    problems: list[str] = []
    home = Path(environ.get("HOME") or Path.home())
    places = [place for address in addresses if (place := _place_of(address))]
    places += _from_variable(environ.get(VARIABLE, ""))
    for path in [Path(said)] if (said := environ.get("RATTLER_AUTH_FILE")) else []:
        places += _from_rattler(path, problems)
    places += _from_rattler(home / ".rattler" / "credentials.json", problems)
    for path in _condarcs(environ, home):
        places += _from_condarc(path, environ, problems)
    places += _from_netrc(Path(environ.get("NETRC") or home / ".netrc"), problems)
    return Logins(places, problems)


def without_user(url: str) -> tuple[str, Login | None]:
    """Return an address without `USER:PASSWORD@`, and what that says."""
    parts = urlsplit(url)
    info, at, host = parts.netloc.rpartition("@")
    user, _, password = info.partition(":")
    login = Login("basic", unquote(password), unquote(user)) if info else None
    return (parts._replace(netloc=host).geturl() if at else url), login


def split_login(url: str) -> tuple[str, Login | None]:
    """Return a channel's address without the login in it, and that login: a user's, or conda's
    `/t/TOKEN/`.
    """
    bare, login = without_user(url)
    parts = urlsplit(bare)
    if token := _TOKEN.match(parts.path):
        return parts._replace(path=parts.path[token.end() :]).geturl(), Login("token", unquote(token[1]))
    return bare, login


def hint_for(url: str, logins: Logins) -> str:
    """Return what to do when a server wants to know who we are."""
    host = urlsplit(url).hostname or "its host"
    unread = "".join(f"; {problem}" for problem in logins.problems)
    return (
        f"log in to {host}: `pixi auth login {host}`, an entry in ~/.netrc, or "
        f'{VARIABLE}="{host}=USER:PASSWORD"{unread}'
    )


# --- one function for each place where logins are kept ------------------------------------------------------


def _place_of(url: str) -> LoginPlace | None:
    try:
        bare, login = split_login(url)
        parts = urlsplit(bare)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None  # whoever uses the address says what is wrong with it
    if login is None or not parts.hostname:
        return None
    return LoginPlace(parts.hostname, login, port, posixpath.normpath(parts.path or "/"))


def _from_variable(text: str) -> Iterator[LoginPlace]:
    for pair in text.split():
        host, equals, said = pair.partition("=")
        if not (host and equals and said) or "/" in host:
            raise SettingsError(
                f"{VARIABLE} should be HOST=USER:PASSWORD, HOST=TOKEN (a bearer token) or HOST=/t/TOKEN "
                "(conda's), several separated by spaces"
            )
        name, _, port = host.partition(":")
        user, colon, password = said.partition(":")
        if said.startswith("/t/"):
            login = Login("token", unquote(said[3:].strip("/")))
        elif colon:
            login = Login("basic", unquote(password), unquote(user))
        else:
            login = Login("bearer", unquote(said))
        yield LoginPlace(name.lower(), login, int(port) if port.isdecimal() else None)


def _from_rattler(path: Path, problems: list[str]) -> list[LoginPlace]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError):
        problems.append(f"{path} could not be read")
        return []
    if not isinstance(table, dict):
        return []
    found = ((_host(str(key)), _rattler_login(value)) for key, value in table.items())
    return [LoginPlace(host, login) for host, login in found if login]


def _host(key: str) -> str:
    return ((urlsplit(key).hostname or "") if "://" in key else key.partition("/")[0]).lower()


def _rattler_login(value: Any) -> Login | None:
    """Return an entry of rattler's store, of the kinds that a channel can want (S3's are another matter)."""
    match value:
        case {"BearerToken": str(token)} | {"OAuth": {"access_token": str(token)}}:
            return Login("bearer", token)
        case {"CondaToken": str(token)}:
            return Login("token", token)
        case {"BasicHTTP": {"username": str(user), "password": str(password)}}:
            return Login("basic", password, user)
    return None


def _keyring_login(host: str) -> Login | None:
    try:
        import keyring

        return _rattler_login(json.loads(keyring.get_password("rattler", host) or "null"))
    except Exception:  # there are many backends, and none says what it raises; most machines have none at all
        return None


def _condarcs(environ: Mapping[str, str], home: Path) -> list[Path]:
    """Return where conda looks, the nearest first.

    https://docs.conda.io/projects/conda/en/stable/user-guide/configuration/
    """
    config = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    named = [Path(environ[key]) for key in ("CONDARC",) if environ.get(key)]
    prefix = [Path(environ[key]) / ".condarc" for key in ("CONDA_PREFIX",) if environ.get(key)]
    return [
        *named, *prefix, home / ".condarc", home / ".conda" / ".condarc", config / "conda" / ".condarc",
        Path("/etc/conda/.condarc"),
    ]  # fmt: skip


def _from_condarc(path: Path, environ: Mapping[str, str], problems: list[str]) -> list[LoginPlace]:
    if not path.is_file():
        return []
    import yaml

    try:
        table = yaml.safe_load(path.read_bytes())
    except (OSError, ValueError, yaml.YAMLError):
        problems.append(f"{path} could not be read")
        return []
    said = [table.get(key) for key in _CONDA_KEYS] if isinstance(table, dict) else []
    urls = (expanded(text, environ) for text in _texts(said) if "://" in text)
    return [place for url in urls if (place := _place_of(url))]


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts in a structure of lists and mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _texts(part)


def _from_netrc(path: Path, problems: list[str]) -> list[LoginPlace]:
    if not path.is_file():
        return []
    import netrc

    try:
        hosts = netrc.netrc(str(path)).hosts
    except netrc.NetrcParseError as error:  # its message may have a password in it
        problems.append(f"{path} could not be read (line {error.lineno})")
        return []
    except (OSError, ValueError):
        problems.append(f"{path} could not be read")
        return []
    return [
        LoginPlace(host.lower(), Login("basic", password or "", user or ""))
        for host, (user, _, password) in hosts.items()
        if host != "default"
    ]
