"""Settings: one frozen value, merged from four places by one rule.

Command line, then environment variables (`ENVBOX_…`), then the project (`envbox.toml`, or `[tool.envbox]` in
`pyproject.toml`), then the user's configuration file; then the default. `mirrors` are merged key by key,
everything else is taken from the first place that says it. What is unknown or of the wrong type is an error
that names the file and the key: a misspelt setting that is silently ignored costs a person an afternoon.

What a project says is somebody else's word, so the places are kept apart (`Layers`) until it is known which
of them count: `envbox.trust` tells what a project's layer asks for. A project never says where the cache is,
for what lies in there is run.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from envbox.errors import SettingsError
from envbox.mirrors import Mirrors, expanded, unset
from envbox.settings.values import (
    ENVIRON_KEYS,
    ENVIRONMENT_KEYS,
    KEYS,
    MAY_HOLD_SECRETS,
    PROJECT_KEYS,
    NotHereError,
    Parser,
    WrongError,
)

DEFAULT_BASE = "docker.io/continuumio/miniconda3:25.3.1-1"
DEFAULT_CHANNELS = ("conda-forge",)
DEFAULT_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class EnvironmentSettings:
    """What is envbox's own about one environment, kept out of the spec.

    :param command: run by `envbox run NAME` when no command is given, and by a bare `docker run`
    :param env: set in the container
    :param volumes: `HOST:CONTAINER[:ro]`, relative host paths from the project
    :param ports: `[HOST:]CONTAINER`, published on 127.0.0.1
    :param slim: kinds of files that packages are linked without, of `envbox.slim.KINDS`, sorted
    :param pythonpath: folders of the project that Python imports from as well, such as `src`
    :param cuda: the CUDA version that its machines have, `__cuda` to the solver; None: none is assumed
    """

    base: str | None = None
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    env_file: str | None = None
    volumes: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    network: str | None = None
    memory: str | None = None
    cpus: str | None = None
    gpus: str | None = None
    slim: tuple[str, ...] = ()
    cuda: str | None = None
    pythonpath: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that is set rather than asked for by a command.

    :param cache_dir: packages, fragments, blobs and records; may be deleted at any time
    :param platforms: conda platforms to lock for; empty: linux-64, and linux-aarch64 where the channels have
        it
    :param channels: used when a spec names none
    :param mapping_url: where conda-lock finds the names that PyPI projects have on conda
    :param jobs: how many processes or connections work at once
    :param extra_index_urls: package indexes that are asked before PyPI; may have logins in them, like mirrors
    :param offline: nothing is fetched; what the cache has must do
    :param exclude_newer: packages that are newer than this date or time are not looked at
    :param ca_bundle: certificates, in PEM, that servers are checked against; None: the system's
    :param timeout: seconds that a server may be silent
    :param jupyter: a spec for the Jupyter that is put beside environments that have none; None: envbox's own
    :param engine: `docker`, or `host` for sessions without a container; None: docker, where it answers
    :param own_path: whether sessions without a container use an environment at a path in the cache, as they
        do where nothing can be mounted
    :param trust_python: whether a lockfile's Python, which compiles byte-code, is run without being confined
    """

    cache_dir: Path
    base: str = DEFAULT_BASE
    platforms: tuple[str, ...] = ()
    channels: tuple[str, ...] = DEFAULT_CHANNELS
    environment: str | None = None
    mirrors: Mirrors = field(default_factory=Mirrors)
    mapping_url: str | None = None
    jobs: int = 2
    extra_index_urls: tuple[str, ...] = ()
    offline: bool = False
    exclude_newer: str | None = None
    ca_bundle: Path | None = None
    timeout: float = DEFAULT_TIMEOUT
    jupyter: Path | None = None
    engine: str | None = None
    own_path: bool = False
    trust_python: bool = False
    environments: Mapping[str, EnvironmentSettings] = field(default_factory=dict)

    def for_environment(self, name: str) -> EnvironmentSettings:
        """Return what is set for one environment, with the base filled in."""
        found = self.environments.get(name, EnvironmentSettings())
        return found if found.base else replace(found, base=self.base)

    def addresses_with_logins(self) -> tuple[str, ...]:
        """Return where a login may stand: mirrors, and package indexes, each with the whole server it is on.

        An index names files all over its server, seldom below itself.
        """
        servers = (urlsplit(url)._replace(path="/", query="", fragment="") for url in self.extra_index_urls)
        return (*self.mirrors.rules.values(), *self.extra_index_urls, *(s.geturl() for s in servers))


@dataclass(frozen=True, slots=True)
class Layers:
    """What each place says, by key, before it is merged.

    :param told: the command line and the environment variables, merged
    :param project: the project's file
    :param user: the user's file
    :param project_file: None where the project has none
    """

    told: Mapping[str, Any]
    project: Mapping[str, Any]
    user: Mapping[str, Any]
    project_file: Path | None = None

    @property
    def own(self) -> Mapping[str, Any]:
        """What the user says in one place or the other; mirrors key by key."""
        return _merged(self.user, self.told)


def read_layers(
    directory: Path, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> Layers:
    """Read the places that hold for a project directory.

    :param overrides: what the command line said, by field name; None values are "not said"
    :raises SettingsError: for every unknown key and wrong value at once
    """
    faults: list[str] = []
    said = {k: v for k, v in (overrides or {}).items() if v is not None}
    path = project_settings_file(directory)
    layers = Layers(
        told=_merged(_from_environ(environ, faults), said),
        project=_from_file(path, faults, PROJECT_KEYS),
        user=_from_file(user_settings_file(environ), faults),
        project_file=path,
    )
    _check(faults)
    return layers


def merge(layers: Layers, environ: Mapping[str, str], *, fills_project: bool = True) -> Settings:
    """Make one value of all places.

    :param fills_project: whether variables that the project's addresses name are filled in; where they are
        not, those addresses are only to be looked at
    :raises SettingsError: when a variable that is to be filled in is not set
    """
    faults: list[str] = []
    project = _filled_layer(layers.project, environ, faults) if fills_project else layers.project
    user, told = (_filled_layer(layer, environ, faults) for layer in (layers.user, layers.told))
    _check(faults)
    merged = dict(_merged(_merged(user, project), told))
    mirrors = merged.pop("mirrors", {})
    merged.setdefault("cache_dir", default_cache_dir())
    merged.setdefault("jobs", os.cpu_count() or 1)
    return Settings(mirrors=Mirrors(mirrors), **merged)


def read_settings(
    directory: Path, environ: Mapping[str, str], overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Merge the settings that hold for a project directory, whose own are taken at their word.

    :param overrides: what the command line said, by field name; None values are "not said"
    :raises SettingsError: for every unknown key and wrong value at once
    """
    return merge(read_layers(directory, environ, overrides), environ)


def _check(faults: list[str]) -> None:
    if faults:
        raise SettingsError("; ".join(faults), "the settings are listed in the README, under “Settings”")


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return two places as one: mirrors key by key, of everything else the one above."""
    both = {**below, **above}
    if "mirrors" in below and "mirrors" in above:
        both["mirrors"] = {**below["mirrors"], **above["mirrors"]}
    return both


def _filled_layer(
    layer: Mapping[str, Any], environ: Mapping[str, str], faults: list[str]
) -> Mapping[str, Any]:
    """Return what one place says, with the variables that its addresses name."""
    filled = dict(layer)
    if urls := layer.get("extra_index_urls"):
        filled["extra_index_urls"] = tuple(_filled(url, "extra_index_urls", environ, faults) for url in urls)
    if mirrors := layer.get("mirrors"):
        filled["mirrors"] = {k: _filled(url, f"mirrors.{k!r}", environ, faults) for k, url in mirrors.items()}
    return filled


def _filled(address: str, key: str, environ: Mapping[str, str], faults: list[str]) -> str:
    """Return an address with the variables that it names, which most often are somebody's login."""
    faults += [f"{key} names ${name}, which is not set" for name in unset(address, environ)]
    return expanded(address, environ)


def default_cache_dir() -> Path:
    """Return the user's cache folder for envbox, by the platform's own custom."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("envbox", appauthor=False))


def user_settings_file(environ: Mapping[str, str]) -> Path:
    """Return the user's configuration file, whether it exists or not."""
    if said := environ.get("ENVBOX_CONFIG"):
        return Path(said)
    import platformdirs

    return Path(platformdirs.user_config_dir("envbox", appauthor=False)) / "config.toml"


def project_settings_file(directory: Path) -> Path | None:
    """Return `envbox.toml`, else `pyproject.toml`, which may have `[tool.envbox]`, in the directory
    itself.
    """
    own = directory / "envbox.toml"
    if own.is_file():
        return own
    shared = directory / "pyproject.toml"
    return shared if shared.is_file() else None


# -- reading the places --------------------------------------------------------------------------------------


def _from_environ(environ: Mapping[str, str], faults: list[str]) -> dict[str, Any]:
    said = {key: environ[_variable(key)] for key in ENVIRON_KEYS if environ.get(_variable(key))}
    return _rooted(_parse(said, ENVIRON_KEYS, _variable, faults), Path.cwd())


def _variable(key: str) -> str:
    return f"ENVBOX_{key.upper()}"


def _rooted(parsed: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Resolve relative paths against the place that names them."""
    for key in ("cache_dir", "ca_bundle", "jupyter"):
        if key in parsed:
            parsed[key] = folder.absolute() / parsed[key]
    return parsed


def _from_file(path: Path | None, faults: list[str], keys: Mapping[str, Parser] = KEYS) -> dict[str, Any]:
    if path is None or not path.is_file():
        return {}
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8, no TOML, or nested too deep
        faults.append(f"cannot read {path}: {error}")
        return {}
    if path.name == "pyproject.toml":
        table = _table(_table(table.get("tool")).get("envbox"))
    environments = table.pop("environments", {})
    parsed = _parse(table, keys, partial(_place, path, ""), faults)
    if environments:
        parsed["environments"] = _parse_environments(environments, path, faults)
    return _rooted(parsed, path.parent)


def _table(value: object) -> dict[str, Any]:
    """Return what other tools' files have where a table of ours could be, if it is one."""
    return value if isinstance(value, dict) else {}


def _parse_environments(value: object, path: Path, faults: list[str]) -> dict[str, EnvironmentSettings]:
    if not isinstance(value, dict) or not all(isinstance(table, dict) for table in value.values()):
        faults.append(f"environments in {path} should be tables, one an environment")
        return {}
    return {
        name: EnvironmentSettings(
            **_parse(table, ENVIRONMENT_KEYS, partial(_place, path, f"environments.{name}."), faults)
        )
        for name, table in value.items()
    }


def _place(path: Path, above: str, key: str) -> str:
    return f"{above}{key} in {path}"


def _parse(
    table: Mapping[str, Any], parsers: Mapping[str, Parser], where: Callable[[str], str], faults: list[str]
) -> dict[str, Any]:
    found = {}
    for key, value in table.items():
        if key not in parsers:
            faults.append(f"{where(key)} is not a setting")
            continue
        try:
            found[key] = parsers[key](value)
        except WrongError as error:
            is_hidden = key in MAY_HOLD_SECRETS or isinstance(error, NotHereError)
            shown = "" if is_hidden else f", not {value!r}"
            faults.append(f"{where(key)} {error.message}{shown}")
    return found
