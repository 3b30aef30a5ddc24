"""Sessions on this machine, as commands ask for them: whether, at which path, and made ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

from envbox.cli.context import Invocation

if TYPE_CHECKING:
    from envbox.project import Environment
    from envbox.sessions.launch.container import Launch


def answers_none(invocation: Invocation, name: str) -> bool:
    """Return whether there is no engine, but this machine itself will do, which is then said."""
    from envbox.engine.find import find_engine
    from envbox.errors import ToolError
    from envbox.sessions.launch.host import is_possible

    if not find_engine(invocation.settings).is_local:
        return False
    try:
        invocation.engine  # noqa: B018  # connects, and checks what answers
    except ToolError as error:
        if not is_possible():
            return False
        invocation.report.say(f"{name}: on this machine, without a container, since {error.message}")
        return True
    return False


def prepare_here(invocation: Invocation, environment: Environment, launch: Launch, *, frozen: bool) -> Launch:
    """Make an environment ready for a session on this machine."""
    from envbox.image_paths import LOCK_LABEL
    from envbox.prefixes.host import find_here, obtain_here
    from envbox.sessions.launch.host import check_here, check_machine
    from envbox.sessions.launch.session import on_this_machine
    from envbox.sessions.prepare import ensure_locked

    settings, report = invocation.settings, invocation.report
    check_here(launch)
    check_machine(environment.name)
    ensure_locked(environment, settings, report, frozen=frozen)
    seen_at = _seen_at(invocation, environment)
    here = find_here(environment, settings, seen_at)
    if here is None:
        at_once = launch.kind not in ("notebook", "kernel")
        here = obtain_here(environment, settings, report, seen_at, at_once=at_once)
    if not here.is_compiled:
        report.say("byte-code is compiled meanwhile, for the next session; here, first imports take longer")
    return on_this_machine(launch, here.prefix, here.seen_at, here.env, {LOCK_LABEL: here.lock_digest})


def _seen_at(invocation: Invocation, environment: Environment) -> str:
    """Return where a session on this machine sees its environment: as in the image, if it can be mounted
    there.
    """
    from envbox.image_paths import PREFIX
    from envbox.prefixes.host import path_here
    from envbox.sessions.launch.host import obstacle

    if invocation.settings.own_path:
        return path_here(environment, invocation.settings)
    words = obstacle()
    if words is None:
        return PREFIX
    path = path_here(environment, invocation.settings)
    invocation.report.say(f"{environment.name}: at its own path, {path}, since {words}")
    return path
