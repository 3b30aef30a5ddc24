"""`init`: a spec written from what a directory has; never over one that is there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from envbox import coroutines
from envbox.errors import EnvboxError, SpecError
from envbox.files import write_whole
from envbox.lockfile import pip_name
from envbox.notebooks.draft import Channel, Draft, alike, draft, spec_text
from envbox.notebooks.needs import Needs, gather
from envbox.project import check_name, read_project
from envbox.report import Reporter
from envbox.settings import Settings

if TYPE_CHECKING:
    from envbox.locks.solve.gateway import Channels

_NAMED = 10  # reasons, of files that could not be read


def init(folder: Path, name: str | None, settings: Settings, report: Reporter) -> tuple[Path, Draft]:
    """Write a first spec for a directory.

    :param name: of the environment, written to environments/NAME.yml; None: environment.yml
    :raises SpecError: when there is an environment already, or nothing to begin with
    """
    path = spec_of(folder, name)
    taken = [e for e in read_project(folder).environments if name is None or e.name == name]
    if taken:
        raise SpecError(
            f"{taken[0].spec_path} is there already",
            "add to it: envbox add PKG, or write another: envbox init --name NAME",
        )
    needs = gather(folder)
    if not needs.files:
        raise _nothing(folder, path, needs)
    found = draft(needs, _asked(alike(needs), settings, report))
    text = spec_text(found, settings.channels, None, _sources(needs))
    write_whole(path, text.encode(), is_cache=False)
    for words in found.said:
        report.say(words)
    for what, place in found.unplaced.items():
        report.warn(f"not placed: {what} ({place})")
    return path, found


def spec_of(folder: Path, name: str | None) -> Path:
    """Return where the spec of a directory is to be.

    :raises SpecError: when the name is none
    """
    return folder / "environments" / f"{check_name(name)}.yml" if name else folder / "environment.yml"


def _nothing(folder: Path, path: Path, needs: Needs) -> SpecError:
    """Say why there is nothing to begin with: nothing is there, or none of it could be read."""
    if needs.said:
        return SpecError(
            f"nothing in {folder} could be read: {'; '.join(needs.said[:_NAMED])}",
            f"mend that, or write {path} by hand",
        )
    return SpecError(
        f"{folder} has no notebooks, scripts, requirements.txt or pyproject.toml",
        f"write {path} by hand: {{channels: [conda-forge], dependencies: [python, numpy >=2]}}",
    )


def _sources(needs: Needs) -> str:
    counted = [
        f"{count} {kind}{'s' if count > 1 else ''}" if "." not in kind else kind
        for kind, count in sorted(needs.files.items(), key=lambda pair: "." in pair[0])
    ]
    return " and ".join([", ".join(counted[:-1]), counted[-1]] if len(counted) > 1 else counted)


def _asked(alike: frozenset[str], settings: Settings, report: Reporter) -> Channel | None:
    """Ask what the channels have, where they can be asked.

    :param alike: names that count only if their package brings Python
    """
    from rattler.exceptions import GatewayError

    from envbox.locks.solve.ask_channels import ask_channels
    from envbox.locks.solve.gateway import Channels
    from envbox.locks.solve.match_specs import sources

    whom = Channels(tuple(sources(settings.channels, ())), ("linux-64",))

    async def ask(gateway: Any) -> Channel:
        channels = _channels(whom.names)
        names = frozenset(n.normalized for n in await gateway.names(channels, whom.subdirs, "disabled"))
        there = sorted(alike & names)
        with_python = await _with_python(gateway, whom, there)
        return Channel(names, frozenset(there) - with_python)

    if settings.offline:
        return None
    try:
        return coroutines.run(ask_channels, whom, ask, settings)
    except (GatewayError, EnvboxError, OSError):
        report.warn(
            f"cannot ask {', '.join(settings.channels)} which packages there are; "
            "only names that are known are placed"
        )
        return None


def _channels(addresses: Iterable[str]) -> list[Any]:
    from rattler import Channel

    return [Channel(address) for address in addresses]


async def _with_python(gateway: Any, whom: Channels, names: Sequence[str]) -> frozenset[str]:
    """Return the packages that bring Python modules, by what they depend on."""
    found = set()
    if names:
        for part in await gateway.query(_channels(whom.names), whom.subdirs, names, recursive=False):
            found |= {r.name.normalized for r in part if brings_python(r.name.normalized, r.depends)}
    return frozenset(found)


def brings_python(name: str, depends: Iterable[str]) -> bool:
    """Say whether a package of that name has modules, by what it depends on."""
    plain = pip_name(name)
    parts = {
        f"python-{plain}",
        f"py-{plain}",
        f"py{plain}",
        f"{plain}-python",
        f"{plain}-py",
        f"{plain}-base",
    }
    needed = {text.split(maxsplit=1)[0].split("=")[0] for text in depends if text.strip()}
    return bool(needed & {"python", "python_abi"} or parts & set(map(pip_name, needed)))
