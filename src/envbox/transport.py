"""HTTP as this machine and this user have it: proxies, certificates, patience, and who we are to each host.

What a login is sent to is the one difficulty. It is added to a request for its own host; a redirect to
another one goes without it, as a store that is handed a signed address also demands.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from envbox.credentials import Login, Logins, read_logins, without_user
from envbox.errors import SettingsError, ToolError
from envbox.mirrors import public
from envbox.settings import Settings

if TYPE_CHECKING:
    import requests

CONNECT_TIMEOUT = 15.0  # seconds; a host that is there has answered by then
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_WHO = (401, 403, 404)  # anaconda.org says 404 to who may not know that there is something


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
    """The file or folder of certificates that servers are checked against; True: those that requests brings.

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
    """What to do when a server's certificate is not trusted."""
    host = urlsplit(address).hostname
    return (
        f"if {host}, or a proxy before it, has a certificate of your organisation's own, name that: "
        "ca_bundle in envbox.toml, or SSL_CERT_FILE"
    )


def _unchanged(prepared: Any) -> Any:
    """As `auth`, it keeps requests from looking for a login of its own."""
    return prepared


def open_session(settings: Settings) -> requests.Session:
    """A session with our certificates, whose redirects show a login to the host alone that it is for.

    :raises SettingsError: when the certificates that are named cannot be used
    """
    import requests

    trusted = certificates(settings, os.environ)

    class Session(requests.Session):
        def rebuild_auth(
            self, prepared_request: requests.PreparedRequest, response: requests.Response
        ) -> None:
            before, now = urlsplit(response.request.url or ""), urlsplit(prepared_request.url or "")
            if (before.scheme, before.netloc) != (now.scheme, now.netloc):
                prepared_request.headers.pop("Authorization", None)

        def get_redirect_target(self, resp: requests.Response) -> str | None:
            target = super().get_redirect_target(resp)
            where = urljoin(resp.url, target) if target else ""
            if urlsplit(resp.url).scheme == "https" and urlsplit(where).scheme == "http":
                raise ToolError(
                    f"{public(resp.url)} sends us on to {public(where)}, which is asked in the clear"
                )
            return target

        def merge_environment_settings(self, *args: Any, **named: Any) -> Any:
            return {**super().merge_environment_settings(*args, **named), "verify": trusted}

    return Session()


def offline_error(address: str) -> ToolError:
    """What to say of something that would have to be fetched."""
    return ToolError(
        f"{public(address)} is not in the cache, and --offline fetches nothing",
        "have it fetched once, without --offline (or `offline` in the settings)",
    )
