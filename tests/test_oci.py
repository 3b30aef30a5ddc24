"""The image format's values hold nothing else, and are the same bytes for the same value."""

from __future__ import annotations

import json

import pytest

from envbox.errors import ImageError
from envbox.oci import (
    DOCKER_LAYER_TYPE,
    LAYER_GZIP_TYPE,
    MANIFEST_TYPE,
    Descriptor,
    Digest,
    Manifest,
    canonical_json,
    chain_ids,
    digest_of,
    parse_digest,
    parse_manifest,
)
from envbox.platforms import conda_platform, image_platform


@pytest.mark.parametrize(
    "text", ["", "sha256:", "sha256:" + "A" * 64, "sha512:" + "a" * 64, "a" * 64, "latest"]
)
def test_a_digest_can_hold_nothing_else(text: str) -> None:
    with pytest.raises(ImageError, match="not a sha256 digest"):
        parse_digest(text)


def test_a_platform_and_an_architecture_name_each_other() -> None:
    assert image_platform("linux-aarch64") == ("linux", "arm64")
    assert conda_platform("arm64") == "linux-aarch64"
    assert conda_platform("386") is None
    with pytest.raises(ImageError, match="osx-arm64"):
        image_platform("osx-arm64")


def test_json_is_the_same_bytes_for_the_same_value() -> None:
    assert (
        canonical_json({"b": [1], "a": "ü"})
        == canonical_json({"a": "ü", "b": [1]})
        == '{"a":"ü","b":[1]}'.encode()
    )


def test_a_manifest_survives_writing_and_reading() -> None:
    blob = Descriptor(LAYER_GZIP_TYPE, digest_of(b"x"), 1)
    manifest = Manifest(Descriptor("application/x", digest_of(b"y"), 2), (blob, blob), {"a": "b"})
    data = manifest.dumps()
    assert parse_manifest(data, "it") == manifest
    assert json.loads(data)["mediaType"] == MANIFEST_TYPE


def test_docker_s_media_types_become_oci_s() -> None:
    descriptor = {"mediaType": DOCKER_LAYER_TYPE, "digest": digest_of(b"x"), "size": 1}
    found = parse_manifest(json.dumps({"config": descriptor, "layers": [descriptor]}).encode(), "it")
    assert isinstance(found, Manifest)
    assert found.layers[0].media_type == LAYER_GZIP_TYPE


def test_of_several_variants_the_plain_one_is_taken() -> None:
    def entry(digest: Digest, **about: str) -> dict[str, object]:
        return {"mediaType": MANIFEST_TYPE, "digest": digest, "size": 1, "platform": {"os": "linux", **about}}

    plain, special = digest_of(b"plain"), digest_of(b"special")
    entries = [entry(special, architecture="amd64", variant="v3"), entry(plain, architecture="amd64")]
    for order in (entries, entries[::-1]):
        found = parse_manifest(json.dumps({"manifests": order}).encode(), "it")
        assert isinstance(found, dict)
        assert found["linux-64"].digest == plain


@pytest.mark.parametrize("size", [-1, True, "1", None, 1.5])
def test_a_size_that_is_none_is_refused(size: object) -> None:
    descriptor = {"mediaType": DOCKER_LAYER_TYPE, "digest": digest_of(b"x"), "size": size}
    with pytest.raises(ImageError):
        parse_manifest(json.dumps({"config": descriptor, "layers": []}).encode(), "it")


def test_chain_ids_are_the_specification_s() -> None:
    # umoci and docker give these for two layers; written down once from the specification's formula
    a, b = Digest("sha256:" + "a" * 64), Digest("sha256:" + "b" * 64)
    assert chain_ids([]) == ()
    assert chain_ids([a, b]) == (a, digest_of(f"{a} {b}".encode()))
    assert chain_ids([a, b, a])[:2] == chain_ids([a, b])
