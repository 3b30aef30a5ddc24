"""What is compared with what, and how the difference is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.changed_locks import BOTH, lock_of, package, wheel
from support.command import envbox
from support.git_project import git, no_image

from envbox.errors import EnvboxError, LockfileError, ToolError
from envbox.lockfile import Base, Lock
from envbox.lockfile.conda_lock_v1 import dumps, sealed
from envbox.locks.inspect.changes import changes
from envbox.locks.inspect.difference import LockDifference, as_json, as_lines, as_markdown, difference
from envbox.locks.inspect.operands import Pair, Side, find_pairs
from envbox.project import read_project

SPEC = "dependencies: [numpy]\n"


def lock(version: str, name: str = "maps") -> Lock:
    return replace(lock_of(package("numpy", version)), name=name, content_hash={"linux-64": "0"})


def write(folder: Path, version: str, name: str = "maps") -> Path:
    path = folder / f"environments/{name}.conda-lock.yml"
    path.write_bytes(dumps(lock(version, name)))
    return path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits and a change after them: numpy 1.0, 1.1, 1.2 in maps; course stays as it is."""
    folder = tmp_path / "project"
    (folder / "environments").mkdir(parents=True)
    for name in ("maps", "course"):
        (folder / f"environments/{name}.yml").write_text(SPEC)
    git(folder, "init", "-q", "-b", "main")
    write(folder, "3.0", "course")
    for version in ("1.0", "1.1"):
        write(folder, version)
        git(folder, "add", ".")
        git(folder, "commit", "-qm", version)
    write(folder, "1.2")
    return folder


def compared(folder: Path, *words: str) -> list[tuple[str, str, str, str, str]]:
    """(name, labels, versions of numpy) of what differs."""
    found = []
    for pair in find_pairs(words, read_project(folder), folder, no_image):
        versions = [s.lock.packages[0].version if s.lock else "" for s in (pair.old, pair.new)]
        if versions[0] != versions[1]:
            found.append((pair.name, pair.old.label, pair.new.label, *versions))
    return found


def test_without_words_it_is_the_last_commit_and_the_working_tree(repository: Path) -> None:
    assert compared(repository) == [("maps", "HEAD", "working tree", "1.1", "1.2")]
    assert compared(repository, "maps") == [("maps", "HEAD", "working tree", "1.1", "1.2")]
    assert compared(repository, "course") == []


def test_a_revision_is_compared_with_the_working_tree_or_another(repository: Path) -> None:
    git(repository, "tag", "v1", "HEAD~1")
    since = [("maps", "v1", "working tree", "1.0", "1.2")]
    assert compared(repository, "v1") == compared(repository, "v1", "maps") == since
    assert compared(repository, "maps", "v1") == [("maps", "working tree", "v1", "1.2", "1.0")]
    between = [("maps", "v1", "HEAD", "1.0", "1.1")]
    assert compared(repository, "v1", "HEAD") == compared(repository, "v1..HEAD") == between
    assert compared(repository, "v1..") == between
    path = "environments/maps.conda-lock.yml"
    assert compared(repository, "v1", path) == since
    assert compared(repository, path) == [("maps", "HEAD", "working tree", "1.1", "1.2")]


def test_environments_and_files_are_compared_with_each_other(repository: Path, tmp_path: Path) -> None:
    assert compared(repository, "course", "maps") == [("maps", "course", "maps", "3.0", "1.2")]
    other = tmp_path / "other.yml"
    other.write_bytes(dumps(lock("0.9")))
    assert compared(repository, str(other), "maps") == [("maps", str(other), "maps", "0.9", "1.2")]
    assert compared(repository, "../other.yml", "maps")[0][3] == "0.9"


def test_a_lockfile_that_came_or_went_is_compared_with_nothing(repository: Path) -> None:
    write(repository, "5.0", "new")
    (repository / "environments/course.yml").unlink()
    (repository / "environments/course.conda-lock.yml").unlink()
    assert compared(repository) == [
        ("course", "HEAD", "working tree", "3.0", ""),
        ("maps", "HEAD", "working tree", "1.1", "1.2"),
        ("new", "HEAD", "working tree", "", "5.0"),
    ]
    (one,) = [p for p in find_pairs((), read_project(repository), repository, no_image) if p.name == "course"]
    assert [c.kind for c in difference(one).changes] == ["removed"]


def test_before_the_first_commit_everything_is_new(tmp_path: Path) -> None:
    (tmp_path / "environments").mkdir()
    write(tmp_path, "1.0")
    git(tmp_path, "init", "-q")
    assert compared(tmp_path) == [("maps", "HEAD", "working tree", "", "1.0")]


def test_an_image_is_compared_with_the_environment_it_is_of(repository: Path) -> None:
    asked = []

    def read_image(name: str) -> bytes:
        asked.append(name)
        return dumps(lock("0.5"))

    def labels(*words: str) -> tuple[str, str]:
        (pair,) = find_pairs(words, project, repository, read_image)
        assert pair.old.lock
        return pair.old.label, pair.new.label

    project = read_project(repository)
    assert labels("you/maps:1") == ("you/maps:1", "maps")
    assert labels("docker://you/maps:1", "maps") == ("docker://you/maps:1", "maps")
    assert labels("HEAD", "you/maps:1") == ("HEAD", "you/maps:1")
    assert labels("you/maps:1", "you/maps:2") == ("you/maps:1", "you/maps:2")
    assert asked == ["you/maps:1", "docker://you/maps:1", "you/maps:1", "you/maps:1", "you/maps:2"]
    (repository / "environments/maps.conda-lock.yml").unlink()
    (repository / "environments/maps.yml").unlink()
    with pytest.raises(LockfileError, match="of an environment maps, which is not here"):
        find_pairs(["you/maps:1"], read_project(repository), repository, read_image)


def test_what_is_nothing_is_said_in_words(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(LockfileError, match="mapz is no environment here, no lockfile and no git revision"):
        compared(repository, "mapz")
    bare = tmp_path / "bare"
    (bare / "environments").mkdir(parents=True)
    write(bare, "1.0")
    with pytest.raises(LockfileError) as error:
        compared(bare)
    assert error.value.hint == "name two lockfiles, environments or images: envbox diff A B"
    (repository / "environments/maps.conda-lock.yml").write_text("nonsense")
    with pytest.raises(EnvboxError, match=r"maps\.conda-lock\.yml"):
        compared(repository)
    git(bare, "init", "-q")
    (bare / "environments/maps.conda-lock.yml").rename(bare / "environments/maps.yml")
    with pytest.raises(LockfileError, match="nothing is locked on either side"):
        compared(bare)
    (bare / "environments/maps.yml").unlink()
    (bare / "pixi.lock").write_text("version: 6\n")
    with pytest.raises(LockfileError, match=r"pixi.lock is no lockfile that envbox knows"):
        compared(bare)


def test_a_lockfile_of_another_tool_is_compared_with_what_was_committed(tmp_path: Path) -> None:
    """Nothing of it is fetched: what stands in the files is compared."""
    bare = tmp_path / "bare"
    bare.mkdir()
    git(bare, "init", "-q")
    url = "https://conda.anaconda.org/conda-forge/noarch/tzdata-{}.conda#8ac3367aafb1cc0a068483c580af8015\n"
    (bare / "explicit.txt").write_text("# platform: linux-64\n@EXPLICIT\n" + url.format("2024a-h0c530f3_0"))
    git(bare, "add", "-A")
    git(bare, "commit", "-qm", "x")
    (bare / "explicit.txt").write_text("# platform: linux-64\n@EXPLICIT\n" + url.format("2024b-hc8b5060_0"))
    (pair,) = find_pairs((), read_project(bare), bare, no_image)
    (change,) = changes(pair.old.lock, pair.new.lock)
    assert (change.name, change.kind) == ("tzdata", "upgraded")


def test_where_git_will_not_look_it_says_why(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # git's own switch, for its own tests
    with pytest.raises(ToolError, match="dubious ownership"):
        compared(repository)


def test_without_git_two_files_are_compared(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repository))
    assert compared(repository, "course", "maps")
    project = read_project(repository)
    assert find_pairs(["you/maps:1", "maps"], project, repository, lambda name: dumps(lock("0.5")))
    with pytest.raises(ToolError, match="cannot run git"):
        compared(repository)


# --- how it is told -----------------------------------------------------------------------------------------


def rich() -> LockDifference:
    old = replace(
        lock_of(*(package("numpy", "1.9", f"h{p}_0", p) for p in BOTH), wheel("six"), platforms=BOTH),
        base=Base("b:1", {"linux-64": "sha256:" + "1" * 64}, {}),
    )
    new = replace(
        old,
        packages=(
            *(package("numpy", "1.10", f"h{p}_1", p) for p in BOTH),
            package("numpy", "1.10", "h_1", "osx-64"),
            package("apng", "1|2"),
        ),
        platforms=(*BOTH, "osx-64"),
        base=Base("b:1", {"linux-64": "sha256:" + "2" * 64}, {}),
        requested={"linux-64": ("numpy",)},
    )
    return difference(Pair("maps", Side("HEAD", old), Side("working tree", new)))


def test_lines_say_what_changed_and_how_much() -> None:
    assert list(as_lines(rich())) == [
        "maps: HEAD → working tree",
        "  added     apng             1|2                                        linux-64",
        "  upgraded  numpy            1.9 → 1.10",
        "  removed   six (pip)        1.0                                        linux-64",
        "  changed   osx-64           nothing → 1 package",
        "  changed   base (linux-64)  sha256:111111111111 → sha256:222222222222",
        "  1 added, 1 removed, 1 upgraded, 2 other changes",
    ]


def test_markdown_has_what_was_asked_for_first_and_in_bold() -> None:
    assert list(as_markdown(rich()))[:9] == [
        "### maps: HEAD → working tree",
        "",
        "1 added, 1 removed, 1 upgraded, 2 other changes",
        "",
        "| package | change | before | after | platforms |",
        "|---|---|---|---|---|",
        "| **numpy** | upgraded | `1.9` | `1.10` | all |",
        "| apng | added | | `1\\|2` | linux-64 |",
        "| six (pip) | removed | `1.0` | | linux-64 |",
    ]


def test_json_has_each_platforms_own() -> None:
    told = json.loads(json.dumps(as_json(rich())))
    numpy = next(p for p in told["packages"] if p["name"] == "numpy" and p["kind"] == "upgraded")
    assert (numpy["before"], numpy["after"]) == ("1.9", "1.10")
    assert {p: pair["after"]["build"] for p, pair in numpy["platforms"].items()} == {
        "linux-64": "hlinux-64_1", "linux-aarch64": "hlinux-aarch64_1",
    }  # fmt: skip


def test_the_same_file_is_not_compared_at_all() -> None:
    one = sealed(lock("1.0"))
    assert difference(Pair("maps", Side("a", one), Side("b", one))).is_none


def test_diff_is_typed(repository: Path) -> None:
    done = envbox("diff", cwd=repository)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "maps: HEAD → working tree\n  upgraded  numpy  1.1 → 1.2\n  1 upgraded\n"
    assert envbox("diff", "--exit-code", cwd=repository).returncode == 1
    same = envbox("diff", "--exit-code", "course", cwd=repository)
    assert (same.returncode, same.stdout, same.stderr) == (0, "", "no difference\n")
    assert "| numpy | upgraded |" in envbox("diff", "--markdown", cwd=repository).stdout
    (told,) = [one for one in json.loads(envbox("diff", "--json", cwd=repository).stdout) if one["packages"]]
    assert (told["name"], told["from"], told["to"]) == ("maps", "HEAD", "working tree")
    assert envbox("diff", "a", "b", "c", cwd=repository).returncode == 2
    assert "\x1b[36mupgraded\x1b[0m" in envbox("diff", cwd=repository, FORCE_COLOR="1").stdout
