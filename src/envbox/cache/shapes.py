"""What the cache's folders are called, and what lies in each.

A folder without a marker is taken for a cache of an envbox before there were markers only where all in it,
two levels deep, has such a name: somebody's project may have folders called `packages` and `builds` as well.
"""

from __future__ import annotations

import re

from envbox.files import ASIDE, CACHE_MARKER

FORMAT = 1
MARKER_TEXT = "envbox cache, format {}\n"
TAG = "CACHEDIR.TAG"
TAG_TEXT = """\
Signature: 8a477f597d28d172789f06886806bc55
# This file is a cache directory tag created by envbox: backups may leave the folder out.
# For information about cache directory tags, see https://bford.info/cachedir/
"""
IN_USE = ".in-use"
FILES = (CACHE_MARKER, TAG, IN_USE)
LEFTOVERS = "leftovers"
LIVE = ("servers",)
"""What belongs to running servers, and is not ours to remove."""

_OTHER = "indexes and records"
KINDS = {
    "packages": "archives as downloaded",
    "fragments": "packages as tar entries",
    "layers": "what is known of layers",
    "blobs": "base images, and others that were pulled",
    "gzip": "layers as --compat stores them",
    "bytecode": "what Python sources were compiled to",
    "compilers": "the Pythons that byte-compile",
    "builds": "which image belongs to which lockfile",
    "leftovers": "what killed runs left",
    "prefixes": "packages unpacked, and linked together to be mounted",
    "jupyter": "lockfiles of the Jupyter for environments that have none",
    "sizes": "how large the files of packages are",
    "bases": _OTHER,
    "engine": _OTHER,
    "foreign": _OTHER,
    "fresh": _OTHER,
    "identity": _OTHER,
    "names": _OTHER,
    "pypi": _OTHER,
    "repodata": _OTHER,
}
NAMES = frozenset((*KINDS, *LIVE)) - {LEFTOVERS}
"""The folders that envbox makes in a cache; nothing else in it is ever removed."""

_HASH = r"[0-9a-f]{16,64}"
_INSIDE = {
    "packages": _HASH,
    "fragments": rf"(python-)?{_HASH}(\.json)?",
    "layers": rf"{_HASH}\.json",
    "blobs": r"sha256",
    "gzip": rf"{_HASH}\.(gz|json)",
    "bytecode": _HASH,
    "compilers": rf"{_HASH}(\.lock)?",
    "builds": rf"(layers-)?{_HASH}\.json",
    "prefixes": r"trees|packages|here|unfinished|compiled",
    "jupyter": r".+\.conda-lock\.yml|\.lock",
    "sizes": rf"{_HASH}-.+\.json",
    "bases": rf"tag-{_HASH}|{_HASH}\.json",
    "engine": r"facts|images|loads|platforms",
    "foreign": _HASH,
    "fresh": _HASH,
    "identity": _HASH,
    "names": rf"({_HASH}|empty)(\.{_HASH})?\.json",
    "pypi": r"metadata|pages",
    "repodata": r"[0-9a-f]{8}.*|shards.*|seals|.*\.lock",
    "servers": r"envbox-.+",
}
_PATTERNS = {name: re.compile(pattern) for name, pattern in _INSIDE.items()}


def is_known(name: str) -> bool:
    """Return whether envbox makes such an entry in a cache."""
    return name in NAMES or name in FILES or bool(ASIDE.fullmatch(name))


def is_known_inside(folder: str, name: str) -> bool:
    """Return whether envbox makes such an entry in a folder of a cache."""
    return bool(_PATTERNS[folder].fullmatch(name) or ASIDE.fullmatch(name))
