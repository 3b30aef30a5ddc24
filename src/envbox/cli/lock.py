"""`envbox lock`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from envbox.cli.context import (
    Invocation,
    json_option,
    names_argument,
    platforms_option,
    print_json,
    split_commas,
)
from envbox.cli.words import echo_line, foreign

if TYPE_CHECKING:
    from envbox.lockfile import Lock
    from envbox.project import Environment


def _split(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(part.lower() for part in split_commas(ctx, param, value))


@click.command()
@names_argument
@platforms_option("A conda platform to lock for (linux-64, linux-aarch64, …); several with commas.")
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
    "--check",
    "only_check",
    is_flag=True,
    help="Solve and fetch nothing: exit silently if the lockfile is what the spec asks for, else with 1, "
    "what differs, and the command that mends it.",
)
@click.option("--all", "everything", is_flag=True, help="All environments of the project, as without a NAME.")
@click.option(
    "--from-image",
    metavar="IMAGE",
    help="Solve nothing: give back the lockfile inside an image, of the engine or a registry "
    "(docker://…), on stdout, or as NAME's.",
)
@json_option
@click.pass_obj
def lock(invocation: Invocation, /, names: tuple[str, ...], platforms: tuple[str, ...], **asked: Any) -> int:
    """Solve specs into lockfiles: environments/NAME.yml → environments/NAME.conda-lock.yml.

    Without a NAME: all environments of the project. What is locked and still satisfies the spec stays.
    """
    if asked["everything"] and names:
        raise click.UsageError("--all is for all environments; leave out the names, or --all")
    if asked["only_check"]:
        if told := [word for word, value in (("--platform", platforms), *_writing(asked)) if value]:
            raise click.UsageError(f"--check changes nothing: it cannot be had with {', '.join(told)}")
        return _check(invocation, names, as_json=asked["as_json"])
    if asked["from_image"]:
        from envbox.cli.exchange import give_back

        give_back(invocation, asked["from_image"], names, platforms)
    else:
        _lock(invocation, names, platforms, asked)
    return 0


_WRITING = ("--update", "--update-all", "--exclude-newer", "--strategy", "--dry-run", "--from-image")


def _writing(asked: dict[str, Any]) -> list[tuple[str, Any]]:
    return [
        (word, asked["packages" if word == "--update" else word[2:].replace("-", "_")]) for word in _WRITING
    ]


def _check(invocation: Invocation, names: tuple[str, ...], *, as_json: bool) -> int:
    """Hold lockfiles against their specs, and print what differs."""
    from envbox.locks.freshness.report import check, check_has_spec, has_spec

    wanted = [invocation.named(name) for name in names] or list(invocation.project.environments)
    wanted = wanted or [invocation.project.environment()]  # which says that there is none
    for environment in wanted if names or len(wanted) == 1 else ():
        check_has_spec(environment)
    for environment in wanted:
        if not has_spec(environment):
            invocation.report.say(
                f"{environment.name} is not checked: it has no spec, only {environment.foreign}"
            )
    found = [check(environment, invocation.as_written) for environment in wanted if has_spec(environment)]
    if as_json:
        print_json([
            {
                "name": one.name, "lockfile": str(one.lock_path), "fresh": not one.differences,
                "differences": one.differences, "hint": one.hint,
            }
            for one in found
        ])  # fmt: skip
    for one in () if as_json else found:
        for words in one.differences:
            click.echo(foreign.message(f"{one.name}: {words}"), err=True)
    for hint in dict.fromkeys(one.hint for one in found if one.hint and not as_json):
        click.echo(foreign.message(f"hint: {hint}"), err=True)
    return 1 if any(one.differences for one in found) else 0


def _lock(
    invocation: Invocation, names: tuple[str, ...], platforms: tuple[str, ...], asked: dict[str, Any]
) -> None:
    """Solve, and print what was asked to be printed."""
    from envbox.locks.lock import Update
    from envbox.locks.lock import lock as lock_environment
    from envbox.project import NAMES_ARE, check_not_foreign

    packages, dry_run = frozenset(asked["packages"]), asked["dry_run"]
    update = Update(packages, asked["update_all"], asked["exclude_newer"], asked["strategy"])
    wanted = [invocation.environment(name) for name in names] or _with(
        packages, invocation.project.environments
    )
    wanted = wanted or [invocation.environment(None)]
    invocation.check([environment for environment in wanted if environment.has_spec])
    for file in () if names else invocation.project.passed_over:
        invocation.report.warn(f"environments/{file} is passed over: {NAMES_ARE}")
    told = []
    for environment in wanted:
        check_not_foreign(environment)
        lock = lock_environment(
            environment,
            invocation.settings,
            platforms or None,
            invocation.report,
            update=update,
            dry_run=dry_run,
        )
        told.append(_as_json(environment, lock))
        if dry_run and not asked["as_json"]:
            _print_changes(environment, lock)
    if asked["as_json"]:
        print_json(told)


def _with(packages: frozenset[str], environments: Sequence[Environment]) -> list[Environment]:
    """Return the environments that have one of the packages; all, where none has or no package is named."""
    from envbox.locks.lock import sides_before

    locks = {e: sides_before(e) for e in environments} if packages and len(environments) > 1 else {}
    found = [e for e, sides in locks.items() if packages & {p.name for lock in sides for p in lock.packages}]
    return found or list(environments)


def _print_changes(environment: Environment, lock: Lock) -> None:
    """Print what differs from the lockfile that is there."""
    from envbox.locks.inspect.changes import changes
    from envbox.locks.inspect.tables import lines
    from envbox.locks.lock import sides_before

    before = next(iter(sides_before(environment)), None)
    for line in lines(changes(before, lock), lock.platforms):
        echo_line(line)


def _as_json(environment: Environment, lock: Lock) -> dict[str, Any]:
    from envbox.locks.solve.request import whole_system_of

    return {
        "name": lock.name,
        "lockfile": str(environment.lock_path),
        "digest": lock.digest,
        "packages": {p: len(lock.for_platform(p)) for p in lock.platforms},
        "virtual_packages": {p: whole_system_of(lock, p) for p in lock.platforms},
        "exclude_newer": lock.exclude_newer,
        "strategy": lock.strategy,
    }
