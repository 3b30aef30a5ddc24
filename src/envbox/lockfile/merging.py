"""A lockfile in which git left conflict markers: taken apart into the two files that were to be merged.

Neither side of a conflict can be taken line by line: half of one solution and half of another is none. So
both files are given back whole, for `lock` to prefer what is in them, and the spec decides.

Format: https://git-scm.com/docs/git-merge#_how_conflicts_are_presented, also in the style diff3 and zdiff3
"""

from __future__ import annotations

import re
from enum import Enum, auto

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


def sides(data: bytes) -> tuple[bytes, bytes] | None:
    """Both sides of a conflicted file, ours and theirs; None without a conflict that is whole."""
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
