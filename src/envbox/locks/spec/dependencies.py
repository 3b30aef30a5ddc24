"""Where the dependencies stand in a spec's text, and the text with one more, another, or one less.

ruamel.yaml says where things stand; the text is cut and joined there. Whether what comes out means what it
should is seen elsewhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envbox.errors import SpecError

_BREAK = re.compile(r"\r\n|\r|\n")
_PROPERTIES = re.compile(r"(?:[&!]\S*\s+)*")  # an anchor or a tag before a value


def by_hand(path: Path, why: str = "it is written in a way that envbox does not edit") -> SpecError:
    """Say that a person has to do it."""
    return SpecError(f"the spec {path} cannot be edited: {why}", f"edit {path} and run: envbox lock")


@dataclass(frozen=True, slots=True)
class Listing:
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
    def of(cls, text: str, path: Path) -> Listing:
        """Return the dependencies of a spec.

        :raises SpecError: when they are written in a way that cannot be edited safely
        """
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError

        try:
            root = YAML(typ="rt", pure=True).compose(text)
        except (YAMLError, ValueError, RecursionError) as error:
            said = getattr(error, "problem", None) or str(error).partition("\n")[0]
            raise by_hand(path, said) from error
        pairs = [(k, v) for k, v in root.value if k.value == "dependencies"]
        if not pairs and root.flow_style:
            raise by_hand(path, "it has no `dependencies`")
        if len(pairs) > 1:
            raise by_hand(path, "it has `dependencies` twice")
        key, value = pairs[0] if pairs else (None, None)
        return cls._under(text, key, value, path)

    @classmethod
    def _under(cls, text: str, key: Any, value: Any, path: Path) -> Listing:
        nodes = tuple(value.value) if value is not None and value.id == "sequence" else ()
        if value is not None and value.start_mark.index < key.end_mark.index:
            raise by_hand(path, f"`{key.value}` is an alias of line {value.start_mark.line + 1}")
        if value is not None and value.id == "scalar" and value.start_mark.index < value.end_mark.index:
            raise by_hand(path, f"`{key.value}` should be a list, not {value.value!r}")
        starts = [value.start_mark.index, *(n.start_mark.index for n in nodes)] if nodes else []
        if starts != sorted(starts) or len(set(starts[1:])) < len(nodes):
            raise by_hand(path, f"an item of `{key.value}` is an alias")
        return cls(text, key, value, nodes, path)

    def pip_section(self, place: int) -> Listing:
        """Return the list of requirements in one of the items."""
        node = self.nodes[place]
        key, value = next((k, v) for k, v in node.value if k.value == "pip")
        return self._under(self.text, key, value, self.path)

    def inserted(self, place: int, value: str) -> str:
        """Return the text with an item more, before the one that has this place."""
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
        """Return the text with a pip section of one requirement at the end of the dependencies."""
        if self.key is None:
            raise by_hand(self.path, "it has no `dependencies`, and pip needs python")
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
        """Return the text with another value at this place, in the quotes of the one that was there."""
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
        """Return the text without the item at this place, and without the line that it stood on."""
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
        """Return the blanks between the dash and the item before this place."""
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
    """Return where a node ends in the text; of a block, where its last line does, without what follows it."""
    if node.id == "scalar" or node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(last[1] if isinstance(last, tuple) else last)


def _plain(value: str, flow: bool = False) -> str:
    """Return a text as YAML, in quotes only where it would mean something else without."""
    import yaml

    try:
        if yaml.safe_load(f"[{value}]" if flow else f"- {value}") == [value]:
            return value
    except yaml.YAMLError:
        pass
    return "'" + value.replace("'", "''") + "'"
