"""Kernelspecs on this machine that lead to locked environments: written, listed, removed.

They lie where Jupyter looks for those of a user, under a name of ours; what others have put there is never
touched. https://jupyter-client.readthedocs.io/en/stable/kernels.html#kernel-specs
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from envbox import __version__
from envbox.documents import read_json
from envbox.errors import LaunchError, ToolError
from envbox.files import disk_error, write_whole

KEY = "envbox"
FILE = "kernel.json"


@dataclass(frozen=True, slots=True)
class HostKernel:
    """A kernelspec of ours.

    :param name: its own, by which Jupyter knows it
    :param environment: the environment's name, in the project
    :param kernel: the kernelspec inside the environment that it starts
    """

    name: str
    path: Path
    environment: str
    project: Path
    kernel: str
    display_name: str

    @property
    def is_usable(self) -> bool:
        """Whether its project is still there."""
        return self.project.is_dir()


def kernels_folder(prefix: Path | None) -> Path:
    """Return where kernelspecs lie: Jupyter's folder for this user, or that of an installation.

    :param prefix: of the installation: what `sys.prefix` is in its Python
    """
    if prefix is not None:
        return prefix / "share" / "jupyter" / "kernels"
    from jupyter_core.paths import jupyter_data_dir

    return Path(jupyter_data_dir()) / "kernels"


def known(folder: Path) -> tuple[HostKernel, ...]:
    """Return all kernelspecs of ours in a folder, by name."""
    return tuple(filter(None, map(_read, sorted(folder.glob(f"*/{FILE}")))))


def add(
    folder: Path,
    environment: str,
    project: Path,
    inside: tuple[str, Mapping[str, Any]],
    passed: tuple[str, ...] = (),
) -> HostKernel:
    """Write the kernelspec of an environment; one that it has already is replaced.

    :param inside: the kernel in the environment: its name, and its own kernelspec
    :param passed: names of variables that the kernel gets from the client's environment
    :raises ToolError: when it cannot be written
    """
    kernel, spec = inside
    mine = find(folder, environment, project)
    others = [k for k in known(folder) if k.environment == environment and k.project != project]
    name = mine.name if mine else _free_name(folder, environment, project)
    place = f", {project.name}" if others else ""
    display_name = f"{environment} (locked{place})"
    metadata = dict(spec.get("metadata") or {})
    # a client that is allowed to encrypts what it sends to such kernels, with keys in the connection file
    metadata[KEY] = {"environment": environment, "project": str(project), "kernel": kernel,
                     "version": __version__}  # fmt: skip
    written = {
        "argv": argv(environment, project, kernel, passed),
        "display_name": display_name,
        "language": spec.get("language", "python"),
        "interrupt_mode": "message",  # a signal would end at the engine's client
        "metadata": metadata,
    }
    path = folder / name / FILE
    write_whole(path, (json.dumps(written, indent=1, ensure_ascii=False) + "\n").encode(), is_cache=False)
    return HostKernel(name, path.parent, environment, project, kernel, display_name)


def argv(environment: str, project: Path, kernel: str, passed: tuple[str, ...] = ()) -> list[str]:
    """Return the command of a kernelspec. `-P`: modules beside a notebook must not stand in for envbox's
    own.
    """
    return [
        *(sys.executable, "-P", "-m", "envbox", "--quiet", "--directory", str(project)),
        *("kernel", "run", "--kernel", kernel, "--connection-file", "{connection_file}"),
        *(word for name in passed for word in ("--env", name)),
        environment,
    ]


def find(folder: Path, environment: str, project: Path) -> HostKernel | None:
    """Return the kernelspec of an environment of a project; None when it has none."""
    return next((k for k in known(folder) if (k.environment, k.project) == (environment, project)), None)


def remove(folder: Path, environment: str, project: Path) -> HostKernel:
    """Remove the kernelspec of an environment.

    :param environment: its name, or the kernelspec's own, whatever project that is of
    :raises LaunchError: when there is none
    :raises ToolError: when it cannot be removed
    """
    found = find(folder, environment, project) or next(
        (k for k in known(folder) if k.name == environment), None
    )
    if found is None:
        raise LaunchError(
            f"{environment} has no kernel in {folder}", "envbox kernel list shows which there are"
        )
    try:
        shutil.rmtree(found.path)
    except OSError as error:
        raise disk_error(found.path, error, is_cache=False) from error
    return found


def _free_name(folder: Path, environment: str, project: Path) -> str:
    """Return a name that nobody has: Jupyter takes them in lower case."""
    plain = f"envbox-{environment.lower()}"
    own = f"{plain}-{sha256(os.fsencode(project)).hexdigest()[:8]}"
    for name in (plain, own):
        if not (folder / name).exists():
            return name
    raise ToolError(
        f"{folder / own} is there already, and not envbox's", f"remove it: jupyter kernelspec remove {own}"
    )


def _read(path: Path) -> HostKernel | None:
    """Return a kernelspec, if it is one of ours."""
    try:
        spec = read_json(path.read_bytes())
        ours = spec["metadata"][KEY]
        return HostKernel(
            path.parent.name, path.parent, ours["environment"], Path(ours["project"]), ours["kernel"],
            spec["display_name"],
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return None


def readable(kernels: tuple[HostKernel, ...]) -> Iterator[tuple[str, ...]]:
    """Yield rows of a table: name, environment, project, and what Jupyter shows."""
    for kernel in kernels:
        state = "" if kernel.is_usable else "  (gone)"
        yield kernel.name, kernel.environment, f"{kernel.project}{state}", kernel.display_name
