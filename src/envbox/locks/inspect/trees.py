"""A graph as a tree of lines. What was shown once is not shown again: there `(*)` stands for all below it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from envbox.locks.inspect.graph import Graph

AGAIN = " (*)"
_STEP = len("├── ")


def tree(
    graph: Graph, roots: Iterable[str], *, is_inverted: bool = False, depth: int | None = None
) -> Iterator[str]:
    """Draw what each root needs; inverted: who needs it, and of which versions.

    Virtual packages are left out where packages are unfolded: each compiled one needs them.

    :param depth: how far below a root to go
    """
    edges = graph.needed_by if is_inverted else graph.needs
    shown: set[str] = set()
    for root in roots:
        todo = [(root, "", "", "")]  # a stack and no recursion: how deep a lock goes is not ours to say
        while todo:
            key, lead, indent, constraint = todo.pop()
            below = sorted(p for p in edges.get(key, {}).items() if p[0] in graph.packages)
            is_cut = depth is not None and len(indent) // _STEP >= depth
            again = key in shown and bool(below) and not is_cut
            words = f"  needs {constraint}" if is_inverted and constraint else ""
            yield f"{lead}{graph.label(key)}{AGAIN * again}{words}"
            if again or is_cut:
                continue
            shown.add(key)
            todo.extend(
                (
                    other,
                    indent + ("└── " if number == 0 else "├── "),
                    indent + ("    " if number == 0 else "│   "),
                    wanted,
                )
                for number, (other, wanted) in enumerate(reversed(below))
            )
