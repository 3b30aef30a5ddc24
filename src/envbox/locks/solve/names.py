"""Which of PyPI's projects a conda package is: conda-lock's table of names, and what it gives of a lock."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from envbox.documents import read_json
from envbox.errors import SettingsError, ToolError
from envbox.files import remove, write_whole
from envbox.lockfile import LockedPackage, pip_name
from envbox.mirrors import public
from envbox.report import Reporter
from envbox.settings import Settings

_LARGEST = 256 << 20  # bytes; conda-forge's has 5 MB
_FRESH_FOR = 24 * 3600  # seconds; conda names change slowly


def names_table(settings: Settings, report: Reporter) -> Path:
    """Find the table of conda's names for PyPI's projects; an empty one, with a warning, if there is none."""
    from conda_lock.lookup import DEFAULT_MAPPING_URL

    url = settings.mapping_url or DEFAULT_MAPPING_URL
    if "://" not in url or url.startswith("file://"):
        return Path(url.removeprefix("file://"))
    folder, key = settings.cache_dir / "names", hashlib.sha256(url.encode()).hexdigest()[:16]
    kept = _kept_table(folder, key)
    if kept and (settings.offline or 0 <= time.time() - kept.stat().st_mtime < _FRESH_FOR):
        return kept
    try:
        table = _fetched_table(url, settings)
    except ToolError as error:
        if kept:
            report.detail(f"{error.message}; an older table of names is used")
            return kept
        report.warn(
            f"{error.message}; pip requirements are matched to conda packages of the same name only "
            "(set `mapping_url` to a table that can be reached)"
        )
        table, key = b"{}", "empty"
    found = folder / f"{key}.{hashlib.sha256(table).hexdigest()}.json"
    write_whole(found, table)
    for older in folder.glob(f"{key}.*json"):
        if older != found:
            with suppress(OSError):  # an older one is in nobody's way
                remove(older)
    return found


def _kept_table(folder: Path, key: str) -> Path | None:
    """Return the table in the cache, where it is what its name says."""
    for path in folder.glob(f"{key}.*.json"):
        with suppress(OSError):
            if path.is_file() and path.name == f"{key}.{hashlib.sha256(path.read_bytes()).hexdigest()}.json":
                return path
            remove(path)
    return None


def _fetched_table(url: str, settings: Settings) -> bytes:
    import requests
    import urllib3

    from envbox.net.transport import TooLongError, Transport

    transport = Transport(settings)
    address = settings.mirrors.rewrite(url)
    try:
        with transport.get(address, {"Accept-Encoding": "gzip"}) as answer:
            answer.raise_for_status()
            data = transport.whole(answer, _LARGEST)
        table = read_json(data)
    except (
        requests.RequestException, urllib3.exceptions.HTTPError, TooLongError,
        OSError, ValueError,
    ) as error:  # fmt: skip
        raise ToolError(
            f"cannot fetch the table of conda's names for PyPI's projects from {public(address)}"
        ) from error
    if not isinstance(table, dict):
        raise ToolError(f"what {public(address)} gives is no table of names")
    return data


def projects_of(packages: Iterable[LockedPackage], table: Path) -> dict[str, LockedPackage]:
    """Return the conda packages that are Python's, by the project that each of them is on PyPI.

    Where two are one project, as `xxhash` (the library) and `python-xxhash`, the one with a name of its own
    on conda is it.
    """
    names = _conda_names(table)
    found: dict[str, LockedPackage] = {}
    for package in packages:
        if package.manager == "conda" and "python" in package.depends:
            project = names.get(pip_name(package.name), pip_name(package.name))
            if project not in found or project != package.name:
                found[project] = package
    return found


def _conda_names(table: Path) -> dict[str, str]:
    """Return conda's name → PyPI's, where they differ or not."""
    try:
        told = _loaded(table)
        entries = [entry for entry in told.values() if entry.get("conda_name")]
        return {pip_name(entry["conda_name"]): pip_name(entry["pypi_name"]) for entry in entries}
    except FileNotFoundError:
        raise SettingsError(f"`mapping_url` names {table}, which is not there") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(f"`mapping_url` names {table}, which is no table of names") from error


def _loaded(table: Path) -> Any:
    if table.suffix == ".json":
        return read_json(table.read_bytes())
    import yaml

    try:
        return yaml.load(table.read_bytes(), Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
