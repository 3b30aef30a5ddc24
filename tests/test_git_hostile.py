"""A repository that somebody else wrote runs nothing, whatever its configuration says; and nothing hangs."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from support.changed_locks import lock_of, package
from support.git_project import git, no_image

from envbox.cli import run
from envbox.errors import LockfileError, ToolError
from envbox.lockfile.conda_lock_v1 import dumps, loads, lock_hint
from envbox.locks.inspect import revisions
from envbox.locks.inspect.operands import find_pairs
from envbox.project import read_project


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A project with a lockfile in HEAD, and another one in the working tree."""
    folder = tmp_path / "project"
    (folder / "environments").mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    write(folder, "1.0")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    write(folder, "1.1")
    return folder


def write(folder: Path, version: str) -> Path:
    path = folder / "environments/maps.conda-lock.yml"
    path.write_bytes(dumps(lock_of(package("numpy", version))))
    return path


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A program that leaves a mark when it is run."""
    script = tmp_path / "trap.sh"
    script.write_text(f'#!/bin/sh\necho "$0 $*" >> {tmp_path}/sprung\nexit 0\n')
    script.chmod(0o755)
    return script


def is_sprung(trap: Path) -> bool:
    return (trap.parent / "sprung").exists()


CONFIG = """
[core]
    repositoryformatversion = 1
    fsmonitor = {trap}
    pager = {trap}
    editor = {trap}
    sshCommand = {trap}
    gitProxy = {trap}
    askPass = {trap}
    hooksPath = {hooks}
    attributesFile = {attributes}
    alternateRefsCommand = {trap}
[extensions]
    partialClone = origin
[remote "origin"]
    url = {url}
    promisor = true
    partialclonefilter = blob:none
    uploadpack = {trap}
    vcs = {trap}
[protocol]
    allow = always
[protocol "ext"]
    allow = always
[diff]
    external = {trap}
[diff "lock"]
    textconv = {trap}
    command = {trap}
[filter "lock"]
    smudge = {trap}
    clean = {trap}
    process = {trap}
    required = true
[merge "lock"]
    driver = {trap}
[pager]
    cat-file = {trap}
    ls-tree = {trap}
    rev-parse = {trap}
[alias]
    cat-file = !{trap}
    ls-tree = !{trap}
    rev-parse = !{trap}
[credential]
    helper = {trap}
[gpg]
    program = {trap}
[include]
    path = {included}
"""


@pytest.mark.parametrize("url", ["ext::{trap} x", "ssh://h/x", "{other}", "file://{other}"])
@pytest.mark.parametrize("is_missing", [False, True], ids=["whole", "an object is missing"])
def test_a_configuration_runs_nothing(repository: Path, trap: Path, url: str, is_missing: bool) -> None:
    hooks = repository / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    for name in (
        "post-checkout",
        "pre-auto-gc",
        "reference-transaction",
        "post-index-change",
        "fsmonitor-watchman",
    ):
        (hooks / name).write_text(trap.read_text())
        (hooks / name).chmod(0o755)
    (repository / ".gitattributes").write_text("* diff=lock filter=lock merge=lock\n")
    included = trap.parent / "included"
    included.write_text(f"[core]\n    fsmonitor = {trap}\n")
    other = trap.parent / "other.git"
    subprocess.run(["git", "init", "-q", "--bare", str(other)], check=True)
    config = repository / ".git/config"
    before = config.read_text()
    if is_missing:
        done = subprocess.run(
            ["git", "-C", str(repository), "rev-parse", "HEAD:environments/maps.conda-lock.yml"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        blob = done.stdout.strip()
        (repository / ".git/objects" / blob[:2] / blob[2:]).unlink()
    text = CONFIG.format(
        trap=trap, hooks=hooks, attributes=repository / ".gitattributes", included=included,
        url=url.format(trap=trap, other=other),
    )  # fmt: skip
    config.write_text(before + text)
    project = read_project(repository)
    (pair,) = find_pairs((), project, repository, no_image)
    assert (pair.old.lock is None) == is_missing
    find_pairs(("HEAD",), project, repository, no_image)
    assert not is_sprung(trap)


def test_the_trap_works(repository: Path, trap: Path) -> None:
    """The same configuration runs programs where nobody stands against it."""
    config = repository / ".git/config"
    config.write_text(config.read_text() + f"[core]\n    fsmonitor = {trap}\n")
    subprocess.run(["git", "-C", str(repository), "status"], capture_output=True, check=False)
    assert is_sprung(trap)


def test_a_folder_that_looks_like_a_repository_is_none(tmp_path: Path, trap: Path) -> None:
    """A bare repository can be committed as plain files, with a configuration of its own."""
    folder = tmp_path / "project"
    subprocess.run(["git", "init", "-q", "--bare", str(folder)], check=True)
    (folder / "environments").mkdir()
    write(folder, "1.0")
    with pytest.raises((LockfileError, ToolError)):
        find_pairs((), read_project(folder), folder, no_image)
    assert not is_sprung(trap)


def test_a_pipe_where_git_opens_a_file_hangs_nothing(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revisions, "_LONGEST", 1)
    (repository / ".git/config").unlink()
    os.mkfifo(repository / ".git/config")
    with pytest.raises(ToolError, match="git says nothing about"):
        find_pairs((), read_project(repository), repository, no_image)


def test_a_replaced_object_and_a_hooks_variables_change_nothing(
    repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def id_of(what: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(repository), "rev-parse", what], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git(repository, "hash-object", "-w", "environments/maps.conda-lock.yml")
    done = subprocess.run(
        ["git", "-C", str(repository), "hash-object", "environments/maps.conda-lock.yml"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    git(repository, "replace", id_of("HEAD:environments/maps.conda-lock.yml"), done.stdout.strip())
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    (pair,) = find_pairs((), read_project(repository), repository, no_image)
    assert pair.old.lock is not None
    assert [p.version for p in pair.old.lock.packages] == ["1.0"]


def test_a_file_that_is_no_lockfile_by_its_length_is_not_read(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revisions, "LARGEST", 100)
    with pytest.raises(LockfileError, match=r"bytes long in [0-9a-f]{12}: that is no lockfile"):
        find_pairs((), read_project(repository), repository, no_image)


# --- names that somebody else chose -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["--help.conda-lock.yml", "-C.conda-lock.yml", "a;touch x.conda-lock.yml", "$(id).conda-lock.yml"]
)
def test_the_merge_drivers_paths_are_no_options_and_no_commands(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {side: dumps(lock_of(package("numpy", version))) for side, version in
            (("O", "1.0"), ("A", "1.1"), ("B", "1.2"))}  # fmt: skip
    for side, text in data.items():
        (tmp_path / side).write_bytes(text)
    words = ["-C", str(tmp_path), "merge-lock", "O", "A", "B", "--", f"environments/{name}"]
    if not name.startswith("--help"):
        words.remove("--")
        words[-1] = name
    assert run(words) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["A", "B", "O"]
    assert (tmp_path / "O").read_bytes() == data["O"]
    hint = capsys.readouterr().err.partition("envbox lock ")[2]
    assert hint
    assert not hint.startswith(("a;", "$"))


def test_hints_are_commands_that_a_shell_takes_as_they_are_meant(tmp_path: Path) -> None:
    assert lock_hint(Path("environments/maps.conda-lock.yml")) == "envbox lock maps"
    assert lock_hint(Path("/x/thesis/conda-lock.yml")) == "envbox lock thesis"
    (tmp_path / "my.yaml").touch()
    assert lock_hint(tmp_path / "my.conda-lock.yml") == "envbox lock my.yaml"
    assert lock_hint(Path("environments/a;b.conda-lock.yml")) == "envbox lock 'a;b'"


def test_a_lockfile_cannot_call_itself_a_command() -> None:
    data = re.sub(rb"envbox.name: .*", b"envbox.name: a;b", dumps(lock_of(package("numpy", "1.0"))))
    with pytest.raises(LockfileError, match=r"`envbox.name` is 'a;b'"):
        loads(data, Path("maps.conda-lock.yml"))
