"""`envbox trust`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from envbox.cli.context import Invocation, json_option, print_json
from envbox.cli.trust_prompt import everything, file_asks, is_terminal, lines


@click.command()
@click.argument("where", required=False, metavar="[DIR|FILE]", type=click.Path(path_type=Path))
@click.option("-y", "--yes", is_flag=True, help="Ask nothing, also on a terminal.")
@click.option("--show", is_flag=True, help="Only show what it asks for, and the digest for ENVBOX_TRUST.")
@click.option("--list", "only_list", is_flag=True, help="List the projects that something was allowed to.")
@click.option("--revoke", is_flag=True, help="Take back all that was allowed to the project.")
@json_option
@click.pass_obj
def trust(invocation: Invocation, /, where: Path | None, as_json: bool, **asked: bool) -> int:
    """Allow what a project asks for that reaches outside of its directory.

    \b
    envbox trust                 show what this project asks for, and allow it
    envbox trust --show          only show it

    Mounts, variables, other channels, mirrors, networks or images, and projects of other users, have no
    effect until you have allowed exactly that. What changes later is asked for again. DIR is another
    project's; with a FILE (a spec, a lockfile, a notebook), what that asks for is allowed to this one, too.
    """
    from envbox.trust import allowances as allowing

    if sum(asked[key] for key in ("show", "only_list", "revoke")) > 1:
        raise click.UsageError("--show, --list and --revoke exclude each other")
    if asked["only_list"]:
        _list(invocation, as_json=as_json)
        return 0
    files = []
    path = None if where is None else Path(os.path.abspath(invocation.here / where))  # noqa: PTH100  # as `-C` has it
    if path is not None and path.is_dir():
        invocation = invocation.at(path)
    elif path is not None and not path.exists():
        raise click.UsageError(f"there is no {path}: name a project's directory, or a file")
    elif path is not None:
        files = [path]
    if asked["revoke"]:
        allowing.revoke(allowing.folder(), invocation.root)
        invocation.report.say(f"{invocation.root} is allowed nothing any more")
        return 0
    return _allow(invocation, files, only_show=asked["show"], asks_nobody=asked["yes"], as_json=as_json)


def _allow(
    invocation: Invocation, files: list[Path], *, only_show: bool, asks_nobody: bool, as_json: bool
) -> int:
    from envbox.trust import allowances as allowing
    from envbox.trust import digest_of, united

    found = united([*everything(invocation), *file_asks(invocation, files)])
    if as_json:
        asks = [
            {"words": one.words, "key": one.key, "allowed": one.key in invocation.allowed} for one in found
        ]
        print_json({"project": str(invocation.root), "digest": digest_of(found), "asks": asks})
    elif not found:
        invocation.report.say(f"{invocation.root} asks for nothing that needs to be allowed")
    else:
        click.echo(f"{invocation.root}")
        for line in lines(found):
            click.echo(line)
    if invocation.doubt:
        invocation.report.warn(f"what you allowed before is not believed: {invocation.doubt}")
    if only_show:
        if found and not as_json:
            click.echo(f"digest {digest_of(found)}")
        return 0
    if not found:
        return 0
    if is_terminal() and not asks_nobody and not click.confirm("Allow that?", default=False, err=True):
        invocation.report.say("nothing is allowed")
        return 1
    allowing.allow(allowing.folder(), invocation.root, found)
    invocation.report.say(f"allowed to {invocation.root}")
    return 0


def _list(invocation: Invocation, *, as_json: bool) -> None:
    from envbox.trust import allowances as allowing
    from envbox.trust import plain

    found = list(allowing.known(allowing.folder()))
    if as_json:
        print_json([
            {"project": one.project, "allowed": sorted(one.allowed.values()), "doubt": one.doubt}
            for one in found
        ])  # fmt: skip
        return
    if not found:
        invocation.report.say("nothing is allowed to any project")
    for one in found:
        click.echo(plain(one.project) + (f" (not believed: {one.doubt})" if one.doubt else ""))
        for words in sorted(one.allowed.values()):
            click.echo(f"  {plain(words)}")
