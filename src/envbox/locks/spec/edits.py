"""A spec's text with a dependency more, another, or less: nothing else in it moves by a byte.

Writing YAML anew, even by a library that keeps comments, settles line ends, quotes and widths by its own
taste. So ruamel.yaml only says where things stand, and the text is cut and joined there. That this came out
as it was meant is looked at afterwards: the new text must say what the old one said, and the change. Where it
does not (an alias, a block of text as a dependency), the edit is refused, and a person does it.
"""

from __future__ import annotations

import codecs
import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from envbox.errors import SpecError
from envbox.lockfile import pip_name
from envbox.locks.spec.dependencies import Listing, by_hand
from envbox.locks.spec.document import parsed

Manager = Literal["conda", "pip"]

_BOMS = ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"), (codecs.BOM_UTF8, "utf-8"))
_CONDA_NAME = re.compile(r"\s*([A-Za-z0-9_][\w.-]*)")
_ARCHIVE = re.compile(r".*/(.+)-[^-]+-[^-]+\.(?:conda|tar\.bz2)(?:#.*)?")


@dataclass(frozen=True, slots=True)
class Dependency:
    """One line of a spec: a match spec, or a requirement of the pip section.

    :param text: as it is written, without quotes and comment
    """

    manager: Manager
    text: str

    @property
    def name(self) -> str:
        """The package's name, in the one form that each side compares names in."""
        if self.manager == "pip":
            named = re.match(r"\s*([A-Za-z0-9][\w.-]*)", self.text)
            return pip_name(named[1]) if named else ""
        if archive := _ARCHIVE.fullmatch(self.text):
            return archive[1].lower()
        named = _CONDA_NAME.match(self.text.partition("[")[0].rpartition("::")[2])
        return named[1].lower() if named else ""


@dataclass(frozen=True, slots=True)
class SpecText:
    """A spec's text, and how it is stored.

    :param mark: the byte order mark that it begins with, or nothing
    :param path: for what is said about it
    """

    text: str
    mark: bytes
    encoding: str
    path: Path

    @property
    def data(self) -> bytes:
        """The bytes of the file."""
        return self.mark + self.text.encode(self.encoding)


def decode(data: bytes, path: Path) -> SpecText:
    """Give the text in a spec's bytes, its line ends as they are.

    :raises SpecError: when they are no text
    """
    mark, encoding = next((known for known in _BOMS if data.startswith(known[0])), (b"", "utf-8"))
    try:
        return SpecText(data[len(mark) :].decode(encoding), mark, encoding, path)
    except UnicodeDecodeError as error:
        raise SpecError(f"the spec {path} is not UTF-8 text", "save it as UTF-8") from error


def dependencies(spec: SpecText) -> tuple[Dependency, ...]:
    """Return all that a spec asks for, in its order, whatever the selectors say.

    :raises SpecError: when it is no spec
    """
    found: list[Dependency] = []
    for item in _items(_document(spec)):
        if isinstance(item, str):
            found.append(Dependency("conda", item.strip()))
        elif isinstance(item, dict):
            found += [Dependency("pip", str(line).strip()) for line in item.get("pip") or ()]
    return tuple(found)


def added(spec: SpecText, new: Dependency) -> SpecText:
    """Return the spec with a dependency at the end of its own kind.

    :raises SpecError: when the spec is written in a way that this cannot be done safely
    """
    document = _document(spec)
    wanted, items = list(_items(document)), Listing.of(spec.text, spec.path)
    if new.manager == "conda":
        place = 1 + max((n for n, item in enumerate(wanted) if isinstance(item, str)), default=-1)
        wanted.insert(place, new.text)
        return _checked(spec, items.inserted(place, new.text), wanted)
    sections = [n for n, item in enumerate(wanted) if isinstance(item, dict) and "pip" in item]
    if not sections:
        wanted.append({"pip": [new.text]})
        return _checked(spec, items.with_pip_section(new.text), wanted)
    inner = items.pip_section(sections[-1])
    wanted[sections[-1]] = {"pip": [*(wanted[sections[-1]]["pip"] or ()), new.text]}
    return _checked(spec, inner.inserted(len(inner.nodes), new.text), wanted)


def changed(spec: SpecText, old: Dependency, new: Dependency) -> SpecText:
    """Return the spec with another dependency on the line of one that it has, quoted as that one is.

    :raises SpecError: as `added`
    """
    return _at(spec, old, new.text)


def removed(spec: SpecText, old: Dependency) -> SpecText:
    """Return the spec without one of its dependencies, and without its line; an empty pip section goes with
    it.

    :raises SpecError: as `added`; and when nothing would be left
    """
    return _at(spec, old, None)


def _at(spec: SpecText, old: Dependency, new: str | None) -> SpecText:
    """Put `new` where `old` stands, or take it away; the last one, where it stands on several lines."""
    document = _document(spec)
    wanted, items = list(_items(document)), Listing.of(spec.text, spec.path)
    for place in reversed(range(len(wanted))):
        item = wanted[place]
        if isinstance(item, str) and old.manager == "conda" and item.strip() == old.text:
            wanted[place : place + 1] = [] if new is None else [new]
            text = items.cut(place) if new is None else items.replaced(place, new)
            break
        if isinstance(item, dict) and old.manager == "pip":
            lines = [str(line).strip() for line in item.get("pip") or ()]
            if old.text not in lines:
                continue
            inner, at = items.pip_section(place), lines.index(old.text)
            if new is not None or len(lines) > 1:
                text = inner.cut(at) if new is None else inner.replaced(at, new)
                kept = list(item["pip"])
                kept[at : at + 1] = [] if new is None else [new]
                wanted[place] = {**item, "pip": kept}
            else:
                text = items.cut(place)
                del wanted[place]
            break
    else:
        raise SpecError(f"{old.text} is not in the spec {spec.path}")
    if not wanted:
        raise SpecError(
            f"{old.text} is all that the spec {spec.path} asks for", "add another package first, or remove it"
        )
    return _checked(spec, text, wanted)


def _checked(spec: SpecText, text: str, wanted: Sequence[Any]) -> SpecText:
    """Give the new text if it says what is wanted, and all else as before."""
    before = {**_document(spec), "dependencies": list(wanted)}
    try:
        after = _document(SpecText(text, b"", "utf-8", spec.path))
    except SpecError:
        after = {}
    if dict(after) != before:
        raise by_hand(spec.path)
    return SpecText(text, spec.mark, spec.encoding, spec.path)


def _document(spec: SpecText) -> dict[str, Any]:
    return copy.deepcopy(dict(parsed(spec.text, spec.path).values))


def _items(document: dict[str, Any]) -> list[Any]:
    items = document.get("dependencies") or []
    return items if isinstance(items, list) else []
