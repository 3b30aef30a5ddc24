"""Over random channels: what is asked for anew moves, and nothing moves that could have stayed.

The channels are so small that every solution there is can be counted out, and held against what was found.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.paper_channel import record, write_channel

from envbox.errors import SolveError
from envbox.lockfile import LockedPackage
from envbox.locks.solve import solve
from envbox.locks.solve.request import SolveRequest
from envbox.settings import Settings

NAMES = "abcdef"
Channel = dict[tuple[str, int], dict[str, tuple[int, int]]]
"""(name, version) → what it needs: name → the lowest and the highest version that will do."""


@st.composite
def channels(draw: st.DrawFn) -> Channel:
    """A small channel without cycles: a package needs only names before its own."""
    found: Channel = {}
    for place, name in enumerate(NAMES):
        for version in range(1, draw(st.integers(1, 4)) + 1):
            needs = {}
            for other in NAMES[:place]:
                if draw(st.integers(0, 2)) == 0:
                    low = draw(st.integers(1, 3))
                    needs[other] = (low, draw(st.integers(low, 4)))
            found[name, version] = needs
    return found


def answer(
    channel: Channel,
    specs: tuple[str, ...],
    locked: tuple[LockedPackage, ...] = (),
    update: frozenset[str] = frozenset(),
) -> tuple[LockedPackage, ...] | None:
    """Solve for real; None when there is no solution."""
    with tempfile.TemporaryDirectory() as folder:  # another path each time: a package is known by its hash
        records = [
            record(name, str(v), [f"{n} >={low},<={high}" for n, (low, high) in needs.items()])
            for (name, v), needs in channel.items()
        ]
        url = f"file://{write_channel(Path(folder, 'channel'), records)}"
        question = SolveRequest("linux-64", specs, {}, locked, update)
        found = solve([question], [url], Settings(cache_dir=Path(folder, "cache")))["linux-64"]
    return None if isinstance(found, SolveError) else found


def versions(packages: tuple[LockedPackage, ...]) -> dict[str, int]:
    return {p.name: int(p.version) for p in packages}


def is_valid(channel: Channel, chosen: dict[str, int], floors: dict[str, int]) -> bool:
    return all(chosen.get(name, 0) >= floor for name, floor in floors.items()) and all(
        low <= chosen.get(other, 0) <= high
        for name, version in chosen.items()
        for other, (low, high) in channel[name, version].items()
    )


@given(channels(), st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_nothing_moves_that_could_have_stayed(channel: Channel, data: st.DataObject) -> None:
    asked = data.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    ceilings = {name: data.draw(st.integers(1, 3)) for name in asked}
    locked = answer(channel, tuple(f"{name} <={top}" for name, top in ceilings.items()))
    if locked is None:
        return
    before = versions(locked)
    assert versions(answer(channel, tuple(asked), locked) or ()) == before  # it still fits: nothing moves

    moved = data.draw(st.sampled_from(asked))
    floors = {**dict.fromkeys(asked, 1), moved: before[moved] + 1}
    specs = tuple(f"{name} >={floor}" for name, floor in floors.items())
    solved = answer(channel, specs, locked)
    alone = [
        {**before, moved: version}
        for name, version in channel
        if name == moved and is_valid(channel, {**before, moved: version}, floors)
    ]
    if solved is None:
        assert not alone
        assert answer(channel, specs) is None  # what is locked never stands in the way of a solution
        return
    after = versions(solved)
    assert is_valid(channel, after, floors)
    if alone:
        assert not [n for n in before if n != moved and after.get(n, before[n]) != before[n]]


def solutions(channel: Channel, asked: list[str], tops: dict[str, int]) -> Iterator[dict[str, int]]:
    """All solutions without a package that nobody needs."""
    there = [[0, *(v for n, v in channel if n == name and v <= tops.get(name, v))] for name in NAMES]
    for chosen in itertools.product(*there):
        found = {name: version for name, version in zip(NAMES, chosen, strict=True) if version}
        needed = {*asked}
        for name in reversed(NAMES):  # a package needs only names before its own
            if name in needed and name in found:
                needed |= channel[name, found[name]].keys()
        if needed == found.keys() and is_valid(channel, found, dict.fromkeys(asked, 1)):
            yield found


def moved(before: dict[str, int], after: dict[str, int], updated: frozenset[str]) -> set[str]:
    return {n for n in before.keys() - updated if after.get(n, before[n]) != before[n]}


@given(channels(), st.data())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_an_update_moves_only_what_the_new_version_forces(channel: Channel, data: st.DataObject) -> None:
    asked = data.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    old = {name: data.draw(st.integers(1, 3)) for name in NAMES}
    past = {(n, v): needs for (n, v), needs in channel.items() if v <= old[n]}
    locked = answer(past, tuple(asked))
    if locked is None:
        return
    before = versions(locked)
    updated = frozenset(data.draw(st.lists(st.sampled_from(sorted(before)), min_size=1, max_size=2)))
    tops = {name: data.draw(st.integers(before[name], 4)) for name in asked}
    specs = tuple(f"{name} <={top}" for name, top in tops.items())
    solved = answer(channel, specs, locked, updated)
    assert solved is not None
    after = versions(solved)
    every = list(solutions(channel, asked, tops))
    assert after in every

    first = min(updated)
    if first in asked:  # else there may be solutions without it, and those that need it are no better
        assert after[first] == max(other[first] for other in every)
    assert after.get(first, before[first]) >= before[first]
    same = [other for other in every if all(other.get(n) == after.get(n) for n in updated)]
    assert not [other for other in same if moved(before, other, updated) < moved(before, after, updated)]


def test_what_the_solver_would_move_by_the_way_stays() -> None:
    channel: Channel = {
        **{("a", 1): {}, ("a", 2): {}, ("b", 1): {"a": (1, 1)}, ("b", 2): {"a": (2, 2)}},
        **{("c", 1): {"a": (1, 2)}, ("c", 2): {"a": (1, 2)}},
        **{
            ("d", 1): {"a": (1, 1)},
            ("d", 2): {"a": (2, 2), "c": (1, 1)},
            ("d", 3): {"a": (2, 2), "c": (2, 2)},
        },
    }
    asked = ("d", "b", "c")  # the order in which the solver decides
    locked = answer({key: needs for key, needs in channel.items() if key[1] == 1}, asked)
    assert locked is not None
    assert versions(answer(channel, asked, locked, frozenset("b")) or ()) == {"a": 2, "b": 2, "c": 1, "d": 2}
    assert versions(answer(channel, asked, locked, frozenset("c")) or ()) == {"a": 1, "b": 1, "c": 2, "d": 1}


def test_what_nothing_needs_any_more_goes_and_holds_nothing_back() -> None:
    channel: Channel = {("a", 1): {}, ("b", 1): {"a": (1, 1)}, ("c", 1): {}, ("c", 2): {"a": (1, 1)}}
    locked = answer(channel, ("b", "c <=1"))
    assert locked is not None
    assert versions(locked) == {"a": 1, "b": 1, "c": 1}
    assert versions(answer(channel, ("c",), locked) or ()) == {"c": 1}
    assert versions(answer(channel, ("c",), locked, frozenset("c")) or ()) == {"a": 1, "c": 2}
