"""What engines of other versions and other stores are sent, what they keep, and what comes after they die."""

from __future__ import annotations

import gzip
import io
import json
import re
import shutil
import tarfile
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import zstandard
from support.engines import SecondEngine, second_engine
from support.images import a_base, a_fragment, a_lock, a_package, an_image, on_layers

from envbox.engine import EngineContents, MissingLayerError
from envbox.engine.docker import DockerEngine
from envbox.errors import EnvboxError, ImageError, ToolError
from envbox.images.archive import ImageArchive, load_manifest
from envbox.images.assemble import Image, Parts, assemble
from envbox.images.build import BuiltImage, build
from envbox.images.layers import Layer, build_layers
from envbox.images.load import Loading, known_id
from envbox.oci import LAYER_ZSTD_TYPE, Descriptor, chain_ids, digest_of
from envbox.packages.activation import Activation
from envbox.project import Environment, read_project
from envbox.registry import parse_reference
from envbox.registry.base import BaseImage, BaseLayer
from envbox.report import SILENT, Task, Unit
from envbox.settings import Settings

if TYPE_CHECKING:
    from conftest import Rig

pytestmark = pytest.mark.rig
KINDS = ("overlay2", "containerd", "podman")
SPEC = "channels: [conda-forge]\ndependencies: [python, six={six}]\n"
SIX = "import six; print(six.__version__)"
GONE = r"broke the connection off|no container engine answers"
FULL_RESEND = "the engine lacks a layer that it seemed to have: sending all of them"


@dataclass
class Heard:
    """A reporter that keeps what it is told, and lets others know when a task begins."""

    said: list[str] = field(default_factory=list)
    at: str = "never"
    do: threading.Event = field(default_factory=threading.Event)

    def say(self, text: str) -> None:
        self.said.append(text)

    detail = warn = say

    def task(
        self, label: str, total: int | None = None, unit: Unit = "items"
    ) -> AbstractContextManager[Task]:
        if label.startswith(self.at):
            self.do.set()
        return SILENT.task(label, total, unit)

    @property
    def layers(self) -> list[tuple[int, str, int]]:
        """Of each load: how many layers were sent, how large they are, how many were not."""
        ahead = r"(?:, [^,)]+ loaded while packages were linked)?"
        pattern = rf"layers: (\d+) new \(([^,)]+) to load{ahead}\), (\d+) reused"
        found = [re.fullmatch(pattern, line) for line in self.said]
        return [(int(f[1]), f[2], int(f[3])) for f in found if f]


@dataclass(frozen=True)
class Shelf:
    """A project with two environments that differ in one small package."""

    old: Environment
    new: Environment
    settings: Settings

    def build(self, second: SecondEngine, environment: Environment) -> tuple[BuiltImage, Heard]:
        """Build one, into an engine."""
        heard = Heard()
        return build(environment, self.settings, second.connect(self.settings), heard), heard

    def afresh(self, folder: Path) -> Shelf:
        """The same with a cache that knows nothing of engines or builds."""
        folder.mkdir()
        for name in ("packages", "fragments", "layers", "blobs", "compilers", "bases", "manifests"):
            if (found := self.settings.cache_dir / name).is_dir():
                shutil.copytree(found, folder / name, copy_function=_linked)
        return replace(self, settings=replace(self.settings, cache_dir=folder))


def _linked(source: str, target: str) -> str:
    Path(target).hardlink_to(source)
    return target


@pytest.fixture(scope="module")
def shelf(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    from envbox.locks.lock import lock

    folder = tmp_path_factory.mktemp("shelf")
    (folder / "environments").mkdir()
    for name, six in (("old", "1.16"), ("new", "1.17")):
        (folder / "environments" / f"{name}.yml").write_text(SPEC.format(six=six))
    project, settings = read_project(folder), rig.settings()
    environments = [project.environment(name) for name in ("old", "new")]
    for environment in environments:
        lock(environment, settings, ["linux-64"], SILENT)
    return Shelf(*environments, settings)


@pytest.fixture(scope="module", params=KINDS)
def second(request: pytest.FixtureRequest) -> Iterator[SecondEngine]:
    with second_engine(request.param, size=4000) as engine:
        yield engine


@pytest.fixture(scope="module")
def loaded(shelf: Shelf, second: SecondEngine) -> tuple[BuiltImage, Heard]:
    """The first environment, in an engine that had nothing."""
    return shelf.build(second, shelf.old)


@pytest.fixture
def paper(tmp_path: Path) -> Image:
    """A tiny image that no engine has seen a layer of."""
    settings = Settings(cache_dir=tmp_path / "paper")
    return an_image(
        settings, "one", uuid4().hex, base=a_base(settings.cache_dir / "base", unique=uuid4().bytes)
    )


def tried(
    engine: DockerEngine, image: Image, settings: Settings, heard: Heard | None = None
) -> tuple[str, Heard]:
    """Load an image into an engine by whatever it says of itself."""
    heard = heard or Heard()
    base = BaseImage("linux-64", parse_reference("a/b:1"), image.id, {}, base_layers(image))
    loading = Loading(settings, engine, heard)
    loading.bring_base(base)
    return loading.load(image, base, f"envbox/paper:{image.id[7:19]}"), heard


def base_layers(image: Image) -> tuple[BaseLayer, ...]:
    return tuple(layer for layer in image.layers if isinstance(layer, BaseLayer))


def everything(image: Image) -> EngineContents:
    """What an engine says that has all of an image."""
    blobs = ImageArchive(image, "envbox/paper:1").blobs
    return EngineContents(frozenset(chain_ids(image.diff_ids)), frozenset(blobs))


def test_it_shares_no_network_with_the_machine(second: SecondEngine) -> None:
    assert Path(f"/proc/{second.pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
    assert Path(f"/proc/{second.pid}/ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink()


# --- what is sent


def test_an_engine_that_has_nothing_is_sent_all_of_it(loaded: tuple[BuiltImage, Heard]) -> None:
    built, heard = loaded
    ((sent, _, reused),) = heard.layers
    assert built.is_new
    assert sent > 4
    assert reused == 0


def test_the_image_runs(second: SecondEngine, loaded: tuple[BuiltImage, Heard]) -> None:
    built, _ = loaded
    assert second.run(built.id, "true") == ""
    assert second.run(built.reference, "python", "-c", SIX) == "1.16.0"


def test_its_id_is_its_config_s_or_where_blobs_are_kept_its_manifest_s(
    second: SecondEngine, loaded: tuple[BuiltImage, Heard]
) -> None:
    built, _ = loaded
    if second.kind != "containerd":
        assert built.id == built.config_digest
        return
    with tarfile.open(fileobj=io.BytesIO(second.save(built.id))) as saved:
        name = "blobs/sha256/" + built.id.removeprefix("sha256:")
        manifest = json.load(saved.extractfile(name))  # type: ignore[arg-type]
    assert manifest["config"]["digest"] == built.config_digest


def test_nothing_changed_and_nothing_is_sent(
    shelf: Shelf, second: SecondEngine, loaded: tuple[BuiltImage, Heard]
) -> None:
    built, heard = shelf.build(second, shelf.old)
    assert built == replace(loaded[0], is_new=False)
    assert heard.said == []


def test_one_package_changed_and_only_that_is_sent(
    shelf: Shelf, second: SecondEngine, loaded: tuple[BuiltImage, Heard]
) -> None:
    first, heard = loaded
    ((total, _, _),) = heard.layers
    built, heard = shelf.build(second, shelf.new)
    ((sent, size, reused),) = heard.layers
    assert sent + reused == total
    assert size.endswith("kB") or int(size.removesuffix(" MB")) < 20
    if second.kind == "containerd":  # in any order, where the others must lie on what they lay on
        assert sent == 2
    assert second.run(built.id, "python", "-c", SIX) == "1.17.0"
    assert second.run(first.id, "python", "-c", SIX) == "1.16.0"


def test_an_image_that_was_removed_is_loaded_again(
    shelf: Shelf, second: SecondEngine, loaded: tuple[BuiltImage, Heard]
) -> None:
    first, _ = loaded
    second.docker("rmi", "--force", first.id)
    built, heard = shelf.build(second, shelf.old)
    assert built == first
    assert len(heard.layers) == 1
    assert second.run(built.id, "python", "-c", SIX) == "1.16.0"


def test_another_s_layers_are_left_out_only_where_they_can_be_seen(
    shelf: Shelf, second: SecondEngine, loaded: tuple[BuiltImage, Heard], tmp_path: Path
) -> None:
    newcomer = shelf.afresh(tmp_path / "cache")
    second.docker("rmi", "--force", shelf.build(second, shelf.new)[0].id)
    built, heard = newcomer.build(second, shelf.new)
    ((sent, _, reused),) = heard.layers
    assert (reused == 0) == (second.kind == "containerd")
    assert sent > 0
    assert second.run(built.id, "python", "-c", SIX) == "1.17.0"


def test_what_one_engine_was_sent_another_was_not(second: SecondEngine, tmp_path: Path, paper: Image) -> None:
    settings = Settings(cache_dir=tmp_path)
    tried(second.connect(settings), paper, settings)
    engine = second.connect(settings)
    blobs = set(ImageArchive(paper, "envbox/paper:1").blobs)
    assert engine.present().blobs == (blobs if second.kind == "containerd" else set())
    other = second.connect(settings)
    other._store.__dict__["_info"] = {**other._store._info, "ID": "another"}
    assert other.present().blobs == set()


def test_what_somebody_else_loaded_whole_may_be_left_out_too(
    second: SecondEngine, tmp_path: Path, paper: Image
) -> None:
    tried(second.connect(Settings(cache_dir=tmp_path / "a")), paper, Settings(cache_dir=tmp_path / "a"))
    settings = Settings(cache_dir=tmp_path / "b")
    engine = second.connect(settings)
    assert Loading(settings, engine, SILENT).find(paper) is not None
    assert ImageArchive(paper, "envbox/paper:1", engine.present()).layers == ()


# --- what is not there after all


def test_what_an_engine_lacks_after_all_is_sent_in_one_go(
    second: SecondEngine, tmp_path: Path, paper: Image
) -> None:
    settings = Settings(cache_dir=tmp_path)
    engine = second.connect(settings)
    engine.present = lambda: everything(paper)  # type: ignore[method-assign]
    found, heard = tried(engine, paper, settings)
    total = len(paper.layers)
    assert [(sent, reused) for sent, _, reused in heard.layers] == [(0, total), (total, 0)]
    assert heard.said[1] == FULL_RESEND
    assert_whole(second, found)


def test_an_image_of_which_a_part_is_missing_is_not_taken_to_be_there(
    second: SecondEngine, tmp_path: Path, paper: Image
) -> None:
    settings = Settings(cache_dir=tmp_path)
    engine = second.connect(settings)
    with pytest.raises(MissingLayerError):
        engine.load(ImageArchive(paper, "envbox/paper:part", everything(paper)).stream())
    assert known_id(paper, engine) is None
    found, _ = tried(engine, paper, settings)
    assert_whole(second, found)


def test_an_engine_that_does_not_complain_of_missing_blobs_is_looked_at(tmp_path: Path, paper: Image) -> None:
    settings = Settings(cache_dir=tmp_path)
    with second_engine("newer") as second:
        engine = second.connect(settings)
        engine.load(ImageArchive(paper, "envbox/paper:part", everything(paper)).stream())
        assert engine.has_image(digest_of(load_manifest(paper)))  # it says
        assert known_id(paper, engine) is None
        engine.present = lambda: everything(paper)  # type: ignore[method-assign]
        found, heard = tried(engine, paper, settings)
        assert FULL_RESEND in heard.said
        assert_whole(second, found)
        assert second.connect(settings).present() == EngineContents(blobs=everything(paper).blobs)


@pytest.mark.parametrize("fault", ["ends", "breaks"])
def test_an_archive_that_is_cut_short_is_refused_and_the_next_is_not(
    second: SecondEngine, tmp_path: Path, paper: Image, fault: str
) -> None:
    settings = Settings(cache_dir=tmp_path)
    engine = second.connect(settings)
    data = b"".join(ImageArchive(paper, "envbox/paper:cut").stream())

    def cut() -> Iterator[bytes]:
        yield data[: len(data) // 2]
        if fault == "breaks":
            raise OSError("Input/output error")

    words = "cannot read what is to be loaded" if fault == "breaks" else "engine"
    with pytest.raises(EnvboxError, match=words):
        engine.load(cut())
    assert known_id(paper, engine) is None
    found, _ = tried(engine, paper, settings)
    assert_whole(second, found)


def assert_whole(second: SecondEngine, image: str) -> None:
    """An image can be made a container of, and given away."""
    second.docker("rm", second.docker("create", "--network", "none", image, "true"))
    with tarfile.open(fileobj=io.BytesIO(second.save(image))) as saved:
        (entry,) = json.load(saved.extractfile("manifest.json"))  # type: ignore[arg-type]
        assert {entry["Config"], *entry["Layers"]} <= set(saved.getnames())


# --- what kinds of layers and images there are


def test_an_image_for_another_architecture_is_loaded(
    second: SecondEngine, tmp_path: Path, paper: Image
) -> None:
    settings = Settings(cache_dir=tmp_path)
    foreign = Image(paper.config.replace(b'"amd64"', b'"arm64"'), paper.manifest, paper.layers)
    engine = second.connect(settings)
    found, heard = tried(engine, foreign, settings)
    assert len(heard.layers) == 1
    assert known_id(foreign, engine) == found


def with_zstd(image: Image) -> Image:
    """The image, on a base whose layers are zstd, of two frames each."""
    layers: list[BaseLayer | Layer] = []
    for layer in image.layers:
        if not isinstance(layer, BaseLayer):
            layers.append(layer)
            continue
        raw = gzip.decompress(layer.path.read_bytes())
        packed = b"".join(zstandard.compress(part) for part in (raw[:700], raw[700:]))
        path = layer.path.with_name(digest_of(packed)[7:])
        path.write_bytes(packed)
        blob = Descriptor(LAYER_ZSTD_TYPE, digest_of(packed), len(packed))
        layers.append(BaseLayer(blob, layer.diff_id, path))
    return Image(image.config, image.manifest, tuple(layers))


def test_a_base_of_zstd_layers_is_loaded_as_it_is(second: SecondEngine, tmp_path: Path, paper: Image) -> None:
    settings = Settings(cache_dir=tmp_path)
    engine = second.connect(settings)
    assert engine.reads_zstd
    found, heard = tried(engine, with_zstd(paper), settings)
    assert len(heard.layers) == 1
    if second.kind != "podman":  # 4.3 runs it, but gives no image away that has zstd layers
        assert_whole(second, found)


def test_an_engine_that_reads_no_zstd_is_sent_none(tmp_path: Path, paper: Image) -> None:
    settings = Settings(cache_dir=tmp_path)
    image = with_zstd(paper)
    with second_engine("old") as second:
        engine = second.connect(settings)
        assert not engine.reads_zstd
        found, heard = tried(engine, image, settings)
        assert found == image.id
        assert len(heard.layers) == 1
        assert_whole(second, found)
        larger = an_image(
            Settings(cache_dir=tmp_path / "paper"), "one", uuid4().hex, base=on_layers(base_layers(image))
        )
        _, heard = tried(engine, larger, settings)
        ((sent, _, reused),) = heard.layers
        assert sent < len(larger.layers)
        assert reused >= 2


# --- what dies


@pytest.fixture
def heavy(tmp_path: Path) -> Image:
    """An image that takes an engine a moment to unpack."""
    settings = Settings(cache_dir=tmp_path / "heavy")
    fragments = [a_fragment(uuid4().hex, settings, b"\0" * (100 << 20))]
    layers = build_layers(fragments, a_fragment("environment", settings), settings, SILENT)
    base = a_base(settings.cache_dir / "base", unique=uuid4().bytes)
    lock = a_lock(*(a_package(fragment.name) for fragment in fragments))
    return assemble(lock, Parts(base, layers, Activation("heavy"), 0))


@pytest.mark.parametrize("kind", ["overlay2", "containerd"])
@pytest.mark.parametrize("phase", ["loading", "unpacking"])
def test_an_engine_that_dies_in_a_load_is_told_and_the_next_call_goes_on(
    heavy: Image, tmp_path: Path, kind: str, phase: str
) -> None:
    settings = Settings(cache_dir=tmp_path)
    with second_engine(kind, purpose="-killed") as second:
        engine, heard = second.connect(settings), Heard(at=phase)

        def kill() -> None:
            heard.do.wait(60)
            second.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        with pytest.raises(ToolError, match=GONE) as caught:
            tried(engine, heavy, settings, heard)
        killer.join()
        assert caught.value.hint
        second.start()
        found, _ = tried(second.connect(settings), heavy, settings)
        assert_whole(second, found)


@pytest.mark.parametrize("kind", ["overlay2", "containerd"])
def test_a_full_disk_of_the_engine_s_is_told_and_once_there_is_room_the_next_call_goes_on(
    heavy: Image, tmp_path: Path, kind: str
) -> None:
    settings = Settings(cache_dir=tmp_path)
    with second_engine(kind, size=90, purpose="-full") as second:
        engine = second.connect(settings)
        with pytest.raises(ImageError, match="no space left") as caught:
            tried(engine, heavy, settings)
        assert caught.value.hint == "docker system prune frees space"
        assert known_id(heavy, engine) is None
        second.resize(1000)
        found, _ = tried(engine, heavy, settings)
        assert_whole(second, found)


# --- what is damaged here


def test_a_damaged_layer_of_the_base_is_told_and_removed(tmp_path: Path, paper: Image) -> None:
    layer = base_layers(paper)[0]
    layer.path.write_bytes(layer.path.read_bytes()[:-1] + b"x")
    with pytest.raises(ToolError, match=f"damaged in the cache.*{layer.blob.digest}"):
        list(ImageArchive(paper, "envbox/paper:1").stream())
    assert not layer.path.exists()
