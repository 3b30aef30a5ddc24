"""Real files gone wrong, as strategies: bytes flipped, cut, repeated; a value somewhere that is of no use."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

TOKENS = (
    b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"\r", b"\t", b"\n\n", b"&a ", b"*a",
    b"? ", b"!!python/name:os.system ",
    b"[&a [x,x,x,x,x,x,x], &b [*a,*a,*a,*a,*a,*a,*a], &c [*b,*b,*b,*b,*b,*b], &d [*c,*c,*c,*c,*c], [*d,*d]]",
    b"- ", b": ", b"{", b"[" * 2000, b"{" * 2000, b"9" * 5000, b"'", b'"', b"%2e%2e%2f", b"<<<<<<< ours\n",
    b"=======\n", b">>>>>>> theirs\n", b"||||||| base\n", b"<<: ", b"---\n", b"...\n", b"\xe2\x80\xa8", b"#",
)  # fmt: skip


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    found: list[Any] = []
    for _ in range(levels):
        found = [found]
    return found


VALUES = (
    None, True, False, 0, -1, 1 << 70, 10**4000, float("nan"), float("inf"), "", " ", "\0", "\ud800",
    "..", "a\nb",
    "../../x", "=", "x" * 100_000, [], {}, [None], {"": None}, deep(50), {"a": deep(20)}, "https://[", "file://",
    "https://h/../../%2e%2e%2fx-1-0.conda", "http://a:b@h/x", "!!", "\u202e", "9" * 5000, "{{ x }}", "&a",
)  # fmt: skip


@st.composite
def broken(draw: st.DrawFn, data: bytes) -> bytes:
    """A file with a few things wrong in its bytes."""
    for _ in range(draw(st.integers(1, 4))):
        where = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["flip", "cut", "lose", "repeat", "token", "line"]))
        if kind == "flip" and where < len(data):
            data = data[:where] + bytes([data[where] ^ (1 << draw(st.integers(0, 7)))]) + data[where + 1 :]
        elif kind == "cut":
            data = data[:where]
        elif kind == "lose":
            data = data[:where] + data[where + draw(st.integers(1, 60)) :]
        elif kind == "repeat":
            data = data[:where] + data[max(0, where - draw(st.integers(1, 400))) :]
        elif kind == "token":
            data = data[:where] + draw(st.sampled_from(TOKENS)) + data[where:]
        elif kind == "line":  # twice: a key, or an entry
            begin = data.rfind(b"\n", 0, where) + 1
            end = data.find(b"\n", where) + 1 or len(data)
            data = data[:end] + data[begin:end] + data[end:]
    return data


@st.composite
def warped(draw: st.DrawFn, document: Any) -> Any:
    """A document in which a few values, or keys, are of no use."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(document))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        what = draw(st.sampled_from(["value", "value", "value", "gone", "key", "number"]))
        if what == "value":
            holder[key] = copy.deepcopy(draw(st.sampled_from(VALUES)))
        elif what == "gone":
            del holder[key]
        elif what == "key" and isinstance(holder, dict):
            holder[draw(st.sampled_from(["", "\0", "x" * 300, "../x", "version", "__proto__"]))] = holder.pop(
                key
            )
        elif what == "number":
            holder[key] = draw(st.integers() | st.floats())
    return document


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Where in a document something stands."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)
