"""`stamp`: one key in a notebook's metadata says which environment it is for, and with which lock it was.

Jupyter keeps metadata that it does not know. The rest of the file stays as it is, to the byte.
"""

from __future__ import annotations

from pathlib import Path

from envbox import __version__
from envbox.errors import LockfileError, SpecError
from envbox.files import write_whole
from envbox.lockfile import plain_lines
from envbox.notebooks.document import Notebook, loads, read_bytes
from envbox.notebooks.write import with_metadata
from envbox.oci import digest_of
from envbox.project import Environment, Project

KEY = "envbox"


def stamp(path: Path, environment: Environment) -> bool:
    """Bind a notebook to an environment as it is locked; whether it was not before.

    :raises NotebookError: when it is no notebook; it is left alone
    :raises LockfileError: when the environment is not locked
    """
    lock = str(lock_digest(environment))
    data = read_bytes(path)
    notebook = loads(data, path)
    before = notebook.stamp or {}
    if (before.get("environment"), before.get("lock")) == (environment.name, lock):
        return False
    made = {"environment": environment.name, "lock": lock, "version": __version__}
    write_whole(
        path,
        with_metadata(data, notebook.document, KEY, made),
        mode=path.stat().st_mode & 0o777,
        is_cache=False,
    )
    return True


def bound_name(notebook: Notebook) -> str | None:
    """Return the name of the environment that a notebook is bound to; None when it is bound to none."""
    name = (notebook.stamp or {}).get("environment")
    return name if isinstance(name, str) else None


def bound_environment(project: Project, name: str | None) -> Environment:
    """Return the environment of that name; or the only one, if it has no name but its directory's, which
    changes.

    :raises SpecError: when there is none
    """
    only = project.environments[0] if len(project.environments) == 1 else None
    if name is not None and only is not None and only.lock_path.name == "conda-lock.yml":
        return only
    return project.environment(name)


def environment_of(notebook: Notebook, project: Project) -> Environment:
    """Return the environment that a notebook is bound to; of one that is bound to none, the project's only
    one.

    :raises SpecError: when there is none, or none can be chosen
    """
    name = bound_name(notebook)
    if name is None and len(project.environments) > 1 and project.default is None:
        names = ", ".join(e.name for e in project.environments)
        raise SpecError(
            f"{notebook.path} is not bound to an environment, and {project.root} has {names}",
            f"bind it: envbox stamp --name NAME {notebook.path.name}",
        )
    return bound_environment(project, name)


def lock_digest(environment: Environment) -> str:
    """Return the digest of an environment's lockfile, as images and stamps name it.

    :raises LockfileError: when there is none
    """
    try:
        return str(digest_of(plain_lines(environment.lock_path.read_bytes())))
    except FileNotFoundError:
        raise LockfileError(
            f"{environment.name} is not locked, so no notebook can be bound to it",
            f"envbox lock {environment.name}",
        ) from None
    except OSError as error:
        raise LockfileError(f"cannot read {environment.lock_path}: {error.strerror}") from error
