"""What is big: the files of an environment or an image, each with its package and with what it takes.

The values stand here; where they are from is in the modules beside (`locked`: a lockfile, by fragments;
`saved`: an image), how they are shown in `tree` and `treemap`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from envbox.slim import KINDS

NOBODY = "(base image)"
"""Stands for the package of files that no package has."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file.

    :param path: relative to `/`
    :param size: in bytes
    :param packed: its share of the compressed layer, in bytes
    :param kind: of `envbox.slim.KINDS`, when it could be left out
    """

    path: str
    size: int
    packed: float
    package: str
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Sizes:
    """All files of an environment or an image.

    :param name: the environment's, or the image's as it was asked for
    :param versions: package → version
    :param slim: kinds that were left out already
    :param is_by_path: whether only paths say what could be left out; some test folders might have to stay
    """

    name: str
    platform: str
    items: tuple[Item, ...] = field(repr=False)
    versions: dict[str, str] = field(repr=False)
    slim: tuple[str, ...] = ()
    is_by_path: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """Some files together.

    :param name: of a package, a folder (relative to `/`) or a kind
    :param size: in bytes
    :param packed: compressed, in bytes
    """

    name: str
    files: int
    size: int
    packed: int


def part_of(name: str, items: Iterable[Item]) -> Part:
    """Add files up."""
    files, size, packed = 0, 0, 0.0
    for item in items:
        files, size, packed = files + 1, size + item.size, packed + item.packed
    return Part(name, files, size, round(packed))


def by_package(sizes: Sizes) -> tuple[Part, ...]:
    """Return what each package takes, the largest first."""
    found: dict[str, list[Item]] = {}
    for item in sizes.items:
        found.setdefault(item.package, []).append(item)
    parts = (part_of(name, items) for name, items in found.items())
    return tuple(sorted(parts, key=lambda part: (-part.size, part.name)))


def unneeded(sizes: Sizes) -> tuple[Part, ...]:
    """Return what could be left out, a part for each of `envbox.slim.KINDS`, the largest first."""
    parts = (part_of(kind, (item for item in sizes.items if item.kind == kind)) for kind in KINDS)
    return tuple(sorted(parts, key=lambda part: (-part.size, part.name)))


def byte_code(sizes: Sizes, kind: str | None = None) -> Part:
    """Return what byte-code takes, of one kind or altogether."""
    found = (item for item in sizes.items if item.path.endswith(".pyc") and kind in (None, item.kind))
    return part_of("byte-code", found)
