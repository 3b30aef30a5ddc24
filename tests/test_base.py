"""A base is pinned by digest, its C library read from its own layers; what cannot carry conda is refused."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.paper_registry import BASE, LIBC, PaperRegistry, digest, serving

from envbox.errors import ImageError, LockfileError, ToolError
from envbox.lockfile import LockedPackage
from envbox.mirrors import Mirrors
from envbox.oci import chain_ids
from envbox.registry import access
from envbox.registry.base import Base, check_glibc, fetch_layers, pull_base, resolve_base
from envbox.report import SILENT
from envbox.settings import Settings

if TYPE_CHECKING:
    from conftest import Rig

NAME = "docker.io/a/b:1"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[PaperRegistry]:
    monkeypatch.setattr(access, "RETRY_DELAYS", (0.01,))
    with serving(PaperRegistry()) as running:
        yield running


@pytest.fixture
def settings(tmp_path: Path, registry: PaperRegistry) -> Settings:
    return Settings(cache_dir=tmp_path / "cache", mirrors=Mirrors({"docker.io": registry.host}))


def libc(version: str) -> bytes:
    return BASE[LIBC].replace(b"2.36", version.encode())


def test_each_platform_has_its_digest_and_its_glibc(registry: PaperRegistry, settings: Settings) -> None:
    old = {**BASE, "lib64/libc-2.28.so": b"GNU C Library (GNU libc) stable release version 2.28.\n"}
    del old[LIBC]
    images = {
        "linux-64": registry.put_image("a/b:1", [BASE]),
        "linux-aarch64": registry.put_image("a/b:1", [old], "linux-aarch64"),
    }
    registry.put_index("a/b:1", images)
    base = resolve_base("a/b:1", list(images), settings, SILENT)
    assert base == Base(NAME, images, {"linux-64": "2.36", "linux-aarch64": "2.28"})


def test_resolving_again_costs_one_head_and_no_reading(registry: PaperRegistry, settings: Settings) -> None:
    registry.put_image("a/b:1")
    first = resolve_base("a/b:1", ["linux-64"], settings, SILENT)
    registry.log.clear()
    for blob in settings.cache_dir.glob("blobs/sha256/*"):
        if blob.read_bytes()[:2] == b"\x1f\x8b":  # layers, which the second time need not be there
            blob.unlink()
    assert resolve_base("a/b:1", ["linux-64"], settings, SILENT) == first
    assert registry.log == ["HEAD /v2/a/b/manifests/1"]


def test_offline_a_base_is_what_it_was_when_it_was_last_asked_for(
    registry: PaperRegistry, settings: Settings
) -> None:
    registry.put_image("a/b:1")
    offline = replace(settings, offline=True)
    with pytest.raises(ToolError, match=r"docker\.io/a/b:1 is not in the cache, and --offline"):
        resolve_base("a/b:1", ["linux-64"], offline, SILENT)
    assert not registry.log
    first = resolve_base("a/b:1", ["linux-64"], settings, SILENT)
    registry.log.clear()
    assert resolve_base("a/b:1", ["linux-64"], offline, SILENT) == first
    assert not registry.log


def test_layers_above_the_c_library_are_not_fetched(registry: PaperRegistry, settings: Settings) -> None:
    registry.put_image("a/b:1", [{"etc/motd": b""}, BASE, {"opt/large": b"large"}])
    resolve_base("a/b:1", ["linux-64"], settings, SILENT)
    manifest = json.loads(registry.manifests["a/b:1"][1])
    fetched = [
        layer["digest"]
        for layer in manifest["layers"]
        if any(layer["digest"] in line for line in registry.log)
    ]
    assert fetched == [layer["digest"] for layer in manifest["layers"][:2]]


def test_a_copy_of_the_c_library_elsewhere_does_not_count(
    registry: PaperRegistry, settings: Settings
) -> None:
    copies = ("opt/conda/lib/libc.so.6", "usr/lib/debug/lib/x86_64-linux-gnu/libc.so.6")
    registry.put_image("a/b:1", [{**BASE, **dict.fromkeys(copies, libc("2.17"))}])
    assert resolve_base("a/b:1", ["linux-64"], settings, SILENT).glibc == {"linux-64": "2.36"}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"bin/sh": b"", "lib/ld-musl-x86_64.so.1": b""}, "has no glibc.*built on musl"),
        ({"bin/sh": b""}, r"has no glibc.*no libc\.so\.6"),
        ({LIBC: BASE[LIBC]}, "has no /bin/sh"),
        ({}, "has no glibc"),
    ],
)
def test_a_base_that_cannot_carry_conda_is_refused(
    registry: PaperRegistry, settings: Settings, files: Mapping[str, bytes], words: str
) -> None:
    registry.put_image("a/b:1", [files])
    with pytest.raises(ImageError, match=words) as caught:
        resolve_base("a/b:1", ["linux-64"], settings, SILENT)
    assert NAME in caught.value.message
    assert "Debian" in str(caught.value.hint)


def test_a_layer_that_is_no_tar_is_named(registry: PaperRegistry, settings: Settings) -> None:
    registry.put_image("a/b:1")
    manifest = json.loads(registry.manifests["a/b:1"][1])
    for data in (gzip.compress(b"no tar"), b"no gzip"):
        registry.blobs[digest(data)] = data
        manifest["layers"][0] |= {"digest": digest(data), "size": len(data)}
        registry.put_manifest("a/b:1", registry.manifests["a/b:1"][0], manifest)
        with pytest.raises(ImageError, match=f"cannot read layer {digest(data)} of {NAME}"):
            resolve_base("a/b:1", ["linux-64"], settings, SILENT)


def test_a_pulled_base_needs_no_tag_and_no_second_question(
    registry: PaperRegistry, settings: Settings
) -> None:
    registry.put_image("a/b:1", [BASE, {"etc/motd": b"hello"}])
    base = resolve_base("a/b:1", ["linux-64"], settings, SILENT)
    registry.put_image("a/b:1", [{"other": b""}])  # the tag moves on
    registry.log.clear()
    image = pull_base(base, "linux-64", settings)
    fetch_layers(image, image.layers, settings, SILENT)
    assert not [line for line in registry.log if "manifests" in line]
    assert [gzip.decompress(layer.path.read_bytes()) for layer in image.layers]
    assert [digest(gzip.decompress(layer.path.read_bytes())) for layer in image.layers] == image.config[
        "rootfs"
    ]["diff_ids"]
    assert len(chain_ids([layer.diff_id for layer in image.layers])) == 2
    registry.log.clear()
    fetch_layers(pull_base(base, "linux-64", settings), image.layers, settings, SILENT)
    assert registry.log == []


def test_reading_a_base_says_its_name_and_platform_and_no_digest(
    registry: PaperRegistry, settings: Settings
) -> None:
    labels = []

    class Told(type(SILENT)):  # type: ignore[misc]
        def task(self, label: str, *rest: Any) -> Any:
            labels.append(label)
            return SILENT.task(label, *rest)

    registry.put_image("a/b:1")
    resolve_base("a/b:1", ["linux-64"], settings, Told())
    assert labels == ["reading docker.io/a/b:1 for linux-64"]


def test_a_base_for_another_platform_is_refused(registry: PaperRegistry, settings: Settings) -> None:
    found = registry.put_image("a/b:1", platform="linux-aarch64")
    with pytest.raises(ImageError, match="is for linux/arm64, not for linux-64") as caught:
        pull_base(Base(NAME, {"linux-64": found}, {}), "linux-64", settings)
    assert str(caught.value.hint).startswith("remove the lockfile")  # it is fresh: `lock` alone keeps it
    with pytest.raises(LockfileError, match="pins no base for linux-ppc64le"):
        pull_base(Base(NAME, {"linux-64": found}, {}), "linux-ppc64le", settings)


def test_a_config_that_does_not_fit_its_layers_is_refused(
    registry: PaperRegistry, settings: Settings
) -> None:
    registry.put_image("a/b:1")
    manifest = json.loads(registry.manifests["a/b:1"][1])
    manifest["layers"] *= 2
    found = registry.put_manifest("a/b:1", registry.manifests["a/b:1"][0], manifest)
    with pytest.raises(ImageError, match="2 layers, but 1 in its config"):
        pull_base(Base(NAME, {"linux-64": found}, {}), "linux-64", settings)


def package(
    name: str, needs: str | None = None, url: str = "https://c/linux-64/x-1-0.conda"
) -> LockedPackage:
    depends = {"__glibc": needs} if needs else {}
    manager = "pip" if url.endswith(".whl") else "conda"
    return LockedPackage(manager, name, "1", "0", "linux-64", depends, url, "0" * 64)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("needed", "is_fine"),
    [
        (package("a", ">=2.17,<3.0.a0"), True),
        (package("a", ">=2.36"), True),
        (package("a", ">=2.4"), True),
        (package("a", ">=2.37"), False),
        (package("a", ">=3"), False),
        (package("a"), True),
        (package("a", url="https://p/a-1-cp311-cp311-manylinux_2_39_x86_64.whl"), False),
        (package("a", url="https://p/a-1-cp311-cp311-manylinux_2_39_x86_64.manylinux2014_x86_64.whl"), True),
        (package("a", url="https://p/a-1-py3-none-any.whl"), True),
    ],
)
def test_a_base_too_old_for_a_package_is_refused(needed: LockedPackage, is_fine: bool) -> None:
    base = Base(NAME, {}, {"linux-64": "2.36"})
    if is_fine:
        check_glibc([needed], base, "linux-64")
    else:
        with pytest.raises(ImageError, match=f"the base {NAME} has glibc 2.36, but a 1 needs"):
            check_glibc([needed], base, "linux-64")


@pytest.mark.rig
def test_the_default_base_is_read_from_a_real_registry(rig: Rig) -> None:
    settings = rig.settings()
    base = resolve_base(settings.base, ["linux-64", "linux-aarch64"], settings, SILENT)
    assert base.reference == settings.base
    assert base.glibc == {"linux-64": "2.36", "linux-aarch64": "2.36"}
    assert len(set(base.digests.values())) == 2
    image = pull_base(base, "linux-64", settings)
    fetch_layers(image, image.layers, settings, SILENT)
    assert all(digest(layer.path.read_bytes()) == layer.blob.digest for layer in image.layers)
