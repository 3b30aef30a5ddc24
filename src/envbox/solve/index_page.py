"""A project's page in a package index → the files that it names, and what it says of each.

Two formats say the same: JSON (PEP 691), and HTML, which has no times of upload.

Specification: https://packaging.python.org/en/latest/specifications/simple-repository-api/
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from html import unescape
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from envbox.errors import ToolError
from envbox.mirrors import public

_LINK = re.compile(r"<a\s([^>]*)>", re.IGNORECASE)
_BASE = re.compile(r"<base\s([^>]*)>", re.IGNORECASE)
_ATTRIBUTE = re.compile(r"""([\w-]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'))?""")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class File:
    """One file of a project.

    :param url: where this index, or its mirror, has it
    :param requires: versions of Python that it asks for, as a specifier
    :param yanked: why it should not be taken (PEP 592), which may be ""; None: it may be
    :param uploaded: when (PEP 700), with a time zone; None: the index does not say
    :param has_metadata: whether its metadata can be had beside it (PEP 658)
    :param metadata_sha256: of that, where the index says
    """

    name: str
    url: str
    sha256: str | None = None
    requires: str = ""
    yanked: str | None = None
    uploaded: datetime | None = None
    has_metadata: bool = False
    metadata_sha256: str | None = None


def no_index(address: str) -> ToolError:
    """Say that what an address answers is something else."""
    return ToolError(
        f"what {public(address)} answers is no list of files of a package index", "check the index's address"
    )


def from_json(data: bytes, address: str) -> Iterator[File]:
    """Read a page of JSON.

    :param address: that the links in it start from
    :raises ToolError: when it is something else
    """
    try:
        for file in json.loads(data)["files"]:
            told = next((file[k] for k in ("core-metadata", "dist-info-metadata") if k in file), False)
            yanked = file.get("yanked") or None
            yield File(
                name=str(file["filename"]),
                url=urljoin(address, str(file["url"])),
                sha256=_hash(file["hashes"].get("sha256")),
                requires=str(file.get("requires-python") or ""),
                yanked=("" if yanked is True else str(yanked)) if yanked else None,
                uploaded=_time(file.get("upload-time")),
                has_metadata=bool(told),
                metadata_sha256=_hash(told.get("sha256")) if isinstance(told, dict) else None,
            )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise no_index(address) from error


def from_html(page: str, address: str) -> Iterator[File]:
    """Read a page of HTML.

    :param address: that the links in it start from
    :raises ToolError: when it is something else
    """
    if "<" not in page:
        raise no_index(address)
    if base := _BASE.search(page):
        address = urljoin(address, _attributes(base[1]).get("href", ""))
    for link in _LINK.finditer(page):
        said = _attributes(link[1])
        try:
            url, fragment = urldefrag(urljoin(address, said["href"]))
            path = urlsplit(url).path
        except (KeyError, ValueError):
            continue  # a link to nowhere
        told = said.get("data-core-metadata", said.get("data-dist-info-metadata"))
        yield File(
            name=unquote(path.rsplit("/", 1)[-1]),
            url=url,
            sha256=_hash(fragment.removeprefix("sha256=")),
            requires=said.get("data-requires-python", ""),
            yanked=said.get("data-yanked"),
            has_metadata=told is not None and told != "false",
            metadata_sha256=_hash((told or "").removeprefix("sha256=")),
        )


def _attributes(text: str) -> dict[str, str]:
    return {a[1].lower(): unescape(a[2] or a[3] or "") for a in _ATTRIBUTE.finditer(text)}


def _hash(value: Any) -> str | None:
    return value.lower() if isinstance(value, str) and _SHA256.fullmatch(value.lower()) else None


def _time(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
