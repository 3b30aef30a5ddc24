"""A spec's YAML, read within bounds, with the lines that its parts stand on.

YAML's anchors let a few lines stand for billions of values, one that contains itself for infinitely many, and
brackets nest until the stack ends. So what the nodes would unfold to is counted before anything is made of
them. A key that stands twice is refused, as conda does: YAML's loader would silently take the last one.
"""

from __future__ import annotations

from typing import Any

import yaml

_DEEPEST = 40
_MOST = 50_000  # values, unfolded; a large export has a thousand

Lines = dict[tuple[str | int, ...], int]


class UnfitError(yaml.MarkedYAMLError):
    """YAML that no spec has."""


class _Loader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise UnfitError(problem="it nests too deep", problem_mark=self.get_mark())
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def load(text: str) -> tuple[Any, Lines]:
    """Load one document.

    :raises yaml.YAMLError: when it is no YAML, or grows out of bounds
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, {}
        _weigh(node, {}, set())
        lines: Lines = {}
        _find_lines(node, (), lines)
        return loader.construct_document(node), lines
    finally:
        loader.dispose()


def _weigh(node: yaml.Node, weights: dict[int, int], above: set[int]) -> int:
    """How many values a node unfolds to."""
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


def _find_lines(node: yaml.Node, place: tuple[str | int, ...], lines: Lines) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                lines[(*place, key.value)] = key.start_mark.line + 1
                _find_lines(value, (*place, key.value), lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*place, index)] = value.start_mark.line + 1
            _find_lines(value, (*place, index), lines)
