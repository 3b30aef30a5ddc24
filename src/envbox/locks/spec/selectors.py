"""Selectors: comments such as `# [linux]`, for dependencies that only some platforms have.

conda-lock cuts lines out of the text before it is YAML, wherever there is a comment that ends in brackets. So
`# we need match [PEP 634]` takes a package away, everywhere and without a word. Here a selector is a comment
on a dependency's own line whose brackets hold what can be one; all other comments are comments.

Follows conda_lock/src_parser/selectors.py, and conda-build's names of platforms.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from envbox.platforms import PLATFORMS

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
_COMMENT = re.compile(r"[\s,\]}:]*#(?:[^\n]*)\[([^\[\]\n]+)\][^()\n]*")
_COMPARED = r"(?:py|np|lua|perl|r|vc|cuda\w*|python|numpy|r_base)\s*(?:[<>]=?|[=!]=)\s*['\"]?[\d.]+['\"]?"
_WORD = re.compile(rf"{_COMPARED}|py\d{{2,3}}|py[23]k|x86|x86_64|win32|linux32|armv\dl|not|and|or|[()]")
_LONGEST = 4000  # characters; the pattern's time grows with the square
_SPACES = re.compile(r"\s+")


def _selectors(platform: str) -> frozenset[str]:
    """Return them as conda-build has them, for what conda-lock does not know: the system, the
    architecture, `unix`.
    """
    system, _, machine = platform.partition("-")
    own = f"{system}{machine}" if machine.isdigit() else machine
    return frozenset(CONDA_LOCKS.get(platform) or {system, own, *({"unix"} if system in _UNIX else ())})


SELECTORS: Mapping[str, frozenset[str]] = {platform: _selectors(platform) for platform in PLATFORMS}
"""A platform → the selectors of the lines that it has."""
KNOWN = frozenset().union(*SELECTORS.values())


def selector_in(rest: str) -> str | None:
    """Return the selector in what follows a value on its line; None where there is none.

    One that is not in `KNOWN` is an expression of conda-build's (`py<3`, `not win`), which hold nowhere.
    """
    found = _COMMENT.fullmatch(rest) if len(rest) < _LONGEST else None
    if found is None:
        return None
    text = found[1].strip()
    return text if text in KNOWN or _is_expression(text) else None


def _is_expression(text: str) -> bool:
    place = 0
    while place < len(text):
        if blank := _SPACES.match(text, place):
            place = blank.end()
            continue
        word = _WORD.match(text, place) or re.compile(r"\w+").match(text, place)
        if word is None or not (_WORD.fullmatch(word[0]) or word[0] in KNOWN):
            return False
        place = word.end()
        if place < len(text) and word[0][-1:].isalnum() and text[place].isalnum():
            return False
    return True


def twin(platform: str) -> str:
    """Return the platform that conda-lock is asked about in place of one that it does not know."""
    near = {"osx": "osx-64", "win": "win-64"}.get(platform.partition("-")[0], "linux-64")
    return platform if platform in CONDA_LOCKS else near


def is_known(platform: str) -> bool:
    """Return whether conda-lock knows a platform."""
    return platform in CONDA_LOCKS


def content_hash(theirs: str, platform: str) -> str:
    """Return the hash of what is asked for on a platform, from conda-lock's hash for its twin."""
    if platform in CONDA_LOCKS:
        return theirs
    return hashlib.sha256(f"{theirs} {platform}".encode()).hexdigest()
