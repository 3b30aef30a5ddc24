"""An image in a file or folder: whole or not there, the same bytes each time, and right to its last blob."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.publishing import PLATFORMS, Press, check_image

from envbox.engine.find import connect
from envbox.errors import EnvboxError, ImageError, ToolError
from envbox.images.output import write_output
from envbox.images.publication import build_platforms
from envbox.images.push import push
from envbox.mirrors import Mirrors
from envbox.platforms import container_platform, host_platform
from envbox.report import SILENT

if TYPE_CHECKING:
    from conftest import Rig


def unpacked(path: Path) -> dict[str, bytes]:
    """The files of a layout, in a tar or a folder."""
    if path.is_dir():
        return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        assert len({member.name for member in members}) == len(members)
        assert all((member.uid, member.mtime) == (0, 0) for member in members)
        made = {""}  # a reader may make no folder that has no entry of its own
        for member in members:
            assert member.name.rpartition("/")[0] in made
            assert member.isdir() or member.isfile()
            made |= {member.name} if member.isdir() else set()
        return {m.name: archive.extractfile(m).read() for m in members if m.isfile()}  # type: ignore[union-attr]


def check_layout(files: dict[str, bytes]) -> list[dict[str, Any]]:
    """Hash and unpack all of it; the configs of its images are returned."""
    blobs = {
        "sha256:" + name.rpartition("/")[2]: data for name, data in files.items() if name.startswith("blobs/")
    }
    for digest, data in blobs.items():
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == digest
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(files["index.json"])["manifests"]
    top = json.loads(blobs[entry["digest"]])
    entries = top.get("manifests", [entry])
    used = {entry["digest"]} | {e["digest"] for e in entries}
    configs = []
    for each in entries:
        assert each["size"] == len(blobs[each["digest"]])
        manifest = json.loads(blobs[each["digest"]])
        used |= {d["digest"] for d in (manifest["config"], *manifest["layers"])}
        config = check_image(blobs[each["digest"]], blobs)
        assert config["architecture"] == each["platform"]["architecture"]
        configs.append(config)
    assert used == blobs.keys()
    for number, docker in enumerate(json.loads(files["manifest.json"])):
        assert json.loads(files[docker["Config"]]) == configs[number]
        assert len(docker["Layers"]) == len(configs[number]["rootfs"]["diff_ids"])
        assert all(layer in files for layer in docker["Layers"])
    return configs


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("platforms", [(), ("linux-aarch64",)])
@pytest.mark.parametrize("name", ["paper.oci.tar", "layout"])
def test_all_of_it_is_there_and_right(
    press: Press, name: str, platforms: tuple[str, ...], compat: bool
) -> None:
    path = press.folder / name
    made = write_output(press.wanted(*platforms, compat=compat), path, press.settings, SILENT)
    configs = check_layout(unpacked(path))
    assert len(configs) == len(platforms or PLATFORMS)
    (entry,) = json.loads(unpacked(path)["index.json"])["manifests"]
    assert entry["digest"] == made.digest
    assert not list(press.folder.glob(".*.part"))


def test_it_has_the_digest_that_a_registry_gives_it(press: Press) -> None:
    made = write_output(press.wanted(), press.folder / "layout", press.settings, SILENT)
    assert push(press.wanted(), press.reference(), press.settings, SILENT).publication == made


def test_it_is_the_same_bytes_from_another_cache(press: Press) -> None:
    first, second = press.folder / "first.oci.tar", press.folder / "second.oci.tar"
    write_output(press.wanted(), first, press.settings, SILENT)
    elsewhere = replace(press.settings, cache_dir=press.folder / "elsewhere", jobs=3)
    time.sleep(1.1)  # so that a time of day would show
    write_output(press.wanted(), second, elsewhere, SILENT)
    assert first.read_bytes() == second.read_bytes()


def test_a_folder_holds_what_the_file_holds(press: Press) -> None:
    for name in ("paper.tar", "layout"):
        write_output(press.wanted(), press.folder / name, press.settings, SILENT)
    assert unpacked(press.folder / "paper.tar") == unpacked(press.folder / "layout")


def test_no_engine_is_asked(press: Press, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    environments = press.folder / "environments"
    environments.mkdir()
    shutil.copy(press.environment.lock_path, environments)
    done = envbox(press, "build", "paper", "--frozen", "--output", "paper.oci.tar")
    (entry,) = json.loads(unpacked(press.folder / "paper.oci.tar")["index.json"])["manifests"]
    assert done.stdout.strip() == entry["digest"]


def envbox(press: Press, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command, in the press's folder."""
    rules = " ".join(f"{here}={there}" for here, there in press.settings.mirrors.rules.items())
    done = subprocess.run(
        [sys.executable, "-m", "envbox", *arguments],
        cwd=press.folder,
        env=os.environ
        | {
            "ENVBOX_MIRRORS": rules,
            "ENVBOX_BASE": press.settings.base,
            "ENVBOX_CACHE_DIR": str(press.settings.cache_dir),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_without_a_platform_it_is_this_machine_s(monkeypatch: pytest.MonkeyPatch) -> None:
    assert container_platform() in ("linux-64", "linux-aarch64")
    monkeypatch.setattr("envbox.platforms.host_platform", lambda: "osx-arm64")
    assert container_platform() == "linux-aarch64"
    assert host_platform() != "osx-arm64"


# --- where it may be written


def test_what_was_there_is_replaced_if_it_was_ours(press: Press) -> None:
    path = press.folder / "layout"
    for content in (b"one", b"another"):
        press.lock(content)
        made = write_output(press.wanted(), path, press.settings, SILENT)
    (entry,) = json.loads(unpacked(path)["index.json"])["manifests"]
    assert entry["digest"] == made.digest
    check_layout(unpacked(path))  # and no blob of the first one is left


def test_what_is_not_ours_stays(press: Press) -> None:
    path = press.folder / "layout"
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")
    with pytest.raises(ImageError, match="there is something else there"):
        write_output(press.wanted(), path, press.settings, SILENT)
    assert (path / "thesis.tex").read_text() == "years of work"
    assert not (press.settings.cache_dir / "fragments").exists()  # and it is said before anything is made


@pytest.mark.parametrize(
    ("name", "words"),
    [("a.tar.gz", "compressed already"), ("a/b/c.tar", "there is no folder"), ("full.tar", "is a folder")],
)  # fmt: skip
def test_a_place_that_cannot_be_is_refused(press: Press, name: str, words: str) -> None:
    (press.folder / "full.tar").mkdir()
    with pytest.raises(ImageError, match=words):
        write_output(press.wanted(), press.folder / name, press.settings, SILENT)


def test_an_empty_folder_is_filled(press: Press) -> None:
    (press.folder / "layout").mkdir()
    write_output(press.wanted("linux-64"), press.folder / "layout", press.settings, SILENT)
    check_layout(unpacked(press.folder / "layout"))


@pytest.mark.parametrize("name", ["paper.oci.tar", "layout"])
def test_a_failure_leaves_what_was_there(press: Press, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = press.folder / name
    write_output(press.wanted(), path, press.settings, SILENT)
    before = unpacked(path)
    press.lock(b"something else")

    def damaged(*args: object) -> object:
        yield b"not what it was"

    monkeypatch.setattr("envbox.images.layers._stored_fragment", damaged)
    with pytest.raises(ToolError, match="is not what it was when it was made"):
        write_output(press.wanted(), path, press.settings, SILENT)
    assert unpacked(path) == before
    assert not list(press.folder.glob(".*.part"))


def test_a_damaged_base_in_the_cache_is_named_and_removed(press: Press) -> None:
    path = press.folder / "paper.oci.tar"
    made = write_output(press.wanted("linux-64"), path, press.settings, SILENT)
    blob = made.images[0].parts.layers[0]
    cached = press.settings.cache_dir / "blobs" / "sha256" / blob.digest.removeprefix("sha256:")
    cached.write_bytes(bytes(blob.size))
    path.unlink()
    with pytest.raises(ToolError, match="is damaged"):
        write_output(press.wanted("linux-64"), path, press.settings, SILENT)
    assert not path.exists()
    write_output(press.wanted("linux-64"), path, press.settings, SILENT)
    check_layout(unpacked(path))


@pytest.mark.parametrize("name", ["paper.oci.tar", "layout"])
def test_a_full_disk_leaves_nothing(press: Press, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_output(press.wanted(), press.folder / "first.tar", press.settings, SILENT)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(ToolError, match="no space left"):
        write_output(press.wanted(), press.folder / name, press.settings, SILENT)
    assert not (press.folder / name).exists()
    assert not list(press.folder.glob(".*.part"))


# --- other readers


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
@pytest.mark.parametrize("compat", [False, True])
def test_skopeo_reads_it(press: Press, compat: bool) -> None:
    file, folder = press.folder / "paper.oci.tar", press.folder / "layout"
    made = write_output(press.wanted(compat=compat), file, press.settings, SILENT)
    write_output(press.wanted(compat=compat), folder, press.settings, SILENT)
    for source in (f"oci-archive:{file}", f"oci:{folder}"):
        for image in made.images:
            words = ["skopeo", "--override-arch", image.about["architecture"], "inspect", "--config", "--raw"]
            config = subprocess.run([*words, source], check=True, capture_output=True).stdout
            assert f"sha256:{hashlib.sha256(config).hexdigest()}" == image.id
        target = press.folder / f"copy-{source.partition(':')[0]}"
        copy = ["skopeo", "copy", "--all", "--preserve-digests", source, f"dir:{target}"]
        subprocess.run(copy, check=True, capture_output=True)
        copied = (target / "manifest.json").read_bytes()
        assert f"sha256:{hashlib.sha256(copied).hexdigest()}" == made.digest


@pytest.mark.rig
def test_an_old_engine_loads_the_compatible_file(rig: Rig, press: Press) -> None:
    """`docker load` of Docker 20.10 knows neither zstd nor the OCI layout."""
    path = press.folder / "paper.oci.tar"
    made = write_output(press.wanted(container_platform(), compat=True), path, press.settings, SILENT)
    said = subprocess.run(
        ["docker", "load", "--quiet", "-i", path], check=True, capture_output=True, text=True
    ).stdout
    name = said.split()[-1]
    engine = connect(press.settings)
    try:
        assert name == f"envbox/paper:{made.images[0].id[7:19]}"
        assert engine.has_image(made.images[0].id)
    finally:
        engine.remove_image(name)


@pytest.mark.rig
def test_only_the_engine_s_own_platform_is_loaded(rig: Rig, press: Press) -> None:
    engine = connect(press.settings)
    publication, loaded = build_platforms(press.wanted(), press.settings, engine, press.report)
    try:
        own, foreign = publication.images
        assert loaded is not None
        assert loaded.config_digest == own.id
        assert engine.has_image(own.id)
        assert not engine.has_image(foreign.id)
        again, _ = build_platforms(press.wanted("linux-aarch64"), press.settings, engine, press.report)
        assert again.images == (foreign,)
        assert not engine.has_image(foreign.id)
        assert press.report.said[-1].startswith("nothing to load")
    finally:
        for tag in (loaded.reference, "envbox/paper:latest"):
            engine.remove_image(tag)


@pytest.mark.rig
def test_a_registry_that_is_gone_matters_only_for_what_is_missing(rig: Rig, press: Press) -> None:
    path = press.folder / "paper.oci.tar"
    write_output(press.wanted(), path, press.settings, SILENT)
    rules = {**press.settings.mirrors.rules, "docker.io": "127.0.0.1:9"}
    offline = replace(press.settings, mirrors=Mirrors(rules))
    before = path.read_bytes()
    write_output(press.wanted(), path, offline, SILENT)
    assert path.read_bytes() == before
    with pytest.raises(EnvboxError, match=r"127\.0\.0\.1:9"):
        write_output(press.wanted(), path, replace(offline, cache_dir=press.folder / "new"), SILENT)
