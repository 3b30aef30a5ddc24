"""`envbox clean`."""

from __future__ import annotations

from pathlib import Path

import click

from envbox.cli.context import Invocation, json_option, print_json
from envbox.cli.words import echo_line

_NAMED = 5  # of what is not envbox's


@click.command()
@click.argument("kinds", nargs=-1, metavar="[WHAT]...")
@click.option("-a", "--all", "everything", is_flag=True, help="Remove everything.")
@json_option
@click.pass_obj
def clean(invocation: Invocation, kinds: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Show what the cache holds; remove WHAT is named, or --all.

    Nothing is lost: whatever is needed again is fetched or made again. Images in the engine stay, and so do
    prefixes that containers and other sessions have. While another command works with the cache, only
    leftovers are removed, which is said. What is in the folder and is not envbox's is never removed.
    """
    from envbox.cache.contents import foreign, holdings

    folder = invocation.as_written.cache_dir
    found = holdings(folder)
    if everything or kinds:
        freed = _freed(invocation, tuple(h.kind for h in found) if everything else kinds)
        invocation.report.say(f"freed {freed / 1e6:,.0f} MB in {folder}")
        found = holdings(folder)
    if not_ours := foreign(folder):
        more = f" and {len(not_ours) - _NAMED} more" if len(not_ours) > _NAMED else ""
        invocation.report.say(f"not envbox's, and left as it is: {', '.join(not_ours[:_NAMED])}{more}")
    if as_json:
        print_json(
            {
                "folder": str(folder),
                "holds": [{"kind": h.kind, "files": h.files, "size": h.size} for h in found],
            }
        )
    elif not (everything or kinds):
        for h in found:
            echo_line(f"{h.kind:<12} {h.size / 1e6:10,.1f} MB  {h.files:7,} files  {h.meaning}")
        echo_line(f"{'in all':<12} {sum(h.size for h in found) / 1e6:10,.1f} MB  {folder}")


def _freed(invocation: Invocation, kinds: tuple[str, ...]) -> int:
    """Free what nobody uses, and give how many bytes that were."""
    from envbox.cache.contents import Removal
    from envbox.cache.in_use import alone, users
    from envbox.cache.shapes import LEFTOVERS

    folder = invocation.settings.cache_dir
    in_use = _in_use(invocation)
    removal = Removal(folder)
    removal.check(kinds)
    with alone(folder) as use:
        if use == "shared":
            kept = [kind for kind in kinds if kind != LEFTOVERS]
            others = ", ".join(users(folder)) or "it may be on another machine"
            if kept:
                invocation.report.warn(
                    f"{', '.join(kept)} stay: another command works with the cache ({others}); "
                    "clean again when it has ended"
                )
            kinds = tuple(kind for kind in kinds if kind == LEFTOVERS)
        elif use == "unknown":
            invocation.report.warn(
                f"nothing can be locked in {folder}: a command that works with the cache now may have to be "
                "run again"
            )
        removal.set_aside(kinds, in_use)
    return removal.finish()


def _in_use(invocation: Invocation) -> list[Path]:
    """Return the prefixes that sessions have; no container's where no engine answers: then none runs."""
    from envbox.errors import ToolError
    from envbox.prefixes.in_use import prefixes_in_use
    from envbox.prefixes.tree import PLACE, trees_in_use

    place = invocation.as_written.cache_dir / PLACE
    if not place.is_dir():
        return []
    here = trees_in_use(invocation.as_written.cache_dir)
    try:
        keys = prefixes_in_use(invocation.engine)
    except ToolError:
        return here
    return [*here, *(place / key for key in keys)]
