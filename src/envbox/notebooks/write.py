"""Notebooks written as they were: their indentation, order, line ends and what stands at their end.

What a program wrote is written again in its way. What a person laid out follows no rule, so there one value
is put into the text where it belongs, and all else stays.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from envbox.errors import NotebookError

_MARK = b"\xef\xbb\xbf"
_BLANKS = re.compile(r"[ \t\r\n]*")


def written_like(data: bytes, before: Mapping[str, Any], after: Mapping[str, Any]) -> bytes:
    """Write a document as the file was that it came from; where that cannot be found out, as Jupyter does."""
    return _in_its_way(data, before, after) or _as_jupyter(after)


def with_metadata(data: bytes, before: Mapping[str, Any], key: str, value: Mapping[str, Any]) -> bytes:
    """Set one key of a notebook's metadata, and leave every other byte as it is, however it is laid out.

    :param data: the file, which can be read as `before`
    """
    after = {**before, "metadata": {**before.get("metadata", {}), key: value}}
    if found := _in_its_way(data, before, after):
        return found
    mark = _MARK if data.startswith(_MARK) else b""
    text = mark + _put(data[len(mark) :].decode(), key, value).encode()
    read = json.loads(text.decode("utf-8-sig"))
    is_same = json.dumps(read, sort_keys=True) == json.dumps(after, sort_keys=True)
    return text if is_same else _as_jupyter(after)


def _in_its_way(data: bytes, before: Mapping[str, Any], after: Mapping[str, Any]) -> bytes | None:
    """Write a document by the rule that its file follows; None when it follows none."""
    mark = _MARK if data.startswith(_MARK) else b""
    body = data[len(mark) :].rstrip()
    tail = data[len(mark) + len(body) :]
    breaks = b"\r\n" if b"\r\n" in body else b"\n"
    found = re.match(rb"\s*\{\r?\n([ \t]*)", body)
    indent = found[1].decode() if found else None
    for ascii_only, tight in itertools.product((False, True), repeat=2):
        separators = (",", ":") if tight else None
        form: dict[str, Any] = {"indent": indent, "ensure_ascii": ascii_only, "separators": separators}
        if _dumped(before, **form).replace(b"\n", breaks) == body:
            return mark + _dumped(after, **form).replace(b"\n", breaks) + tail
    return None


def _as_jupyter(value: Mapping[str, Any]) -> bytes:
    return _dumped(value, indent=1, ensure_ascii=False, sort_keys=True) + b"\n"


def _dumped(value: Mapping[str, Any], **form: Any) -> bytes:
    """Write JSON in UTF-8, which has no half of a surrogate pair: one is written as its escape."""
    try:
        return json.dumps(value, **form).encode("utf-8", "backslashreplace")
    except RecursionError:
        raise NotebookError("the notebook cannot be written: its JSON is nested too deep") from None


# --- one value in a text that a person laid out --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _JsonMember:
    """A key of an object in a text, and where its value lies.

    :param begin: where the key does
    """

    key: str
    begin: int
    value: int
    end: int


def _put(text: str, key: str, value: Mapping[str, Any]) -> str:
    """Put a value into the object `metadata` of the object that a text is."""
    top = _BLANKS.match(text).end()  # type: ignore[union-attr]
    held = [member for member in _members(text, top) if member.key == "metadata"]
    shown = json.dumps(value)
    if not held:
        first = _members(text, top)[0]
        return f'{text[: first.begin]}"metadata": {{"{key}": {shown}}}, {text[first.begin :]}'
    metadata = held[-1]  # of two, the last is the one that counts
    members = _members(text, metadata.value)
    if mine := [member for member in members if member.key == key]:
        return text[: mine[-1].value] + shown + text[mine[-1].end :]
    if not members:
        return f'{text[: metadata.value]}{{"{key}": {shown}}}{text[metadata.end :]}'
    last = members[-1]
    between = text[members[-2].end : last.begin] if len(members) > 1 else _before(text, metadata, last)
    return f'{text[: last.end]}{between}"{key}": {shown}{text[last.end :]}'


def _before(text: str, metadata: _JsonMember, only: _JsonMember) -> str:
    """Return what would stand before a second member, by what stands before the only one."""
    return "," + (text[metadata.value + 1 : only.begin] or " ")


def _members(text: str, begin: int) -> list[_JsonMember]:
    """Return the members of the object that begins there."""
    decode, found = json.JSONDecoder().raw_decode, []
    at = _after_blanks(text, begin + 1)
    while text[at] != "}":
        key, end = decode(text, at)
        value = _after_blanks(text, _after_blanks(text, end) + 1)  # behind the colon
        end = decode(text, value)[1]
        found.append(_JsonMember(key, at, value, end))
        at = _after_blanks(text, end)
        at = _after_blanks(text, at + 1) if text[at] == "," else at
    return found


def _after_blanks(text: str, at: int) -> int:
    return _BLANKS.match(text, at).end()  # type: ignore[union-attr]
