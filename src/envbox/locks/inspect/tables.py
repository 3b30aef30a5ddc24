"""Values as lines of text: aligned for people, or markdown for a pull request. Plain, without colour."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from envbox.locks.inspect.changes import Change

MANY = 20  # packages that came or went together, as with a platform: more is one line


def lines(changes: Iterable[Change], platforms: Sequence[str] = ()) -> Iterator[str]:
    """Yield a line for each change, aligned: kind, package, versions, and where; a crowd is one line.

    :param platforms: all that there are; a change on all of them needs no name of a platform
    """
    found, crowds = _without_crowds(tuple(changes))
    rows = [(kind, f"{count} packages", "", ", ".join(crowd)) for kind, crowd, count in crowds]
    yield from table([*rows, *change_rows(found, platforms)])


def change_rows(changes: Iterable[Change], platforms: Sequence[str]) -> Iterator[tuple[str, str, str, str]]:
    """Yield kind, package, versions and platforms of each change."""
    for change in changes:
        where = "" if set(change.platforms) == set(platforms) else ", ".join(change.platforms)
        yield change.kind, label(change), versions(change), where


def label(change: Change) -> str:
    """Return the package's name; a wheel's says that it is one."""
    return f"{change.name} (pip)" if change.manager == "pip" else change.name


def versions(change: Change) -> str:
    """Return from what to what it went: versions, or the builds of one."""
    before, after = change.before, change.after
    if before is None or after is None:
        one = before or after
        return one.version if one else ""
    if change.kind != "rebuilt" or before.version != after.version:
        return f"{before.version} → {after.version}"
    if before.build != after.build:
        return f"{before.version} {before.build} → {after.build}"
    if before.sha256 != after.sha256:
        return f"{before.version}, other bytes: {before.sha256[:12]} → {after.sha256[:12]}"
    return f"{before.version}, from {after.url}"


def table(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> Iterator[str]:
    """Align columns, two blanks apart; nothing stands behind the last word of a line.

    :param right: the columns that are aligned at their right, as numbers are
    """
    if not rows:
        return
    wide = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    shown = [column for column, width in enumerate(wide) if width]
    for row in rows:
        cells = (f"{row[c]:>{wide[c]}}" if c in right else f"{row[c]:<{wide[c]}}" for c in shown)
        yield "  ".join(cells).rstrip()


def _without_crowds(
    changes: tuple[Change, ...],
) -> tuple[tuple[Change, ...], list[tuple[str, tuple[str, ...], int]]]:
    """Take out what came or went in a crowd, which is a platform's or a first lock's."""
    crowds: dict[tuple[str, tuple[str, ...]], int] = {}
    for change in changes:
        key = (change.kind, change.platforms)
        crowds[key] = crowds.get(key, 0) + 1
    many = {key: n for key, n in crowds.items() if n > MANY and key[0] in ("added", "removed")}
    left = tuple(change for change in changes if (change.kind, change.platforms) not in many)
    return left, [(*key, count) for key, count in sorted(many.items())]
