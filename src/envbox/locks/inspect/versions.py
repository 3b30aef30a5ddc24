"""Which of two versions is the newer one, without the solver.

Importing rattler takes longer than reading a lockfile does, and all that is wanted of it here is an order. So
this is conda's, which holds for PEP 440's versions as well, but for what a release never has.

Follows VersionOrder of conda/models/version.py; held against rattler's in a test.
"""

from __future__ import annotations

import re
from functools import cmp_to_key, lru_cache
from itertools import zip_longest

Part = tuple[int | float | str, ...]

_PIECE = re.compile(r"[0-9]+|\*+|[^0-9*]+")
_NAMED: dict[str, float | str] = {"post": float("inf"), "dev": "DEV"}  # upper case sorts before any letter


def compare(one: str, other: str) -> int:
    """Return negative when `one` is older than `other`, positive when it is newer; 0 when they are the
    same.
    """
    for a, b in zip(_parts(one), _parts(other), strict=True):
        if found := _compare_lists(a, b):
            return found
    return 0


version_key = cmp_to_key(compare)
"""For sorting versions as texts, the oldest first."""


@lru_cache(maxsize=1 << 14)
def _parts(text: str) -> tuple[tuple[Part, ...], tuple[Part, ...], tuple[Part, ...]]:
    """Split into epoch, version and local version."""
    text = text.strip().lower()
    if "_" not in text:
        text = text.replace("-", "_")
    epoch, mark, rest = text.partition("!")
    if not mark:
        epoch, rest = "0", text
    public, _, local = rest.partition("+")
    end = "_" if public.endswith("_") else ""  # as in openssl's `1.0.1_`: belongs to what is before it
    return _split(epoch), _split(public.removesuffix("_"), end), _split(local)


def _split(text: str, end: str = "") -> tuple[Part, ...]:
    if not text:
        return ()
    *others, last = text.replace("_", ".").split(".")
    return tuple(_part(part) for part in (*others, last + end))


def _part(text: str) -> Part:
    pieces = [int(p) if p.isdecimal() else _NAMED.get(p, p) for p in _PIECE.findall(text)]
    return tuple(pieces) if text[:1].isdecimal() else (0, *pieces)


def _compare_lists(one: tuple[Part, ...], other: tuple[Part, ...]) -> int:
    nothing: Part = ()
    for a, b in zip_longest(one, other, fillvalue=nothing):
        for left, right in zip_longest(a, b, fillvalue=0):
            if found := _compare_pieces(left, right):
                return found
    return 0


def _compare_pieces(one: float | str, other: float | str) -> int:
    if isinstance(one, str) and isinstance(other, str):
        return (one > other) - (one < other)
    if isinstance(one, str) or isinstance(other, str):
        return -1 if isinstance(one, str) else 1  # letters are of before a release: 1.0a < 1.0
    return (one > other) - (one < other)
