"""A spec's YAML, read within bounds, with the lines that its parts stand on.

YAML's anchors let a few lines stand for billions of values, one that contains itself for infinitely many, and
brackets nest until the stack ends. So what the nodes would unfold to is counted before anything is made of
them. A key that stands twice is refused, as conda does: YAML's loader would silently take the last one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from envbox.locks.spec.text import Place

_DEEPEST = 40
_MOST = 50_000  # values, unfolded; a large export has a thousand


@dataclass(frozen=True, slots=True)
class Loaded:
    """A document.

    :param lines: place → line, from 1; of an alias, its own
    :param ends: place → where the value ends in the text; of a mapping, where its first key does
    """

    value: Any
    lines: dict[Place, int]
    ends: dict[Place, int]


class UnfitError(yaml.MarkedYAMLError):
    """YAML that no spec has."""


class _Loader(yaml.SafeLoader):
    depth = 0

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.spots: dict[tuple[int, int], tuple[Any, Any]] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise UnfitError(problem="it nests too deep", problem_mark=self.get_mark())
        if isinstance(index, int):  # an item of a list, which may be an alias
            event = self.peek_event()  # type: ignore[no-untyped-call]
            self.spots[id(parent), index] = (event.start_mark, event.end_mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def load(text: str) -> Loaded:
    """Load one document.

    :raises yaml.YAMLError: when it is no YAML, or grows out of bounds
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return Loaded(None, {}, {})
        _weigh(node, {}, set())
        found = Loaded(None, {}, {})
        _find_places(node, (), found, loader.spots)
        return Loaded(loader.construct_document(node), found.lines, found.ends)
    finally:
        loader.dispose()


def _weigh(node: yaml.Node, weights: dict[int, int], above: set[int]) -> int:
    """Return how many values a node unfolds to."""
    if id(node) in above:
        raise UnfitError(problem="an anchor contains itself", problem_mark=node.start_mark)
    if id(node) not in weights:
        above.add(id(node))
        if isinstance(node, yaml.MappingNode):
            _refuse_twice(node)
            parts = [part for pair in node.value for part in pair]
        else:
            parts = node.value if isinstance(node, yaml.SequenceNode) else []
        weights[id(node)] = 1 + sum(_weigh(part, weights, above) for part in parts)
        above.discard(id(node))
    if weights[id(node)] > _MOST:
        raise UnfitError(problem="its anchors unfold to too much", problem_mark=node.start_mark)
    return weights[id(node)]


def _refuse_twice(node: yaml.MappingNode) -> None:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.value != "<<":
            if key.value in seen:
                problem = f"`{key.value[:40]}` stands twice, first on line {seen[key.value]}"
                note = f"put what both of them say under one `{key.value[:40]}`"
                raise UnfitError(problem=problem, problem_mark=key.start_mark, note=note)
            seen[key.value] = key.start_mark.line + 1


def _find_places(node: yaml.Node, place: Place, found: Loaded, spots: dict[Any, tuple[Any, Any]]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                inner = (*place, key.value)
                found.lines[inner] = key.start_mark.line + 1
                end = value.end_mark if isinstance(value, yaml.ScalarNode) else key.end_mark
                found.ends[inner] = end.index
                _find_places(value, inner, found, spots)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            start, end = spots[id(node), index]
            inner = (*place, index)
            found.lines[inner] = start.line + 1
            keys = value.value if isinstance(value, yaml.MappingNode) else ()
            found.ends[inner] = (keys[0][0].end_mark if keys else end).index
            _find_places(value, inner, found, spots)
