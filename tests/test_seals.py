"""What is kept of channels' indexes: a bit that flips on the disk never reaches a lock."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Rig
from support.auth_servers import Guarded, guarded
from support.paper_channel import record, write_channel

from envbox.errors import EnvboxError, ToolError
from envbox.lockfile import LockedPackage
from envbox.locks.solve import solve
from envbox.locks.solve.request import SolveRequest
from envbox.locks.solve.seals import LOG, Seals
from envbox.settings import Settings

VIRTUAL = {"__unix": ("0", "0"), "__linux": ("5.10", "0"), "__glibc": ("2.36", "0")}


def answer(settings: Settings, channel: str, spec: str) -> tuple[LockedPackage, ...]:
    found = solve([SolveRequest("linux-64", (spec,), VIRTUAL)], [channel], settings)["linux-64"]
    if isinstance(found, EnvboxError):
        raise found
    return found


def flipped(path: Path, part: bytes) -> None:
    """Change one bit of a part of a file, and nothing that a look at the folder would tell."""
    data, told = bytearray(path.read_bytes()), path.stat()
    data[data.index(part)] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns))


def folder_of(settings: Settings) -> Path:
    return settings.cache_dir / "repodata"


def shard_of(settings: Settings, package: LockedPackage) -> Path:
    shards = (folder_of(settings) / "shards-v1").iterdir()
    return next(path for path in shards if bytes.fromhex(package.sha256) in path.read_bytes())


# --- in shards ---


@pytest.mark.rig
@pytest.mark.parametrize("few", [0, 1000])
def test_a_flipped_bit_in_a_shard_is_fetched_anew(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr("envbox.locks.solve.seals.FEW", few)
    settings = rig.settings()
    before = answer(settings, "conda-forge", "six")
    six = next(p for p in before if p.name == "six")
    for part in (bytes.fromhex(six.sha256), b"depends", b"six"):
        flipped(shard_of(settings, six), part)
        assert answer(settings, "conda-forge", "six") == before


@pytest.mark.rig
def test_offline_a_flipped_bit_in_a_shard_is_told(rig: Rig) -> None:
    settings = rig.settings()
    before = answer(settings, "conda-forge", "six")
    offline = replace(settings, offline=True)
    assert answer(offline, "conda-forge", "six") == before
    six = next(p for p in before if p.name == "six")
    flipped(shard_of(settings, six), bytes.fromhex(six.sha256))
    with pytest.raises(ToolError, match=r"of six is not in the cache.*was damaged, and is removed") as caught:
        answer(offline, "conda-forge", "six")
    assert "without --offline" in str(caught.value.hint)
    assert answer(settings, "conda-forge", "six") == before


@pytest.mark.rig
@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "folder", "fifo", "link"])
def test_an_index_of_shards_that_is_damaged_is_fetched_anew(rig: Rig, how: str) -> None:
    settings = rig.settings()
    before = answer(settings, "conda-forge", "six")
    for index in folder_of(settings).glob("*.shards-cache-v1"):
        damage(index, how)
    assert answer(settings, "conda-forge", "six") == before


@pytest.mark.rig
@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "folder", "fifo", "link"])
def test_the_log_itself_may_be_damaged(rig: Rig, how: str) -> None:
    settings = rig.settings()
    before = answer(settings, "conda-forge", "six")
    damage(folder_of(settings) / LOG, how)
    assert answer(settings, "conda-forge", "six") == before
    assert answer(settings, "conda-forge", "six") == before


def damage(path: Path, how: str) -> None:
    """Make something else of a file."""
    data = path.read_bytes()
    path.unlink()
    if how == "folder":
        path.mkdir()
        (path / "inside").write_bytes(b"")
    elif how == "fifo":
        os.mkfifo(path)
    elif how == "link":
        path.symlink_to(path.parent / "nowhere")
    else:
        middle = len(data) // 2
        changed = {
            "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
            "cut": data[:middle],
            "empty": b"",
        }
        path.write_bytes(changed[how])


# --- whole ---


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("HOME", str(tmp_path))
    return Settings(tmp_path / "cache", timeout=20)


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_flipped_bit_in_a_whole_index_is_fetched_anew(
    tmp_path: Path, settings: Settings, is_kept: bool
) -> None:
    write_channel(tmp_path / "c", [record("a", "1"), record("b", "1", subdir="linux-64")])
    with guarded(tmp_path) as server:
        keep(server, tmp_path, "max-age=3600" if is_kept else "no-cache")
        before = answer(settings, f"{server.url}/c", "a")
        whole = next(
            p for p in folder_of(settings).glob("*.json") if before[0].sha256.encode() in p.read_bytes()
        )
        flipped(whole, before[0].sha256.encode())
        offline = replace(settings, offline=True)
        assert answer(settings, f"{server.url}/c", "a") == before
        flipped(whole, before[0].sha256.encode())
        with pytest.raises(ToolError, match=r"noarch is not in the cache.*was damaged, and is removed"):
            answer(offline, f"{server.url}/c", "a")


def keep(server: Guarded, folder: Path, how: str) -> None:
    """Serve files with a word on how long they hold."""

    def answer(handler: object) -> None:
        path = folder / handler.path[1:]  # type: ignore[attr-defined]
        data = path.read_bytes() if path.is_file() else b""
        handler.send_response(200 if path.is_file() else 404)  # type: ignore[attr-defined]
        for key, value in {"Content-Length": str(len(data)), "Cache-Control": how, "ETag": '"1"'}.items():
            handler.send_header(key, value)  # type: ignore[attr-defined]
        handler.end_headers()  # type: ignore[attr-defined]
        handler.wfile.write(data)  # type: ignore[attr-defined]

    server.instead = lambda _: answer


# --- the log ---


SUBDIR = "https://c.example/noarch/"
SHARD = "shards-v1/" + "ab" * 32 + ".msgpack"


def filled(folder: Path) -> Callable[[], Seals]:
    """A cache of one index of shards, as rattler writes it, and one shard."""
    (folder / "shards-v1").mkdir()
    (folder / SHARD).write_bytes(b"a shard")
    index = next(name for name in Seals(folder, [SUBDIR])._indexes if "shards" in name)
    (folder / index).write_bytes(b"SHARD-CACHE-V1\xa3pkg\xc4\x20" + b"\xab" * 32)
    return lambda: Seals(folder, [SUBDIR])


def test_what_nobody_sealed_is_taken_offline_alone(tmp_path: Path) -> None:
    seals = filled(tmp_path)
    assert not Seals(tmp_path, [SUBDIR], is_offline=True).discard_unsound()
    assert seals().discard_unsound()
    assert not list(tmp_path.glob("*.shards-cache-v1"))


def test_what_was_sealed_stays(tmp_path: Path) -> None:
    seals = Seals(tmp_path, [SUBDIR])
    filled(tmp_path)
    assert seals.seal()
    for _ in range(2):
        again = Seals(tmp_path, [SUBDIR])
        assert not again.discard_unsound()
        assert again.seal()
    assert len((tmp_path / LOG).read_text().split()) == 4


def test_a_shard_that_an_index_names_only_now_is_looked_at_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("envbox.locks.solve.seals.FEW", 0)
    first = Seals(tmp_path, [SUBDIR])
    filled(tmp_path)
    first.seal()
    index = next(tmp_path.glob("*.shards-cache-v1"))
    whole = index.read_bytes()
    index.unlink()
    flipped(tmp_path / SHARD, b"shard")
    second = Seals(tmp_path, [SUBDIR])
    assert not second.discard_unsound()
    index.write_bytes(whole)  # by rattler, which then reads the shard
    assert not second.seal()
    assert not (tmp_path / SHARD).exists()


def test_what_another_process_had_begun_to_write_is_a_line_of_its_own(tmp_path: Path) -> None:
    (tmp_path / LOG).write_bytes(b"abcdef")
    seals = Seals(tmp_path, [SUBDIR])
    filled(tmp_path)
    seals.seal()
    assert not Seals(tmp_path, [SUBDIR]).discard_unsound()
