"""Two packages with one path: whose file stands, settled before anything is final. Pure.

A layer must not have a path twice, and layers must not overwrite each other, or what an image holds would
depend on their order. So each path has one owner: the package that (indirectly) depends on the others that
claim it; among strangers, the one whose name sorts first (as rattler has it). A wheel goes before conda
packages, as pip installs after conda. The rule looks only at the claimants, so an unrelated package never
changes a winner.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Claim:
    """What one package wants to have in the image.

    :param depends: names of packages, direct ones only
    :param paths: of files and links
    :param directories: that its paths lie in
    """

    name: str
    depends: frozenset[str]
    paths: tuple[str, ...]
    directories: tuple[str, ...]
    is_wheel: bool = False


def settle(claims: Sequence[Claim]) -> dict[str, frozenset[str]]:
    """Return the paths that each package loses; packages that lose nothing are not named."""
    by_name = {claim.name: claim for claim in claims}
    lost: dict[str, set[str]] = {}
    winners: dict[
        frozenset[str], str
    ] = {}  # a wheel that repeats a conda package contests thousands of paths
    for path, names in _contested(claims).items():
        among = frozenset(names)
        if among not in winners:
            winners[among] = _winner(names, by_name)
        for name in among - {winners[among]}:
            lost.setdefault(name, set()).add(path)
    for name, path in _blocked(claims, lost, by_name):
        lost.setdefault(name, set()).add(path)
    return {name: frozenset(paths) for name, paths in lost.items()}


def _contested(claims: Sequence[Claim]) -> dict[str, set[str]]:
    owner: dict[str, str] = {}
    contested: dict[str, set[str]] = {}
    for claim in claims:
        for path in claim.paths:
            first = owner.setdefault(path, claim.name)
            if first != claim.name:
                contested.setdefault(path, {first}).add(claim.name)
    return contested


def _blocked(
    claims: Sequence[Claim], lost: Mapping[str, set[str]], by_name: Mapping[str, Claim]
) -> Iterable[tuple[str, str]]:
    """Yield the loser's paths where one package has a file and another needs a folder of that name."""
    folders: dict[str, set[str]] = {}
    for claim in claims:
        for path in claim.directories:
            folders.setdefault(path, set()).add(claim.name)
    for claim in claims:
        for path in set(claim.paths) & folders.keys() - lost.get(claim.name, set()):
            rivals = folders[path] - {claim.name}
            if not rivals:
                continue
            if _winner(rivals | {claim.name}, by_name) != claim.name:
                yield claim.name, path
                continue
            for rival in rivals:
                for inner in by_name[rival].paths:
                    if inner.startswith(path + "/"):
                        yield rival, inner


def _winner(names: set[str], by_name: Mapping[str, Claim]) -> str:
    wheels = {name for name in names if by_name[name].is_wheel}
    names = wheels or names
    reach = {name: _reach(name, by_name) for name in names}
    on_top = {name for name in names if not any(name in reach[other] for other in names - {name})}
    return min(on_top or names)  # a cycle of dependencies leaves nobody on top


def _reach(name: str, by_name: Mapping[str, Claim]) -> set[str]:
    seen: set[str] = set()
    todo = list(by_name[name].depends)
    while todo:
        following = todo.pop()
        if following in by_name and following not in seen:
            seen.add(following)
            todo += by_name[following].depends
    return seen
