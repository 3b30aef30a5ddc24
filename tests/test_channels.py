"""Channels that want a login, a proxy, a certificate or patience, or are not there: real servers."""

from __future__ import annotations

import json
import socket
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from support.auth_servers import Guarded, basic, guarded, make_certificates, proxy, reset, status
from support.paper_channel import record, write_channel

from envbox.errors import EnvboxError, SettingsError, SpecError, ToolError
from envbox.lockfile import LockedPackage
from envbox.locks.solve import gateway, solve
from envbox.locks.solve import silent_channels as patience
from envbox.locks.solve.gateway import headers_for, with_tokens
from envbox.locks.solve.request import SolveRequest
from envbox.mirrors import Mirrors
from envbox.net.credentials import Login, LoginPlace, Logins
from envbox.settings import Settings

ME = basic("me", "s3cret")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("channels")
    write_channel(folder / "c", [record("a", "1"), record("b", "2", ["a"], subdir="linux-64")])
    write_channel(folder / "other", [record("z", "1")])
    return folder


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "ENVBOX_CREDENTIALS", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    return Settings(tmp_path / "cache", timeout=5)


@pytest.fixture
def server(folder: Path) -> Iterator[Guarded]:
    with guarded(folder) as found:
        yield found


def answer(settings: Settings, *channels: str, specs: Sequence[str] = ("b",)) -> tuple[LockedPackage, ...]:
    question = SolveRequest("linux-64", tuple(specs), {"__unix": ("0", "0")}, ())
    found = solve([question], channels, settings)["linux-64"]
    if isinstance(found, EnvboxError):
        raise found
    assert "s3cret" not in repr(found)
    for path in settings.cache_dir.rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes(), path
    return found


def urls(found: Sequence[LockedPackage]) -> list[str]:
    return sorted(package.url for package in found)


def expected(channel: str) -> list[str]:
    return [f"{channel}/linux-64/b-2-0.conda", f"{channel}/noarch/a-1-0.conda"]


# --- logins ---


@pytest.mark.parametrize(
    "kind", ["netrc", "rattler basic", "rattler bearer", "rattler token", "condarc", "variable"]
)
def test_a_login_that_another_tool_left_opens_a_channel(
    server: Guarded, settings: Settings, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    host, home = server.url.removeprefix("http://"), Path.home()
    server.wants = {
        "rattler bearer": "Bearer s3cret",
        "rattler token": "/t/s3cret/",
        "condarc": "/t/s3cret/",
    }.get(kind, ME)
    if kind == "netrc":
        (home / ".netrc").write_text("machine 127.0.0.1 login me password s3cret\n")
    elif kind == "condarc":
        (home / ".condarc").write_text(f"channel_alias: http://{host}/t/s3cret\n")
    elif kind == "variable":
        monkeypatch.setenv("ENVBOX_CREDENTIALS", f"{host}=me:s3cret")
    else:
        (home / ".rattler").mkdir()
        entry = {
            "rattler basic": {"BasicHTTP": {"username": "me", "password": "s3cret"}},
            "rattler bearer": {"BearerToken": "s3cret"},
            "rattler token": {"CondaToken": "s3cret"},
        }[kind]
        (home / ".rattler" / "credentials.json").write_text(json.dumps({"127.0.0.1": entry}))
    assert urls(answer(settings, f"{server.url}/c")) == expected(f"{server.url}/c")


@pytest.mark.parametrize("written", ["me:s3cret@", "me:$SECRET@", "/t/s3cret", "/t/$SECRET"])
@pytest.mark.parametrize("where", ["channel", "match spec", "package"])
def test_a_login_in_the_spec_is_used_and_goes_nowhere(
    server: Guarded, settings: Settings, monkeypatch: pytest.MonkeyPatch, where: str, written: str
) -> None:
    monkeypatch.setenv("SECRET", "s3cret")
    server.wants = ME if "@" in written else "/t/s3cret/"
    user, path = (written, "") if "@" in written else ("", written)
    channel = server.url.replace("://", f"://{user}") + f"{path}/c"
    specs = {"channel": "b", "match spec": f"{channel}::b", "package": f"{channel}/linux-64/b-2-0.conda"}
    assert urls(answer(settings, channel, specs=[specs[where]])) == expected(f"{server.url}/c")


def test_a_channel_s_login_is_not_shown_to_its_mirror(server: Guarded, settings: Settings) -> None:
    mirrored = replace(settings, mirrors=Mirrors({"http://c.example": server.url}))
    channel = "http://me:s3cret@c.example/c"
    assert urls(answer(mirrored, channel)) == expected("http://c.example/c")
    assert not server.shown


@pytest.mark.parametrize(
    ("wants", "login", "path"), [(ME, "me:s3cret@", ""), ("/t/s3cret/", "", "/t/s3cret")]
)
def test_a_mirror_s_own_login_is_shown_to_it(
    server: Guarded, settings: Settings, wants: str, login: str, path: str
) -> None:
    server.wants = wants
    mirror = server.url.replace("://", f"://{login}") + path
    mirrored = replace(settings, mirrors=Mirrors({"http://c.example": mirror}))
    assert urls(answer(mirrored, "http://c.example/c")) == expected("http://c.example/c")


def test_one_host_s_login_is_not_shown_to_another_port_of_it(
    server: Guarded, folder: Path, settings: Settings
) -> None:
    server.wants = ME
    with guarded(folder) as other:
        answer(
            settings,
            server.url.replace("://", "://me:s3cret@") + "/c",
            f"{other.url}/other",
            specs=["b", "z"],
        )
        assert not other.shown
        # where an address may mean either, neither login is shown: the one that wants it refuses
        with pytest.raises(ToolError, match="401"):
            answer(
                replace(settings, cache_dir=settings.cache_dir / "2"),
                server.url.replace("://", "://me:s3cret@") + "/c",
                f"{other.url}/c",
            )
        assert not other.shown


def test_a_redirect_to_another_host_goes_without_the_login(
    server: Guarded, folder: Path, settings: Settings
) -> None:
    with guarded(folder) as other:
        missing = status(404)
        moved = status(302, Location=f"{other.url}/c/noarch/repodata.json")
        server.first = [missing, missing, moved, moved]
        channel = server.url.replace("://", "://me:s3cret@") + "/c"
        answer(settings, channel, specs=["a"])
        assert server.shown == {ME}
        assert other.paths
        assert not other.shown


def test_the_headers_are_for_what_lies_below_the_channel() -> None:
    login = Login("bearer", "x")
    logins = Logins([LoginPlace("h", login, 443, "/private"), LoginPlace("t", Login("token", "y"))])
    said = headers_for(["https://h/private", "https://h/public", "https://t/c"], logins)
    assert said("h", "/private/noarch/repodata.json") == {"Authorization": "Bearer x"}
    assert said("h", "/privates/noarch/repodata.json") is None
    assert said("h", "/public/noarch/repodata.json") is None
    assert said("other", "/private/noarch/repodata.json") is None
    assert said("t", "/c/noarch/repodata.json") is None
    assert with_tokens(["https://t/c", "https://h/private", "https://t/t/z/c"], logins) == {
        "https://t/c/": "https://t/t/y/c/"
    }


# --- what is said ---


def test_a_channel_that_refuses_is_named_with_what_to_do(server: Guarded, settings: Settings) -> None:
    server.wants = ME
    with pytest.raises(ToolError, match=r"http://127\.0\.0\.1:\d+/c does not let us read it: 401") as caught:
        answer(settings, f"{server.url}/c")
    assert "pixi auth login 127.0.0.1" in str(caught.value.hint)


def test_a_store_that_cannot_be_read_is_named_only_when_it_is_needed(
    server: Guarded, settings: Settings
) -> None:
    (Path.home() / ".rattler").mkdir()
    (Path.home() / ".rattler" / "credentials.json").write_text('{"s3cret')
    answer(settings, f"{server.url}/c")
    server.wants = ME
    with pytest.raises(ToolError) as caught:
        answer(replace(settings, cache_dir=settings.cache_dir / "2"), f"{server.url}/c")
    assert "credentials.json could not be read" in str(caught.value.hint)


def test_a_channel_that_is_down_is_named(server: Guarded, settings: Settings) -> None:
    with pytest.raises(ToolError, match=r"the channel http://127\.0\.0\.1:1/c cannot be read.*refused"):
        answer(settings, "http://me:s3cret@127.0.0.1:1/c", f"{server.url}/c")


def test_a_silent_channel_is_given_up_and_named(settings: Settings) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes the call and says nothing
        url = f"http://me:s3cret@127.0.0.1:{silent.getsockname()[1]}/c"
        start = time.monotonic()
        with pytest.raises(ToolError) as caught:
            answer(replace(settings, timeout=1), url)
    assert time.monotonic() - start < 6
    place = url.replace("me:s3cret@", "")
    assert caught.value.message == f"the channel {place} does not answer (waited for 1 s)"


STALLS = ["before the headers", "in the headers", "in the body", "byte by byte"]


@contextmanager
def stalling(folder: Path, where: str, what: str) -> Iterator[str]:
    """Serve a folder, but never end the answer of a file: gives the address."""
    ended = threading.Event()

    def stall(handler: BaseHTTPRequestHandler) -> None:
        if where == "before the headers":
            ended.wait(30)
            return
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n")
        if where != "in the headers":
            handler.wfile.write(b"Content-Length: 5000000\r\n\r\n" + bytes(5000))
        while not ended.wait(0.05 if where == "byte by byte" else 30):
            handler.wfile.write(b"\0")

    with guarded(folder) as server, suppress(OSError):
        server.instead = lambda path: stall if what in path else None
        try:
            yield server.url
        finally:
            ended.set()


@pytest.mark.parametrize(
    ("where", "what"),
    [
        *((where, "noarch/repodata.json") for where in STALLS),
        ("in the body", "noarch/repodata_shards"),
        ("byte by byte", "linux-64/repodata.json"),
    ],
)
def test_a_channel_that_stalls_anywhere_is_given_up_and_named(
    folder: Path, settings: Settings, where: str, what: str
) -> None:
    with stalling(folder, where, what) as url, guarded(folder) as other:
        with pytest.raises(ToolError) as caught:
            answer(replace(settings, timeout=0.5), f"{other.url}/other", f"{url}/c")
        assert caught.value.message == f"the channel {url}/c does not answer (waited for 0.5 s)"
        assert "`timeout`" in str(caught.value.hint)


@pytest.mark.parametrize("bound", ["LARGEST_INDEX", "MOST_MEMORY"])
def test_an_index_that_never_ends_is_given_up_and_named(
    folder: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        packing = zlib.compressobj(1, zlib.DEFLATED, 31)
        with suppress(OSError):
            status(200, **{"Content-Length": "900000000", "Content-Encoding": "gzip"})(handler)
            while not ended.wait(0.001):
                handler.wfile.write(packing.compress(bytes(1 << 20)))

    ended = threading.Event()
    monkeypatch.setattr(patience, bound, 10 << 20)
    if bound == "MOST_MEMORY":
        monkeypatch.setattr(patience, "_memory", iter(range(0, 1 << 40, 6 << 20)).__next__)
    (settings.cache_dir / "repodata").mkdir(parents=True)
    (settings.cache_dir / "repodata" / ".left").write_bytes(bytes(11 << 20))  # by one that was killed
    with guarded(folder) as server:
        server.instead = lambda path: endless if path.endswith("noarch/repodata.json") else None
        with pytest.raises(ToolError, match=rf"the index of the channel {server.url}/c is larger than"):
            answer(settings, f"{server.url}/c")
        ended.set()


def test_a_slow_channel_is_waited_for(folder: Path, settings: Settings, tmp_path: Path) -> None:
    records = [record(f"p{number}", "1") for number in range(60)]
    write_channel(tmp_path / "c", [*records, record("b", "2", subdir="linux-64")])

    def slow(handler: BaseHTTPRequestHandler) -> None:
        data = (tmp_path / handler.path[1:]).read_bytes()
        status(200, **{"Content-Length": str(len(data))})(handler)
        for start in range(0, len(data), 2000):
            handler.wfile.write(data[start : start + 2000])
            time.sleep(0.2)

    with guarded(tmp_path) as server:
        server.instead = lambda path: slow if path.endswith("noarch/repodata.json") else None
        start = time.monotonic()
        assert {p.name for p in answer(replace(settings, timeout=0.8), f"{server.url}/c")} == {"b"}
        assert time.monotonic() - start > 0.8


def test_a_channel_that_is_not_there_is_named(server: Guarded, settings: Settings) -> None:
    with pytest.raises(SpecError, match=r"there is no channel http://127\.0\.0\.1:\d+/gone"):
        answer(settings, f"{server.url}/gone")


def test_a_channel_that_stumbles_is_asked_again(server: Guarded, settings: Settings) -> None:
    server.first = [status(503), reset, status(503), reset]
    assert urls(answer(settings, f"{server.url}/c")) == expected(f"{server.url}/c")


# --- proxies and certificates ---


def test_a_proxy_is_used_and_its_login_is_not_said(
    server: Guarded, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy(ME) as between:
        monkeypatch.setenv("HTTP_PROXY", f"http://me:s3cret@{between.host}")
        assert urls(answer(settings, f"{server.url}/c")) == expected(f"{server.url}/c")
        assert between.asked
        assert not server.shown
        monkeypatch.setenv("HTTP_PROXY", f"http://other:s3cret@{between.host}")
        with pytest.raises(ToolError, match="407") as caught:
            answer(replace(settings, cache_dir=settings.cache_dir / "2"), f"{server.url}/c")
        assert "s3cret" not in f"{caught.value.message}{caught.value.hint}"


@pytest.mark.parametrize("way", ["setting", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_an_organisation_s_certificate_is_trusted_when_it_is_named(
    folder: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    ca, context = make_certificates(tmp_path)
    with guarded(folder, context=context) as server:
        with pytest.raises(ToolError, match="certificate") as caught:
            answer(settings, f"{server.url}/c")
        assert "ca_bundle" in str(caught.value.hint)
        trusting = replace(settings, cache_dir=settings.cache_dir / "2")
        if way == "setting":
            trusting = replace(trusting, ca_bundle=ca)
        else:
            monkeypatch.setenv(way, str(ca))
        assert urls(answer(trusting, f"{server.url}/c")) == expected(f"{server.url}/c")


def test_a_file_that_holds_no_certificates_is_named(server: Guarded, settings: Settings) -> None:
    with pytest.raises(
        SettingsError, match=r"ca_bundle names .*test_channels\.py, which holds no certificates"
    ):
        answer(replace(settings, ca_bundle=Path(__file__)), f"{server.url}/c")


# --- offline ---


def test_offline_solves_from_what_was_read_before_and_asks_nobody(
    server: Guarded, settings: Settings
) -> None:
    before = answer(settings, f"{server.url}/c")
    server.asked.clear()
    offline = replace(settings, offline=True)
    assert answer(offline, f"{server.url}/c") == before
    with pytest.raises(
        ToolError,
        match=r"the channel http://127\.0\.0\.1:\d+/other has for (noarch|linux-64) is not in the cache",
    ) as caught:
        answer(offline, f"{server.url}/c", f"{server.url}/other")
    assert "--offline" in str(caught.value.hint)
    assert not server.asked


def test_offline_a_package_that_was_never_asked_for_is_named() -> None:
    told = "the shard for package 'pip' is not in the cache"  # of a channel that is indexed in shards
    found = gateway._channel_error(told, ["conda-forge"], Settings(Path("cache"), offline=True))
    assert found.message.startswith(
        "what the channel https://conda.anaconda.org/conda-forge/ has of pip is not"
    )
    assert "--offline" in str(found.hint)


def test_a_port_is_not_taken_for_a_status() -> None:
    told = (
        "error sending request for url (http://h:40404/c/noarch/repodata.json)\nCaused by: Connection refused"
    )
    assert isinstance(gateway._channel_error(told, ["http://h:40404/c"], Settings(Path("cache"))), ToolError)
