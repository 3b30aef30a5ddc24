"""What every command begins with: the directory, how much to say, the settings and the project."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from envbox.errors import EnvboxError, LaunchError

if TYPE_CHECKING:
    from envbox.engine import Engine
    from envbox.images.build import BuiltImage
    from envbox.project import Environment, Project
    from envbox.report import Reporter
    from envbox.settings import Layers, Settings
    from envbox.trust import Use
    from envbox.trust.allowances import Allowance

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class Invocation:
    """One invocation. Settings, project and engine are read when they are first needed."""

    def __init__(
        self,
        directory: str,
        *,
        quiet: bool,
        verbose: bool,
        offline: bool = False,
        trust_python: bool = False,
        trust: bool = False,
    ) -> None:
        _leave_what_is_gone(directory)
        self.here = Path(os.path.abspath(directory))  # noqa: PTH100  # `..` must go, symlinks stay
        self.quiet = quiet
        self.verbose = verbose
        self.offline = offline
        self.trust_python = trust_python
        self.trusts = trust

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
    def layers(self) -> Layers:
        """What each place says of the settings."""
        from envbox.settings import read_layers

        overrides = {"offline": self.offline or None, "trust_python": self.trust_python or None}
        return read_layers(self.root, os.environ, overrides)

    @cached_property
    def as_written(self) -> Settings:
        """The settings as the files have them, for what only looks: nothing is fetched or started by these.

        Nobody is asked, and no variable is filled in that the project names.
        """
        from envbox.settings import merge

        return self._opened(merge(self.layers, os.environ, fills_project=False))

    @cached_property
    def settings(self) -> Settings:
        """The settings that hold here, as far as they are the user's own or were allowed.

        :raises TrustError: when the project asks for what nobody has allowed
        """
        from envbox.cli.trust_prompt import project_asks, require
        from envbox.settings import merge

        require(self, list(project_asks(self)), "fetch")
        return self._opened(merge(self.layers, os.environ))

    def _opened(self, settings: Settings) -> Settings:
        """Open the cache of some settings, let none of their secrets be shown, and return them."""
        from envbox.cache.folder import open_cache
        from envbox.cli.words import foreign
        from envbox.mirrors import secret_parts

        foreign.conceal(secret_parts(settings.mirrors))
        open_cache(settings.cache_dir, self.root, os.environ)
        return settings

    @cached_property
    def allowed(self) -> frozenset[str]:
        """The keys of what was allowed to the project."""
        return frozenset(self._allowance.allowed)

    def allow(self, keys: Iterable[str]) -> None:
        """Count more as allowed, for as long as this process lives."""
        self.allowed = self.allowed.union(keys)

    @property
    def doubt(self) -> str | None:
        """Why what was allowed is not believed, if it is not."""
        return self._allowance.doubt

    @cached_property
    def _allowance(self) -> Allowance:
        from envbox.trust import allowances as allowing

        return allowing.read(allowing.folder(), self.root)

    @cached_property
    def project(self) -> Project:
        """The environments of the directory."""
        from envbox.project import read_project

        return read_project(self.root, self.as_written.environment)

    @cached_property
    def engine(self) -> Engine:
        """The engine that images are loaded into."""
        from envbox.engine.find import connect

        engine = connect(self.as_written)
        if engine.introduction:
            self.report.say(engine.introduction)
        return engine

    def for_notebook(self, name: str | None) -> tuple[Invocation, Path] | None:
        """Return where a NAME is a notebook's: the session of its own project, and its path."""
        if name is None or not name.endswith(".ipynb"):
            return None
        path = Path(os.path.abspath(self.here / name))  # noqa: PTH100  # `..` must go, symlinks stay
        invocation = self.at(path.parent)
        return (self if invocation.root == self.root else invocation), path

    def at(self, directory: Path) -> Invocation:
        """Return the same invocation in another directory."""
        said = {key: getattr(self, key) for key in ("quiet", "verbose", "offline", "trust_python")}
        invocation = Invocation(str(directory), **said, trust=self.trusts)
        invocation.__dict__["report"] = self.report  # one screen has one
        return invocation

    def environment(self, name: str | None, *, use: Use = "fetch") -> Environment:
        """Return the environment that is meant, as `named` does, if it may have what it asks for.

        :param use: what for; it may have what it asks for then
        :raises TrustError: when it asks for what nobody has allowed
        """
        environment = self.named(name)
        found = self.for_notebook(name)
        # a notebook's environment is that of its own project, which may be another than ours
        (found[0] if found else self).check([environment], [found[1]] if found else [], use)
        return environment

    def check(
        self,
        environments: Sequence[Environment],
        files: Sequence[Path] = (),
        use: Use = "fetch",
        written: Sequence[Path] = (),
    ) -> None:
        """See that the project may have what is asked for by these of its environments, and by other files.

        :param written: what will be written, which may be a link that lies there already
        :raises TrustError: when nobody has allowed it
        """
        from envbox.cli.trust_prompt import environment_asks, file_asks, project_asks, require

        asks = [*project_asks(self), *file_asks(self, files, written)]
        asks += [one for environment in environments for one in environment_asks(self, environment)]
        own = self.project.environments
        require(self, asks, use, [*files, *(e.foreign or e.spec_path for e in environments if e not in own)])

    def check_written(self, *paths: Path) -> None:
        """See that what is about to be written is not led out of its project by a link that lies there.

        :raises TrustError: when it is, and nobody has allowed it
        """
        from envbox.cli.trust_prompt import file_asks, require

        for path in map(Path, map(os.path.abspath, paths)):
            invocation = self if path.is_relative_to(self.root) else self.at(path.parent)
            require(invocation, list(file_asks(invocation, (), [path])), "fetch")

    def named(self, name: str | None) -> Environment:
        """Return the environment that is meant: by its name, a path to its spec or lockfile, or a notebook.

        Nothing is solved, fetched or written, and nobody is asked. Of a path the file is looked into, to see
        which of both it is.
        """
        from envbox.project import environment_at, is_lockfile_path

        if found := self.for_notebook(name):
            from envbox.notebooks.document import read_notebook
            from envbox.notebooks.stamp import environment_of

            invocation, path = found
            return environment_of(read_notebook(path), invocation.project)
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

    def locked(self, name: str | None, *, use: Use = "fetch") -> Environment:
        """Return the same, with a lockfile of ours: another tool's is taken over, and never solved.

        :raises TrustError: as `environment`
        """
        return self.taken(self.environment(name, use=use))

    def looked_at(self, name: str | None) -> Environment:
        """Return the same, for who only reads its lockfile: nobody is asked, unless it has to be taken
        over.
        """
        found = self.for_notebook(name)
        return (found[0] if found else self).readable(self.named(name))

    def readable(self, environment: Environment) -> Environment:
        """Return the environment with a lockfile that can be read, for who only looks.

        :raises TrustError: when another tool's has to be taken over, and it asks for what nobody has allowed
        """
        if environment.has_spec or environment.foreign is None:
            return environment
        from envbox.lockfile.formats import read_ours
        from envbox.locks.convert.detect import read_bytes
        from envbox.locks.convert.import_lock import adopt

        if read_ours(read_bytes(environment.foreign), environment.foreign) is not None:
            return adopt(environment, self.as_written, self.report)
        self.check([environment])
        return self.taken(environment)

    def taken(self, environment: Environment) -> Environment:
        """Return the environment, with a lockfile of ours where it is only another tool's."""
        if environment.has_spec:
            return environment
        from envbox.locks.convert.import_lock import adopt

        return adopt(environment, self.settings, self.report)


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
        project = Invocation(directory, quiet=True, verbose=False).project
    except (EnvboxError, OSError):
        return []  # a Tab is no place for errors
    return [e.name for e in project.environments if e.name.startswith(incomplete)]


name_argument = click.argument("name", required=False, shell_complete=complete_name)
names_argument = click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=complete_name)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
frozen_option = click.option(
    "--frozen", is_flag=True, help="Take the lockfile as it is, even if the spec has changed."
)


def split_commas(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Return the parts of an option that may be given several times, or once with commas; each part once."""
    del ctx, param
    return tuple(dict.fromkeys(part for text in value for part in text.replace(",", " ").split()))


def one_platform(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """Refuse several platforms where only one can be meant."""
    del ctx
    if value is not None and "," in value:
        raise click.BadParameter(f"this is about one platform, and {value} is several", param=param)
    return value


def platform_option(told: str) -> Callable[[Decorated], Decorated]:
    """Return an option that names one platform, told of as that."""
    return click.option("--platform", metavar="PLATFORM", callback=one_platform, help=told)


def platforms_option(told: str) -> Callable[[Decorated], Decorated]:
    """Return an option that names any number of platforms, told of as that."""
    return click.option(
        "--platform", "platforms", multiple=True, metavar="PLATFORM", callback=split_commas, help=told
    )


image_platforms_option = platforms_option(
    "A conda platform to make an image for, such as linux-aarch64; several with commas."
)
compat_option = click.option(
    "--compat",
    is_flag=True,
    help="Compress layers with gzip: Docker before 23 reads no zstd.",
)


def print_json(value: object) -> None:
    """Write a value on stdout as JSON, for programs to read."""
    import json

    from envbox.cli.words import escaped_json, write_data

    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    write_data(escaped_json(text).encode() + b"\n")


def image_json(image: BuiltImage) -> dict[str, Any]:
    """Return what programs are told of an image in the engine."""
    return {
        "name": image.name,
        "id": image.id,
        "reference": image.reference,
        "platform": image.platform,
        "lock": image.lock_digest,
        "new": image.is_new,
    }
