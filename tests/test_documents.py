"""JSON of others ends as a fault of JSON, whatever it is."""

from __future__ import annotations

import json

import pytest

from envbox.documents import DEEPEST, read_json


@pytest.mark.parametrize("opening", ['{"a":', "[", '[{"a":', " [ "])
@pytest.mark.parametrize("number", [150_000, 900, DEEPEST + 1])
def test_nesting_without_end_is_a_fault_of_json(opening: str, number: int) -> None:
    closing = "".join({"{": "}", "[": "]"}[c] for c in reversed(opening) if c in "{[")
    with pytest.raises(json.JSONDecodeError, match="nested deeper"):
        read_json(opening * number + "1" + closing * number)


def test_a_number_without_end_is_a_fault_of_json() -> None:
    with pytest.raises(json.JSONDecodeError, match="digits"):
        read_json(b"9" * 10_000)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"nan"])
def test_what_is_no_json_is_told_as_ever(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_json(data)


@pytest.mark.parametrize("value", [None, 1, "a", [], {}, [[{"a": [1]}]], {"a": {"b": [{}]}}])
def test_what_is_json_is_read(value: object) -> None:
    assert read_json(json.dumps(value)) == value


def test_what_could_be_read_can_be_written() -> None:
    assert json.dumps(read_json("[" * DEEPEST + "]" * DEEPEST))
