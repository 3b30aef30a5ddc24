"""From a spec's bytes to sound YAML, whatever editor saved them; what is no spec is refused in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envbox.errors import SpecError
from envbox.files import conflict_line

_LARGEST = 1 << 18  # bytes; a full export of a large environment has 60 KB
_EXAMPLE = "a spec looks like this: {channels: [conda-forge], dependencies: [python, numpy >=2]}"


def read_text(path: Path) -> str:
    """The text of a spec, whatever editor saved it: UTF-8 or UTF-16, any line ends.

    :raises SpecError: when it is missing, empty, or something else than text
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise SpecError(f"there is no spec {path}", f"write it, or name another: {_EXAMPLE}") from None
    except OSError as error:
        raise SpecError(f"cannot read the spec {path}: {error.strerror}") from error
    if len(data) > _LARGEST:
        raise SpecError(f"{path} is {len(data)} bytes long: that is no spec", _EXAMPLE)
    text = _decoded(data, path)
    if not text.strip():
        raise SpecError(f"the spec {path} is empty", _EXAMPLE)
    if text.lstrip()[:15].lower().startswith(("<!doctype", "<html", "<?xml")):
        raise SpecError(f"{path} is a web page, not a spec", "save the raw file, not the page that shows it")
    if line := conflict_line(text.encode()):
        raise SpecError(f"the spec {path} has merge conflict markers (line {line})", "settle the merge first")
    return text


def _decoded(data: bytes, path: Path) -> str:
    utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")  # PowerShell's `>` writes this
    try:
        text = data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SpecError(f"the spec {path} is not UTF-8 text (line {line})", "save it as UTF-8") from error
    if control := re.search(r"[\x00-\x08\x0b\x0e-\x1f\x7f]", text):
        line = text.count("\n", 0, control.start()) + 1
        raise SpecError(
            f"the spec {path} is not text: character {control[0]!r} (line {line})", "save it as UTF-8 text"
        )
    return "\n".join(text.splitlines()) + "\n"


def yaml_document(text: str, path: Path) -> Mapping[str, Any]:
    """Parse a spec's text.

    :raises SpecError: when it is not YAML, or no mapping
    """
    import yaml

    try:
        document = yaml.safe_load(text)  # the loader in C takes other texts than conda-lock's
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        said = getattr(error, "problem", None) or str(error)
        tab = next((n for n, line in enumerate(text.split("\n"), 1) if re.match(r" *\t", line)), None)
        if tab:
            raise SpecError(
                f"the spec {path} is indented with a tab (line {tab})", "YAML is indented with spaces"
            ) from error
        where = f" (line {mark.line + 1})" if mark else ""
        raise SpecError(f"the spec {path} is not YAML: {said}{where}") from error
    if not isinstance(document, dict):
        raise SpecError(f"{path} is not a spec: it has no `dependencies:`", _EXAMPLE)
    return document
