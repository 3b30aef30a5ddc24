"""Layers go into the engine while others are linked, and nothing of it is left but the image."""

from __future__ import annotations

import io
import json
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from random import Random

import pytest
from support.engines import second_engine
from support.local_project import Workshop, docker
from support.packages import File, Package

from envbox.engine import Engine, MissingLayerError
from envbox.engine.find import connect
from envbox.errors import ImageError, ToolError
from envbox.images import early_load as module
from envbox.images.assemble import Image
from envbox.images.build import image_reference, make_image
from envbox.images.early_load import EarlyLoader
from envbox.images.load import Loading
from envbox.oci import digest_of
from envbox.packages.link.fragments import Fragment
from envbox.registry.base import BaseImage, BaseLayer, pull_base
from envbox.registry.lock_with_base import read_lock_with_base

pytestmark = pytest.mark.rig
NAMES = ("big", "large", "small")


def package(name: str, size: int) -> Package:
    """One that hardly compresses."""
    return Package(name, files=[(f"share/{name}", File(Random(name).randbytes(size)))])


@dataclass
class Bench:
    """An image that was made, and an engine that has nothing of it."""

    workshop: Workshop
    image: Image
    base: BaseImage
    engine: Engine
    before: set[str] = field(default_factory=set)

    @property
    def fragments(self) -> dict[str, Fragment]:
        ours = [layer for layer in self.image.layers if not isinstance(layer, BaseLayer)]
        return {fragment.name: fragment for layer in ours for fragment in layer.fragments}

    @property
    def loading(self) -> Loading:
        return Loading(self.workshop.settings, self.engine, self.workshop.report)

    @property
    def reference(self) -> str:
        return image_reference(self.workshop.environment.name, self.image.id)

    def new_images(self) -> set[str]:
        """IDs of images that the engine did not have."""
        return images() - self.before


def images() -> set[str]:
    return set(docker("images", "--all", "--quiet", "--no-trunc").decode().split())


@pytest.fixture
def bench(loaded: Workshop, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(module, "LEAST", 1 << 20)
    return furnished(loaded, connect(loaded.settings), images())


def furnished(workshop: Workshop, engine: Engine, before: set[str]) -> Bench:
    """An image of three packages, and an engine."""
    workshop.lock(package("big", 5 << 20), package("large", 3 << 20), package("small", 1000))
    data = workshop.environment.lock_path.read_bytes()
    locked = read_lock_with_base(workshop.environment, data, "linux-64", workshop.settings, workshop.report)
    base = pull_base(locked.base, "linux-64", workshop.settings)
    image = make_image(locked, base, workshop.settings, workshop.report)
    workshop.report.tasks.clear()
    return Bench(workshop, image, base, engine, before)


def until(fact: Callable[[], object]) -> None:
    """Wait for it."""
    for _ in range(2000):
        if fact():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


@dataclass
class Working:
    """`Ahead.work` in a thread."""

    ahead: EarlyLoader
    stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Working:
        self.thread = threading.Thread(target=self.ahead.work, args=(self.stop,))
        self.thread.start()
        self.ahead.begin([("big",), ("large",), ("small",)])
        return self

    def __exit__(self, *_: object) -> None:
        self.thread.join(60)


def test_what_was_sent_ahead_is_not_sent_again_and_only_the_image_stays(bench: Bench) -> None:
    loading = bench.loading
    with EarlyLoader(loading, bench.base) as ahead:
        with Working(ahead):
            for count, name in enumerate(NAMES[:2], 1):
                ahead.see(bench.fragments[name])
                until(
                    lambda count=count: bench.workshop.report.tasks.count("sending what is linked") == count
                )  # type: ignore[misc]
            ahead.end()
        parts = set(bench.new_images())
        found = loading.load(bench.image, bench.base, bench.reference, ahead.gate)
    assert found == bench.image.id
    assert bench.new_images() == {bench.image.id} != parts
    words = next(line for line in bench.workshop.report.said if line.startswith("layers: "))
    assert words == "layers: 6 new (21 kB to load, 8 MB loaded while packages were linked), 0 reused"


@pytest.mark.parametrize("kind", ["podman", "podman5", "containerd", "newer"])
def test_other_engines_have_the_same_image_and_nothing_else_either(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Those that keep unpacked layers get them ahead; those that keep blobs, all at once."""
    monkeypatch.setattr(module, "LEAST", 1 << 20)
    with second_engine(kind, size=1000, purpose="-ahead") as second:
        engine = second.connect(workshop.settings)
        bench = furnished(workshop, engine, set())
        loading, report = bench.loading, workshop.report
        is_ahead = kind.startswith("podman")
        with EarlyLoader(loading, bench.base) as ahead:
            with Working(ahead):
                for count, name in enumerate(NAMES[:2], 1):
                    ahead.see(bench.fragments[name])
                    if is_ahead:
                        until(lambda count=count: report.tasks.count("sending what is linked") == count)  # type: ignore[misc]
                ahead.end()
            found = loading.load(bench.image, bench.base, bench.reference, ahead.gate)
        assert any("MB loaded while packages were linked" in line for line in report.said) == is_ahead
        listed = second.docker(
            "images", "--all", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}"
        )
        assert listed.replace("docker.io/", "").splitlines() == [f"{found} {bench.reference}"]
        assert second.docker("ps", "--all", "--quiet") == ""
        with tarfile.open(fileobj=io.BytesIO(second.save(found))) as saved:
            (entry,) = json.load(saved.extractfile("manifest.json"))  # type: ignore[arg-type]
            config = saved.extractfile(entry["Config"])
            assert config is not None
            assert digest_of(config.read()) == bench.image.id


def test_what_the_engine_has_is_not_sent_ahead(bench: Bench) -> None:
    loading = bench.loading
    loading.bring_base(bench.base)
    loading.load(bench.image, bench.base, bench.reference)
    with EarlyLoader(bench.loading, bench.base) as ahead, Working(ahead):
        for name in NAMES:
            ahead.see(bench.fragments[name])
        time.sleep(0.5)
        ahead.end()
    assert "sending what is linked" not in bench.workshop.report.tasks


def test_an_image_that_is_not_made_leaves_nothing_behind(bench: Bench) -> None:
    with EarlyLoader(bench.loading, bench.base) as ahead, Working(ahead) as working:
        ahead.see(bench.fragments["big"])
        until(bench.new_images)
        working.stop.set()
    assert bench.new_images() == set()


def test_a_part_that_the_engine_refused_costs_only_time(bench: Bench) -> None:
    loading, load = bench.loading, bench.engine.load
    refused = []

    def refusing(stream: Iterator[bytes]) -> None:
        if not refused:
            refused.append(next(stream))
            raise ImageError("no")
        load(stream)

    bench.engine.load = refusing  # type: ignore[method-assign]
    with EarlyLoader(loading, bench.base) as ahead:
        with Working(ahead):
            ahead.see(bench.fragments["big"])
            until(lambda: refused)
            ahead.end()
        found = loading.load(bench.image, bench.base, bench.reference, ahead.gate)
    assert found == bench.image.id
    assert bench.new_images() == {bench.image.id}
    assert (
        "the engine lacks a layer that it seemed to have: sending all of them" in bench.workshop.report.said
    )


# --- the order of things


def test_the_last_piece_waits_for_the_part_below() -> None:
    below: Future[None] = Future()
    pieces = module._after([module._Part("sha256:x", below)], threading.Event(), iter([b"a", b"b", b"end"]))  # type: ignore[arg-type]
    assert [next(pieces), next(pieces)] == [b"a", b"b"]
    threading.Timer(0.05, below.set_result, (None,)).start()
    assert next(pieces) == b"end"
    assert below.done()


def test_what_stands_on_a_part_that_failed_is_broken_off() -> None:
    below: Future[None] = Future()
    below.set_exception(ImageError("no space left"))
    pieces = module._after([module._Part("sha256:x", below)], threading.Event(), iter([b"a", b"end"]))  # type: ignore[arg-type]
    with pytest.raises(MissingLayerError, match="no space left"):
        b"".join(pieces)


def test_a_part_is_broken_off_when_it_is_called_off() -> None:
    stop = threading.Event()
    pieces = module._after([], stop, iter([b"a", b"b", b"end"]))
    next(pieces)
    stop.set()
    with pytest.raises(ToolError):
        b"".join(pieces)
