"""Variables for a launch: those of a command line, and those of env files as Docker reads them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from envbox.errors import LaunchError
from envbox.launch.bindings import said


def parse_variable(text: str) -> tuple[str, str | None]:
    """Read `NAME=VALUE`, or `NAME`, whose value is the one that it has here.

    :raises LaunchError: when there is no name
    """
    name, equals, value = text.partition("=")
    if not name:  # the value is not repeated: it may be a secret
        raise LaunchError("--env: a variable without a name", "write NAME=VALUE, or NAME for its value here")
    return name, value if equals else None


def import_folders(project: Path, folders: Sequence[str], table: str) -> tuple[str, ...]:
    """Check the folders of a project that Python is to import from; gives them relative to it.

    :param table: of the settings, which names them
    :raises LaunchError: when one is not there, or not in the project
    """
    found = []
    for text in folders:
        path = project / text
        words = f"{said('pythonpath', text, table)}: "
        if ":" in text or not path.resolve().is_relative_to(project.resolve()):
            raise LaunchError(f"{words}only folders of the project can be imported from", "name one: src")
        if not path.is_dir():
            raise LaunchError(f"{words}there is no folder {path}")
        found.append(os.path.normpath(text))
    return tuple(found)


def python_path(root: str, folders: Sequence[str]) -> dict[str, str]:
    """The variable that makes Python import from folders of a project.

    :param root: where the project is seen
    """
    return (
        {"PYTHONPATH": ":".join(os.path.normpath(f"{root}/{folder}") for folder in folders)}
        if folders
        else {}
    )


def existing_file(folder: Path, text: str, table: str | None = None) -> Path:
    """Find an env file.

    :param folder: that `text` is relative to
    :param table: of the settings, if they name it
    :raises LaunchError: when there is none
    """
    path = folder / Path(text).expanduser()
    if not path.is_file():
        raise LaunchError(f"{said('env_file', text, table)}: there is no file {path}")
    return path


def names_in(env_file: Path) -> set[str]:
    """The names of the variables in an env file.

    :raises LaunchError: when it cannot be read
    """
    try:
        lines = env_file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LaunchError(f"cannot read the env file {env_file}: {error}") from error
    return {line.partition("=")[0].strip() for line in lines if not line.lstrip().startswith("#")}


def values_in(env_file: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of an env file as the engine's client reads it: `NAME` alone is the value it has here."""
    found: dict[str, str] = {}
    for line in env_file.read_text(encoding="utf-8-sig").splitlines():
        name, equals, value = line.lstrip().partition("=")
        if not name or name.startswith("#"):
            continue
        if equals:
            found[name] = value
        elif name.strip() in environ:
            found[name.strip()] = environ[name.strip()]
    return found
