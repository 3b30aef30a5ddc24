"""Lockfiles as git has them: what a revision is, and what a file was in it. git itself is asked.

Nothing of this machine's git changes what is read: a file's bytes are as they were committed.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from envbox.errors import ToolError
from envbox.project import LOCK_SUFFIX

HEAD = "HEAD"
_SINGLE = "conda-lock.yml"


def top_of(folder: Path) -> Path | None:
    """The root of the repository that a folder is in; None where there is none.

    :raises ToolError: when there is no git, or it does not want to look
    """
    done = _run(folder, "rev-parse", "--show-toplevel")
    if done.returncode == 0:
        return Path(os.fsdecode(done.stdout).rstrip("\n"))
    said = done.stderr.decode(errors="replace").strip()
    if "not a git repository" in said:
        return None
    raise ToolError(f"git does not read {folder}: {said.partition(chr(10))[0].removeprefix('fatal: ')}")


def commit_of(folder: Path, revision: str) -> str | None:
    """The commit that a revision (`HEAD~1`, a branch, a tag) is; None when it is none."""
    said = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    return said.decode().strip() if said else None


def read_at(top: Path, commit: str, path: Path) -> bytes | None:
    """A file as it is in a commit; None when it is not in it."""
    place = path.parent.resolve() / path.name
    if not place.is_relative_to(top.resolve()):
        return None
    return _git(top, "cat-file", "blob", f"{commit}:{place.relative_to(top.resolve()).as_posix()}")


def locks_at(root: Path, commit: str) -> tuple[Path, ...]:
    """Where a project (a folder in a repository) has lockfiles in a commit."""
    places = ("environments/", "binder/", _SINGLE)
    said = _git(root, "ls-tree", "-z", "--name-only", commit, "--", *places) or b""
    names = [os.fsdecode(name) for name in said.split(b"\0") if name]
    return tuple(
        root / name
        for name in names
        if (name.startswith("environments/") and name.endswith(LOCK_SUFFIX))
        or name in (_SINGLE, f"binder/{_SINGLE}")
    )


def _git(folder: Path, *arguments: str) -> bytes | None:
    """What git says; None when it says no."""
    done = _run(folder, *arguments)
    return done.stdout if done.returncode == 0 else None


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True, check=False, stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except OSError as error:
        raise ToolError(
            f"cannot run git: {error.strerror}", "compare two files instead: envbox diff FILE FILE"
        ) from error
