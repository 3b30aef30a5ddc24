"""Which environments a directory has. A name is a file; nothing else is registered anywhere.

`environments/NAME.yml` (or `.yaml`) is the environment NAME, locked in `environments/NAME.conda-lock.yml`.
Where there is no such folder, `environment.yml` or `binder/environment.yml` is the one environment, named
after its directory, locked in `conda-lock.yml` beside it.

A path on a command line means the same: the environment that its own directory has it as. A spec that lies
anywhere else is named after its file, and `my.yml` is locked in `my.conda-lock.yml` beside it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from envbox.errors import SpecError

SPEC_SUFFIXES = (".yml", ".yaml")
SINGLE_SPECS = ("environment.yml", "environment.yaml", "binder/environment.yml", "binder/environment.yaml")
LOCK_SUFFIX = ".conda-lock.yml"
FOREIGN = ("conda-lock.yml", "pixi.lock", "explicit.txt", "conda-linux-64.lock", "conda-linux-aarch64.lock")
"""Lockfiles, of other tools too, that make an environment of a directory that has no spec."""
FOREIGN_SUFFIXES = (".lock", ".explicit.txt")
"""Likewise in environments/, after the environment's name."""
_TELLS_NOTHING = re.compile(r"environment|explicit|pixi|conda-lock|conda-(linux|osx|win)-\w+|lock|env")
NAMES_ARE = "names are made of letters, digits, `-`, `_` and `.`, and end in .yml or .yaml"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, slots=True)
class Environment:
    """One environment: its name, its spec and the lockfile beside it (either may not exist yet).

    :param foreign: a lockfile that may be another tool's, where there is no spec: whatever lies at
        `spec_path` then is not of this environment
    """

    name: str
    spec_path: Path
    lock_path: Path
    foreign: Path | None = None

    @property
    def has_spec(self) -> bool:
        """Whether it may be solved; one that is only a lockfile is taken as it is."""
        return self.foreign is None


@dataclass(frozen=True, slots=True)
class Project:
    """A directory with environments; `root` is what gets mounted.

    :param default: the environment to take when none is named, from the settings
    :param passed_over: what looks like a spec in environments/, and has a name that none can have
    """

    root: Path
    environments: tuple[Environment, ...]
    default: str | None = None
    passed_over: tuple[str, ...] = ()

    def environment(self, name: str | None = None) -> Environment:
        """Return the environment of that name; without one, the default, or the only one there is.

        :raises SpecError: when the name is not a name, or there is no such environment, or none can be chosen
        """
        wanted = self.default if name is None else name
        names = ", ".join(e.name for e in self.environments)
        if wanted is not None:
            check_name(wanted)
            for environment in self.environments:
                if environment.name == wanted:
                    return environment
            raise SpecError(
                f"no environment {wanted} in {self.root}",
                f"there is {names}" if names else f"write environments/{wanted}.yml",
            )
        if not self.environments:
            raise SpecError(
                f"no environment in {self.root}",
                f"rename environments/{self.passed_over[0]}: {NAMES_ARE}"
                if self.passed_over
                else "write environments/NAME.yml, or environment.yml",
            )
        if len(self.environments) > 1:
            raise SpecError(
                f"which environment? {self.root} has {names}", "name one, or set `environment` in envbox.toml"
            )
        return self.environments[0]


def is_reference(name: str) -> bool:
    """Return whether a name on a command line means an image in a registry: it has a tag, a digest or a
    registry.

    So `a/b`, which is as likely a path, is not one, and `docker.io/a/b` is.
    """
    if name.startswith((".", "/", "-")):
        return False
    host, slash, _ = name.partition("/")
    return ":" in name or "@" in name or bool(slash and ("." in host or host == "localhost"))


def is_lockfile_path(name: str) -> bool:
    """Return whether a name on a command line is a file's, where there is one; no environment's is like
    this.
    """
    return "/" in name or name.endswith((".yml", ".yaml", ".txt", ".lock"))


def is_sound_name(name: str) -> bool:
    """Return whether a text can be an environment's name: no path and no option."""
    return bool(_NAME.fullmatch(name)) and ".." not in name


def check_name(name: str) -> str:
    """Refuse a name that could be a path or an option.

    :raises SpecError: when it is one
    """
    if not is_sound_name(name):
        hint = "names are made of letters, digits, `-`, `_` and `.`, and are looked up in environments/"
        if "/" in name or ":" in name or "@" in name:
            hint += "; an image in a registry is named with its host or tag: docker.io/you/maps:1"
        raise SpecError(f"{name!r} is not an environment's name", hint)
    return name


def find_root(directory: Path) -> Path:
    """Return the nearest directory, from `directory` upwards, that has environments; else `directory` itself.

    The search ends at a repository's root and at the home folder, so a stray file above cannot capture a
    project.
    """
    for candidate in (directory, *directory.parents):
        if read_project(candidate).environments:
            return candidate
        if (candidate / ".git").exists() or candidate == Path.home():
            break
    return directory


def read_project(root: Path, default: str | None = None) -> Project:
    """List the environments of a directory. Reads names only, no file's content."""
    root = root.absolute()
    folder = root / "environments"
    files = [p for p in folder.iterdir() if _is_named_after(p)] if folder.is_dir() else []
    names = sorted(filter(None, {_environment_name(path) for path in files}))
    _check_images(folder, names)
    found = [_in_folder(folder, name) for name in names]
    if not found and (spec := single_spec(root)):
        found = [Environment(_directory_name(root), spec, spec.with_name("conda-lock.yml"))]
    elif not found and (lockfile := next((p for name in FOREIGN if (p := root / name).is_file()), None)):
        found = [foreign_environment(lockfile)]
    strange = sorted(p.name for p in files if _environment_name(p) is None)
    return Project(root, tuple(found), default, tuple(strange))


def single_spec(root: Path) -> Path | None:
    """Return the spec of a directory that has one, and no environments/.

    :raises SpecError: when there are two of one name
    """
    for folder in (root, root / "binder"):
        _check_one_spec(folder, "environment")
    return next((path for name in SINGLE_SPECS if (path := root / name).is_file()), None)


def foreign_environment(path: Path, name: str | None = None) -> Environment:
    """Return the environment that a lockfile is, which has no spec."""
    name = name or name_of_foreign(path)
    return Environment(
        name, path.with_name(f"{name}.yml"), path.with_name(name + LOCK_SUFFIX), path.absolute()
    )


def environment_at(path: Path, *, is_spec: bool) -> Environment:
    """Return the environment that a file is, wherever it lies: as its own directory has it, or by itself.

    :param is_spec: what the file holds, which its name does not tell
    :raises SpecError: when a spec has a name that no environment can have
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100  # `..` must go, symlinks stay
    root = path.parent.parent if path.parent.name in ("environments", "binder") else path.parent
    for environment in read_project(root).environments:
        if path in (environment.spec_path, environment.lock_path, environment.foreign):
            return environment
    if is_spec:
        return _spec_by_itself(path)
    name = path.name.removesuffix(LOCK_SUFFIX)
    specs = [path.with_name(name + end) for end in SPEC_SUFFIXES] if name != path.name else []
    spec = next((spec for spec in specs if spec.is_file()), None)
    return _spec_by_itself(spec) if spec else foreign_environment(path)


def _spec_by_itself(path: Path) -> Environment:
    name = path.name.removesuffix(path.suffix)
    if not _NAME.fullmatch(name) or ".." in name:
        raise SpecError(
            f"{path.name!r} cannot be the name of a spec: environments are named after their files",
            f"rename it to NAME.yml: {NAMES_ARE}",
        )
    _check_one_spec(path.parent, name)
    return Environment(name, path, path.with_name(name + LOCK_SUFFIX))


def lock_path_of(project: Project, name: str) -> Path:
    """Return where an environment's lockfile is, or would be if there were one of that name.

    :raises SpecError: when that is no name
    """
    check_name(name)
    there = next((e for e in project.environments if e.name == name), None)
    return there.lock_path if there else project.root / "environments" / (name + LOCK_SUFFIX)


def name_of_foreign(path: Path) -> str:
    """Return what the environment of a lockfile is called: as the file, or as its folder where that says
    more.
    """
    path = path.absolute()
    name = path.name.removesuffix(LOCK_SUFFIX)
    for suffix in (*FOREIGN_SUFFIXES, ".txt", ".yml", ".yaml"):
        name = name.removesuffix(suffix)
    if not _NAME.fullmatch(name) or _TELLS_NOTHING.fullmatch(name) or ".." in name:
        return _directory_name(path.parent)
    return name


def check_not_foreign(environment: Environment) -> None:
    """Refuse to lock what another tool has locked.

    :raises SpecError: when it has, and there is no spec
    """
    if environment.foreign is not None:
        raise SpecError(
            f"{environment.name} has no spec to lock, only {environment.foreign}",
            f"make a spec and a lockfile of it: envbox import {environment.foreign.name}",
        )


def _is_named_after(path: Path) -> bool:
    return path.suffix.lower() in SPEC_SUFFIXES or path.name.endswith(FOREIGN_SUFFIXES)


def _environment_name(path: Path) -> str | None:
    name = path.name
    for suffix in (LOCK_SUFFIX, ".yml", ".yaml", *FOREIGN_SUFFIXES):
        if name.endswith(suffix):
            name = name[: -len(suffix)]
            return name if _NAME.fullmatch(name) else None
    return None


def _in_folder(folder: Path, name: str) -> Environment:
    _check_one_spec(folder, name)
    spec = next((p for end in SPEC_SUFFIXES if (p := folder / f"{name}{end}").is_file()), None)
    if spec is None:
        for suffix in (LOCK_SUFFIX, *FOREIGN_SUFFIXES):
            if (path := folder / f"{name}{suffix}").is_file():
                return foreign_environment(path, name)
    return Environment(name, spec or folder / f"{name}.yml", folder / f"{name}{LOCK_SUFFIX}")


def image_name(name: str) -> str:
    """Return an environment's name as images have it, where only lower case and single separators are
    allowed.
    """
    return re.sub(r"[._-]{2,}|[^a-z0-9._-]+", "-", name.lower()).strip("._-") or "environment"


def _check_images(folder: Path, names: list[str]) -> None:
    """Refuse names that are one for images, servers and kernels: one would take the other's place.

    :raises SpecError: when there are such
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(image_name(name), name)
        if other != name:
            raise SpecError(
                f"{folder} has {other} and {name}, whose images would both be envbox/{image_name(name)}",
                "rename one of them; images have names in lower case, with single separators",
            )


def _check_one_spec(folder: Path, name: str) -> None:
    """Refuse two specs of one name, which would share a lockfile.

    :raises SpecError: when there are two
    """
    one, other = (folder / f"{name}{end}" for end in SPEC_SUFFIXES)
    if one.is_file() and other.is_file():
        raise SpecError(
            f"{folder} has both {one.name} and {other.name}, and they would share one lockfile",
            "keep one of them, or rename the other",
        )


def _directory_name(root: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", root.name).strip("-._")
    return name or "environment"
