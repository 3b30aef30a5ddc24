"""A lockfile in which git left conflict markers: taken apart into the two files that were to be merged.

Neither side of a conflict can be taken line by line: half of one solution and half of another is none. So
both files are given back whole, for `lock` to prefer what is in them, and the spec decides.

Format: https://git-scm.com/docs/git-merge#_how_conflicts_are_presented, also in the style diff3 and zdiff3
"""

from __future__ import annotations

import re
from enum import Enum, auto
from pathlib import Path

from envbox.errors import LockfileError
from envbox.files import conflict_line
from envbox.lockfile import Lock
from envbox.lockfile.conda_lock_v1 import salvaged

_MARKER = re.compile(rb"(<{7}|\|{7}|>{7})(?: [^\n]*)?\r?\n?|(={7})\r?\n?")


class _In(Enum):
    """Which part of a conflict a line is of."""

    BOTH = auto()
    OURS = auto()
    ANCESTOR = auto()
    THEIRS = auto()


_STEPS = {
    (_In.BOTH, b"<<<<<<<"): _In.OURS,
    (_In.OURS, b"|||||||"): _In.ANCESTOR,
    (_In.OURS, b"======="): _In.THEIRS,
    (_In.ANCESTOR, b"======="): _In.THEIRS,
    (_In.THEIRS, b">>>>>>>"): _In.BOTH,
}


def read_sides(data: bytes, path: Path) -> tuple[Lock, Lock] | None:
    """Return what both sides of a conflicted lockfile have locked, ours and theirs; None where there is no
    conflict.

    Git merges what it can line by line before it gives up, so a side may have a package of the other, without
    what that needs: what is sound of each is good enough to be preferred.

    :raises LockfileError: when the markers are not whole, or what is between them is no lockfile
    """
    line = conflict_line(data)
    if not line:
        return None
    found = sides(data)
    way_out = (
        f"take one side whole (git checkout --ours {path.name}), and lock: what the spec asks for counts"
    )
    if found is None:
        raise LockfileError(f"the merge conflict markers in {path} are not whole (line {line})", way_out)
    try:
        ours, theirs = (salvaged(side, path) for side in found)
    except LockfileError as error:
        raise LockfileError(f"in merge conflict, and not as git left it: {error.message}", way_out) from error
    return ours, theirs


def sides(data: bytes) -> tuple[bytes, bytes] | None:
    """Return both sides of a conflicted file, ours and theirs; None without a conflict that is whole."""
    ours, theirs = list[bytes](), list[bytes]()
    state, count = _In.BOTH, 0
    for line in data.splitlines(keepends=True):
        marker = _MARKER.fullmatch(line)
        if marker is None:
            if state in (_In.BOTH, _In.OURS):
                ours.append(line)
            if state in (_In.BOTH, _In.THEIRS):
                theirs.append(line)
            continue
        following = _STEPS.get((state, marker[1] or marker[2]))
        if following is None:
            return None
        state, count = following, count + 1
    return (b"".join(ours), b"".join(theirs)) if count and state is _In.BOTH else None
