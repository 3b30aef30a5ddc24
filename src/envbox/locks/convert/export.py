"""A lock as other tools read it: five formats, each as its own tool writes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from envbox.errors import LockfileError
from envbox.lockfile import Lock, LockedPackage, conda_lock_v1, explicit, pixi
from envbox.lockfile.formats import BY_NAME, ENVIRONMENT
from envbox.platforms import container_platform
from envbox.report import Reporter
from envbox.settings import Settings

_NOT_PYTHON = ("python", "cpython", "python-gil", "python-freethreading", "python_abi", "pypy")


def export(lock: Lock, kind: str, only: Sequence[str], settings: Settings, report: Reporter) -> bytes:
    """Write a lock in one of the `FORMATS`.

    :param only: platforms; empty: all, or of a format for one the lock's only one, or this machine's
    :raises LockfileError: when the lock is not for such a platform, or it must be said which
    """
    if BY_NAME[kind].is_for_one:
        if len(only) > 1:
            raise LockfileError(
                f"a file of the format {kind} is for one platform, not for {', '.join(only)}",
                "write one file after the other",
            )
        chosen = only[0] if only else _chosen(lock, kind)
        if kind == explicit.KIND:
            return explicit.dumps(lock, chosen)
        if kind == ENVIRONMENT:
            return _environment(lock, chosen)
        from envbox.locks.solve.names import names_table

        return _requirements(lock, chosen, _pypi_names(names_table(settings, report)))
    platforms = tuple(only) or lock.platforms
    if kind == pixi.KIND:
        return pixi.dumps(lock, platforms)
    without_md5 = [p.name for p in lock.packages if p.manager == "conda" and not p.md5]
    if without_md5:
        report.warn(
            f"conda-lock itself wants an md5 of every package, and {without_md5[0]} is locked without one"
        )
    return conda_lock_v1.dumps(_only(lock, platforms))


def _chosen(lock: Lock, kind: str) -> str:
    if len(lock.platforms) == 1:
        return lock.platforms[0]
    if container_platform() in lock.platforms:
        return container_platform()
    raise LockfileError(
        f"a file of the format {kind} is for one platform, and {lock.name} is locked for "
        f"{', '.join(lock.platforms)}",
        f"envbox export {lock.name} --format {kind} --platform {lock.platforms[0]}",
    )


def _only(lock: Lock, platforms: tuple[str, ...]) -> Lock:
    packages = tuple(p for platform in platforms for p in lock.for_platform(platform))
    base = lock.base and replace(
        lock.base,
        digests={p: d for p, d in lock.base.digests.items() if p in platforms},
        glibc={p: v for p, v in lock.base.glibc.items() if p in platforms},
    )
    return replace(
        lock,
        platforms=platforms,
        packages=packages,
        base=base,
        content_hash={p: h for p, h in lock.content_hash.items() if p in platforms},
        requested={p: texts for p, texts in lock.requested.items() if p in platforms},
        virtual={p: found for p, found in lock.virtual.items() if p in platforms},
    )


def _environment(lock: Lock, platform: str) -> bytes:
    """Write it as `conda env export` has it, with builds."""
    import yaml

    packages = lock.for_platform(platform)
    wheels = [f"{p.name}=={p.version}" for p in packages if p.manager == "pip"]
    asked: list[object] = [f"{p.name}={p.version}={p.build}" for p in packages if p.manager == "conda"]
    document: dict[str, object] = {
        "name": lock.name,
        "channels": list(lock.channels),
        "platforms": [platform],
        "dependencies": asked + ([{"pip": wheels}] if wheels else []),
    }
    if lock.variables:
        document["variables"] = dict(lock.variables)
    text: str = yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True, width=2**30)
    return text.encode()


def _requirements(lock: Lock, platform: str, pypi_name: Callable[[str], str]) -> bytes:
    """Return what of a platform pip can install: conda's Python packages by their names on PyPI, and the
    wheels.

    Without hashes: PyPI's archives are not conda's, and pip wants a hash of all or of none.
    """
    packages = lock.for_platform(platform)
    ours = [p for p in packages if _is_python(p)]
    versions = {pypi_name(p.name) if p.manager == "conda" else p.name: p.version for p in ours}
    python = next((p.version for p in packages if p.name == "python"), None)
    rest = len(packages) - len(ours) - bool(python)
    lines = [
        f"# {lock.name} on {platform}, exported by envbox" + (f": for Python {python}" if python else ""),
        *([f"# not for pip, and left out: {rest} packages that are not Python's"] if rest else []),
        *(f"{name}=={version}" for name, version in sorted(versions.items())),
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def _is_python(package: LockedPackage) -> bool:
    if package.manager == "pip":
        return True
    return "python" in package.depends and package.name not in _NOT_PYTHON and package.name[0] != "_"


def _pypi_names(table: Path) -> Callable[[str], str]:
    from conda_lock.lookup import conda_name_to_pypi_name

    def name(conda: str) -> str:
        return str(conda_name_to_pypi_name(conda, mapping_url=str(table)))

    return name
