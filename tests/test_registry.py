"""What a registry sends is checked, kept once, and asked for again only when that may help."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.paper_registry import DOCKER, OCI, PaperRegistry, digest, serving

from envbox.errors import EnvboxError, ImageError, ToolError
from envbox.mirrors import Mirrors
from envbox.oci import Descriptor, Digest, Manifest
from envbox.registry import Access, access, fetch_blob, fetch_blobs, fetch_manifest, parse_reference, resolve
from envbox.registry.access import TransferStopped
from envbox.registry.reference import Endpoint, endpoint
from envbox.settings import Settings

HEX = "a" * 64


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[PaperRegistry]:
    monkeypatch.setattr(access, "RETRY_DELAYS", (0.01, 0.01, 0.01))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    with serving(PaperRegistry()) as running:
        yield running


@pytest.fixture
def settings(tmp_path: Path, registry: PaperRegistry) -> Settings:
    return Settings(cache_dir=tmp_path / "cache", mirrors=Mirrors({"docker.io": registry.host}))


def blob_of(registry: PaperRegistry, data: bytes) -> Descriptor:
    registry.blobs[digest(data)] = data
    return Descriptor("application/octet-stream", Digest(digest(data)), len(data))


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# --- references


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("debian", "docker.io/library/debian:latest"),
        ("continuumio/miniconda3:25.3.1-1", "docker.io/continuumio/miniconda3:25.3.1-1"),
        ("index.docker.io/debian:12", "docker.io/library/debian:12"),
        ("localhost/a/b/c", "localhost/a/b/c:latest"),
        ("127.0.0.1:5000/x:1", "127.0.0.1:5000/x:1"),
        ("[::1]:5000/x", "[::1]:5000/x:latest"),
        ("ghcr.io/o/r__s-t.u", "ghcr.io/o/r__s-t.u:latest"),
        (f"debian@sha256:{HEX}", f"docker.io/library/debian@sha256:{HEX}"),
        (f"q.io/d:12@sha256:{HEX}", f"q.io/d:12@sha256:{HEX}"),
    ],
)
def test_a_reference_is_read_as_docker_reads_it(text: str, canonical: str) -> None:
    assert str(parse_reference(text)) == canonical
    assert parse_reference(canonical) == parse_reference(text)


@pytest.mark.parametrize(
    "text",
    ["", ":tag", "Debian", "a//b", "a/../b", "a:b:c", "debian:", "debian@", "debian@sha256:12", "https://q.io/d",
     "docker.io/", "q.io:port/x", "-x/y.z/a", "a b", "a\nb"],
)  # fmt: skip
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ImageError):
        parse_reference(text)


@pytest.mark.parametrize(
    ("name", "rules", "expected"),
    [
        ("debian", {}, Endpoint("docker.io", "https://registry-1.docker.io", "library/debian")),
        ("q.io:81/d", {}, Endpoint("q.io:81", "https://q.io:81", "d")),
        ("localhost:5000/d", {}, Endpoint("localhost:5000", "http://localhost:5000", "d")),
        ("127.8.0.1/d", {}, Endpoint("127.8.0.1", "http://127.8.0.1", "d")),
        ("debian", {"docker.io": "[::1]:5"}, Endpoint("[::1]:5", "http://[::1]:5", "library/debian")),
        ("debian", {"docker.io": "m.org/hub"}, Endpoint("m.org", "https://m.org", "hub/library/debian")),
        ("debian", {"docker.io": "http://m.org"}, Endpoint("m.org", "http://m.org", "library/debian")),
        ("localhost/d", {"localhost": "https://localhost"}, Endpoint("localhost", "https://localhost", "d")),
    ],
)  # fmt: skip
def test_plain_http_is_for_this_machine_or_on_request(
    name: str, rules: dict[str, str], expected: Endpoint
) -> None:
    assert endpoint(parse_reference(name), Mirrors(rules)) == expected


# --- resolving


@pytest.mark.parametrize("types", [OCI, DOCKER])
def test_an_index_gives_each_platform_its_digest(
    registry: PaperRegistry, settings: Settings, types: tuple[str, str]
) -> None:
    images = {p: registry.put_image("a/b:1", platform=p, types=types) for p in ("linux-64", "linux-aarch64")}
    registry.put_index("a/b:1", images, types)
    reference = parse_reference("a/b:1")
    assert resolve(reference, ["linux-64", "linux-aarch64"], settings) == images
    manifest = fetch_manifest(Access(reference, settings), Digest(images["linux-64"]), settings)
    assert manifest.layers[0].media_type == "application/vnd.oci.image.layer.v1.tar+gzip"


def test_a_single_image_counts_for_its_own_platform(registry: PaperRegistry, settings: Settings) -> None:
    found = registry.put_image("a/b:1", platform="linux-aarch64")
    assert resolve(parse_reference("a/b:1"), ["linux-aarch64"], settings) == {"linux-aarch64": found}
    with pytest.raises(ImageError, match=r"not there for linux-64: .* has it for linux-aarch64"):
        resolve(parse_reference("a/b:1"), ["linux-64"], settings)


def test_resolving_again_costs_one_head(registry: PaperRegistry, settings: Settings) -> None:
    registry.put_index("a/b:1", {"linux-64": registry.put_image("a/b:1")})
    resolve(parse_reference("a/b:1"), ["linux-64"], settings)
    registry.log.clear()
    resolve(parse_reference("a/b:1"), ["linux-64"], settings)
    assert registry.log == ["HEAD /v2/a/b/manifests/1"]


def test_with_a_digest_the_tag_is_not_asked_for(registry: PaperRegistry, settings: Settings) -> None:
    found = registry.put_image("a/b:1")
    resolve(parse_reference(f"a/b:1@{found}"), ["linux-64"], settings)
    assert not [line for line in registry.log if line.endswith("manifests/1")]
    registry.log.clear()
    resolve(parse_reference(f"a/b:1@{found}"), ["linux-64"], settings)
    assert registry.log == []


def test_an_unknown_image_names_itself_and_where_it_was_looked_for(
    registry: PaperRegistry, settings: Settings
) -> None:
    with pytest.raises(ImageError) as caught:
        resolve(parse_reference("a/b:1"), ["linux-64"], settings)
    assert caught.value.message == (
        f"there is no image docker.io/a/b:1 at {registry.host} (the mirror of docker.io)"
    )
    assert "ENVBOX_BASE" in str(caught.value.hint)


@pytest.mark.parametrize(
    "document",
    [b"<html>hello</html>", b"[]", b'"x"', b"{}", b'{"schemaVersion": 1, "fsLayers": 0}', b'{"manifests": 3}',
     b'{"manifests": [{"platform": {"os": "linux", "architecture": "amd64"}}]}',
     b'{"config": {"mediaType": "x", "digest": "sha256:0", "size": 1}, "layers": []}'],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(registry: PaperRegistry, settings: Settings, document: bytes) -> None:
    registry.put_manifest("a/b:1", OCI[0], document)
    with pytest.raises(ImageError, match=r"docker\.io/a/b:1 has"):
        resolve(parse_reference("a/b:1"), ["linux-64"], settings)


def test_a_manifest_that_is_not_what_its_digest_says_is_refused(
    registry: PaperRegistry, settings: Settings
) -> None:
    registry.manifests[f"a/b@sha256:{HEX}"] = (OCI[0], b"{}")
    with pytest.raises(ImageError, match=f"something else for the manifest sha256:{HEX}"):
        resolve(parse_reference(f"a/b@sha256:{HEX}"), ["linux-64"], settings)
    assert files_in(settings.cache_dir) == []


# --- blobs


def test_a_blob_is_fetched_once(registry: PaperRegistry, settings: Settings) -> None:
    blob = blob_of(registry, b"content" * 100_000)
    seen: list[int] = []
    for _ in range(2):
        path = fetch_blob(Access(parse_reference("a/b"), settings), blob, settings, seen.append)
        assert path.read_bytes() == registry.blobs[blob.digest]
    assert registry.log == [f"GET /v2/a/b/blobs/{blob.digest}"]
    assert sum(seen) == 2 * blob.size


def test_a_truncated_blob_in_the_cache_is_fetched_again(registry: PaperRegistry, settings: Settings) -> None:
    blob = blob_of(registry, b"content")
    path = fetch_blob(Access(parse_reference("a/b"), settings), blob, settings)
    path.write_bytes(b"cont")
    assert fetch_blob(Access(parse_reference("a/b"), settings), blob, settings).read_bytes() == b"content"


@pytest.mark.parametrize("ranges", [True, False])
def test_a_transfer_that_breaks_off_goes_on(
    registry: PaperRegistry, settings: Settings, ranges: bool
) -> None:
    registry.ranges = ranges
    data = bytes(range(256)) * 4000
    blob = blob_of(registry, data)
    registry.cut = 400_000
    seen: list[int] = []

    def advance(amount: int) -> None:
        seen.append(amount)
        if not ranges:
            registry.cut = None  # from the start again, this time to the end

    path = fetch_blob(Access(parse_reference("a/b"), settings), blob, settings, advance)
    assert path.read_bytes() == data
    assert sum(seen) == len(data)
    assert "bytes=" in registry.log[1]
    assert ranges or len(registry.log) == 2


def test_a_transfer_that_never_ends_is_given_up_in_words(registry: PaperRegistry, settings: Settings) -> None:
    registry.ranges = False
    registry.cut = 10
    blob = blob_of(registry, b"content" * 10)
    with pytest.raises(ToolError, match=r"broke off at 0 of 70 bytes"):
        fetch_blob(Access(parse_reference("a/b"), settings), blob, settings)
    assert files_in(settings.cache_dir) == []


def test_a_wrong_blob_is_deleted_and_named(registry: PaperRegistry, settings: Settings) -> None:
    blob = blob_of(registry, b"content")
    registry.blobs[blob.digest] = b"CONTENT"
    with pytest.raises(ImageError, match=f"something else for {blob.digest} of docker.io/a/b:latest"):
        fetch_blob(Access(parse_reference("a/b"), settings), blob, settings)
    assert files_in(settings.cache_dir) == []


def test_a_blob_that_is_not_there_is_named(registry: PaperRegistry, settings: Settings) -> None:
    blob = Descriptor("x", Digest(f"sha256:{HEX}"), 1)
    with pytest.raises(ImageError, match=f"but not its blob sha256:{HEX}"):
        fetch_blob(Access(parse_reference("a/b"), settings), blob, settings)


def test_one_blob_that_fails_ends_all(registry: PaperRegistry, settings: Settings) -> None:
    blobs = [blob_of(registry, b"%d" % n * 9) for n in range(20)]
    registry.blobs[blobs[7].digest] = b"wrong"
    with pytest.raises(ImageError, match=blobs[7].digest):
        fetch_blobs(Access(parse_reference("a/b"), settings), blobs, settings)
    assert not list(settings.cache_dir.rglob("*.part"))


def test_a_transfer_that_is_called_off_leaves_nothing(registry: PaperRegistry, settings: Settings) -> None:
    blob = blob_of(registry, bytes(5_000_000))
    stop = threading.Event()
    with pytest.raises(TransferStopped):
        fetch_blob(Access(parse_reference("a/b"), settings, stop), blob, settings, lambda _: stop.set())
    assert files_in(settings.cache_dir) == []


# --- who we are, and what is tried again


def test_what_may_pass_is_tried_again(registry: PaperRegistry, settings: Settings) -> None:
    registry.put_image("a/b:1")
    registry.statuses = [503, 500, 429]
    assert resolve(parse_reference("a/b:1"), ["linux-64"], settings)


@pytest.mark.parametrize(
    ("status", "words"), [(503, "keeps failing .* HTTP 503"), (429, "too many requests"), (400, "HTTP 400")]
)
def test_what_does_not_pass_is_said(
    registry: PaperRegistry, settings: Settings, status: int, words: str
) -> None:
    registry.statuses = [status] * 9
    with pytest.raises(ToolError, match=words):
        resolve(parse_reference("a/b:1"), ["linux-64"], settings)


def test_a_registry_that_is_down_is_needed_only_for_what_is_missing(
    registry: PaperRegistry, settings: Settings
) -> None:
    found = Digest(registry.put_image("a/b:1"))
    reference = parse_reference(f"a/b:1@{found}")
    manifest = fetch_manifest(Access(reference, settings), found, settings)
    for blob in manifest.layers:
        fetch_blob(Access(reference, settings), blob, settings)
    gone = Settings(cache_dir=settings.cache_dir, mirrors=Mirrors({"docker.io": "127.0.0.1:9"}))
    assert isinstance(fetch_manifest(Access(reference, gone), found, gone), Manifest)
    assert fetch_blob(Access(reference, gone), manifest.layers[0], gone).is_file()
    with pytest.raises(ToolError, match=r"127.0.0.1:9 \(the mirror of docker.io\).*connection refused"):
        resolve(parse_reference("a/b:1"), ["linux-64"], gone)


def test_a_token_for_everybody_is_fetched_as_docker_hub_wants(
    registry: PaperRegistry, settings: Settings
) -> None:
    registry.put_image("a/b:1")
    registry.wants_token = True
    assert resolve(parse_reference("a/b:1"), ["linux-64"], settings)
    assert len([line for line in registry.log if "/token" in line]) == 1


def log_in(settings: Settings, **config: object) -> None:
    folder = settings.cache_dir.parent / "docker"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize("basic", [True, False])
def test_docker_s_login_is_used_where_it_is_asked_for(
    registry: PaperRegistry, settings: Settings, basic: bool
) -> None:
    registry.put_image("a/b:1")
    registry.wants_token, registry.wants_basic = not basic, basic
    registry.password = ("me", "secret")
    log_in(settings, auths={registry.host: {"auth": "bWU6c2VjcmV0"}})  # me:secret
    assert resolve(parse_reference("a/b:1"), ["linux-64"], settings)
    assert registry.authorizations[0] == ""


@pytest.mark.parametrize("basic", [True, False])
def test_a_mirror_s_own_login_is_used_and_never_shown(
    registry: PaperRegistry, settings: Settings, basic: bool
) -> None:
    registry.put_image("a/b:1")
    registry.wants_token, registry.wants_basic = not basic, basic
    registry.password = ("bob", "s3:cr@t")
    settings = replace(settings, mirrors=Mirrors({"docker.io": f"http://bob:s3:cr%40t@{registry.host}"}))
    assert resolve(parse_reference("a/b:1"), ["linux-64"], settings)
    registry.password = ("bob", "another")
    with pytest.raises(ImageError, match=r"with the login that \[mirrors\] has") as caught:
        resolve(parse_reference("a/b:2"), ["linux-64"], settings)
    for secret in ("bob", "s3:", "cr@t"):
        assert secret not in f"{caught.value.message}{caught.value.hint}"


def test_a_login_for_another_registry_stays_at_home(registry: PaperRegistry, settings: Settings) -> None:
    registry.put_image("a/b:1")
    registry.wants_token, registry.password = True, ("me", "secret")
    log_in(settings, auths={"https://index.docker.io/v1/": {"auth": "bWU6c2VjcmV0"}})
    with pytest.raises(ImageError, match="without a login") as caught:
        resolve(parse_reference("a/b:1"), ["linux-64"], settings)
    assert not [said for said in registry.authorizations if said.startswith("Basic")]
    assert f"docker login {registry.host}" in str(caught.value.hint)


def test_a_credential_helper_is_asked(
    registry: PaperRegistry, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    helper = tmp_path / "bin" / "docker-credential-paper"
    helper.parent.mkdir()
    helper.write_text('#!/bin/sh\ncat >/dev/null\necho \'{"Username": "me", "Secret": "secret"}\'\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{helper.parent}:/usr/bin:/bin")
    registry.put_image("a/b:1")
    registry.wants_token, registry.password = True, ("me", "secret")
    log_in(settings, credHelpers={registry.host: "paper"})
    assert resolve(parse_reference("a/b:1"), ["linux-64"], settings)


@pytest.mark.filterwarnings("ignore:docker-credential-none")
def test_a_helper_that_is_missing_is_told_only_when_it_mattered(
    registry: PaperRegistry, settings: Settings
) -> None:
    registry.put_image("a/b:1")
    registry.wants_token = True
    log_in(settings, credsStore="none")
    assert resolve(parse_reference("a/b:1"), ["linux-64"], settings)
    registry.password = ("me", "secret")
    with pytest.raises(EnvboxError, match="docker-credential-none not installed"):
        resolve(parse_reference("a/b:2"), ["linux-64"], settings)


def test_no_password_is_in_a_representation(registry: PaperRegistry, settings: Settings) -> None:
    from envbox.registry.credentials import find_credentials

    log_in(settings, auths={registry.host: {"auth": "bWU6c2VjcmV0"}})
    assert "secret" not in repr(find_credentials(registry.host))
