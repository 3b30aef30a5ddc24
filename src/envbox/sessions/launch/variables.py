"""Variables for a launch as a command line and the settings name them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from envbox.errors import LaunchError
from envbox.sessions.launch.bindings import said


def parse_variable(text: str) -> tuple[str, str | None]:
    """Read `NAME=VALUE`, or `NAME`, whose value is the one that it has here.

    :raises LaunchError: when there is no name
    """
    name, equals, value = text.partition("=")
    if not name:  # the value is not repeated: it may be a secret
        raise LaunchError("--env: a variable without a name", "write NAME=VALUE, or NAME for its value here")
    return name, value if equals else None


def checked_variables(variables: Mapping[str, str], table: str) -> Mapping[str, str]:
    """See that variables of the settings are ones that a process can be given.

    :param table: that has them
    :raises LaunchError: naming the first that is not
    """
    for name, value in variables.items():
        if not name or "=" in name or "\0" in name + value:
            raise LaunchError(f"env in [{table}] has {name!r}, which cannot be a variable")
    return variables


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
    """Return the variable that makes Python import from folders of a project.

    :param root: where the project is seen
    """
    return (
        {"PYTHONPATH": ":".join(os.path.normpath(f"{root}/{folder}") for folder in folders)}
        if folders
        else {}
    )


def existing_file(folder: Path, text: str, table: str | None = None) -> Path:
    """Find an env file. On a command line it may be a pipe, such as `<(pass show lab)`.

    :param folder: that `text` is relative to
    :param table: of the settings, if they name it
    :raises LaunchError: when there is none
    """
    path = folder / Path(text).expanduser()
    if path.is_dir() or not path.exists() or (table is not None and not path.is_file()):
        what = "it is a folder" if path.is_dir() else f"there is no file {path}"
        raise LaunchError(f"{said('env_file', text, table)}: {what}", "name a file of NAME=VALUE lines")
    return path
