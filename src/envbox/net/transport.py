"""HTTP as this machine and this user have it: proxies, certificates, patience, and who we are to each host.

What a login is sent to is the one difficulty. It is added to a request for its own host; a redirect to
another one goes without it, as a store that is handed a signed address also demands, and none leaves https.

The other is who keeps us waiting. A socket's own limit begins anew with every byte that comes; so the headers
have to be there within `timeout`, whole, and of a body `LEAST` bytes in each.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from envbox.errors import SettingsError, ToolError
from envbox.mirrors import public
from envbox.net.credentials import Login, Logins, read_logins, without_user
from envbox.settings import Settings

if TYPE_CHECKING:
    import requests

CONNECT_TIMEOUT = 15.0  # seconds; a host that is there has answered by then
LEAST = 1024
"""Bytes of an answer that come within `timeout`, else who sends it is silent: one byte each second is no
answer, and a modem of 1980 brought more."""
MOST_REDIRECTS = 10
_BLOCK = 1 << 17  # bytes of an answer that are given on at once
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_WHO = (401, 403, 404)  # anaconda.org says 404 to who may not know that there is something


class TooLongError(Exception):
    """More came than was to come."""


class Transport:
    """GET requests for one command. May be used by several threads."""

    def __init__(self, settings: Settings, logins: Logins | None = None) -> None:
        self._settings = settings
        self.logins = logins or read_logins(os.environ, settings.addresses_with_logins())
        self._sessions = threading.local()

    def get(self, address: str, headers: Mapping[str, str] | None = None) -> requests.Response:
        """Ask for what is at an address, with the login for it; the body is still to be read.

        :raises requests.RequestException: when the connection fails
        :raises ToolError: when nothing may be fetched
        """
        if self._settings.offline:
            raise offline_error(address)
        address, own = without_user(address)
        login = own or self.logins.find(address)
        answer = self._ask(address, headers, login)
        if answer.status_code in _WHO and login is None and (login := self.logins.ask_keyring(address)):
            answer.close()
            answer = self._ask(address, headers, login)
        return answer

    def pieces(self, answer: requests.Response, most: int | None = None) -> Iterator[bytes]:
        """Yield the bytes of an answer, as they come, a Content-Encoding not undone.

        :param most: of them
        :raises requests.ReadTimeout: when too few came within `timeout`
        :raises TooLongError: when more come than `most`
        """
        import requests

        timeout, start = self._settings.timeout, time.monotonic()
        came = total = 0
        while piece := answer.raw.read1(_BLOCK, decode_content=False):
            came, total = came + len(piece), total + len(piece)
            if most is not None and total > most:
                raise TooLongError
            if came >= LEAST:
                came, start = 0, time.monotonic()
            elif time.monotonic() - start > timeout:
                raise requests.ReadTimeout(f"no more than {came} bytes came in {timeout:g} seconds")
            yield piece

    def whole(self, answer: requests.Response, most: int) -> bytes:
        """Return all bytes of an answer, unpacked; raises as `pieces` does.

        :param most: of them, packed and unpacked
        :raises requests.exceptions.ContentDecodingError: when it is not packed as it says
        """
        from requests.exceptions import ContentDecodingError

        encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding == "identity":
            return b"".join(self.pieces(answer, most))
        if encoding not in ("gzip", "x-gzip"):
            raise ContentDecodingError(f"it is packed as {encoding[:20]!r}, and nobody asked for that")
        unpacking, found = zlib.decompressobj(31), bytearray()
        try:
            for piece in self.pieces(answer, most):
                found += unpacking.decompress(piece, most + 1 - len(found))
                if len(found) > most:
                    raise TooLongError
        except zlib.error as error:
            raise ContentDecodingError("it is not packed as it says") from error
        if not unpacking.eof:
            raise ContentDecodingError("it ends too early")
        return bytes(found)

    def _ask(self, address: str, headers: Mapping[str, str] | None, login: Login | None) -> requests.Response:
        signed, ours = login.sign(address) if login else (address, {})
        if not hasattr(self._sessions, "session"):
            self._sessions.session = open_session(self._settings)
        found: requests.Session = self._sessions.session
        return found.get(
            signed,
            headers={"User-Agent": "envbox", "Accept-Encoding": "identity", **(headers or {}), **ours},
            auth=_unchanged,
            stream=True,
            timeout=(min(CONNECT_TIMEOUT, self._settings.timeout), self._settings.timeout),
        )


def certificates(settings: Settings, environ: Mapping[str, str]) -> str | bool:
    """Return the file or folder of certificates that servers are checked against; True: those that requests
    brings.

    :raises SettingsError: when what is named is not there, or something else
    """
    named = [(key, environ[key]) for key in _BUNDLES if environ.get(key)]
    if settings.ca_bundle:
        named.insert(0, ("ca_bundle", str(settings.ca_bundle)))
    if not named:
        return True
    key, path = named[0]
    hint = "it should be a file of certificates in PEM, or a folder of them"
    try:
        if Path(path).is_dir():
            return path
        ssl.create_default_context(cafile=path)
    except FileNotFoundError:
        raise SettingsError(f"{key} names {path}, which is not there", hint) from None
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise SettingsError(f"{key} names {path}, which holds no certificates", hint) from error
    return path


def certificate_hint(address: str) -> str:
    """Return what to do when a server's certificate is not trusted."""
    host = urlsplit(address).hostname
    return (
        f"if {host}, or a proxy before it, has a certificate of your organisation's own, name that: "
        "ca_bundle in envbox.toml, or SSL_CERT_FILE"
    )


def _unchanged(prepared: Any) -> Any:
    """Leave it as it is: as `auth`, this keeps requests from looking for a login of its own."""
    return prepared


def open_session(settings: Settings) -> requests.Session:
    """Return a session with our certificates and patience, whose redirects show a login to its own host
    alone.

    :raises SettingsError: when the certificates that are named cannot be used
    """
    import requests

    trusted = certificates(settings, os.environ)

    class Session(requests.Session):
        def send(self, *args: Any, **named: Any) -> requests.Response:
            try:
                return super().send(*args, **named)
            except requests.RequestException:
                raise
            except ValueError as error:  # of urllib and urllib3, and what is no UTF-8
                raise requests.exceptions.InvalidURL("it sends us on to what is no address") from error

        def rebuild_auth(
            self, prepared_request: requests.PreparedRequest, response: requests.Response
        ) -> None:
            before, now = urlsplit(response.request.url or ""), urlsplit(prepared_request.url or "")
            if (before.scheme, before.netloc) != (now.scheme, now.netloc):
                prepared_request.headers.pop("Authorization", None)

        def get_redirect_target(self, resp: requests.Response) -> str | None:
            target = super().get_redirect_target(resp)
            if target is not None:
                place = urlsplit(urljoin(resp.url, target))
                allowed = {"https"} if urlsplit(resp.url).scheme == "https" else {"https", "http"}
                if place.scheme not in allowed:
                    raise requests.exceptions.InvalidSchema(
                        f"it sends us on to {public(place.geturl())}, and that is not followed"
                    )
                if place.username or place.password:
                    raise requests.exceptions.InvalidSchema("it sends us on with a login of its own")
            return target

        def merge_environment_settings(self, *args: Any, **named: Any) -> Any:
            return {**super().merge_environment_settings(*args, **named), "verify": trusted}

    found = Session()
    found.max_redirects = MOST_REDIRECTS
    found.mount("https://", patient_adapter())
    found.mount("http://", patient_adapter())
    return found


def patient_adapter(**pools: Any) -> Any:
    """Return an adapter whose connections wait for all of the headers, not for each byte of them.

    :param pools: as `requests.adapters.HTTPAdapter` takes them
    """
    import http.client

    from requests.adapters import HTTPAdapter
    from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.connection import HTTPConnection, HTTPSConnection

    def patient(kind: Any) -> Any:
        class Patient(kind):  # type: ignore[misc]
            def getresponse(self) -> Any:
                sock, late = self.sock, threading.Event()

                def end() -> None:
                    late.set()
                    with suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)

                timer = threading.Timer(self.timeout or CONNECT_TIMEOUT, end)
                timer.daemon = True
                timer.start()
                found = None
                try:
                    found = super().getresponse()
                except (OSError, http.client.HTTPException):
                    if not late.is_set():
                        raise
                finally:
                    timer.cancel()
                if late.is_set():  # which also may look like the end of the headers
                    raise TimeoutError("timed out: not all of the headers came")
                return found

        return Patient

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = patient(HTTPConnection)

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = patient(HTTPSConnection)

    classes = {"http": PlainPool, "https": SecurePool}

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **named: Any) -> None:
            super().init_poolmanager(*args, **named)
            self.poolmanager.pool_classes_by_scheme = classes

        def proxy_manager_for(self, *args: Any, **named: Any) -> Any:
            manager = super().proxy_manager_for(*args, **named)
            manager.pool_classes_by_scheme = classes
            return manager

    return Adapter(**pools)


def offline_error(address: str) -> ToolError:
    """Return what to say of something that would have to be fetched."""
    return ToolError(
        f"{public(address)} is not in the cache, and --offline fetches nothing",
        "have it fetched once, without --offline (or `offline` in the settings)",
    )
