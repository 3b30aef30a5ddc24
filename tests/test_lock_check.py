"""`lock --check` is silent about a fresh lock, names what differs and what mends it, and asks nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.locked_project import BOTH, FORGE, Place, let_every_base_be
from support.paper_channel import record, served, write_channel

from envbox.lockfile.conda_lock_v1 import dumps, read_lockfile, sealed
from envbox.locks.freshness.report import check
from envbox.mirrors import Mirrors
from envbox.settings import EnvironmentSettings, Settings

RECORDS = [
    *(record("python", v, ["__glibc >=2.17"], subdir=p) for v in ("3.11.7", "3.12.1") for p in BOTH),
    *(record("numpy", v, ["python"]) for v in ("1.26.4", "2.3.5")),
    record("fast", "1.0", ["__cuda >=12"], subdir="linux-64"),
]
UNREACHABLE = {
    "DOCKER_HOST": "tcp://127.0.0.1:9",
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9"),
}


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(write_channel(tmp_path_factory.mktemp("channel"), RECORDS)) as url:
        yield url


@pytest.fixture
def place(tmp_path: Path, channel: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    let_every_base_be(monkeypatch)
    root = tmp_path / "project" / "environments"
    root.mkdir(parents=True)
    settings = Settings(cache_dir=tmp_path / "solved", base="b:1", mirrors=Mirrors({FORGE: channel}))
    return Place(root, settings)


def envbox(place: Place, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run it where nothing can be reached, with a cache that has seen nothing."""
    root = place.environment.spec_path.parents[1]
    env = {k: v for k, v in os.environ.items() if not k.startswith("ENVBOX_")} | UNREACHABLE
    env |= {"ENVBOX_CACHE_DIR": str(root / ".cache"), "ENVBOX_CONFIG": os.devnull, "ENVBOX_BASE": "b:1"}
    return subprocess.run(
        [sys.executable, "-m", "envbox", *arguments],
        cwd=root, env={**env, **environ}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def checked(place: Place, *arguments: str) -> tuple[int, str, str]:
    done = envbox(place, "lock", "--check", *arguments)
    return done.returncode, done.stdout, done.stderr


FRESH = (0, "", "")


def test_a_fresh_lock_is_passed_over_in_silence(place: Place) -> None:
    place.spec("  - numpy", "  - python 3.11.*")
    place.lock()
    for arguments in ((), ("maps",), ("--all",), ("environments/maps.conda-lock.yml",)):
        assert checked(place, *arguments) == FRESH
    code, out, err = checked(place, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == [
        {
            "name": "maps", "lockfile": str(place.environment.lock_path), "fresh": True, "differences": [],
            "hint": None,
        }
    ]  # fmt: skip


def test_nothing_heavy_is_imported_for_it(place: Place) -> None:
    place.spec("  - numpy", "  - python 3.11.*")
    place.lock()
    code = (
        "import sys; from envbox.cli import run; code = run(['lock', '--check']); print(*sys.modules);"
        "sys.stdout.flush(); import os; os._exit(code)"
    )
    environ = {"ENVBOX_BASE": "b:1", "ENVBOX_CACHE_DIR": str(place.settings.cache_dir / "other")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place.environment.spec_path.parents[1],
        env={**os.environ, **environ}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = set(done.stdout.split())
    assert "rattler" in loaded
    assert not loaded & {"conda_lock", "docker", "requests", "urllib3", "rich", "ruamel"}


def test_what_differs_is_listed_with_what_mends_it(place: Place) -> None:
    place.spec("  - numpy <2", "  - python 3.11.*")
    before = place.lock()
    place.spec("  - numpy >=2", "  - python 3.11.*", "  - scipy")
    assert checked(place) == (
        1,
        "",
        "maps: linux-64, linux-aarch64: numpy >=2 is asked for, 1.26.4 0 is locked\n"
        "maps: linux-64, linux-aarch64: scipy is not locked\n"
        "hint: envbox lock maps\n",
    )
    assert place.bytes() == dumps(before)
    code, out, _ = checked(place, "--json")
    (told,) = json.loads(out)
    assert (code, told["fresh"], len(told["differences"]), told["hint"]) == (1, False, 2, "envbox lock maps")


def test_a_base_that_is_not_pinned_and_one_that_is_another_are_told(place: Place) -> None:
    place.spec("  - numpy")
    lock = place.lock()
    place.environment.lock_path.write_bytes(dumps(sealed(replace(lock, base=None))))
    assert "maps: no base is pinned\n" in checked(place)[2]
    place.environment.lock_path.write_bytes(dumps(lock))
    said = envbox(place, "lock", "--check", ENVBOX_BASE="other:2").stderr
    assert said.startswith("maps: the base is other:2; locked for docker.io/library/b:1\n")


def test_each_environment_is_checked_whatever_is_wrong_with_the_others(place: Place) -> None:
    place.spec("  - numpy")
    place.lock()
    folder = place.environment.spec_path.parent
    (folder / "bad.yml").write_text("dependencies: {numpy\n")
    (folder / "new.yml").write_text("dependencies: [numpy]\n")
    (folder / "old.explicit.txt").write_text("@EXPLICIT\n")
    code, _, err = checked(place, "--all")
    bad, new, *_ = (line for line in err.splitlines() if line.startswith(("bad: ", "new: ")))
    assert code == 1
    assert "bad.yml is not YAML" in bad or "there is no lockfile" in bad
    assert "there is no lockfile" in new
    assert "maps: " not in err
    assert "old is not checked: it has no spec, only " in err
    assert "hint: envbox lock new\n" in err


def test_a_lockfile_that_has_no_spec_is_refused_by_its_name(place: Place) -> None:
    (place.environment.spec_path.parent / "old.explicit.txt").write_text("@EXPLICIT\n")
    code, out, err = checked(place, "old")
    assert (code, out) == (1, "")
    assert "old has no spec to be checked by, only " in err
    assert "hint: make a spec and a lockfile of it: envbox import old.explicit.txt" in err


@pytest.mark.parametrize(
    ("before", "after", "words", "way_out"),
    [
        (b"version: 1\n", b"", "has no `version`", "restore it, or remove it and lock anew: envbox lock m"),
        (b"name: python", b"name: pyton", "is damaged", "restore it, or remove it"),
        (b"    sha256: ", b"    sha257: ", "has no sha256",
         "keep what it has, and make the spec anew of it: envbox import --force maps.conda-lock.yml"),
        (b"package:\n", b"<<<<<<< a\n=======\n>>>>>>> b\npackage:\n", "merge conflict markers (line ",
         "settle it from the spec, with what both sides have: envbox lock maps"),
    ],
)  # fmt: skip
def test_a_damaged_lockfile_is_named_with_the_way_out(
    place: Place, before: bytes, after: bytes, words: str, way_out: str
) -> None:
    place.spec("  - numpy", "  - python 3.11.*")
    place.lock("linux-64")
    path = place.environment.lock_path
    path.write_bytes(path.read_bytes().replace(before, after))
    code, _, err = checked(place)
    assert code == 1
    assert words in err
    assert f"hint: {way_out}" in err


def test_what_would_change_something_is_no_check(place: Place) -> None:
    for option in ("--update=numpy", "--update-all", "--dry-run", "--platform=linux-64", "--from-image=x"):
        done = envbox(place, "lock", "--check", option)
        assert done.returncode == 2
        assert f"--check changes nothing: it cannot be had with {option.partition('=')[0]}" in done.stderr
    assert envbox(place, "lock", "--all", "maps").returncode == 2


def test_a_cache_that_can_be_none_is_said(place: Place) -> None:
    place.spec("  - numpy")
    place.lock()
    blocked = place.environment.spec_path.parent / "file"
    blocked.touch()
    done = envbox(place, "lock", "--check", ENVBOX_CACHE_DIR=str(blocked / "cache"))
    assert done.returncode == 1
    assert str(blocked / "cache") in done.stderr
    assert "ENVBOX_CACHE_DIR" in done.stderr


def test_what_the_machine_must_offer_may_be_asked_for(place: Place) -> None:
    cuda = replace(place.settings, environments={"maps": EnvironmentSettings(cuda="12.4")})
    place.settings = cuda
    place.spec("  - __cuda >=12", "  - fast", "  - __glibc >=2.17")
    lock = place.lock("linux-64")
    assert [p.name for p in lock.packages] == ["fast"]
    assert read_lockfile(place.environment.lock_path) == lock
    place.settings = replace(cuda, cache_dir=cuda.cache_dir / "other")  # which remembers nothing
    assert check(place.environment, place.settings).differences == ()
    place.spec("  - __cuda >=12.6", "  - fast", "  - __glibc >=2.17", "  - __osx")
    assert check(place.environment, place.settings).differences == (
        "linux-64: __cuda >=12.6 is asked for, 12.4 0 is what is locked for",
        "linux-64: __osx is asked for, and the machines that are locked for have no __osx",
    )
