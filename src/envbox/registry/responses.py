"""What registries answer, and why one does not: in words for a person."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from envbox.errors import ToolError
from envbox.mirrors import public

if TYPE_CHECKING:
    import requests

LARGEST_ANSWER = 2**20  # bytes of a token or of an error's words
LONGEST_ANSWER = 120.0  # seconds that a document may take that is not a layer
_PIECE = 2**14


def read_bounded(response: requests.Response, most: int, what: str) -> bytes:
    """Return the body of an answer that is a small document.

    :param most: bytes
    :param what: it is, for an error
    :raises ToolError: when it does not end
    :raises requests.RequestException: when the connection fails
    """
    data, end = b"", time.monotonic() + LONGEST_ANSWER
    try:
        for chunk in response.iter_content(_PIECE):
            data += chunk
            if len(data) > most:
                raise ToolError(f"{what} is larger than the {most >> 10} KiB that it may be")
            if time.monotonic() > end:
                raise ToolError(f"{what} does not come to its end in {LONGEST_ANSWER:.0f} seconds")
    finally:
        response.close()
    return data


def read_json(response: requests.Response, what: str) -> Any:
    """Return the value of an answer in JSON.

    :raises ValueError: when it is none
    :raises ToolError: when it does not end
    """
    try:
        return json.loads(read_bounded(response, LARGEST_ANSWER, what))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def reason(error: Exception) -> str:
    """Return why a connection failed, in the words of the system rather than of three libraries."""
    text = str(error)
    if found := re.search(r"\[Errno -?\d+\] ([^'\")(\[]+)", text):
        return found[1].strip().lower()
    if "timed out" in text:
        return "it does not answer in time"
    if found := re.search(r"certificate verify failed: ([^(\"']+)", text):
        return f"its certificate is not trusted: {found[1].strip()}"
    if "NameResolutionError" in text or "Failed to resolve" in text:
        return "there is no host of that name"
    return public(text.partition("\n")[0])[:200] or type(error).__name__


def said(response: requests.Response) -> str:
    """Return the registry's own words, from the error format of the distribution specification."""
    import requests

    try:
        errors = read_json(response, "the answer")["errors"]
        return (
            ": " + "; ".join(str(e.get("message") or e.get("code")) for e in errors)[:200] if errors else ""
        )
    except (requests.RequestException, ToolError, ValueError, KeyError, TypeError, AttributeError):
        return ""


def seconds(text: str) -> float:
    """Return how long a `Retry-After` header says to wait, in seconds or until a date; 0 when it says
    nothing.

    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0
