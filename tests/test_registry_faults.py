"""A registry that lies, stalls, bursts or sends elsewhere ends in words; nothing is left or given away."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import zstandard
from support.paper_registry import OCI, PaperRegistry, digest, serving, tar_of

from envbox.errors import EnvboxError, ImageError, ToolError
from envbox.lockfile import Base
from envbox.mirrors import Mirrors
from envbox.oci import Descriptor, Digest
from envbox.registry import Access, access, fetch_blob, parse_reference, resolve
from envbox.registry import base as room
from envbox.registry import responses as answers
from envbox.registry.base import pull_base, resolve_base
from envbox.registry.credentials import find_credentials
from envbox.registry.push import PushedDocument, push_access, put_document, upload_blobs
from envbox.registry.upload import Blob
from envbox.report import SILENT
from envbox.settings import Settings

Trick = Callable[[BaseHTTPRequestHandler], bool]
IMAGE = "a/b:1"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[PaperRegistry]:
    monkeypatch.setattr(access, "RETRY_DELAYS", (0.01, 0.01))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    with serving(PaperRegistry()) as running:
        yield running


@pytest.fixture
def other() -> Iterator[PaperRegistry]:
    """Another server, which must be told nothing."""
    with serving(PaperRegistry()) as running:
        yield running


@pytest.fixture
def settings(tmp_path: Path, registry: PaperRegistry) -> Settings:
    return Settings(cache_dir=tmp_path / "cache", mirrors=Mirrors({"docker.io": registry.host}), timeout=0.5)


def login(registry: PaperRegistry, settings: Settings) -> Settings:
    registry.password = ("me", "hunter2")
    return replace(settings, mirrors=Mirrors({"docker.io": f"me:hunter2@{registry.host}"}))


def answering(
    path: str, status: int = 200, body: bytes = b"", method: str = "", **headers: str
) -> tuple[list[str], Trick]:
    """Answer requests whose path has a text in it; what they were authorized with is noted."""
    noted: list[str] = []

    def trick(handler: BaseHTTPRequestHandler) -> bool:
        if path not in handler.path or (method and handler.command != method):
            return False
        noted.append(handler.headers.get("Authorization", ""))
        handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)
        handler.close_connection = True
        return True

    return noted, trick


def files_in(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def fails(
    registry: PaperRegistry, settings: Settings, words: str, kind: type[EnvboxError] = EnvboxError
) -> str:
    """Reading the image fails with words, and leaves nothing half done."""
    with pytest.raises(kind, match=words) as caught:
        resolve_base(IMAGE, ["linux-64"], settings, SILENT)
    assert not [name for name in files_in(settings.cache_dir) if name.endswith(".part")]
    return f"{caught.value.message}\n{caught.value.hint}"


# --- manifests and configs


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"schemaVersion": 1, "fsLayers": []}, "old format"),
        (b"[" * 100_000, "has no image manifest"),
        (b'{"a":' * 100_000, "has no image manifest"),
        ({"manifests": [{"platform": "linux"}]}, "has no image manifest"),
        ({"manifests": []}, "is not there for linux-64: .* has it for no platform"),
        ({"manifests": {"a": 1}}, "has no image manifest"),
        (
            {"config": {"mediaType": "x", "digest": "sha512:" + "0" * 128, "size": 1}, "layers": []},
            "sha256 digest",
        ),
        (
            {"config": {"mediaType": "x", "digest": digest(b""), "size": -1}, "layers": []},
            "no image manifest",
        ),
        (
            {"config": {"mediaType": "x", "digest": digest(b""), "size": 1 << 60}, "layers": []},
            "larger than the",
        ),
        (b"\xff\xfe\x00", "has no image manifest"),
        ("manifests", "has no image manifest"),
    ],
)
def test_what_is_no_manifest(registry: PaperRegistry, settings: Settings, document: Any, words: str) -> None:
    registry.put_manifest(IMAGE, OCI[0], document)
    fails(registry, settings, words, ImageError)


def test_an_index_of_indexes(registry: PaperRegistry, settings: Settings) -> None:
    registry.put_image("a/b:inner")
    inner = registry.put_index("a/b:middle", {"linux-64": digest(registry.manifests["a/b:inner"][1])})
    registry.put_index(IMAGE, {"linux-64": inner})
    fails(registry, settings, "is an index of several images", ImageError)


def test_a_manifest_that_does_not_end(registry: PaperRegistry, settings: Settings) -> None:
    registry.put_manifest(IMAGE, OCI[0], b" " * (5 << 20))
    fails(registry, settings, "a manifest of .* is larger than the 4096 KiB", ToolError)


def test_a_document_that_drips(registry: PaperRegistry, settings: Settings, monkeypatch: Any) -> None:
    registry.put_manifest(IMAGE, OCI[0], b" " * (1 << 20))
    monkeypatch.setattr(answers, "LONGEST_ANSWER", -1.0)
    fails(registry, settings, "does not come to its end", ToolError)


def test_headers_that_drip(registry: PaperRegistry, settings: Settings) -> None:
    ended = threading.Event()

    def trick(handler: BaseHTTPRequestHandler) -> bool:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        with suppress(OSError):
            while not ended.wait(0.05):
                handler.wfile.write(b"x")
        return True

    registry.tricks.append(trick)
    guard = threading.Timer(15, ended.set)  # without a bound, it would go on for ever
    guard.start()
    try:
        fails(registry, replace(settings, timeout=0.3), "does not answer in time|timed out", ToolError)
        assert not ended.is_set()
    finally:
        guard.cancel()
        ended.set()


def test_a_manifest_that_stalls(registry: PaperRegistry, settings: Settings) -> None:
    registry.put_image(IMAGE)

    def trick(handler: BaseHTTPRequestHandler) -> bool:
        if "/manifests/sha256" not in handler.path:
            return False
        handler.send_response(200)
        handler.send_header("Content-Length", "500")
        handler.end_headers()
        handler.wfile.write(b"{")
        handler.wfile.flush()
        handler.rfile.read(1)  # until the client goes away
        return True

    registry.tricks.append(trick)
    fails(registry, settings, "broke off a manifest of .*: it does not answer in time", ToolError)


def config(**changes: Any) -> dict[str, Any]:
    return {"Env": ["A=b"], **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"Env": [1]},
        {"Labels": ["a"]},
        {"Labels": {"a": 1}},
        {"User": {"a": 1}},
        {"Env": "x", "Labels": "y"},
        {"Env": 1},
    ],
)
def test_a_config_of_other_types(
    registry: PaperRegistry, settings: Settings, changes: dict[str, Any]
) -> None:
    registry.put_image(IMAGE, config=config(**changes))
    fails(registry, settings, "is not a container image", ImageError)


def test_a_layer_that_lies_elsewhere(registry: PaperRegistry, settings: Settings) -> None:
    registry.put_image(IMAGE)
    document = json.loads(registry.manifests[IMAGE][1])
    document["layers"][0] |= {
        "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "urls": ["http://127.0.0.1:1/evil"],
    }
    registry.put_manifest(IMAGE, OCI[0], document)
    fails(registry, settings, "a layer of a kind that is not known: .*foreign", ImageError)


@pytest.mark.parametrize("difference", [-1, 1])
def test_a_size_that_is_another(registry: PaperRegistry, settings: Settings, difference: int) -> None:
    data = b"x" * 1000
    registry.blobs[digest(data)] = data
    blob = Descriptor("x", Digest(digest(data)), len(data) + difference)
    with pytest.raises(ImageError, match=r"something else|is damaged: it says"):
        fetch_blob(Access(parse_reference(IMAGE), settings), blob, settings)
    assert not [name for name in files_in(settings.cache_dir) if name.endswith(".part")]


def test_a_layer_that_does_not_end(registry: PaperRegistry, settings: Settings) -> None:
    wanted = digest(b"")
    blob = Descriptor("x", Digest(wanted), 1000)

    def trick(handler: BaseHTTPRequestHandler) -> bool:
        if "/blobs/" not in handler.path:
            return False
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        for _ in range(10_000):
            handler.wfile.write(bytes(1 << 16))
        return True

    registry.tricks.append(trick)
    with pytest.raises(ImageError, match="sends something else"):
        fetch_blob(Access(parse_reference(IMAGE), settings), blob, settings)
    assert files_in(settings.cache_dir) == []


# --- layers


def packed(entries: list[tuple[str, bytes, dict[str, Any]]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data, changes in entries:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            for key, value in changes.items():
                setattr(member, key, value)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def put_layer(
    registry: PaperRegistry, blob: bytes, media_type: str = "application/vnd.oci.image.layer.v1.tar"
) -> None:
    """An image of one layer, which is stored as it is."""
    registry.put_image(IMAGE)
    document = json.loads(registry.manifests[IMAGE][1])
    registry.blobs[digest(blob)] = blob
    document["layers"] = [{"mediaType": media_type, "digest": digest(blob), "size": len(blob)}]
    registry.put_manifest(IMAGE, OCI[0], document)


def test_names_that_lead_out_are_not_followed(
    registry: PaperRegistry, settings: Settings, tmp_path: Path
) -> None:
    libc = b"GNU C Library (x) stable release version 2.36.\n"
    evil = [
        ("../../../evil", b"x", {}),
        ("/evil", b"x", {}),
        ("dev/null", b"", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}),
        ("out", b"", {"type": tarfile.SYMTYPE, "linkname": "../../.."}),
        ("out/evil", b"x", {}),
        ("hard", b"", {"type": tarfile.LNKTYPE, "linkname": "../../../etc/passwd"}),
        ("lib/libc.so.6", b"", {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"}),
        ("lib64/libc.so.6", b"", {"type": tarfile.SYMTYPE, "linkname": "lib64/libc.so.6"}),
        (".wh..wh..opq", b"", {}),
        ("bin/.wh.sh", b"", {}),
        ("bin/sh", b"x", {}),
        ("bin/sh", b"y", {}),
        ("usr/lib/libc.so.6", libc, {}),
        ("a" * 5000, b"", {}),
    ]
    put_layer(registry, packed(evil[:6] + evil[8:]))
    assert resolve_base(IMAGE, ["linux-64"], settings, SILENT).glibc == {"linux-64": "2.36"}
    assert "evil" not in files_in(tmp_path)
    put_layer(registry, packed(evil))
    with pytest.raises(ImageError, match=r"cannot read layer|has no glibc"):
        resolve_base(IMAGE, ["linux-64"], settings, SILENT)


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_a_layer_that_bursts(
    registry: PaperRegistry, settings: Settings, kind: str, monkeypatch: Any
) -> None:
    monkeypatch.setattr(room, "_GROWN", 1 << 20)
    raw = tar_of({"zeros": bytes(64 << 20)})
    blob = gzip.compress(raw) if kind == "gzip" else zstandard.compress(raw)
    put_layer(registry, blob, f"application/vnd.oci.image.layer.v1.tar+{kind}")
    fails(registry, settings, "cannot read layer .*: it is far larger", ImageError)


def test_a_name_that_bursts(registry: PaperRegistry, settings: Settings) -> None:
    evil = tarfile.TarInfo("x")
    evil.type, evil.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    put_layer(registry, evil.tobuf(tarfile.GNU_FORMAT))
    fails(registry, settings, "cannot read layer .*: .*too long", ImageError)


def test_names_without_end(registry: PaperRegistry, settings: Settings) -> None:
    one = tarfile.TarInfo("x")
    one.type = tarfile.XHDTYPE
    put_layer(registry, one.tobuf(tarfile.USTAR_FORMAT) * 5000)
    fails(registry, settings, "cannot read layer", ImageError)


@pytest.mark.parametrize("blob", [b"", b"no tar at all" * 100, gzip.compress(b"x" * 600)[:-9]])
def test_what_is_no_layer(registry: PaperRegistry, settings: Settings, blob: bytes) -> None:
    for media_type in ("tar", "tar+gzip", "tar+zstd"):
        put_layer(registry, blob, f"application/vnd.oci.image.layer.v1.{media_type}")
        fails(registry, settings, "cannot read layer|has no glibc", ImageError)


# --- who is told what


def test_a_redirect_takes_no_login_along(
    registry: PaperRegistry, other: PaperRegistry, settings: Settings
) -> None:
    """Another port is another server."""
    registry.wants_basic = True
    registry.put_image(IMAGE)
    noted, trick = answering("/v2/", 403)
    other.tricks.append(trick)

    def send_on(handler: BaseHTTPRequestHandler) -> bool:
        if not handler.headers.get("Authorization"):
            return False
        return answering("/v2/", 307, Location=f"http://{other.host}{handler.path}")[1](handler)

    registry.tricks.append(send_on)
    said = fails(registry, login(registry, settings), "403")
    assert noted == [""]
    assert "hunter2" not in said


def test_a_redirect_in_the_clear_is_refused() -> None:
    from requests import Response
    from requests.exceptions import InvalidSchema

    from envbox.net.transport import open_session

    answer = Response()
    answer.status_code, answer.url = 302, "https://u:pw@host/a"
    answer.headers["Location"] = "http://host/b?token=secret"
    with pytest.raises(InvalidSchema, match=r"sends us on to http://host/b, and that is not followed"):
        open_session(Settings(cache_dir=Path("/nowhere"))).get_redirect_target(answer)
    answer.headers["Location"] = "https://elsewhere/b"
    assert open_session(Settings(cache_dir=Path("/nowhere"))).get_redirect_target(answer)


@pytest.mark.parametrize(
    ("endpoint", "realm", "may"),
    [
        ("https://r.example", "https://auth.example/token", True),
        ("https://r.example", "http://r.example/token", False),
        ("https://r.example", "http://127.0.0.1:5/token", False),
        ("https://r.example", "file:///etc/passwd", False),
        ("https://r.example", "http://[broken", False),
        ("http://r.example", "http://r.example/token", True),
        ("http://r.example", "http://other.example/token", False),
        ("http://127.0.0.1:1", "http://localhost:2/token", True),
        ("http://127.0.0.1:1", "http://127.0.0.1.evil.example/token", False),
    ],
)
def test_where_a_password_may_go(settings: Settings, endpoint: str, realm: str, may: bool) -> None:
    mirrored = replace(settings, mirrors=Mirrors({"docker.io": endpoint}))
    assert Access(parse_reference(IMAGE), mirrored)._may_have_password(realm) is may


@pytest.mark.parametrize("host", ["notdocker.io", "docker.io.evil.example", "evil.example/docker.io"])
def test_docker_hub_s_login_is_docker_hub_s(tmp_path: Path, monkeypatch: Any, host: str) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    auths = {"https://index.docker.io/v1/": {"auth": "bWU6aHVudGVyMg=="}}
    (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
    assert not find_credentials(host)
    assert find_credentials("registry-1.docker.io").user == "me"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'"x"', b'{"token": 1}', b'{"token": "a\\r\\nX: y"}', b"[" * 100_000, b" " * (3 << 20)],
)
def test_a_token_that_is_none(registry: PaperRegistry, settings: Settings, body: bytes) -> None:
    registry.wants_token = True
    registry.tricks.append(answering("/token", 200, body)[1])
    fails(registry, settings, "cannot get a token|does not let us read|larger than")


def test_a_refresh_token_is_sent_on_to_nobody(
    registry: PaperRegistry, other: PaperRegistry, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "docker").mkdir()
    auths = {registry.host: {"identitytoken": "hunter2"}}
    (tmp_path / "docker/config.json").write_text(json.dumps({"auths": auths}))
    registry.wants_token = True
    registry.tricks.append(answering("/token", 307, Location=f"http://{other.host}/token")[1])
    assert "hunter2" not in fails(registry, settings, "does not let us read")
    assert other.log == []


def test_a_registry_that_asks_who_we_are_for_ever(registry: PaperRegistry, settings: Settings) -> None:
    registry.wants_token = True
    noted, trick = answering(
        "/v2/", 401, WWW_Authenticate=f'Bearer realm="http://{registry.host}/token",service="paper"'
    )
    registry.tricks.append(trick)
    fails(registry, settings, "does not let us read", ImageError)
    assert len(noted) == 2


@pytest.mark.parametrize("location", ["http://[broken", "//[", "ftp://x/y", "http://\x7f/"])
def test_a_redirect_to_what_is_no_address(registry: PaperRegistry, settings: Settings, location: str) -> None:
    registry.tricks.append(answering("/v2/", 302, Location=location)[1])
    fails(registry, settings, ".", EnvboxError)


def test_redirects_without_end(registry: PaperRegistry, settings: Settings) -> None:
    registry.tricks.append(answering("/v2/", 302, Location="/v2/again")[1])
    fails(registry, settings, "cannot reach", ToolError)


@pytest.mark.parametrize("body", [b"[" * 100_000, b" " * (3 << 20), b'{"errors": 1}', b'{"errors": [[]]}'])
def test_words_of_a_refusal_that_are_none(registry: PaperRegistry, settings: Settings, body: bytes) -> None:
    registry.tricks.append(answering("/v2/", 400, body)[1])
    fails(registry, settings, "HTTP 400", ToolError)


def test_when_to_come_again_may_be_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 90 < answers.seconds(soon) <= 100
    assert answers.seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert answers.seconds("7") == 7
    assert answers.seconds("9" * 400) > 1e9
    for text in ("", "soon", "-1", "Wed, 99 Oct 99999 07:28:00 GMT", "²"):
        assert answers.seconds(text) == 0


def test_a_wait_that_is_too_long_is_said_at_once(registry: PaperRegistry, settings: Settings) -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    noted, trick = answering("/v2/", 429, Retry_After=later)
    registry.tricks.append(trick)
    fails(registry, settings, "too many requests", ToolError)
    assert len(noted) == 1


# --- pushing


def pushing(registry: PaperRegistry, settings: Settings, data: bytes = b"layer" * 1000) -> int:
    reference = parse_reference(f"{registry.host}/a/b:1")
    blob = Blob(Descriptor("x", Digest(digest(data)), len(data)), lambda: iter([data]))
    return upload_blobs(push_access(reference, settings), [blob], SILENT)


def test_an_upload_elsewhere_gets_no_login(
    registry: PaperRegistry, other: PaperRegistry, settings: Settings
) -> None:
    registry.wants_basic = True
    registry.password = ("me", "hunter2")
    where = replace(settings, mirrors=Mirrors({registry.host: f"http://me:hunter2@{registry.host}"}))
    noted, trick = answering("/elsewhere", 403)
    other.tricks.append(trick)

    def send_on(handler: BaseHTTPRequestHandler) -> bool:
        if handler.command != "POST" or not handler.headers.get("Authorization"):
            return False
        return answering("/blobs/uploads/", 202, Location=f"http://{other.host}/elsewhere")[1](handler)

    registry.tricks.append(send_on)
    with pytest.raises(EnvboxError):
        pushing(registry, where)
    assert noted
    assert set(noted) == {""}


@pytest.mark.parametrize("location", ["http://elsewhere.example/x", "http://[broken"])
def test_an_upload_that_leads_into_the_clear(settings: Settings, location: str) -> None:
    secure = replace(settings, mirrors=Mirrors({"docker.io": "https://r.example"}))
    with pytest.raises(ToolError, match=r"in the clear|an address that is none"):
        Access(parse_reference(IMAGE), secure).absolute(location)
    assert Access(parse_reference(IMAGE), secure).absolute("http://r.example/x") == "https://r.example/x"


@pytest.mark.parametrize(
    ("method", "status", "headers"),
    [
        ("POST", 202, {}),
        ("POST", 200, {"Location": "/v2/x", "Range": "0-9999999999999999"}),
        ("PATCH", 307, {"Location": "/elsewhere"}),
        ("PATCH", 202, {"Range": "0-0"}),
        ("PATCH", 202, {"Range": "nonsense"}),
        ("PUT", 400, {}),
        ("PUT", 500, {}),
        ("POST", 429, {"Retry-After": "9999"}),
        ("POST", 401, {"WWW-Authenticate": "Basic"}),
        ("POST", 401, {"WWW-Authenticate": 'Bearer realm=""'}),
        ("POST", 405, {}),
    ],
)
def test_an_upload_that_goes_wrong(
    registry: PaperRegistry, settings: Settings, method: str, status: int, headers: dict[str, str]
) -> None:
    registry.tricks.append(answering("/blobs/uploads/", status, b"", method, **headers)[1])
    if (method, status, headers) == ("PATCH", 202, {"Range": "nonsense"}):
        registry.forgets = True
    with pytest.raises(EnvboxError) as caught:
        pushing(registry, settings)
    assert caught.value.message
    assert not registry.blobs


def test_a_manifest_that_is_stored_as_another_is_said(registry: PaperRegistry, settings: Settings) -> None:
    reference = parse_reference(f"{registry.host}/a/b:1")
    lie = {"Docker_Content_Digest": digest(b"another")}
    registry.tricks.append(answering("/manifests/1", 201, b"", "PUT", **lie)[1])
    with pytest.raises(ToolError, match="stored sha256"):
        put_document(push_access(reference, settings), PushedDocument(OCI[0], b"{}"), "1")


def test_a_base_that_is_for_another_machine(registry: PaperRegistry, settings: Settings) -> None:
    made = registry.put_image(IMAGE, platform="linux-aarch64")
    registry.put_index("a/b:2", {"linux-64": made})
    with pytest.raises(ImageError, match="is for linux/arm64, not for linux-64"):
        pull_base(Base("a/b:2", {"linux-64": Digest(made)}, {}), "linux-64", settings)
    with pytest.raises(ImageError, match="is not there for linux-64"):
        resolve(parse_reference(IMAGE), ["linux-64"], settings)
