"""`stamp`: one key in a notebook's metadata says which environment it is for, and with which lock it was.

Jupyter keeps metadata that it does not know. The rest of the file stays as it is written, as far as JSON
allows: whoever wrote it, its indentation is found out and kept.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envbox import __version__
from envbox.errors import LockfileError, NotebookError, SpecError
from envbox.files import write_whole
from envbox.notebook.reading import Notebook, loads, read_bytes
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
    after = {**notebook.document, "metadata": {**notebook.metadata, KEY: made}}
    text = written_like(data, notebook.document, after)
    write_whole(path, text, mode=path.stat().st_mode & 0o777, is_cache=False)
    return True


def bound_name(notebook: Notebook) -> str | None:
    """The name of the environment that a notebook is bound to; None when it is bound to none."""
    name = (notebook.stamp or {}).get("environment")
    return name if isinstance(name, str) else None


def bound_environment(project: Project, name: str | None) -> Environment:
    """The environment of that name; or the only one, if it has no name but its directory's, which changes.

    :raises SpecError: when there is none
    """
    only = project.environments[0] if len(project.environments) == 1 else None
    if name is not None and only is not None and only.lock_path.name == "conda-lock.yml":
        return only
    return project.environment(name)


def environment_of(notebook: Notebook, project: Project) -> Environment:
    """The environment that a notebook is bound to; of one that is bound to none, the project's only one.

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
    """The digest of an environment's lockfile, as images and stamps name it.

    :raises LockfileError: when there is none
    """
    try:
        return str(digest_of(environment.lock_path.read_bytes()))
    except FileNotFoundError:
        raise LockfileError(
            f"{environment.name} is not locked, so no notebook can be bound to it",
            f"envbox lock {environment.name}",
        ) from None
    except OSError as error:
        raise LockfileError(f"cannot read {environment.lock_path}: {error.strerror}") from error


def written_like(data: bytes, before: Mapping[str, Any], after: Mapping[str, Any]) -> bytes:
    """Write a document as the file was that it came from; where that cannot be found out, as Jupyter does."""
    mark = b"\xef\xbb\xbf" if data.startswith(b"\xef\xbb\xbf") else b""
    body = data[len(mark) :].rstrip()
    tail = data[len(mark) + len(body) :]
    breaks = b"\r\n" if b"\r\n" in body else b"\n"
    found = re.match(rb"\s*\{\r?\n([ \t]*)", body)
    indent = found[1].decode() if found else None
    for ascii_only, tight in itertools.product((False, True), repeat=2):
        separators = (",", ":") if tight else None
        form: dict[str, Any] = {"indent": indent, "ensure_ascii": ascii_only, "separators": separators}
        if _dumped(before, **form).replace(b"\n", breaks) == body:
            return mark + _dumped(after, **form).replace(b"\n", breaks) + tail
    return _dumped(after, indent=1, ensure_ascii=False, sort_keys=True) + b"\n"


def _dumped(value: Mapping[str, Any], **form: Any) -> bytes:
    try:
        return json.dumps(value, **form).encode("utf-8", "surrogatepass")
    except RecursionError:
        raise NotebookError("the notebook cannot be written: its JSON is nested too deep") from None
