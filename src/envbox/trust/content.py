"""What specs and lockfiles ask for: where their packages are from, the base, variables that lead elsewhere.

The difficulty is to see at least what every other reader of the same file will see. So a spec is looked at
with all its dependencies, whatever their selectors, and with the requirement files that it names; of its YAML
every key counts, also one that is there twice. A lockfile that is not of the one shape that
envbox writes is not understood at all here: whatever looks like an address in it counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envbox import __version__
from envbox.errors import SpecError
from envbox.files import decoded
from envbox.lockfile.plain import read_plain
from envbox.trust import Ask, united
from envbox.trust.addresses import Own, address_asks, base_asks, channel_asks, dependency_asks
from envbox.trust.variables import variable_asks

if TYPE_CHECKING:
    from envbox.locks.spec.requirements import RequirementFiles

_NULL_LIST = re.compile(r"^(channels|pip-repositories):[ \t]*(~|null)?[ \t]*(#.*)?$(?!\n\s*-)", re.MULTILINE)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")
_MAY_NAME_FILES = re.compile(r"-[rc-]|\\")  # a backslash may write any of these letters
_BASE, _VARIABLES = "envbox.base", "envbox.variables"


FORMAT = 3
"""Raise it when the same files ask for something else."""


def content_asks(spec: Path, locks: Sequence[Path], own: Own, place: Path) -> tuple[Ask, ...]:
    """Return what a spec and its lockfiles ask for, worked out once for the same bytes.

    :param place: the user's folder of allowances, where that is kept
    """
    from envbox.trust import allowances as allowing

    paths = (spec, *locks, *(file for found in _walks(spec) for file in found.files))
    names = [path.name for path in paths]
    said = [FORMAT, __version__, own.known, names, [_digest(path) for path in paths]]
    key = sha256(repr(said).encode(errors="surrogateescape")).hexdigest()
    found = allowing.recall(place, key)
    if found is None:
        found = united([*spec_asks(spec, own), *(one for path in locks for one in lock_asks(path, own))])
        allowing.keep(place, key, found)
    return found


def _digest(path: Path) -> str | None:
    try:
        return sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    except OSError:
        return None


def spec_asks(path: Path, own: Own) -> Iterator[Ask]:
    """Yield what a spec asks for; nothing where there is none, or none that can be used."""
    for text in _readings(path):
        for key, value in _pairs(text):
            for scalar in _scalars(value):
                if key == "channels":
                    yield from channel_asks(scalar, own)
                elif key == "pip-repositories":
                    yield from address_asks(scalar, own)
                elif key == "dependencies":
                    yield from dependency_asks(scalar, own)
            if key == "variables":
                yield from variable_asks(dict(_mapping(value)), path.name)
    for found in _walks(path):
        for line in (*found.lines, *found.constraints):
            yield from dependency_asks(line.text, own)


def lock_asks(path: Path, own: Own) -> Iterator[Ask]:
    """Yield what a lockfile asks for, whichever tool wrote it; nothing where there is none."""
    try:
        data = path.read_bytes() if path.is_file() else b""  # a pipe would be waited for
    except OSError:
        return
    document = read_plain(data)
    if document is None:
        yield from _any_asks(data, path, own)
        return
    metadata = document["metadata"]
    channels = metadata.get("channels")
    for channel in channels if isinstance(channels, list) else []:
        name = channel.get("url") if isinstance(channel, dict) else channel
        yield from channel_asks(str(name), own)
    urls = {_folder_of(entry["url"]): entry["url"] for entry in document["package"]}
    for url in urls.values():  # one of each folder
        yield from address_asks(url, own)
    yield from _custom_asks(metadata.get("custom_metadata"), path, own)


def _folder_of(url: str) -> str:
    """Return the folder that answers for a package's address; itself, where more than its name counts."""
    return url if re.search(r"[$?#%\\]", url) else url.rpartition("/")[0]


def _custom_asks(custom: object, path: Path, own: Own) -> Iterator[Ask]:
    said = custom if isinstance(custom, dict) else {}
    base, variables = said.get(_BASE), said.get(_VARIABLES)
    yield from base_asks(None if base is None else str(base), own)
    try:
        found = json.loads(variables) if isinstance(variables, str) else None
    except (ValueError, RecursionError):
        found = None
    yield from variable_asks(found if isinstance(found, dict) else {}, path.name)


def _any_asks(data: bytes, path: Path, own: Own) -> Iterator[Ask]:
    """Yield what a file of another shape asks for, by whatever in it could be an address."""
    try:
        text = decoded(data)
    except UnicodeDecodeError:
        text = data.decode(errors="replace")
    pairs = list(_pairs(text, is_deep=True))
    is_yaml = bool(pairs) and "@EXPLICIT" not in text
    scalars = [] if is_yaml else _URL.findall(text)  # of an explicit file, or one that is damaged
    for key, value in pairs:
        found = list(_scalars(value, has_keys=False))
        scalars += [url for scalar in (key, *found) for url in _URL.findall(scalar)]
        if key in ("channel", "channels", "url"):  # a channel by its name
            for name in found:
                yield from channel_asks(name, own) if re.fullmatch(r"[\w./-]+", name) else ()
        elif key == "dependencies":
            for name in found:
                yield from dependency_asks(name, own) if name.count(":") > 1 else ()
        elif key == "custom_metadata":
            yield from _custom_asks(dict(_mapping(value)), path, own)
        elif key == "variables":
            yield from variable_asks(dict(_mapping(value)), path.name)
    for url in dict.fromkeys(scalars):
        yield from address_asks(url.rstrip(",;)]}"), own)


# --- YAML, as nodes: no key is lost -------------------------------------------------------------------------


def _readings(path: Path) -> list[str]:
    """Return a spec's text as YAML is given it: as it is, and where that is refused, as it is repaired."""
    from envbox.locks.spec.text import read_text, repaired

    if not path.is_file():
        return []
    try:
        text = read_text(path)
    except SpecError:
        return []  # who reads it next says so in words
    return [_NULL_LIST.sub(r"\1: []", one) for one in dict.fromkeys([text, repaired(text)])]


def _walks(path: Path) -> Iterator[RequirementFiles]:
    """Yield what each line of a spec that names a requirement file leads to, by the reader that locks it."""
    from envbox.locks.spec.requirements import RequirementFiles, one_line

    texts = [text for text in _readings(path) if _MAY_NAME_FILES.search(text)]
    values = (value for text in texts for key, value in _pairs(text) if key == "dependencies")
    named = dict.fromkeys(one_line(scalar) for value in values for scalar in _scalars(value))
    for text in named:
        if text.startswith("-"):
            found = RequirementFiles(path.absolute().parent)  # one each: no other uses up how many are read
            found.add(text)
            yield found


def _pairs(text: str, *, is_deep: bool = False) -> Iterator[tuple[str, Any]]:
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


def _scalars(root: Any, *, has_keys: bool = True) -> Iterator[str]:
    import yaml

    return (node.value for node in _nodes(root, has_keys=has_keys) if isinstance(node, yaml.ScalarNode))


def _mapping(root: Any) -> Iterator[tuple[str, str]]:
    import yaml

    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if isinstance(key, yaml.ScalarNode):
            yield key.value, value.value if isinstance(value, yaml.ScalarNode) else ""
