"""Git merges lockfiles through envbox: both sides in one, or a conflict that `lock` settles."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.lock_values import HERE, lock_of, package, wheel
from support.locked_project import BOTH, FORGE, Place, let_every_base_be, versions
from support.paper_channel import record, served, write_channel

from envbox.lockfile import Lock
from envbox.lockfile.conda_lock_v1 import dumps, read_lockfile
from envbox.lockfile.conflict_markers import sides
from envbox.locks.freshness.content_hash import read_quickly
from envbox.locks.lock import Update, lock
from envbox.locks.merge import MergeFiles, conflict, merge_files, merge_locks
from envbox.locks.merge.three_way import Sides, merged
from envbox.mirrors import Mirrors
from envbox.settings import Settings

RECORDS = [
    *(record("python", v, ["__glibc >=2.17"], subdir=p) for v in ("3.11.7", "3.12.1") for p in BOTH),
    *(record("numpy", v, ["python"]) for v in ("1.26.4", "2.3.5")),
    *(record("lib", f"{v}.0") for v in range(1, 6)),
    record("app", "1.0", ["lib <3"]),
    record("tool", "1.0", ["lib >=4"]),
    *(record(n, "1.0", ["shared"]) for n in ("one", "two")),
    *(record(n, "1.0") for n in ("alone", "beside", "last", "shared")),
]
MIDDLE = ("  - alone", "  - beside", "  - python 3.11.*")
NOBODY = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
NOBODY += ["-c", "init.defaultBranch=main"]


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(write_channel(tmp_path_factory.mktemp("channel"), RECORDS)) as url:
        yield url


class Repository(Place):
    """A place in a git repository, whose lockfiles are merged by envbox."""

    def git(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            ["git", *NOBODY, *arguments],
            cwd=self.environment.spec_path.parents[1], env=self.environ(), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def environ(self) -> dict[str, str]:
        """Where neither a channel nor an engine can be reached."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("ENVBOX_", "GIT_"))}
        proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
        return env | proxies | {
            "ENVBOX_CACHE_DIR": str(self.settings.cache_dir / "other"), "ENVBOX_CONFIG": os.devnull,
            "ENVBOX_BASE": "b:1", "GIT_CONFIG_GLOBAL": os.devnull, "DOCKER_HOST": "tcp://127.0.0.1:9",
        }  # fmt: skip

    def begin(self, *dependencies: str) -> Lock:
        self.git("init", "-q")
        self.git("config", "merge.envbox.name", "envbox lockfiles")
        self.git("config", "merge.envbox.driver", f"{sys.executable} -m envbox merge-lock %O %A %B %P")
        attributes = self.environment.spec_path.parents[1] / ".gitattributes"
        attributes.write_text("*conda-lock.yml merge=envbox text eol=lf\n")
        self.spec(*dependencies)
        found = self.lock(*BOTH)
        self.commit("base")
        return found

    def commit(self, words: str) -> None:
        self.git("add", ".")
        self.git("commit", "-q", "-m", words)

    def branch(self, name: str, *dependencies: str, update: str | None = None) -> Lock:
        self.git("checkout", "-q", "-b", name, "main")
        self.spec(*dependencies)
        asked = Update(frozenset({update} if update else ()))
        found = lock(self.environment, self.settings, None, self.told, update=asked)
        self.commit(name)
        return found

    def check(self) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "envbox", "lock", "--check"],
            cwd=self.environment.spec_path.parents[1], env=self.environ(), capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert (done.returncode == 0) == (done.stderr == "")
        return done.stderr


@pytest.fixture
def place(tmp_path: Path, channel: str, monkeypatch: pytest.MonkeyPatch) -> Repository:
    let_every_base_be(monkeypatch)
    root = tmp_path / "project" / "environments"
    root.mkdir(parents=True)
    settings = Settings(cache_dir=tmp_path / "cache", base="b:1", mirrors=Mirrors({FORGE: channel}))
    return Repository(root, settings)


# --- in a repository ----------------------------------------------------------------------------------------


def test_two_branches_that_each_add_a_package_merge_clean_and_are_fresh(place: Repository) -> None:
    first = place.begin(*MIDDLE)
    place.branch("theirs", *MIDDLE, "  - last")
    place.branch("ours", "  - numpy <2", *MIDDLE)
    place.git("merge", "theirs")
    assert place.git("status", "--porcelain") == ""
    assert place.check() == ""
    found = read_lockfile(place.environment.lock_path)
    assert versions(found) == {**versions(first), "numpy": "1.26.4", "last": "1.0"}
    place.environment.lock_path.write_bytes(dumps(first))  # what a solve makes of the merged spec
    assert place.lock() == found


def test_a_rebase_merges_too(place: Repository) -> None:
    place.begin(*MIDDLE)
    place.branch("theirs", *MIDDLE, "  - last")
    place.branch("ours", "  - numpy[version='<2']", *MIDDLE)  # which only conda-lock reads
    place.git("rebase", "theirs")
    assert place.check() == ""
    assert {"numpy", "last"} < versions(read_lockfile(place.environment.lock_path)).keys()


def test_an_update_and_an_addition_are_both_kept(place: Repository) -> None:
    place.begin("  - numpy <2", *MIDDLE, "  - lib <2")
    place.branch("theirs", "  - numpy <2", *MIDDLE, "  - lib <4", update="lib")
    place.branch("ours", "  - last", "  - numpy <2", *MIDDLE, "  - lib <2")
    place.git("merge", "theirs")
    assert place.check() == ""
    assert (
        versions(read_lockfile(place.environment.lock_path)).items() >= {"lib": "3.0", "last": "1.0"}.items()
    )


def test_what_is_no_solution_is_a_conflict_that_lock_settles(place: Repository) -> None:
    place.begin("  - lib", *MIDDLE, "  - numpy")
    place.branch("theirs", "  - lib", *MIDDLE, "  - numpy", "  - tool")
    place.branch("ours", "  - app", "  - lib", *MIDDLE, "  - numpy")
    said = place.git("merge", "theirs", code=1)
    assert "environments/maps.conda-lock.yml: linux-64, linux-aarch64: tool needs lib >=4, 2.0 0 is" in said
    assert "hint: settle the spec, if that is in conflict too, and: envbox lock maps" in said
    both = sides(place.environment.lock_path.read_bytes())
    assert both is not None
    assert [data.decode() for data in both] == [
        place.git("show", f"{name}:environments/maps.conda-lock.yml") for name in ("ours", "theirs")
    ]
    assert "merge conflict markers" in place.check()
    place.spec("  - lib", *MIDDLE, "  - numpy", "  - tool")
    assert versions(place.lock())["lib"] == "5.0"
    place.git("add", ".")
    place.git("commit", "-q", "-m", "settled")
    assert place.check() == ""


def test_a_package_that_both_have_moved_is_a_conflict(place: Repository) -> None:
    place.begin(*MIDDLE, "  - lib <2")
    place.branch("theirs", *MIDDLE, "  - lib <4", update="lib")
    place.branch("ours", *MIDDLE, "  - lib <3", update="lib")
    said = place.git("merge", "theirs", code=1)
    assert "both sides have changed lib (linux-64)" in said
    place.spec(*MIDDLE, "  - lib <4")
    assert versions(place.lock())["lib"] == "3.0"


def test_what_neither_side_needs_any_more_goes(place: Repository) -> None:
    first = place.begin("  - one", *MIDDLE, "  - two")
    assert "shared" in versions(first)
    place.branch("theirs", "  - one", *MIDDLE)
    place.branch("ours", *MIDDLE, "  - two")
    place.git("merge", "theirs")
    assert place.check() == ""
    found = read_lockfile(place.environment.lock_path)
    assert versions(found).keys() == {"alone", "beside", "python"}


def test_what_one_side_needs_and_the_other_dropped_is_a_conflict(place: Repository) -> None:
    place.begin("  - one", *MIDDLE)
    place.branch("theirs", "  - one", *MIDDLE, "  - two")
    place.branch("ours", *MIDDLE)
    said = place.git("merge", "theirs", code=1)
    assert "two needs shared, which is not locked for linux-64" in said


def test_a_lockfile_that_both_sides_began_is_merged(place: Repository) -> None:
    place.begin(*MIDDLE)
    place.git("rm", "-q", "--cached", "environments/maps.conda-lock.yml")
    place.git("commit", "-q", "-m", "not locked")
    data = place.bytes()
    assert data
    place.environment.lock_path.unlink()
    for name in ("theirs", "ours"):
        place.git("checkout", "-q", "-b", name, "main")
        place.environment.lock_path.write_bytes(data)
        place.commit(name)
        place.environment.lock_path.unlink(missing_ok=True)
        place.git("checkout", "-q", "-f", name)
    place.git("merge", "-q", "theirs")
    assert place.bytes() == data


# --- the parts ----------------------------------------------------------------------------------------------


def files(folder: Path, ancestor: bytes, ours: bytes, theirs: bytes) -> MergeFiles:
    made = [folder / name for name in ("ancestor", "ours", "theirs")]
    for path, data in zip(made, (ancestor, ours, theirs), strict=True):
        path.write_bytes(data)
    return MergeFiles(*made, HERE)


@pytest.mark.parametrize("broken", ["ancestor", "ours", "theirs"])
def test_what_cannot_be_read_is_a_conflict_with_both_sides_whole(tmp_path: Path, broken: str) -> None:
    data = {name: dumps(LOCK) for name in ("ancestor", "ours", "theirs")} | {broken: b"no lockfile\n"}
    data["ours"] += b"# ours"
    found = files(tmp_path, **data)
    faults = merge_files(found, lambda: Settings(cache_dir=tmp_path))
    assert len(faults) == 1
    assert sides(found.ours.read_bytes()) == (data["ours"] + b"\n", data["theirs"])


def asked_for(*conda: str) -> Lock:
    """A lock of these packages that says so, with its content hash."""
    packages = [package(name) for name in conda]
    made = lock_of(*packages, requested={"linux-64": tuple(sorted(conda))}, variables={})
    return replace(made, content_hash=hashes_of(conda))


def hashes_of(conda: Sequence[str]) -> dict[str, str]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.yml")
        path.write_text(f"channels: [conda-forge]\ndependencies: [{', '.join(conda)}]\n")
        found = read_quickly(path, ["linux-64"], Settings(cache_dir=Path(folder)))
    assert found
    return dict(found.hashes)


LOCK = asked_for("a", "b", "c")


def test_a_hash_that_cannot_be_proven_is_not_made(tmp_path: Path) -> None:
    ours, theirs = asked_for("a", "b", "c", "d"), asked_for("a", "b", "c", "e")
    settings = Settings(cache_dir=tmp_path)
    found, faults = merge_locks(Sides(LOCK, ours, theirs), settings)
    assert found is not None
    assert faults == ()
    assert found.content_hash == hashes_of(["a", "b", "c", "d", "e"])
    other = replace(theirs, content_hash={"linux-64": "0" * 64})
    found, faults = merge_locks(Sides(LOCK, ours, other), settings)
    assert (found, faults) == (None, ("what both ask for together cannot be told from the lockfiles alone",))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channels": ("x",)}, "both sides have changed the channels"),
        ({"slim": ("docs",)}, "both sides have changed what is left out (slim)"),
        ({"exclude_newer": "2024-01-01"}, "both sides have changed exclude-newer"),
        ({"variables": {"A": "1"}}, "both sides have changed the variable A"),
        ({"requested": {}}, "a side does not say what was asked for: another tool has written it"),
    ],
)
def test_what_both_changed_otherwise_is_named(changes: dict[str, object], words: str) -> None:
    mine = {"channels": ("y",), "slim": ("tests",), "exclude_newer": "2025", "variables": {"A": "2"}}
    ours = replace(LOCK, **{key: mine.get(key, value) for key, value in changes.items()})  # type: ignore[arg-type]
    theirs = replace(LOCK, **changes)  # type: ignore[arg-type]
    assert words in merged(Sides(LOCK, ours, theirs))[1]


def test_wheels_of_one_side_and_packages_of_the_other_take_a_solve() -> None:
    ours = replace(LOCK, packages=(*LOCK.packages, wheel("tqdm")))
    theirs = replace(LOCK, packages=(*LOCK.packages, package("d")))
    assert "takes a solve" in merged(Sides(LOCK, ours, theirs))[1][0]
    found, faults = merged(Sides(LOCK, ours, replace(LOCK, variables={"A": "1"})))
    assert (found.packages, dict(found.variables), faults) == (ours.packages, {"A": "1"}, [])


def test_another_platform_on_one_side_takes_a_solve() -> None:
    theirs = replace(LOCK, platforms=("linux-64", "linux-aarch64"))
    assert "has not solved for" in merged(Sides(LOCK, LOCK, theirs))[1][0]


LINES = st.lists(st.sampled_from([b"a\n", b"b\r\n", b"c\n", b"\n"]), max_size=8)


@given(LINES, LINES)
def test_both_sides_of_a_conflict_are_given_back_whole(one: list[bytes], other: list[bytes]) -> None:
    ours, theirs = b"".join(one), b"".join(other)
    made = conflict(ours, theirs)
    assert made == ours if ours == theirs else sides(made) == (ours, theirs)
