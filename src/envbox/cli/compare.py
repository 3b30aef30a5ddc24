"""`envbox diff` and `outdated`: what changed, and what would."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from envbox.cli.context import Invocation, complete_name, json_option, name_argument, print_json
from envbox.cli.words import echo_line, foreign, painted

if TYPE_CHECKING:
    from envbox.engine import Engine
    from envbox.lockfile import Lock
    from envbox.locks.inspect.difference import LockDifference
    from envbox.locks.inspect.outdated import Outdated

_COLOURS = {"added": "green", "removed": "red", "upgraded": "cyan", "downgraded": "yellow"}


@click.command()
@click.argument("words", nargs=-1, metavar="[A] [B]", shell_complete=complete_name)
@click.option("--markdown", is_flag=True, help="Print tables in markdown, for a pull request.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when there is a difference.")
@json_option
@click.pass_obj
def diff(
    invocation: Invocation, words: tuple[str, ...], markdown: bool, exit_code: bool, as_json: bool
) -> int:
    """Show what changed in lockfiles: packages that came, went, or moved up or down.

    \b
    envbox diff                    what changed since the last commit, in all environments
    envbox diff maps               in one of them
    envbox diff HEAD~1 [maps]      since another revision; HEAD~2..HEAD~1 between two
    envbox diff OLD.yml NEW.yml    between two lockfiles, or environments
    envbox diff envbox/maps:latest [maps]
                                   between an image (docker://… in a registry) and the lockfile

    A and B are environments, lockfiles, git revisions or images, looked for in this order.
    """
    from envbox.locks.inspect.difference import as_json as value_of

    found = _compare(invocation, words)
    if as_json:
        print_json([value_of(one) for one in found])
    else:
        _print([one for one in found if not one.is_none], invocation, markdown=markdown)
    return 1 if exit_code and not all(one.is_none for one in found) else 0


@click.command()
@name_argument
@click.option("-a", "--all", "everything", is_flag=True, help="Also what was not asked for, but is needed.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 when there is something newer.")
@json_option
@click.pass_obj
def outdated(
    invocation: Invocation, name: str | None, everything: bool, exit_code: bool, as_json: bool
) -> int:
    """Show which packages have newer versions: within what the spec allows, and beyond it.

    Channels are asked, and nothing is changed. What is newer in the spec is what `envbox lock --update-all`
    would lock.
    """
    from envbox.lockfile.conda_lock_v1 import read_lockfile
    from envbox.locks.inspect.outdated import channels_in
    from envbox.locks.inspect.outdated import outdated as find_outdated

    environment = invocation.locked(name)
    lock = read_lockfile(environment.lock_path)
    channels = channels_in(environment.spec_path) if environment.has_spec else ()
    found = find_outdated(lock, invocation.settings, invocation.report, channels)
    shown = [one for one in found if one.is_asked or everything]
    if as_json:
        print_json([asdict(one) for one in shown])
    else:
        _print_outdated(shown, lock, invocation, len(found) - len(shown))
    return 1 if exit_code and shown else 0


def _print_outdated(shown: list[Outdated], lock: Lock, invocation: Invocation, hidden: int) -> None:
    from envbox.locks.inspect.outdated import lines

    for line in lines(shown, lock.platforms):
        echo_line(line)
    say = invocation.report.say
    if hidden:
        say(f"{hidden} more that was not asked for {'has' if hidden == 1 else 'have'} newer versions (--all)")
    elif not shown:
        say(f"{lock.name} has the newest of everything")
    if any(one.within for one in shown):
        say(f"to move within the spec: envbox lock {lock.name} --update PKG, or --update-all")


def _compare(invocation: Invocation, words: tuple[str, ...]) -> list[LockDifference]:
    from envbox.locks.inspect.difference import difference
    from envbox.locks.inspect.operands import find_pairs

    def engine() -> Engine:
        return invocation.engine

    def read_image(name: str) -> bytes:
        from envbox.images.embedded_lock import find_lockfile

        return find_lockfile(name, invocation.project, engine, invocation.settings, invocation.report)

    if len(words) > 2:
        raise click.UsageError(f"two things are compared, not {len(words)}")
    pairs = find_pairs(words, invocation.project, invocation.here, read_image)
    return [difference(pair) for pair in pairs]


def _print(found: list[LockDifference], invocation: Invocation, *, markdown: bool) -> None:
    from envbox.cli.terminal import wants_colour
    from envbox.locks.inspect.difference import as_lines, as_markdown

    if not found:
        invocation.report.say("no difference")
    colour = wants_colour(sys.stdout, os.environ)
    for number, one in enumerate(found):
        if number:
            click.echo()
        for line in as_markdown(one) if markdown else as_lines(one):
            words = foreign.line(line)
            click.echo(words if markdown else _coloured(words), file=painted(sys.stdout), color=colour)


def _coloured(line: str) -> str:
    """Return the line with its first word in the colour of what happened."""
    word = line.strip().partition(" ")[0]
    return line.replace(word, click.style(word, fg=_COLOURS[word]), 1) if word in _COLOURS else line
