"""PyPI's names, requirements and markers in conda's words.

The names are conda-forge's own where they differ from PyPI's; the same table is written in conda-lock's
format for `ENVBOX_MAPPING_URL`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYTHON = "3.11"  # of the channel; Debian bookworm's
_DIFFERENT = {
    "matplotlib": "matplotlib-base",
    "tzdata": "python-tzdata",
    "msgpack": "msgpack-python",
    "build": "python-build",
    "docker": "docker-py",
}
_UNDERSCORED = (
    "async_lru jupyter_builder jupyter_client jupyter_core jupyter_events jupyter_server "
    "jupyter_server_terminals jupyterlab_pygments jupyterlab_server ipython_pygments_lexers "
    "prometheus_client pure_eval stack_data typing_extensions"
)
_DIFFERENT.update({name.replace("_", "-"): name for name in _UNDERSCORED.split()})


def conda_name(project: str) -> str:
    """The conda package that a PyPI project is."""
    name = canonicalize_name(project)
    return _DIFFERENT.get(name, name)


def mapping(projects: Iterable[str]) -> dict[str, dict[str, str]]:
    """conda-lock's table of names, in the format of its own (grayskull's)."""
    return {
        name: {
            "conda_name": conda_name(name),
            "import_name": name.replace("-", "_"),
            "mapping_source": "rig",
            "pypi_name": name,
        }
        for name in sorted(canonicalize_name(project) for project in projects)
    }


def match_spec(requirement: Requirement) -> str:
    """A requirement, without extras and marker, as a match spec."""
    parts = []
    for specifier in sorted(requirement.specifier, key=str):
        operator, version = specifier.operator, specifier.version
        if operator == "==" and version.endswith(".*"):
            parts.append(version)
        else:
            parts.append(("==" if operator == "===" else operator) + version)
    return f"{conda_name(requirement.name)} {','.join(parts)}".strip()


def extra_name(project: str, extra: str) -> str:
    """The package that stands for a project with one of its extras, named as conda-forge does."""
    return f"{conda_name(project)}-with-{canonicalize_name(extra)}"


def marker_environments(machines: Sequence[str]) -> Iterator[Mapping[str, str]]:
    """What markers are judged by, for the channel's Python on each machine (`x86_64`, `aarch64`)."""
    for machine in machines:
        environment: dict[str, Any] = dict(default_environment())
        environment.update(
            python_version=PYTHON,
            python_full_version=f"{PYTHON}.2",
            implementation_version=f"{PYTHON}.2",
            sys_platform="linux",
            platform_machine=machine,
            platform_system="Linux",
            os_name="posix",
            implementation_name="cpython",
            platform_python_implementation="CPython",
        )
        yield environment


def depends(
    requirements: Sequence[Requirement], machines: Sequence[str]
) -> tuple[set[str], set[tuple[str, str]]]:
    """What a wheel's requirements are in conda: match specs, and the (project, extra) pairs they ask for."""
    environments = list(marker_environments(machines))
    chosen = [r for r in requirements if _applies(r, environments, "")]
    return _specs(chosen)


def extra_depends(
    requirements: Sequence[Requirement], machines: Sequence[str], extra: str
) -> tuple[set[str], set[tuple[str, str]]]:
    """The same for what one extra adds."""
    environments = list(marker_environments(machines))
    chosen = [
        r for r in requirements if not _applies(r, environments, "") and _applies(r, environments, extra)
    ]
    return _specs(chosen)


def _specs(requirements: Iterable[Requirement]) -> tuple[set[str], set[tuple[str, str]]]:
    specs: set[str] = set()
    wanted: set[tuple[str, str]] = set()
    for requirement in requirements:
        if not requirement.extras:
            specs.add(match_spec(requirement))
        for extra in requirement.extras:
            bounds = match_spec(requirement).partition(" ")[2]
            specs.add(f"{extra_name(requirement.name, extra)} {bounds}".strip())
            wanted.add((canonicalize_name(requirement.name), canonicalize_name(extra)))
    return specs, wanted


def _applies(requirement: Requirement, environments: Sequence[Mapping[str, str]], extra: str) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({**e, "extra": extra}) for e in environments)


def python_spec(requires_python: str | None) -> str:
    """A wheel's Requires-Python as a match spec."""
    if not requires_python:
        return "python"
    return re.sub(r"^python\b", "python", match_spec(Requirement(f"python{requires_python}")))
