"""What became of a merge: where both sides had locked something else, what each had and what it is now."""

from __future__ import annotations

from collections.abc import Iterator

from envbox.lockfile import Lock, LockedPackage
from envbox.locks.inspect.changes import changes, details, summary

_OF_SOLVE = ("exclude-newer", "strategy")


def settled(ours: Lock, theirs: Lock, solved: Lock) -> Iterator[str]:
    """Yield a line for each package that the sides had locked differently, and how far the outcome is from
    each.
    """
    now = {(str(p.manager), p.name, p.platform): p for p in solved.packages}
    for change in changes(ours, theirs):
        one, other = change.before, change.after
        if one is None or other is None:
            continue
        found = now.get((change.manager, change.name, change.platforms[0]))
        where = "" if set(change.platforms) >= set(solved.platforms) else f" ({', '.join(change.platforms)})"
        with_build = one.version == other.version
        had = f"ours had {_label(one, with_build)}, theirs {_label(other, with_build)}"
        yield f"{change.name} {_label(found, with_build)}{where}: {had}"
    for detail in details(ours, theirs):
        if detail.what in _OF_SOLVE:
            yield f"{detail.what} is ours, {detail.before or 'none'}; theirs was {detail.after or 'none'}"
    for side, lock in (("ours", ours), ("theirs", theirs)):
        yield f"since {side}: {summary(changes(lock, solved))}"


def _label(package: LockedPackage | None, with_build: bool) -> str:
    if package is None:
        return "is not needed any more"
    return f"{package.version} {package.build}" if with_build and package.build else package.version
