"""Lockfiles as git has them: what a revision is, and what a file was in it. git itself is asked.

Nothing of this machine's git changes what is read: a file's bytes are as they were committed. And nothing of
the repository runs: whoever wrote it may have put programs into its configuration. So only objects are read,
by commands that know no filters, and what git could be told to start is turned off (`_CONFIG`, `_ENVIRON`).
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from envbox.errors import LockfileError, ToolError
from envbox.lockfile.foreign import LARGEST
from envbox.project import LOCK_SUFFIX

HEAD = "HEAD"
_SINGLE = "conda-lock.yml"


def top_of(folder: Path) -> Path | None:
    """Return the root of the repository that a folder is in; None where there is none.

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
    """Return the commit that a revision (`HEAD~1`, a branch, a tag) is; None when it is none."""
    said = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    return said.decode().strip() if said else None


def read_at(top: Path, commit: str, path: Path) -> bytes | None:
    """Return a file as it is in a commit; None when it is not in it.

    :raises LockfileError: when it is too long to be one
    """
    place = path.parent.resolve() / path.name
    if not place.is_relative_to(top.resolve()):
        return None
    name = f"{commit}:{place.relative_to(top.resolve()).as_posix()}"
    size = _git(top, "cat-file", "-s", name)
    if size is None:
        return None
    if int(size) > LARGEST:
        raise LockfileError(f"{path.name} is {int(size)} bytes long in {commit[:12]}: that is no lockfile")
    return _git(top, "cat-file", "blob", name)


def locks_at(root: Path, commit: str) -> tuple[Path, ...]:
    """Return where a project (a folder in a repository) has lockfiles in a commit."""
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
    """Return what git says; None when it says no."""
    done = _run(folder, *arguments)
    return done.stdout if done.returncode == 0 else None


_CONFIG = (
    "core.fsmonitor=false",
    f"core.hooksPath={os.devnull}",
    "core.pager=cat",
    "core.sshCommand=false",
    "core.alternateRefsCommand=false",
    "credential.helper=",
    "protocol.allow=never",  # an object that is missing is missing, and fetched by nothing
    "safe.bareRepository=explicit",  # a folder that is made to look like a repository is none
)
_ENVIRON = {
    "LC_ALL": "C",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_PAGER": "cat",
}
_OF_A_REPOSITORY = (  # git sets them for its hooks; here the folder says which repository is meant
    "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX", "GIT_EXTERNAL_DIFF", "GIT_SHALLOW_FILE",
    "GIT_GRAFT_FILE",
)  # fmt: skip
_LONGEST = 60  # seconds; what is asked takes a hundredth, but a pipe can stand where git opens a file


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    options = [word for setting in _CONFIG for word in ("-c", setting)]
    environ = {name: value for name, value in os.environ.items() if name not in _OF_A_REPOSITORY}
    try:
        return subprocess.run(
            ["git", "-C", str(folder), "--no-pager", *options, *arguments],
            capture_output=True, check=False, stdin=subprocess.DEVNULL, env=environ | _ENVIRON,
            timeout=_LONGEST,
        )  # fmt: skip
    except OSError as error:
        raise ToolError(
            f"cannot run git: {error.strerror}", "compare two files instead: envbox diff FILE FILE"
        ) from error
    except subprocess.TimeoutExpired:
        raise ToolError(
            f"git says nothing about {folder} for {_LONGEST} seconds",
            "see what stands against it: git status; or compare two files: envbox diff FILE FILE",
        ) from None
