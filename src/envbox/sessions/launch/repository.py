"""A project whose git directory lies elsewhere, as in a worktree or a submodule: there git finds nothing.

Nothing outside of the project is mounted because a file in it says so; the option that does it is told.
https://git-scm.com/docs/gitrepository-layout
"""

from __future__ import annotations

import os
from pathlib import Path

from envbox.image_paths import WORK
from envbox.sessions.launch.bindings import Bind
from envbox.sessions.launch.container import Launch

_MOST = 4096  # bytes of a .git file: one path


def repository_elsewhere(launch: Launch) -> str | None:
    """Say which options let git work in a container; None where it does, or where there is no repository."""
    root = launch.project
    said = _line(root / ".git", "gitdir: ")
    if said is None:
        return None
    inside = os.path.normpath(f"{WORK}/{said}" if not said.startswith("/") else said)
    folder = Path(os.path.normpath(root / said))
    common = _line(folder / "commondir", "")
    if common is not None:  # a worktree's: it has the shared one above it
        folder, inside = Path(os.path.normpath(folder / common)), os.path.normpath(f"{inside}/{common}")
    is_one = os.path.isfile(folder / "HEAD") and os.path.isdir(folder / "objects")  # noqa: PTH112, PTH113
    if not is_one or folder.is_relative_to(root):
        return None
    if any(isinstance(m, Bind) and _is_at_or_above(m.target, inside) for m in launch.mounts):
        return None
    kind, tree = ("worktree", "") if common is not None else ("submodule", f" --env GIT_WORK_TREE={WORK}")
    return (
        f"{root} is a git {kind}, whose repository is not in it: "
        f"for git in the container, --volume '{folder}:{inside}:ro'{tree}"
    )


def _line(path: Path, begin: str) -> str | None:
    """Return what a file of one line says behind its first words; None when it is another."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            text = os.fsdecode(file.read(_MOST)).rstrip("\r\n")
    except OSError:
        return None
    return text.removeprefix(begin) if text.startswith(begin) and text.isprintable() and text else None


def _is_at_or_above(target: str, inside: str) -> bool:
    return f"{inside}/".startswith(f"{target.rstrip('/')}/")
