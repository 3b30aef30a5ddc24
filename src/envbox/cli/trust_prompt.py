"""Where a command asks whether its project may have what it wants, before anything of that has an effect.

What the user allowed before, `envbox --trust` and ENVBOX_TRUST answer at once; else a person at a terminal is
asked once, about all that the whole project asks for; else it is refused, with the command that allows it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from envbox.errors import EnvboxError, TrustError, listed

if TYPE_CHECKING:
    from envbox.project import Environment, Project
    from envbox.report import Reporter
    from envbox.settings import Layers
    from envbox.trust import Ask, Use
    from envbox.trust.rules import Place


class Asking(Protocol):
    """One invocation, as far as it is asked for what its project wants."""

    here: Path
    trusts: bool

    @property
    def root(self) -> Path:
        """The project's directory."""

    @property
    def report(self) -> Reporter:
        """Where words go."""

    @property
    def project(self) -> Project:
        """The environments of the directory."""

    @property
    def layers(self) -> Layers:
        """What each place says of the settings."""

    @property
    def allowed(self) -> frozenset[str]:
        """The keys of what was allowed."""

    @property
    def doubt(self) -> str | None:
        """Why what was allowed is not believed, if it is not."""

    def allow(self, keys: Iterable[str]) -> None:
        """Count more as allowed, for as long as this process lives."""


VARIABLE = "ENVBOX_TRUST"
_SHOWN = 100


def place_of(invocation: Asking) -> Place:
    """Return the project, as one that asks."""
    from envbox.trust.addresses import own_of
    from envbox.trust.rules import Place

    return Place(invocation.root, own_of(invocation.layers.own, invocation.layers.told))


def project_asks(invocation: Asking) -> Iterator[Ask]:
    """Yield what a project asks for before any of its environments is named."""
    from envbox.trust.owners import callers_uids, link_asks, open_asks, owner_asks
    from envbox.trust.rules import settings_asks

    place, file = place_of(invocation), invocation.layers.project_file
    paths = [invocation.root, *([file] if file else []), invocation.root / "environments"]
    yield from owner_asks(paths, callers_uids(os.environ), place)
    yield from open_asks(invocation.root, invocation.here)
    yield from link_asks(paths[1:], (), place)
    yield from settings_asks(invocation.layers, place)


def environment_asks(invocation: Asking, environment: Environment) -> Iterator[Ask]:
    """Yield what one environment asks for: its files, and its table in the settings."""
    from envbox.settings import EnvironmentSettings
    from envbox.trust import allowances as allowing
    from envbox.trust.content import content_asks
    from envbox.trust.owners import callers_uids, link_asks, owner_asks
    from envbox.trust.rules import table_asks

    place = place_of(invocation)
    locks = [path for path in (environment.foreign, environment.lock_path) if path]
    yield from owner_asks([environment.spec_path, *locks], callers_uids(os.environ), place)
    yield from link_asks((), [environment.spec_path, *locks], place)
    yield from content_asks(environment.spec_path, locks, place.own, allowing.folder())
    tables = invocation.layers.project.get("environments", {})
    yield from table_asks(environment.name, tables.get(environment.name, EnvironmentSettings()), place)


def file_asks(invocation: Asking, paths: Iterable[Path], written: Iterable[Path] = ()) -> Iterator[Ask]:
    """Yield what files ask for that a command line names: specs and lockfiles of any tool, and notebooks.

    :param written: where results will be
    """
    from envbox.trust.content import lock_asks, spec_asks
    from envbox.trust.owners import callers_uids, link_asks, owner_asks

    place = place_of(invocation)
    yield from link_asks((), written, place)
    for path in paths:
        yield from owner_asks([path], callers_uids(os.environ), place)
        if path.suffix != ".ipynb":
            yield from spec_asks(path, place.own)
            yield from lock_asks(path, place.own)
            for lock in _locks_beside(path):
                yield from owner_asks([lock], callers_uids(os.environ), place)
                yield from lock_asks(lock, place.own)


def _locks_beside(path: Path) -> Iterator[Path]:
    """Yield the lockfile of a spec that is named by its path."""
    from envbox.lockfile.formats import is_spec
    from envbox.project import environment_at

    with suppress(EnvboxError, OSError):
        if path.is_file() and is_spec(path):
            yield environment_at(path, is_spec=True).lock_path


def everything(invocation: Asking) -> tuple[Ask, ...]:
    """Return all that a project asks for, for whatever use."""
    from envbox.trust import united

    own = (ask for one in invocation.project.environments for ask in environment_asks(invocation, one))
    return united([*project_asks(invocation), *own])


def require(invocation: Asking, asks: Sequence[Ask], use: Use, files: Sequence[Path] = ()) -> None:
    """See that what a command is about to use is allowed, and ask where it can be asked.

    :param use: `launch` is about everything, `fetch` only about what counts before a launch
    :param files: those beside the project's own that the asks are from
    :raises TrustError: when it is not allowed
    """
    if invocation.trusts:
        return
    needed = [one for one in asks if use == "launch" or one.use == "fetch"]
    if not [one for one in needed if one.key not in invocation.allowed]:
        return
    from envbox.trust import digest_of, united

    own = everything(invocation)
    wanted = united([*own, *asks])
    missing = [one for one in wanted if one.key not in invocation.allowed]
    where = _where(invocation, {one.key for one in missing} - {one.key for one in own}, files)
    said = os.environ.get(VARIABLE)
    if said == digest_of(wanted):
        invocation.allow(one.key for one in wanted)
    elif said:
        why = f"{VARIABLE} is not the digest of what it asks for now"
        raise _refusal(invocation, missing, where, why)
    elif not is_terminal() or not _asked(invocation, missing):
        raise _refusal(invocation, missing, where)
    else:
        invocation.allow(one.key for one in wanted)
        _keep(invocation, wanted)


def is_terminal() -> bool:
    """Return whether there is a person to ask: who can read a question, and answer it."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def lines(asks: Sequence[Ask]) -> Iterator[str]:
    """Yield what is asked for, a line each."""
    return (f"  {one.words}" for one in asks)


def _asked(invocation: Asking, missing: Sequence[Ask]) -> bool:
    if invocation.doubt:
        invocation.report.warn(f"what you allowed before is not believed: {invocation.doubt}")
    click.echo(f"{invocation.root} asks for what reaches outside of it. It", err=True)
    for line in lines(missing):
        click.echo(line, err=True)
    return click.confirm("Allow that, from now on?", default=False, err=True)


def _keep(invocation: Asking, wanted: Sequence[Ask]) -> None:
    from envbox.trust import allowances as allowing

    try:
        allowing.allow(allowing.folder(), invocation.root, wanted)
    except EnvboxError as error:
        invocation.report.warn(f"it is allowed for this once: {error.message}")


def _where(invocation: Asking, keys: Set[str], files: Sequence[Path]) -> Path | None:
    """Return what `envbox trust` is to be given; None: nothing, since it would not come to ask for that.

    :param keys: of what is missing, and not asked for by the project itself
    """
    if not keys:
        return invocation.root
    covered: set[str] = set()
    for file in files:
        covered |= {one.key for one in file_asks(invocation, [file])}
        if keys <= covered:
            return file
    return next((file for file in files if keys & covered), None)


def _refusal(
    invocation: Asking, missing: Sequence[Ask], where: Path | None, why: str | None = None
) -> TrustError:
    words = listed(
        f"{invocation.root} needs to be trusted first, since it",
        [one.words for one in missing],
        most=_SHOWN,
    )
    reasons = [*filter(None, [why, invocation.doubt])]
    return TrustError(
        "; ".join([words, *reasons]),
        "if you trust who wrote it: "
        + (f"envbox trust {_quoted(where)}; for one call: envbox --trust …" if where else "envbox --trust …"),
    )


def _quoted(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))
