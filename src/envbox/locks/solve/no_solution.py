"""Why there is no solution, in words: which requirements clash, which package is not there.

rattler says it as a tree that begins with what was asked for, or as a chain of causes; both are kept, cut to
what a person reads, after one line that names what to change.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from envbox.errors import did_you_mean
from envbox.locks.solve.match_specs import channel_url, parse_match_spec
from envbox.locks.solve.request import SolveRequest
from envbox.mirrors import public, public_channel
from envbox.platforms import DEFAULT_PLATFORMS

_MOST_LINES = 30  # of a solver's tree; what clashes stands in the first few
_MOST_HINTS = 12


@dataclass(frozen=True, slots=True)
class Unmet:
    """A match spec of the question that nothing in the channels fits, whatever else is asked for.

    :param channel: the first that has the name; None: none has
    :param newest: version in that channel
    :param below: the channel after it that has what was asked for, if one has
    """

    text: str
    name: str
    channel: str | None = None
    newest: str = ""
    below: str | None = None


async def unmet_specs(question: SolveRequest, asked: Sequence[str], gateway: Any) -> list[Unmet]:
    """Return all match specs that have no candidate, in their order: a solver stops at the first."""
    subdirs = [question.platform, "noarch"]
    names: dict[str, set[str]] = {}
    for url in asked:
        found = await gateway.names([_channel(url)], subdirs, "disabled")
        names[url] = {name.normalized for name in found}
    faults = []
    for text in question.specs:
        spec = parse_match_spec(text)
        name = spec.name.normalized
        if name.startswith("__"):
            continue
        places = [url for url in asked if name in names[url]]
        if spec.channel is not None:
            own = channel_url(spec.channel.base_url)
            places = [url for url in places if channel_url(url) == own]
        fitting = [url for url in places if await _records(spec, url, subdirs, gateway)]
        if places and places[0] in fitting:
            continue
        if not places:
            faults.append(Unmet(text, name))
            continue
        there = await _records(parse_match_spec(name), places[0], subdirs, gateway)
        newest = str(max(record.version for record in there)) if there else ""
        faults.append(Unmet(text, name, places[0], newest, fitting[0] if fitting else None))
    return faults


def _channel(url: str) -> Any:
    from rattler import Channel

    return Channel(url)


async def _records(spec: Any, url: str, subdirs: Sequence[str], gateway: Any) -> list[Any]:
    found = await gateway.query([_channel(url)], subdirs, [spec], False, "disabled")
    return [record for part in found for record in part]


async def unmet_words(
    faults: Sequence[Unmet], question: SolveRequest, asked: Sequence[str], gateway: Any
) -> tuple[str, str]:
    """Say which match specs nothing fits; a hint for each that has one."""
    shown = ", ".join(map(public_channel, asked))
    lines, hints = [], []
    nowhere = [one.name for one in faults if one.channel is None]
    if nowhere:
        what = f"is no package {nowhere[0]}" if len(nowhere) == 1 else f"are no packages {', '.join(nowhere)}"
        lines.append(f"there {what} in {shown} for {question.platform}")
        found = await gateway.names([_channel(u) for u in asked], [question.platform, "noarch"], "disabled")
        known = [name.normalized for name in found]
        hints += [_alike(name, known, is_only=len(nowhere) == 1) for name in nowhere]
    for one in faults:
        if one.channel is not None:
            wanted = one.text.partition("::")[2] or one.text
            where = public_channel(one.channel) if len(asked) > 1 else shown
            lines.append(f"no {wanted} in {where} for {question.platform}")
            newest = f"the newest{f' {one.name}' if len(faults) > 1 else ''} there is {one.newest}"
            if one.below is not None:
                newest += (
                    f"; {public_channel(one.below)} has it, but comes after {where}, which has that name: "
                    f"write {public_channel(one.below)}::{wanted} if that one is meant"
                )
            hints.append(newest)
    told = [hint for hint in hints if hint] or ["another channel may have it: name it in `channels:`"]
    more = len(told) - _MOST_HINTS
    told = told[:_MOST_HINTS] + ([f"and {more} more"] if more > 0 else [])
    return "\n".join(lines), "; ".join(told)


def _alike(name: str, known: Sequence[str], is_only: bool) -> str:
    found = did_you_mean(name, known) or ""
    return found if is_only or not found else f"{name}: {found}"


def no_solution(text: str, question: SolveRequest) -> tuple[str, str | None]:
    """Say which requirements clash; the solver's own tree follows, indented."""
    tree = public(text).removeprefix("Cannot solve the request because of: ").strip()
    mentioned = names_in(tree)
    names = {spec: parse_match_spec(spec).name.normalized for spec in question.specs}
    clashing = sorted(spec for spec, name in names.items() if name in mentioned)
    if len(clashing) > 1:
        head = f"these requirements clash on {question.platform}: {', '.join(clashing)}"
    else:
        head = f"{''.join(clashing) or 'the environment'} cannot be installed on {question.platform}"
    hint = _way_out(tree, question)
    lines = [line.rstrip() for line in tree.splitlines() if line.strip()]
    return "\n".join([head, *(f"  {line}" for line in lines[:_MOST_LINES])]), hint


def _way_out(tree: str, question: SolveRequest) -> str:
    """Return what to do: loosen the spec, unless the date or the machine is what is in the way."""
    if question.policy.exclude_newer and "cutoff date" in tree:
        return "take a later date with --exclude-newer; `none` lifts it"
    if "__cuda" in tree and "__cuda" not in question.virtual:
        return (
            "no CUDA is assumed: say which version the machines have, under the environment in envbox.toml: "
            'cuda = "12.4"'
        )
    for name in sorted(question.virtual, reverse=True):
        if name in tree and name != "__unix":
            version = question.virtual[name][0]
            if name != "__cuda" and question.platform not in DEFAULT_PLATFORMS:
                return f"{name} {version} is what {question.platform} is locked for: choose older packages"
            by = "the settings offer" if name == "__cuda" else "the base image offers"
            instead = "a newer one" if name == "__cuda" else "a newer base"
            return f"{by} {name} {version}: choose {instead}, or older packages"
    return "loosen or drop one of them in the spec"


def names_in(tree: str) -> set[str]:
    """Return the names of packages in the solver's words."""
    return set(re.findall(r"(?<![\w.-])[A-Za-z0-9_][\w.-]*", tree))
