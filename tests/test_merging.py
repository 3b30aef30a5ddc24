"""What git makes of two branches that both locked is taken apart again, whatever its style of conflicts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.git_command import git
from support.lock_values import HERE, MAPS, package

from envbox.lockfile import Lock
from envbox.lockfile.conda_lock_v1 import dumps, loads, sealed
from envbox.lockfile.conflict_markers import sides


def moved(lock: Lock, version: str, sha256: str) -> Lock:
    """The lock with another numpy for linux-64."""
    newer = package("numpy", version=version, depends=MAPS.packages[0].depends, sha256=sha256 * 64)
    return sealed(replace(lock, packages=(newer, *lock.packages[1:])))


OURS, THEIRS = moved(MAPS, "1.1", "1"), moved(MAPS, "1.2", "2")


def branches(
    folder: Path, ours: bytes, theirs: bytes, before: bytes, name: str = "maps.conda-lock.yml"
) -> Path:
    """A repository with two branches, on the first of them; gives the file that they differ in."""
    path = folder / name
    git(folder, "init", "-q")
    for branch, data in [("main", before), ("theirs", theirs), ("ours", ours)]:
        git(folder, "checkout", "-q", "-b", branch, *(["main"] if branch == "ours" else []))
        path.write_bytes(data)
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", branch)
    return path


@pytest.mark.parametrize("style", ["merge", "diff3", "zdiff3"])
def test_both_sides_of_a_real_conflict_are_found(tmp_path: Path, style: str) -> None:
    path = branches(tmp_path, dumps(OURS), dumps(THEIRS), dumps(MAPS))
    git(tmp_path, "-c", f"merge.conflictStyle={style}", "merge", "theirs", check=False)
    conflicted = path.read_bytes()
    assert b"<<<<<<<" in conflicted
    found = sides(conflicted)
    assert found is not None
    assert [loads(data, HERE) for data in found] == [OURS, THEIRS]


def test_windows_line_ends_are_kept() -> None:
    data = b"a\r\n<<<<<<< HEAD\r\nb\r\n=======\r\nc\r\n>>>>>>> other\r\nd"
    assert sides(data) == (b"a\r\nb\r\nd", b"a\r\nc\r\nd")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a: 1\n",
        dumps(MAPS),
        b"<<<<<<< HEAD\na\n",
        b"<<<<<<< HEAD\na\n=======\nb\n",
        b"=======\nb\n>>>>>>> x\n",
        b"<<<<<<< a\n<<<<<<< b\n=======\n=======\n>>>>>>> b\n>>>>>>> a\n",
        b"<<<<<<< HEAD\na\n>>>>>>> x\n",
    ],
)
def test_what_is_no_whole_conflict_has_no_sides(data: bytes) -> None:
    assert sides(data) is None


@given(st.lists(st.sampled_from([b"<<<<<<< a\n", b"||||||| b\n", b"=======\n", b">>>>>>> c\n", b"x\n"])))
def test_no_sides_hold_a_marker(lines: list[bytes]) -> None:
    for side in sides(b"".join(lines)) or ():
        assert set(side) <= set(b"x\n")
