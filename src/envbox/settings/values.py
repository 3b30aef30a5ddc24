"""What a setting may be: foreign text → value, each key by the one function that its name has here.

A parser says what its value should be; whoever reads the file knows the key and the place, and puts them
before that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from envbox.errors import EnvboxError
from envbox.mirrors import VARIABLE, without_credentials
from envbox.slim import KINDS


class WrongError(EnvboxError):
    """A value that its parser refuses; the message says what it should be."""


class NotHereError(WrongError):
    """A setting that cannot stand where it does, whatever its value."""


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise WrongError("should be text")
    return value


def _text_or_number(value: object) -> str:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else _text(value)


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(value.replace(",", " ").split())
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise WrongError("should be a list of texts")
    return tuple(value)


def _mapping(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise WrongError("should be a table")
    return {str(k): _text_or_number(v) for k, v in value.items()}


def _values(value: object) -> dict[str, str]:
    """Return variables, which may be empty."""
    if not isinstance(value, dict):
        raise WrongError("should be a table")
    return {str(k): v if v == "" else _text_or_number(v) for k, v in value.items()}


def _pairs(value: str) -> dict[str, str]:
    pairs = [item.partition("=") for item in value.split()]
    if not all(middle and new for _, middle, new in pairs):
        raise WrongError("should be PREFIX=REPLACEMENT pairs, separated by spaces")
    return {old: new for old, _, new in pairs}


def _slim(value: object) -> tuple[str, ...]:
    if isinstance(value, bool):
        return tuple(sorted(KINDS)) if value else ()
    kinds = _texts(value)
    if unknown := sorted(set(kinds) - KINDS.keys()):
        raise WrongError(f"has {', '.join(unknown)}, but should be true, or of {', '.join(sorted(KINDS))}")
    return tuple(sorted(set(kinds)))


def _path(value: object) -> Path:
    try:
        return Path(_text(value)).expanduser()
    except RuntimeError:
        raise WrongError("begins with the home of somebody who is not known here") from None


def _users_own(key: str) -> Parser:
    """Give a parser that refuses what only the user can say."""

    def refuse(value: object) -> NoReturn:
        del value
        raise NotHereError(
            f"cannot be said by a project: set ENVBOX_{key.upper()}, or {key} in your own file, "
            "~/.config/envbox/config.toml"
        )

    return refuse


def _jobs(value: object) -> int:
    try:
        number = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        number = 0
    if isinstance(value, bool) or number < 1:
        raise WrongError("should be a whole number of 1 or more")
    return int(number)


def _seconds(value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = 0
    if isinstance(value, bool) or not 0 < number < math.inf:
        raise WrongError("should be a number of seconds, more than 0")
    return number


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    known = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }
    if not isinstance(value, str) or value.lower() not in known:
        raise WrongError("should be true or false")
    return known[value.lower()]


def _engine(value: object) -> str:
    if value not in ("docker", "host"):
        raise WrongError("should be docker or host")
    return str(value)


def _moment(value: object) -> str:
    """Return a date or time, which in TOML need not be in quotes."""
    if isinstance(value, date):  # a datetime is one as well
        return value.isoformat()
    return _text(value)


def _indexes(value: object) -> tuple[str, ...]:
    """Return addresses of package indexes; in a file, a login in them can only be the name of a variable."""
    urls = _index_urls(value)
    for url in urls:
        parts = urlsplit(VARIABLE.sub("", url))
        if (
            parts.netloc.rpartition("@")[0].strip(":")
            or parts.query
            or without_credentials(url) != _bare(url)
        ):
            raise WrongError(
                f"has credentials in it, for {parts.hostname}; they would be shared with the file: "
                "write them into ~/.netrc, or name a variable: https://$USER:$PASSWORD@…"
            )
    return urls


def _bare(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _index_urls(value: object) -> tuple[str, ...]:
    urls = _texts(value)
    for url in urls:
        try:
            scheme = urlsplit(VARIABLE.sub("x", url)).scheme
        except ValueError:
            raise WrongError("has an address that is none") from None
        if scheme not in ("https", "http", "file"):
            raise WrongError("should be addresses, beginning with https://")
    return urls


Parser = Callable[[Any], Any]
ENVIRONMENT_KEYS: dict[str, Parser] = {
    "base": _text,
    "command": _texts,
    "env": _values,
    "env_file": _text,
    "volumes": _texts,
    "ports": _texts,
    "network": _text,
    "memory": _text,
    "cpus": _text_or_number,
    "gpus": _text_or_number,
    "slim": _slim,
    "cuda": _text_or_number,
    "pythonpath": _texts,
}
KEYS: dict[str, Parser] = {
    "cache_dir": _path,
    "base": _text,
    "platforms": _texts,
    "channels": _texts,
    "environment": _text,
    "mirrors": _mapping,
    "mapping_url": _text,
    "jobs": _jobs,
    "extra_index_urls": _indexes,
    "offline": _flag,
    "exclude_newer": _moment,
    "ca_bundle": _path,
    "timeout": _seconds,
    "jupyter": _path,
    "engine": _engine,
    "own_path": _flag,
    "trust_python": _flag,
}
_USERS_OWN = ("cache_dir", "trust_python")  # programs in a cache are run, and `clean` empties it
PROJECT_KEYS = {**KEYS, **{key: _users_own(key) for key in _USERS_OWN}}
"""The same, as they stand in a project's file."""
ENVIRON_KEYS = {**KEYS, "mirrors": _pairs, "extra_index_urls": _index_urls}
"""The same, as they stand in environment variables, which nobody shares."""
MAY_HOLD_SECRETS = ("mirrors", "mapping_url", "env", "extra_index_urls")
