"""`envbox lock`."""

from __future__ import annotations

import click

from envbox.cli.context import Session, json_option, names_argument, print_json


@click.command()
@names_argument
@click.option(
    "--platform",
    "platforms",
    multiple=True,
    metavar="PLATFORM",
    help="A conda platform to lock for (linux-64, linux-aarch64, …); may be given several times.",
)
@json_option
@click.pass_obj
def lock(session: Session, names: tuple[str, ...], platforms: tuple[str, ...], as_json: bool) -> None:
    """Solve specs into lockfiles: environments/NAME.yml → environments/NAME.conda-lock.yml.

    Without a NAME: all environments of the project. What is locked and still satisfies the spec stays.
    """
    from envbox.lock import lock as lock_environment

    wanted = [session.environment(name) for name in names] or list(session.project.environments)
    wanted = wanted or [session.environment(None)]
    locks = [lock_environment(e, session.settings, platforms or None, session.report) for e in wanted]
    if as_json:
        print_json(
            [
                {
                    "name": lock.name,
                    "lockfile": str(e.lock_path),
                    "digest": lock.digest,
                    "packages": {p: len(lock.for_platform(p)) for p in lock.platforms},
                }
                for e, lock in zip(wanted, locks, strict=True)
            ]
        )
