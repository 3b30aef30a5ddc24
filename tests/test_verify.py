"""Verifying: an honest image is identical; whatever is changed in one is named, and nothing else is."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import zstandard
from support.paper_registry import PaperRegistry, serving
from support.tampering import Loose, Members, saved, taken_apart, tar_of
from support.tiny import SHORT, VERSION, Tiny, make_tiny

from envbox.engine.find import connect
from envbox.errors import ImageError, LockfileError, PackageError, ToolError
from envbox.images.build import build, make_image, repository
from envbox.images.find import in_registry
from envbox.images.saved import read_layer
from envbox.images.verify.compare import FileDifference, compare_values, paired_layers
from envbox.images.verify.content import is_listing, verify_content
from envbox.images.verify.rebuild import Verification, is_lockfile, verify_image
from envbox.oci import MANIFEST_TYPE, digest_of
from envbox.project import read_project
from envbox.registry.base import BaseLayer, fetch_layers, pull_base
from envbox.registry.lock_with_base import read_lock_with_base
from envbox.report import SILENT
from envbox.settings import Settings

if TYPE_CHECKING:
    from envbox.images.assemble import Image

ONE = "opt/envbox/share/one.txt"
LOCKFILE = "opt/envbox/share/envbox/conda-lock.yml"


@dataclass(frozen=True)
class Shop:
    """The tiny environment, and its image as it should be."""

    tiny: Tiny
    image: Image

    def loose(self) -> Loose:
        """The image, to be changed."""
        return taken_apart(self.image)

    def verify(self, loose: Loose, **options: Any) -> Verification:
        """Compare a changed one with what the lockfile says."""
        archive = loose.archive("it:1")
        return verify_image(
            lambda hashed: saved(archive, is_lockfile, hashed=hashed), self.tiny.settings(), SILENT, **options
        )

    def content(self, loose: Loose) -> tuple[FileDifference, ...]:
        """What the lists of its packages say of a changed one."""
        return verify_content(saved(loose.archive("it:1"), is_listing)).differences


def made(tiny: Tiny, settings: Settings) -> Image:
    """The image of the lockfile, with the base's layers in the cache."""
    data = tiny.environment.lock_path.read_bytes()
    locked = read_lock_with_base(tiny.environment, data, "linux-64", settings, SILENT)
    base = pull_base(locked.base, "linux-64", settings)
    fetch_layers(base, base.layers, settings, SILENT)
    return make_image(locked, base, settings, SILENT)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with serving(PaperRegistry()) as registry:
        tiny = make_tiny(tmp_path_factory.mktemp(f"shop-{uuid4().hex[:12]}-"), registry)
        yield Shop(tiny, made(tiny, tiny.settings()))


def test_an_honest_image_is_identical(shop: Shop) -> None:
    loose = shop.loose()
    found = shop.verify(loose)
    assert [d.path for d in found.differences] == ["config"]  # json.dumps is not how envbox writes it
    assert found.differences[0].field == "encoding"
    archive = loose.archive("it:1")
    honest = replace(saved(archive, is_lockfile, hashed=False), config=shop.image.config)
    found = verify_image(lambda hashed: honest, shop.tiny.settings(), SILENT)
    assert found.is_identical
    assert found.id == found.expected_id == shop.image.id
    assert found.lock_digest == shop.image.labels["io.envbox.lock"]
    assert found.notes == ("layers and config were compared; the engine keeps no manifest",)


def content(info: tarfile.TarInfo, data: bytes) -> bytes:
    return data.upper()


def mode(info: tarfile.TarInfo, data: bytes) -> bytes:
    info.mode = 0o4755
    return data


def mtime(info: tarfile.TarInfo, data: bytes) -> bytes:
    info.mtime += 1
    return data


def owner(info: tarfile.TarInfo, data: bytes) -> bytes:
    info.uid = 1000
    return data


def attribute(info: tarfile.TarInfo, data: bytes) -> bytes:
    info.pax_headers = {"SCHILY.xattr.security.capability": "x"}
    return data


def target(info: tarfile.TarInfo, data: bytes) -> bytes:
    info.linkname = "two"
    return data


def kind(info: tarfile.TarInfo, data: bytes) -> bytes:
    info.type, info.linkname, info.mode = tarfile.SYMTYPE, "two", 0o777
    return b""


SITE_PACKAGES = f"opt/envbox/lib/python{SHORT}/site-packages"
PYC = f"{SITE_PACKAGES}/installer/__pycache__/utils.{sys.implementation.cache_tag}.pyc"
CHANGES: list[tuple[str, Callable[[tarfile.TarInfo, bytes], bytes], str, str, str | None]] = [
    (ONE, content, "content", "one", "content"),
    (ONE, mode, "mode", "one", "mode"),
    (ONE, mtime, "mtime", "one", None),
    (ONE, owner, "owner", "one", "owner"),
    (ONE, attribute, "attributes", "one", None),
    (ONE, kind, "kind", "one", "kind"),
    ("opt/envbox/share/link", target, "link target", "one", "link target"),
    ("opt/envbox/bin/install", content, "content", "pure", "content"),
    (PYC, content, "content", "pure", "content"),
    ("opt/envbox/share/both", content, "content", "three", "content"),
    ("opt/envbox/bin/wheeled", content, "content", "pip:wheeled", "content"),
    ("opt/envbox/share/envbox/entrypoint.sh", content, "content", "environment", "content"),
    ("opt/envbox/conda-meta/history", content, "content", "environment", "content"),
    ("etc/motd", content, "content", "(base)", None),
]


@pytest.mark.parametrize(("path", "edit", "field", "package", "by_list"), CHANGES)
def test_one_thing_changed_is_named_and_nothing_else(
    shop: Shop,
    path: str,
    edit: Callable[[tarfile.TarInfo, bytes], bytes],
    field: str,
    package: str,
    by_list: str | None,
) -> None:
    loose = shop.loose()
    loose.change(path, edit)
    found = [d for d in shop.verify(loose).differences if not d.path.startswith("config")]
    assert [(d.path, d.field, d.package) for d in found] == [(f"/{path}", field, package)]
    assert found[0].expected != found[0].found
    listed = {(d.path, d.field) for d in shop.content(loose)}
    assert listed == ({(f"/{path}", by_list)} if by_list else set())


def test_a_changed_mtime_is_all_that_the_lists_of_packages_cannot_see(shop: Shop) -> None:
    """As documented: the base, times and extended attributes are for the full comparison."""
    assert {(change[0], change[2]) for change in CHANGES if change[4] is None} == {
        (ONE, "mtime"), (ONE, "attributes"), ("etc/motd", "content"),
    }  # fmt: skip


def test_a_file_too_many_and_one_too_few(shop: Shop) -> None:
    loose = shop.loose()

    def edit(members: Members) -> Members:
        extra = tarfile.TarInfo("opt/envbox/bin/backdoor")
        return [m for m in members if m[0].name != ONE] + [(extra, b"#!/bin/sh\n")]

    loose.rewrite(loose.layer_of(ONE), edit)
    found = [d for d in shop.verify(loose).differences if not d.path.startswith("config")]
    assert {(d.path, d.field, d.package) for d in found} == {
        ("/opt/envbox/bin/backdoor", "extra", None),
        (f"/{ONE}", "missing", "one"),
    }
    assert {(d.path, d.field, d.package) for d in shop.content(loose)} == {
        ("/opt/envbox/bin/backdoor", "extra", None),
        (f"/{ONE}", "missing", "one"),
    }


def test_a_layer_on_top_is_told_by_what_it_does(shop: Shop) -> None:
    loose = shop.loose()
    files = {
        "etc/passwd": b"root::0:0::/:/bin/sh\n",
        "opt/envbox/share/.wh.two": b"",
        "usr/bin/.wh.sh": b"",
        "etc/motd": b"changed",
        "opt/envbox/share/nothing/.wh..wh..opq": b"",
        ONE: b"changed\n",
    }
    members = [(tarfile.TarInfo(name), data) for name, data in files.items()]
    for info, _ in members:
        info.mtime = 1_700_000_000 if info.name == ONE else 0
    loose.layers.append(tar_of(members))
    found = [d for d in shop.verify(loose).differences if not d.path.startswith("config")]
    assert {(d.path, d.field, d.package) for d in found} == {
        ("/etc/passwd", "extra", None),
        ("/etc/motd", "content", None),
        ("/usr/bin/sh", "missing", None),
        ("/opt/envbox/share/two", "missing", "two"),
        (f"/{ONE}", "content", "one"),
    }
    assert {(d.path, d.field, d.package) for d in shop.content(loose)} == {
        ("/etc/passwd", "extra", None),
        ("/etc/motd", "extra", None),
        ("/opt/envbox/share/two", "missing", "two"),
        ("/usr/bin/sh", "missing", "(base)"),
        ("/opt/envbox/share/nothing", "missing", "(base)"),
        (f"/{ONE}", "content", "one"),
    }


def test_a_layer_that_does_nothing_is_one_too_many(shop: Shop) -> None:
    loose = shop.loose()
    loose.layers.append(tar_of([]))
    (found,) = [d for d in shop.verify(loose).differences if not d.path.startswith("config")]
    assert (found.path, found.field) == (f"layer {len(loose.layers) - 1}", "extra")
    assert shop.content(loose) == ()


def test_what_an_engine_writes_into_a_config_and_says_nothing_is_not_listed(shop: Shop) -> None:
    loose = shop.loose()
    loose.config["config"] |= {"Tty": False, "Volumes": None, "OnBuild": [], "User": "root"}
    assert [d.path for d in shop.verify(loose).differences] == ["config.config.User"]
    del loose.config["config"]["User"]
    assert {d.path for d in shop.verify(loose).differences} == {
        "config.config.Tty", "config.config.Volumes", "config.config.OnBuild",
    }  # fmt: skip


def test_a_layer_too_few_is_told_by_what_it_had(shop: Shop) -> None:
    loose = shop.loose()
    number = loose.layer_of("opt/envbox/share/two")
    del loose.layers[number]
    loose.config["history"] = []
    found = [d for d in shop.verify(loose).differences if not d.path.startswith("config")]
    assert {d.field for d in found} == {"missing"}
    assert "/opt/envbox/share/two" in {d.path for d in found}


def test_the_order_of_entries_and_the_way_they_are_written_count(shop: Shop) -> None:
    loose = shop.loose()
    number = loose.layer_of(ONE)
    loose.rewrite(number, lambda members: members[:-2] + members[-1:] + members[-2:-1])
    (found,) = [d for d in shop.verify(loose).differences if not d.path.startswith("config")]
    assert found.field == "order"
    loose = shop.loose()
    loose.layers[number] += bytes(512)
    (found,) = [d for d in shop.verify(loose).differences if not d.path.startswith("config")]
    assert (found.path, found.field) == (f"layer {number}", "encoding")


def test_a_path_that_is_there_twice_is_said(shop: Shop) -> None:
    loose = shop.loose()
    loose.rewrite(loose.layer_of(ONE), lambda members: members + [m for m in members if m[0].name == ONE])
    (found,) = [d for d in shop.verify(loose).differences if not d.path.startswith("config")]
    assert (found.path, found.field) == (f"/{ONE}", "twice")


def test_a_label_or_variable_is_named_by_its_key(shop: Shop) -> None:
    loose = shop.loose()
    loose.config["config"]["Labels"]["org.opencontainers.image.title"] = "something else"
    loose.config["config"]["Labels"]["added"] = "by somebody"
    loose.config["config"]["Env"][0] = "PATH=/tmp"
    loose.config["config"]["Entrypoint"] = ["/tmp/start"]
    assert {(d.path, d.field) for d in shop.verify(loose).differences} == {
        ("config.config.Labels.org.opencontainers.image.title", "value"),
        ("config.config.Labels.added", "extra"),
        ("config.config.Env[0]", "value"),
        ("config.config.Entrypoint[0]", "value"),
    }


def test_a_label_that_names_another_lockfile_than_the_one_inside_is_said(shop: Shop) -> None:
    loose = shop.loose()
    loose.config["config"]["Labels"]["io.envbox.lock"] = digest_of(b"another")
    (found,) = shop.verify(loose).differences
    assert (found.path, found.found) == ("config.config.Labels.io.envbox.lock", digest_of(b"another"))
    (found,) = shop.content(loose)
    assert (found.path, found.field) == (f"/{LOCKFILE}", "content")


def test_another_lockfile_than_the_one_inside(shop: Shop, tmp_path: Path) -> None:
    from envbox.lockfile.conda_lock_v1 import dumps

    lock = replace(shop.tiny.lock, packages=tuple(p for p in shop.tiny.lock.packages if p.name != "act"))
    path = tmp_path / "other.conda-lock.yml"
    path.write_bytes(dumps(lock))
    found = shop.verify(shop.loose(), lockfile=path)
    assert found.lock_digest == digest_of(path.read_bytes())
    said = {(d.path, d.field, d.package) for d in found.differences}
    assert ("/opt/envbox/etc/conda/activate.d/act.sh", "extra", None) in said
    assert (f"/{LOCKFILE}", "content", "environment") in said


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "file://server/share/one-1.0-h0_0.conda",
        "ftp://server/one-1.0-h0_0.conda",
        "/etc/linux-64/one-1.0-h0_0.conda",
        "https:///linux-64/one-1.0-h0_0.conda",
    ],
)
def test_the_lockfile_of_an_image_leads_to_servers_alone(shop: Shop, url: str) -> None:
    def forge(info: tarfile.TarInfo, data: bytes) -> bytes:
        old = next(p.url for p in shop.tiny.lock.packages if p.name == "one")
        assert old.encode() in data
        return data.replace(old.encode(), url.encode())

    loose = shop.loose()
    loose.change(LOCKFILE, forge)
    with pytest.raises((ImageError, LockfileError), match=r"says that one is at|url"):
        shop.verify(loose)


def test_a_lockfile_s_python_is_confined_whatever_is_set(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiny environment's Python is a script that finds no shell where it is confined."""
    from envbox.cli import verify as verifying
    from envbox.cli.context import Invocation

    archive = shop.loose().archive("it:1")
    monkeypatch.setattr(
        verifying, "_find", lambda *_: lambda hashed: saved(archive, is_lockfile, hashed=hashed)
    )
    for name, value in shop.tiny.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("ENVBOX_CACHE_DIR", str(tmp_path / "cache"))
    session = Invocation(str(tmp_path), quiet=True, verbose=False)
    assert session.settings.trust_python
    with pytest.raises(ToolError, match=rf"the locked Python \(python-{VERSION}-h0_0.conda\) failed"):
        verifying._compare(session, "it:1", None, None, False)
    trusting = Invocation(str(tmp_path), quiet=True, verbose=False, trust_python=True)
    verifying._compare(trusting, "it:1", None, None, False)


def test_a_layer_of_endless_entries_is_refused(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from envbox.images import saved as reading

    monkeypatch.setattr(reading, "_MOST_ENTRIES", 3)
    with pytest.raises(ImageError, match="a layer is damaged: it has more than 3 entries"):
        shop.verify(shop.loose())


def test_a_file_and_its_record_changed_together_are_found_by_making_it_anew_only(shop: Shop) -> None:
    loose = shop.loose()
    new = b"changed\n"
    loose.change(ONE, lambda info, data: new)
    loose.change("opt/envbox/share/hard", lambda info, data: new)

    def forge(info: tarfile.TarInfo, data: bytes) -> bytes:
        record = json.loads(data)
        for line in record["paths_data"]["paths"]:
            if line["_path"] in ("share/one.txt", "share/hard", "share/link"):
                line |= {"sha256": digest_of(new).removeprefix("sha256:"), "size_in_bytes": len(new)}
        return json.dumps(record).encode()

    loose.change("opt/envbox/conda-meta/one-1.0-h0_0.json", forge)
    assert shop.content(loose) == ()
    assert {d.path for d in shop.verify(loose).differences if d.path.startswith("/")} == {
        f"/{ONE}", "/opt/envbox/share/hard", "/opt/envbox/conda-meta/one-1.0-h0_0.json",
    }  # fmt: skip


def test_the_lists_must_be_those_of_the_locked_packages(shop: Shop) -> None:
    """A package swapped for another, with a list that fits, is not what is locked."""
    record = "opt/envbox/conda-meta/two-1.0-h0_0.json"
    loose = shop.loose()

    def of_another_archive(info: tarfile.TarInfo, data: bytes) -> bytes:
        return json.dumps({**json.loads(data), "sha256": "0" * 64}).encode()

    loose.change(record, of_another_archive)
    (found,) = shop.content(loose)
    assert (found.path, found.field, found.package) == (f"/{record}", "content", "two")
    assert found.found == f"of {'0' * 64}"
    loose = shop.loose()

    def renamed(info: tarfile.TarInfo, data: bytes) -> bytes:
        info.name = "opt/envbox/conda-meta/two-2.0-h0_0.json"
        return data

    loose.change(record, renamed)
    assert {(d.path, d.field, d.package) for d in shop.content(loose)} == {
        (f"/{record}", "missing", "two"),
        ("/opt/envbox/conda-meta/two-2.0-h0_0.json", "extra", "two"),
    }


def test_a_layer_is_read_to_its_last_byte_however_it_is_compressed() -> None:
    member = tarfile.TarInfo("a")
    raw = tar_of([(member, b"a" * 3_000_000)]) + bytes(3 << 20)
    halves = raw[:2_000_000], raw[2_000_000:]
    zstd = zstandard.ZstdCompressor().compress
    for stored in (
        raw,
        gzip.compress(raw),
        b"".join(map(gzip.compress, halves)),
        b"".join(map(zstd, halves)),
    ):
        layer = read_layer(iter([stored]), lambda path: path == "a")
        assert layer.diff_id == digest_of(raw)
        assert layer.kept == {"a": b"a" * 3_000_000}
        assert [(e.path, e.size, e.sha256) for e in layer.entries] == [
            ("a", 3_000_000, digest_of(b"a" * 3_000_000).removeprefix("sha256:"))
        ]
    assert read_layer(iter([stored[:-20]]), lambda path: False).diff_id != digest_of(raw)
    for damaged in (raw[:2_000_000], gzip.compress(raw)[:-9], b"no tar" * 200):
        with pytest.raises(ImageError, match="damaged"):
            read_layer(iter([damaged]), lambda path: False)


def layer_of(names: list[str], data: bytes = b"") -> bytes:
    members = [tarfile.TarInfo(name) for name in names]
    return gzip.compress(tar_of([(member, data) for member in members]))


def test_what_is_held_of_an_image_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from envbox.images import saved as reading

    monkeypatch.setattr(reading, "_MOST_HELD", 1 << 20)
    names = layer_of([f"{i:05}" * 10_000 for i in range(30)])
    kept = layer_of(["a", "b", "c"], bytes(500_000))
    for stored in (names, kept):
        with pytest.raises(ImageError, match="more than 1 MiB"):
            read_layer(iter([stored]), lambda path: True)
    assert len(read_layer(iter([kept]), lambda path: False).entries) == 3
    room, half = reading.Room(), layer_of(["a"], bytes(600_000))
    read_layer(iter([half]), lambda path: True, room=room)
    with pytest.raises(ImageError, match="more than 1 MiB"):
        read_layer(iter([half]), lambda path: True, room=room)


def test_a_layer_that_grows_as_no_honest_one_does_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from envbox.registry import base as pulled

    monkeypatch.setattr(pulled, "_GROWN", 1 << 16)
    raw = tar_of([(tarfile.TarInfo("a"), bytes(30_000_000))])
    for stored in (gzip.compress(raw), zstandard.ZstdCompressor().compress(raw)):
        with pytest.raises(ImageError, match="far larger"):
            read_layer(iter([stored]), lambda path: False, size=len(stored))
    assert read_layer(iter([raw]), lambda path: False, size=len(raw)).diff_id == digest_of(raw)


def test_an_image_that_is_not_envbox_s_is_said(shop: Shop) -> None:
    loose = shop.loose()
    loose.layers = loose.layers[:2]
    with pytest.raises(ImageError, match="there is no lockfile in it") as caught:
        shop.verify(loose)
    assert caught.value.hint == "envbox verify IMAGE --lock FILE"
    with pytest.raises(ImageError, match="not made by envbox"):
        shop.content(loose)


def test_a_lockfile_without_the_image_s_platform_is_said(shop: Shop) -> None:
    loose = shop.loose()
    loose.config["architecture"] = "arm64"
    with pytest.raises(LockfileError, match="not locked for linux-aarch64"):
        shop.verify(loose)


@pytest.mark.parametrize("cut", [0, 5000, 12_345])
def test_an_archive_that_is_cut_off_or_none_is_said(shop: Shop, cut: int) -> None:
    with pytest.raises(ImageError, match="damaged"):
        saved(shop.loose().archive("it:1")[:cut], is_lockfile)


def test_damage_in_the_caches_does_not_decide(shop: Shop) -> None:
    """Fragments of another build are not looked at; an archive is held against the lock's hash."""
    settings, archive = shop.tiny.settings("damaged"), shop.loose().archive("it:1")

    def differing(**options: bool) -> set[str]:
        read = partial(saved, archive, is_lockfile)
        found = verify_image(lambda hashed: read(hashed=hashed), settings, SILENT, **options)
        return {d.path for d in found.differences}

    made(shop.tiny, settings)
    for path in (settings.cache_dir / "fragments").iterdir():
        path.write_bytes(b"damaged")
    assert differing() == {"config"}
    (package,) = (settings.cache_dir / "packages").glob("*/two-1.0-h0_0.conda")
    package.write_bytes(package.read_bytes()[:-1] + b"x")
    assert differing(fresh=True) == {"config"}
    with pytest.raises(PackageError, match="two-1"):
        differing()
    assert not package.exists()
    assert differing() == {"config"}
    assert list(settings.cache_dir.glob(".verify*")) == []


def test_layers_are_lined_up() -> None:
    a, b, c, d = (digest_of(bytes([n])) for n in range(4))
    assert list(paired_layers([a, b, c], [a, b, c])) == []
    assert list(paired_layers([a, b, c], [a, d, c])) == [(1, 1)]
    assert list(paired_layers([a, b], [a, b, c])) == [(None, 2)]
    assert list(paired_layers([a, b, c], [a, c])) == [(1, None)]
    assert list(paired_layers([a, b], [c, d, a])) == [(None, 0), (None, 1), (1, None)]


def test_values_are_compared_by_key_and_type() -> None:
    one = {"a": [1, {"b": "x"}], "c": True}
    assert list(compare_values(one, json.loads(json.dumps(one)))) == []
    other = {"a": [1, {"b": "y"}], "c": 1, "d": None}
    assert [(d.path, d.field) for d in compare_values(one, other)] == [
        ("config.a[1].b", "value"), ("config.c", "value"), ("config.d", "extra"),
    ]  # fmt: skip
    assert [(d.path, d.field) for d in compare_values([1], [1, 2])] == [("config[1]", "extra")]
    assert [(d.path, d.field) for d in compare_values([1, 2], [1])] == [("config[1]", "missing")]


# --- where images lie


def put_in_registry(shop: Shop, manifest: bytes) -> None:
    """Put the image into the registry as `a/b:pushed`."""
    registry, image = shop.tiny.registry, shop.image
    registry.blobs[image.id] = image.config
    for layer in image.layers:
        stored = layer.path.read_bytes() if isinstance(layer, BaseLayer) else b"".join(layer.open_blob())
        registry.blobs[digest_of(stored)] = stored
    registry.put_manifest("a/b:pushed", MANIFEST_TYPE, manifest)


def from_registry(shop: Shop, cache: str) -> Verification:
    settings = shop.tiny.settings(cache)
    read = in_registry("docker://a/b:pushed", "linux-64", is_lockfile, settings, SILENT)
    return verify_image(read, settings, SILENT)


def test_an_image_in_a_registry_is_compared_to_its_manifest(shop: Shop) -> None:
    put_in_registry(shop, shop.image.manifest)
    found = from_registry(shop, "one")
    assert found.is_identical
    assert found.notes == ()
    assert found.image == "docker.io/a/b:pushed"
    changed = json.loads(shop.image.manifest)
    changed["annotations"]["added"] = "by somebody"
    put_in_registry(shop, json.dumps(changed).encode())
    assert [(d.path, d.field) for d in from_registry(shop, "two").differences] == [
        ("manifest.annotations.added", "extra")
    ]
    changed["annotations"] = {}
    put_in_registry(shop, json.dumps(changed).encode())
    found = from_registry(shop, "three")
    assert found.is_identical
    assert "its manifest was not compared: the layers were compressed by somebody else" in found.notes[0]


@pytest.mark.parametrize("at", [10, -60])
def test_a_bit_that_flipped_in_the_cache_is_not_the_image_s(shop: Shop, at: int) -> None:
    put_in_registry(shop, shop.image.manifest)
    cache = f"flipped{at}"
    assert from_registry(shop, cache).is_identical
    blob = json.loads(shop.image.manifest)["layers"][-1]["digest"].removeprefix("sha256:")
    path = shop.tiny.settings(cache).cache_dir / "blobs/sha256" / blob
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(ToolError, match="damaged in the cache, and is removed") as caught:
        from_registry(shop, cache)
    assert "run the same again" in str(caught.value.hint)
    assert from_registry(shop, cache).is_identical


def envbox(shop: Shop, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in the project of the shop."""
    environ = {
        **os.environ,
        **shop.tiny.environ,
        "ENVBOX_CACHE_DIR": str(shop.tiny.folder / "cache"),
        "ENVBOX_CONFIG": os.devnull,
    }
    trusting = ("--trust", "--trust-python")
    return subprocess.run(
        [sys.executable, "-m", "envbox", *trusting, "-C", str(shop.tiny.folder), *arguments],
        env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def loaded(shop: Shop) -> Iterator[Callable[[Loose], str]]:
    """Load a changed image into the engine; it is removed at the end."""
    names = []

    def load(loose: Loose) -> str:
        names.append(f"envbox-verify/{uuid4().hex[:12]}:1")
        subprocess.run(["docker", "load", "-q"], input=loose.archive(names[-1]), check=True)
        return names[-1]

    yield load
    for name in names:
        subprocess.run(["docker", "rmi", "-f", name], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.rig
def test_a_changed_image_in_the_engine_is_told_from_the_honest_one(
    shop: Shop, loaded: Callable[[Loose], str]
) -> None:
    engine = connect(shop.tiny.settings())
    data = shop.tiny.environment.lock_path.read_bytes()
    (shop.tiny.folder / "environment.yml").write_text("dependencies: [python]\n")
    (shop.tiny.folder / "conda-lock.yml").write_bytes(data)
    environment = read_project(shop.tiny.folder).environment()
    honest = build(environment, shop.tiny.settings(), engine, SILENT, "linux-64")
    try:
        lock = ("--lock", str(shop.tiny.environment.lock_path))
        for arguments in ((), (honest.id, *lock), (honest.reference, "--content")):
            done = envbox(shop, "verify", *arguments)
            assert (done.returncode, done.stdout) == (0, "identical\n"), done.stderr
    finally:
        for reference in (honest.reference, f"{repository(environment.name)}:latest"):
            engine.remove_image(reference)
    loose = shop.loose()
    loose.change(ONE, content)
    loose.change("opt/envbox/share/two", mode)
    loose.config["config"]["Labels"]["added"] = "by somebody"
    changed = loaded(loose)
    done = envbox(shop, "verify", changed, "--json")
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert not said["identical"]
    assert said["expected_id"] == shop.image.id != said["id"]
    assert {(d["path"], d["field"], d["package"]) for d in said["differences"]} == {
        (f"/{ONE}", "content", "one"),
        ("/opt/envbox/share/two", "mode", "two"),
        ("config.config.Labels.added", "extra", None),
    }
    done = envbox(shop, "verify", changed, "--content")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "2 differences"
    assert done.stdout.startswith(f"one  content   /{ONE}\n")


@pytest.mark.rig
def test_an_image_that_is_nowhere_is_said(shop: Shop) -> None:
    done = envbox(shop, "verify", "envbox-verify/nothing:1")
    assert done.returncode == 1
    assert "there is no image envbox-verify/nothing:1 in the engine" in done.stderr
    assert "hint: for one in a registry: docker://envbox-verify/nothing:1" in done.stderr
    assert envbox(shop, "verify", "x", "--content", "--fresh").returncode == 2
    assert envbox(shop, "verify", "x", "--platform", "linux-64").returncode == 2
