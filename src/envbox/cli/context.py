"""What every command begins with: the directory, how much to say, the settings and the project."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from envbox.errors import EnvboxError

if TYPE_CHECKING:
    from envbox.engine import Engine
    from envbox.image.build import BuiltImage
    from envbox.project import Environment, Project
    from envbox.report import Reporter
    from envbox.settings import Settings

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class Session:
    """One invocation. Settings, project and engine are read when they are first needed."""

    def __init__(self, directory: str, *, quiet: bool, verbose: bool, offline: bool = False) -> None:
        self.here = Path(os.path.abspath(directory))  # noqa: PTH100  # `..` must go, symlinks stay
        self.quiet = quiet
        self.verbose = verbose
        self.offline = offline

    @cached_property
    def report(self) -> Reporter:
        """Where words go."""
        from envbox.cli.terminal import TerminalReporter

        return TerminalReporter(sys.stderr, os.environ, quiet=self.quiet, verbose=self.verbose)

    @cached_property
    def root(self) -> Path:
        """The project's directory: the nearest one upwards that has environments, else the one we are in."""
        from envbox.project import find_root

        return find_root(self.here)

    @cached_property
    def settings(self) -> Settings:
        """The settings that hold here."""
        from envbox.settings import read_settings

        return read_settings(self.root, os.environ, {"offline": self.offline or None})

    @cached_property
    def project(self) -> Project:
        """The environments of the directory."""
        from envbox.project import read_project

        return read_project(self.root, self.settings.environment)

    @cached_property
    def engine(self) -> Engine:
        """The engine that images are loaded into."""
        from envbox.engine import connect

        engine = connect(self.settings)
        if engine.introduction:
            self.report.say(engine.introduction)
        return engine

    def for_notebook(self, name: str | None) -> tuple[Session, Path] | None:
        """Where a NAME is a notebook's: the session of its own project, and its path."""
        if name is None or not name.endswith(".ipynb"):
            return None
        path = Path(os.path.abspath(self.here / name))  # noqa: PTH100  # `..` must go, symlinks stay
        session = Session(str(path.parent), quiet=self.quiet, verbose=self.verbose, offline=self.offline)
        session.__dict__["report"] = self.report  # one screen has one
        return (self if session.root == self.root else session), path

    def environment(self, name: str | None) -> Environment:
        """The environment that is meant: by its name, by a path to its spec or lockfile, or by a notebook.

        Nothing is solved, fetched or written. Of a path the file is looked into, to see which of both it is.
        """
        from envbox.project import environment_at, is_lockfile_path

        if found := self.for_notebook(name):
            from envbox.notebook.reading import read_notebook
            from envbox.notebook.stamping import environment_of

            session, path = found
            return environment_of(read_notebook(path), session.project)
        if name is None or not is_lockfile_path(name):
            return self.project.environment(name)
        path = Path(os.path.abspath(self.here / name))  # noqa: PTH100  # `..` must go, symlinks stay
        for environment in self.project.environments:
            if path in (environment.spec_path, environment.lock_path):
                return environment
        if not path.is_file():
            return self.project.environment(name)  # which says that there is none
        from envbox.lockfile.formats import is_spec

        return environment_at(path, is_spec=is_spec(path))

    def locked(self, name: str | None) -> Environment:
        """The same, with a lockfile of ours: another tool's is taken over, and never solved."""
        return self.taken(self.environment(name))

    def taken(self, environment: Environment) -> Environment:
        """The environment, with a lockfile of ours where it is only another tool's."""
        if environment.has_spec:
            return environment
        from envbox.exchange.taking import adopt

        return adopt(environment, self.settings, self.report)


def complete_name(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Offer the project's environments for a NAME on the command line."""
    del param
    directory = ctx.find_root().params.get("directory") or "."
    try:
        project = Session(directory, quiet=True, verbose=False).project
    except EnvboxError:
        return []  # a Tab is no place for errors
    return [e.name for e in project.environments if e.name.startswith(incomplete)]


name_argument = click.argument("name", required=False, shell_complete=complete_name)
names_argument = click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_name)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
frozen_option = click.option(
    "--frozen", is_flag=True, help="Take the lockfile as it is, even if the spec has changed."
)


def split_commas(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """The parts of an option that may be given several times, or once with commas; each part once."""
    del ctx, param
    return tuple(dict.fromkeys(part for text in value for part in text.replace(",", " ").split()))


def one_platform(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuse several platforms where only one can be meant."""
    del ctx
    if value is not None and "," in value:
        raise click.BadParameter(f"this is about one platform, and {value} is several", param=param)
    return value


platform_option = click.option(
    "--platform",
    "platforms",
    multiple=True,
    metavar="PLATFORM",
    callback=split_commas,
    help="A conda platform to make an image for, such as linux-aarch64; several with commas.",
)
compat_option = click.option(
    "--compat",
    is_flag=True,
    help="Compress layers with gzip: Docker before 23 reads no zstd.",
)


def print_json(value: object) -> None:
    """Write a value on stdout as JSON, for programs to read."""
    import json

    click.echo(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))


def image_json(image: BuiltImage) -> dict[str, Any]:
    """What programs are told of an image in the engine."""
    return {
        "name": image.name,
        "id": image.id,
        "reference": image.reference,
        "platform": image.platform,
        "lock": image.lock_digest,
        "new": image.is_new,
    }
