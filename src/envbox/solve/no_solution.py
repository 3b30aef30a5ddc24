"""Why there is no solution, in words: which requirements clash, which package or channel is not there.

rattler says it as a tree that begins with what was asked for, or as a chain of causes; both are kept, cut to
what a person reads, after one line that names what to change.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from envbox.errors import EnvboxError, SpecError, ToolError
from envbox.mirrors import public, without_credentials
from envbox.settings import Settings
from envbox.solve.match_specs import channel_url, parse_match_spec
from envbox.solve.question import Question

_CAUSE = "Caused by: "
_MOST_LINES = 30  # of a solver's tree; what clashes stands in the first few


async def channel_failure(
    broken: Sequence[BaseException], asked: Sequence[str], gateway: Any, settings: Settings
) -> BaseException:
    """Find out why a channel could not be read: of requests that share a download, only one is told."""
    from rattler import Channel
    from rattler.exceptions import GatewayError

    error = next((e for e in broken if "://" in str(e) or not isinstance(e, GatewayError)), broken[0])
    if "://" not in str(error) and isinstance(error, GatewayError):
        try:
            for channel in asked:
                await gateway.query([Channel(channel)], ["noarch"], ["python"], recursive=False)
        except GatewayError as alone:
            error = alone
    if not isinstance(error, GatewayError):
        return error
    found = _channel_error(str(error), asked, settings)
    found.__cause__ = error
    return found


def _channel_error(text: str, asked: Sequence[str], settings: Settings) -> EnvboxError:
    text = public(text)
    cause = text.replace("\n", "").split(_CAUSE)[-1]
    url = next(iter(re.findall(r"\((\w+://[^)]+)\)", text)), "")
    urls = {without_credentials(channel_url(channel)): channel for channel in asked}
    named = next(
        (c for u, c in urls.items() if u in text or url.startswith(public(settings.mirrors.rewrite(u)))), url
    )
    channel = without_credentials(named) if "://" in named else named or ", ".join(urls)
    if "could not find subdir" in text or "404" in text:
        return SpecError(
            f"there is no channel {channel}: {cause}", "check its name under `channels:` in the spec"
        )
    return ToolError(
        f"the channel {channel} cannot be read: {cause}" + (f" ({url})" if url not in cause else ""),
        "check the network and try again; a mirror can be set under [mirrors] in envbox.toml",
    )


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
    hint = "loosen or drop one of them in the spec"
    for name in sorted(question.virtual):
        if name in tree and name != "__unix":
            offered = f"the base image offers {name} {question.virtual[name][0]}"
            hint = f"{offered}: choose a newer base, or older packages"
    lines = [line.rstrip() for line in tree.splitlines() if line.strip()]
    return "\n".join([head, *(f"  {line}" for line in lines[:_MOST_LINES])]), hint


def names_in(tree: str) -> set[str]:
    return set(re.findall(r"(?<![\w.-])[A-Za-z0-9_][\w.-]*", tree))


async def _missing(
    name: str, wanted: str, where: tuple[Question, Sequence[str], Any]
) -> tuple[str, str | None]:
    import difflib

    from rattler import Channel

    question, asked, gateway = where
    channels, subdirs = [Channel(url) for url in asked], [question.platform, "noarch"]
    shown = ", ".join(without_credentials(c) if "://" in c else c for c in asked)
    found = await gateway.query(channels, subdirs, [name], recursive=False)
    versions = {record.version for part in found for record in part}
    if versions:
        return (
            f"no {name} {wanted} in {shown} for {question.platform}",
            f"the newest there is {max(versions)}",
        )
    names = [n.normalized for n in await gateway.names(channels, subdirs)]
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.75)
    hint = (
        f"did you mean {' or '.join(near)}?"
        if near
        else "another channel may have it: name it in `channels:`"
    )
    return f"there is no package {name} in {shown} for {question.platform}", hint
