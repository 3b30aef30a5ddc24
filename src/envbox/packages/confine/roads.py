"""Which way a machine has to confine a program: tried once, the strictest first.

Namespaces; else Landlock, where users may make none (Ubuntu 24.04's AppArmor, most containers); else a
container of the engine. Where there is none, a program is run only if the user has said to trust it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from envbox.errors import ToolError
from envbox.packages.confine.converse import Done, Program, Request, run_trusted
from envbox.settings import Settings

Road = Literal["namespaces", "landlock", "container", "trusted"]

_found: list[Road] = []
_OURS = Path(__file__).parent  # a folder that is there, to try with


def choose_road(who: str, settings: Settings) -> Road:
    """Return the way in which a program is run.

    :param who: it is, for people

    :raises ToolError: when there is none, with what stands against each
    """
    if settings.trust_python:
        return "trusted"
    if not _found:
        _found.append(_first_possible(who))
    return _found[0]


def _first_possible(who: str) -> Road:
    obstacles = []
    for road, attempt in _ATTEMPTS.items():
        try:
            attempt()
        except ToolError as error:
            obstacles.append(error.message)
        else:
            return road
    raise ToolError(
        f"{who} is a program of a package, and nothing here can confine it ({'; '.join(obstacles)})",
        "start Docker or podman; or, if you trust whoever wrote the lockfile with all that is yours: "
        "envbox --trust-python …",
    )


def _try_namespaces() -> None:
    from envbox.packages.confine.launch import try_launcher

    try_launcher("namespaces", _OURS)


def _try_landlock() -> None:
    from envbox.packages.confine.launch import try_launcher

    try_launcher("landlock", _OURS)


def _try_container() -> None:
    from envbox.packages.confine.container import obstacle

    if said := obstacle():
        raise ToolError(f"container: {said}")


_ATTEMPTS: dict[Road, Callable[[], None]] = {
    "namespaces": _try_namespaces,
    "landlock": _try_landlock,
    "container": _try_container,
}


def run_program(road: Road, program: Program, request: Request) -> Done:
    """Run a program on a road, until it has answered.

    :raises ToolError: when it oversteps, or cannot be started
    """
    if road == "trusted":
        return run_trusted(program, request)
    if road == "container":
        from envbox.packages.confine.container import run_contained

        return run_contained(program, request)
    from envbox.packages.confine.launch import run_launched

    return run_launched(road, program, request)
