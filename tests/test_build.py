"""Building reads the lockfile, does what is missing, and can be stopped anywhere."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from conftest import Rig
from support.local_project import Workshop, docker
from support.packages import File, Package
from support.paper_registry import BASE

from envbox.cache.contents import free
from envbox.engine import EngineContents
from envbox.engine.find import connect
from envbox.errors import EnvboxError, ImageError, LockfileError, PackageError, ToolError
from envbox.images.build import build, image_reference, make_image, repository
from envbox.lockfile import Base
from envbox.lockfile.conda_lock_v1 import dumps
from envbox.mirrors import Mirrors
from envbox.oci import digest_of
from envbox.packages.link.fragments import Fragment
from envbox.registry.base import pull_base, resolve_base
from envbox.registry.lock_with_base import read_lock_with_base
from envbox.report import SILENT

needs_engine = pytest.mark.rig
ONE = Package("one", files=[("share/one", File(b"one")), ("etc/conda/activate.d/one.sh", File(b"ONE=1"))])
TWO = Package("two", files=[("share/two", File(b"two" * 1000))], depends=["one >=1"])
VARIABLES = Package("vars", files=[("etc/conda/env_vars.d/vars.json", File(b'{"FROM_PACKAGE": "yes"}'))])


# --- from the lock to an image


def test_the_lockfile_alone_decides(workshop: Workshop) -> None:
    workshop.lock(ONE, TWO)
    first = workshop.make()
    workshop.registry.put_image("a/b:1", [BASE])  # the tag moves on; the lock does not
    assert workshop.make() == first
    workshop.lock(ONE)
    assert workshop.make() != first


def test_variables_of_packages_are_in_the_image(workshop: Workshop) -> None:
    workshop.lock(ONE, VARIABLES)
    data = workshop.environment.lock_path.read_bytes()
    locked = read_lock_with_base(workshop.environment, data, "linux-64", workshop.settings, SILENT)
    base = pull_base(locked.base, "linux-64", workshop.settings)
    config = json.loads(make_image(locked, base, workshop.settings, SILENT).config)
    assert "FROM_PACKAGE=yes" in config["config"]["Env"]


def test_a_lock_without_a_base_takes_the_one_that_is_set_and_says_so(workshop: Workshop) -> None:
    workshop.lock(ONE, pinned=False)
    workshop.make()
    assert workshop.report.said == ["the lockfile pins no base: taking a/b:1 as it is now"]


def test_a_missing_lockfile_is_said(workshop: Workshop) -> None:
    with pytest.raises(LockfileError, match="there is no lockfile"):
        build(workshop.environment, workshop.settings, _NoEngine(), SILENT, "linux-64")  # type: ignore[arg-type]


class _NoEngine:
    """Stands where nothing may be asked of an engine."""


def test_a_platform_that_is_not_locked_is_said(workshop: Workshop) -> None:
    workshop.lock(ONE)
    with pytest.raises(LockfileError, match="not locked for linux-aarch64"):
        build(workshop.environment, workshop.settings, _NoEngine(), SILENT, "linux-aarch64")  # type: ignore[arg-type]


def test_a_base_that_is_too_old_is_refused_before_anything_is_fetched(workshop: Workshop) -> None:
    workshop.lock(replace(ONE, depends=["__glibc >=2.99"]))
    with pytest.raises(ImageError, match=r"has glibc 2\.36, but one 1\.0 needs 2\.99"):
        workshop.make()
    assert workshop.report.tasks == []


def test_a_base_that_is_gone_is_said(workshop: Workshop) -> None:
    gone = Base("docker.io/a/b:1", {"linux-64": "sha256:" + "0" * 64}, {"linux-64": "2.36"})
    workshop.lock(ONE, base=gone)
    with pytest.raises(ImageError, match=r"there is no image docker\.io/a/b:1@sha256:0000"):
        workshop.make()


def test_a_package_that_is_not_what_the_lock_says_is_refused(workshop: Workshop) -> None:
    workshop.lock(ONE)
    next((workshop.folder / "channel").rglob("*.conda")).write_bytes(b"something else")
    with pytest.raises(PackageError, match="one"):
        workshop.make()


def test_a_failure_calls_off_the_base_that_is_being_pulled(workshop: Workshop) -> None:
    workshop.lock(ONE)
    next((workshop.folder / "channel").rglob("*.conda")).unlink()
    data = workshop.environment.lock_path.read_bytes()
    locked = read_lock_with_base(workshop.environment, data, "linux-64", workshop.settings, SILENT)
    base = pull_base(locked.base, "linux-64", workshop.settings)
    called_off = []

    class Pulling:
        def work(self, stop: threading.Event) -> None:
            called_off.append(stop.wait(20))

        def begin(self, plan: Sequence[Sequence[str]]) -> None: ...

        def see(self, fragment: Fragment) -> None: ...

        def end(self) -> None: ...

    with pytest.raises(EnvboxError):
        make_image(locked, base, workshop.settings, SILENT, Pulling())
    assert called_off == [True]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("maps", "maps"), ("Maps_2.0", "maps_2.0"), ("a-_b", "a-b"), ("a__b", "a-b"), ("x.", "x"), ("Ünï", "n")],
)
def test_any_name_becomes_a_repository(name: str, expected: str) -> None:
    assert repository(name) == f"envbox/{expected}"
    assert image_reference(name, digest_of(b"x")) == f"envbox/{expected}:{digest_of(b'x')[7:19]}"


# --- in an engine


@needs_engine
def test_the_engine_has_what_the_lock_says(loaded: Workshop) -> None:
    lock = loaded.lock(ONE, TWO)
    built = loaded.build()
    assert built.is_new
    assert built.config_digest == loaded.make()
    assert built.reference == image_reference(loaded.environment.name, digest_of(b"")).replace(
        digest_of(b"")[7:19], built.config_digest[7:19]
    )
    with tarfile.open(fileobj=io.BytesIO(docker("save", built.reference))) as tar:
        files = {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}  # type: ignore[union-attr]
    (entry,) = json.loads(files["manifest.json"])
    config = json.loads(files[entry["Config"]])
    assert digest_of(files[entry["Config"]]) == built.config_digest
    diff_ids = [f"sha256:{hashlib.sha256(files[layer]).hexdigest()}" for layer in entry["Layers"]]
    assert diff_ids == config["rootfs"]["diff_ids"]
    names = set()
    for layer in entry["Layers"]:
        with tarfile.open(fileobj=io.BytesIO(files[layer])) as tar:
            names |= set(tar.getnames())
    assert {
        "etc/motd",
        "opt/envbox/share/one",
        "opt/envbox/share/two",
        "opt/envbox/conda-meta/history",
    } <= names
    assert config["config"]["Labels"]["io.envbox.lock"] == digest_of(dumps(lock))


@needs_engine
def test_a_second_time_nothing_is_done(loaded: Workshop) -> None:
    loaded.lock(ONE, TWO)
    first = loaded.build()
    loaded.registry.log.clear()
    assert loaded.build() == replace(first, is_new=False)
    assert loaded.registry.log == loaded.report.said == loaded.report.tasks == []


@needs_engine
def test_a_second_time_needs_no_heavy_library_and_no_half_second(loaded: Workshop) -> None:
    loaded.lock(ONE, TWO)
    loaded.build()
    start = time.monotonic()
    done = subprocess.run(loaded.command(), capture_output=True, text=True, check=True)
    assert time.monotonic() - start < 2  # far above the 0.3 s it takes, for a loaded machine
    heavy = {"rattler", "conda_lock", "zstandard", "yaml", "envbox.fragments", "envbox.archive"}
    assert not set(done.stdout.split()) & heavy


@needs_engine
def test_one_package_changed_loads_its_layer_and_the_environment_s(loaded: Workshop) -> None:
    loaded.lock(ONE, TWO)
    loaded.build()
    assert loaded.report.said[-1].startswith("layers: 5 new")
    loaded.lock(ONE, replace(TWO, version="2.0"))
    assert loaded.build().is_new
    assert any(line.endswith(", 3 reused") and "layers: 2 new" in line for line in loaded.report.said)
    assert "pulling" not in " ".join(loaded.report.tasks)


@needs_engine
def test_going_back_moves_the_latest_tag(loaded: Workshop) -> None:
    loaded.lock(ONE)
    first = loaded.build()
    loaded.lock(TWO, ONE)
    second = loaded.build()
    loaded.lock(ONE)
    assert loaded.build() == replace(first, is_new=False)
    latest = f"{repository(loaded.environment.name)}:latest"
    assert docker("image", "inspect", "--format", "{{.Id}}", latest).decode().strip() == first.id != second.id


@needs_engine
def test_an_image_that_was_removed_is_built_again_without_the_registry(loaded: Workshop) -> None:
    loaded.lock(ONE)
    first = loaded.build()
    for tag in (first.reference, f"{repository(loaded.environment.name)}:latest"):
        connect(loaded.settings).remove_image(tag)
    offline = replace(
        loaded.settings, mirrors=Mirrors({**loaded.settings.mirrors.rules, "docker.io": "127.0.0.1:9"})
    )
    loaded.settings = offline
    assert loaded.build() == first


@needs_engine
def test_an_engine_that_lacks_more_than_it_said_gets_everything(loaded: Workshop) -> None:
    from envbox.oci import chain_ids

    loaded.lock(ONE)
    base = pull_base(
        resolve_base("a/b:1", ["linux-64"], loaded.settings, SILENT), "linux-64", loaded.settings
    )
    engine = connect(loaded.settings)
    claimed = chain_ids([layer.diff_id for layer in base.layers])
    engine.present = lambda: EngineContents(chain_ids=frozenset(claimed))  # type: ignore[method-assign]
    assert loaded.build(engine).is_new
    assert "the engine lacks a layer that it seemed to have: sending all of them" in loaded.report.said


@needs_engine
def test_an_unpinned_base_is_looked_at_each_time(loaded: Workshop) -> None:
    loaded.lock(ONE, pinned=False)
    first = loaded.build()
    assert not loaded.build().is_new
    loaded.registry.put_image("a/b:1", [BASE, {"etc/motd": b"another"}])
    assert loaded.build().id != first.id


PHASES = ("pulling", "fetching", "linking", "hashing", "loading", "unpacking")


@needs_engine
@pytest.mark.parametrize("phase", PHASES)
def test_an_interrupted_build_is_finished_by_the_next(loaded: Workshop, phase: str) -> None:
    loaded.lock(ONE, TWO)
    loaded.report.interrupt_at = phase
    with pytest.raises(KeyboardInterrupt):
        loaded.build()
    assert phase in " ".join(loaded.report.tasks)
    assert list(loaded.folder.rglob("*.part")) == []
    loaded.report.interrupt_at = None
    built = loaded.build()
    assert built.config_digest == loaded.make()
    assert connect(loaded.settings).has_image(built.id)


@needs_engine
def test_a_build_killed_at_any_moment_is_finished_by_the_next(loaded: Workshop) -> None:
    loaded.lock(ONE, TWO)
    for delay in (0.2, 0.4, 0.6, 0.8):
        process = subprocess.Popen(loaded.command())
        time.sleep(delay)
        process.kill()
        process.wait()
    assert loaded.build().config_digest == loaded.make()
    cache = loaded.settings.cache_dir
    for left in cache.rglob("*.part"):
        os.utime(left, (0, 0))  # a day later
    free(cache, ("leftovers",))
    assert list(cache.rglob("*.part")) == []


@dataclass(frozen=True)
class Compiling:
    """A project whose next build installs a real Python, all else being there.

    :param compilers: the cache's folder of them
    """

    folder: Path
    env: dict[str, str]
    compilers: Path

    def start(self) -> subprocess.Popen[str]:
        """Begin to build, and return once the Python is being installed."""
        argv = [sys.executable, "-m", "envbox", "-v", "build", "tiny"]
        env = {**os.environ, **self.env}
        process = subprocess.Popen(argv, cwd=self.folder, env=env, stderr=subprocess.PIPE, text=True)
        while not list(self.compilers.glob(".*.part")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.005)
        return process

    def parts(self) -> list[Path]:
        return list(self.compilers.parent.rglob("*.part"))


@pytest.fixture(scope="module")
def fetched(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Compiling:
    folder = tmp_path_factory.mktemp("project")
    folder.joinpath("environments").mkdir()
    folder.joinpath("environments/tiny.yml").write_text("dependencies: [python]\n")
    cache = tmp_path_factory.mktemp("cache")
    place = Compiling(folder, {**rig.env, "ENVBOX_CACHE_DIR": str(cache)}, cache / "compilers")
    subprocess.run(
        [sys.executable, "-m", "envbox", "lock", "tiny"],
        cwd=folder,
        env={**os.environ, **place.env},
        check=True,
    )
    process = place.start()
    process.kill()
    process.communicate()
    return place


@pytest.fixture
def compiling(fetched: Compiling) -> Compiling:
    shutil.rmtree(fetched.compilers)
    return fetched


@needs_engine
@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2, 0.4])
def test_ctrl_c_while_the_compiler_is_installed_leaves_nothing(compiling: Compiling, delay: float) -> None:
    process = compiling.start()
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert said.splitlines()[-1:] == ["interrupted"], said
    assert process.returncode == 130
    assert compiling.parts() == []


@needs_engine
def test_a_compiler_s_install_that_was_killed_is_swept_by_the_next(compiling: Compiling) -> None:
    process = compiling.start()
    time.sleep(0.1)
    process.kill()
    process.communicate()
    (left,) = compiling.parts()
    process = compiling.start()
    while left.exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert compiling.parts() == []


def test_a_full_disk_is_said_in_words(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    workshop.lock(ONE)

    def full(*args: Sequence[object], **kwargs: object) -> tuple[int, str]:
        handle = os.open("/dev/full", os.O_WRONLY)
        path = workshop.folder / "never"
        path.touch()
        return handle, str(path)

    monkeypatch.setattr("envbox.files.tempfile.mkstemp", full)
    with pytest.raises(ToolError, match="no space left"):
        workshop.make()
