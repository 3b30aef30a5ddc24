"""What registries answer, and why one does not: in words for a person."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envbox.mirrors import public

if TYPE_CHECKING:
    import requests


def reason(error: Exception) -> str:
    """Why a connection failed, in the words of the system rather than of three libraries."""
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
    """The registry's own words, from the error format of the distribution specification."""
    import requests

    try:
        errors = response.json()["errors"]
        return (
            ": " + "; ".join(str(e.get("message") or e.get("code")) for e in errors)[:200] if errors else ""
        )
    except (requests.RequestException, ValueError, KeyError, TypeError, AttributeError):
        return ""


def seconds(text: str) -> float:
    """How long a `Retry-After` header says to wait; 0 when it gives a date, or nothing."""
    return float(text) if text.isdecimal() else 0.0
