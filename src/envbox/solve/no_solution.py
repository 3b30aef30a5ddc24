"""Why there is no solution, in words: which requirements clash, which package is not there.

rattler says it as a tree that begins with what was asked for, or as a chain of causes; both are kept, cut to
what a person reads, after one line that names what to change.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from envbox.errors import did_you_mean
from envbox.lockfile import DEFAULT_PLATFORMS
from envbox.mirrors import public, public_channel
from envbox.solve.match_specs import parse_match_spec
from envbox.solve.question import Question

_MOST_LINES = 30  # of a solver's tree; what clashes stands in the first few


async def no_solution(
    text: str, question: Question, asked: Sequence[str], gateway: Any
) -> tuple[str, str | None]:
    """Say which requirements clash; the solver's own tree follows, indented."""
    tree = public(text).removeprefix("Cannot solve the request because of: ").strip()
    missing = re.fullmatch(r"No candidates were found for (\S+) ?(.*?)\.?", tree)
    if missing:
        return await _missing(missing[1].rpartition("::")[2], missing[2], (question, asked, gateway))
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


def _way_out(tree: str, question: Question) -> str:
    """What to do: loosen the spec, unless the date or the machine is what is in the way."""
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
    return set(re.findall(r"(?<![\w.-])[A-Za-z0-9_][\w.-]*", tree))


async def _missing(
    name: str, wanted: str, where: tuple[Question, Sequence[str], Any]
) -> tuple[str, str | None]:
    from rattler import Channel

    question, asked, gateway = where
    channels, subdirs = [Channel(url) for url in asked], [question.platform, "noarch"]
    shown = ", ".join(map(public_channel, asked))
    found = await gateway.query(channels, subdirs, [name], recursive=False)
    versions = {record.version for part in found for record in part}
    if versions:
        return (
            f"no {name} {wanted} in {shown} for {question.platform}",
            f"the newest there is {max(versions)}",
        )
    names = [n.normalized for n in await gateway.names(channels, subdirs)]
    hint = did_you_mean(name, names) or "another channel may have it: name it in `channels:`"
    return f"there is no package {name} in {shown} for {question.platform}", hint
