"""A foreign lockfile taken over: its packages to the byte, a spec that asks for them, the base pinned.

Nothing is solved, so nothing moves: what was tried stays what is used. The one exception is `import` of an
exported environment.yml, which has neither URLs nor hashes; its versions and builds are asked for as they
are. The lock that comes of it is fresh by the spec beside it, as if `envbox lock` had made it.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from envbox.errors import LockfileError, SpecError
from envbox.files import is_regular, write_whole
from envbox.lockfile import Base, Lock, LockedPackage
from envbox.lockfile.conda_lock_v1 import PIP_PREFIX, dumps, sealed
from envbox.lockfile.foreign import EVERYTHING, Selection, channel_name
from envbox.lockfile.formats import ENVIRONMENT, kind_of, read_foreign, read_ours
from envbox.locks.convert.complete import complete
from envbox.locks.convert.detect import joined, read_bytes
from envbox.locks.convert.pip import with_pip
from envbox.locks.convert.spec_from_lock import SELECTORS, spec_text
from envbox.locks.spec import EnvSpec, content_hashes, read_spec
from envbox.platforms import container_platform
from envbox.project import Environment, Project, check_name, name_of_foreign, single_spec
from envbox.registry.base import check_glibc, resolve_base
from envbox.registry.reference import parse_reference
from envbox.report import Reporter, counted
from envbox.settings import Settings

FORMAT = 1
"""Raise it when the same file is taken over in another way."""


@dataclass(frozen=True, slots=True)
class ForeignFiles:
    """What is to be taken over.

    :param paths: several: of one environment, each for other platforms
    :param name: for the environment
    :param selection: what of it; of an exported environment.yml, which names no platform, this machine's
    """

    paths: tuple[Path, ...]
    name: str
    selection: Selection = EVERYTHING


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of it: the spec's text, and the lock that is fresh by it."""

    spec: str
    lock: Lock


def take(source: ForeignFiles, settings: Settings, report: Reporter) -> Imported:
    """Take foreign lockfiles over. Writes nothing but the cache.

    :raises LockfileError: when a file is damaged, or of no format that is known
    :raises EnvboxError: what completing, solving an export, and pinning the base can raise
    """
    found = _find(source, settings, report)
    base = _base(source.name, found.platforms, settings, report)
    packages = with_pip(found.packages, found.channels or settings.channels, base, settings, report)
    text = spec_text(
        source.name,
        " and ".join(path.name for path in source.paths),
        found.channels or settings.channels,
        {p: _of(packages, p) for p in found.platforms},
        found.variables,
    )
    spec = _read_text(text, source.name, settings)
    for words in spec.warnings:
        report.warn(words)
    asked = {p: [*spec.conda[p], *(PIP_PREFIX + text for text in spec.pip[p])] for p in spec.platforms}
    lock = replace(
        _lock(source.name, replace(found, packages=packages), base, settings),
        channels=spec.channels,
        content_hash=content_hashes(spec),
        sources=(spec.path.name,),
        requested={p: tuple(sorted(texts)) for p, texts in asked.items()},
    )
    return Imported(text, sealed(lock))


def import_files(
    source: ForeignFiles, project: Project, settings: Settings, report: Reporter, *, force: bool = False
) -> Environment:
    """Take foreign lockfiles over as an environment of the project: its spec and its lockfile are written.

    :param force: replace an environment of that name, if there is one
    :raises SpecError: when there is one, or the project is arranged in another way
    """
    environment = target_of(source, project)
    folder = environment.spec_path.parent
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
    counts = ", ".join(f"{counted(len(taken.lock.for_platform(p)))} for {p}" for p in taken.lock.platforms)
    report.say(f"imported {source.name}: {counts}")
    return environment


def target_of(source: ForeignFiles, project: Project) -> Environment:
    """Return the environment that files are imported as.

    :raises SpecError: when its name is none
    """
    check_name(source.name)
    folder = project.root / "environments"
    return Environment(source.name, folder / f"{source.name}.yml", folder / f"{source.name}.conda-lock.yml")


def adopt(environment: Environment, settings: Settings, report: Reporter) -> Environment:
    """Give an environment that is only a foreign lockfile one of our own, in the cache; others as they are.

    What is in the project stays as it is; the same file gives the same lock, as long as the cache lives. On
    another machine the base's tag may mean another image by then, which is said: no foreign file pins it.

    :raises EnvboxError: what `take` can raise
    """
    path = environment.foreign
    if path is None:
        return environment
    data = read_bytes(path)
    if read_ours(data, path) is not None:
        return replace(environment, lock_path=path)
    own = settings.for_environment(environment.name)
    said = repr((FORMAT, environment.name, own.base, own.slim, own.cuda, settings.channels))
    key = hashlib.sha256(data + said.encode()).hexdigest()[:32]
    kept = settings.cache_dir / "foreign" / key / f"{environment.name}.conda-lock.yml"
    if not is_regular(kept):
        report.say(
            f"{environment.name}: from {path.name}, as it is (envbox import {path.name} makes it yours)"
        )
        found = _find(ForeignFiles((path,), environment.name), settings, report)
        base = _base(environment.name, found.platforms, settings, report)
        if base.digests and "@" not in base.reference:
            report.say(
                f"{path.name} names no base, so it is {base.reference} as it is today, and may be another "
                "one on another machine; for the same image everywhere import it, or set `base` with a digest"
            )
        write_whole(kept, dumps(_lock(environment.name, found, base, settings)))
    return replace(environment, lock_path=kept)


def default_name(paths: Sequence[Path]) -> str:
    """Return what an environment is called that is imported from these files, when nobody says."""
    return name_of_foreign(paths[0])


# --- the parts ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Found:
    """What there is in the files, complete."""

    platforms: tuple[str, ...]
    channels: tuple[str, ...]
    packages: tuple[LockedPackage, ...]
    variables: Mapping[str, str]


def _find(source: ForeignFiles, settings: Settings, report: Reporter) -> _Found:
    files = [(read_bytes(path), path) for path in source.paths]
    kinds = [kind_of(*file) for file in files]
    if kinds == [ENVIRONMENT]:
        if told := source.selection.without | source.selection.categories:
            raise LockfileError(
                f"{source.paths[0]} is a spec: {', '.join(sorted(told))} can only be left out or taken in it",
                f"edit {source.paths[0].name}",
            )
        spec = _read_export(source, settings)
        packages = _solved(spec, settings, report)
        return _Found(tuple(sorted({p.platform for p in packages})), spec.channels, packages, spec.variables)
    if ENVIRONMENT in kinds:
        raise LockfileError("an environment.yml is imported alone", "import one file after the other")
    lock = joined([read_foreign(*file, source.selection) for file in files])
    for words in lock.left_out:
        report.warn(words)
    usable = _usable(lock.platforms, lock.path, report)
    lock = replace(lock, packages=tuple(p for p in lock.packages if p.platform in usable))
    channels = tuple(dict.fromkeys(map(channel_name, lock.channels)))
    return _Found(tuple(sorted(usable)), channels, complete(lock, settings, report), {})


def _usable(platforms: Sequence[str], path: Path, report: Reporter) -> set[str]:
    usable = {p for p in platforms if p in SELECTORS}
    if not usable:
        raise LockfileError(f"{path} is for {', '.join(platforms)}, which envbox cannot lock for")
    if left := sorted(set(platforms) - usable):
        report.warn(f"left out, since envbox cannot lock for it: {', '.join(left)}")
    return usable


def _solved(spec: EnvSpec, settings: Settings, report: Reporter) -> tuple[LockedPackage, ...]:
    """Return an export asks for each package's version and build, so there is one solution, or none."""
    from envbox.locks.solve.platforms import solve_spec

    return solve_spec(
        spec, _base(spec.name, spec.platforms, settings, report), settings, report=report
    ).packages


def _read_export(source: ForeignFiles, settings: Settings) -> EnvSpec:
    """Read an export, whose builds are of one platform that it does not name."""
    spec = read_spec(source.paths[0], source.selection.platforms, settings, (container_platform(),))
    return replace(spec, name=source.name)


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


def _lock(name: str, found: _Found, base: Base, settings: Settings) -> Lock:
    """Return the lock of what was found, for which nothing has been asked yet."""
    for platform in base.digests:
        check_glibc(_of(found.packages, platform), base, platform)
    return sealed(
        Lock(
            name=name,
            platforms=found.platforms,
            channels=found.channels,
            content_hash={},
            packages=found.packages,
            base=base,
            digest="",
            variables=found.variables,
            slim=settings.for_environment(name).slim,
        )
    )


def _of(packages: Sequence[LockedPackage], platform: str) -> list[LockedPackage]:
    return sorted((p for p in packages if p.platform == platform), key=lambda p: (p.manager, p.name))
