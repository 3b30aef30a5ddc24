"""`check`: is what a notebook imports in its environment's lockfile; offline, without a solve, at once.

No lockfile lists modules. Where the cache has the packages, their own lists of files say which they have;
where it does not, a module is taken to be there when a package that may bring it is locked. What a notebook
tries and can do without is not asked for, nor are the project's own modules.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote as quoted

from envbox.errors import EnvboxError, NotebookError
from envbox.lockfile import Lock, LockedPackage, pip_name
from envbox.notebooks.contents import Contents
from envbox.notebooks.document import Notebook, read_notebook
from envbox.notebooks.imports import moves, used_by_notebook
from envbox.notebooks.kernels import NO_PACKAGE, has_kernel, kernel_packages
from envbox.notebooks.local import OwnModules, beside, own_modules
from envbox.notebooks.magics import Install
from envbox.notebooks.names import conda_names, possible_names, sure_package
from envbox.notebooks.needs import UNREAD, listed_in
from envbox.notebooks.stamp import bound_environment, bound_name, lock_digest
from envbox.project import Environment, Project
from envbox.settings import Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a notebook.

    :param hint: the command that mends it
    :param is_fault: or only to be known, when nothing has to be mended
    """

    notebook: str
    words: str
    hint: str
    is_fault: bool = True


_Packages = Mapping[str, tuple[LockedPackage, ...]]


@dataclass(frozen=True, slots=True)
class _Locked:
    """An environment as it is locked.

    :param packages: platform → the packages of a name, in plain form
    """

    environment: Environment
    digest: str
    packages: Mapping[str, _Packages]
    python: str | None

    @property
    def name(self) -> str:
        """The environment's."""
        return self.environment.name

    def lacking(self, names: Collection[str]) -> list[str]:
        """Return the platforms that have no package of these names, in plain form."""
        return [p for p, packages in self.packages.items() if not packages.keys() & names]


@dataclass(slots=True)
class _Checker:
    """What is read once for all notebooks of a run."""

    project: Project
    name: str | None
    contents: Contents
    locks: dict[str | None, _Locked | EnvboxError] = field(default_factory=dict)
    own: tuple[OwnModules, frozenset[str]] | None = None

    def own_modules(self, notebook: Notebook) -> tuple[Collection[str], Collection[str]]:
        """Return the project's own modules that a notebook can import, and those that lie elsewhere in it."""
        if self.own is None:
            found = own_modules(self.project.root)
            self.own = (found, frozenset(found.anywhere()))
        found, anywhere = self.own
        path = Path(os.path.abspath(notebook.path))  # noqa: PTH100  # with its links, as it is walked
        if not path.is_relative_to(found.root):
            return beside(path.parent), ()
        near = found.near(path)
        is_moved = any(moves(cell.source) for cell in notebook.cells)
        return near | found.everywhere() if is_moved else near, anywhere


def check(
    paths: Mapping[str, Path], project: Project, name: str | None, settings: Settings
) -> tuple[Finding, ...]:
    """Check notebooks against the environments that they are stamped with.

    :param paths: of notebooks, by what they are called in findings
    :param name: of the environment to check against instead, stamped or not
    :param settings: of the cache, whose archives tell which modules a package has
    """
    checker = _Checker(project, name, Contents(settings))
    return tuple(finding for shown, path in paths.items() for finding in _check(shown, path, checker))


def _check(shown: str, path: Path, checker: _Checker) -> Iterator[Finding]:
    try:
        notebook = read_notebook(path)
    except NotebookError as error:
        yield Finding(shown, error.message, error.hint or "")
        return
    stamp, name = notebook.stamp, checker.name
    if stamp is None and name is None:
        yield Finding(shown, "it is not bound to an environment", f"envbox stamp {quoted(shown)}")
    wanted = name or bound_name(notebook)
    if wanted not in checker.locks:
        checker.locks[wanted] = _locked(checker.project, wanted)
    locked = checker.locks[wanted]
    if isinstance(locked, EnvboxError):
        yield Finding(shown, locked.message, locked.hint or "")
        return
    if stamp is not None and name is None and stamp.get("lock") != locked.digest:
        words = f"it was bound to another lock of {locked.name} than is there"
        yield Finding(shown, words, f"envbox stamp {quoted(shown)}")
    near, elsewhere = checker.own_modules(notebook)
    used = used_by_notebook(notebook, near)
    for cell in used.unread:
        yield Finding(shown, f"cell {cell} {UNREAD}; its imports are guessed by line", "", is_fault=False)
    faults = [*_kernel(notebook, locked)]
    for module, cell in used.modules.items():
        if module.partition(".")[0] not in elsewhere or sure_package(module):
            faults += _unprovided((module, cell), notebook.language, locked, checker)
    for install, cell in used.installs.items():
        for text in _listed(install, notebook.path, checker.project.root):
            faults += _installed(text, (install, cell), locked)
    yield from (Finding(shown, words, hint) for words, hint in faults)


def _locked(project: Project, name: str | None) -> _Locked | EnvboxError:
    from envbox.lockfile.conda_lock_v1 import read_lockfile

    try:
        environment = bound_environment(project, name)
        digest, lock = lock_digest(environment), read_lockfile(environment.lock_path)
    except EnvboxError as error:
        return error
    packages: dict[str, dict[str, tuple[LockedPackage, ...]]] = {p: {} for p in lock.platforms}
    for package in lock.packages:
        named = packages[package.platform]
        named[pip_name(package.name)] = (*named.get(pip_name(package.name), ()), package)
    return _Locked(environment, digest, packages, _python(lock))


def _python(lock: Lock) -> str | None:
    return next((p.version for p in lock.packages if p.manager == "conda" and p.name == "python"), None)


def _unprovided(
    need: tuple[str, int], language: str, locked: _Locked, checker: _Checker
) -> Iterator[tuple[str, str]]:
    module, cell = need
    if language == "r":
        package: str | None = f"r-{module.lower()}"
        missing = locked.lacking({pip_name(f"r-{module}")})
    else:
        package = sure_package(module)
        missing = [
            p for p, packages in locked.packages.items() if not _has(packages, module, checker.contents)
        ]
    if missing:
        where = "" if len(missing) == len(locked.packages) else f" for {', '.join(missing)}"
        hint = f"envbox add {package}" if package else "add the package that has it: envbox add PKG"
        words = f"cell {cell} imports {module}, which {locked.name} does not have{where}"
        yield words, f"{hint} --name {locked.name}"


def _has(packages: _Packages, module: str, contents: Contents) -> bool:
    """Say whether a platform's packages have a module: by their own lists of files, else by their names."""
    likely = [p for name in set(possible_names(module)) for p in packages.get(name, ())]
    for package in likely:
        modules = contents.modules(package)
        if modules is None or module in modules:
            return True
        # one without modules may stand for others (`matplotlib`), of which nothing may be known
        needed = (p for name in package.depends for p in packages.get(pip_name(name), ()))
        if not modules and any(contents.modules(p) is None for p in needed):
            return True
    others = (p for named in packages.values() for p in named if p.manager == "pip" or "python" in p.depends)
    return any(module in (contents.modules(package) or ()) for package in others)


def _listed(install: Install, notebook: Path, root: Path) -> list[str]:
    """Return what an install names, itself or in a file of the project's."""
    if not install.is_file:
        return [install.text]
    folder = os.path.abspath(notebook.parent)  # noqa: PTH100
    return listed_in(Path(os.path.normpath(f"{folder}/{install.text}")), root)


def _installed(text: str, where: tuple[Install, int], locked: _Locked) -> Iterator[tuple[str, str]]:
    install, cell = where
    name = re.split(r"[^\w.-]", text.rpartition("::")[2], maxsplit=1)[0]
    names = {pip_name(n) for n in (name, *(conda_names(name) if install.manager == "pip" else ()))}
    if len(locked.lacking(names)) == len(locked.packages):
        pip = " --pip" if install.manager == "pip" else ""
        words = f"cell {cell} installs {text}, which no lock holds"
        yield words, f"envbox add{pip} {_quoted(text)} --name {locked.name}"


def _quoted(text: str) -> str:
    """Quote a requirement for a shell, so that what a notebook has is never run by whoever follows a hint."""
    return f'"{text}"' if re.fullmatch(r"[\w.,\[\]<>=~ -]+", text) else quoted(text)


def _kernel(notebook: Notebook, locked: _Locked) -> Iterator[tuple[str, str]]:
    kernels = kernel_packages(notebook.kernel, notebook.language)
    called = f"its kernel is {notebook.kernel or notebook.language}, and {locked.name} has"
    if not kernels:
        if all(not has_kernel(packages, notebook.language) for packages in locked.packages.values()):
            yield f"{called} none for it", NO_PACKAGE
    elif locked.lacking({pip_name(kernel) for kernel in kernels}):
        yield f"{called} no {kernels[0]}", f"envbox add {kernels[0]} --name {locked.name}"
    version = notebook.version if notebook.language in ("python", "ipython") else None
    if version and locked.python and version.split(".")[0] != locked.python.split(".")[0]:
        yield (
            f"it was run with Python {version}, and {locked.name} has {locked.python}",
            f"run it in the environment, and save it: envbox notebook {locked.name}",
        )
