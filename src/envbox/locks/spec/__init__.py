"""environment.yml → EnvSpec: what an environment asks for, on each platform, checked.

The difficulty is that specs in the world are filthy, and that the libraries below answer with a traceback or,
worse, skip what they do not know. So the text is made sound first (encoding, YAML, shape), every match spec
and requirement is tried by the parser that will meet it later, and all faults are told at once with their
lines. What a spec *means* is conda-lock's to say: its parser gives the specification whose hash stands in the
lockfile.

Format: https://docs.conda.io/projects/conda/en/stable/user-guide/tasks/manage-environments.html, with
conda-lock's `platforms:`, `category:`, `pip-repositories:` and selectors (`# [linux]`).
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envbox.errors import SpecError
from envbox.lockfile.variables import variable_fault
from envbox.locks.spec.document import Asked, Document, canonical, parsed
from envbox.locks.spec.faults import channel_fault, index_fault, match_spec_fault
from envbox.locks.spec.requirements import RequirementFiles, one_line
from envbox.locks.spec.selectors import content_hash, is_known, twin
from envbox.locks.spec.text import Faults, Place, read_text, text_faults
from envbox.locks.spec.warnings import warnings_of
from envbox.mirrors import shown
from envbox.platforms import DEFAULT_PLATFORMS, PLATFORMS
from envbox.settings import Settings

OPTIONAL_PLATFORM = "linux-aarch64"

Lines = Mapping[Place, int]


@dataclass(frozen=True, slots=True)
class EnvSpec:
    """What an environment asks for.

    :param platforms: to lock for; those in `optional` may be left out where they cannot be solved
    :param named: the platforms that the spec or the settings name; empty when neither does
    :param channels: by priority, never empty
    :param conda: platform → match specs, as written, selectors applied
    :param pip: platform → requirements, as written
    :param warnings: what a person should be told about the spec
    :param specification: conda-lock's own LockSpecification, of the platforms that it knows
    :param twins: platform that it does not know → its LockSpecification for another one (`twin`)
    """

    name: str
    path: Path
    platforms: tuple[str, ...]
    optional: tuple[str, ...]
    named: tuple[str, ...]
    channels: tuple[str, ...]
    conda: Mapping[str, tuple[str, ...]]
    pip: Mapping[str, tuple[str, ...]]
    variables: Mapping[str, str]
    warnings: tuple[str, ...]
    specification: Any
    twins: Mapping[str, Any]


def read_spec(
    path: Path,
    platforms: Sequence[str],
    settings: Settings,
    fallback: Sequence[str] = DEFAULT_PLATFORMS,
    folder: Path | None = None,
) -> EnvSpec:
    """Read and check a spec.

    :param platforms: asked for by the command; empty: the spec's own, else the settings', else `fallback`
    :param folder: where files that it names (`-r requirements.txt`) are looked for; None: beside it
    :raises SpecError: with every fault that was found
    """
    text = read_text(path)
    faults: Faults = text_faults(text)
    try:
        whole = parsed(text, path)
    except SpecError:
        _raise(path, faults)  # its cause, where there are any
        raise
    document, lines = whole.values, whole.lines
    named = _named_platforms(document, settings, faults)
    wanted = tuple(dict.fromkeys([*platforms] or named or fallback))
    faults += [
        (0, f"{shown(p)} is not a platform of conda's, which are {', '.join(PLATFORMS)}")
        for p in dict.fromkeys([*wanted, *named])
        if p not in PLATFORMS
    ]
    channels = _channels(document, lines, faults)
    _check_indexes(document, lines, faults)
    variables = _variables(whole.text, lines, faults)
    shape = _shape_faults(document, lines)
    folder = path.absolute().parent if folder is None else folder
    _check_items(whole, folder, faults)
    _raise(path, faults + shape)
    asked = {p: _asked(whole, p, path, folder) for p in wanted}
    optional = () if platforms or named or "linux-64" not in wanted else (OPTIONAL_PLATFORM,)
    return EnvSpec(
        name=str(document.get("name") or path.stem),
        path=path,
        platforms=wanted,
        optional=tuple(p for p in optional if p in wanted),
        named=named,
        channels=channels or settings.channels,
        conda={p: conda for p, (conda, _) in asked.items()},
        pip={p: pip for p, (_, pip) in asked.items()},
        variables=variables,
        warnings=(*warnings_of(whole, channels or settings.channels), *_idle(whole, wanted, folder)),
        specification=_specification(whole, {twin(p): asked[p] for p in sorted(wanted, key=is_known)}, path),
        twins={p: _specification(whole, {twin(p): asked[p]}, path) for p in wanted if twin(p) != p},
    )


def content_hashes(spec: EnvSpec) -> dict[str, str]:
    """Return conda-lock's hash of what is asked for, by platform: what `conda-lock --check-input-hash`
    compares.

    Of a platform that conda-lock does not know, it is made from the hash for its twin.
    """
    from conda_lock.content_hash import compute_content_hashes
    from conda_lock.virtual_package import default_virtual_package_repodata

    repodata = default_virtual_package_repodata()
    # conda-lock would remove its folder at the end of this process, which often becomes another by then
    shutil.rmtree(repodata.base_path, ignore_errors=True)
    known: dict[str, str] = compute_content_hashes(spec.specification, repodata)
    others = {p: compute_content_hashes(one, repodata)[twin(p)] for p, one in spec.twins.items()}
    return {p: content_hash(others.get(p) or known[p], p) for p in spec.platforms}


@contextmanager
def quiet_conda_lock() -> Iterator[io.StringIO]:
    """Keep what conda-lock prints, warns and logs off the terminal; give it as text instead."""
    import logging
    import warnings

    said = io.StringIO()
    logger = logging.getLogger("conda_lock")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with redirect_stdout(said), redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield said
    finally:
        logger.setLevel(level)


def _raise(path: Path, faults: Faults) -> None:
    if faults:
        said = [f"line {line}: {words}" if line else words for line, words in sorted(dict.fromkeys(faults))]
        head = f"the spec {path} cannot be used:"
        raise SpecError(f"{head} {said[0]}" if len(said) == 1 else "\n  ".join([head, *said]))


# --- from YAML to what is asked for -------------------------------------------------------------------------


def _named_platforms(document: Mapping[str, Any], settings: Settings, faults: Faults) -> tuple[str, ...]:
    own = document.get("platforms") or []
    if not isinstance(own, list) or not all(isinstance(p, str) for p in own):
        faults.append((0, f"`platforms` should be a list of platforms, not {shown(own)}"))
        return ()
    return tuple(own) or settings.platforms


def _channels(document: Mapping[str, Any], lines: Lines, faults: Faults) -> tuple[str, ...]:
    channels = document.get("channels") or []
    if not isinstance(channels, list):
        words = f"`channels` should be a list, each line with a `-`, not {shown(channels)}"
        faults.append((lines.get(("channels",), 0), words))
        return ()
    wrong = [(lines.get(("channels", n), 0), channel_fault(c)) for n, c in enumerate(channels)]
    faults += [(line, words) for line, words in wrong if words]
    return tuple(dict.fromkeys(str(c) for c in channels if c != "nodefaults"))


def _check_indexes(document: Mapping[str, Any], lines: Lines, faults: Faults) -> None:
    indexes = document.get("pip-repositories") or []
    many = indexes if isinstance(indexes, list) else [indexes]
    wrong = [(lines.get(("pip-repositories", n), 0), index_fault(index)) for n, index in enumerate(many)]
    faults += [(line, words) for line, words in wrong if words]
    if not isinstance(indexes, list) and not any(words for _, words in wrong):
        faults.append((lines.get(("pip-repositories",), 0), "`pip-repositories` should be a list"))
    category = document.get("category") or "main"
    if not isinstance(category, str):
        faults.append((lines.get(("category",), 0), f"`category` should be text, not {shown(category)}"))


def _variables(text: str, lines: Lines, faults: Faults) -> dict[str, str]:
    """Return the variables as they are written: `1.10` and `on` are texts here, not a number and a truth."""
    import yaml

    variables = yaml.load(text, Loader=yaml.BaseLoader).get("variables") or {}  # noqa: S506 - texts only
    if not isinstance(variables, dict) or not all(isinstance(v, str) for v in variables.values()):
        faults.append((0, "`variables` should map names to texts"))
        return {}
    told = [(lines.get(("variables", name), 0), variable_fault(name, v)) for name, v in variables.items()]
    faults += [(line, words) for line, words in told if words]
    return variables if faults else dict(sorted(variables.items()))


def _shape_faults(document: Mapping[str, Any], lines: Lines) -> Faults:
    dependencies = document.get("dependencies")
    line = lines.get(("dependencies",), 0)
    if dependencies is None:
        return [(0, "`dependencies` is missing")]
    if not isinstance(dependencies, list):
        words = f"`dependencies` should be a list, each line with a `-`, not {shown(dependencies)}"
        return [(line, words)]
    if not dependencies:
        return [(line, "`dependencies` is empty: there is nothing to lock")]
    faults: Faults = []
    for number, item in enumerate(dependencies):
        line = lines.get(("dependencies", number), 0)
        if isinstance(item, dict) and list(item) == ["pip"]:
            faults += _pip_shape_faults(item["pip"], number, lines)
        elif not isinstance(item, str) or not item.strip():
            faults.append((line, f"a dependency should be a match spec like `numpy >=2`, not {shown(item)}"))
    return faults


def _pip_shape_faults(section: object, number: int, lines: Lines) -> Faults:
    place = ("dependencies", number, "pip")
    if section is None:
        return []
    if not isinstance(section, list):
        words = f"`pip:` should hold a list of requirements, not {shown(section)}"
        return [(lines.get(place, 0), words)]
    return [
        (lines.get((*place, n), 0), f"`pip:` should hold a list of requirements, and has {shown(item)}")
        for n, item in enumerate(section)
        if not isinstance(item, str)
    ]


def _check_items(whole: Document, folder: Path, faults: Faults) -> None:
    """Try every match spec and requirement, also those of platforms that nobody asked for."""
    dependencies, lines = whole.values.get("dependencies"), whole.lines
    for number, item in enumerate(dependencies if isinstance(dependencies, list) else []):
        place = ("dependencies", number)
        if isinstance(item, str) and item.strip():
            words = match_spec_fault(one_line(item))
            faults += [(lines.get(place, 0), words)] if words else []
        section = item.get("pip") if isinstance(item, dict) else None
        for n, requirement in enumerate(section if isinstance(section, list) else []):
            if isinstance(requirement, str):
                line = lines.get((*place, "pip", n), 0)
                faults += [(line, words) for words in _read_files([requirement], folder).faults]


def _read_files(section: Iterable[str], folder: Path) -> RequirementFiles:
    """Return the requirements of a pip section, and of the files that it names."""
    found = RequirementFiles(folder)
    for line in section:
        found.add(one_line(line))
    return found


def _section(document: Document, platform: str) -> list[str]:
    items = [item for item in document.dependencies(platform) if isinstance(item, dict)]
    return [line for item in items for line in item.get("pip") or ()]


def _idle(document: Document, platforms: Iterable[str], folder: Path) -> Iterator[str]:
    """Warn of constraints that hold for nothing."""
    idle = {name for p in platforms for name in _read_files(_section(document, p), folder).idle()}
    if idle:
        some = ", ".join(sorted(idle)[:5]) + (", …" if len(idle) > 5 else "")
        yield f"constraints hold for what is asked for by name, and so not for {some}: ask for it too"


def _asked(document: Document, platform: str, path: Path, folder: Path) -> Asked:
    """Return the match specs and the requirements of one platform; with requirements, pip itself is asked
    for.
    """
    dependencies = document.dependencies(platform)
    faults = _shape_faults({"dependencies": dependencies}, {})
    _raise(path, [(0, f"on {platform}, {words}") for _, words in faults])
    conda = [one_line(item) for item in dependencies if isinstance(item, str)]
    pip = _read_files(_section(document, platform), folder).asked()
    if pip and "pip" not in conda:
        conda.append("pip")
    return tuple(dict.fromkeys(conda)), pip


def _specification(document: Document, asked: Mapping[str, Asked], path: Path) -> Any:
    """Return what conda-lock makes of what is asked for.

    It gets a table of names that is empty, since reading looks up only `pip`, which has the same name on both
    sides.
    """
    from conda_lock.src_parser import make_lock_spec

    with tempfile.TemporaryDirectory(prefix="envbox-spec-") as folder, quiet_conda_lock():
        names = Path(folder, "names.json")
        names.write_text("{}")
        source = Path(folder, "environment.yml")
        source.write_text(canonical(document, asked), encoding="ascii")
        try:
            return make_lock_spec(src_files=[source], platform_overrides=list(asked), mapping_url=str(names))
        except Exception as error:  # whatever conda-lock stumbles over, it is the spec's text
            said = str(error).partition("\n")[0] or type(error).__name__
            raise SpecError(f"conda-lock cannot use the spec {path}: {said}") from error
