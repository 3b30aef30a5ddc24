"""A spec's `pip:` section → wheels pinned by hash, beside the conda packages of one platform.

conda-lock's resolver (poetry's, inside it) does the work: it knows which conda packages already are what a
requirement asks for. The difficulty is what it takes from this machine or leaves open: its caches, its
output, the index's address, and manylinux tags that end at glibc 2.28; all of that is set here, for one call.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envbox.errors import SolveError, SpecError, ToolError
from envbox.files import write_whole
from envbox.lockfile import LockedPackage
from envbox.mirrors import without_credentials
from envbox.report import Reporter
from envbox.settings import Settings
from envbox.spec import quiet_conda_lock

INDEX = "https://pypi.org/simple"
_FRESH_FOR = 24 * 3600  # seconds; conda names change slowly
_OLDEST_GLIBC = 5  # of manylinux1: 2.5
_LEGACY_TAGS = {5: "1", 12: "2010", 17: "2014"}  # glibc 2.x → the manylinux tags from before PEP 600


@dataclass(frozen=True, slots=True)
class Requirements:
    """What pip is to add on one platform.

    :param conda: the platform's conda packages, which may already be what a requirement asks for
    :param locked: wheels to be kept where they still fit
    :param glibc: of the base; decides which wheels can be used
    """

    platform: str
    conda: tuple[LockedPackage, ...]
    locked: tuple[LockedPackage, ...]
    glibc: str | None


def lock_requirements(
    asked: Requirements, specification: Any, names: Path, settings: Settings
) -> tuple[LockedPackage, ...]:
    """Resolve a platform's requirements into wheels.

    :param specification: conda-lock's LockSpecification
    :param names: the table of conda's names for PyPI's projects (`names_table`)
    :raises SolveError: when they cannot be resolved, or only a source archive could be had
    :raises ToolError: when the index cannot be reached
    """
    wanted = {d.name: d for d in specification.dependencies[asked.platform] if d.manager == "pip"}
    if not wanted:
        return ()
    python = next((p.version for p in asked.conda if p.name == "python"), None)
    if python is None:
        raise SpecError("there is a `pip:` section, but no python among the dependencies", "add `- python`")
    repositories = [settings.mirrors.rewrite(r.url) for r in specification.pip_repositories]
    with (
        quiet_conda_lock(),
        _poetry_at(settings.cache_dir / "pypi"),
        _tags_up_to(asked.glibc),
        _no_code_run(),
        _conda_first(),
    ):
        from conda_lock.models.pip_repository import PipRepository
        from conda_lock.pypi_solver import solve_pypi

        if specification.allow_pypi_requests:
            repositories.append(settings.mirrors.rewrite(INDEX))
        try:
            found = solve_pypi(
                pip_specs=wanted,
                use_latest=[],
                pip_locked=_as_conda_lock(asked.locked),
                conda_locked=_as_conda_lock(asked.conda),
                python_version=python,
                platform=asked.platform,
                platform_virtual_packages=_glibc_package(asked.glibc),
                pip_repositories=[PipRepository.from_string(url) for url in repositories],
                allow_pypi_requests=False,  # it means PyPI's JSON API, which no mirror has; INDEX is as good
                strip_auth=True,
                mapping_url=str(names),
            )
        except Exception as error:  # poetry has no base class for what can go wrong
            raise _in_words(error, asked.platform) from error
    _refuse_shadows(found, asked, names)
    return _wheels(found.values(), asked.platform, settings)


def _refuse_shadows(found: Mapping[str, Any], asked: Requirements, names: Path) -> None:
    """Two packages of one name would write the same files, and neither would be whole."""
    from conda_lock.lookup import conda_name_to_pypi_name

    conda = {
        conda_name_to_pypi_name(p.name, mapping_url=str(names)): p
        for p in asked.conda
        if "python" in p.depends
    }
    for name in sorted(set(found) & set(conda)):
        raise SolveError(
            f"the pip requirements need {name} {found[name].version}, but conda has {conda[name].version} "
            f"for {asked.platform}",
            f"ask conda for {conda[name].name} {found[name].version} too, or take it from one of them only",
        )


def names_table(settings: Settings, report: Reporter) -> Path:
    """Find the table of conda's names for PyPI's projects; an empty one, with a warning, if there is none."""
    from conda_lock.lookup import DEFAULT_MAPPING_URL

    url = settings.mapping_url or DEFAULT_MAPPING_URL
    if "://" not in url or url.startswith("file://"):
        return Path(url.removeprefix("file://"))
    kept = settings.cache_dir / "names" / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.json"
    if kept.is_file() and 0 <= time.time() - kept.stat().st_mtime < _FRESH_FOR:
        return kept
    try:
        write_whole(kept, _fetched_table(settings.mirrors.rewrite(url)))
    except ToolError as error:
        if kept.is_file():
            report.detail(f"{error.message}; an older table of names is used")
            return kept
        report.warn(
            f"{error.message}; pip requirements are matched to conda packages of the same name only "
            "(set `mapping_url` to a table that can be reached)"
        )
        empty = kept.with_name("empty.json")
        write_whole(empty, b"{}")
        return empty
    return kept


def _fetched_table(url: str) -> bytes:
    import requests

    try:
        answer = requests.get(url, timeout=(5, 60), headers={"User-Agent": "envbox"})
        answer.raise_for_status()
        table = json.loads(answer.content)
    except (requests.RequestException, ValueError) as error:
        raise ToolError(f"cannot fetch the table of conda's names for PyPI's projects from {url}") from error
    if not isinstance(table, dict):
        raise ToolError(f"what {url} gives is no table of names")
    return answer.content


# --- what conda-lock takes and gives ------------------------------------------------------------------------


def _as_conda_lock(packages: tuple[LockedPackage, ...]) -> dict[str, Any]:
    from conda_lock.lockfile.v2prelim.models import HashModel, LockedDependency

    return {
        p.name: LockedDependency(
            name=p.name, version=p.version, manager=p.manager, platform=p.platform,
            dependencies=dict(p.depends), url=p.url, hash=HashModel(md5=p.md5 or "", sha256=p.sha256),
        )
        for p in packages
    }  # fmt: skip


def _glibc_package(glibc: str | None) -> dict[str, Any] | None:
    return {"__glibc": {"name": "__glibc", "version": glibc}} if glibc else None


def _wheels(found: Any, platform: str, settings: Settings) -> tuple[LockedPackage, ...]:
    wheels, faults, names = [], [], []
    for locked in found:
        url = settings.mirrors.canonical(without_credentials(locked.url))
        if not url.endswith(".whl"):
            faults.append(
                f"{locked.name} {locked.version} has no wheel for {platform}, only a source archive"
            )
            names.append(locked.name)
        elif not locked.hash.sha256:
            faults.append(f"the index gives no sha256 for {url}")
        else:
            wheels.append(LockedPackage(
                "pip", locked.name, locked.version, None, platform, dict(sorted(locked.dependencies.items())),
                url, locked.hash.sha256,
            ))  # fmt: skip
    if faults:
        raise SolveError("; ".join(faults), _instead(", ".join(names)) if names else None)
    return tuple(sorted(wheels, key=lambda p: p.name))


def _instead(names: str) -> str:
    return f"take {names} from conda instead, or ask for a version that has a wheel"


def _in_words(error: Exception, platform: str) -> SolveError | ToolError:
    import requests

    said = str(error).strip() or type(error).__name__
    if isinstance(error, requests.RequestException | ConnectionError):
        return ToolError(
            f"cannot read the package index for the pip requirements: {said.splitlines()[0]}",
            f'check the network; a mirror can be set: mirrors = {{ "{INDEX}" = "https://…/simple" }}',
        )
    unbuilt = re.search(r"package info for path: \S*/([^/\s]+)-([^-/\s]+)\s", said)
    if sourced := unbuilt or re.fullmatch(r"Package (\S+) \((\S+)\) not found\.?", said):
        return SolveError(
            f"{sourced[1]} {sourced[2]} has no wheel for {platform}, only a source archive",
            _instead(sourced[1]),
        )
    lines = [
        line.rstrip().replace("-dummy-package-", "the spec") for line in said.splitlines() if line.strip()
    ]
    tree = "\n".join(["", *(f"  {line}" for line in lines)])
    return SolveError(f"the pip requirements cannot be satisfied on {platform}:{tree}")


# --- what is set for one call -------------------------------------------------------------------------------


@contextmanager
def _poetry_at(folder: Path) -> Iterator[None]:
    """Keep poetry's caches in ours, and keep it from asking a keyring, which can wait for a person."""
    ours: Mapping[str, str] = {"POETRY_CACHE_DIR": str(folder), "POETRY_KEYRING_ENABLED": "false"}
    before = {key: os.environ.get(key) for key in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


@contextmanager
def _tags_up_to(glibc: str | None) -> Iterator[None]:
    """Have all manylinux tags that the base's glibc allows (PEP 600); conda-lock's own list ends at 2.28."""
    from conda_lock import pypi_solver

    before = pypi_solver.MANYLINUX_TAGS
    if glibc:
        newest = int(glibc.split(".")[1])
        every = range(_OLDEST_GLIBC, newest + 1)
        pypi_solver.MANYLINUX_TAGS = [
            tag for minor in every for tag in (_LEGACY_TAGS.get(minor), f"_2_{minor}") if tag
        ]
    try:
        yield
    finally:
        pypi_solver.MANYLINUX_TAGS = before


@contextmanager
def _no_code_run() -> Iterator[None]:
    """Keep poetry from running a source archive's build to learn what it depends on: no wheel, no package."""
    from conda_lock._vendor.poetry.inspection import info

    def refuse(path: Path) -> Any:
        raise info.PackageInfoError(path, "only a source archive")

    before = info.get_pep517_metadata
    info.get_pep517_metadata = refuse
    try:
        yield
    finally:
        info.get_pep517_metadata = before


@contextmanager
def _conda_first() -> Iterator[None]:
    """Let a package that conda has stand for PyPI's of that name, also where PyPI lacks the version.

    Poetry would fetch its metadata from the index, and resolve once more what conda has resolved.
    """
    from conda_lock import pypi_solver
    from conda_lock.interfaces.vendored_poetry import Pool, Repository

    before = pypi_solver.PoetrySolver

    def solver(package: Any, *, pool: Any, installed: Any, **rest: Any) -> Any:
        ours = Pool([Repository("conda", installed), *pool.repositories])
        return before(package, pool=ours, installed=installed, **rest)

    pypi_solver.PoetrySolver = solver
    try:
        yield
    finally:
        pypi_solver.PoetrySolver = before
