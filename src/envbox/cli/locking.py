"""`envbox lock`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from envbox.cli.context import Session, json_option, names_argument, print_json

if TYPE_CHECKING:
    from envbox.lockfile import Lock
    from envbox.project import Environment


def _split(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    del ctx, param
    return tuple(part.lower() for text in value for part in text.replace(",", " ").split())


@click.command()
@names_argument
@click.option(
    "--platform",
    "platforms",
    multiple=True,
    metavar="PLATFORM",
    help="A conda platform to lock for (linux-64, linux-aarch64, …); may be given several times.",
)
@click.option(
    "--update",
    "-U",
    "packages",
    multiple=True,
    metavar="PACKAGE",
    callback=_split,
    help="Move this package to the newest version that fits, and else only what must move with it; "
    "several with commas.",
)
@click.option("--update-all", is_flag=True, help="Move every package to the newest version that fits.")
@click.option(
    "--exclude-newer",
    metavar="DATE",
    help="Solve as of a date (2024-05-31) or time. It is kept in the lockfile; `none` lifts it.",
)
@click.option(
    "--strategy",
    type=click.Choice(["highest", "lowest-direct"]),
    help="Take the newest versions that fit, or the oldest of what the spec names, to test its lower "
    "bounds. It is kept in the lockfile.",
)
@click.option("--dry-run", "-n", is_flag=True, help="Print what would change, and write nothing.")
@click.option(
    "--from-image",
    metavar="IMAGE",
    help="Solve nothing: give back the lockfile inside an image, of the engine or a registry "
    "(docker://…), on stdout, or as NAME's.",
)
@json_option
@click.pass_obj
def lock(session: Session, /, names: tuple[str, ...], platforms: tuple[str, ...], **asked: Any) -> None:
    """Solve specs into lockfiles: environments/NAME.yml → environments/NAME.conda-lock.yml.

    Without a NAME: all environments of the project. What is locked and still satisfies the spec stays.
    """
    from envbox.lock import Update
    from envbox.lock import lock as lock_environment
    from envbox.project import check_not_foreign

    if asked["from_image"]:
        from envbox.cli.exchange import give_back

        give_back(session, asked["from_image"], names, platforms)
        return
    packages, dry_run = frozenset(asked["packages"]), asked["dry_run"]
    update = Update(packages, asked["update_all"], asked["exclude_newer"], asked["strategy"])
    wanted = [session.named(name) for name in names] or _with(packages, session.project.environments)
    wanted = wanted or [session.environment(None)]
    told = []
    for environment in wanted:
        check_not_foreign(environment)
        lock = lock_environment(
            environment, session.settings, platforms or None, session.report, update=update, dry_run=dry_run
        )
        told.append(_as_json(environment, lock))
        if dry_run and not asked["as_json"]:
            _print_changes(environment, lock)
    if asked["as_json"]:
        print_json(told)


def _with(packages: frozenset[str], environments: Sequence[Environment]) -> list[Environment]:
    """The environments that have one of the packages; all, where none has or no package is named."""
    from envbox.lock import locked_before

    locks = {e: locked_before(e) for e in environments} if packages and len(environments) > 1 else {}
    found = [e for e, lock in locks.items() if lock and packages & {p.name for p in lock.packages}]
    return found or list(environments)


def _print_changes(environment: Environment, lock: Lock) -> None:
    """Print what differs from the lockfile that is there."""
    from envbox.lock import locked_before
    from envbox.reading.changes import changes
    from envbox.reading.tables import lines

    for line in lines(changes(locked_before(environment), lock), lock.platforms):
        click.echo(line)


def _as_json(environment: Environment, lock: Lock) -> dict[str, Any]:
    from envbox.solve.question import whole_system_of

    return {
        "name": lock.name,
        "lockfile": str(environment.lock_path),
        "digest": lock.digest,
        "packages": {p: len(lock.for_platform(p)) for p in lock.platforms},
        "virtual_packages": {p: whole_system_of(lock, p) for p in lock.platforms},
        "exclude_newer": lock.exclude_newer,
        "strategy": lock.strategy,
    }
