"""An image is a pure function of lock, base and format; what an engine would refuse is not made."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.images import CREATED, a_base, a_fragment, a_lock, a_package, an_image

from envbox.images.assemble import CODEC_ANNOTATION, Image, Parts, assemble, image_config
from envbox.images.layers import build_layers
from envbox.oci import MANIFEST_TYPE, Manifest, digest_of, parse_manifest
from envbox.packages.activation import ENTRYPOINT, Activation
from envbox.packages.link.frames import CODEC
from envbox.report import SILENT
from envbox.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache")


def config_of(image: Image) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(image.config)
    return config


def test_the_same_parts_give_the_same_image(tmp_path: Path) -> None:
    images = []
    for name in ("x", "a longer folder name"):
        images.append(an_image(Settings(cache_dir=tmp_path / name)))
    assert images[0].config == images[1].config
    assert images[0].manifest == images[1].manifest
    assert str(tmp_path) not in images[0].config.decode()


def test_the_id_is_the_config_s_digest_and_the_manifest_names_it(settings: Settings) -> None:
    image = an_image(settings)
    manifest = parse_manifest(image.manifest, "it")
    assert isinstance(manifest, Manifest)
    assert manifest.config.digest == image.id == digest_of(image.config)
    assert manifest.config.size == len(image.config)
    assert [blob.digest for blob in manifest.layers] == [layer.blob.digest for layer in image.layers]
    assert json.loads(image.manifest)["mediaType"] == MANIFEST_TYPE


def test_layers_are_the_base_s_then_ours(settings: Settings) -> None:
    base = a_base(settings.cache_dir / "base")
    image = an_image(settings, base=base)
    assert image.layers[:2] == base.layers
    assert config_of(image)["rootfs"]["diff_ids"] == list(image.diff_ids)
    assert len(image.layers) == 5  # of the base, two small packages' buckets, the environment's own


def test_the_codec_is_named_beside_the_config_not_in_it(settings: Settings) -> None:
    image = an_image(settings)
    assert CODEC not in image.config.decode()
    assert json.loads(image.manifest)["annotations"] == {CODEC_ANNOTATION: CODEC}


def test_what_the_base_runs_is_not_what_the_image_runs(settings: Settings) -> None:
    base = a_base(
        settings.cache_dir / "base",
        {"User": "1000", "Cmd": ["serve"], "Healthcheck": {"Test": ["CMD", "x"]}, "OnBuild": ["RUN x"],
         "Entrypoint": ["/start"], "Env": ["PATH=/opt/conda/bin:/bin"], "StopSignal": "SIGINT"},
    )  # fmt: skip
    config = config_of(an_image(settings, base=base))["config"]
    assert config["Entrypoint"] == [ENTRYPOINT]
    assert config["WorkingDir"] == "/work"
    assert (config["User"], config["StopSignal"]) == ("1000", "SIGINT")
    assert set(config) == {"Entrypoint", "Env", "Labels", "StopSignal", "User", "WorkingDir"}
    assert "PATH=/opt/envbox/bin:/opt/conda/bin:/bin" in config["Env"]


def test_labels_say_what_it_is_made_of(settings: Settings) -> None:
    old = {"maintainer": "somebody", "org.opencontainers.image.version": "of the base"}
    base = a_base(settings.cache_dir / "base", {"Labels": old})
    assert an_image(settings, base=base).labels == {
        "maintainer": "somebody",
        "org.opencontainers.image.title": "paper",
        "org.opencontainers.image.created": "2023-11-14T22:13:20Z",
        "org.opencontainers.image.base.name": "docker.io/a/b:1",
        "org.opencontainers.image.base.digest": base.digest,
        "io.envbox.lock": digest_of(b"lock"),
        "io.envbox.format": "2",
    }


def test_history_has_an_entry_for_each_layer_and_names_packages(settings: Settings) -> None:
    config = config_of(an_image(settings))
    entries = [entry for entry in config["history"] if not entry.get("empty_layer")]
    assert len(entries) == len(config["rootfs"]["diff_ids"])
    said = " ".join(entry["created_by"] for entry in entries[2:])
    assert "one 1.0" in said
    assert "environment" in said
    assert config["created"] == entries[-1]["created"] == "2023-11-14T22:13:20Z"


@pytest.mark.parametrize("history", [None, [], [{"created_by": "one"}], [{}, {}, {}]])
def test_a_base_s_history_that_does_not_add_up_is_replaced(settings: Settings, history: Any) -> None:
    config = config_of(an_image(settings, base=a_base(settings.cache_dir / "base", history=history)))
    entries = [entry for entry in config["history"] if not entry.get("empty_layer")]
    assert len(entries) == len(config["rootfs"]["diff_ids"])
    assert "docker.io/a/b@sha256:" in entries[0]["created_by"]


def test_an_image_is_for_the_platform_of_its_base(settings: Settings) -> None:
    base = replace(
        a_base(settings.cache_dir / "base", architecture="arm64", variant="v8"), platform="linux-aarch64"
    )
    package = replace(a_package("one"), platform="linux-aarch64")
    layers = build_layers([a_fragment("one", settings)], a_fragment("own", settings), settings, SILENT)
    config = image_config(a_lock(package), Parts(base, layers, Activation("paper"), CREATED))
    assert (config["os"], config["architecture"], config["variant"]) == ("linux", "arm64", "v8")


def test_one_package_changed_leaves_the_other_layers_alone(settings: Settings) -> None:
    own = a_fragment("environment", settings)
    base = a_base(settings.cache_dir / "base")

    def image(data: bytes) -> Image:
        fragments = [a_fragment("one", settings, data), a_fragment("two", settings)]
        layers = build_layers(fragments, own, settings, SILENT)
        return assemble(a_lock(), Parts(base, layers, Activation("paper"), CREATED))

    changed = set(image(b"old").diff_ids) ^ set(image(b"new").diff_ids)
    assert len(changed) == 2
