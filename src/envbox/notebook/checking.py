"""`check`: is what a notebook imports in its environment's lockfile; offline, without a solve, at once.

A module is taken to be there when a package that may bring it is locked: no lockfile lists modules. What a
notebook tries and can do without is not asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from envbox.errors import EnvboxError, NotebookError
from envbox.lockfile import Lock, pip_name
from envbox.notebook.imports import used_by_notebook
from envbox.notebook.kernels import NO_PACKAGE, has_kernel, kernel_packages
from envbox.notebook.names import packages_for, possible_names
from envbox.notebook.reading import Notebook, read_notebook
from envbox.notebook.stamping import bound_environment, bound_name, lock_digest
from envbox.project import Environment, Project


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a notebook.

    :param hint: the command that mends it
    """

    notebook: str
    words: str
    hint: str


@dataclass(frozen=True, slots=True)
class _Locked:
    """An environment as it is locked.

    :param names: platform → names of its packages, in plain form
    """

    environment: Environment
    digest: str
    names: Mapping[str, frozenset[str]]
    python: str | None


_Known = dict[str | None, _Locked | EnvboxError]


def check(paths: Mapping[str, Path], project: Project, name: str | None) -> tuple[Finding, ...]:
    """Check notebooks against the environments that they are stamped with.

    :param paths: of notebooks, by what they are called in findings
    :param name: of the environment to check against instead, stamped or not
    """
    known: _Known = {}
    return tuple(
        finding for shown, path in paths.items() for finding in _check((shown, path), project, name, known)
    )


def _check(
    called: tuple[str, Path],
    project: Project,
    name: str | None,
    known: dict[str | None, _Locked | EnvboxError],
) -> Iterator[Finding]:
    shown, path = called
    try:
        notebook = read_notebook(path)
    except NotebookError as error:
        yield Finding(shown, error.message, error.hint or "")
        return
    stamp = notebook.stamp
    if stamp is None and name is None:
        yield Finding(shown, "it is not bound to an environment", f"envbox stamp {shown}")
    wanted = name or bound_name(notebook)
    if wanted not in known:
        known[wanted] = _locked(project, wanted)
    locked = known[wanted]
    if isinstance(locked, EnvboxError):
        yield Finding(shown, locked.message, locked.hint or "")
        return
    if stamp is not None and name is None and stamp.get("lock") != locked.digest:
        words = f"it was bound to another lock of {locked.environment.name} than is there"
        yield Finding(shown, words, f"envbox stamp {shown}")
    yield from _unprovided(notebook, locked, shown)


def _locked(project: Project, name: str | None) -> _Locked | EnvboxError:
    from envbox.lockfile.conda_lock_v1 import read_lockfile

    try:
        environment = bound_environment(project, name)
        digest, lock = lock_digest(environment), read_lockfile(environment.lock_path)
    except EnvboxError as error:
        return error
    return _Locked(environment, digest, _names(lock), _python(lock))


def _names(lock: Lock) -> dict[str, frozenset[str]]:
    return {p: frozenset(pip_name(q.name) for q in lock.packages if q.platform == p) for p in lock.platforms}


def _python(lock: Lock) -> str | None:
    return next((p.version for p in lock.packages if p.manager == "conda" and p.name == "python"), None)


def _unprovided(notebook: Notebook, locked: _Locked, shown: str) -> Iterator[Finding]:
    name = locked.environment.name
    yield from _kernel(notebook, locked, shown)
    used = used_by_notebook(notebook, _beside(notebook.path))
    for module, cell in used.modules.items():
        likely = [f"r-{module.lower()}"] if notebook.language == "r" else packages_for(module)
        possible = {pip_name(n) for n in likely} if notebook.language == "r" else set(possible_names(module))
        missing = [p for p, names in locked.names.items() if not possible & names]
        if missing:
            where = "" if len(missing) == len(locked.names) else f" for {', '.join(missing)}"
            yield Finding(
                shown, f"cell {cell} imports {module}, which {name} does not have{where}",
                f"envbox add {likely[0]} --name {name}",
            )  # fmt: skip
    for install, cell in used.installs.items():
        package = pip_name(install.text.partition("[")[0].split("=")[0].split("<")[0].split(">")[0])
        if all(package not in names for names in locked.names.values()):
            pip = " --pip" if install.manager == "pip" else ""
            yield Finding(
                shown, f"cell {cell} installs {install.text}, which no lock holds",
                f'envbox add{pip} "{install.text}" --name {name}',
            )  # fmt: skip


def _kernel(notebook: Notebook, locked: _Locked, shown: str) -> Iterator[Finding]:
    name = locked.environment.name
    kernels = kernel_packages(notebook.kernel, notebook.language)
    called = notebook.kernel or notebook.language
    if not kernels:
        if all(not has_kernel(names, notebook.language) for names in locked.names.values()):
            yield Finding(shown, f"its kernel is {called}, and {name} has none for it", NO_PACKAGE)
    elif any(not names & {pip_name(kernel) for kernel in kernels} for names in locked.names.values()):
        words = f"its kernel is {called}, and {name} has no {kernels[0]}"
        yield Finding(shown, words, f"envbox add {kernels[0]} --name {name}")
    version = notebook.version if notebook.language in ("python", "ipython") else None
    if version and locked.python and version.split(".")[0] != locked.python.split(".")[0]:
        yield Finding(
            shown, f"it was run with Python {version}, and {name} has {locked.python}",
            f"run it in the environment, and save it: envbox notebook {name}",
        )  # fmt: skip


def _beside(path: Path) -> set[str]:
    """Modules and packages that lie beside a notebook."""
    try:
        return {p.stem for p in path.parent.iterdir() if p.suffix == ".py" or (p / "__init__.py").is_file()}
    except OSError:
        return set()
