"""Real servers on loopback that want something: a login, a trusted certificate, a proxy, patience."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Guarded:
    """A server of a folder's files, and what it was asked.

    :param asked: path and Authorization header ("" for none) of each request
    :param wants: an Authorization header, or a path's beginning, without which there is nothing
    :param instead: gives the answer for a path, instead of its file; called with the handler
    :param first: answers to the first requests, instead of files: called with the handler
    """

    url: str = ""
    wants: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    first: list[Callable[[BaseHTTPRequestHandler], None]] = field(default_factory=list)
    instead: Callable[[str], Callable[[BaseHTTPRequestHandler], None] | None] = lambda _: None

    @property
    def paths(self) -> list[str]:
        """What was asked for."""
        return [path for path, _ in self.asked]

    @property
    def shown(self) -> set[str]:
        """The logins that were shown."""
        return {said for _, said in self.asked if said}


def basic(user: str, password: str) -> str:
    """The header of RFC 7617."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def status(code: int, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """An answer that has a status alone."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in {"Content-Length": "0", **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()

    return answer


def reset(handler: BaseHTTPRequestHandler) -> None:
    """No answer at all."""
    handler.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def guarded(folder: Path, wants: str = "", context: ssl.SSLContext | None = None) -> Iterator[Guarded]:
    """Serve a folder on a free loopback port, to who shows what is wanted."""
    server = Guarded(wants=wants)

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any, **named: Any) -> None:
            super().__init__(*args, directory=str(folder), **named)

        def do_GET(self) -> None:
            said = self.headers.get("Authorization", "")
            server.asked.append((self.path, said))
            if server.first:
                server.first.pop(0)(self)
            elif answer := server.instead(self.path):
                answer(self)
            elif not server.wants.startswith("/") and server.wants not in ("", said):
                status(401)(self)
            elif not self.path.startswith(server.wants) and server.wants.startswith("/"):
                status(404)(self)
            else:
                if server.wants.startswith("/"):
                    self.path = "/" + self.path.removeprefix(server.wants).lstrip("/")
                super().do_GET()

        def send_head(self) -> Any:
            del self.headers["If-Modified-Since"]
            return super().send_head()

        def log_message(self, *_: object) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context:
        http.socket = context.wrap_socket(http.socket, server_side=True)
    server.url = f"http{'s' if context else ''}://127.0.0.1:{http.server_port}"
    with _running(http):
        yield server


@contextmanager
def _running(http: ThreadingHTTPServer) -> Iterator[None]:
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield
    finally:
        http.shutdown()
        http.server_close()


@dataclass
class Proxy:
    """A proxy, and what went through it: the request lines, and the logins that were shown to it."""

    host: str
    asked: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)


@contextmanager
def proxy(wants: str = "") -> Iterator[Proxy]:
    """Run an HTTP proxy on a free loopback port: CONNECT, and GET with the whole address."""

    class Handler(BaseHTTPRequestHandler):
        def _may(self) -> bool:
            seen.asked.append(f"{self.command} {self.path}")
            seen.logins.append(said := self.headers.get("Proxy-Authorization", ""))
            if wants and said != wants:
                status(407, Proxy_Authenticate="Basic")(self)
                return False
            return True

        def do_CONNECT(self) -> None:
            if not self._may():
                return
            host, _, port = self.path.rpartition(":")
            with socket.create_connection((host, int(port))) as there, suppress(OSError):
                self.send_response(200)
                self.end_headers()
                ends = [self.connection, there]
                while ready := select.select(ends, [], [], 5)[0]:
                    for end in ready:
                        data = end.recv(65536)
                        if not data:
                            return
                        ends[1 - ends.index(end)].sendall(data)

        def do_GET(self) -> None:
            if not self._may():
                return
            host, _, path = self.path.removeprefix("http://").partition("/")
            name, _, port = host.partition(":")
            with socket.create_connection((name, int(port))) as there:
                lines = [f"GET /{path} HTTP/1.0", f"Host: {host}"]
                if said := self.headers.get("Authorization"):
                    lines.append(f"Authorization: {said}")
                there.sendall("\r\n".join([*lines, "", ""]).encode())
                while data := there.recv(65536):
                    self.connection.sendall(data)
            self.close_connection = True

        def log_message(self, *_: object) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    seen = Proxy(f"127.0.0.1:{http.server_port}")
    with _running(http):
        yield seen


def make_certificates(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """Make an authority's file, and a server's context with a certificate by it, for 127.0.0.1."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = datetime.datetime.now(datetime.UTC)

    def certificate(name: str, key: Any, issuer: tuple[str, Any], is_authority: bool) -> Any:
        def named(text: str) -> Any:
            return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

        return (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named(issuer[0]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer[1].public_key()), critical=False
            )
            .sign(issuer[1], hashes.SHA256())
        )

    authority, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(
        certificate("An authority", authority, ("An authority", authority), True).public_bytes(pem)
    )
    (folder / "server.pem").write_bytes(
        own.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate("A server", own, ("An authority", authority), False).public_bytes(pem)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return folder / "ca.pem", context
