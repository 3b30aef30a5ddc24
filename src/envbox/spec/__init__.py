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
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envbox.errors import SpecError
from envbox.settings import Settings
from envbox.spec.text import read_text, yaml_document

LOCKABLE = ("linux-64", "linux-aarch64", "linux-ppc64le", "osx-64", "osx-arm64", "win-64")
"""The platforms that conda-lock's selectors and hashes know."""
DEFAULT_PLATFORMS = ("linux-64", "linux-aarch64")
OPTIONAL_PLATFORM = "linux-aarch64"

_NULL_LIST = re.compile(r"^(channels|pip-repositories):[ \t]*(~|null)?[ \t]*(#.*)?$(?!\n\s*-)", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_LICENSED = re.compile(r"(defaults|main|r|msys2|pkgs/.*|https?://repo\.anaconda\.com/.*)/?")


@dataclass(frozen=True, slots=True)
class EnvSpec:
    """What an environment asks for.

    :param platforms: to lock for; those in `optional` may be left out where they cannot be solved
    :param named: the platforms that the spec or the settings name; empty when neither does
    :param channels: by priority, never empty
    :param conda: platform → match specs, as written, selectors applied
    :param pip: platform → requirements, as written
    :param warnings: what a person should be told about the spec
    :param specification: conda-lock's own LockSpecification
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


def read_spec(
    path: Path,
    platforms: Sequence[str],
    settings: Settings,
    fallback: Sequence[str] = DEFAULT_PLATFORMS,
) -> EnvSpec:
    """Read and check a spec.

    :param platforms: asked for by the command; empty: the spec's own, else the settings', else `fallback`
    :raises SpecError: with every fault that was found
    """
    text = _NULL_LIST.sub(r"\1: []", read_text(path))
    document = yaml_document(text, path)
    faults: list[str] = []
    named = _named_platforms(document, settings, faults)
    wanted = tuple(dict.fromkeys([*platforms] or named or fallback))
    faults += [
        f"{p!r} is not a platform that can be locked for, which are {', '.join(LOCKABLE)}"
        for p in dict.fromkeys([*wanted, *named])
        if p not in LOCKABLE
    ]
    channels = _channels(document, faults)
    variables = _variables(text, faults)
    _check_shape(document, faults)
    asked = {} if faults else {p: _asked(text, p, path) for p in wanted}
    in_lines = [
        f for s in {s for conda, _ in asked.values() for s in conda} for f in _match_spec_faults(s, text)
    ]
    in_lines += [
        f for s in {s for _, pip in asked.values() for s in pip} for f in _requirement_faults(s, text)
    ]
    _raise(path, faults + [f"line {line}: {words}" for line, words in sorted(in_lines)])
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
        warnings=_warnings(channels or settings.channels),
        specification=_specification(text, wanted, path),
    )


def content_hashes(spec: EnvSpec) -> dict[str, str]:
    """conda-lock's hash of what is asked for, by platform: what `conda-lock --check-input-hash` compares."""
    from conda_lock.content_hash import compute_content_hashes
    from conda_lock.virtual_package import default_virtual_package_repodata

    hashes: dict[str, str] = compute_content_hashes(spec.specification, default_virtual_package_repodata())
    return hashes


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


def _raise(path: Path, faults: Sequence[str]) -> None:
    if faults:
        head = f"the spec {path} cannot be used:"
        one = len(faults) == 1
        raise SpecError(f"{head} {faults[0]}" if one else "\n  ".join([head, *faults]))


# --- from YAML to what is asked for -------------------------------------------------------------------------


def _named_platforms(document: Mapping[str, Any], settings: Settings, faults: list[str]) -> tuple[str, ...]:
    own = document.get("platforms") or []
    if not isinstance(own, list) or not all(isinstance(p, str) for p in own):
        faults.append(f"`platforms` should be a list of platforms, not {own!r}")
        return ()
    return tuple(own) or settings.platforms


def _channels(document: Mapping[str, Any], faults: list[str]) -> tuple[str, ...]:
    channels = document.get("channels") or []
    if not isinstance(channels, list) or not all(isinstance(c, str) and c.strip() for c in channels):
        faults.append(f"`channels` should be a list of names and URLs, not {channels!r}")
        return ()
    return tuple(dict.fromkeys(c for c in channels if c != "nodefaults"))


def _variables(text: str, faults: list[str]) -> dict[str, str]:
    """The variables as they are written: `1.10` and `on` are texts here, not a number and a truth."""
    import yaml

    variables = yaml.load(text, Loader=yaml.BaseLoader).get("variables") or {}  # noqa: S506 - texts only
    if not isinstance(variables, dict) or not all(isinstance(v, str) for v in variables.values()):
        faults.append("`variables` should map names to texts")
        return {}
    faults += [
        f"{name!r} in `variables` cannot be the name of an environment variable"
        for name in variables
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name)
    ]
    faults += [f"the variable {name} holds a line break" for name, v in variables.items() if "\n" in v]
    return dict(sorted(variables.items()))


def _check_shape(document: Mapping[str, Any], faults: list[str]) -> None:
    dependencies = document.get("dependencies")
    if dependencies is None:
        faults.append("`dependencies` is missing")
        return
    if not isinstance(dependencies, list):
        faults.append(f"`dependencies` should be a list, each line with a `-`, not {_short(dependencies)}")
        return
    if not dependencies:
        faults.append("`dependencies` is empty: there is nothing to lock")
    for item in dependencies:
        if isinstance(item, dict) and list(item) == ["pip"]:
            lines = item["pip"]
            if lines is not None and not (
                isinstance(lines, list) and all(isinstance(line, str) for line in lines)
            ):
                faults.append(f"`pip:` should hold a list of requirements, not {_short(lines)}")
        elif not isinstance(item, str) or not item.strip():
            faults.append(f"a dependency should be a match spec like `numpy >=2`, not {_short(item)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "..."


def _asked(text: str, platform: str, path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The match specs and the requirements of one platform; with requirements, pip itself is asked for."""
    from conda_lock.src_parser.selectors import filter_platform_selectors

    with quiet_conda_lock():
        lines = "\n".join(filter_platform_selectors(text, platform=platform))
    document, unfit = yaml_document(lines, path), list[str]()
    _check_shape(document, unfit)
    _raise(path, [f"on {platform}, {words}" for words in unfit])
    dependencies = document["dependencies"]
    blank = [item for item in dependencies if isinstance(item, str) and item[0].isspace()]
    _raise(path, [f"line {_quoted_line(s, text)}: {s!r} begins with a blank; take it away" for s in blank])
    conda = [item.strip() for item in dependencies if isinstance(item, str)]
    sections = [item["pip"] for item in dependencies if isinstance(item, dict) and item.get("pip")]
    pip = [line.strip() for section in sections for line in section]
    if pip and "pip" not in conda:
        conda.append("pip")
    return tuple(dict.fromkeys(conda)), tuple(dict.fromkeys(pip))


def _quoted_line(value: str, text: str) -> int:
    return _line(f'"{value}', text) or _line(f"'{value}", text)


def _line(value: str, text: str) -> int:
    return next((n for n, line in enumerate(text.split("\n"), 1) if value in line), 0)


Faults = list[tuple[int, str]]
"""Line numbers and words."""


def _match_spec_faults(spec: str, text: str) -> Faults:
    from conda_lock.src_parser.conda_common import conda_spec_to_versioned_dep
    from rattler import MatchSpec
    from rattler.exceptions import InvalidMatchSpecError

    line, where = _line(spec, text), f"{spec!r} is not a match spec"
    if spec.startswith("-") or "{{" in spec:
        return [(line, f"{where}; `dependencies` takes package names and versions only")]
    try:
        parsed = MatchSpec(spec)
        conda_spec_to_versioned_dep(spec, "main")
    except (InvalidMatchSpecError, RuntimeError) as error:
        said = str(error if not error.__cause__ else error.__cause__).partition("\n")[0]
        return [(line, f"{where}: {said.removeprefix(f'Invalid spec {spec!r}: ')}")]
    if not _NAME.fullmatch(parsed.name.normalized if parsed.name else "") or " " in (parsed.build or ""):
        return [(line, f"{where}; write it like `numpy >=2`")]
    return []


def _requirement_faults(requirement: str, text: str) -> Faults:
    fault = _requirement_fault(requirement)
    return [(_line(requirement, text), f"{requirement!r} {fault}")] if fault else []


def _requirement_fault(requirement: str) -> str | None:
    from packaging.requirements import InvalidRequirement, Requirement

    if re.match(r"(-e|--editable)\b", requirement) or re.search(
        r"(^|@\s*|\s)(git|hg|svn|bzr)\+", requirement
    ):
        return (
            "would be built from source, which cannot be pinned by hash; "
            "use a released version, or mount the source and install it in the session"
        )
    if requirement.startswith("-"):
        return "is an option of pip; list the requirements here, indexes as `pip-repositories:`"
    if re.match(r"(\.|/|~|file:|[A-Za-z]:\\)", requirement) or re.search(r"@\s*(file:|\.|/)", requirement):
        return "is a path, and nobody else has it; use a released version"
    plain = re.sub(r"\s--hash[= ]\S+", "", requirement)
    try:
        parsed = Requirement(plain)
    except InvalidRequirement as error:
        single = re.match(r"\s*[\w.-]+\s*=\s*[\w.]", plain)
        said = "a single `=`; pip writes `==`" if single else str(error).partition("\n")[0]
        return f"is not a requirement: {said}"
    if parsed.url and not re.search(r"\.whl#sha256=[0-9a-f]{64}$", parsed.url):
        return "should be the URL of a wheel that ends in `#sha256=` and its hash"
    return None


def _warnings(channels: Sequence[str]) -> tuple[str, ...]:
    return tuple(
        f"the channel {channel} is under Anaconda's terms of service, which may ask your organisation to pay "
        "(conda-forge does not)"
        for channel in channels
        if _LICENSED.fullmatch(channel)
    )


def _specification(text: str, platforms: Sequence[str], path: Path) -> Any:
    """What conda-lock reads in the same text.

    It reads files in the locale's encoding, so it gets one of its own; and a table of names that is empty,
    since reading looks up only `pip`, which has the same name on both sides.
    """
    from conda_lock.src_parser import make_lock_spec

    with tempfile.TemporaryDirectory(prefix="envbox-spec-") as folder, quiet_conda_lock():
        names = Path(folder, "names.json")
        names.write_text("{}")
        source = Path(folder, "environment.yml")
        source.write_text(text, errors="replace", encoding="locale")
        try:
            return make_lock_spec(
                src_files=[source], platform_overrides=list(platforms), mapping_url=str(names)
            )
        except Exception as error:  # whatever conda-lock stumbles over, it is the spec's text
            said = str(error).partition("\n")[0] or type(error).__name__
            raise SpecError(f"conda-lock cannot use the spec {path}: {said}") from error
