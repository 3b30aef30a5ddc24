"""The cache can be looked at and freed, and only the cache."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from envbox.cache.contents import free, holdings
from envbox.errors import SettingsError, ToolError


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    for name, size in {"packages/a/x.conda": 50_000, "fragments/k": 20_000, "servers/s/token": 48}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x" * size)
    return tmp_path


def test_what_is_there_is_listed_by_size(cache: Path) -> None:
    assert [(h.kind, h.files) for h in holdings(cache)] == [("packages", 1), ("fragments", 1)]


def test_what_is_named_is_removed_and_nothing_else(cache: Path) -> None:
    assert free(cache, ("packages",)) >= 50_000
    assert [h.kind for h in holdings(cache)] == ["fragments"]
    assert (cache / "servers/s/token").exists()
    assert sorted(p.name for p in cache.iterdir()) == ["fragments", "servers"]


def test_what_the_cache_does_not_hold_is_refused(cache: Path) -> None:
    with pytest.raises(SettingsError, match="no servers"):
        free(cache, ("servers",))
    with pytest.raises(SettingsError, match=r"\.\./x"):
        free(cache, ("../x",))
    assert free(cache, ("blobs",)) == 0


def test_a_cache_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert holdings(tmp_path / "none") == ()


def left_by_a_killed_run(path: Path, age: float) -> Path:
    """A folder that was written aside, with a file in it that was, too."""
    path.mkdir(parents=True)
    (path / ".x.part").write_bytes(b"x" * 30_000)
    for each in (path / ".x.part", path):
        os.utime(each, (time.time() - age,) * 2)
    return path


def test_what_killed_runs_left_is_listed_and_freed_and_nothing_younger(cache: Path) -> None:
    old = [
        left_by_a_killed_run(cache / name, 25 * 3600)
        for name in (".blobs.1.part", "compilers/.k.2.part", "packages/a/.y.part")
    ]
    young = left_by_a_killed_run(cache / "compilers/.k.3.part", 3600)
    held = {h.kind: (h.files, h.size) for h in holdings(cache)}
    assert set(held) == {"packages", "fragments", "compilers", "leftovers"}
    assert held["leftovers"][0] == len(old)
    assert held["packages"][0] == held["compilers"][0] == 1
    assert free(cache, ("leftovers",)) == held["leftovers"][1] >= 90_000
    assert young.is_dir()
    assert [path for path in old if path.exists()] == []
    assert sorted(p.name for p in cache.iterdir()) == ["compilers", "fragments", "packages", "servers"]
    assert free(cache, ("leftovers",)) == 0


def test_a_folder_that_one_may_not_enter_is_said(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (cache / "packages").chmod(0)
    user = os.geteuid()
    cache.chmod(0o755)
    monkeypatch.chdir(cache)
    try:
        if user == 0:  # who may enter everything
            os.seteuid(65534)
        with pytest.raises(ToolError, match="packages: Permission denied"):
            holdings(Path())
    finally:
        os.seteuid(user)
        (cache / "packages").chmod(0o755)
