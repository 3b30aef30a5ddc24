from __future__ import annotations

import errno
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import pytest
from support.oracle import compare_with_rattler, lock_of_channel
from support.packages import File, Package, Wheel, lock_of
from support.tiny import own_compiler

from envbox.errors import PackageError, ToolError
from envbox.lockfile import LockedPackage
from envbox.packages.fetch import fetch_archives
from envbox.packages.link import fragments, packages
from envbox.packages.link.fragments import FileEntry, Fragment, LinkEntry, files_fragment, link_packages
from envbox.packages.link.frames import decompress
from envbox.packages.link.tar import TarReader
from envbox.platforms import host_platform
from envbox.report import SILENT
from envbox.settings import Settings

HOST = host_platform()
SITE = "opt/envbox/lib/python3.11/site-packages"


class Place:
    """A folder with packages, and a cache to link them into."""

    def __init__(self, folder: Path, jobs: int = 1) -> None:
        self.folder = folder
        self.settings = Settings(folder / "cache", jobs=jobs)
        self.archives: dict[str, Path] = {}
        self.locked: list[LockedPackage] = []

    def add(self, package: Package | Wheel, **changes: object) -> LockedPackage:
        path = package.write(self.folder / "channel")
        locked = replace(package.locked(path, HOST), **changes)  # type: ignore[arg-type]
        self.archives[locked.sha256] = path
        self.locked.append(locked)
        return locked

    def link(self, **changes: object) -> dict[str, Fragment]:
        settings = replace(self.settings, **changes)  # type: ignore[arg-type]
        found = link_packages(lock_of(*self.locked), HOST, self.archives, settings, SILENT)
        return {fragment.name: fragment for fragment in found}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def python(place: Place, monkeypatch: pytest.MonkeyPatch) -> LockedPackage:
    """A package named python of this interpreter's version; this interpreter compiles for it."""
    version = ".".join(map(str, sys.version_info[:3]))
    monkeypatch.setattr(packages, "obtain_compiler", lambda *_: own_compiler())
    path = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    index = {"python_site_packages_path": path}
    return place.add(Package("python", version, index=index, files=[("bin/python", File(b"x", mode=0o755))]))


@pytest.mark.parametrize("path", ["../../../../tmp", "/tmp", "lib/../../../tmp", "lib//x"])
def test_a_python_whose_modules_belong_elsewhere_is_refused(place: Place, path: str) -> None:
    index = {"python_site_packages_path": path}
    place.add(Package("python", "3.11.9", index=index, files=[("bin/python", File(b"x", mode=0o755))]))
    with pytest.raises(PackageError, match=r"python-3\.11\.9-h0_0\.conda has a path that leads out"):
        place.link()


@pytest.mark.parametrize("build", ["x/../../../../tmp/new", "../x", "x/y"])
def test_a_build_that_is_a_path_leads_nowhere(place: Place, build: str) -> None:
    """It is part of the name of the package's record."""
    package = Package("one", files=[("a", File(b"x"))], index={"build": build})
    place.add(package, build=build)
    with pytest.raises(PackageError, match=r"one-1\.0-h0_0\.conda (says it is|has a path that leads out)"):
        place.link()


def contents(fragment: Fragment) -> dict[str, bytes]:
    with fragment.path.open("rb") as file:
        raw = io.BytesIO(b"".join(decompress(file)))
    assert len(raw.getvalue()) == fragment.raw_size
    reader = TarReader(raw)
    return {member.name: bytes(reader.read()) for member in reader}


def entries_of(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_fragment_holds_one_package_and_says_what_is_in_it(place: Place) -> None:
    place.add(Package("a", files=[("bin/a", File(b"1"))]))
    fragment = place.link()["a"]
    assert tuple(sorted(contents(fragment))) == fragment.paths
    assert fragment.paths == ("opt/envbox/bin/a", "opt/envbox/conda-meta/a-1.0-h0_0.json")
    assert fragment.directories == ("opt", "opt/envbox", "opt/envbox/bin", "opt/envbox/conda-meta")
    assert fragment.timestamp == 1_700_000_000


def test_a_second_time_nothing_is_linked(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.add(Package("a", files=[("bin/a", File(b"1"))]))
    before = place.link()
    monkeypatch.setattr(fragments, "_make", None)
    assert place.link() == before


@pytest.mark.parametrize("jobs", [1, 2])
def test_fragments_are_the_same_bytes_with_any_number_of_processes(tmp_path: Path, jobs: int) -> None:
    places = [Place(tmp_path / "a"), Place(tmp_path / "b", jobs)]
    for there in places:
        for n in range(6):
            there.add(Package(f"p{n}", files=[(f"lib/{n}", File(b"%d" % n * 100_000))]))
    one, other = (there.link() for there in places)
    assert [(f.key, f.sha256) for f in one.values()] == [(f.key, f.sha256) for f in other.values()]


def test_noarch_python_is_compiled_and_its_key_follows_the_python(
    place: Place, python: LockedPackage
) -> None:
    place.add(Package("mod", noarch="python", files=[("site-packages/mod.py", File(b"x = 1\n"))]))
    before = place.link()
    tag = f"cpython-{sys.version_info[0]}{sys.version_info[1]}"
    assert any(path.endswith(f"__pycache__/mod.{tag}.pyc") for path in before["mod"].paths)


def test_a_package_that_has_nothing_to_do_with_python_stays_when_python_changes(
    place: Place, python: LockedPackage
) -> None:
    place.add(Package("zlib", files=[("lib/z", File(b"1"))]))
    place.add(Package("mod", noarch="python", files=[("site-packages/mod.py", File(b"x = 1\n"))]))
    before = place.link()
    place.locked.remove(python)
    place.add(Package("python", "3.99.0", files=[("bin/python", File(b"y", mode=0o755))]))
    after = place.link()
    assert before["zlib"] == after["zlib"]
    assert before["mod"].key != after["mod"].key


def test_what_is_left_out_is_part_of_the_key_and_nothing_left_out_changes_none(place: Place) -> None:
    place.add(Package("a", files=[("lib/a.a", File(b"1")), ("lib/a.so", File(b"2"))]))
    before = place.link()["a"]
    lock = replace(lock_of(*place.locked), slim=("static",))
    (slim,) = link_packages(lock, HOST, place.archives, place.settings, SILENT)
    assert slim.key != before.key
    assert set(before.paths) - set(slim.paths) == {"opt/envbox/lib/a.a"}
    assert place.link()["a"] == before


def test_what_the_record_takes_from_the_lock_is_part_of_the_key(place: Place) -> None:
    locked = place.add(Package("a", files=[("a", File(b"1"))]))
    keys = {place.link()["a"].key}
    for changes in ({"url": "https://other/linux-64/a.conda"}, {"depends": {"x": ">1"}}, {"md5": "0" * 32}):
        place.locked = [replace(locked, **changes)]  # type: ignore[arg-type]
        keys.add(place.link()["a"].key)
    assert len(keys) == 4


def test_of_two_packages_with_one_path_the_dependent_has_it(place: Place) -> None:
    place.add(Package("a", depends=["b"], files=[("x", File(b"a")), ("y", File(b"a"))]))
    place.add(Package("b", files=[("x", File(b"b")), ("z", File(b"b"))]))
    found = place.link()
    everything = [path for fragment in found.values() for path in fragment.paths]
    assert len(everything) == len(set(everything))
    assert contents(found["a"])["opt/envbox/x"] == b"a"
    assert "opt/envbox/x" not in found["b"].paths
    assert json.loads(contents(found["b"])["opt/envbox/conda-meta/b-1.0-h0_0.json"])["files"] == ["z"]
    assert place.link() == found


def test_a_wheel_and_a_conda_package_of_one_name_live_side_by_side(
    place: Place, python: LockedPackage
) -> None:
    place.add(Package("demo", noarch="python", files=[("site-packages/demo/a.py", File(b"conda = 1\n"))]))
    place.add(Wheel("demo", files={"demo/a.py": (b"wheel = 1\n", False)}))
    found = place.link()
    (path,) = (p for p in found["pip:demo"].paths if p.endswith("demo/a.py"))
    assert contents(found["pip:demo"])[path] == b"wheel = 1\n"
    assert path not in found["demo"].paths
    everything = [path for fragment in found.values() for path in fragment.paths]
    assert len(everything) == len(set(everything))


@pytest.mark.parametrize("damage", ["frame cut", "frame gone", "json cut", "json gone"])
def test_a_damaged_fragment_is_made_again(place: Place, damage: str) -> None:
    place.add(Package("a", files=[("a", File(b"1" * 1000))]))
    before = place.link()["a"]
    what, how = damage.split()
    path = before.path if what == "frame" else before.path.with_name(f"{before.key}.json")
    if how == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    else:
        path.unlink()
    assert place.link()["a"] == before
    assert contents(before)["opt/envbox/a"] == b"1" * 1000


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_refused_archive_leaves_nothing(tmp_path: Path, jobs: int) -> None:
    place = Place(tmp_path, jobs)
    place.add(
        Package("bad", files=[("a", File(b"1" * 3_000_000)), ("b", File(b"1", listed={"sha256": "0" * 64}))])
    )
    place.add(Package("worse", files=[("../a", File(b"1"))]))
    with pytest.raises(PackageError, match=r"^(bad|worse)-1\.0"):
        place.link()
    assert entries_of(place.settings.cache_dir / "fragments") == set()


def test_a_full_disk_is_said_and_leaves_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.add(Package("a", files=[("a", File(b"1"))]))
    real = os.fsync

    def full(handle: int | IO[bytes]) -> None:
        real(handle)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ToolError, match="no space left"):
        place.link()
    assert entries_of(place.settings.cache_dir / "fragments") == set()


def test_many_processes_may_link_the_same_at_once(place: Place) -> None:
    for n in range(8):
        place.add(Package(f"p{n}", files=[(f"lib/{n}", File(b"%d" % n * 200_000))]))
    script = (
        f"import sys; sys.path[:] = {[str(Path(__file__).parent), *sys.path]!r}\n"
        "import pickle\n"
        "from envbox.packages.link.fragments import link_packages\n"
        "from envbox.report import SILENT\n"
        "link_packages(*pickle.load(sys.stdin.buffer), SILENT)\n"
    )
    task = pickle.dumps((lock_of(*place.locked), HOST, place.archives, place.settings))
    others = [
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    for other in others:
        assert other.stdin
        other.stdin.write(task)
        other.stdin.close()
    for other in others:
        assert other.stderr
        assert (other.wait(60), other.stderr.read()) == (0, b"")
    for name, fragment in place.link().items():
        assert f"opt/envbox/lib/{name[1:]}" in contents(fragment)
    assert not [name for name in entries_of(place.settings.cache_dir / "fragments") if name.endswith(".part")]


# --- generated files


def test_generated_files_become_a_fragment(place: Place) -> None:
    files = {
        "opt/envbox/bin/run": FileEntry(b"#!/bin/sh\n", 0o755),
        "opt/envbox/link": LinkEntry("bin/run"),
        "home/user/": FileEntry(mode=0o1777),
        "home/user/.hidden": FileEntry(b"x"),
    }
    fragment = files_fragment("environment", files, place.settings)
    with fragment.path.open("rb") as file:
        archive = tarfile.open(fileobj=io.BytesIO(b"".join(decompress(file)) + bytes(1024)))  # noqa: SIM115
    found = {m.name: (m.type, m.mode, m.mtime) for m in archive}
    assert found["home/user"] == (tarfile.DIRTYPE, 0o1777, 0)
    assert found["opt/envbox/bin/run"] == (tarfile.REGTYPE, 0o755, 315532800)
    assert fragment.directories == ("home", "opt", "opt/envbox", "opt/envbox/bin")
    assert files_fragment("environment", dict(reversed(files.items())), place.settings) == fragment


@pytest.mark.parametrize(
    "change",
    [
        {"a": FileEntry(b"2")},
        {"a": FileEntry(b"1", 0o755)},
        {"b": FileEntry(b"1")},
        {"a": LinkEntry("1")},
        {"a/": FileEntry(b"1")},
    ],
)
def test_other_generated_files_have_another_key(
    place: Place, change: dict[str, FileEntry | LinkEntry]
) -> None:
    before = files_fragment("e", {"a": FileEntry(b"1")}, place.settings)
    assert files_fragment("e", change, place.settings).key != before.key


# --- against rattler, on the rig's real packages


@pytest.mark.rig
@pytest.mark.parametrize("platform", ["linux-64", "linux-aarch64"])
def test_every_package_of_the_rig_is_as_rattler_installs_it(rig: Any, tmp_path: Path, platform: str) -> None:
    assert compare_with_rattler(Path(rig.channel_dir), platform, tmp_path) > 1000


@pytest.mark.rig
@pytest.mark.parametrize("platform", ["linux-64", "linux-aarch64"])
def test_real_packages_link_to_the_same_bytes_whatever_the_machine_does(
    rig: Any, tmp_path: Path, platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte-code included, for the foreign architecture too: compiled by this machine's locked Python."""
    lock = lock_of_channel(
        Path(rig.channel_dir), {platform, HOST}, ("python", "numpy", "ipython", "requests")
    )
    found = []
    for number, jobs in enumerate((1, 2)):
        monkeypatch.setenv("PYTHONHASHSEED", str(number))
        monkeypatch.setenv("TZ", ("UTC", "Asia/Tokyo")[number])
        settings = rig.settings(cache_dir=tmp_path / ("longer" * number) / "cache", jobs=jobs)
        archives = fetch_archives(lock.for_platform(platform), settings)
        made = link_packages(lock, platform, archives, settings, SILENT)
        found.append([(f.name, f.key, f.sha256, f.raw_size) for f in made])
        assert sum(path.endswith(".pyc") for f in made for path in f.paths) > 1000
    assert found[0] == found[1]


def test_linking_warm_is_quick(place: Place) -> None:
    for n in range(100):
        place.add(Package(f"p{n}", files=[(f"lib/{n}/{m}", File(b"1")) for m in range(100)]))
    place.link()
    start = time.perf_counter()
    place.link()
    assert time.perf_counter() - start < 1
