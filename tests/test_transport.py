"""Logins, redirects, proxies and certificates against real servers: what each of them is shown."""

from __future__ import annotations

import gzip
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import requests
from support.auth_servers import Guarded, basic, guarded, make_certificates, proxy, reset, status

from envbox.errors import PackageError, SettingsError, ToolError
from envbox.lockfile import LockedPackage
from envbox.mirrors import Mirrors
from envbox.net.transport import TooLongError, Transport
from envbox.packages.fetch import download as room
from envbox.packages.fetch import fetch, fetch_archives
from envbox.settings import Settings

DATA = b"the archive" * 100_000
SHA = hashlib.sha256(DATA).hexdigest()
ME = basic("me", "s3cret")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "served" / "noarch").mkdir(parents=True)
    (tmp_path / "served" / "noarch" / "a.conda").write_bytes(DATA)
    return tmp_path / "served"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(room, "_FIRST_PAUSE", 0.001)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "ENVBOX_CREDENTIALS", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    return Settings(tmp_path / "cache", timeout=5)


@pytest.fixture
def server(folder: Path) -> Iterator[Guarded]:
    with guarded(folder) as found:
        yield found


def get(url: str, settings: Settings) -> bytes:
    return fetch(url, settings.cache_dir / "a", SHA, settings).read_bytes()


# --- logins ---


@pytest.mark.parametrize(
    ("wants", "said"),
    [(ME, "=me:s3cret"), ("Bearer s3cret", "=s3cret"), ("/t/s3cret/", "=/t/s3cret")],
)
def test_a_login_is_shown_to_its_host(
    server: Guarded, settings: Settings, monkeypatch: pytest.MonkeyPatch, wants: str, said: str
) -> None:
    server.wants = wants
    monkeypatch.setenv("ENVBOX_CREDENTIALS", server.url.removeprefix("http://") + said)
    assert get(f"{server.url}/noarch/a.conda", settings) == DATA


def test_a_login_is_not_shown_to_another_port(
    server: Guarded, folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVBOX_CREDENTIALS", server.url.removeprefix("http://") + "=me:s3cret")
    with guarded(folder) as other:
        get(f"{other.url}/noarch/a.conda", settings)
        assert not other.shown


@pytest.mark.parametrize("said", ["=me:s3cret", "=s3cret", "=/t/s3cret"])
def test_a_redirect_to_another_host_goes_without_the_login(
    server: Guarded, folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    (Path.home() / ".netrc").write_text("machine 127.0.0.1 login me password s3cret\n")
    monkeypatch.setenv("ENVBOX_CREDENTIALS", server.url.removeprefix("http://") + said)
    with guarded(folder) as other:
        server.first = [status(302, Location=f"{other.url}/noarch/a.conda")]
        assert get(f"{server.url}/noarch/a.conda", settings) == DATA
        assert other.asked == [("/noarch/a.conda", "")]


def test_a_redirect_on_the_same_host_keeps_it(server: Guarded, settings: Settings) -> None:
    (Path.home() / ".netrc").write_text("machine 127.0.0.1 login me password s3cret\n")
    server.wants = ME
    server.first = [status(302, Location="/noarch/a.conda")]
    assert get(f"{server.url}/x", settings) == DATA


def test_a_mirror_s_own_login_is_shown_to_the_mirror_and_never_printed(
    server: Guarded, settings: Settings
) -> None:
    server.wants = ME
    address = server.url.replace("://", "://me:s3cret@")
    mirrored = Settings(settings.cache_dir, mirrors=Mirrors({"https://c.example/x": address}))
    assert get("https://c.example/x/noarch/a.conda", mirrored) == DATA
    server.first = [status(404)]
    with pytest.raises(ToolError) as caught:
        fetch("https://c.example/x/gone", settings.cache_dir / "b", SHA, mirrored)
    assert "s3cret" not in f"{caught.value.message}{caught.value.hint}"
    assert mirrored.mirrors.canonical(f"{server.url}/noarch/a.conda") == "https://c.example/x/noarch/a.conda"


def test_the_keyring_is_asked_when_a_server_refuses(
    server: Guarded, settings: Settings, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    import keyring
    from keyring.backend import KeyringBackend

    before, asked = keyring.get_keyring(), []  # before, or it would be a chain with ours in it

    class Ring(KeyringBackend):
        priority = 1  # type: ignore[assignment]

        def get_password(self, service: str, username: str) -> str | None:
            asked.append((service, username))
            return json.dumps({"BasicHTTP": {"username": "me", "password": "s3cret"}})

        def set_password(self, *_: str) -> None: ...

    keyring.set_keyring(Ring())
    request.addfinalizer(lambda: keyring.set_keyring(before))
    assert get(f"{server.url}/noarch/a.conda", settings) == DATA
    assert not asked
    server.wants = ME
    fetch(f"{server.url}/noarch/a.conda", tmp_path / "b", SHA, settings)
    assert asked == [("rattler", "127.0.0.1")]


def test_a_refusal_says_how_to_log_in(server: Guarded, settings: Settings) -> None:
    server.wants = ME
    with pytest.raises(ToolError, match="401") as caught:
        get(f"{server.url}/noarch/a.conda", settings)
    assert "pixi auth login 127.0.0.1" in str(caught.value.hint)
    assert len(server.asked) == 1


# --- patience ---


def test_what_broke_off_goes_on_from_there(server: Guarded, settings: Settings) -> None:
    def half(handler: object) -> None:
        status_line = handler.send_response  # type: ignore[attr-defined]
        status_line(200)
        handler.send_header("Content-Length", str(len(DATA)))  # type: ignore[attr-defined]
        handler.end_headers()  # type: ignore[attr-defined]
        handler.wfile.write(DATA[: len(DATA) // 2])  # type: ignore[attr-defined]

    def rest(handler: object) -> None:
        begin = int(handler.headers["Range"].removeprefix("bytes=").rstrip("-"))  # type: ignore[attr-defined]
        begun.append(begin)
        handler.send_response(206)  # type: ignore[attr-defined]
        handler.send_header("Content-Range", f"bytes {begin}-{len(DATA) - 1}/{len(DATA)}")  # type: ignore[attr-defined]
        handler.send_header("Content-Length", str(len(DATA) - begin))  # type: ignore[attr-defined]
        handler.end_headers()  # type: ignore[attr-defined]
        handler.wfile.write((DATA if begun[1:] else b"x" * len(DATA))[begin:])  # type: ignore[attr-defined]

    begun: list[int] = [0]
    server.first = [half, rest]
    assert get(f"{server.url}/noarch/a.conda", settings) == DATA
    assert 0 < begun[1] <= len(DATA) // 2
    # what was joined of two different files is fetched anew, whole
    begun[:] = []
    server.first = [half, rest]
    assert fetch(f"{server.url}/noarch/a.conda", settings.cache_dir / "b", SHA, settings).is_file()
    assert len(server.asked) == 5


def test_a_server_that_cannot_resume_is_asked_for_the_whole(server: Guarded, settings: Settings) -> None:
    server.first = [status(503), reset, status(503)]
    assert get(f"{server.url}/noarch/a.conda", settings) == DATA
    assert len(server.asked) == 4


def test_a_server_is_given_the_time_it_asks_for_but_not_an_hour(
    server: Guarded, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []
    monkeypatch.setattr("envbox.packages.fetch.download.time.sleep", waited.append)
    server.first = [status(429, Retry_After="7")]
    assert get(f"{server.url}/noarch/a.conda", settings) == DATA
    assert waited == [7.0]
    server.first = [status(429, Retry_After="3600")]
    with pytest.raises(ToolError, match=r"429 .* asks to wait for 3600 seconds"):
        fetch(f"{server.url}/noarch/a.conda", settings.cache_dir / "b", SHA, settings)


def test_a_silent_server_is_given_up(
    server: Guarded, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    ended = threading.Event()
    monkeypatch.setattr(room, "_ATTEMPTS", 2)
    server.first = [lambda _: ended.wait(30) and None] * 2  # type: ignore[func-returns-value]
    quick = Settings(settings.cache_dir, timeout=0.2)
    with pytest.raises(ToolError, match="timed out"):
        get(f"{server.url}/noarch/a.conda", quick)
    ended.set()


@pytest.mark.parametrize("where", ["headers", "body", "packed body"])
def test_a_server_that_sends_a_byte_now_and_then_is_given_up(
    server: Guarded, settings: Settings, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    ended = threading.Event()

    def trickle(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        if where != "headers":
            packed = b"Content-Encoding: gzip\r\n" if where == "packed body" else b""
            handler.wfile.write(b"x\r\n" + packed + b"Content-Length: 1100000\r\n\r\n")
        while not ended.wait(0.05):
            handler.wfile.write(b"x")

    monkeypatch.setattr(room, "_ATTEMPTS", 2)
    server.instead = lambda _: trickle
    quick = replace(settings, timeout=0.3)
    with pytest.raises(ToolError, match=r"timed out|in 0\.3 seconds"):
        get(f"{server.url}/noarch/a.conda", quick)
    ended.set()


def test_a_server_that_is_slow_is_waited_for(server: Guarded, settings: Settings) -> None:
    def slow(handler: BaseHTTPRequestHandler) -> None:
        status(200, **{"Content-Length": str(len(DATA))})(handler)
        for start in range(0, len(DATA), len(DATA) // 6):
            handler.wfile.write(DATA[start : start + len(DATA) // 6])
            time.sleep(0.15)

    server.instead = lambda _: slow
    assert get(f"{server.url}/noarch/a.conda", replace(settings, timeout=0.5)) == DATA
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "where", ["file:///etc/hostname", "ftp://127.0.0.1/a", "javascript:1", "http://me:pw@h/a"]
)
def test_a_redirect_to_what_is_no_server_is_not_followed(
    server: Guarded, settings: Settings, where: str
) -> None:
    server.first = [status(302, Location=where)]
    with pytest.raises(ToolError, match="sends us on") as caught:
        get(f"{server.url}/noarch/a.conda", settings)
    assert "pw" not in caught.value.message


@pytest.mark.parametrize("where", [b"http://[::1", b"http://.a/", b"http://h/\xff\xfe", b"http://[x]/"])
def test_a_redirect_to_what_is_no_address_is_said(server: Guarded, settings: Settings, where: bytes) -> None:
    def moved(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + where + b"\r\n\r\n")

    server.instead = lambda _: moved
    with pytest.raises(requests.exceptions.InvalidURL, match="sends us on to what is no address"):
        Transport(settings).get(server.url)


def test_a_redirect_out_of_https_is_not_followed(folder: Path, settings: Settings, tmp_path: Path) -> None:
    ca, context = make_certificates(tmp_path)
    with guarded(folder, context=context) as secure, guarded(folder) as plain:
        secure.first = [status(302, Location=f"{plain.url}/noarch/a.conda")]
        with pytest.raises(ToolError, match="sends us on to http://"):
            get(f"{secure.url}/noarch/a.conda", replace(settings, ca_bundle=ca))
        assert not plain.asked


# --- how much comes ---


def locked(server: Guarded, size: int | None) -> LockedPackage:
    return LockedPackage("conda", "a", "1", "0", "noarch", {}, f"{server.url}/noarch/a.conda", SHA, size=size)


@pytest.mark.parametrize("told", [True, False])
def test_an_archive_is_never_longer_than_the_lock_says(
    server: Guarded, settings: Settings, told: bool
) -> None:
    sent = 0

    def endless(handler: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"Content-Length: 900000000\r\n" * told + b"\r\n")
        with suppress(OSError):
            while sent < 900_000_000:
                handler.wfile.write(DATA)
                sent += len(DATA)

    server.instead = lambda _: endless
    with pytest.raises(PackageError, match=f"more than the {len(DATA)} bytes"):
        fetch_archives([locked(server, len(DATA))], settings)
    assert sent < 50_000_000
    assert not [path for path in settings.cache_dir.rglob("*") if path.is_file()]


def test_an_archive_of_the_length_in_the_lock_is_taken(server: Guarded, settings: Settings) -> None:
    (path,) = fetch_archives([locked(server, len(DATA))], settings).values()
    assert path.read_bytes() == DATA


@pytest.mark.parametrize(
    ("body", "encoding", "words"),
    [
        (gzip.compress(bytes(40_000_000)), "gzip", TooLongError),
        (gzip.compress(b"good")[:-9], "gzip", requests.RequestException),
        (b"no gzip", "gzip", requests.RequestException),
        (b"anything", "br", requests.RequestException),
        (bytes(2_000_000), "identity", TooLongError),
    ],
)
def test_what_unpacks_to_more_than_can_be_is_not_unpacked(
    server: Guarded, settings: Settings, body: bytes, encoding: str, words: type[Exception]
) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        status(200, **{"Content-Length": str(len(body)), "Content-Encoding": encoding})(handler)
        with suppress(OSError):
            handler.wfile.write(body)

    server.instead = lambda _: answer
    transport = Transport(settings)
    with transport.get(server.url, {"Accept-Encoding": "gzip"}) as found, pytest.raises(words):
        transport.whole(found, 1_000_000)


# --- proxies and certificates ---


@pytest.mark.parametrize("secure", [False, True])
def test_a_proxy_is_used_with_its_login_and_not_where_it_must_not(
    folder: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secure: bool
) -> None:
    ca, context = make_certificates(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    name = "HTTPS_PROXY" if secure else "HTTP_PROXY"
    with guarded(folder, context=context if secure else None) as server, proxy(ME) as between:
        monkeypatch.setenv(name, f"http://me:s3cret@{between.host}")
        assert get(f"{server.url}/noarch/a.conda", settings) == DATA
        assert len(between.asked) == 1
        assert not server.shown
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        fetch(f"{server.url}/noarch/a.conda", tmp_path / "b", SHA, settings)
        assert len(between.asked) == 1


def test_a_proxy_that_is_down_or_refuses_is_said_without_its_login(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_ATTEMPTS", 1)
    with proxy(wants="other") as between:
        for host in (between.host, "127.0.0.1:1"):
            monkeypatch.setenv("HTTPS_PROXY", f"http://me:s3cret@{host}")
            monkeypatch.setenv("HTTP_PROXY", f"http://me:s3cret@{host}")
            for scheme in ("http", "https"):
                with pytest.raises(ToolError) as caught:
                    get(f"{scheme}://c.example/a.conda", settings)
                assert "407" in caught.value.message or "refused" in caught.value.message
                assert "s3cret" not in f"{caught.value.message}{caught.value.hint}"
                assert "PROXY" in str(caught.value.hint)


@pytest.mark.parametrize("way", ["setting", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_an_organisation_s_certificate_is_trusted_when_it_is_named(
    folder: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    ca, context = make_certificates(tmp_path)
    with guarded(folder, context=context) as server:
        with pytest.raises(ToolError, match="certificate") as caught:
            get(f"{server.url}/noarch/a.conda", settings)
        assert "ca_bundle" in str(caught.value.hint)
        if way == "setting":
            settings = Settings(settings.cache_dir, ca_bundle=ca)
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", __file__)  # the setting outranks it
        else:
            monkeypatch.setenv(way, str(ca))
        assert get(f"{server.url}/noarch/a.conda", settings) == DATA


def test_certificates_that_are_not_there_are_named(settings: Settings) -> None:
    with pytest.raises(SettingsError, match=r"ca_bundle names /nowhere\.pem, which is not there"):
        fetch("https://h/a", Path("x"), SHA, Settings(settings.cache_dir, ca_bundle=Path("/nowhere.pem")))


# --- offline ---


def test_offline_names_what_is_missing_and_asks_nobody(server: Guarded, settings: Settings) -> None:
    def package(name: str, sha256: str) -> LockedPackage:
        url = f"{server.url}/noarch/{name}.conda"
        return LockedPackage("conda", name, "1.0", "0", "linux-64", {}, url, sha256)

    fetch_archives([package("a", SHA)], settings)
    offline = Settings(settings.cache_dir, offline=True)
    server.asked.clear()
    assert fetch_archives([package("a", SHA)], offline)[SHA].read_bytes() == DATA
    with pytest.raises(ToolError, match=r"not in the cache.*: b0 1\.0, b1 1\.0, .* and 2 more") as caught:
        fetch_archives([package("a", SHA), *(package(f"b{i}", str(i) * 64) for i in range(7))], offline)
    assert "--offline" in str(caught.value.hint)
    assert not server.asked
