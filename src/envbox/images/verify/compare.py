"""Two images compared, from the outside in: which layers, then which entries and which of their fields. Pure.

Layers are told apart by diff_id and lined up like lines of text, so that one layer too many does not make
every other one differ. What differs is said once, at the innermost place that explains it.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from envbox.images.saved import Entry
from envbox.images.saved_tree import hides, is_whiteout
from envbox.oci import Digest
from envbox.packages.link.tar import DIRECTORY, FILE, HARD_LINK, SYMLINK

Owner = Callable[[str], str | None]
"""Path (relative to `/`) → the package that it is from."""

_KINDS = {FILE: "file", HARD_LINK: "hard link", SYMLINK: "symlink", DIRECTORY: "directory"}


@dataclass(frozen=True, slots=True)
class FileDifference:
    """One thing that is not as it should be.

    :param path: of the file, with a leading slash; of a layer, the config or the manifest: the key in it
    :param field: content, mode, mtime, owner, link target, attributes, kind; missing, extra, twice, order,
        encoding; value
    :param expected: in words for a person; empty where there should be nothing
    :param package: that the file is from; None when no package has it
    """

    path: str
    field: str
    expected: str
    found: str
    package: str | None = None


def paired_layers(
    expected: Sequence[Digest], found: Sequence[Digest]
) -> Iterator[tuple[int | None, int | None]]:
    """Yield the layers that differ, by their numbers: (expected, found), None where one side has none."""
    matcher = SequenceMatcher(None, expected, found, autojunk=False)
    for tag, start, end, other_start, other_end in matcher.get_opcodes():
        if tag == "equal":
            continue
        here, there = list(range(start, end)), list(range(other_start, other_end))
        for n in range(max(len(here), len(there))):
            yield (here[n] if n < len(here) else None, there[n] if n < len(there) else None)


def compare_entries(
    expected: Sequence[Entry], found: Sequence[Entry], owner: Owner, where: str
) -> Iterator[FileDifference]:
    """Say what differs between two layers that are not the same bytes; at least one thing is said.

    :param where: the layer's name, for what is not of one entry
    """
    wanted = {entry.path: entry for entry in expected}
    seen: set[str] = set()
    silent = True
    for entry in found:
        package = owner(entry.path)
        if entry.path in seen:
            differences = [FileDifference(f"/{entry.path}", "twice", "", _in_words(entry), package)]
        elif entry.path not in wanted:
            differences = [FileDifference(f"/{entry.path}", "extra", "", _in_words(entry), package)]
        else:
            differences = list(compare_entry(wanted[entry.path], entry, package))
        seen.add(entry.path)
        silent = silent and not differences
        yield from differences
    for entry in expected:
        if entry.path not in seen:
            silent = False
            yield FileDifference(f"/{entry.path}", "missing", _in_words(entry), "", owner(entry.path))
    if silent:
        yield _arrangement(expected, found, owner, where)


def compare_on_top(
    below: Mapping[str, Entry], found: Sequence[Entry], owner: Owner, where: str
) -> Iterator[FileDifference]:
    """Say what a layer that should not be there does to what should; at least one thing is said.

    :param below: what should be at each path, all layers laid over each other
    """
    silent = True
    for entry in found:
        if is_whiteout(entry.path):
            gone = [path for path in below if hides(entry.path, path) and below[path].kind != DIRECTORY]
            differences = [
                FileDifference(f"/{path}", "missing", _in_words(below[path]), "", owner(path))
                for path in gone
            ]
        elif entry.path in below:
            differences = list(compare_entry(below[entry.path], entry, owner(entry.path)))
        else:
            differences = [FileDifference(f"/{entry.path}", "extra", "", _in_words(entry), None)]
        silent = silent and not differences
        yield from differences
    if silent:
        yield FileDifference(where, "extra", "", "a layer that changes nothing")


def compare_entry(expected: Entry, found: Entry, package: str | None) -> Iterator[FileDifference]:
    """Yield the fields in which two entries of one path differ."""
    path = f"/{found.path}"
    if expected.kind != found.kind:
        yield FileDifference(path, "kind", _in_words(expected), _in_words(found), package)
        return
    if (expected.sha256, expected.size) != (found.sha256, found.size):
        yield FileDifference(path, "content", _in_words(expected), _in_words(found), package)
    if expected.link != found.link:
        name = "link target" if found.kind == SYMLINK else "content"
        yield FileDifference(path, name, expected.link, found.link, package)
    if expected.mode != found.mode:
        yield FileDifference(path, "mode", f"{expected.mode:04o}", f"{found.mode:04o}", package)
    if expected.mtime != found.mtime:
        yield FileDifference(path, "mtime", str(expected.mtime), str(found.mtime), package)
    if expected.owner != found.owner:
        yield FileDifference(path, "owner", _pair(expected.owner), _pair(found.owner), package)
    if expected.attributes != found.attributes:
        yield FileDifference(path, "attributes", _names(expected), _names(found), package)


def compare_values(expected: Any, found: Any, path: str = "config") -> Iterator[FileDifference]:
    """Yield what differs between two values of JSON, by key."""
    if isinstance(expected, Mapping) and isinstance(found, Mapping):
        for key in sorted(expected.keys() | found.keys()):
            inner = f"{path}.{key}"
            if key not in found:
                yield FileDifference(inner, "missing", str(expected[key]), "")
            elif key not in expected:
                yield FileDifference(inner, "extra", "", str(found[key]))
            else:
                yield from compare_values(expected[key], found[key], inner)
    elif isinstance(expected, list) and isinstance(found, list):
        for number, (one, other) in enumerate(zip(expected, found, strict=False)):
            yield from compare_values(one, other, f"{path}[{number}]")
        for number in range(len(found), len(expected)):
            yield FileDifference(f"{path}[{number}]", "missing", str(expected[number]), "")
        for number in range(len(expected), len(found)):
            yield FileDifference(f"{path}[{number}]", "extra", "", str(found[number]))
    elif expected != found or type(expected) is not type(found):
        yield FileDifference(path, "value", str(expected), str(found))


def _arrangement(
    expected: Sequence[Entry], found: Sequence[Entry], owner: Owner, where: str
) -> FileDifference:
    """Return how two tars differ in which every entry is as it should be."""
    for one, other in zip(expected, found, strict=False):
        if one.path != other.path:
            return FileDifference(
                f"/{other.path}", "order", f"/{one.path}", f"/{other.path}", owner(other.path)
            )
    return FileDifference(
        where, "encoding", "the tar that envbox writes", "a tar that says the same otherwise"
    )


def _in_words(entry: Entry) -> str:
    kind = _KINDS.get(entry.kind, f"type {entry.kind!r}")
    if entry.kind == FILE:
        return f"{entry.size} bytes, sha256 {entry.sha256}" if entry.sha256 else f"{entry.size} bytes"
    if entry.link:
        return f"{kind} to {entry.link}"
    return kind if entry.kind in _KINDS else f"{kind}, {stat.filemode(entry.mode)}"


def _pair(owner: tuple[int, int]) -> str:
    return f"{owner[0]}:{owner[1]}"


def _names(entry: Entry) -> str:
    return ", ".join(f"{name}={value.hex()}" for name, value in entry.attributes)
