"""`envbox merge-lock`, which git calls."""

from __future__ import annotations

from pathlib import Path

import click

from envbox.cli.context import Invocation
from envbox.cli.words import foreign

_file = click.Path(path_type=Path)


@click.command("merge-lock", context_settings={"ignore_unknown_options": True})  # a path may begin with -
@click.argument("ancestor", type=_file)
@click.argument("ours", type=_file)
@click.argument("theirs", type=_file)
@click.argument("path", type=_file, required=False, metavar="[PATH]")
@click.pass_obj
def merge_lock(invocation: Invocation, ancestor: Path, ours: Path, theirs: Path, path: Path | None) -> int:
    """Merge lockfiles for git, offline: its merge driver for them.

    \b
    git config merge.envbox.name "envbox lockfiles"
    git config merge.envbox.driver "envbox merge-lock %O %A %B %P"
    echo "*conda-lock.yml merge=envbox text eol=lf" >> .gitattributes

    The outcome is written to OURS, for the lockfile at PATH. Where the sides contradict each other, or what
    both have is no solution, that is a conflict: exit code 1, and `envbox lock` settles it from the spec.
    """
    from envbox.lockfile.conda_lock_v1 import lock_hint
    from envbox.locks.merge import MergeFiles, merge_files

    own = path or ours
    files = MergeFiles(*(invocation.here / file for file in (ancestor, ours, theirs, own)))
    faults = merge_files(files, lambda: invocation.as_written)
    for words in faults:
        click.echo(foreign.message(f"{own}: {words}"), err=True)
    if faults:
        lock_it = lock_hint(own)
        click.echo(
            foreign.message(f"hint: settle the spec, if that is in conflict too, and: {lock_it}"), err=True
        )
    return 1 if faults else 0
