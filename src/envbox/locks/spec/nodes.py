"""A spec's YAML as nodes, in which nothing is lost: keys that are there twice, and what a `<<` brings.

For who must see at least what every reader of the same file sees, whatever that reader makes of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from envbox.errors import SpecError
from envbox.locks.spec.requirements import RequirementFiles, one_line
from envbox.locks.spec.text import read_text, repaired

_NULL_LIST = re.compile(r"^(channels|pip-repositories):[ \t]*(~|null)?[ \t]*(#.*)?$(?!\n\s*-)", re.MULTILINE)
_MAY_NAME_FILES = re.compile(r"-[rc-]|\\")  # a backslash may write any of these letters


def readings(path: Path) -> list[str]:
    """Return a spec's text as YAML is given it: as it is, and where that is refused, as it is repaired."""
    if not path.is_file():
        return []
    try:
        text = read_text(path)
    except SpecError:
        return []  # who reads it next says so in words
    return [_NULL_LIST.sub(r"\1: []", one) for one in dict.fromkeys([text, repaired(text)])]


def requirement_files(path: Path) -> Iterator[RequirementFiles]:
    """Yield what each line of a spec that names a requirement file leads to, by the reader that locks it."""
    texts = [text for text in readings(path) if _MAY_NAME_FILES.search(text)]
    values = (value for text in texts for key, value in pairs(text) if key == "dependencies")
    named = dict.fromkeys(one_line(scalar) for value in values for scalar in scalars(value))
    for text in named:
        if text.startswith("-"):
            found = RequirementFiles(path.absolute().parent)  # one each: no other uses up how many are read
            found.add(text)
            yield found


def pairs(text: str, *, is_deep: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield the keys of a document and the nodes that they have; of all mappings in it, where it is asked
    for.
    """
    import yaml

    root = None
    for loader in (yaml.CSafeLoader, yaml.SafeLoader):  # specs are locked by the second, which takes more
        try:
            root = yaml.compose(text, Loader=loader)
            break
        except (yaml.YAMLError, RecursionError, ValueError):
            continue
    for node in _mappings(root) if is_deep else [root, *_merged(root)]:
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode):
                yield key.value, value


def _merged(root: Any) -> Iterator[Any]:
    """Yield the mappings that a `<<` brings into a mapping."""
    import yaml

    todo, seen = [root], set()
    while todo:
        node = todo.pop()
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.value == "<<":
                found = value.value if isinstance(value, yaml.SequenceNode) else [value]
                todo += [one for one in found if id(one) not in seen]
                seen |= {id(one) for one in found}
                yield from found


def _mappings(root: Any) -> Iterator[Any]:
    import yaml

    return (node for node in _nodes(root) if isinstance(node, yaml.MappingNode))


def _nodes(root: Any, *, has_keys: bool = True) -> Iterator[Any]:
    """Yield all nodes below one, each once, however often it is referred to."""
    import yaml

    todo, seen = [root], set()
    while todo:
        node = todo.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, yaml.MappingNode):
            todo += [one for pair in node.value for one in (pair if has_keys else pair[1:])]
        elif isinstance(node, yaml.SequenceNode):
            todo += node.value


def scalars(root: Any, *, has_keys: bool = True) -> Iterator[str]:
    """Yield the texts below a node, each once, however often it is referred to."""
    import yaml

    return (node.value for node in _nodes(root, has_keys=has_keys) if isinstance(node, yaml.ScalarNode))


def mapping(root: Any) -> Iterator[tuple[str, str]]:
    """Yield the keys of a mapping with their values; one that is no text is empty."""
    import yaml

    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if isinstance(key, yaml.ScalarNode):
            yield key.value, value.value if isinstance(value, yaml.ScalarNode) else ""
