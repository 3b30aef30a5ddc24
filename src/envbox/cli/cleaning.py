"""`envbox clean`."""

from __future__ import annotations

from pathlib import Path

import click

from envbox.cli.context import Session, json_option, print_json
from envbox.cli.words import echo_line


@click.command()
@click.argument("kinds", nargs=-1, metavar="[WHAT]...")
@click.option("-a", "--all", "everything", is_flag=True, help="Remove everything.")
@json_option
@click.pass_obj
def clean(session: Session, kinds: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Show what the cache holds; remove WHAT is named, or --all.

    Nothing is lost: whatever is needed again is fetched or made again. Images in the engine stay, and so do
    prefixes that containers and other sessions have.
    """
    from envbox.cache import free, holdings

    folder = session.settings.cache_dir
    found = holdings(folder)
    if everything or kinds:
        freed = free(folder, tuple(h.kind for h in found) if everything else kinds, _in_use(session))
        session.report.say(f"freed {freed / 1e6:,.0f} MB in {folder}")
        found = holdings(folder)
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


def _in_use(session: Session) -> list[Path]:
    """The prefixes that sessions have; no container's where no engine answers: then none runs."""
    from envbox.errors import ToolError
    from envbox.prefix import prefixes_in_use
    from envbox.prefix.tree import PLACE, trees_in_use

    place = session.settings.cache_dir / PLACE
    if not place.is_dir():
        return []
    here = trees_in_use(session.settings.cache_dir)
    try:
        keys = prefixes_in_use(session.engine)
    except ToolError:
        return here
    return [*here, *(place / key for key in keys)]
