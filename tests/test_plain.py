"""Reading and writing a lockfile without a YAML library says what YAML says, or leaves it to that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.lock_values import HERE, MAPS, lock_of, locks, package

from envbox.errors import LockfileError
from envbox.lockfile import Lock
from envbox.lockfile.conda_lock_v1 import dumps, loads
from envbox.lockfile.plain import read_plain, write_plain

SLOW = [HealthCheck.too_slow]
WORDS = ["1.10", "1e3", "0x1f", "0b1", "1_000", "1:30", "017", "2024-01-01", "no", "on", "True", "null", "~"]
WORDS += [
    "<<",
    "=",
    "",
    " ",
    "a b",
    "a  b",
    "a #b",
    "a: b",
    "a:",
    "it's",
    '"',
    "'",
    "''",
    ">=2",
    "*",
    "&a",
    "!t",
]
WORDS += [
    "- a",
    "? a",
    "@a",
    "`a",
    "%a",
    "[a]",
    "{a}",
    "a,b",
    "ü",
    "\u2028",
    "a\nb",
    "a\tb",
    "\x07",
    "\ufeff",
    ".5",
]
WORDS += ["..", "-1", "+1", ".inf", "yes", "y", "1." + "0" * 200, "a" * 200, "12" * 32, "0" * 32, "1e5" * 2]


def texts() -> st.SearchStrategy[str]:
    return st.sampled_from(WORDS) | st.text(max_size=5) | st.text("01.e:xn#' -", max_size=5)


@st.composite
def odd_locks(draw: st.DrawFn) -> Lock:
    """Locks whose texts are what YAML has a meaning of its own for."""
    plain = st.sampled_from(["a", "b-c", "_d"])  # or hardly any would be written without the library
    names = draw(st.lists(plain | texts().filter(bool), min_size=1, max_size=3, unique=True))
    made = [
        replace(
            package("a"),
            name=name,
            version=draw(texts()),
            depends=draw(st.dictionaries(plain | texts(), texts(), max_size=3)),
            url=draw(texts()),
            sha256=draw(st.sampled_from(["a" * 64, "1" * 64, "1e" * 32, "0" * 64])),
            md5=draw(st.sampled_from([None, "b" * 32, "7" * 32, "1e" * 16])),
            category=draw(st.sampled_from(["main", "dev", "null"])),
        )
        for name in names
    ]
    return replace(MAPS, packages=tuple(made))


def written_by_yaml(lock: Lock) -> bytes:
    with mock.patch("envbox.lockfile.conda_lock_v1.write_plain", return_value=None):
        return dumps(lock)


@given(locks() | odd_locks())
@settings(max_examples=300, suppress_health_check=SLOW, deadline=None)
def test_what_is_written_is_what_yaml_writes(lock: Lock) -> None:
    assert dumps(lock) == written_by_yaml(lock)


@given(locks() | odd_locks())
@settings(max_examples=300, suppress_health_check=SLOW, deadline=None)
def test_what_is_read_is_what_yaml_reads(lock: Lock) -> None:
    data = dumps(lock)
    document = read_plain(data)
    assert document is None or document == yaml.safe_load(data)


def test_an_ordinary_lockfile_needs_no_yaml_library_for_its_packages() -> None:
    named = replace(
        MAPS.packages[0], depends={"_libgcc_mutex": "0.1 conda_forge", "python_abi": "3.11.* *_cp311"}
    )
    ordinary = lock_of(named, *(package(n) for n in ("_libgcc_mutex", "python_abi", "7zip")))
    assert write_plain(ordinary.packages) is not None
    assert read_plain(dumps(ordinary)) == yaml.safe_load(dumps(ordinary))


LINES = dumps(MAPS).decode().split("\n")
PIECES = [
    "'",
    '"',
    "#",
    " #",
    ": ",
    ":",
    " ",
    "  ",
    "\t",
    "\r",
    "\n",
    "-",
    "- ",
    "&a ",
    "*a",
    "!",
    "|",
    ">",
    "{}",
]
PIECES += [
    "~",
    "1",
    "1.0",
    "null",
    "? ",
    "---\n",
    "...\n",
    "\x85",
    "\u2028",
    "\ufeff",
    "ü",
    "\x00",
    "package:\n",
]
PIECES += ["metadata:\n", "version: 1\n", "''", "\\", "%", "@", "`", "[", "]", ","]


@given(st.integers(0, len(LINES) - 1), st.floats(0, 1), st.integers(0, 4), st.sampled_from(PIECES))
@settings(max_examples=1500, deadline=None)
def test_an_edit_is_read_as_yaml_reads_it(row: int, place: float, gone: int, piece: str) -> None:
    line = LINES[row]
    column = round(place * len(line))
    lines = [*LINES[:row], line[:column] + piece + line[column + gone :], *LINES[row + 1 :]]
    check("\n".join(lines))


@given(st.lists(st.sampled_from(LINES), max_size=4), st.integers(0, len(LINES)), st.integers(0, 4))
@settings(max_examples=500, deadline=None)
@example([], 0, 0)
def test_lines_put_in_or_left_out_are_read_as_yaml_reads_them(lines: list[str], row: int, gone: int) -> None:
    check("\n".join([*LINES[:row], *lines, *LINES[row + gone :]]))


def check(text: str) -> None:
    data = text.encode()
    document: Any = read_plain(data)
    assert document is None or document == yaml.load(data, Loader=yaml.CSafeLoader)


@pytest.mark.parametrize("value", ["1.10", "on", "2024-01-01", "0x10", "1:30", "~"])
def test_a_version_that_is_no_text_is_refused_by_either(value: str) -> None:
    data = dumps(MAPS).replace(b"version: 3.11.7", f"version: {value}".encode(), 1)
    with pytest.raises(LockfileError, match=r"should be text, in quotes|has no `version`"):
        loads(data, HERE)
