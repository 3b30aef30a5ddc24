"""A git worktree or submodule is told how git works in its container; nothing is mounted by itself."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

from envbox.sessions.launch.bindings import Bind
from envbox.sessions.launch.container import Launch
from envbox.sessions.launch.repository import repository_elsewhere


def git(folder: Path, *arguments: str) -> None:
    own = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always")
    subprocess.run(["git", *own, *arguments], cwd=folder, check=True, capture_output=True)


def repository(folder: Path) -> Path:
    folder.mkdir()
    git(folder, "init", "-q")
    git(folder, "commit", "-q", "--allow-empty", "-m", "x")
    return folder


def launch(project: Path) -> Launch:
    return Launch("i", "e", project, ())


def test_a_repository_of_its_own_needs_nothing(tmp_path: Path) -> None:
    assert repository_elsewhere(launch(tmp_path)) is None
    assert repository_elsewhere(launch(repository(tmp_path / "a"))) is None


def test_a_worktree_is_told_the_option(tmp_path: Path) -> None:
    main = repository(tmp_path / "main")
    git(main, "worktree", "add", "-q", str(tmp_path / "tree"))
    asked = launch(tmp_path / "tree")
    words = str(repository_elsewhere(asked))
    assert words.endswith(f"--volume '{main}/.git:{main}/.git:ro'")
    there = replace(asked, mounts=(Bind(main, str(main), read_only=True),))
    assert repository_elsewhere(there) is None


def test_a_submodule_is_told_the_options(tmp_path: Path) -> None:
    part, whole = repository(tmp_path / "part"), repository(tmp_path / "whole")
    git(whole, "submodule", "add", "-q", str(part), "sub")
    words = str(repository_elsewhere(launch(whole / "sub")))
    assert words.endswith(
        f"--volume '{whole}/.git/modules/sub:/.git/modules/sub:ro' --env GIT_WORK_TREE=/work"
    )


def test_what_a_file_says_that_leads_to_no_repository_is_not_repeated(tmp_path: Path) -> None:
    for where in ("/etc", "/nowhere", "x\x1b[31m", "", "x/" * 1500, "x/" * 4000):
        (tmp_path / ".git").write_text(f"gitdir: {where}")
        assert repository_elsewhere(launch(tmp_path)) is None
