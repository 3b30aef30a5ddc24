"""From a spec's bytes to its text, whatever editor saved them; what is no spec is refused in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from envbox.errors import SpecError
from envbox.files import conflict_line, decoded

Place = tuple[str | int, ...]
"""Where a value stands in a document: the keys and indices that lead to it."""

Faults = list[tuple[int, str]]
"""Line numbers (0: of no line in particular) and words."""

_LARGEST = 1 << 18  # bytes; a full export of a large environment has 60 KB
EXAMPLE = "a spec looks like this: {channels: [conda-forge], dependencies: [python, numpy >=2]}"
_PAGE = re.compile(r"<(!doctype|html|head|\?xml|!--)", re.IGNORECASE)
_COMMENT = re.compile(r"(^|\s)#.*")
_TEMPLATE = re.compile(r"\{\{[^{}]{0,200}\}\}|\{%[^{}]{0,200}%\}")
_LONGEST = 4000  # characters of a line
_PREFIX = re.compile(r"^prefix[ \t]*:.*$(?!\n[ \t])", re.MULTILINE)
_INVISIBLE = {"\u00a0": "no-break space", "\u200b": "zero-width space", "\ufeff": "byte order mark"}
_BREAK = re.compile(r"\r\n|\r")
_SEEN = re.compile(f"[{''.join(_INVISIBLE)}]")


def read_text(path: Path) -> str:
    """Return the text of a spec, whatever editor saved it: UTF-8 or UTF-16, any line ends.

    :raises SpecError: when it is missing, empty, or something else than text
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise SpecError(f"there is no spec {path}", f"write it, or name another: {EXAMPLE}") from None
    except OSError as error:
        raise SpecError(f"cannot read the spec {path}: {error.strerror}") from error
    if len(data) > _LARGEST:
        raise SpecError(f"{path} is {len(data)} bytes long: that is no spec", EXAMPLE)
    text = _decoded(data, path)
    _refuse_other_files(text.strip(), path)
    if line := conflict_line(text.encode()):
        raise SpecError(f"the spec {path} has merge conflict markers (line {line})", "settle the merge first")
    return text


def _refuse_other_files(text: str, path: Path) -> None:
    if not text:
        raise SpecError(f"the spec {path} is empty", EXAMPLE)
    if _PAGE.match(text):
        raise SpecError(f"{path} is a web page, not a spec", "save the raw file, not the page that shows it")
    if re.match(r'(404|403): |\{"message": *"Not Found"', text):
        raise SpecError(f"{path} is a server's error, not a spec: {text[:60]}", "download it again")
    if "\n" not in text and re.fullmatch(r"[^\s:]+\.ya?ml", text):
        raise SpecError(
            f"{path} holds only the path {text}: a symbolic link that was checked out as text",
            f"name {text} instead, or: git config core.symlinks true && git checkout -- {path.name}",
        )


def _decoded(data: bytes, path: Path) -> str:
    try:
        text = decoded(data)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SpecError(f"the spec {path} is not UTF-8 text (line {line})", "save it as UTF-8") from error
    if control := re.search(r"[\x00-\x08\x0b\x0e-\x1f\x7f]", text):
        line = text.count("\n", 0, control.start()) + 1
        raise SpecError(
            f"the spec {path} is not text: character {control[0]!r} (line {line})", "save it as UTF-8 text"
        )
    return _BREAK.sub("\n", text).rstrip("\n") + "\n"


def text_faults(text: str) -> Faults:
    """Return what a person must mend in a text, whether or not it is YAML: templates, invisible
    characters.
    """
    return [fault for number, line in enumerate(text.split("\n"), 1) for fault in _line_faults(number, line)]


def _line_faults(number: int, line: str) -> Iterator[tuple[int, str]]:
    if line.lstrip().startswith("#"):
        return
    if len(line) > _LONGEST:
        yield number, f"{len(line)} characters on one line; write one dependency a line"
        return
    code = _COMMENT.sub("", line)
    start = code.strip()[:80]
    if template := _TEMPLATE.search(code):
        yield number, f"{start!r} has {template[0][:40]!r}, but a spec is no template; write the value itself"
    if seen := _SEEN.search(code):
        yield number, f"{start!r} has a {_INVISIBLE[seen[0]]} in it; type it anew"


def repaired(text: str) -> str:
    """Return a text that YAML refuses, as its parser can take it, line for line.

    To conda's parser a tab between words is a blank, and `prefix:`, which exports bring along with the
    backslashes of Windows, says nothing about what is asked for. A template (`{{ name }}`) becomes a word, so
    that the rest can be looked at as well; what is on a line that is too long is left out.
    """
    return "\n".join(map(_repaired_line, _PREFIX.sub("", text).split("\n")))


def _repaired_line(line: str) -> str:
    if line.lstrip().startswith("#"):
        return line
    if len(line) > _LONGEST:
        return ""
    line = _TEMPLATE.sub(lambda found: "template" if found[0][1] == "{" else "", line)
    line = _SEEN.sub(lambda found: " " if found[0] == "\u00a0" else "", line)
    if "\t" in line and not re.search(r"^ *\t|[\"']", line):
        line = line.replace("\t", " ").rstrip()
    return line
