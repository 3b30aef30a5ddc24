"""Byte-code for the image: compiled at build by the locked Python, bit for bit the same on every machine.

The image's prefix is read-only to its users, so what has no `.pyc` would be compiled at each start again
(measured: importing numpy, basemap and IPython 2.0 s instead of 0.6 s). One policy for every lock: each `.py`
under the Python's library folder for which its package ships no `.pyc` gets one, the standard library
included and tests excluded; what does not compile (templates, samples of wrong syntax) is left without, as
conda does.

Bytes that do not vary: unchecked hash-based files (PEP 552), so no times; PYTHONHASHSEED=0; and, since
`marshal` flags references by what else the process has alive (CPython #129724), one fresh process a package
that compiles its files in the archive's order. The compiler is the very X.Y.Z of the lock as built for the
machine that envbox runs on, installed from the lock; byte-code does not depend on the architecture.
"""

from __future__ import annotations

import hashlib
import platform as machine
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from envbox import coroutines
from envbox.errors import LockfileError, ToolError
from envbox.fetch import fetch_archives
from envbox.files import PART, disk_error, only_one, write_whole
from envbox.inside import PREFIX
from envbox.lockfile import Lock, LockedPackage, lock_command
from envbox.oci import canonical_json
from envbox.report import Reporter
from envbox.settings import Settings

POLICY = "unchecked-hash-1"
"""Names how byte-code is made and for which files; part of every fragment's key."""

STORE = "bytecode"
_DIGEST = hashlib.sha256().digest_size

_LENGTHS = struct.Struct("<IQ")
_RESULT = struct.Struct("<q")
_SCRIPT = """\
import sys
sys.path[:] = [p for p in sys.path if p]
import importlib.util, marshal, struct
read, write = sys.stdin.buffer.read, sys.stdout.buffer.write
results = []
while True:
    lengths = read(12)
    if not lengths:
        break
    n, size = struct.unpack("<IQ", lengths)
    path, source = read(n).decode(), read(size)
    try:
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
        data = marshal.dumps(code)
    except Exception:
        results.append(None)
        continue
    head = importlib.util.MAGIC_NUMBER + b"\\1\\0\\0\\0" + importlib.util.source_hash(source)
    results.append(head + data)
    del code, data, source
for result in results:
    write(struct.pack("<q", -1 if result is None else len(result)))
    write(result or b"")
"""
# -S: no site-packages, no .pth files; -s -P: nothing of the user's or of the working directory. Not -I or -E,
# which would ignore PYTHONHASHSEED; the environment holds nothing else anyway.
_FLAGS = ("-S", "-s", "-W", "ignore")
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"}
_LOOKS, _MOST_LOOKS, _PAUSE = 6, 100, 0.05  # s; what rattler still writes comes within some hundredths
_MACHINES = {
    ("linux", "x86_64"): "linux-64",
    ("linux", "aarch64"): "linux-aarch64",
    ("linux", "ppc64le"): "linux-ppc64le",
    ("linux", "s390x"): "linux-s390x",
    ("linux", "riscv64"): "linux-riscv64",
    ("darwin", "x86_64"): "osx-64",
    ("darwin", "arm64"): "osx-arm64",
}


@dataclass(frozen=True, slots=True)
class Compiler:
    """An installed Python that compiles.

    :param version: X.Y.Z
    :param store: a folder for what was compiled, so that the same sources are compiled once ever
    """

    executable: Path
    version: str
    store: Path | None = None

    def compile_sources(self, sources: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
        """Compile files in a process of their own, in their order.

        :param sources: (path in the image, source)
        :returns: what the `.pyc` files hold; None for what does not compile
        :raises ToolError: when the Python dies
        """
        request = b"".join(_request(path, source) for path, source in sources)
        done = self._stored(request) if self.store else _run(self.executable, _SCRIPT, request)
        results = list(_results(done))
        if len(results) != len(sources):
            raise ToolError(f"{self.executable} compiled {len(results)} of {len(sources)} files and ended")
        return results

    def _stored(self, request: bytes) -> bytes:
        """What the compiler answers: as it did before, or now, which is then stored."""
        assert self.store
        key = hashlib.sha256(canonical_json([POLICY, self.version]) + request).hexdigest()
        path = self.store / key
        found = _read_stored(path)
        if found is None:
            found = _run(self.executable, _SCRIPT, request)
            write_whole(path, _to_store(found))
        return found


def host_platform() -> str:
    """The conda platform of this machine.

    :raises ToolError: when conda has none for it
    """
    key = (sys.platform, machine.machine())
    if key not in _MACHINES:
        raise ToolError(f"no conda platform for {key[0]} on {key[1]}")
    return _MACHINES[key]


def locked_python(lock: Lock, platform: str) -> LockedPackage | None:
    """The conda package `python` of a platform."""
    return next((p for p in lock.for_platform(platform) if p.manager == "conda" and p.name == "python"), None)


def obtain_compiler(lock: Lock, version: str, settings: Settings, report: Reporter) -> Compiler:
    """Have the lock's Python for this machine in the cache, installed and tried.

    :param version: the X.Y.Z that the byte-code is for
    :raises LockfileError: when the lock has no Python of that version for this machine
    :raises ToolError: when it does not run here
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
    key = hashlib.sha256("\n".join(sorted(p.sha256 for p in closure)).encode()).hexdigest()[:32]
    folder = settings.cache_dir / "compilers" / key
    executable = folder / "bin" / f"python{'.'.join(version.split('.')[:2])}"
    compiler = Compiler(executable, version, settings.cache_dir / STORE)
    if compiler.executable.is_file():
        return compiler
    archives = fetch_archives(closure, settings, report)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with only_one(folder.with_suffix(".lock")):
            if not compiler.executable.is_file():
                for leftover in (folder, *folder.parent.glob(f".{folder.name}.*{PART}")):
                    shutil.rmtree(leftover, ignore_errors=True)  # nobody else is at it: we hold the lock
                report.detail(f"installing python {version} for {host}, to compile byte-code")
                _install(sorted(archives.values()), folder, compiler)
    except OSError as error:
        raise disk_error(folder, error) from error
    return compiler


def _closure(python: LockedPackage, packages: Sequence[LockedPackage]) -> list[LockedPackage]:
    """Python and everything it depends on."""
    by_name = {p.name: p for p in packages if p.manager == "conda"}
    found = {python.name: python}
    todo = list(python.depends)
    while todo:
        name = todo.pop()
        if name in by_name and name not in found:
            found[name] = by_name[name]
            todo += by_name[name].depends
    return sorted(found.values(), key=lambda package: package.name)


def _install(archives: Sequence[Path], folder: Path, compiler: Compiler) -> None:
    """Install aside, try, rename: a half-installed Python is never found under the key."""
    from rattler import install
    from rattler.repo_data.record import RepoDataRecord

    async def work(prefix: Path, cache: Path) -> None:
        records = [await RepoDataRecord.from_package_archive(archive) for archive in archives]
        await install(
            records,
            target_prefix=prefix,
            cache_dir=cache,
            show_progress=False,
            execute_link_scripts=False,
            alternative_target_prefix=PREFIX,  # a cache folder's path may be longer than the placeholder
        )

    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=PART, dir=folder.parent))
    prefix = temporary / "prefix"
    try:
        try:
            coroutines.run(work, prefix, temporary / "cache")
        except Exception as error:
            raise ToolError(f"cannot install the locked Python: {error}") from error
        _try(prefix / compiler.executable.relative_to(folder), compiler.version)
        prefix.rename(folder)
    except BaseException:
        _remove_for_good(temporary)
        raise
    shutil.rmtree(temporary, ignore_errors=True)


def _remove_for_good(folder: Path) -> None:
    """Remove it until it stays away: after Ctrl-C rattler's threads still write what they had begun."""
    absent = 0
    for _ in range(_MOST_LOOKS):
        shutil.rmtree(folder, ignore_errors=True)
        absent = 0 if folder.exists() else absent + 1
        if absent == _LOOKS:
            break
        time.sleep(_PAUSE)


def _try(executable: Path, version: str) -> None:
    """Run it once, which also leaves it the byte-code of its own modules: each later start takes a third."""
    script = "import sys; print(sys.implementation.name, *sys.version_info[:3], sep='.')"
    said = _run(executable, script, b"").decode().strip()
    _run(executable, _SCRIPT, b"")
    if said != f"cpython.{version}":
        raise ToolError(f"the locked python {version} says it is {said}: byte-code cannot be made with it")


def _run(executable: Path, script: str, data: bytes) -> bytes:
    try:
        done = subprocess.run(
            [str(executable), *_FLAGS, "-c", script],
            input=data,
            capture_output=True,
            env=_ENVIRONMENT,
            cwd="/",
            check=False,
        )
    except OSError as error:
        raise ToolError(f"cannot run the locked Python ({executable}): {error.strerror}") from error
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise ToolError(
            f"the locked Python ({executable}) failed with exit status {done.returncode}: {''.join(last)}",
            "is it made for this machine's C library? to have it installed again: envbox clean compilers",
        )
    return done.stdout


def _request(path: str, source: bytes) -> bytes:
    name = path.encode()
    return _LENGTHS.pack(len(name), len(source)) + name + source


def _read_stored(path: Path) -> bytes | None:
    """What was stored; None when there is nothing, or it is no longer what was written."""
    import zstandard

    try:
        stored = path.read_bytes()
        found = zstandard.ZstdDecompressor().decompress(stored[_DIGEST:])
    except (OSError, zstandard.ZstdError):
        return None
    return found if hashlib.sha256(found).digest() == stored[:_DIGEST] else None


def _to_store(answer: bytes) -> bytes:
    import zstandard

    return hashlib.sha256(answer).digest() + zstandard.ZstdCompressor(level=1).compress(answer)


def _results(data: bytes) -> Iterator[bytes | None]:
    at = 0
    while at < len(data):
        (size,) = _RESULT.unpack_from(data, at)
        at += _RESULT.size
        yield None if size < 0 else data[at : at + size]
        at += max(size, 0)
