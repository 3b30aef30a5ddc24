"""The package list of a lockfile as envbox writes it, read and written without a YAML library.

A lockfile of 500 packages for 4 platforms is a megabyte, and the fastest YAML parser takes most of a second
for it, each time anything is asked. But what `dumps` writes is one shape, repeated: so a pattern reads it,
fifty times as fast. The difficulty is to say the same as YAML would. The pattern takes printable ASCII in
plain or single quotes, line by line, and nothing whose meaning depends on more than its line; whatever else
stands there (an edit, a comment, another tool's order) is left to the YAML library, the whole file.

Specification: https://yaml.org/spec/1.1/, as libyaml reads and writes it
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache, lru_cache
from typing import Any

from envbox.lockfile import LockedPackage

_PLAIN = r'[A-Za-z0-9_<](?:[!-9;-~]|:(?=[!-~])| (?=[!"$-~]))*'  # neither `: ` nor ` #` nor a blank at the end
_KEY = r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}"  # a key of more than 128 characters is written otherwise
_TEXT = rf"(?:{_PLAIN}|'[ -&(-~]*')"
_ENTRY = re.compile(
    rf"- name: ({_TEXT})\n"
    rf"  version: ({_TEXT})\n"
    r"  manager: (conda|pip)\n"
    r"  platform: ([a-z][a-z0-9-]*)\n"
    rf"  dependencies:(?: \{{\}}\n|\n((?:    {_KEY}: {_TEXT}\n)+))"
    rf"  url: ({_TEXT})\n"
    r"  hash:\n"
    r"(?:    md5: ([0-9a-f]{32})\n)?"
    r"    sha256: ([0-9a-f]{64})\n"
    r"  category: ([a-z]+)\n"
    r"  optional: (true|false)\n"
)
_DEPENDS = re.compile(rf"    ({_KEY}): ({_TEXT})\n")
_HEAD = re.compile(r"(?:#[^\n]*\n)*metadata:\n(?:  [^\n]*\n)+")
_OTHER_BREAKS = re.compile("[\r\x85\u2028\u2029\ufeff]")  # lines to YAML, not to us
_SAFE = re.compile(_PLAIN)
_SAFE_KEY = re.compile(_KEY)
_START, _END = "package:\n", "version: 1\n"


# --- reading ------------------------------------------------------------------------------------------------


def read_plain(data: bytes) -> dict[str, Any] | None:
    """Return the document that YAML finds in a lockfile; None where that takes a YAML parser to tell.

    The metadata, which is short, is always read by one.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    found = _HEAD.match(text)
    if found is None or not text.startswith(_START, found.end()) or not text.endswith(_END):
        return None
    metadata = _metadata(found[0])
    entries = _entries(text, found.end() + len(_START), len(text) - len(_END))
    if metadata is None or entries is None:
        return None
    return {"metadata": metadata, "package": entries, "version": 1}


def _metadata(head: str) -> dict[str, Any] | None:
    """Return what a lockfile's head says; None where that takes the whole file to tell.

    Its lines are indented, but for comments: so it ends where it seems to, or is no YAML by itself.
    """
    import yaml

    if _OTHER_BREAKS.search(head):
        return None
    try:
        document = yaml.load(head, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, RecursionError, ValueError):
        return None
    metadata = document.get("metadata") if isinstance(document, dict) and len(document) == 1 else None
    return metadata if isinstance(metadata, dict) else None


def _entries(text: str, start: int, end: int) -> list[dict[str, Any]] | None:
    entries = []
    is_text, depends_of = _resolver(), lru_cache(maxsize=None)(_depends)
    while start < end:
        found = _ENTRY.match(text, start, end)
        if found is None:
            return None
        name, version, manager, platform, depends, url, md5, sha256, category, optional = found.groups()
        texts = [_unquoted(t, is_text) for t in (name, version, platform, category, url)]
        needs = depends_of(depends or "", is_text)
        if needs is None or None in texts or sha256.isdigit() or (md5 or "a").isdigit():
            return None
        entries.append(
            {
                "name": texts[0],
                "version": texts[1],
                "manager": manager,
                "platform": texts[2],
                "dependencies": dict(needs),
                "url": texts[4],
                "hash": {"md5": md5, "sha256": sha256} if md5 else {"sha256": sha256},
                "category": texts[3],
                "optional": optional == "true",
            }
        )
        start = found.end()
    return entries or None


def _depends(lines: str, is_text: Callable[[str], bool]) -> Mapping[str, str] | None:
    found = {}
    for key, value in _DEPENDS.findall(lines):
        text = _unquoted(value, is_text)
        if text is None or not is_text(key):
            return None
        found[key] = text
    return found


def _unquoted(text: str, is_text: Callable[[str], bool]) -> str | None:
    if text[0] == "'":
        return text[1:-1]
    return text if is_text(text) else None


@cache
def _resolver() -> Callable[[str], bool]:
    """Return whether a plain scalar is a text to YAML, and not a number, a date, a truth or nothing."""
    import yaml

    kinds = yaml.CSafeLoader.yaml_implicit_resolvers

    @lru_cache(maxsize=1 << 16)
    def is_text(text: str) -> bool:
        return not any(pattern.match(text) for _, pattern in kinds.get(text[:1], ()))

    return is_text


# --- writing ------------------------------------------------------------------------------------------------


def write_plain(packages: Iterable[LockedPackage]) -> str | None:
    """Return the package list as the YAML library writes it; None where a name takes that library to
    write.
    """
    is_text = _resolver()
    lines = []
    for p in packages:
        keys = [p.name, p.platform, p.category, *p.depends]
        if not all(_SAFE_KEY.fullmatch(key) and is_text(key) for key in keys):
            return None
        texts = [_quoted(text) for text in (p.version, p.url, p.sha256, p.md5 or "", *p.depends.values())]
        if None in texts:
            return None
        version, url, sha256, md5, *constraints = texts
        needs = sorted(zip(p.depends, constraints, strict=True))
        depends = "\n" + "".join(f"    {k}: {v}\n" for k, v in needs) if needs else " {}\n"
        lines.append(
            f"- name: {p.name}\n  version: {version}\n  manager: {p.manager}\n  platform: {p.platform}\n"
            f"  dependencies:{depends}  url: {url}\n  hash:\n"
            + (f"    md5: {md5}\n" if p.md5 else "")
            + f"    sha256: {sha256}\n  category: {p.category}\n"
            f"  optional: {'false' if p.category == 'main' else 'true'}\n"
        )
    return "package:\n" + "".join(lines) if lines else None


@lru_cache(maxsize=1 << 16)
def _quoted(text: str) -> str | None:
    """Return a text as a value in a block mapping; None when it takes more than a line."""
    import yaml

    if _SAFE.fullmatch(text) and _resolver()(text):
        return text
    if "\n" in text or _OTHER_BREAKS.search(text):  # indented by where it stands
        return None
    written: str = yaml.dump([text], Dumper=yaml.CSafeDumper, allow_unicode=True, width=2**30)
    return written[2:-1] if written.startswith("- ") and written.count("\n") == 1 else None
