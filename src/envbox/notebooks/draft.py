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
from envbox.notebooks.names import conda_name, conda_names, guessed, packages_for, set_right, sure_package
from envbox.notebooks.needs import Needs, Requirement

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


@dataclass(frozen=True, slots=True)
class Channel:
    """What the channels were asked.

    :param names: of all their packages
    :param without_python: of those, packages that bring no Python, though they are called like a module
    """

    names: Collection[str]
    without_python: Collection[str] = ()

    def package(self, candidates: Iterable[str], only_alike: Collection[str] = ()) -> str | None:
        """Return the first of the candidates that is a package there.

        :param only_alike: those that count only if they bring Python
        """
        for name in candidates:
            if name in self.names and not (name in only_alike and name in self.without_python):
                return name
        return None


def alike(needs: Needs) -> frozenset[str]:
    """Return the packages that are guessed by nothing but the name of what is needed."""
    names = {name for module in (*needs.modules, *needs.optional) for name in guessed(module)}
    return frozenset(names.union(*(_project_names(r.text) for r in needs.requirements)))


def _project_names(requirement: str) -> tuple[str, ...]:
    return conda_names(re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0])


def draft(needs: Needs, channel: Channel | None) -> Draft:
    """Place what is needed.

    :param channel: None: it could not be asked, and only what the tables know is placed
    """
    found = Draft(said=list(needs.said))
    found.conda["python"] = conda_version(needs.python or "") or ""
    for requirement in needs.requirements:
        _requirement(requirement, channel, found)
    for text, place in needs.conda.items():
        _conda(text, place, channel, found)
    by_pip = {pip_name(re.split(r"[^\w.-]", text, maxsplit=1)[0]) for text in found.pip}
    for module, place in needs.modules.items():
        name = _package(module, channel, found.conda)
        if name is not None:
            found.conda.setdefault(name, "")
        elif own := needs.elsewhere.get(module.partition(".")[0]):
            found.said.append(f"{module} ({place}) is taken to be the project's own {own}")
        elif not {pip_name(n) for n in (module, *guessed(module), *packages_for(module))} & by_pip:
            found.unplaced[module] = place
    for module, place in needs.optional.items():
        if not set(packages_for(module)) & set(found.conda):
            found.said.append(f"{module} is optional in {place}, and left out")
    _kernels(needs, channel, found)
    return found


def _package(module: str, channel: Channel | None, chosen: Collection[str]) -> str | None:
    """Return the package of a module: one that is chosen already, else the likeliest that there is."""
    candidates = packages_for(module)
    if there := [n for n in candidates if n in chosen]:
        return there[0]
    return channel.package(candidates, guessed(module)) if channel else sure_package(module)


def _kernels(needs: Needs, channel: Channel | None, found: Draft) -> None:
    for package, place in needs.r_packages.items():
        name = f"r-{package.lower()}"
        if channel is None or name in channel.names:
            found.conda.setdefault(name, "")
        else:
            found.unplaced[package] = place
    if "r" in needs.languages:
        found.conda.setdefault("r-irkernel", "")
    if "python" in needs.languages:
        found.conda.setdefault("ipykernel", "")


def _requirement(requirement: Requirement, channel: Channel | None, found: Draft) -> None:
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
    names = conda_names(parsed.name)
    sure = conda_name(parsed.name)
    name = channel.package(names, [n for n in names if n != sure]) if channel else sure
    if name is None and channel and requirement.is_cell:
        # who types `pip install sklearn` means what is imported by that name
        name = channel.package(set_right(parsed.name))
    if name is None:
        parsed.marker = None
        found.pip.append(str(parsed))
        return
    if parsed.extras:
        found.said.append(
            f"{name}: conda has no extras; what [{','.join(sorted(parsed.extras))}] brings is to be added"
        )
    found.conda[name] = _both(found.conda.get(name, ""), version)


def _conda(text: str, place: str, channel: Channel | None, found: Draft) -> None:
    match = re.fullmatch(r"(?:\S+::)?([A-Za-z0-9_][\w.-]*)\s*(.*)", text)
    if match is None or (channel and match[1].lower() not in channel.names):
        found.unplaced[text] = place
    else:
        found.conda[match[1].lower()] = _both(found.conda.get(match[1].lower(), ""), match[2])


def _both(one: str, other: str) -> str:
    parts = dict.fromkeys(p for text in (one, other) for p in text.split(",") if p)
    return ",".join(parts)


def conda_version(specifier: str) -> str | None:
    """Return a version's bounds in conda's words; None where conda has none for them.

    `packaging` writes them without blanks and sorted: `!=1.5,<2,>=1`.
    """
    parts = [p.strip() for p in specifier.split(",") if p.strip()]
    if any(p.startswith("===") or "+" in p for p in parts):
        return None
    parts.sort(key=lambda p: (p[0] == "!", p[0] == "<", p))
    return ",".join(re.sub(r"^==\s*(.*)\.\*$", r"\1.*", re.sub(r"\s+", "", p)) for p in parts)


def spec_text(found: Draft, channels: Collection[str], name: str | None, sources: str) -> str:
    """Return the text of the spec."""
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
        lines += [] if "pip" in found.conda else ["  - pip"]
        lines += ["  - pip:", *(f"      - {text}" for text in dict.fromkeys(quoted))]
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)[:200]
