"""A push sends what is not there, goes on after a break, and moves the tag at last or not at all."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.paper_registry import PaperRegistry, digest
from support.publishing import PLATFORMS, Press, check_image

from envbox.errors import EnvboxError, ImageError, LockfileError, ToolError
from envbox.images.publication import PublishRequest, make
from envbox.images.push import Pushed, push
from envbox.lockfile import Base
from envbox.lockfile.conda_lock_v1 import dumps, read_lockfile
from envbox.mirrors import Mirrors
from envbox.oci import Descriptor, Digest
from envbox.packages.link.frames import CODEC
from envbox.registry import Access, Reference, parse_reference
from envbox.registry.push import missing_blobs, push_access, put_document, upload_blobs
from envbox.registry.upload import Blob
from envbox.report import SILENT
from envbox.settings import Settings

if TYPE_CHECKING:
    from conftest import Rig

DATA = bytes(range(256)) * 4000


def send(press: Press, wanted: PublishRequest | None = None, name: str = "me/paper:1") -> Pushed:
    return push(wanted or press.wanted(), press.reference(name), press.settings, press.report)


def a_blob(data: bytes = DATA, pieces: int = 10) -> Blob:
    size = -(-len(data) // pieces)
    return Blob(
        Descriptor("x", Digest(digest(data)), len(data)),
        lambda: (data[start : start + size] for start in range(0, len(data), size)),
    )


def upload(press: Press, *blobs: Blob, name: str = "me/paper:1") -> int:
    wanted = blobs or (a_blob(),)
    return upload_blobs(push_access(press.reference(name), press.settings, wanted), wanted, SILENT)


# --- the whole


def test_what_is_pushed_is_what_was_locked(press: Press) -> None:
    pushed = send(press)
    registry = press.registry
    media_type, index = registry.manifests["me/paper:1"]
    assert pushed.name == f"{registry.host}/me/paper:1@{digest(index)}"
    assert media_type == "application/vnd.oci.image.index.v1+json"
    entries = json.loads(index)["manifests"]
    assert [entry["platform"]["architecture"] for entry in entries] == ["amd64", "arm64"]
    for entry, platform in zip(entries, PLATFORMS, strict=True):
        manifest = registry.manifests[f"me/paper@{entry['digest']}"][1]
        config = check_image(manifest, registry.blobs)
        assert config["architecture"] == entry["platform"]["architecture"]
        assert json.loads(manifest)["annotations"] == {"io.envbox.codec": CODEC}
        assert config["config"]["Labels"]["io.envbox.lock"] == digest(
            press.environment.lock_path.read_bytes()
        )
        assert len(config["rootfs"]["diff_ids"]) == 5, platform


def test_a_second_push_is_heads_only(press: Press) -> None:
    first = send(press)
    press.registry.log.clear()
    second = send(press)
    assert second.publication == first.publication
    assert (second.sent, second.is_new) == (0, False)
    blobs, manifests = len(first.publication.blobs), 2 + 1
    assert press.requests() == ["HEAD /v2/me/paper/manifests/1"] + ["HEAD /v2/me/paper/blobs/"] * blobs + [
        "HEAD /v2/me/paper/manifests/"
    ] * (manifests - 1)


def test_a_second_push_needs_neither_packages_nor_heavy_libraries(press: Press, tmp_path: Path) -> None:
    send(press)
    for folder in ("fragments", "layers", "packages"):
        (press.settings.cache_dir / folder).rename(tmp_path / folder)
    done = subprocess.run(command(press), capture_output=True, text=True, check=True)
    heavy = {
        "rattler",
        "conda_lock",
        "zstandard",
        "yaml",
        "docker",
        "envbox.registry.base",
        "envbox.images.layers",
    }
    assert not set(done.stdout.split()) & heavy


def command(press: Press) -> list[str]:
    """A process that pushes, and prints the modules it needed for that."""
    script = """
import json, sys
from pathlib import Path
from envbox.images.publication import PublishRequest as Wanted
from envbox.images.push import push
from envbox.mirrors import Mirrors
from envbox.project import Environment
from envbox.registry import parse_reference
from envbox.report import SILENT
from envbox.settings import Settings
lock, cache, rules, reference = sys.argv[1:]
settings = Settings(cache_dir=Path(cache), mirrors=Mirrors(json.loads(rules)))
push(Wanted(Environment("paper", Path(lock), Path(lock))), parse_reference(reference), settings, SILENT)
print(*sys.modules)
"""
    rules = json.dumps(dict(press.settings.mirrors.rules))
    lock, cache = press.environment.lock_path, press.settings.cache_dir
    return [sys.executable, "-c", script, str(lock), str(cache), rules, str(press.reference())]


def test_one_package_changed_sends_its_layer_and_the_environment_s(press: Press) -> None:
    send(press, press.wanted("linux-64"))
    before = set(press.registry.blobs)
    press.lock(b"one", b"two" * 1001)
    send(press, press.wanted("linux-64"))
    assert len(set(press.registry.blobs) - before) == 3  # two layers and the config


def test_one_platform_is_a_plain_image(press: Press) -> None:
    pushed = send(press, press.wanted("linux-aarch64"))
    media_type, manifest = press.registry.manifests["me/paper:1"]
    assert media_type == "application/vnd.oci.image.manifest.v1+json"
    assert pushed.publication.digest == digest(manifest)
    assert check_image(manifest, press.registry.blobs)["architecture"] == "arm64"


def test_a_platform_that_is_not_locked_is_named(press: Press) -> None:
    with pytest.raises(LockfileError, match="not locked for linux-ppc64le"):
        send(press, press.wanted("linux-ppc64le"))


def test_platforms_that_no_image_can_be_of_are_left_out(
    press: Press, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envbox.images.publication.IMAGE_PLATFORMS", ("linux-64",))
    assert [image.platform for image in send(press).publication.images] == ["linux-64"]
    monkeypatch.setattr("envbox.images.publication.IMAGE_PLATFORMS", ())
    press.lock(b"another")
    with pytest.raises(LockfileError, match="no image can be of these"):
        send(press)


def test_gzip_changes_how_layers_are_stored_and_nothing_else(press: Press) -> None:
    zstd = send(press).publication
    compat = send(press, press.wanted(compat=True), "me/paper:compat").publication
    assert compat.digest != zstd.digest
    for one, other in zip(zstd.images, compat.images, strict=True):
        assert one.id == other.id
        types = {layer.media_type for layer in other.parts.layers}
        assert types == {"application/vnd.oci.image.layer.v1.tar+gzip"}
        assert other.parts.annotations == {"io.envbox.codec": "gzip-zlib-l5"}
        check_image(other.manifest.data, press.registry.blobs)


def test_gzip_is_the_same_from_another_cache(press: Press) -> None:
    first = make(press.wanted(compat=True), press.settings, SILENT).publication
    elsewhere = replace(press.settings, cache_dir=press.folder / "elsewhere", jobs=1)
    assert make(press.wanted(compat=True), elsewhere, SILENT).publication == first
    assert press.report.warned == []


def test_another_zlib_is_said_and_changes_no_id(press: Press, monkeypatch: pytest.MonkeyPatch) -> None:
    from envbox.images import gzip_layers as gzipped

    first = make(press.wanted(compat=True), press.settings, press.report).publication
    monkeypatch.setattr(gzipped, "gzip_codec", lambda: "gzip-1.3.1.zlib-ng-l5-01234567")
    monkeypatch.setattr(gzipped, "LEVEL", 1)
    second = make(press.wanted(compat=True), press.settings, press.report).publication
    assert [image.id for image in first.images] == [image.id for image in second.images]
    assert first.digest != second.digest
    assert "gzip-1.3.1.zlib-ng" in press.report.warned[0]


def test_what_was_compressed_and_removed_is_compressed_again(press: Press) -> None:
    wanted = press.wanted("linux-64", compat=True)
    made = make(wanted, press.settings, SILENT)
    for path in (press.settings.cache_dir / "gzip").glob("*.gz"):
        path.unlink()
    assert send(press, wanted).publication == made.publication
    check_image(press.registry.manifests["me/paper:1"][1], press.registry.blobs)


def test_a_damaged_compressed_layer_is_named_and_removed(press: Press) -> None:
    wanted = press.wanted("linux-64", compat=True)
    make(wanted, press.settings, SILENT)
    path = max((press.settings.cache_dir / "gzip").glob("*.gz"), key=lambda path: path.stat().st_size)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(ToolError, match="is damaged"):
        send(press, wanted)
    assert send(press, wanted).publication


def test_an_unpinned_base_is_looked_at_each_time(press: Press) -> None:
    lock = replace(press.lock(b"one"), base=None)
    press.environment.lock_path.write_bytes(dumps(lock))
    assert read_lockfile(press.environment.lock_path).base is None
    first = send(press, press.wanted("linux-64"))
    press.registry.put_image("a/b:1", [{"etc/motd": b"other", "usr/bin/sh": b"a shell", **LIBC}])
    assert send(press, press.wanted("linux-64")).publication != first.publication


LIBC = {"usr/lib/x86_64-linux-gnu/libc.so.6": b"GNU C Library (Debian) stable release version 2.36.\n"}


def test_a_base_in_zstd_becomes_gzip_where_zstd_cannot_be_read(press: Press) -> None:
    import zstandard

    press.environment.lock_path.write_bytes(dumps(replace(press.lock(b"one"), base=None)))
    index = json.loads(press.registry.manifests["a/b:1"][1])
    manifest = json.loads(press.registry.manifests[f"a/b@{index['manifests'][0]['digest']}"][1])
    for layer in manifest["layers"]:
        packed = zstandard.compress(gzip.decompress(press.registry.blobs[layer["digest"]]))
        press.registry.blobs[digest(packed)] = packed
        layer |= {"digest": digest(packed), "size": len(packed)}
        layer["mediaType"] = "application/vnd.oci.image.layer.v1.tar+zstd"
    press.registry.put_manifest("a/b:1", "application/vnd.oci.image.manifest.v1+json", manifest)
    zstd, compat = (
        send(press, press.wanted("linux-64", compat=is_compat)).publication.images[0]
        for is_compat in (False, True)
    )
    assert zstd.id == compat.id
    assert not [layer for layer in compat.parts.layers if layer.media_type.endswith("zstd")]
    check_image(compat.manifest.data, press.registry.blobs)


def test_the_order_in_which_platforms_are_named_does_not_matter(press: Press) -> None:
    first = send(press, press.wanted("linux-aarch64", "linux-64", "linux-64")).publication
    assert send(press, press.wanted("linux-64", "linux-aarch64")).publication == first
    with pytest.raises(ImageError, match="no container image can be of platform osx-arm64"):
        send(press, press.wanted("osx-arm64"))


# --- what is there already


def test_the_base_is_mounted_where_the_registry_has_it(press: Press) -> None:
    send(press)
    mounts = [line for line in press.registry.log if "mount=" in line]
    assert len(mounts) == 3  # of four layers, one is both platforms'
    assert all("from=a%2Fb" in line for line in mounts)
    assert not (press.settings.cache_dir / "blobs").joinpath("sha256").joinpath("x").exists()
    fetched = [line for line in press.registry.log if line.startswith("GET /v2/a/b/blobs/")]
    layers = {blob for line in mounts for blob in re.findall(r"mount=(sha256:\w+)", line)}
    assert not [line for line in fetched if line.rpartition("/")[2] in layers]


def test_a_mount_that_is_not_given_is_sent(press: Press) -> None:
    press.registry.mounts = False
    send(press)
    check_image(_manifest(press, "linux-64"), press.registry.blobs)
    assert len([line for line in press.registry.log if "mount=" in line]) == 3


def test_a_base_of_another_registry_is_sent(press: Press) -> None:
    from support.paper_registry import serving

    with serving(PaperRegistry()) as other:
        reference = parse_reference(f"{other.host}/me/paper:1")
        push(press.wanted("linux-64"), reference, press.settings, SILENT)
        check_image(other.manifests["me/paper:1"][1], other.blobs)
        assert not [line for line in other.log if "mount=" in line]


def _manifest(press: Press, platform: str) -> bytes:
    index = json.loads(press.registry.manifests["me/paper:1"][1])
    entry = index["manifests"][PLATFORMS.index(platform)]
    return press.registry.manifests[f"me/paper@{entry['digest']}"][1]


# --- one blob


def test_a_blob_is_sent_in_one_piece_and_closed_with_its_digest(press: Press) -> None:
    assert upload(press) == len(DATA)
    assert press.registry.log == [
        "POST /v2/me/paper/blobs/uploads/",
        "PATCH /v2/me/paper/blobs/uploads/1?state=x",
        f"PUT /v2/me/paper/blobs/uploads/1?state=y&digest={digest(DATA)}",
    ]
    assert press.registry.blobs[digest(DATA)] == DATA


def test_an_empty_blob_can_be_stored(press: Press) -> None:
    assert upload(press, a_blob(b"", 1)) == 0
    assert press.registry.blobs[digest(b"")] == b""


def test_a_transfer_that_breaks_off_goes_on_where_it_stopped(press: Press) -> None:
    press.registry.upload_cuts = [300_000, 400_000]
    upload(press)
    assert len([line for line in press.registry.log if line.startswith("POST")]) == 1
    assert press.registry.blobs[digest(DATA)] == DATA
    ranges = [line.split(" ")[2] for line in press.registry.log if line.count(" ") == 2]
    assert ranges == [f"300000-{len(DATA) - 1}", f"700000-{len(DATA) - 1}"]


def test_a_registry_that_forgot_the_upload_gets_it_from_the_start(press: Press) -> None:
    press.registry.upload_cuts, press.registry.forgets = [300_000], True
    upload(press)
    assert press.registry.blobs[digest(DATA)] == DATA
    assert len([line for line in press.registry.log if line.startswith("POST")]) == 2


def test_each_step_forward_is_worth_all_attempts_again(press: Press) -> None:
    press.registry.upload_cuts = [100_000] * 8  # far more breaks than there are attempts
    upload(press)
    assert press.registry.blobs[digest(DATA)] == DATA


def test_a_transfer_that_never_ends_is_given_up_in_words(press: Press) -> None:
    press.registry.upload_cuts = [0] * 20
    with pytest.raises(ToolError, match=rf"broke off at 0 of {len(DATA)} bytes") as caught:
        upload(press)
    assert "try again" in str(caught.value.hint)
    assert digest(DATA) not in press.registry.blobs


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_registry_that_fails_for_a_while_is_asked_again(press: Press, status: int) -> None:
    press.registry.upload_statuses = [status, status]
    upload(press)
    assert press.registry.blobs[digest(DATA)] == DATA


def test_damage_on_the_way_is_found_and_sent_again(press: Press) -> None:
    press.registry.mangles = 1
    upload(press)
    assert press.registry.blobs[digest(DATA)] == DATA


def test_damage_that_stays_is_said(press: Press) -> None:
    press.registry.mangles = 9
    with pytest.raises(ToolError, match=f"received something else for {digest(DATA)} twice"):
        upload(press)
    assert digest(DATA) not in press.registry.blobs


def test_an_answer_that_got_lost_is_no_reason_to_send_again(
    press: Press, monkeypatch: pytest.MonkeyPatch
) -> None:
    import requests

    attempt = Access.attempt

    def losing(self: Access, method: str, *args: object) -> requests.Response:
        response = attempt(self, method, *args)  # type: ignore[arg-type]
        if method == "PUT":
            raise requests.ConnectionError("the answer got lost")
        return response

    monkeypatch.setattr(Access, "attempt", losing)
    assert upload(press) == len(DATA)
    assert [line.split(" ")[0] for line in press.registry.log] == ["POST", "PATCH", "PUT", "GET", "HEAD"]


@pytest.mark.parametrize("change", [-1, 1])
def test_a_blob_of_another_size_is_damaged_and_never_hangs(press: Press, change: int) -> None:
    blob = a_blob()
    wrong = replace(blob, descriptor=replace(blob.descriptor, size=len(DATA) + change))
    with pytest.raises(ToolError, match=r"is not of the .* bytes that it was") as caught:
        upload(press, wrong)
    assert caught.value.hint
    assert not press.registry.homes.get(digest(DATA))


def test_one_blob_that_fails_ends_all(press: Press) -> None:
    stop = threading.Event()

    def failing() -> list[bytes]:
        raise ToolError("the fragment is damaged")

    bad = replace(a_blob(b"bad" * 1000), open=failing)  # type: ignore[arg-type]
    blobs = [bad, *(a_blob(b"%d" % n) for n in range(30))]
    wanted = push_access(press.reference(), press.settings, blobs)
    with pytest.raises(ToolError, match="the fragment is damaged"):
        upload_blobs(wanted, blobs, SILENT)
    assert wanted.stop.is_set()
    assert not stop.is_set()


# --- who we are, and what a registry refuses


def log_in(press: Press) -> None:
    folder = press.folder / "docker"
    folder.mkdir()
    auth = {"auth": "bWU6c2VjcmV0"}  # me:secret
    (folder / "config.json").write_text(json.dumps({"auths": {press.registry.host: auth}}))


@pytest.mark.parametrize("basic", [True, False])
def test_docker_s_login_is_used(press: Press, basic: bool) -> None:
    press.registry.wants_token, press.registry.wants_basic = not basic, basic
    press.registry.password = ("me", "secret")
    log_in(press)
    send(press)
    check_image(_manifest(press, "linux-64"), press.registry.blobs)


def test_a_token_allows_to_push_and_to_mount(press: Press) -> None:
    make(press.wanted(), press.settings, SILENT)
    press.registry.wants_token = True
    send(press)
    tokens = [line for line in press.registry.log if "/token" in line]
    assert len(tokens) <= 2  # one before and one for all threads of the uploads
    assert "repository:me/paper:pull,push" in press.registry.scopes
    assert "repository:a/b:pull" in press.registry.scopes


def test_a_token_that_runs_out_in_between_is_renewed(press: Press) -> None:
    press.registry.wants_token = True
    blobs = (a_blob(),)
    access = push_access(press.reference(), press.settings, blobs)
    assert missing_blobs(access, [blobs[0].descriptor])
    access._authorization = "Bearer one-that-ran-out"
    upload_blobs(access, blobs, SILENT)
    assert press.registry.blobs[digest(DATA)] == DATA


def test_a_missing_login_is_said_before_anything_is_made(press: Press) -> None:
    press.registry.wants_token, press.registry.password = True, ("me", "secret")
    with pytest.raises(ImageError, match=r"does not let us push .*, without a login") as caught:
        send(press)
    assert f"docker login {press.registry.host}" in str(caught.value.hint)
    assert not (press.settings.cache_dir / "fragments").exists()


def test_one_who_may_only_read_is_told_so(press: Press) -> None:
    press.registry.refuses = 403
    with pytest.raises(ImageError, match=r"does not let us push .* so the registry says"):
        send(press)
    assert "me/paper:1" not in press.registry.manifests


def test_a_repository_that_must_be_made_first_is_named(press: Press) -> None:
    press.registry.refuses = 404
    with pytest.raises(ImageError, match=r"there is no repository .*/me/paper at") as caught:
        send(press)
    assert "create it" in str(caught.value.hint)


@pytest.mark.parametrize("status", [400, 405, 413])
def test_what_no_repetition_changes_is_said_at_once(press: Press, status: int) -> None:
    press.registry.refuses = status
    with pytest.raises(ToolError, match=f"answers HTTP {status}: so the registry says"):
        upload(press)
    assert len(press.registry.log) == 1


def test_a_registry_that_keeps_failing_leaves_the_tag_where_it_was(press: Press) -> None:
    send(press)
    before = dict(press.registry.manifests)
    press.lock(b"one", b"another two")
    press.registry.refuses = 507
    with pytest.raises(ToolError, match="keeps failing"):
        send(press)
    assert press.registry.manifests == before


def test_a_registry_that_is_down_is_named(press: Press) -> None:
    with pytest.raises(ToolError, match=r"cannot reach the registry 127\.0\.0\.1:9 .*connection refused"):
        push(press.wanted(), parse_reference("127.0.0.1:9/me/paper:1"), press.settings, SILENT)


def test_a_digest_cannot_be_pushed_to(press: Press) -> None:
    reference = parse_reference(f"{press.registry.host}/me/paper@sha256:{'a' * 64}")
    with pytest.raises(ImageError, match="names what is to be made by its digest"):
        push(press.wanted(), reference, press.settings, SILENT)


def test_a_registry_that_rewrites_manifests_is_not_trusted(
    press: Press, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(press)
    access = push_access(press.reference(), press.settings)
    document = make(press.wanted(), press.settings, SILENT).publication.images[0].manifest
    changed = replace(document, data=document.data + b" ")
    monkeypatch.setattr("support.paper_registry.digest", lambda data: f"sha256:{'b' * 64}")
    monkeypatch.setattr(PaperRegistry, "has_blob", lambda *args: True)
    with pytest.raises(ToolError, match=r"stored sha256:bbb.* where sha256:"):
        put_document(access, changed, "2")


def test_mirrors_are_for_reading(press: Press) -> None:
    rules = {"docker.io": press.registry.host, "quay.lab": "http://quay.lab"}
    settings = replace(press.settings, mirrors=Mirrors(rules))
    assert push_access(parse_reference("me/paper"), settings).endpoint.url == "https://registry-1.docker.io"
    assert push_access(parse_reference("quay.lab/me/x"), settings).endpoint.url == "http://quay.lab"


def test_credentials_stay_with_the_registry(tmp_path: Path) -> None:
    import requests

    settings = Settings(cache_dir=tmp_path)
    access = Access(Reference("q.io", "me/x", "1"), settings, actions="pull,push")
    access._authorization = "Bearer secret"
    own = access.absolute("http://q.io/v2/me/x/blobs/uploads/1")
    assert own == "https://q.io/v2/me/x/blobs/uploads/1"
    assert access.absolute("/v2/me/x") == "https://q.io/v2/me/x"
    for url, is_signed in ((own, True), (access.absolute("https://store.net/1?q=1"), False)):
        prepared = access._sign(requests.Request("PATCH", url).prepare())
        assert ("Authorization" in prepared.headers) == is_signed


# --- stopped anywhere


@pytest.mark.parametrize("stage", ["POST", "PATCH", "PUT /v2/me/paper/blobs", "PUT /v2/me/paper/manifests"])
def test_a_push_that_is_interrupted_moves_no_tag_and_the_next_sends_the_rest(
    press: Press, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(press)
    before = press.registry.manifests["me/paper:1"]
    press.lock(b"one", b"another two")
    attempt = Access.attempt

    def interrupted(self: Access, method: str, url: str, *args: object) -> object:
        path = url.partition(press.registry.host)[2]
        if f"{method} {path}".startswith(stage):
            raise KeyboardInterrupt
        return attempt(self, method, url, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Access, "attempt", interrupted)
    with pytest.raises(KeyboardInterrupt):
        send(press)
    assert press.registry.manifests["me/paper:1"] == before
    monkeypatch.setattr(Access, "attempt", attempt)
    there = set(press.registry.blobs)
    press.registry.log.clear()
    pushed = send(press)
    sent = [line for line in press.registry.log if line.startswith("PUT /v2/me/paper/blobs/")]
    assert len(sent) == len({blob.digest for blob in pushed.publication.blobs} - there)
    check_image(_manifest(press, "linux-64"), press.registry.blobs)


def test_a_push_killed_at_any_moment_is_finished_by_the_next(press: Press) -> None:
    for delay in (0.2, 0.4, 0.6):
        process = subprocess.Popen(command(press), stdout=subprocess.DEVNULL)
        time.sleep(delay)
        process.kill()
        process.wait()
    send(press)
    for platform in PLATFORMS:
        check_image(_manifest(press, platform), press.registry.blobs)


# --- for real


@pytest.mark.rig
def test_a_real_registry_takes_it_whole(rig: Rig, press: Press) -> None:
    reference = parse_reference(f"{rig.registry}/tests/paper-{os.getpid()}:1")
    for compat in (False, True):
        wanted = press.wanted(compat=compat)
        pushed = push(wanted, reference, press.settings, SILENT)
        assert pushed.is_new
        again = push(wanted, reference, press.settings, SILENT)
        assert (again.sent, again.is_new, again.name) == (0, False, pushed.name)
        base = f"http://{rig.registry}/v2/{reference.repository}"
        for image in pushed.publication.images:
            manifest = _get(f"{base}/manifests/{image.manifest.descriptor.digest}")
            parts = (image.parts.config, *image.parts.layers)
            blobs = {blob.digest: _get(f"{base}/blobs/{blob.digest}") for blob in parts}
            assert check_image(manifest, blobs)["config"]["Labels"]["io.envbox.format"]


@pytest.mark.rig
def test_a_real_registry_mounts_the_base(rig: Rig, press: Press) -> None:
    settings = rig.settings()
    blob = Blob(_a_layer_of_the_base(rig, settings), lambda: iter(()), _origin(settings))
    reference = parse_reference(f"{rig.registry}/tests/mount-{os.getpid()}:1")
    access = push_access(reference, settings, [blob])
    assert upload_blobs(access, [blob], SILENT) == 0
    assert missing_blobs(access, [blob.descriptor]) == set()


@pytest.mark.rig
def test_a_real_registry_survives_a_break(rig: Rig, press: Press) -> None:
    data = os.urandom(3_000_000)
    breaks = [True]

    def opened() -> object:
        for start in range(0, len(data), 100_000):
            if start > 1_000_000 and breaks:
                breaks.clear()
                raise OSError("the cable was pulled")
            yield data[start : start + 100_000]

    blob = Blob(Descriptor("x", Digest(digest(data)), len(data)), opened)  # type: ignore[arg-type]
    reference = parse_reference(f"{rig.registry}/tests/break-{os.getpid()}:1")
    access = push_access(reference, press.settings)
    assert upload_blobs(access, [blob], SILENT) >= len(data)
    assert _get(f"http://{rig.registry}/v2/{reference.repository}/blobs/{digest(data)}") == data


@pytest.mark.rig
@pytest.mark.parametrize("name", ["Upper/x:1", "me/x:-bad", "me//x"])
def test_a_name_that_no_registry_takes_is_refused_here(rig: Rig, name: str) -> None:
    with pytest.raises(EnvboxError, match="is not an image's name"):
        parse_reference(f"{rig.registry}/{name}")


def _get(url: str) -> bytes:
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
        urllib.request.Request(url, headers=accept)
    ) as answer:
        data: bytes = answer.read()
        return data


def _base(settings: Settings) -> Base:
    from envbox.registry.base import resolve_base

    return resolve_base(settings.base, ["linux-64"], settings, SILENT)


def _a_layer_of_the_base(rig: Rig, settings: Settings) -> Descriptor:
    from envbox.registry.base import pull_base

    layers = pull_base(_base(settings), "linux-64", settings).layers
    return min((layer.blob for layer in layers), key=lambda blob: blob.size)


def _origin(settings: Settings) -> object:
    from envbox.registry.reference import endpoint

    return endpoint(parse_reference(settings.base), settings.mirrors)
