"""Talking to one repository of a registry over HTTP: who we are, what is tried again, and errors in words.

The difficulty is that registries ask who we are in three ways (not at all, Basic, and a bearer token from
another host, as Docker Hub does for everybody) and fail in many. A request is made first without any
credentials; the registry's own challenge says what it wants.
https://distribution.github.io/distribution/spec/auth/token/
"""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from envbox.errors import EnvboxError, ImageError, ToolError
from envbox.net.transport import certificate_hint, offline_error, open_session, patient_adapter
from envbox.registry.credentials import Credentials, find_credentials
from envbox.registry.reference import Reference, endpoint, is_loopback, push_endpoint
from envbox.registry.responses import read_json, reason, said, seconds
from envbox.settings import Settings

if TYPE_CHECKING:
    import requests

RETRY_DELAYS = (0.25, 0.75, 2.25)  # seconds; a registry that is restarted or overloaded is soon back
CONNECT_TIMEOUT = 10.0  # seconds
STORE_TIMEOUT = 300.0  # seconds until a registry has hashed and put away what it was sent
LONGEST_WAIT = 20.0  # seconds that a registry may ask us to wait before we say so and stop
CONNECTIONS = 8


class TransferStopped(Exception):
    """The work was called off from another thread."""


class Body:
    """A request's body that is streamed, and whose size is said before."""

    def __init__(self, pieces: Iterator[bytes], size: int) -> None:
        self._pieces = pieces
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces


class Access:
    """The way to one repository. May be used by several threads; what it learns (a token) is kept.

    :param stop: when set, transfers end with `TransferStopped`
    :param actions: what the token must allow, `pull` or `pull,push`
    :param also: repositories of the same registry that are read as well
    """

    def __init__(
        self,
        reference: Reference,
        settings: Settings,
        stop: threading.Event | None = None,
        actions: str = "pull",
        also: Iterable[str] = (),
    ) -> None:
        self.reference = reference
        self._deed = "push" if "push" in actions else "read"
        where = push_endpoint if self._deed == "push" else endpoint
        self.endpoint = where(reference, settings.mirrors)
        self.stop = stop or threading.Event()
        scopes = dict.fromkeys(also, "pull") | {self.endpoint.repository: actions}
        self._scopes = [f"repository:{name}:{allowed}" for name, allowed in scopes.items()]
        self._authorization = ""
        self._credentials: Credentials | None = None
        self._settings = settings
        self._lock = threading.Lock()
        self._session: requests.Session | None = None

    @property
    def where(self) -> str:
        """Where the image is looked for, for a person: the host, and that it is a mirror when it is one."""
        host = self.endpoint.host
        mirrored = host != self.reference.registry
        return f"{host} (the mirror of {self.reference.registry})" if mirrored else host

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> requests.Response:
        """Ask for something below the repository; its body is still to be read. 404 and 416 are answers.

        :raises ToolError: when the registry cannot be reached, refuses, or keeps failing
        """
        return self.request("GET", path, headers)

    def head(self, path: str, headers: Mapping[str, str] | None = None) -> requests.Response:
        """Ask whether something is there.

        :raises ToolError: as `get`
        """
        return self.request("HEAD", path, headers)

    def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> requests.Response:
        """Make one request, again after what may pass, and with a token once the registry wants one.

        :param path: below the repository, or an address of the registry's own
        """
        import requests

        delays, failure, challenged = list(RETRY_DELAYS), "", False
        while True:
            if self.stop.is_set():
                raise TransferStopped
            wait = 0.0
            try:
                response = self.attempt(method, self.absolute(path), headers, body)
            except requests.RequestException as error:
                if not delays:
                    raise self._unreachable(error) from error
            else:
                if response.status_code < 400 or response.status_code in (404, 416):
                    return response
                failure = f"HTTP {response.status_code}{said(response)}"
                response.close()
                if response.status_code == 401 and not challenged:
                    challenged = True
                    self.authorize(response)
                    continue
                if response.status_code != 429 and response.status_code < 500:
                    raise self.refusal(response.status_code, failure)
                wait = seconds(response.headers.get("Retry-After", ""))
                if not delays or wait > LONGEST_WAIT:
                    raise self._failing(response.status_code, failure)
            self.stop.wait(max(delays.pop(0), wait))

    def absolute(self, path: str) -> str:
        """Return an address: of something below the repository, or one that the registry gave, maybe a
        relative one.

        A registry behind a proxy may think that it is spoken to in plain http.
        """
        if path.startswith("/") or "://" in path:
            try:
                address = urljoin(self.endpoint.url, path)
                mine, given = urlsplit(self.endpoint.url), urlsplit(address)
            except ValueError as error:
                raise ToolError(f"the registry {self.where} names an address that is none: {path}") from error
            if given.netloc == mine.netloc:
                return given._replace(scheme=mine.scheme).geturl()
            if given.scheme != "https" and mine.scheme == "https":
                raise ToolError(f"the registry {self.where} sends us on to {address}, in the clear")
            return address
        return f"{self.endpoint.url}/v2/{self.endpoint.repository}/{path}"

    def attempt(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | Body | None = None,
    ) -> requests.Response:
        """Make one request, once; its body is still to be read.

        :raises requests.RequestException: when the connection fails
        :raises ToolError: when nothing may be fetched
        """
        if self._settings.offline:
            raise offline_error(f"what {self.where} has of {self.reference}")
        with self._lock:
            if self._session is None:
                self._session = _session(self._settings)
            session = self._session
        import requests
        import urllib3

        silence = self._settings.timeout
        try:
            return session.request(
                method,
                url,
                headers=dict(headers or {}),
                data=body,
                auth=self._sign,
                stream=True,
                timeout=(
                    min(CONNECT_TIMEOUT, silence),
                    max(STORE_TIMEOUT, silence) if method == "PUT" else silence,
                ),
                allow_redirects=not isinstance(body, Body),
            )
        except (requests.RequestException, ValueError, urllib3.exceptions.HTTPError) as error:
            is_address = not isinstance(error, requests.exceptions.InvalidURL)  # else of a redirect
            if is_address and isinstance(error, requests.RequestException):
                raise
            raise ToolError(f"the registry {self.where} names an address that is none: {error}") from error

    def _sign(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add what the registry wants, for itself; being a callable also keeps a ~/.netrc out of it."""
        asked, mine = urlsplit(str(prepared.url)), urlsplit(self.endpoint.url)
        if self._authorization and (asked.scheme, asked.netloc) == (mine.scheme, mine.netloc):
            prepared.headers["Authorization"] = self._authorization
        return prepared

    def authorize(self, response: requests.Response) -> None:
        """Answer a 401's challenge.

        https://www.rfc-editor.org/rfc/rfc6750#section-3

        When several threads are challenged at once, one of them gets the token for all.
        """
        scheme, _, rest = response.headers.get("WWW-Authenticate", "").partition(" ")
        asked = {k.lower(): v for k, v in re.findall(r'([A-Za-z]+)="([^"]*)"', rest)}
        with self._lock:
            if response.request.headers.get("Authorization", "") != self._authorization:
                return
            if self._credentials is None:
                there = self.endpoint
                said = Credentials(there.user, there.password)
                self._credentials = said or find_credentials(there.host)
            known = self._credentials
            if scheme.lower() == "basic" and known.user:
                self._authorization = _basic(known)
            elif scheme.lower() == "bearer" and "realm" in asked:
                self._authorization = f"Bearer {self._token(asked, known)}"

    def _token(self, asked: Mapping[str, str], known: Credentials) -> str:
        import requests

        realm, service = asked["realm"], asked.get("service", "")
        if known and not self._may_have_password(realm):
            raise ToolError(f"the registry {self.where} wants a password sent in the clear, to {realm}")
        fields = {"service": service, "client_id": "envbox"}
        session, silence = _session(self._settings), self._settings.timeout
        try:
            if known.identity_token:
                grant = {"grant_type": "refresh_token", "refresh_token": known.identity_token}
                scope = {"scope": " ".join(self._scopes)}
                response = session.post(
                    realm, data=fields | scope | grant, timeout=silence, stream=True, allow_redirects=False
                )  # a redirect would take the token along
            else:

                def sign(prepared: requests.PreparedRequest) -> requests.PreparedRequest:
                    if known.user:
                        prepared.headers["Authorization"] = _basic(known)
                    return prepared

                wanted = [*fields.items(), *(("scope", scope) for scope in self._scopes)]
                response = session.get(realm, params=wanted, auth=sign, timeout=silence, stream=True)
            answer = read_json(response, f"what {realm} answers") if response.status_code < 300 else {}
            response.close()
        except (requests.RequestException, ValueError) as error:
            raise ToolError(
                f"cannot get a token for {self.reference} from {realm}: {reason(error)}"
            ) from error
        given = answer if isinstance(answer, dict) else {}
        token = given.get("token") or given.get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise self._refused(f"HTTP {response.status_code} from {realm}")
        return token

    def _may_have_password(self, realm: str) -> bool:
        """Return whether a password may go where the registry says: encrypted, or no further than it goes
        anyway.
        """
        try:
            asked, mine = urlsplit(realm), urlsplit(self.endpoint.url)
        except ValueError:
            return False
        is_near = is_loopback(asked.netloc) and is_loopback(mine.netloc)
        return (
            asked.scheme == "https" or is_near or (asked.scheme, asked.netloc) == (mine.scheme, mine.netloc)
        )

    def _refused(self, failure: str) -> ImageError:
        host = self.endpoint.host
        known = Credentials() if self._credentials is None else self._credentials
        if known.problem:
            who = f"docker's credentials could not be read: {known.problem}"
        elif self.endpoint.user and known:  # it may be a token: not shown
            who = "with the login that [mirrors] has for it"
        elif known:
            who = f"as {known.user or 'the user that docker is logged in as'}"
        else:
            who = "without a login"
        if self._deed == "push":
            return ImageError(
                f"{self.where} does not let us push {self.reference}, {who} ({failure})",
                f"log in as somebody who may: docker login {host}",
            )
        return ImageError(
            f"{self.where} does not let us read {self.reference}, {who}: it is private, or there is none "
            f"of that name ({failure})",
            f"check the name; if it is private: docker login {host}",
        )

    def refusal(self, status: int, failure: str) -> EnvboxError:
        """Return what to say of an answer that no repetition would change."""
        if status in (401, 403):
            return self._refused(failure)
        return ToolError(f"the registry {self.where} answers {failure} for {self.reference}")

    def _failing(self, status: int, failure: str) -> ToolError:
        if status == 429:
            return ToolError(
                f"{self.where} has had too many requests from here, and does not give {self.reference} now",
                f"wait, or log in for a higher limit: docker login {self.endpoint.host}",
            )
        return ToolError(
            f"the registry {self.where} keeps failing for {self.reference}: {failure}", "try again later"
        )

    def _unreachable(self, error: Exception) -> ToolError:
        hint = "check the network, or set a mirror for it: [mirrors] in envbox.toml"
        if "certificate verify failed" in str(error):
            hint = certificate_hint(self.endpoint.url)
        if "WRONG_VERSION_NUMBER" in str(error):
            hint = f'if it speaks plain http, say so: [mirrors] "{self.reference.registry}" = "http://{self.endpoint.host}"'
        return ToolError(
            f"cannot reach the registry {self.where} for {self.reference}: {reason(error)}", hint
        )


def _session(settings: Settings) -> requests.Session:
    session = open_session(settings)
    session.headers.update({"User-Agent": "envbox", "Accept-Encoding": "identity"})
    for scheme in ("https://", "http://"):
        session.mount(scheme, patient_adapter(pool_connections=CONNECTIONS, pool_maxsize=CONNECTIONS))
    return session


def _basic(known: Credentials) -> str:
    pair = f"{known.user}:{known.password}".encode()
    return "Basic " + base64.b64encode(pair).decode()
