"""`init`: a spec written from what a directory has; never over one that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from envbox import coroutines
from envbox.errors import EnvboxError, SpecError
from envbox.files import write_whole
from envbox.notebook.drafting import Draft, draft, spec_text
from envbox.notebook.gathering import Needs, gather
from envbox.project import check_name, read_project
from envbox.report import Reporter
from envbox.settings import Settings


def init(folder: Path, name: str | None, settings: Settings, report: Reporter) -> tuple[Path, Draft]:
    """Write a first spec for a directory.

    :param name: of the environment, written to environments/NAME.yml; None: environment.yml
    :raises SpecError: when there is an environment already, or nothing to begin with
    """
    path = folder / "environments" / f"{check_name(name)}.yml" if name else folder / "environment.yml"
    taken = [e for e in read_project(folder).environments if name is None or e.name == name]
    if taken:
        raise SpecError(
            f"{taken[0].spec_path} is there already",
            "add to it: envbox add PKG, or write another: envbox init --name NAME",
        )
    needs = gather(folder)
    if not needs.files:
        raise SpecError(
            f"{folder} has no notebooks, scripts, requirements.txt or pyproject.toml",
            f"write {path} by hand: {{channels: [conda-forge], dependencies: [python, numpy >=2]}}",
        )
    found = draft(needs, _known(settings, report))
    text = spec_text(found, settings.channels, None, _sources(needs))
    write_whole(path, text.encode(), is_cache=False)
    for words in found.said:
        report.say(words)
    for what, place in found.unplaced.items():
        report.warn(f"not placed: {what} ({place})")
    return path, found


def _sources(needs: Needs) -> str:
    counted = [
        f"{count} {kind}{'s' if count > 1 else ''}" if "." not in kind else kind
        for kind, count in sorted(needs.files.items(), key=lambda pair: "." in pair[0])
    ]
    return " and ".join([", ".join(counted[:-1]), counted[-1]] if len(counted) > 1 else counted)


def _known(settings: Settings, report: Reporter) -> frozenset[str] | None:
    """The names of the channels' packages, where they can be asked."""
    from rattler import Channel
    from rattler.exceptions import GatewayError

    from envbox.solve.asking import ask_channels
    from envbox.solve.gateway import Channels
    from envbox.solve.match_specs import sources

    whom = Channels(tuple(sources(settings.channels, ())), ("linux-64",))

    async def names(gateway: Any) -> frozenset[str]:
        found = await gateway.names([Channel(c) for c in whom.names], whom.subdirs, "disabled")
        return frozenset(n.normalized for n in found)

    if settings.offline:
        return None
    try:
        return coroutines.run(ask_channels, whom, names, settings)
    except (GatewayError, EnvboxError, OSError):
        report.warn(
            f"cannot ask {', '.join(settings.channels)} which packages there are; names are taken as guessed"
        )
        return None
