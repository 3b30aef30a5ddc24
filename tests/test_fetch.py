from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from envbox.errors import PackageError, ToolError
from envbox.lockfile import LockedPackage
from envbox.mirrors import Mirrors
from envbox.net.transport import Transport
from envbox.packages.fetch import FetchedArchive, archive_path, fetch, fetch_archives, fetch_unhashed
from envbox.packages.fetch import download as room
from envbox.report import SILENT
from envbox.settings import Settings

DATA = b"the archive" * 1000
SHA = hashlib.sha256(DATA).hexdigest()
Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """A real server whose answers are a list, the last one repeated."""

    def __init__(self) -> None:
        self.answers: list[Answer] = [whole]
        self.asked: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                (server.answers.pop(0) if len(server.answers) > 1 else server.answers[0])(self)

            def log_message(self, *_: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


def whole(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(DATA)))
    handler.end_headers()
    handler.wfile.write(DATA)


def cut(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(DATA)))
    handler.end_headers()
    handler.wfile.write(DATA[:50])


def reset(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()


def status(code: int) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def moved(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "/elsewhere")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def slow(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(600):
        handler.wfile.write(b"x" * 100_000)
        time.sleep(0.05)


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.http.shutdown()
    found.http.server_close()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(room, "_FIRST_PAUSE", 0.001)
    return Settings(tmp_path / "cache")


def locked(url: str, sha256: str = SHA) -> LockedPackage:
    return LockedPackage("conda", "a", "1", "0", "linux-64", {}, url, sha256)


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_an_archive_is_fetched_once_under_its_hash_and_own_name(server: Server, settings: Settings) -> None:
    package = locked(f"{server.url}/linux-64/a-1-0.conda")
    found = fetch_archives([package, package], settings)
    assert found == {SHA: settings.cache_dir / "packages" / SHA / "a-1-0.conda"}
    assert found[SHA].read_bytes() == DATA
    fetch_archives([package], settings)
    assert server.asked == ["/linux-64/a-1-0.conda"]


def test_a_mirror_is_asked_instead(server: Server, settings: Settings) -> None:
    mirrored = Settings(
        settings.cache_dir, mirrors=Mirrors({"https://conda.example/forge": f"{server.url}/m"})
    )
    fetch_archives([locked("https://conda.example/forge/noarch/a.conda")], mirrored)
    assert server.asked == ["/m/noarch/a.conda"]


def test_a_file_url_is_read_from_the_disk(tmp_path: Path, settings: Settings) -> None:
    there = tmp_path / "a folder" / "a-1.conda"
    there.parent.mkdir()
    there.write_bytes(DATA)
    assert fetch_archives([locked(there.as_uri())], settings)[SHA].read_bytes() == DATA
    with pytest.raises(ToolError, match="No such file"):
        fetch((tmp_path / "gone").as_uri(), tmp_path / "x", SHA, settings)


@pytest.mark.parametrize("passing", [status(503), status(429), status(500), cut, reset])
def test_what_passes_is_tried_again(server: Server, settings: Settings, passing: Answer) -> None:
    server.answers = [passing, passing, whole]
    assert fetch(f"{server.url}/a", settings.cache_dir / "a", SHA, settings).read_bytes() == DATA


@pytest.mark.parametrize(
    ("answer", "words"),
    [(status(503), "503"), (cut, "after 50|IncompleteRead"), (reset, "losed|reset|aborted")],
)
def test_what_does_not_pass_is_an_error_that_names_the_address(
    server: Server, settings: Settings, answer: Answer, words: str
) -> None:
    server.answers = [answer]
    with pytest.raises(ToolError, match=words) as caught:
        fetch(f"{server.url}/a", settings.cache_dir / "a", SHA, settings)
    assert f"{server.url}/a" in caught.value.message
    assert not leftovers(settings.cache_dir)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410])
def test_a_refusal_is_not_tried_again(server: Server, settings: Settings, code: int) -> None:
    server.answers = [status(code)]
    with pytest.raises(ToolError, match=str(code)):
        fetch(f"{server.url}/a", settings.cache_dir / "a", SHA, settings)
    assert len(server.asked) == 1


def test_a_redirect_is_followed(server: Server, settings: Settings) -> None:
    server.answers = [moved, whole]
    fetch(f"{server.url}/a", settings.cache_dir / "a", SHA, settings)
    assert server.asked == ["/a", "/elsewhere"]


def test_a_file_with_another_hash_is_named_and_not_kept(server: Server, settings: Settings) -> None:
    words = f"a-1.conda is not what was locked: from .* came a file with sha256 {SHA}, the lock says 000"
    with pytest.raises(PackageError, match=words) as caught:
        fetch_archives([locked(f"{server.url}/a-1.conda", "0" * 64)], settings)
    assert "envbox lock" not in str(caught.value.hint)
    assert f"ask whoever runs the channel or index at {server.url[7:]}" in str(caught.value.hint)
    assert not leftovers(settings.cache_dir)
    assert len(server.asked) == 1


def test_a_mirror_that_has_another_file_is_named(server: Server, settings: Settings) -> None:
    url = "https://conda.anaconda.org/conda-forge/noarch/a-1.conda"
    mirrored = replace(settings, mirrors=Mirrors({"https://conda.anaconda.org": server.url}))
    with pytest.raises(PackageError, match=f"the mirror of {url}") as caught:
        fetch(url, settings.cache_dir / "a", "0" * 64, mirrored)
    assert f"ask whoever runs the mirror {server.url[7:]}; without the mirror" in str(caught.value.hint)
    assert not leftovers(settings.cache_dir)


def test_one_failure_ends_the_other_transfers(server: Server, settings: Settings) -> None:
    server.answers = [slow, status(404)]
    packages = [locked(f"{server.url}/a", "0" * 64), locked(f"{server.url}/b")]
    start = time.monotonic()
    with pytest.raises(ToolError, match="404"):
        fetch_archives(packages, settings)
    assert time.monotonic() - start < 10
    assert not leftovers(settings.cache_dir)


def test_a_server_that_is_not_there_is_said(settings: Settings) -> None:
    with pytest.raises(ToolError, match=r"cannot fetch http://127\.0\.0\.1:1/a: .*refused"):
        fetch("http://127.0.0.1:1/a", settings.cache_dir / "a", SHA, settings)


@pytest.mark.parametrize("url", ["ftp://x/a", "a", "data:,x"])
def test_an_unknown_kind_of_address_is_said(settings: Settings, url: str) -> None:
    with pytest.raises(ToolError, match="only http, https and file"):
        fetch(url, settings.cache_dir / "a", SHA, settings)


def test_progress_tells_every_byte(server: Server, settings: Settings) -> None:
    told: list[int] = []
    fetch(f"{server.url}/a", settings.cache_dir / "a", SHA, settings, told.append)
    assert sum(told) == len(DATA)


def test_an_archive_s_place_is_known_before_it_is_fetched(tmp_path: Path) -> None:
    path = archive_path(locked("https://h/noarch/a-1%212-0.conda"), Settings(tmp_path))
    assert path == tmp_path / "packages" / SHA / "a-1!2-0.conda"
    assert fetch_archives([], Settings(tmp_path), SILENT) == {}


def test_an_archive_whose_name_leads_elsewhere_is_refused(server: Server, settings: Settings) -> None:
    for name in ("..%2F..%2Fa-1-0.conda", "..", "%2Fa", ""):
        with pytest.raises(PackageError, match="no archive's name"):
            fetch_archives([locked(f"{server.url}/linux-64/{name}")], settings)
    assert server.asked == []


# --- what nobody gave a sha256 for --------------------------------------------------------------------------

MD5 = hashlib.md5(DATA).hexdigest()


def rest(handler: BaseHTTPRequestHandler) -> None:
    """What is missing, to who asks for that; else half of it."""
    begin = int(handler.headers.get("Range", "bytes=0-")[6:-1])
    handler.send_response(206 if begin else 200)
    if begin:
        handler.send_header("Content-Range", f"bytes {begin}-{len(DATA) - 1}/{len(DATA)}")
    handler.send_header("Content-Length", str(len(DATA) - begin))
    handler.end_headers()
    handler.wfile.write(DATA[begin:] if begin else DATA[:50])


def test_what_came_without_a_sha256_is_told(server: Server, settings: Settings) -> None:
    came = fetch_unhashed(f"{server.url}/a", settings.cache_dir / "a", None, Transport(settings))
    assert came == FetchedArchive(SHA, MD5, len(DATA))
    assert (settings.cache_dir / "a").read_bytes() == DATA


@pytest.mark.parametrize("passing", [status(503), cut, reset])
def test_what_passes_is_tried_again_without_a_sha256_too(
    server: Server, settings: Settings, passing: Answer
) -> None:
    server.answers = [passing, passing, whole]
    came = fetch_unhashed(f"{server.url}/a", settings.cache_dir / "a", None, Transport(settings))
    assert came.sha256 == SHA


def test_with_an_md5_a_transfer_goes_on_from_where_it_broke_off(server: Server, settings: Settings) -> None:
    server.answers = [rest]
    came = fetch_unhashed(f"{server.url}/a", settings.cache_dir / "a", MD5, Transport(settings))
    assert came == FetchedArchive(SHA, MD5, len(DATA))


def test_parts_that_do_not_have_the_md5_together_are_fetched_whole(
    server: Server, settings: Settings
) -> None:
    def other(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(DATA)))
        handler.end_headers()
        handler.wfile.write(b"x" * 50)

    server.answers = [other, rest, whole]
    came = fetch_unhashed(f"{server.url}/a", settings.cache_dir / "a", MD5, Transport(settings))
    assert came == FetchedArchive(SHA, MD5, len(DATA))


def test_without_any_hash_parts_are_not_put_together(server: Server, settings: Settings) -> None:
    server.answers = [rest]
    with pytest.raises(ToolError, match=r"IncompleteRead|after 50 of"):
        fetch_unhashed(f"{server.url}/a", settings.cache_dir / "a", None, Transport(settings))
    assert leftovers(settings.cache_dir) == []
