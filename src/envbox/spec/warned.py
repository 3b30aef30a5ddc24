"""What a person should be told about a spec that can be used."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from envbox.mirrors import public
from envbox.spec.text import SELECTED, SELECTORS

_KNOWN = {
    "name", "channels", "dependencies", "prefix", "variables",  # conda's
    "platforms", "category", "pip-repositories", "allow-pypi-requests",  # conda-lock's
}  # fmt: skip
_SELECTORS = frozenset().union(*SELECTORS.values())
_LICENSED = re.compile(r"(defaults|main|r|msys2|pkgs/.*|https?://repo\.anaconda\.com/.*)/?")


def warnings_of(document: Mapping[str, Any], text: str, channels: Sequence[str]) -> tuple[str, ...]:
    """Warn of what means less, or more, than it looks."""
    return (*_of_channels(channels), *_of_keys(document), *_of_selectors(text))


def _of_channels(channels: Sequence[str]) -> Iterator[str]:
    for channel in channels:
        if _LICENSED.fullmatch(channel):
            yield (
                f"the channel {channel} is under Anaconda's terms of service, which may ask your "
                "organisation to pay (conda-forge does not)"
            )
        elif channel.startswith("file:"):
            yield f"the channel {channel} is a folder of this machine: nobody else can use what is locked"
        elif channel.startswith("http://") and not re.match(r"http://(127\.|localhost\b)", channel):
            yield f"the channel {public(channel)} is asked in the clear: write https:// where it has it"


def _of_keys(document: Mapping[str, Any]) -> Iterator[str]:
    for key in document:
        if key not in _KNOWN and not str(key).startswith(("x-", ".", "_")):
            where = "; it belongs under `dependencies:`, as `- pip:`" if key == "pip" else ""
            yield f"`{str(key)[:40]}` means nothing in a spec, and is passed over{where}"


def _of_selectors(text: str) -> Iterator[str]:
    for number, line in enumerate(text.split("\n"), 1):
        found = None if line.lstrip().startswith("#") else SELECTED.match(line)
        if found and found[3] not in _SELECTORS:
            yield (
                f"line {number}: the selector [{found[3]}] is not known, so the line is left out everywhere; "
                f"selectors are {', '.join(sorted(_SELECTORS))}"
            )
