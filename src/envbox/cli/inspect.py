"""`envbox list`, `tree` and `why`: from the lockfile alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from envbox.cli.context import (
    Invocation,
    complete_name,
    json_option,
    name_argument,
    platform_option,
    print_json,
)
from envbox.cli.words import echo_line

if TYPE_CHECKING:
    from envbox.locks.inspect.graph import Graph

_CHAINS = 10  # more of them say nothing new; --all has them

locked_platform_option: Callable[..., Any] = platform_option("For which platform, where several are locked.")


@click.command("list")
@name_argument
@locked_platform_option
@click.option("-m", "--match", "pattern", metavar="REGEX", help="Only packages whose name has this in it.")
@click.option("-x", "--asked", "only_asked", is_flag=True, help="Only what the spec asks for.")
@click.option("-s", "--by-size", is_flag=True, help="The largest first, instead of by name.")
@json_option
@click.pass_obj
def list_(
    invocation: Invocation, /, name: str | None, platform: str | None, as_json: bool, **options: Any
) -> None:
    """List the packages of an environment: version, build, size, channel, licence.

    From the lockfile alone. Sizes are of archives, as they are downloaded; `envbox size` has what they take
    in an image.
    """
    from envbox.locks.inspect.package_table import listing, rows

    graph = _graph(invocation, name, platform)
    found = rows(graph, options["pattern"], only_asked=options["only_asked"], by_size=options["by_size"])
    if as_json:
        print_json(
            {"name": graph.name, "platform": graph.platform, "packages": [asdict(row) for row in found]}
        )
    else:
        for line in listing(found):
            echo_line(line)


@click.command()
@name_argument
@locked_platform_option
@click.option("-i", "--invert", metavar="PKG", help="Who needs this package, up to what was asked for.")
@click.option("-p", "--package", metavar="PKG", help="Only what this package needs.")
@click.option("-d", "--depth", metavar="N", type=click.IntRange(0), help="Go no deeper than this.")
@json_option
@click.pass_obj
def tree(
    invocation: Invocation, /, name: str | None, platform: str | None, as_json: bool, **options: Any
) -> None:
    """Show who needs whom, beginning with what was asked for.

    From the lockfile alone. A package is unfolded once; (*) stands where that would be shown again.
    """
    from envbox.locks.inspect.graph import find_key
    from envbox.locks.inspect.trees import tree as draw

    graph = _graph(invocation, name, platform)
    if as_json:
        print_json(_as_json(graph))
        return
    if options["invert"] and options["package"]:
        raise click.UsageError("--invert and --package are two different trees")
    root = options["invert"] or options["package"]
    roots = [find_key(graph, root)] if root else list(graph.asked)
    for line in draw(graph, roots, is_inverted=bool(options["invert"]), depth=options["depth"]):
        echo_line(line)


@click.command()
@click.argument("package", metavar="PKG")
@click.argument("name", required=False, metavar="[NAME]", shell_complete=complete_name)
@locked_platform_option
@click.option("-a", "--all", "everything", is_flag=True, help="Every chain, also through what was asked for.")
@json_option
@click.pass_obj
def why(invocation: Invocation, /, package: str, name: str | None, as_json: bool, **options: Any) -> None:
    """Say why a package is in an environment: the shortest chains to it from what was asked for.

    From the lockfile alone. PKG may be a virtual package, such as __glibc or __cuda.
    """
    from envbox.locks.inspect.graph import chains, direct, find_key

    graph = _graph(invocation, name, options["platform"])
    key = find_key(graph, package)
    ways = chains(graph, key)
    if as_json:
        print_json(
            {"package": key, "platform": graph.platform, "asked": graph.asked.get(key), "chains": ways}
        )
        return
    shown = ways if options["everything"] else direct(graph, ways)[:_CHAINS]
    _print_why(graph, key, shown, len(ways) - len(shown))


def _graph(invocation: Invocation, name: str | None, platform: str | None) -> Graph:
    from envbox.lockfile.conda_lock_v1 import read_lockfile
    from envbox.locks.inspect.graph import graph_of

    graph = graph_of(read_lockfile(invocation.looked_at(name).lock_path), platform)
    if not graph.is_told:
        invocation.report.say(
            "the lockfile does not say what was asked for: what nobody needs is taken for that"
        )
    return graph


def _as_json(graph: Graph) -> dict[str, object]:
    """Return all edges, for a program to walk."""
    return {
        "name": graph.name,
        "platform": graph.platform,
        "asked": graph.asked,
        "packages": {
            key: {"version": p.version, "build": p.build, "manager": p.manager, "needs": graph.needs[key]}
            for key, p in graph.packages.items()
        },
    }


def _print_why(graph: Graph, key: str, ways: tuple[tuple[str, ...], ...], hidden: int) -> None:
    for text in graph.asked.get(key, ()):
        echo_line(f"{graph.label(key)} was asked for: {text}")
    if not ways and not hidden:
        echo_line(f"nobody needs {graph.label(key)}, and it was not asked for")
    for way in ways:
        if len(way) > 1:
            echo_line(" → ".join([graph.label(way[0]), *map(_step(graph), way[:-1], way[1:])]))
    if hidden:
        echo_line(f"and {hidden} more, most through these (--all)")


def _step(graph: Graph) -> Callable[[str, str], str]:
    def say(user: str, key: str) -> str:
        constraint = graph.needs[user][key]
        return graph.label(key) + (f" ({constraint})" if constraint else "")

    return say
