"""The Python that compiles: installed from the lock for this machine, tried, sealed, checked before it runs.

It lies in the cache, and is run out of it. A seal beside its files says what they were when they were
installed, as the file system tells: owner, mode, size, times, inode. Nobody can set the time of a change
(ctime), so what was written by other means than ours, brought in by a copy or a clone, or changed since, does
not match; it is installed anew. What others could write to is not run at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from envbox.errors import LockfileError, ToolError
from envbox.files import PART, disk_error, only_one, read_file, write_whole
from envbox.lockfile import Lock, LockedPackage, lock_command
from envbox.oci import canonical_json
from envbox.packages.confine.converse import Program
from envbox.packages.confine.roads import choose_road
from envbox.packages.fetch import fetch_archives
from envbox.packages.link.bytecode import STORE, Compiler, hash_of
from envbox.packages.link.install import install_packages
from envbox.platforms import host_platform
from envbox.report import Reporter
from envbox.settings import Settings

SEAL = ".envbox-seal.json"
NOT_LOADED = frozenset({"ca-certificates", "pip", "setuptools", "tzdata", "wheel"})
"""What a Python may depend on and does not load to compile, besides all that is noarch: not installed, and so
not part of what it is."""

_MOST_MODULES = 500
_TRY = """\
import sys, importlib.util, marshal, struct
print(sys.implementation.name, *sys.version_info[:3], sep=".")
print(*(name for name in sys.modules if name.isascii()))
"""
_SAMPLE = ("/sample.py", b"x = 1\n")


def locked_python(lock: Lock, platform: str) -> LockedPackage | None:
    """Return the conda package `python` of a platform."""
    return next((p for p in lock.for_platform(platform) if p.manager == "conda" and p.name == "python"), None)


def compiler_digest(lock: Lock) -> str | None:
    """Return a digest of all that the Python that compiles here is made of; None when the lock has none.

    Two locks share byte-code only when their Pythons are the same packages, every one: what another one's
    Python answers, of the same version, is not to be trusted.
    """
    try:
        host = host_platform()
    except ToolError:
        return None
    python = locked_python(lock, host) if host in lock.platforms else None
    return None if python is None else _digest(_closure(python, lock.for_platform(host)))


def obtain_compiler(lock: Lock, version: str, settings: Settings, report: Reporter) -> Compiler:
    """Have the lock's Python for this machine in the cache, installed and tried.

    :param version: the X.Y.Z that the byte-code is for
    :raises LockfileError: when the lock has no Python of that version for this machine
    :raises ToolError: when it does not run here, or nothing here can confine it
    """
    host = host_platform()
    if host not in lock.platforms:
        raise LockfileError(
            f"byte-code is compiled by the locked Python of this machine's platform, and {lock.name} is not "
            f"locked for {host}",
            lock_command(lock.name, sorted({*lock.platforms, host})),
        )
    python = locked_python(lock, host)
    if python is None or python.version != version:
        found = f"python {python.version}" if python else "no python"
        raise LockfileError(
            f"{lock.name} is locked with {found} for {host}, but byte-code needs python {version}",
            f"write `python =={version}` in its spec, then: envbox lock {lock.name}",
        )
    closure = _closure(python, lock.for_platform(host))
    digest = _digest(closure)
    folder = settings.cache_dir / "compilers" / digest[:32]
    who = f"the locked Python ({python.file_name})"
    program = Program(folder, f"bin/python{'.'.join(version.split('.')[:2])}", who)
    made = Compiler(program, version, choose_road(who, settings), digest, store=settings.cache_dir / STORE)
    if compiler := _sealed(made):
        return compiler
    archives = fetch_archives(closure, settings, report)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with only_one(folder.with_suffix(".lock")):
            if compiler := _sealed(made):
                return compiler
            for leftover in (folder, *folder.parent.glob(f".{folder.name}.*{PART}")):
                _remove(leftover)  # nobody else is at it: we hold the lock
            report.detail(f"installing python {version} for {host}, to compile byte-code")
            return _install(closure, archives, made)
    except OSError as error:
        raise disk_error(folder, error) from error


def _closure(python: LockedPackage, packages: Sequence[LockedPackage]) -> list[LockedPackage]:
    """Return Python and everything it depends on that it could load."""
    by_name = {
        p.name: p
        for p in packages
        if p.manager == "conda" and p.subdir != "noarch" and p.name not in NOT_LOADED
    }
    found = {python.name: python}
    todo = list(python.depends)
    while todo:
        name = todo.pop()
        if name in by_name and name not in found:
            found[name] = by_name[name]
            todo += by_name[name].depends
    return sorted(found.values(), key=lambda package: package.name)


def _digest(closure: Sequence[LockedPackage]) -> str:
    return hashlib.sha256("\n".join(sorted(p.sha256 for p in closure)).encode()).hexdigest()


# -- installing ----------------------------------------------------------------------------------------------


def _install(closure: Sequence[LockedPackage], archives: Mapping[str, Path], compiler: Compiler) -> Compiler:
    """Install aside, try, rename, seal: a half-installed Python is never found under the key."""
    folder = compiler.program.folder
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=PART, dir=folder.parent))
    try:
        prefix = temporary / "prefix"
        install_packages(closure, archives, prefix)
        tried = _try(replace(compiler, program=replace(compiler.program, folder=prefix)))
        _close_to_others(prefix)
        prefix.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    made = replace(compiler, magic=tried.magic, is_hash_known=tried.is_hash_known)
    said = {"magic": made.magic, "hashes": made.is_hash_known, "tree": _tree(folder)}
    write_whole(folder / SEAL, canonical_json(said))
    return made


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _try(compiler: Compiler) -> Compiler:
    """Run it once, and have it compile the modules that compiling takes: each later start takes a fifth."""
    said = compiler.run(_TRY, b"").decode(errors="replace").splitlines()
    version, modules = (said[0].strip(), said[1].split()) if len(said) == 2 else ("something else", [])
    if version != f"cpython.{compiler.version}":
        raise ToolError(
            f"{compiler.program.who} is to be {compiler.version} and says it is {version[:40]}: "
            "byte-code cannot be made with it"
        )
    own = list(_own_modules(compiler, modules[:_MOST_MODULES]))
    sources = [_SAMPLE, *((str(path), path.read_bytes()) for path in own)]
    results = replace(compiler, store=None).compile_sources(sources)
    for path, result in zip(own, results[1:], strict=True):
        if result:
            tag = "cpython-{}{}".format(*compiler.version.split("."))
            write_whole(path.parent / "__pycache__" / f"{path.stem}.{tag}.pyc", result)
    sample = results[0] or b""
    is_known = sample[8:16] == hash_of(sample[:4], _SAMPLE[1])
    return replace(compiler, magic=sample[:4].hex(), is_hash_known=is_known)


def _own_modules(compiler: Compiler, names: Sequence[str]) -> Iterator[Path]:
    """Yield the files of modules of its library, each where it seems to be: no link leads away from there."""
    folder = compiler.program.folder
    library = folder / "lib" / f"python{'.'.join(compiler.version.split('.')[:2])}"
    for name in names:
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", name):
            continue
        module = library.joinpath(*name.split("."))
        for path in (module.with_name(f"{module.name}.py"), module / "__init__.py"):
            beside = path.parent / "__pycache__"
            is_own = path.is_file() and path.resolve() == folder.resolve() / path.relative_to(folder)
            if is_own and not path.is_symlink() and not beside.is_symlink():
                yield path


# -- the seal ------------------------------------------------------------------------------------------------


def _sealed(compiler: Compiler) -> Compiler | None:
    """Return the compiler, when it is in the cache as it was installed."""
    folder = compiler.program.folder
    try:
        said: dict[str, Any] = json.loads(read_file(folder / SEAL))
        if said["tree"] != _tree(folder):
            return None
        return replace(compiler, magic=str(said["magic"]), is_hash_known=said["hashes"] is True)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _tree(folder: Path) -> str:
    """Digest what the file system says of a tree, the seal apart.

    :raises ValueError: when somebody else could have written in it
    """
    own, hashed = os.geteuid(), hashlib.sha256()
    for name, found in _entries(str(folder), ""):
        if found.st_uid not in (own, 0) or (not stat.S_ISLNK(found.st_mode) and found.st_mode & 0o022):
            raise ValueError(name)
        line = f"{name}\0{found.st_mode} {found.st_uid} "
        if name:  # the folder's own times change with the seal
            line += f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"
        hashed.update(f"{line}\n".encode(errors="surrogateescape"))
    return hashed.hexdigest()


def _entries(folder: str, name: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield everything in a tree with what lstat(2) says, itself first, in the order of names."""
    yield name, os.lstat(folder)
    with os.scandir(folder) as found:
        inside = sorted(found, key=lambda entry: entry.name)
    for entry in inside:
        path = f"{name}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            yield from _entries(entry.path, path)
        elif path != f"/{SEAL}":
            yield path, entry.stat(follow_symlinks=False)


def _close_to_others(folder: Path) -> None:
    """Let everybody read a tree, and nobody but its owner write in it; no file of it lends rights."""
    for name, found in _entries(str(folder), ""):
        if stat.S_ISLNK(found.st_mode):
            continue
        runs = 0o111 if stat.S_ISDIR(found.st_mode) or found.st_mode & 0o100 else 0
        Path(f"{folder}{name}").chmod(found.st_mode & 0o755 | 0o444 | runs)
