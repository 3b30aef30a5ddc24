"""A foreign lockfile taken over: its packages to the byte, a spec that asks for them, the base pinned.

Nothing is solved, so nothing moves: what was tried stays what is used. The one exception is an exported
environment.yml, which has neither URLs nor hashes; its versions and builds are asked for as they are. The
lock that comes of it is fresh by the spec beside it, as if `envbox lock` had made it.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from envbox.base import check_glibc, resolve_base
from envbox.errors import LockfileError, SpecError
from envbox.exchange.complete import complete
from envbox.exchange.find import ENVIRONMENT, joined, kind_of, read_bytes, read_foreign
from envbox.exchange.roots import SELECTORS, channel_name, spec_text
from envbox.files import write_whole
from envbox.lockfile import Base, Lock, LockedPackage, conda_lock_foreign
from envbox.lockfile.conda_lock_v1 import PIP_PREFIX, dumps, loads, sealed
from envbox.project import Environment, Project, check_name, name_of_foreign, single_spec
from envbox.registry.reference import parse_reference
from envbox.report import Reporter
from envbox.settings import Settings
from envbox.spec import EnvSpec, content_hashes, read_spec

FORMAT = 1
"""Raise it when the same file is taken over in another way."""


@dataclass(frozen=True, slots=True)
class Source:
    """What is to be taken over.

    :param paths: several: of one environment, each for other platforms
    :param name: for the environment
    :param environment: which of a pixi.lock; None: `default`, or the only one
    """

    paths: tuple[Path, ...]
    name: str
    environment: str | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of it: the spec's text, and the lock that is fresh by it."""

    spec: str
    lock: Lock


def take(source: Source, settings: Settings, report: Reporter) -> Taken:
    """Take foreign lockfiles over. Writes nothing but the cache.

    :raises LockfileError: when a file is damaged, or of no format that is known
    :raises EnvboxError: what completing, solving an export, and pinning the base can raise
    """
    kinds = {kind_of(read_bytes(path), path) for path in source.paths}
    if kinds == {ENVIRONMENT} and len(source.paths) == 1:
        spec = read_spec(source.paths[0], (), settings)
        packages, channels = _solved(replace(spec, name=source.name), settings, report), spec.channels
        variables = dict(spec.variables)
    elif ENVIRONMENT in kinds:
        raise LockfileError("an environment.yml is imported alone", "import one file after the other")
    else:
        found = joined([read_foreign(p, kind_of(read_bytes(p), p), source.environment) for p in source.paths])
        usable = _usable(found.platforms, found.path, report)
        found = replace(found, packages=tuple(p for p in found.packages if p.platform in usable))
        packages = complete(found, settings, report)
        channels, variables = tuple(dict.fromkeys(map(channel_name, found.channels))), {}
    platforms = sorted({p.platform for p in packages})
    by_platform = {
        platform: sorted((p for p in packages if p.platform == platform), key=lambda p: (p.manager, p.name))
        for platform in platforms
    }
    origin = " and ".join(path.name for path in source.paths)
    text = spec_text(source.name, origin, channels or settings.channels, by_platform, variables)
    spec = _read_text(text, source.name, settings)
    for words in spec.warnings:
        report.warn(words)
    base = _base(source.name, platforms, settings, report)
    for platform in base.digests:
        check_glibc(by_platform[platform], base, platform)
    return Taken(text, _lock(spec, packages, base, settings))


def import_files(
    source: Source, project: Project, settings: Settings, report: Reporter, *, force: bool = False
) -> Environment:
    """Take foreign lockfiles over as an environment of the project: its spec and its lockfile are written.

    :param force: replace an environment of that name, if there is one
    :raises SpecError: when there is one, or the project is arranged in another way
    """
    check_name(source.name)
    folder = project.root / "environments"
    environment = Environment(
        source.name, folder / f"{source.name}.yml", folder / f"{source.name}.conda-lock.yml"
    )
    there = [p for p in (environment.spec_path, environment.lock_path) if p.exists()]
    if there and not force:
        raise SpecError(f"{there[0]} exists", "choose another --name, or replace it with --force")
    single = single_spec(project.root)
    if single and not any(e.spec_path.parent == folder for e in project.environments) and not force:
        if not any(path.samefile(single) for path in source.paths):
            raise SpecError(
                f"{single} would no longer be found beside environments/",
                f"move it to {folder / 'NAME.yml'} first, or --force",
            )
        report.say(f"{single.name} is not looked at any more; what counts is {environment.spec_path}")
    taken = take(source, settings, report)
    write_whole(environment.spec_path, taken.spec.encode(), is_cache=False)
    write_whole(environment.lock_path, dumps(taken.lock), is_cache=False)
    counts = ", ".join(f"{len(taken.lock.for_platform(p))} packages for {p}" for p in taken.lock.platforms)
    report.say(f"imported {source.name}: {counts}")
    return environment


def adopt(environment: Environment, settings: Settings, report: Reporter) -> Environment:
    """Give an environment that is locked by a foreign lockfile one of our own, in the cache.

    What is in the project stays as it is; the same file gives the same lock, as long as the cache lives.

    :raises EnvboxError: what `take` can raise
    """
    path = environment.foreign
    assert path is not None
    if _is_ours(path):
        return replace(environment, lock_path=path)
    base = settings.for_environment(environment.name)
    said = repr((FORMAT, environment.name, base.base, base.slim, base.cuda, settings.channels))
    key = hashlib.sha256(read_bytes(path) + said.encode()).hexdigest()[:32]
    kept = settings.cache_dir / "foreign" / key / f"{environment.name}.conda-lock.yml"
    if not kept.is_file():
        report.say(
            f"{environment.name}: from {path.name}, as it is (envbox import {path.name} makes it yours)"
        )
        taken = take(Source((path,), environment.name), settings, report)
        write_whole(kept, dumps(taken.lock))
    return replace(environment, lock_path=kept, spec_path=kept.with_name(f"{environment.name}.yml"))


def default_name(paths: Sequence[Path]) -> str:
    """What an environment is called that is imported from these files, when nobody says."""
    return name_of_foreign(paths[0])


# --- the parts ----------------------------------------------------------------------------------------------


def _is_ours(path: Path) -> bool:
    """Whether a build can use it as it is: a conda-lock file with a sha256 of everything."""
    data = read_bytes(path)
    if kind_of(data, path) != conda_lock_foreign.KIND:
        return False
    try:
        return bool(loads(data, path).packages)
    except LockfileError:
        return False  # one that is broken, and not only old, is refused by its other reader


def _usable(platforms: Sequence[str], path: Path, report: Reporter) -> set[str]:
    usable = {p for p in platforms if p in SELECTORS}
    if not usable:
        raise LockfileError(f"{path} is for {', '.join(platforms)}, which envbox cannot lock for")
    if left := sorted(set(platforms) - usable):
        report.warn(f"left out, since envbox cannot lock for it: {', '.join(left)}")
    return usable


def _solved(spec: EnvSpec, settings: Settings, report: Reporter) -> tuple[LockedPackage, ...]:
    """An export asks for each package's version and build, so there is one solution, or none."""
    from envbox.solve.platforms import solve_spec

    return solve_spec(
        spec, _base(spec.name, spec.platforms, settings, report), settings, report=report
    ).packages


def _read_text(text: str, name: str, settings: Settings) -> EnvSpec:
    with tempfile.TemporaryDirectory(prefix="envbox-import-") as folder:
        path = Path(folder, f"{name}.yml")
        path.write_text(text, encoding="utf-8")
        spec = read_spec(path, (), settings)
    return replace(spec, name=name)


def _base(name: str, platforms: Sequence[str], settings: Settings, report: Reporter) -> Base:
    reference = str(parse_reference(settings.for_environment(name).base or settings.base))
    linux = [p for p in platforms if p.startswith("linux-")]
    return resolve_base(reference, linux, settings, report) if linux else Base(reference, {}, {})


def _lock(spec: EnvSpec, packages: Sequence[LockedPackage], base: Base, settings: Settings) -> Lock:
    own = settings.for_environment(spec.name)
    asked = {p: [*spec.conda[p], *(PIP_PREFIX + text for text in spec.pip[p])] for p in spec.platforms}
    return sealed(
        Lock(
            name=spec.name,
            platforms=spec.platforms,
            channels=spec.channels,
            content_hash=content_hashes(spec),
            packages=tuple(packages),
            base=base,
            digest="",
            sources=(spec.path.name,),
            requested={p: tuple(sorted(texts)) for p, texts in asked.items()},
            variables=dict(spec.variables),
            slim=own.slim,
        )
    )
