"""What a person should be told about a spec that can be used."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from envbox.locks.spec.document import Document
from envbox.locks.spec.selectors import KNOWN
from envbox.mirrors import public

_KNOWN = {
    "name", "channels", "dependencies", "prefix", "variables",  # conda's
    "platforms", "category", "pip-repositories", "allow-pypi-requests",  # conda-lock's
}  # fmt: skip
_LICENSED = re.compile(r"(defaults|main|r|msys2|pkgs/.*|https?://repo\.anaconda\.com/.*)/?")


def warnings_of(document: Document, channels: Sequence[str]) -> tuple[str, ...]:
    """Warn of what means less, or more, than it looks."""
    return (*_of_channels(channels), *_of_keys(document.values), *_of_selectors(document))


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


def _of_selectors(document: Document) -> Iterator[str]:
    unknown = {document.lines[p]: s for p, s in document.selectors.items() if s not in KNOWN}
    for number, selector in sorted(unknown.items()):
        yield (
            f"line {number}: the selector [{selector}] is not known, so its dependency is left out "
            f"everywhere; selectors are {', '.join(sorted(KNOWN))}"
        )
    for number, selector in document.idle.items():
        yield f"line {number}: the selector [{selector}] has no effect: only dependencies have selectors"
