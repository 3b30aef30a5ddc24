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
from envbox.spec.text import yaml_document

Manager = Literal["conda", "pip"]

_BREAK = re.compile(r"\r\n|\r|\n")
_BOMS = ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"), (codecs.BOM_UTF8, "utf-8"))
_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)*")  # an anchor or a tag before a value
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
    """All that a spec asks for, in its order, whatever the selectors say.

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
    """The spec with a dependency at the end of its own kind.

    :raises SpecError: when the spec is written in a way that this cannot be done safely
    """
    document = _document(spec)
    wanted, items = list(_items(document)), _Listing.of(spec)
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
    """The spec with another dependency on the line of one that it has, quoted as that one is.

    :raises SpecError: as `added`
    """
    return _at(spec, old, new.text)


def removed(spec: SpecText, old: Dependency) -> SpecText:
    """The spec without one of its dependencies, and without its line; an empty pip section goes with it.

    :raises SpecError: as `added`; and when nothing would be left
    """
    return _at(spec, old, None)


def _at(spec: SpecText, old: Dependency, new: str | None) -> SpecText:
    """Put `new` where `old` stands, or take it away; the last one, where it stands on several lines."""
    document = _document(spec)
    wanted, items = list(_items(document)), _Listing.of(spec)
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
        raise _by_hand(spec.path)
    return SpecText(text, spec.mark, spec.encoding, spec.path)


def _by_hand(path: Path, why: str = "it is written in a way that envbox does not edit") -> SpecError:
    return SpecError(f"the spec {path} cannot be edited: {why}", f"edit {path} and run: envbox lock")


def _document(spec: SpecText) -> dict[str, Any]:
    return copy.deepcopy(dict(yaml_document(spec.text, spec.path)))


def _items(document: dict[str, Any]) -> list[Any]:
    items = document.get("dependencies") or []
    return items if isinstance(items, list) else []


# --- where things stand -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Listing:
    """A list in the text, under its key.

    :param key: ruamel's node of the key; None when there is no such key
    :param nodes: of the items
    """

    text: str
    key: Any
    value: Any
    nodes: tuple[Any, ...]
    path: Path

    @classmethod
    def of(cls, spec: SpecText) -> _Listing:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        try:
            root = YAML(typ="rt", pure=True).compose(spec.text)
        except (YAMLError, ValueError, RecursionError) as error:
            said = getattr(error, "problem", None) or str(error).partition("\n")[0]
            raise _by_hand(spec.path, said) from error
        pairs = [(k, v) for k, v in root.value if k.value == "dependencies"]
        if not pairs and root.flow_style:
            raise _by_hand(spec.path, "it has no `dependencies`")
        if len(pairs) > 1:
            raise _by_hand(spec.path, "it has `dependencies` twice")
        key, value = pairs[0] if pairs else (None, None)
        return cls._under(spec.text, key, value, spec.path)

    @classmethod
    def _under(cls, text: str, key: Any, value: Any, path: Path) -> _Listing:
        nodes = tuple(value.value) if value is not None and value.id == "sequence" else ()
        if value is not None and value.start_mark.index < key.end_mark.index:
            raise _by_hand(path, f"`{key.value}` is an alias of line {value.start_mark.line + 1}")
        if value is not None and value.id == "scalar" and value.start_mark.index < value.end_mark.index:
            raise _by_hand(path, f"`{key.value}` should be a list, not {value.value!r}")
        starts = [value.start_mark.index, *(n.start_mark.index for n in nodes)] if nodes else []
        if starts != sorted(starts) or len(set(starts[1:])) < len(nodes):
            raise _by_hand(path, f"an item of `{key.value}` is an alias")
        return cls(text, key, value, nodes, path)

    def pip_section(self, place: int) -> _Listing:
        """The list of requirements in one of the items."""
        node = self.nodes[place]
        key, value = next((k, v) for k, v in node.value if k.value == "pip")
        return self._under(self.text, key, value, self.path)

    def inserted(self, place: int, value: str) -> str:
        """The text with an item more, before the one that has this place."""
        if self.key is None:
            return f"{self.text.rstrip()}{self._break(0)}dependencies:{self._break(0)}  - {_plain(value)}" + (
                self.text[len(self.text.rstrip()) :] or self._break(0)
            )
        if self._is_flow:
            written = _plain(value, flow=True)
            if place:
                return self._joined(_end(self.nodes[place - 1]), f", {written}")
            opening = self.value.start_mark.index
            bracket = self.text.index("[", opening)
            start = self.nodes[0].start_mark.index if self.nodes else bracket + 1
            return self._joined(start, f"{written}, " if self.nodes else written)
        return self._line_after(place, f"{self._indent}-{self._gap(place)}{_plain(value)}")

    def with_pip_section(self, value: str) -> str:
        """The text with a pip section of one requirement at the end of the dependencies."""
        if self.key is None:
            raise _by_hand(self.path, "it has no `dependencies`, and pip needs python")
        last = len(self.nodes)
        if self._is_flow:
            written = f"{{pip: [{_plain(value, flow=True)}]}}"
            return self._joined(_end(self.nodes[-1]) if last else self.value.start_mark.index + 1,
                                f", {written}" if last else written)  # fmt: skip
        gap = self._gap(last)
        inner = f"{self._indent} {' ' * len(gap)}{self._deeper}- {_plain(value)}"
        break_ = self._break(_end(self.nodes[-1]) if last else self.key.end_mark.index)
        return self._line_after(last, f"{self._indent}-{gap}pip:{break_}{inner}")

    def replaced(self, place: int, value: str) -> str:
        """The text with another value at this place, in the quotes of the one that was there."""
        node = self.nodes[place]
        start, end = node.start_mark.index, _end(node)
        found = _PROPERTIES.match(self.text, start, end)
        start = found.end() if found else start
        quote = self.text[start]
        written = _plain(value, flow=self._is_flow)
        if quote == "'" or (quote == '"' and not re.search(r'["\\]', value)):
            written = quote + (value.replace("'", "''") if quote == "'" else value) + quote
        return f"{self.text[:start]}{written}{self.text[end:]}"

    def cut(self, place: int) -> str:
        """The text without the item at this place, and without the line that it stood on."""
        node = self.nodes[place]
        start, end = node.start_mark.index, _end(node)
        if self._is_flow:
            if place:
                return self.text[: _end(self.nodes[place - 1])] + self.text[end:]
            following = self.nodes[1].start_mark.index if len(self.nodes) > 1 else end
            return self.text[:start] + self.text[following:]
        dash = self.text.rindex("-", 0, start)
        line = max(self.text.rfind("\n", 0, dash), self.text.rfind("\r", 0, dash)) + 1
        before = line - 2 if self.text[:line].endswith("\r\n") else max(line - 1, 0)
        return self.text[:before] + self.text[self._line_end(end) :]

    @property
    def _is_flow(self) -> bool:
        return self.value is not None and self.value.id == "sequence" and bool(self.value.flow_style)

    @property
    def _indent(self) -> str:
        if not self.nodes:
            return " " * (int(self.key.start_mark.column) + 2)
        return " " * int(self.value.start_mark.column)

    @property
    def _deeper(self) -> str:
        """What lists are indented by in this file."""
        own = int(self.key.start_mark.column)
        return self._indent[own:] if self.nodes else "  "

    def _gap(self, place: int) -> str:
        """The blanks between the dash and the item before this place."""
        if not self.nodes:
            return " "
        start = self.nodes[max(place - 1, 0)].start_mark.index
        gap = self.text[self.text.rindex("-", 0, start) + 1 : start]
        return gap if gap and not gap.strip(" ") else " "

    def _line_after(self, place: int, line: str) -> str:
        position = _end(self.nodes[place - 1]) if place else self.key.end_mark.index
        return self._joined(self._line_end(position), self._break(position) + line)

    def _line_end(self, position: int) -> int:
        found = _BREAK.search(self.text, position)
        return found.start() if found else len(self.text)

    def _break(self, position: int) -> str:
        found = _BREAK.search(self.text, position) or _BREAK.search(self.text)
        return found[0] if found else "\n"

    def _joined(self, position: int, piece: str) -> str:
        return self.text[:position] + piece + self.text[position:]


def _end(node: Any) -> int:
    """Where a node ends in the text; of a block, where its last line does, without what follows it."""
    if node.id == "scalar" or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)


def _plain(value: str, flow: bool = False) -> str:
    """A text as YAML, in quotes only where it would mean something else without."""
    import yaml

    try:
        if yaml.safe_load(f"[{value}]" if flow else f"- {value}") == [value]:
            return value
    except yaml.YAMLError:
        pass
    return "'" + value.replace("'", "''") + "'"
