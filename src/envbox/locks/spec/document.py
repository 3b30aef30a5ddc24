"""A spec's text as values: read once, whatever its layout, with the lines and selectors of its parts.

The difficulty is that conda-lock, which says what a spec means, cuts the text into lines before it is YAML.
So the text is parsed by YAML alone here, selectors are seen where the values end, and conda-lock is given a
text of ours that says the same (`canonical`).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envbox.errors import SpecError
from envbox.locks.spec.requirements import for_conda_lock
from envbox.locks.spec.selectors import CONDA_LOCKS, KNOWN, SELECTORS, selector_in
from envbox.locks.spec.text import EXAMPLE, Place, repaired

_ONLY = {
    platform: next(s for s in sorted(names) if sum(s in other for other in CONDA_LOCKS.values()) == 1)
    for platform, names in CONDA_LOCKS.items()
}
"""A platform that conda-lock knows → a selector that means it and no other."""
_CONDA_LOCKS_KEYS = ("channels", "pip-repositories", "category", "allow-pypi-requests")


@dataclass(frozen=True, slots=True)
class Document:
    """A spec's values, as YAML has them.

    :param text: what was parsed
    :param lines: of its parts, by their place: `("dependencies", 2, "pip", 0)`
    :param selectors: of dependencies, by their place
    :param idle: selectors that stand elsewhere, where they have no effect, by their line
    """

    values: Mapping[str, Any]
    text: str = ""
    lines: Mapping[Place, int] = field(default_factory=dict)
    selectors: Mapping[Place, str] = field(default_factory=dict)
    idle: Mapping[int, str] = field(default_factory=dict)

    def dependencies(self, platform: str) -> list[Any]:
        """Return the dependencies of one platform, each as it is written, in a list that is new."""
        return [
            {**item, "pip": self._section(("dependencies", n, "pip"), item["pip"], platform)}
            if isinstance(item, dict) and isinstance(item.get("pip"), list)
            else item
            for n, item in enumerate(self.values.get("dependencies") or [])
            if self._is_on(("dependencies", n), platform)
        ]

    def _section(self, place: Place, items: Sequence[Any], platform: str) -> list[Any]:
        return [item for n, item in enumerate(items) if self._is_on((*place, n), platform)]

    def _is_on(self, place: Place, platform: str) -> bool:
        selector = self.selectors.get(place)
        return selector is None or selector in SELECTORS[platform]


def parsed(text: str, path: Path) -> Document:
    """Return a spec's text as a document. What YAML refuses is tried again as editors and exports are
    repaired.

    :raises SpecError: when it is not YAML, or no mapping, or one that grows out of bounds
    """
    from envbox.locks.spec.safe_yaml import load

    try:
        found = load(text)  # not the loader in C: it takes other texts than conda-lock's
    except Exception:
        text = repaired(text)
        try:
            found = load(text)
        except Exception as error:  # whatever YAML's constructors stumble over, it is the text
            raise _not_yaml(error, text, path) from error
    if not isinstance(found.value, dict):
        raise SpecError(f"{path} is not a spec: it has no `dependencies:`", EXAMPLE)
    return Document(found.value, text, found.lines, *_selectors(text, found.ends))


def _selectors(text: str, ends: Mapping[Place, int]) -> tuple[dict[Place, str], dict[int, str]]:
    """Return the selectors of dependencies, and others by their line.

    A line has one: that of what ends last on it.
    """
    if "#" not in text:
        return {}, {}
    breaks = [found.start() for found in re.finditer("\n", text)]
    line_of = {place: bisect_left(breaks, end) + 1 for place, end in ends.items()}
    last: dict[int, int] = {}
    for place, end in ends.items():
        last[line_of[place]] = max(end, last.get(line_of[place], 0))
    told = {line: selector_in(text[end : _line_end(text, end)]) for line, end in last.items()}
    items = {place: line for place, line in line_of.items() if place[0] == "dependencies" and len(place) > 1}
    here = {place: selector for place, line in items.items() if (selector := told[line])}
    lines = {line_of[place] for place in here}
    return here, {line: s for line, s in sorted(told.items()) if s in KNOWN and line not in lines}


def _line_end(text: str, place: int) -> int:
    found = text.find("\n", place)
    return len(text) if found < 0 else found


def _not_yaml(error: Exception, text: str, path: Path) -> SpecError:
    mark = getattr(error, "problem_mark", None)
    said = getattr(error, "problem", None) or str(error).partition("\n")[0] or type(error).__name__
    tab = next((n for n, line in enumerate(text.split("\n"), 1) if re.match(r" *\t", line)), None)
    if tab:
        return SpecError(
            f"the spec {path} is indented with a tab (line {tab})", "YAML is indented with spaces"
        )
    where = f" (line {mark.line + 1})" if mark else ""
    return SpecError(f"the spec {path} is not YAML: {said[:200]}{where}", getattr(error, "note", None))


# --- for conda-lock -----------------------------------------------------------------------------------------

Asked = tuple[tuple[str, ...], tuple[str, ...]]
"""Match specs and requirements."""


def canonical(document: Document, asked: Mapping[str, Asked]) -> str:
    """Return a text that says to conda-lock what a document asks for: plain YAML, with a selector for each
    platform.

    :param asked: platform → what is asked for on it; several only of those that conda-lock knows
    """
    said = {key: document.values[key] for key in _CONDA_LOCKS_KEYS if document.values.get(key) is not None}
    said.setdefault("channels", [])
    lines = [f"{key}: {_flow(value)}" for key, value in said.items()]
    lines += ["dependencies:", *_items(asked, lambda one: one[0], "- ")]
    if any(pip for _, pip in asked.values()):
        lines += ["- pip:", *_items(asked, lambda one: map(for_conda_lock, one[1]), "  - ")]
    return "\n".join(lines) + "\n"


def _items(asked: Mapping[str, Asked], part: Callable[[Asked], Iterable[str]], dash: str) -> list[str]:
    """Return the lines of a list, in the order of each platform."""
    lists = [tuple(part(one)) for one in asked.values()]
    if all(one == lists[0] for one in lists):
        return [f"{dash}{_quoted(text)}" for text in lists[0]]
    return [
        f"{dash}{_quoted(text)}  # [{_ONLY[platform]}]"
        for platform, texts in zip(asked, lists, strict=True)
        for text in texts
    ]


def _quoted(text: str) -> str:
    """Return a text as YAML, in which conda-lock sees no comment and every locale all characters."""
    return _flow(text).replace("#", "\\x23")


def _flow(value: object) -> str:
    import yaml

    written: str = yaml.safe_dump(value, default_style='"', default_flow_style=True, width=2**30)
    return written.removesuffix("...\n").strip()
