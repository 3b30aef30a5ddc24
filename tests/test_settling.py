"""A lockfile that git left in conflict is settled by `lock`: from the spec, with what both sides have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.git_command import git
from support.locked_project import BOTH, FORGE, Place, let_every_base_be, versions
from support.paper_channel import record, served, write_channel

from envbox.errors import LockfileError, SpecError
from envbox.lockfile import Lock
from envbox.lockfile.conda_lock_v1 import dumps, read_lockfile
from envbox.locks.lock import Update, lock, sides_before
from envbox.mirrors import Mirrors
from envbox.settings import Settings

RECORDS = [
    *(record("python", v, ["__glibc >=2.17"], subdir=p) for v in ("3.11.7", "3.12.1") for p in BOTH),
    *(record("numpy", v, ["python"]) for v in ("1.26.4", "2.0.1", "2.3.5")),
    *(record("lib", f"{v}.0") for v in range(1, 6)),
    record("app", "1.0", ["lib <3"]),
    record("tool", "1.0", ["lib >=2"]),
    record("strict", "1.0", ["lib <4"]),
    *(record(n, "1.0") for n in ("alone", "beside", "last")),
]
MIDDLE = ("  - alone", "  - beside", "  - python 3.11.*")


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(write_channel(tmp_path_factory.mktemp("channel"), RECORDS)) as url:
        yield url


@pytest.fixture
def place(tmp_path: Path, channel: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    let_every_base_be(monkeypatch)
    root = tmp_path / "project"
    root.mkdir()
    settings = Settings(cache_dir=tmp_path / "cache", base="b:1", mirrors=Mirrors({FORGE: channel}))
    return Place(root, settings)


def commit(place: Place, words: str) -> None:
    folder = place.environment.spec_path.parent
    if not (folder / ".git").exists():
        git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", words)


def branch(place: Place, name: str, *dependencies: str, update: Update = Update()) -> Lock:  # noqa: B008
    """Make a branch off the first commit, with another spec, locked; gives that lock."""
    folder = place.environment.spec_path.parent
    git(folder, "checkout", "-q", "-b", name, "main")
    place.spec(*dependencies)
    found = lock(place.environment, place.settings, None, place.told, update=update)
    commit(place, name)
    return found


def merge(place: Place, style: str = "merge") -> None:
    """Merge theirs into ours; the spec merges, the lockfile does not."""
    folder = place.environment.spec_path.parent
    git(folder, "checkout", "-q", "ours")
    git(folder, "-c", f"merge.conflictStyle={style}", "merge", "theirs", check=False)
    assert b"<<<<<<<" in place.environment.lock_path.read_bytes()
    assert "<<<<<<<" not in place.environment.spec_path.read_text()
    place.told.said.clear()


def begin(place: Place, *dependencies: str) -> Lock:
    place.spec(*dependencies)
    found = place.lock(*BOTH)
    commit(place, "base")
    return found


@pytest.mark.parametrize("style", ["merge", "diff3", "zdiff3", "crlf"])
def test_two_branches_that_each_add_a_package_are_settled(place: Place, style: str) -> None:
    first = begin(place, *MIDDLE)
    branch(place, "ours", "  - numpy <2", *MIDDLE)
    branch(place, "theirs", *MIDDLE, "  - last")
    merge(place, style if style != "crlf" else "merge")
    if style == "crlf":
        data = place.environment.lock_path.read_bytes()
        place.environment.lock_path.write_bytes(data.replace(b"\n", b"\r\n"))
    found = place.lock()
    assert place.bytes() == dumps(found)
    assert place.fresh()
    assert versions(found) == {**versions(first), "numpy": "1.26.4", "last": "1.0"}
    assert found.platforms == BOTH
    assert place.told.said[0] == (
        "maps.conda-lock.yml is in conflict: it is settled from the spec and both sides"
    )
    assert place.told.said[-2:] == ["  since ours: 1 added", "  since theirs: 1 added"]
    place.environment.lock_path.write_bytes(dumps(first))  # and it is what a solve makes of the merged spec
    assert place.lock() == found


def test_where_the_sides_differ_the_newer_that_the_spec_allows_is_taken(place: Place) -> None:
    everything = Update(everything=True)
    begin(place, "  - numpy <2", *MIDDLE, "  - tool", "  - lib <2.5")
    branch(place, "ours", "  - strict", "  - numpy <2", *MIDDLE, "  - tool", "  - lib", update=everything)
    branch(place, "theirs", "  - numpy <2", *MIDDLE, "  - tool", "  - lib", "  - last", update=everything)
    folder = place.environment.spec_path.parent
    git(folder, "checkout", "-q", "ours")
    git(folder, "merge", "theirs", check=False)
    place.spec("  - numpy <2", *MIDDLE, "  - tool", "  - lib", "  - last")  # as a person settles it
    place.told.said.clear()
    found = place.lock()
    assert versions(found)["lib"] == "5.0"
    assert "strict" not in versions(found)
    assert "  lib 5.0: ours had 3.0, theirs 5.0" in place.told.said
    assert place.told.said[-2] == "  since ours: 1 added, 1 removed, 1 upgraded"


def test_what_the_newer_side_cannot_give_the_older_does(place: Place) -> None:
    """Ours needs an old library, theirs has a newer one: what both need is the old one."""
    begin(place, "  - tool", *MIDDLE, "  - lib <4")
    branch(place, "ours", "  - tool", "  - app", *MIDDLE, "  - lib <4")
    branch(place, "theirs", "  - tool", *MIDDLE, "  - lib", update=Update(frozenset({"lib"})))
    merge(place)
    found = place.lock()
    assert versions(found)["lib"] == "2.0"
    assert "  lib 2.0: ours had 2.0, theirs 5.0" in place.told.said
    assert place.fresh()


def test_a_newer_one_that_the_merged_spec_forbids_gives_way_to_the_other_side(place: Place) -> None:
    begin(place, "  - numpy", *MIDDLE, "  - lib <2")
    newer = Update(frozenset({"lib"}))
    branch(place, "ours", "  - numpy", *MIDDLE, "  - lib <3", update=newer)
    theirs = branch(place, "theirs", "  - numpy", *MIDDLE, "  - lib", update=newer)
    assert versions(theirs)["lib"] == "5.0"
    folder = place.environment.spec_path.parent
    git(folder, "checkout", "-q", "ours")
    git(folder, "merge", "theirs", check=False)
    place.spec("  - numpy", *MIDDLE, "  - lib <4")  # as a person settles the spec
    assert versions(place.lock())["lib"] == "2.0"  # what ours has, and not the newest that fits


def test_platforms_of_both_sides_are_kept(place: Place) -> None:
    place.spec(*MIDDLE)
    place.lock("linux-64")
    commit(place, "base")
    branch(place, "ours", "  - numpy", *MIDDLE)
    folder = place.environment.spec_path.parent
    git(folder, "checkout", "-q", "-b", "theirs", "main")
    lock(place.environment, place.settings, BOTH, place.told)
    commit(place, "theirs")
    merge(place)
    assert place.lock().platforms == BOTH


def test_a_dry_run_shows_it_and_leaves_the_conflict(place: Place) -> None:
    begin(place, *MIDDLE)
    branch(place, "ours", "  - numpy <2", *MIDDLE)
    branch(place, "theirs", *MIDDLE, "  - last")
    merge(place)
    before = place.bytes()
    found = lock(place.environment, place.settings, None, place.told, dry_run=True)
    assert {"numpy", "last"} < versions(found).keys()
    assert place.bytes() == before
    assert len(sides_before(place.environment)) == 2


def test_a_side_that_git_has_mixed_is_good_enough_to_be_preferred(place: Place) -> None:
    """Git merges a block of theirs into what becomes ours, without what that needs."""
    begin(place, "  - lib <2", *MIDDLE)
    branch(place, "ours", "  - numpy <2", "  - lib <2", *MIDDLE)
    branch(place, "theirs", "  - lib <2", *MIDDLE, "  - app")
    merge(place)
    path = place.environment.lock_path
    lines = path.read_text().split("- name: python\n")
    assert len(lines) > 1
    path.write_text("- name: pyton\n".join([lines[0], "- name: python\n".join(lines[1:])]))
    found = place.lock()
    assert versions(found)["lib"] == "1.0"
    assert read_lockfile(path) == found


def test_a_spec_in_conflict_is_refused_with_its_line(place: Place) -> None:
    begin(place, *MIDDLE)
    branch(place, "ours", *MIDDLE, "  - numpy")
    branch(place, "theirs", *MIDDLE, "  - last")
    folder = place.environment.spec_path.parent
    git(folder, "checkout", "-q", "ours")
    git(folder, "merge", "theirs", check=False)
    lines = place.environment.spec_path.read_text().splitlines()
    error = place.refused(SpecError)
    assert f"merge conflict markers (line {lines.index('<<<<<<< HEAD') + 1})" in error.message


def test_markers_that_are_not_whole_are_refused(place: Place) -> None:
    begin(place, *MIDDLE)
    path = place.environment.lock_path
    path.write_bytes(path.read_bytes().replace(b"package:\n", b"<<<<<<< a\npackage:\n"))
    error = place.refused(LockfileError)
    assert "not whole (line " in error.message
    assert error.hint
    assert "git checkout --ours maps.conda-lock.yml" in error.hint


def test_a_conflict_that_holds_no_lockfile_is_refused(place: Place) -> None:
    begin(place, *MIDDLE)
    place.environment.lock_path.write_bytes(b"<<<<<<< a\nx: 1\n=======\ny: 2\n>>>>>>> b\n")
    assert "in merge conflict, and not as git left it" in place.refused(LockfileError).message
