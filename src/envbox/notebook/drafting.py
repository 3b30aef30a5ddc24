"""A first spec, out of what a directory's files need: modules and requirements placed among packages.

Where the channel can be asked, it says which names are packages; what it does not have is kept in the spec as
a comment, with the place that needs it, since a name that is only guessed would make the whole spec
unsolvable.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from envbox.lockfile import pip_name
from envbox.notebook.gathering import Needs, Requirement
from envbox.notebook.names import conda_name, packages_for

_LINUX = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "extra": ""}


@dataclass(slots=True)
class Draft:
    """A spec to be written.

    :param conda: package → its constraint, as conda writes it
    :param pip: requirements that the channel has no package for
    :param unplaced: what no package is known for, with its place
    """

    conda: dict[str, str] = field(default_factory=dict)
    pip: list[str] = field(default_factory=list)
    unplaced: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


def draft(needs: Needs, known: Collection[str] | None) -> Draft:
    """Place what is needed.

    :param known: the channel's packages; None: it could not be asked, and names are taken as they are guessed
    """
    found = Draft(said=list(needs.said))
    found.conda["python"] = conda_version(needs.python or "") or ""
    for requirement in needs.requirements:
        _requirement(requirement, known, found)
    for text, place in needs.conda.items():
        _conda(text, place, known, found)
    by_pip = {pip_name(re.split(r"[^\w.-]", text, maxsplit=1)[0]) for text in found.pip}
    for module, place in needs.modules.items():
        name = _first(packages_for(module), known, [*found.conda])
        if name is not None:
            found.conda.setdefault(name, "")
        elif not {pip_name(n) for n in (module, *packages_for(module))} & by_pip:
            found.unplaced[module] = place
    for module, place in needs.optional.items():
        if not set(packages_for(module)) & set(found.conda):
            found.said.append(f"{module} is optional in {place}, and left out")
    _kernels(needs, known, found)
    return found


def _first(names: Iterable[str], known: Collection[str] | None, chosen: Collection[str]) -> str | None:
    names = list(names)
    there = [n for n in names if n in chosen] or [n for n in names if known is None or n in known]
    return there[0] if there else None


def _kernels(needs: Needs, known: Collection[str] | None, found: Draft) -> None:
    for package, place in needs.r_packages.items():
        name = f"r-{package.lower()}"
        if known is None or name in known:
            found.conda.setdefault(name, "")
        else:
            found.unplaced[package] = place
    if "r" in needs.languages:
        found.conda.setdefault("r-irkernel", "")
    if "python" in needs.languages:
        found.conda.setdefault("ipykernel", "")


def _requirement(requirement: Requirement, known: Collection[str] | None, found: Draft) -> None:
    from packaging.requirements import InvalidRequirement
    from packaging.requirements import Requirement as Parsed

    try:
        parsed = Parsed(requirement.text)
    except InvalidRequirement:
        found.unplaced[requirement.text] = requirement.place
        return
    if parsed.marker and not parsed.marker.evaluate(dict(_LINUX)):
        found.said.append(f"{requirement.text} ({requirement.place}) is not for Linux, and left out")
        return
    version = conda_version(str(parsed.specifier))
    if parsed.url or version is None:
        found.unplaced[requirement.text] = requirement.place
        return
    name = conda_name(parsed.name)
    if known is not None and name not in known:
        parsed.marker = None
        found.pip.append(str(parsed))
        return
    if parsed.extras:
        found.said.append(
            f"{name}: conda has no extras; what [{','.join(sorted(parsed.extras))}] brings is to be added"
        )
    found.conda[name] = _both(found.conda.get(name, ""), version)


def _conda(text: str, place: str, known: Collection[str] | None, found: Draft) -> None:
    match = re.fullmatch(r"(?:\S+::)?([A-Za-z0-9_][\w.-]*)\s*(.*)", text)
    if match is None or (known is not None and match[1].lower() not in known):
        found.unplaced[text] = place
    else:
        found.conda[match[1].lower()] = _both(found.conda.get(match[1].lower(), ""), match[2])


def _both(one: str, other: str) -> str:
    parts = dict.fromkeys(p for text in (one, other) for p in text.split(",") if p)
    return ",".join(parts)


def conda_version(specifier: str) -> str | None:
    """A version's bounds in conda's words; None where conda has none for them.

    `packaging` writes them without blanks and sorted: `!=1.5,<2,>=1`.
    """
    parts = [p.strip() for p in specifier.split(",") if p.strip()]
    if any(p.startswith("===") or "+" in p for p in parts):
        return None
    parts.sort(key=lambda p: (p[0] == "!", p[0] == "<", p))
    return ",".join(re.sub(r"^==\s*(.*)\.\*$", r"\1.*", re.sub(r"\s+", "", p)) for p in parts)


def spec_text(found: Draft, channels: Collection[str], name: str | None, sources: str) -> str:
    """The text of the spec."""
    lines = [f"# begun by `envbox init` from {sources}; yours to edit"]
    lines += [f"name: {name}"] if name else []
    lines += ["channels:", *(f"  - {channel}" for channel in channels), "dependencies:"]
    packages = sorted(found.conda.items(), key=lambda pair: (pair[0] != "python", pair[0]))
    lines += [f"  - {package} {version}".rstrip() for package, version in packages]
    lines += [
        f"  # not placed: {_one_line(what)} ({_one_line(place)})" for what, place in found.unplaced.items()
    ]
    if found.pip:
        quoted = ["'" + t.replace("'", "''") + "'" if re.search(r": | #", t) else t for t in found.pip]
        lines += ["  - pip", "  - pip:", *(f"      - {text}" for text in dict.fromkeys(quoted))]
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:200]
