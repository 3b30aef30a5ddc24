"""Package indexes: which files there are of a project, and what is known of each without fetching it.

An index is asked once for a project, whichever platforms want to know. What it said is kept in the cache with
its validators, so that asking again costs an empty answer, and `--offline` none at all. The first index that
has a project is the only one that is asked for it: were the versions of all put together, as pip does,
anybody could take over a private project by giving its name and a higher version to a public index.

Specification: https://packaging.python.org/en/latest/specifications/simple-repository-api/ (PEP 503, 592,
658, 691, 700, 714)
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from envbox.documents import read_json
from envbox.errors import SpecError, ToolError
from envbox.lockfile import pip_name
from envbox.locks.solve.cached_answers import keep, kept
from envbox.locks.solve.index_page import File, from_html, from_json, no_index
from envbox.mirrors import expanded, public, unset
from envbox.net.credentials import hint_for, read_logins, without_user
from envbox.net.transport import TooLongError, Transport, certificate_hint
from envbox.settings import Settings

if TYPE_CHECKING:
    import requests

INDEX = "https://pypi.org/simple"
LARGEST_PAGE = 64 << 20  # bytes; the largest known has 20 MB
RETRY_DELAYS = (0.5, 2.0)  # seconds
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_TYPES = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"


@dataclass(frozen=True, slots=True)
class IndexProject:
    """What the first index that has a project has of it.

    :param index: its address, as it may be shown; "": no index has the project
    """

    index: str
    files: tuple[File, ...]


class Indexes:
    """Several indexes, by priority. May be used by several threads."""

    def __init__(self, addresses: Sequence[str], settings: Settings) -> None:
        """Ask nothing yet.

        :param addresses: as they are set: may have logins in them, but no names of variables any more
        """
        self.mirrored = {
            public(m): public(a) for a in addresses if (m := settings.mirrors.rewrite(a).rstrip("/")) != a
        }
        whole = [settings.mirrors.rewrite(address) for address in addresses]
        self.addresses = tuple(dict.fromkeys(without_user(address)[0].rstrip("/") for address in whole))
        roots = [urlsplit(a)._replace(path="/", query="", fragment="").geturl() for a in whole]  # of files
        logins = read_logins(os.environ, [*whole, *settings.mirrors.rules.values(), *roots])
        self.transport = Transport(settings, logins)
        self._settings = settings
        self._known: dict[str, IndexProject] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._guard = threading.Lock()

    def project(self, name: str) -> IndexProject:
        """Return what there is of a project, from the first index that has it.

        :raises ToolError: when an index cannot be read: the next one is not asked instead
        """
        name = pip_name(name)
        with self._guard:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            if name not in self._known:
                self._known[name] = self._asked(name)
            return self._known[name]

    def index_of(self, name: str) -> str:
        """Return the index that a project was found in; "" where none was asked, or none has it."""
        found = self._known.get(pip_name(name))
        return found.index if found else ""

    def _asked(self, name: str) -> IndexProject:
        for address in self.addresses:
            page = f"{address}/{name}/"
            files = self._from_folder(page) if page.startswith("file://") else self._from_server(page)
            if files is not None:
                return IndexProject(public(address), files)
        return IndexProject("", ())

    def _from_folder(self, page: str) -> tuple[File, ...] | None:
        folder = Path(url2pathname(urlsplit(page).path))
        try:
            text = (folder / "index.html").read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ToolError(f"cannot read the package index {public(page)}: {error}") from error
        return tuple(from_html(text, page))

    def _from_server(self, page: str) -> tuple[File, ...] | None:
        path = self._settings.cache_dir / "pypi" / "pages" / hashlib.sha256(page.encode()).hexdigest()
        known = _Kept.read(path)
        if self._settings.offline:
            if known is None:
                raise ToolError(
                    f"what the package index has at {public(page)} is not in the cache, and --offline "
                    "fetches nothing",
                    "lock it once without --offline (or `offline` in the settings)",
                )
            return _files(known)
        asked = {"Accept": _TYPES, "Accept-Encoding": "gzip"} | (_validators(known) if known else {})
        with ask(self.transport, page, asked) as answer:
            if answer.status_code == 304 and known is not None:
                return _files(known)
            if answer.status_code not in (200, 404, 410):
                raise _refusal(page, answer.status_code, self.transport)
            found = _Kept.of(answer, self.transport)
        files = _files(found)
        keep(path, found.as_bytes())
        return files


# --- asking -------------------------------------------------------------------------------------------------


def ask(transport: Transport, address: str, headers: Mapping[str, str]) -> requests.Response:
    """Send a GET, and again after a pause where it may help.

    :raises ToolError: when the server cannot be reached
    """
    import requests

    for pause in (*RETRY_DELAYS, None):
        try:
            answer = transport.get(address, headers)
            if answer.status_code not in _PASSING or pause is None:
                return answer
            answer.close()
        except (requests.RequestException, OSError) as error:
            if pause is None or isinstance(error, requests.exceptions.SSLError | ValueError):
                raise unreachable(address, error) from error
        time.sleep(pause)
    raise AssertionError  # the last round returns or raises


def read_body(answer: requests.Response, most: int, transport: Transport) -> bytes:
    """Read an answer whole.

    :raises ToolError: when it breaks off, or is longer than it can be
    """
    import requests
    import urllib3

    try:
        return transport.whole(answer, most)
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise unreachable(answer.url, error) from error
    except TooLongError as error:
        raise ToolError(
            f"what is at {public(answer.url)} is larger than it can be: more than {most >> 20} MiB",
            "check the index's address, and ask who runs it",
        ) from error


def unreachable(address: str, error: Exception) -> ToolError:
    """Say in words that a server did not answer."""
    import requests
    import urllib3

    place = public(address)
    if isinstance(error, requests.exceptions.SSLError):
        return ToolError(
            f"cannot read the package index {place}: its certificate is not trusted",
            certificate_hint(address),
        )
    system = re.search(r"\[Errno -?\d+\] ([^'\")(\[]+)", str(error))
    why = (
        "it does not answer"
        if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError)
        else public(str(error)).splitlines()[0]
    )
    return ToolError(
        f"cannot read the package index {place}: {system[1].strip().lower() if system else why}",
        f'check the network; a mirror can be set: mirrors = {{ "{INDEX}" = "https://…/simple" }}',
    )


def _refusal(page: str, status: int, transport: Transport) -> ToolError:
    words = f"cannot read the package index: it answers {status} for {public(page)}"
    if status in (401, 403, 407):
        return ToolError(words, f"check its address; {hint_for(page, transport.logins)}")
    return ToolError(words, f'a mirror can be set: mirrors = {{ "{INDEX}" = "https://…/simple" }}')


# --- what is kept -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Kept:
    """An answer.

    :param address: that the links in it start from
    """

    address: str
    is_there: bool
    is_json: bool
    etag: str
    modified: str
    body: bytes

    @classmethod
    def read(cls, path: Path) -> _Kept | None:
        """Return what is kept of an earlier one, where it is whole."""
        try:
            head, _, body = (kept(path) or b"").partition(b"\n")
            address, is_there, is_json, etag, modified = read_json(head)
            return cls(address, is_there, is_json, etag, modified, body)
        except (ValueError, TypeError):
            return None

    @classmethod
    def of(cls, answer: requests.Response, transport: Transport) -> _Kept:
        told = answer.headers
        kind = told.get("Content-Type", "").lower()
        is_there = answer.status_code == 200
        body = read_body(answer, LARGEST_PAGE, transport) if is_there else b""
        if is_there and "json" not in kind and "html" not in kind:
            raise no_index(answer.url)
        return cls(
            answer.url, is_there, "json" in kind, told.get("ETag", ""), told.get("Last-Modified", ""), body
        )

    def as_bytes(self) -> bytes:
        head = [public(self.address), self.is_there, self.is_json, self.etag, self.modified]
        return json.dumps(head).encode() + b"\n" + self.body


def _validators(known: _Kept) -> dict[str, str]:
    told = {"If-None-Match": known.etag, "If-Modified-Since": known.modified if not known.etag else ""}
    return {key: value for key, value in told.items() if value}


def _files(kept: _Kept) -> tuple[File, ...] | None:
    if not kept.is_there:
        return None
    if kept.is_json:
        return tuple(from_json(kept.body, kept.address))
    return tuple(from_html(kept.body.decode(errors="replace"), kept.address))


def indexes_of(specification: Any, settings: Settings) -> Indexes:
    """Return the indexes that an environment's requirements are looked for in, the first one first.

    The spec's own (`pip-repositories`), those of the settings, and PyPI unless the spec forbids it.

    :param specification: conda-lock's LockSpecification
    :raises SpecError: when an address in it names a variable that is not set
    """
    own = [_filled(repository.url) for repository in specification.pip_repositories]
    last = [INDEX] if specification.allow_pypi_requests else []
    return Indexes([*own, *settings.extra_index_urls, *last], settings)


def _filled(address: str) -> str:
    for name in unset(address, os.environ):
        raise SpecError(
            f"the address of a package index names ${name}, which is not set", f"set it: export {name}=…"
        )
    return expanded(address, os.environ)
