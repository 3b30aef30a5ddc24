"""What every command begins with: the directory, how much to say, the settings and the project."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from envbox.errors import EnvboxError, LaunchError

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
        _leave_what_is_gone(directory)
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
        """The environment that is meant: one of the project, or the one that a lockfile's path names."""
        environment = self.named(name)
        if environment.foreign is None:
            return environment
        from envbox.exchange.taking import adopt

        return adopt(environment, self.settings, self.report)

    def named(self, name: str | None) -> Environment:
        """The same, without a look into any file but a notebook, which is bound to one."""
        from envbox.project import foreign_environment, is_lockfile_path

        if found := self.for_notebook(name):
            from envbox.notebook.reading import read_notebook
            from envbox.notebook.stamping import environment_of

            session, path = found
            return environment_of(read_notebook(path), session.project)
        if name is None or not is_lockfile_path(name) or not (self.here / name).is_file():
            return self.project.environment(name)
        path = self.here / name
        ours = (e for e in self.project.environments if path in (e.spec_path, e.lock_path))
        return next(ours, None) or foreign_environment(path)


def _leave_what_is_gone(directory: str) -> None:
    """See that there is a working directory, as everything takes for granted.

    :param directory: to be in instead, if it does not depend on the one that is gone
    :raises LaunchError: when it was removed
    """
    try:
        os.getcwd()  # noqa: PTH109
    except OSError as error:
        if os.path.isabs(directory):  # noqa: PTH117
            os.chdir(directory)
            return
        raise LaunchError(
            f"the working directory cannot be found: {error.strerror}; it was removed, or made anew",
            'go to one that is there: cd "$PWD", or name it: envbox -C /path/to/project',
        ) from error


def complete_name(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Offer the project's environments for a NAME on the command line."""
    del param
    directory = ctx.find_root().params.get("directory") or "."
    try:
        project = Session(directory, quiet=True, verbose=False).project
    except (EnvboxError, OSError):
        return []  # a Tab is no place for errors
    return [e.name for e in project.environments if e.name.startswith(incomplete)]


name_argument = click.argument("name", required=False, shell_complete=complete_name)
names_argument = click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_name)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
frozen_option = click.option(
    "--frozen", is_flag=True, help="Take the lockfile as it is, even if the spec has changed."
)


platform_option = click.option(
    "--platform",
    "platforms",
    multiple=True,
    metavar="PLATFORM",
    callback=lambda ctx, param, value: tuple(part for text in value for part in text.split(",") if part),
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
