"""A project's page in a package index → the files that it names, and what it says of each.

Two formats say the same: JSON (PEP 691), and HTML, which has no times of upload.

Specification: https://packaging.python.org/en/latest/specifications/simple-repository-api/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from html import unescape
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from envbox.documents import read_json
from envbox.errors import ToolError
from envbox.mirrors import public

_TAG = re.compile(r"<(a|base)\s", re.IGNORECASE)
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
        for file in read_json(data)["files"]:
            url, sha256 = _linked(address, str(file["url"])), _hash(file["hashes"].get("sha256"))
            if url is None or unquote(urlsplit(url).path.rsplit("/", 1)[-1]) != file["filename"]:
                continue  # what is locked is known by its address, and so by the name in that
            told = next((file[k] for k in ("core-metadata", "dist-info-metadata") if k in file), False)
            yanked = file.get("yanked") or None
            yield File(
                name=str(file["filename"]),
                url=url,
                sha256=sha256,
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
    base = next((said for kind, said in _tags(page) if kind == "base"), {})
    start = _linked(address, base.get("href", "")) or address
    for kind, said in _tags(page):
        url, fragment = urldefrag(_linked(start, said.get("href", "")) or "") if kind == "a" else ("", "")
        path = urlsplit(url).path
        if not path:
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


def _linked(address: str, link: str) -> str | None:
    """Return where a link leads; None where that is no file that can be fetched.

    From a server to servers alone: a page that names `file:` would have this machine's files in a lock.
    """
    try:
        found = urljoin(address, link.strip())
        scheme, host = urlsplit(found).scheme, urlsplit(found).hostname
        urlsplit(found).port  # noqa: B018 - raises where it is none
    except ValueError:
        return None
    if scheme == "file":
        return found if urlsplit(address).scheme == "file" and not host else None
    return found if scheme in ("http", "https") and host else None


def _tags(page: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the links and bases of a page: name of the tag, attributes. In one pass, whatever the page is."""
    at = 0
    while found := _TAG.search(page, at):
        end = page.find(">", found.end())
        if end < 0:
            return
        yield found[1].lower(), _attributes(page[found.end() : end])
        at = end


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
