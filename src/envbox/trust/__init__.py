"""Trust: a project asks, its user allows. What a project's files ask for, as values with plain words.

A project is somebody else's word: a clone, an unpacked archive, a folder of a colleague's. What stays inside
its directory has an effect at once: packages of the usual channels, volumes below it, a command in a
container. Whatever reaches outside, or takes a protection away, is an `Ask`: it has no effect until the user
has allowed exactly that. What the command line, environment variables and the user's own configuration say is
the user's own word, and asks for nothing.

An ask is known by a digest over everything in its wish that makes a difference (and of files that it names,
their content). So locking anew with the same channels asks for nothing new, and one changed letter of a
mirror's address does. `rules` says which settings are asks, `addresses` which hosts and channels are usual,
`content` what specs and lockfiles ask for, `owners` whose files they are; `allowing` keeps what was allowed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

Use = Literal["fetch", "launch"]
"""When a wish has its effect: as soon as anything is locked or fetched, or only when something is started."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One thing that a project asks for.

    :param words: what would happen, as a sentence without its subject, the project
    :param key: the digest of what is asked for, in hex
    """

    words: str
    key: str
    use: Use = "fetch"


def ask(words: str, *content: object, use: Use = "fetch") -> Ask:
    """Give the ask of these words.

    :param content: what makes it this one and no other: texts, numbers, None
    """
    return Ask(words, _digest(content), use)


def united(asks: Iterable[Ask]) -> tuple[Ask, ...]:
    """Return asks in their order, each once; what is wanted for two uses is wanted for the earlier one."""
    found: dict[str, Ask] = {}
    for one in asks:
        if one.key not in found or one.use == "fetch":
            found[one.key] = one
    return tuple(found.values())


def digest_of(asks: Iterable[Ask]) -> str:
    """Return the digest of all that a project asks for, in hex; the same in every clone."""
    return _digest(sorted({one.key for one in asks}))


def _digest(content: Iterable[object]) -> str:
    """Return a digest over texts, written in ASCII: a path need not be text."""
    return sha256(json.dumps(list(content), separators=(",", ":")).encode()).hexdigest()


def plain(text: str) -> str:
    """Return a text from a file as it may stand in words: one line, with nothing in it that a terminal
    obeys.
    """
    return text if text and text.isprintable() else repr(text)
