"""Two locks held against each other, and that as lines, as markdown, and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from envbox.lockfile import LockedPackage
from envbox.locks.inspect.changes import Change, Detail, alike, changes, details, summary
from envbox.locks.inspect.graph import asked_key, key_of
from envbox.locks.inspect.operands import Pair
from envbox.locks.inspect.tables import change_rows, label, table

_MANY = 30  # rows of markdown: more are folded, for a pull request to stay readable
_DIGEST = 19  # characters of one: `sha256:` and twelve


@dataclass(frozen=True, slots=True)
class LockDifference:
    """What is different between two locks.

    :param changes: on the platforms that both have; of others, `details` says that they came or went
    """

    pair: Pair
    changes: tuple[Change, ...]
    details: tuple[Detail, ...]

    @property
    def title(self) -> str:
        """What was compared, for people."""
        return f"{self.pair.name}: {self.pair.old.label} → {self.pair.new.label}"

    @property
    def is_none(self) -> bool:
        """Whether nothing differs."""
        return not self.changes and not self.details

    @property
    def summary(self) -> str:
        """In a line."""
        other = f"{len(self.details)} other change" + "s" * (len(self.details) != 1)
        words = [summary(self.changes)] * bool(self.changes) + [other] * bool(self.details)
        return ", ".join(words) or "no change"


def difference(pair: Pair) -> LockDifference:
    """Compare two locks. One that is not there has nothing in it."""
    old, new = pair.old.lock, pair.new.lock
    if old and new and old.digest and old.digest == new.digest:
        return LockDifference(pair, (), ())
    found = changes(old, new)
    if old and new:
        found = tuple(_within(found, {*old.platforms} & {*new.platforms}))
    return LockDifference(pair, found, details(old, new))


def as_lines(one: LockDifference) -> Iterator[str]:
    """Yield lines for a terminal: what changed, aligned, and how much that is."""
    yield one.title
    rows = [*change_rows(one.changes, _platforms(one.pair))]
    rows += [("changed", detail.what, _both(detail), "") for detail in one.details]
    yield from (f"  {line}" for line in table(rows))
    yield f"  {one.summary}"


def as_markdown(one: LockDifference) -> Iterator[str]:
    """Yield lines for a pull request: a table, what was asked for in bold."""
    yield f"### {_escaped(one.title)}"
    yield ""
    yield one.summary
    yield ""
    everywhere = set(_platforms(one.pair))
    asked = _asked(one.pair)
    rows: list[tuple[str, ...]] = [
        (
            f"**{_escaped(label(c))}**" if _key(c) in asked else _escaped(label(c)),
            c.kind,
            _version(c.before, c),
            _version(c.after, c),
            "all" if set(c.platforms) == everywhere else ", ".join(c.platforms),
        )
        for c in sorted(one.changes, key=lambda c: _key(c) not in asked)
    ]
    rows += [(_escaped(d.what), "changed", _code(d.before), _code(d.after), "") for d in one.details]
    if len(rows) > _MANY:
        yield f"<details><summary>{len(rows)} rows</summary>\n"
    if rows:
        yield "| package | change | before | after | platforms |"
        yield "|---|---|---|---|---|"
    yield from (f"| {' | '.join(row)} |".replace("|  |", "| |") for row in rows)
    if len(rows) > _MANY:
        yield "\n</details>"


def as_json(one: LockDifference) -> dict[str, Any]:
    """Return all of it, each platform's own builds and hashes too, for a program to read."""
    old, new = one.pair.old, one.pair.new
    return {
        "name": one.pair.name,
        "from": old.label,
        "to": new.label,
        "summary": one.summary,
        "details": [asdict(detail) for detail in one.details],
        "packages": [
            {
                "name": group[0].name,
                "manager": group[0].manager,
                "kind": group[0].kind,
                "before": group[0].before and group[0].before.version,
                "after": group[0].after and group[0].after.version,
                "platforms": {
                    c.platforms[0]: {"before": _one(c.before), "after": _one(c.after)} for c in group
                },
            }
            for group in alike(old.lock, new.lock)
        ],
    }


# --- parts --------------------------------------------------------------------------------------------------


def _within(found: tuple[Change, ...], platforms: set[str]) -> Iterator[Change]:
    for change in found:
        kept = tuple(p for p in change.platforms if p in platforms)
        if kept:
            yield replace(change, platforms=kept)


def _platforms(pair: Pair) -> tuple[str, ...]:
    """Return all platforms that a change can be on: those of both, or of the one that is there."""
    old, new = pair.old.lock, pair.new.lock
    if old and new:
        return tuple(p for p in new.platforms if p in old.platforms)
    lock = old or new
    return lock.platforms if lock else ()


def _asked(pair: Pair) -> set[str]:
    locks = filter(None, (pair.old.lock, pair.new.lock))
    return {
        key for lock in locks for texts in lock.requested.values() for t in texts if (key := asked_key(t))
    }


def _key(change: Change) -> str:
    package = change.after or change.before
    return key_of(package) if package else change.name


def _version(package: LockedPackage | None, change: Change) -> str:
    """Return the version; its build too, where that is all that tells two apart."""
    if package is None:
        return ""
    build = package.build if change.kind == "rebuilt" else None
    return _code(f"{package.version} {build}" if build else package.version)


def _both(detail: Detail) -> str:
    return " → ".join(
        _short(text) if text is not None else "nothing" for text in (detail.before, detail.after)
    )


def _short(text: str) -> str:
    return text[:_DIGEST] if text.startswith("sha256:") else text


def _code(text: str | None) -> str:
    return "" if text is None else f"`{_escaped(_short(text)).replace('`', ' ')}`"


def _escaped(text: str) -> str:
    """Escape a text, so that it is nothing else in a table of markdown."""
    return text.replace("|", "\\|").replace("<", "&lt;")


def _one(package: LockedPackage | None) -> dict[str, Any] | None:
    if package is None:
        return None
    return {key: getattr(package, key) for key in ("version", "build", "url", "sha256", "size", "license")}
