"""A session that does not wait for byte-code, and the process that makes it behind: whole, once, or said."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest
from support.paper_registry import PaperRegistry, serving
from support.prefix_view import seen
from support.tiny import Tiny, make_tiny

from envbox.packages.fetch import archive_path, fetch_archives
from envbox.packages.link.folders import PLACE as PACKAGES
from envbox.prefixes import obtain as unpacked
from envbox.prefixes.assembly import clear_leftovers
from envbox.prefixes.background_compile import Finisher
from envbox.prefixes.obtain import ObtainedPrefix, obtain_tree, unpack
from envbox.prefixes.request import PrefixRequest
from envbox.prefixes.tree import PLACE, SUPERSEDED, find_tree
from envbox.registry.lock_with_base import read_lock_with_base
from envbox.report import SILENT
from envbox.settings import Settings

PLATFORM = "linux-64"
LONG = 60.0  # seconds


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    with serving(PaperRegistry()) as registry:
        yield make_tiny(tmp_path_factory.mktemp("tiny"), registry)


@pytest.fixture
def settings(shop: Tiny, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """With a cache of the test's own, where compiling one package counts as much."""
    monkeypatch.setattr(unpacked, "FEW", 0)
    return shop.settings(f"cache-{uuid4().hex[:8]}")


@pytest.fixture
def wanted(shop: Tiny, settings: Settings) -> PrefixRequest:
    data = shop.environment.lock_path.read_bytes()
    return PrefixRequest(
        read_lock_with_base(shop.environment, data, PLATFORM, settings, SILENT), PLATFORM, settings
    )


@pytest.fixture
def finisher(wanted: PrefixRequest) -> Finisher:
    return Finisher(wanted.settings.cache_dir, wanted.locked.lock.digest, PLATFORM)


def at_once(wanted: PrefixRequest) -> ObtainedPrefix:
    return obtain_tree(wanted, (), SILENT, at_once=True)


def wait(finisher: Finisher) -> None:
    end = time.monotonic() + LONG
    while finisher.note.exists() or finisher.is_anybody_at_work():
        assert time.monotonic() < end, "the byte-code was not finished"
        time.sleep(0.05)


def test_the_first_tree_is_the_other_without_byte_code(wanted: PrefixRequest, finisher: Finisher) -> None:
    first = at_once(wanted)
    without = seen(first.tree.prefix)
    assert not first.is_compiled
    wait(finisher)
    second = at_once(wanted)
    whole = seen(second.tree.prefix)
    assert second.is_compiled
    assert second.activation == first.activation
    more = whole.keys() - without.keys()
    assert more
    assert all(path.endswith((".pyc", "/__pycache__")) for path in more)
    assert without.keys() < whole.keys()


def test_it_is_the_very_tree_of_one_who_waits(shop: Tiny, wanted: PrefixRequest, finisher: Finisher) -> None:
    at_once(wanted)
    wait(finisher)
    elsewhere = PrefixRequest(wanted.locked, PLATFORM, shop.settings(f"cache-{uuid4().hex[:8]}"))
    waited = obtain_tree(elsewhere, (), SILENT)
    found = at_once(wanted)
    assert found.tree.key == waited.tree.key
    assert seen(found.tree.prefix) == seen(waited.tree.prefix)


def test_what_is_mounted_does_not_change_and_goes_when_nobody_has_it(
    wanted: PrefixRequest, finisher: Finisher
) -> None:
    first = at_once(wanted).tree
    before = seen(first.prefix)
    wait(finisher)
    cache = wanted.settings.cache_dir
    clear_leftovers(cache, ())  # too early: a container may just be about to start
    assert seen(first.prefix) == before
    os.utime(first.path / SUPERSEDED, (0, 0))
    clear_leftovers(cache, {first.key})
    assert seen(first.prefix) == before
    clear_leftovers(cache, ())
    assert not first.path.exists()
    kept = at_once(wanted).tree
    assert [path.name for path in (cache / PLACE).glob("[!.]*")] == [kept.key]
    assert {path.name for path in (cache / PACKAGES).glob("[!.]*")} >= set(kept.packages)
    assert not {path.name for path in (cache / PACKAGES).iterdir()} & (
        set(first.packages) - set(kept.packages)
    )


def test_a_second_session_leaves_no_second_process(
    wanted: PrefixRequest, finisher: Finisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[object] = []
    start = subprocess.Popen

    def note(*args: object, **options: object) -> object:
        left.append(args)
        return start(*args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr("envbox.prefixes.background_compile.subprocess.Popen", note)
    first, second = at_once(wanted), at_once(wanted)
    assert len(left) == 1
    assert first.tree.key == second.tree.key or second.is_compiled
    wait(finisher)


def test_few_packages_are_waited_for(
    wanted: PrefixRequest, finisher: Finisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacked, "FEW", 100)
    assert at_once(wanted).is_compiled
    assert not finisher.note.exists()


def test_after_one_that_was_killed_the_next_session_waits(wanted: PrefixRequest, finisher: Finisher) -> None:
    start = subprocess.Popen
    pids: list[int] = []

    def stopped(argv: list[str], **options: object) -> subprocess.Popen[bytes]:
        process = start(["sleep", "60"], **options)  # type: ignore[call-overload]
        pids.append(process.pid)
        return process  # type: ignore[no-any-return]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("envbox.prefixes.background_compile.subprocess.Popen", stopped)
        assert not at_once(wanted).is_compiled
    assert finisher.is_anybody_at_work()  # it has the lock from us
    assert not at_once(wanted).is_compiled
    os.kill(pids[0], signal.SIGKILL)
    os.waitpid(pids[0], 0)
    assert finisher.has_failed()
    assert at_once(wanted).is_compiled
    assert not finisher.note.exists()


def test_leftovers_are_not_taken_from_one_at_work(wanted: PrefixRequest, finisher: Finisher) -> None:
    import fcntl

    at_once(wanted)
    wait(finisher)
    part = wanted.settings.cache_dir / PACKAGES / ".key.abc.part"
    part.mkdir()
    with (finisher.note.parent / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        obtain_tree(wanted, (), SILENT)
        assert part.exists()
    obtain_tree(wanted, (), SILENT)
    assert not part.exists()


def test_what_one_road_compiled_the_other_takes(
    wanted: PrefixRequest, finisher: Finisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    from envbox.packages.link import bytecode
    from envbox.packages.link.fragments import link_packages

    lock, settings = wanted.locked.lock, wanted.settings
    archives = fetch_archives(lock.for_platform(PLATFORM), settings)
    unpack(wanted, archives, SILENT)
    assert archive_path(lock.packages[0], settings).is_file()
    monkeypatch.setattr(bytecode, "_SCRIPT", "raise SystemExit('nothing is to be compiled')")
    monkeypatch.setenv("ENVBOX_JOBS", "1")
    fragments = link_packages(lock, PLATFORM, archives, settings, SILENT)
    assert any(path.endswith(".pyc") for fragment in fragments for path in fragment.paths)
    assert find_tree(settings.cache_dir, "0" * 64) is None
