"""conda-lock's resolver of requirements (poetry's, inside it), set for one call and put back after it.

It has no parameters for where its caches are, which wheels fit, or what it may run; so its parts are replaced
while a block runs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_OLDEST_GLIBC = 5  # of manylinux1: 2.5
_LEGACY_TAGS = {5: "1", 12: "2010", 17: "2014"}  # glibc 2.x → the manylinux tags from before PEP 600


@contextmanager
def poetry_at(folder: Path) -> Iterator[None]:
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


def manylinux_tags(glibc: str) -> list[str]:
    """What follows `manylinux` in the tags of wheels that a C library can use (PEP 600 and before)."""
    every = range(_OLDEST_GLIBC, int(glibc.split(".")[1]) + 1)
    return [tag for minor in every for tag in (_LEGACY_TAGS.get(minor), f"_2_{minor}") if tag]


@contextmanager
def tags_up_to(glibc: str | None) -> Iterator[None]:
    """Have all manylinux tags that the base's glibc allows (PEP 600); conda-lock's own list ends at 2.28."""
    from conda_lock import pypi_solver

    before = pypi_solver.MANYLINUX_TAGS
    if glibc:
        pypi_solver.MANYLINUX_TAGS = manylinux_tags(glibc)
    try:
        yield
    finally:
        pypi_solver.MANYLINUX_TAGS = before


@contextmanager
def no_code_run() -> Iterator[None]:
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
def conda_first() -> Iterator[None]:
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


@contextmanager
def statuses_kept() -> Iterator[dict[str, int]]:
    """Keep what the indexes answered, by URL: to poetry, one that refuses is one without the package."""
    import requests
    from conda_lock._vendor.poetry.utils.authenticator import Authenticator

    before, statuses = Authenticator.request, {}

    def request(self: Any, method: str, url: str, *rest: Any, **named: Any) -> Any:
        try:
            answer = before(self, method, url, *rest, **named)
        except requests.HTTPError as error:
            statuses[url] = error.response.status_code
            raise
        statuses[url] = answer.status_code
        return answer

    Authenticator.request = request
    try:
        yield statuses
    finally:
        Authenticator.request = before
