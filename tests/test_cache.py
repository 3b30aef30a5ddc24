"""The cache can be looked at and freed, and only the cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from envbox.cache import free, holdings
from envbox.errors import SettingsError


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
