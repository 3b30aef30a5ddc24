"""Which conda package brings a module, and what a project of PyPI is called in conda-forge.

No index of conda's says which modules a package has, and a wrong package that exists is worse than none. So
there are three answers, in this order: `known.tsv` is our own, of modules whose package is called otherwise
or is easily mistaken; else a package that is called like the module, in any of conda's spellings; else
`names.tsv`, made of two tables that others keep (see `tools/import-names`). Whoever can ask the channel
leaves out of the second what is no package there, or brings no Python (`git` is C): see `guessed`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from envbox.lockfile import pip_name

_NAMESPACE, _NONE = ("*",), ("-",)


@dataclass(frozen=True, slots=True)
class _Table:
    """What is known of names.

    :param known: module → packages, `*` or `-`, of our own
    :param modules: module → packages, of others
    :param projects: of PyPI, in plain form → package, where it is called otherwise
    :param same: packages that bring the module of their name
    :param depth: the most parts that a module in it has
    """

    known: Mapping[str, tuple[str, ...]]
    modules: Mapping[str, tuple[str, ...]]
    projects: Mapping[str, str]
    same: frozenset[str]
    depth: int


@cache
def _table() -> _Table:
    known: dict[str, tuple[str, ...]] = {}
    modules: dict[str, tuple[str, ...]] = {}
    projects: dict[str, str] = {}
    same: set[str] = set()
    for module, _, packages in (line.partition("\t") for line in _lines("known.tsv")):
        if module == "=":
            same.update(packages.split())
        else:
            known[module] = tuple(packages.split())
    for kind, _, rest in (line.partition("\t") for line in _lines("names.tsv")):
        key, _, value = rest.partition("\t")
        if kind == "m":
            modules[key] = tuple(value.split())
        elif kind == "p":
            projects[key] = value
        else:
            same.update(rest.split())
    return _Table(
        known, modules, projects, frozenset(same), 1 + max(m.count(".") for m in (*known, *modules))
    )


def _lines(name: str) -> Iterator[str]:
    text = files("envbox.notebooks").joinpath(name).read_text(encoding="ascii")
    return (line for line in text.splitlines() if not line.startswith("#"))


def known_module(module: str) -> str:
    """Return the part of a dotted name that decides which package it is from."""
    table = _table()
    parts = module.split(".", table.depth + 1)[: table.depth + 1]
    for length in range(min(len(parts), table.depth), 0, -1):
        name = ".".join(parts[:length])
        if table.known.get(name) == _NAMESPACE:
            return ".".join(parts[: length + 1])
        if length > 1 and (name in table.known or name in table.modules):
            return name
    return parts[0]


def packages_for(module: str) -> tuple[str, ...]:
    """Return the conda packages that may bring a module, the likeliest first; none if none does.

    :param module: with dots (`mpl_toolkits.basemap`): the longest part of it that is known counts
    """
    name = known_module(module)
    table = _table()
    own = table.known.get(name)
    if own is not None:
        return () if own in (_NAMESPACE, _NONE) else own
    return tuple(dict.fromkeys((*guessed(name), *table.modules.get(name, ()))))


def guessed(module: str) -> tuple[str, ...]:
    """Return those of a module's packages that only have its name, in conda's spellings.

    Where the project of that name is called otherwise in conda-forge, that comes first (`jupyter_client`).
    """
    name = known_module(module)
    if name in _table().known:
        return ()
    lower = name.lower()
    renamed = _table().projects.get(pip_name(name))
    alike = renamed is not None and pip_name(renamed) == pip_name(name)
    spelled = (lower, lower.replace(".", "-"), lower.replace(".", "-").replace("_", "-"))
    likely = (renamed,) if alike and renamed else spelled[2:]
    return tuple(dict.fromkeys((*likely, *spelled)))


def sure_package(module: str) -> str | None:
    """Return the likeliest package of a module, if a table has it: not one that is only called alike."""
    table = _table()
    name = known_module(module)
    sure = table.same | {n for names in (table.known, table.modules) for n in names.get(name, ())}
    return next((package for package in packages_for(module) if package in sure), None)


def set_right(name: str) -> tuple[str, ...]:
    """Return the packages that are meant by a module's name: `sklearn`, `PIL`, `cv2`.

    None, where nothing is known of such a module.
    """
    found = _table().known.get(name, ())
    return () if found in (_NAMESPACE, _NONE) else found


def conda_name(project: str) -> str | None:
    """Return the name in conda-forge of one of PyPI's projects; None where no table has it."""
    table = _table()
    alike = (n for n in _spelled(project) if n in table.same)
    return table.projects.get(pip_name(project)) or next(alike, None)


def conda_names(project: str) -> tuple[str, ...]:
    """Return all names that one of PyPI's projects may have in conda-forge, the likeliest first."""
    known = conda_name(project)
    return tuple(dict.fromkeys((*([known] if known else ()), *_spelled(project))))


def _spelled(project: str) -> tuple[str, ...]:
    lower = project.lower()
    return (pip_name(project), lower, lower.replace("-", "_"))


def possible_names(module: str) -> Iterator[str]:
    """Yield all names, in plain form, of packages of either kind that may bring a module."""
    top = pip_name(module.split(".", maxsplit=1)[0])
    for name in packages_for(module):
        yield pip_name(name)
    if known_module(module) == module.split(".", maxsplit=1)[0]:
        yield from (top, f"python-{top}", f"py-{top}", f"py{top}")
