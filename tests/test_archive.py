"""The archive is whole by its own digests, and leaves out just what the engine has."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Collection
from pathlib import Path
from uuid import uuid4

import pytest
from support.images import REFERENCE, a_base, an_image

from envbox.engine import EngineContents, MissingLayerError
from envbox.engine.find import connect
from envbox.images.archive import ImageArchive, load_manifest
from envbox.images.assemble import Image
from envbox.oci import Descriptor, Digest, chain_ids, digest_of
from envbox.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache")


def parcel(image: Image, chain_ids: Collection[str] = ()) -> ImageArchive:
    """The image on its way to an engine that has layers of these chain IDs."""
    return ImageArchive(image, REFERENCE, EngineContents(chain_ids=frozenset(chain_ids)))


def contents(image: Image, present: Collection[str] = ()) -> dict[str, bytes]:
    """The archive's members, read by somebody else's code."""
    data = b"".join(parcel(image, present).stream())
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = tar.getmembers()
        assert len({member.name for member in members}) == len(members)
        assert {(m.uid, m.gid, m.mtime, m.uname) for m in members} == {(0, 0, 0, "")}
        return {member.name: tar.extractfile(member).read() for member in members}  # type: ignore[union-attr]


def test_every_blob_has_the_digest_it_is_named_by(settings: Settings) -> None:
    for name, data in contents(an_image(settings)).items():
        if name.startswith("blobs/sha256/"):
            assert name.removeprefix("blobs/sha256/") == hashlib.sha256(data).hexdigest()


def test_docker_s_manifest_names_what_is_there(settings: Settings) -> None:
    image = an_image(settings)
    found = contents(image)
    (entry,) = json.loads(found["manifest.json"])
    assert entry["RepoTags"] == [REFERENCE]
    assert found[entry["Config"]] == image.config
    diff_ids = json.loads(image.config)["rootfs"]["diff_ids"]
    assert [digest_of(_unpacked(found[layer])) for layer in entry["Layers"]] == diff_ids


def _unpacked(data: bytes) -> bytes:
    import gzip

    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def test_the_oci_layout_lists_the_very_blobs_that_are_there(settings: Settings) -> None:
    image = an_image(settings)
    found = contents(image)
    assert json.loads(found["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(found["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == f"docker.io/{REFERENCE}"
    assert entry["platform"] == {"os": "linux", "architecture": "amd64"}
    manifest = json.loads(found[f"blobs/{entry['digest'].replace(':', '/')}"])
    assert entry["digest"] == digest_of(load_manifest(image))
    for blob in (manifest["config"], *manifest["layers"]):
        assert len(found[f"blobs/{blob['digest'].replace(':', '/')}"]) == blob["size"]
    assert [blob["mediaType"].rpartition("tar")[2] for blob in manifest["layers"]] == ["+gzip"] * 2 + [""] * 3


def test_layers_that_the_engine_has_are_left_out(settings: Settings) -> None:
    image = an_image(settings)
    chain = chain_ids(image.diff_ids)
    everything, without = contents(image), contents(image, chain[:3])
    assert len(everything) - len(without) == 3
    assert parcel(image, chain[:3]).layers == image.layers[3:]
    assert parcel(image, chain).layers == ()
    (entry,) = json.loads(without["manifest.json"])
    assert len(entry["Layers"]) == 5
    assert without["index.json"] == everything["index.json"]
    left_out = sum(len(data) for name, data in everything.items() if name not in without)
    assert parcel(image).size - parcel(image, chain[:3]).size == left_out


def test_a_layer_on_another_layer_is_another_layer(settings: Settings) -> None:
    image = an_image(settings)
    own_diff_ids = {Digest(d) for d in image.diff_ids[2:]}
    assert parcel(image, own_diff_ids).layers == image.layers


def test_a_layer_that_comes_twice_is_sent_once(settings: Settings) -> None:
    base = a_base(settings.cache_dir / "base")
    twice = Image(*_with_layers(an_image(settings, base=base), (base.layers[0], *base.layers)))
    found = contents(twice)
    (entry,) = json.loads(found["manifest.json"])
    assert entry["Layers"][0] == entry["Layers"][1]


def _with_layers(image: Image, layers: tuple[object, ...]) -> tuple[bytes, bytes, tuple[object, ...]]:
    config = json.loads(image.config)
    config["rootfs"]["diff_ids"] = [layer.diff_id for layer in layers]  # type: ignore[attr-defined]
    return json.dumps(config).encode(), image.manifest, layers


def test_pieces_are_small(settings: Settings) -> None:
    assert max(map(len, parcel(an_image(settings)).stream())) <= 2**20


def test_the_archive_is_the_same_from_any_cache(tmp_path: Path) -> None:
    archives = [b"".join(parcel(an_image(Settings(cache_dir=tmp_path / name))).stream()) for name in "ab"]
    assert archives[0] == archives[1]


@pytest.mark.rig
def test_an_engine_loads_it_whole_and_then_in_part(settings: Settings) -> None:
    engine = connect(settings)
    names = [f"envbox/paper-{uuid4().hex[:12]}:{n}" for n in (1, 2)]
    base = a_base(settings.cache_dir / "base", {"Labels": {"unique": names[0]}})
    small, large = an_image(settings, "one", base=base), an_image(settings, "one", uuid4().hex, base=base)
    try:
        with pytest.raises(MissingLayerError):
            engine.load(parcel(large, chain_ids(large.diff_ids)).stream())
        engine.load(ImageArchive(small, names[0]).stream())
        assert _known(small, names[0], settings)
        rest = ImageArchive(large, names[1], engine.present())
        assert len(rest.layers) < len(large.layers)
        engine.load(rest.stream())
        assert _known(large, names[1], settings)
    finally:
        for name in names:
            engine.remove_image(name)


def _known(image: Image, name: str, settings: Settings) -> bool:
    from envbox.images.load import known_id

    engine = connect(settings)
    return engine.has_image(name) and known_id(image, engine) is not None


def test_the_base_s_blobs_are_described_as_the_registry_does(settings: Settings) -> None:
    image = an_image(settings)
    first = json.loads(load_manifest(image))["layers"][0]
    assert Descriptor(first["mediaType"], first["digest"], first["size"]) == image.layers[0].blob
