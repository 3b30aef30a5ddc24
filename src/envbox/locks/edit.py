"""`add` and `remove`: a spec edited in place, locked, and written only when that worked."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from envbox.errors import SpecError, did_you_mean
from envbox.locks.lock import locked_before, relock
from envbox.locks.spec.edits import (
    Dependency,
    Manager,
    SpecText,
    added,
    changed,
    decode,
    dependencies,
    removed,
)
from envbox.locks.spec.text import read_text
from envbox.project import Environment, check_not_foreign
from envbox.report import Reporter
from envbox.settings import Settings

_OPERATOR = re.compile(r"[=<>!~\s\[;@]")


def add(
    environment: Environment, asked: Sequence[str], manager: Manager, settings: Settings, report: Reporter
) -> None:
    """Put packages into a spec, or change how they are asked for; then lock.

    :param asked: match specs, or for pip requirements; a package that is there already is changed
    :raises SpecError: when one of them is wrong, or the spec cannot be edited; nothing is written then
    :raises SolveError: when there is no solution; nothing is written
    """
    new = _parsed(asked, manager)

    def edit(spec: SpecText) -> SpecText:
        for dependency in new:
            spec = _with(spec, dependency, report)
        return spec

    _edit(environment, edit, settings, report)


def remove(
    environment: Environment, names: Sequence[str], pip_only: bool, settings: Settings, report: Reporter
) -> None:
    """Take packages out of a spec, from its pip section too; then lock.

    :param pip_only: leave conda's dependencies alone
    :raises SpecError: when one of them is not in the spec; nothing is written
    """

    def edit(spec: SpecText) -> SpecText:
        for name in names:
            spec = _without(spec, name, pip_only, environment)
        return spec

    _edit(environment, edit, settings, report)


def _edit(
    environment: Environment, edit: Callable[[SpecText], SpecText], settings: Settings, report: Reporter
) -> None:
    check_not_foreign(environment)
    path = environment.spec_path
    read_text(path)  # what is no spec at all is said in its words
    before = decode(path.read_bytes(), path)
    after = edit(before)
    if after == before:
        return
    relock(environment, after.data, settings, report)


# --- one package --------------------------------------------------------------------------------------------


def _with(spec: SpecText, new: Dependency, report: Reporter) -> SpecText:
    there = [d for d in dependencies(spec) if (d.manager, d.name) == (new.manager, new.name)]
    if not there:
        return added(spec, new)
    if len(there) > 1:
        raise SpecError(
            f"{new.name} stands in the spec {spec.path} {len(there)} times: "
            + ", ".join(repr(d.text) for d in there),
            "change the one that is meant, and run: envbox lock",
        )
    (old,) = there
    if _is_bare(new) or _meaning(old) == _meaning(new):
        report.say(f"{old.text} is in the spec already")
        return spec
    channel, colons, _ = old.text.partition("::")
    if colons and "::" not in new.text and new.manager == "conda":
        new = Dependency("conda", f"{channel}::{new.text}")
    report.say(f"{old.text} becomes {new.text}")
    return changed(spec, old, new)


def _without(spec: SpecText, name: str, pip_only: bool, environment: Environment) -> SpecText:
    asked = [d for d in dependencies(spec) if not pip_only or d.manager == "pip"]
    found = [d for d in asked if d.name == Dependency(d.manager, name).name]
    if not found:
        raise SpecError(f"{name} is not asked for in the spec {spec.path}", _near(name, asked, environment))
    for dependency in found:
        spec = removed(spec, dependency)
    return spec


def _near(name: str, asked: Sequence[Dependency], environment: Environment) -> str | None:
    if near := did_you_mean(name.lower(), sorted({d.name for d in asked}), cutoff=0.7):
        return near
    lock = locked_before(environment)
    if lock is not None and name.lower() in {p.name for p in lock.packages}:
        return f"another package needs it; see which: envbox why {name} --name {environment.name}"
    names = ", ".join(dict.fromkeys(d.name for d in asked))
    return f"it asks for {names}" if names else None


# --- what was typed -----------------------------------------------------------------------------------------


def _parsed(asked: Sequence[str], manager: Manager) -> list[Dependency]:
    found, faults, hints = [], [], []
    for text in asked:
        dependency = Dependency(manager, text.strip())
        fault, hint = (_conda_fault if manager == "conda" else _pip_fault)(dependency.text)
        faults += [f"{text!r} {fault}"] if fault else []
        hints += [hint] if fault and hint else []
        found.append(dependency)
    names = [d.name for d in found]
    faults += [f"{name} is named twice" for name in sorted({n for n in names if names.count(n) > 1})]
    if faults:
        raise SpecError("; ".join(faults), next(iter(hints), None))
    return found


def _conda_fault(text: str) -> tuple[str | None, str | None]:
    from rattler.exceptions import InvalidMatchSpecError

    from envbox.locks.solve.match_specs import parse_match_spec

    if re.search(r"git\+|^\.{0,2}/|^~|\.whl\b", text) or re.fullmatch(r"[\w.-]+\[[\w,. -]*\].*", text):
        return "is a requirement of pip's, not a match spec", "for packages from PyPI: envbox add --pip …"
    if "==" in text and re.search(r">==|<==|===", text):
        return "is not a match spec: two operators at once", 'write it like: envbox add "numpy>=2"'
    try:
        name = parse_match_spec(text).name
    except (InvalidMatchSpecError, ValueError) as error:
        said = str(error.__cause__ or error).partition("\n")[0]
        return f"is not a match spec: {said}", 'write it like: envbox add "numpy>=2"'
    if name is None or not re.fullmatch(r"[a-z0-9_][a-z0-9_.-]*", name.normalized):
        return "names no package", 'write it like: envbox add "numpy>=2"'
    return None, None


def _pip_fault(text: str) -> tuple[str | None, str | None]:
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        Requirement(text)
    except InvalidRequirement:
        from envbox.locks.spec.pip_faults import plain_words

        return f"is not a requirement: {plain_words(text)}", 'write it like: envbox add --pip "rich>=13"'
    return None, None


def _is_bare(dependency: Dependency) -> bool:
    """Return whether only a name was given: whatever is asked of it already may stay."""
    return not _OPERATOR.search(dependency.text) and "::" not in dependency.text


def _meaning(dependency: Dependency) -> str:
    return re.sub(r"\s+", "", dependency.text).lower()
