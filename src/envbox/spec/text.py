"""From a spec's bytes to sound YAML, whatever editor saved them; what is no spec is refused in words."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envbox.errors import SpecError
from envbox.files import conflict_line, decoded
from envbox.lockfile import PLATFORMS

Faults = list[tuple[int, str]]
"""Line numbers (0: of no line in particular) and words."""

CONDA_LOCKS = {
    "linux-64": {"linux64", "unix", "linux"},
    "linux-aarch64": {"aarch64", "unix", "linux"},
    "linux-ppc64le": {"ppc64le", "unix", "linux"},
    "osx-64": {"osx64", "osx", "unix"},
    "osx-arm64": {"arm64", "osx", "unix"},
    "win-64": {"win", "win64"},
}
"""The platforms that conda-lock knows, and the selectors (`# [unix]`) of the lines that each has."""
_UNIX = {"linux", "osx", "emscripten"}  # conda-build's `unix`
SELECTED = re.compile(r"(.+?)\s*(#.*)\[([^\[\]]+)\](?(2)[^\(\)]*)$")
"""conda-lock's pattern of a line with a selector, which is its third group."""


def _selectors(platform: str) -> frozenset[str]:
    """As conda-build has them, for what conda-lock does not know: the system, the architecture, `unix`."""
    system, _, machine = platform.partition("-")
    own = f"{system}{machine}" if machine.isdigit() else machine
    return frozenset(CONDA_LOCKS.get(platform) or {system, own, *({"unix"} if system in _UNIX else ())})


SELECTORS = {platform: _selectors(platform) for platform in PLATFORMS}
"""A platform → the selectors of the lines that it has."""


def twin(platform: str) -> str:
    """The platform that conda-lock is asked about in place of one that it does not know."""
    near = {"osx": "osx-64", "win": "win-64"}.get(platform.partition("-")[0], "linux-64")
    return platform if platform in CONDA_LOCKS else near


def content_hash(theirs: str, platform: str) -> str:
    """The hash of what is asked for on a platform, from conda-lock's hash for its twin."""
    if platform in CONDA_LOCKS:
        return theirs
    return hashlib.sha256(f"{theirs} {platform}".encode()).hexdigest()


def selected(text: str, platform: str) -> str:
    """The lines that a platform has, but for comments."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return "\n".join(s for s in lines if not (m := SELECTED.match(s)) or m[3] in SELECTORS[platform])


def for_twin(text: str, platform: str) -> str:
    """A platform's lines so that conda-lock takes all of them for its twin's: no selector is one to it."""
    lines = selected(text, platform).split("\n")
    return "\n".join(f"{line} ()" if SELECTED.match(line) else line for line in lines)


_LARGEST = 1 << 18  # bytes; a full export of a large environment has 60 KB
_EXAMPLE = "a spec looks like this: {channels: [conda-forge], dependencies: [python, numpy >=2]}"
_PAGE = re.compile(r"<(!doctype|html|head|\?xml|!--)", re.IGNORECASE)
_COMMENT = re.compile(r"(^|\s)#.*")
_TEMPLATE = re.compile(r"\{\{[^{}]{0,200}\}\}|\{%[^{}]{0,200}%\}")
_LONGEST = 4000  # characters of a line; of one with a comment less, for conda-lock's selectors cost its cube
_LONGEST_COMMENTED = 1000
_PREFIX = re.compile(r"^prefix[ \t]*:.*$(?!\n[ \t])", re.MULTILINE)
_INVISIBLE = {"\u00a0": "no-break space", "\u200b": "zero-width space", "\ufeff": "byte order mark"}
_SEEN = re.compile(f"[{''.join(_INVISIBLE)}]")


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
    _refuse_other_files(text.strip(), path)
    if line := conflict_line(text.encode()):
        raise SpecError(f"the spec {path} has merge conflict markers (line {line})", "settle the merge first")
    return text


def _refuse_other_files(text: str, path: Path) -> None:
    if not text:
        raise SpecError(f"the spec {path} is empty", _EXAMPLE)
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
    return "\n".join(text.splitlines()) + "\n"


def made_sound(text: str, faults: Faults) -> str:
    """The text as YAML's parser can take it, line for line; what a person must mend goes to `faults`.

    To conda's parser a tab between words is a blank, and `prefix:`, which exports bring along with the
    backslashes of Windows, says nothing about what is asked for. A template (`{{ name }}`) becomes a word, so
    that the rest can be looked at as well.
    """
    return "\n".join(
        _sound_line(number, line, faults) for number, line in enumerate(_PREFIX.sub("", text).split("\n"), 1)
    )


def _sound_line(number: int, line: str, faults: Faults) -> str:
    if len(line) > (_LONGEST_COMMENTED if "#" in line else _LONGEST) and not line.lstrip().startswith("#"):
        faults.append((number, f"{len(line)} characters on one line; write one dependency a line"))
        return ""
    code = _COMMENT.sub("", line)
    start = code.strip()[:80]
    if template := _TEMPLATE.search(code):
        words = f"{start!r} has {template[0][:40]!r}, but a spec is no template; write the value itself"
        faults.append((number, words))
        line = _TEMPLATE.sub(lambda found: "template" if found[0][1] == "{" else "", line)
    if seen := _SEEN.search(code):
        faults.append((number, f"{start!r} has a {_INVISIBLE[seen[0]]} in it; type it anew"))
        line = _SEEN.sub(lambda found: " " if found[0] == "\u00a0" else "", line)
    if "\t" in line and not re.search(r"^ *\t|[\"']", line):
        line = line.replace("\t", " ").rstrip()
    return line


def yaml_document(text: str, path: Path) -> Mapping[str, Any]:
    """Parse a spec's text.

    :raises SpecError: when it is not YAML, or no mapping
    """
    return parsed(made_sound(text, []), path)[0]


def parsed(text: str, path: Path) -> tuple[Mapping[str, Any], Mapping[tuple[str | int, ...], int]]:
    """A sound text's document, and the lines of its parts by their place: `("dependencies", 2, "pip", 0)`.

    :raises SpecError: when it is not YAML, or no mapping, or one that grows out of bounds
    """
    from envbox.spec.bounded import load

    try:
        document, lines = load(text)  # not the loader in C: it takes other texts than conda-lock's
    except Exception as error:  # whatever YAML's constructors stumble over, it is the text
        raise _not_yaml(error, text, path) from error
    if not isinstance(document, dict):
        raise SpecError(f"{path} is not a spec: it has no `dependencies:`", _EXAMPLE)
    return document, lines


def _not_yaml(error: Exception, text: str, path: Path) -> SpecError:
    mark = getattr(error, "problem_mark", None)
    said = getattr(error, "problem", None) or str(error).partition("\n")[0] or type(error).__name__
    tab = next((n for n, line in enumerate(text.split("\n"), 1) if re.match(r" *\t", line)), None)
    if tab:
        return SpecError(
            f"the spec {path} is indented with a tab (line {tab})", "YAML is indented with spaces"
        )
    where = f" (line {mark.line + 1})" if mark else ""
    return SpecError(f"the spec {path} is not YAML: {said[:200]}{where}", getattr(error, "note", None))
