"""A spec's `pip:` section → wheels pinned by hash, beside the conda packages of one platform.

conda-lock's resolver (poetry's, inside it) does the work: it knows which conda packages already are what a
requirement asks for. The difficulty is what it takes from this machine or leaves open: its caches, its
output, the index's address, and manylinux tags that end at glibc 2.28; all of that is set for one call.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from envbox.errors import SolveError, SpecError, ToolError
from envbox.files import write_whole
from envbox.lockfile import LockedPackage
from envbox.mirrors import public, without_credentials
from envbox.report import Reporter
from envbox.settings import Settings
from envbox.solve.poetry import conda_first, no_code_run, poetry_at, statuses_kept, tags_up_to
from envbox.spec import quiet_conda_lock

INDEX = "https://pypi.org/simple"
_FRESH_FOR = 24 * 3600  # seconds; conda names change slowly


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
        poetry_at(settings.cache_dir / "pypi"),
        tags_up_to(asked.glibc),
        no_code_run(),
        conda_first(),
        statuses_kept() as statuses,
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
            raise _in_words(error, asked.platform, repositories, statuses) from error
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
        raise ToolError(
            f"cannot fetch the table of conda's names for PyPI's projects from {public(url)}"
        ) from error
    if not isinstance(table, dict):
        raise ToolError(f"what {public(url)} gives is no table of names")
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


def _in_words(
    error: Exception, platform: str, indexes: Sequence[str], statuses: Mapping[str, int]
) -> SolveError | ToolError:
    import requests
    from conda_lock._vendor.poetry.repositories.exceptions import RepositoryError

    said = public(str(error).strip()) or type(error).__name__
    if isinstance(error, requests.RequestException | ConnectionError | RepositoryError):
        return _unreadable(_index_of(str(error), indexes), said)
    for url, status in statuses.items():
        if status in (401, 403):
            return _unreadable(
                _index_of(url, indexes), f"it answers {status} for {public(url)}", refused=True
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
    return SolveError(
        f"the pip requirements cannot be satisfied on {platform}:{tree}", _nowhere(indexes, statuses)
    )


def _unreadable(index: str, said: str, refused: bool = False) -> ToolError:
    system = re.search(r"\[Errno -?\d+\] ([^'\")(\[]+)", said)
    hint = (
        "check its address, and the login for it"
        if refused
        else f'check the network; a mirror can be set: mirrors = {{ "{INDEX}" = "https://…/simple" }}'
    )
    why = system[1].strip().lower() if system else said.splitlines()[0]
    return ToolError(f"cannot read the package index {index} for the pip requirements: {why}", hint)


def _nowhere(indexes: Sequence[str], statuses: Mapping[str, int]) -> str | None:
    """A hint where an index has nothing at all of what was asked for: its address may be wrong."""
    for index in map(public, indexes):
        found = {status for url, status in statuses.items() if public(url).startswith(index)}
        if found == {404}:
            return f"the index {index} answered 404 to every question: is that its address?"
    return None


def _index_of(text: str, indexes: Sequence[str]) -> str:
    """The index that a text is about; all of them where it does not say."""
    shown = [public(index) for index in indexes]
    about = [index for index in shown if index in public(text) or f"'{urlsplit(index).hostname}'" in text]
    return ", ".join(about[:1] or shown)
