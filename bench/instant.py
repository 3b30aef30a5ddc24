"""Benchmarks of the road without an image: from a lock to a prompt, with the prefix mounted.

The baseline is py-rattler's install of the same archives into a folder, and `docker run` with that mounted.
Every run has folders of its own, removed in the end: ext4 is slow for minutes where much was just deleted.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pexpect
from changes import PLATFORM, Subject
from measure import Row
from stage import ENVBOX, NAME, Stage

from envbox.packages.fetch import fetch_archives

ARCHIVES = ("packages", "blobs", "bases", "compilers", "fresh", "engine")
INSTALL = """
import asyncio, json, os, sys, time
from rattler import install
from rattler.repo_data.record import RepoDataRecord
async def work(prefix, cache, archives):
    records = await asyncio.gather(*map(RepoDataRecord.from_package_archive, archives))
    start = time.perf_counter()
    await install(records, target_prefix=prefix, cache_dir=cache, show_progress=False,
                  execute_link_scripts=False, alternative_target_prefix="/opt/envbox")
    print(time.perf_counter() - start, flush=True)
asyncio.run(work(sys.argv[1], sys.argv[2], json.load(sys.stdin)))
os._exit(0)  # rattler's threads may still be there, and an end in order would then abort
"""


@dataclass(frozen=True)
class Yard:
    """Folders for one row's runs."""

    subject: Subject

    def folder(self) -> Path:
        """A new one."""
        return Path(tempfile.mkdtemp(prefix="instant-", dir=self.subject.stage.folder))

    def cache(self, *kinds: str, source: Path | None = None) -> dict[str, str]:
        """The variables that lead to a cache with some of what another has."""
        cache = self.folder()
        source = source or self.subject.stage.cache
        for kind in kinds:
            if (source / kind).is_dir():
                shutil.copytree(source / kind, cache / kind, copy_function=os.link)
        return {**os.environ, **self.subject.stage.env, "ENVBOX_CACHE_DIR": str(cache)}

    def place(self, env: dict[str, str]) -> Path:
        """Where a cache is."""
        return Path(env["ENVBOX_CACHE_DIR"])

    def install(self, cache: Path, *, compiling: bool = False) -> tuple[float, Path]:
        """Let rattler install what is locked; the seconds of that alone, and where it is."""
        lock = Subject(self.subject.stage).lock
        archives = fetch_archives(lock.for_platform(PLATFORM), self.subject.settings)
        prefix = self.folder() / "prefix"
        done = subprocess.run(
            [sys.executable, "-c", INSTALL, prefix, cache],
            input=json.dumps([str(path) for path in archives.values()]),
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        seconds = float(done.stdout)
        if compiling:
            start = time.perf_counter()
            python = str(next((prefix / "bin").glob("python3.*[0-9]")))
            subprocess.run([python, "-m", "compileall", "-q", "-j", "0", str(prefix / "lib")], check=False,
                           capture_output=True)  # fmt: skip
            seconds += time.perf_counter() - start
        return seconds, prefix

    def start_bare(self, prefix: Path) -> float:
        """The seconds of a container with a prefix mounted."""
        argv = ["docker", "run", "--rm", "--volume", f"{prefix}:/opt/envbox:ro", "--entrypoint", "true"]
        start = time.perf_counter()
        subprocess.run([*argv, self.subject.stage.image], check=True, capture_output=True)
        return time.perf_counter() - start


def shell_row(stage: Stage, runs: int) -> Row:
    """The first shell ever on this lock, its packages unpacked for another one before."""
    yard = Yard(Subject(stage))
    warm = yard.cache(*ARCHIVES)
    _run(stage, warm)
    settle(warm)
    packages = Path(warm["ENVBOX_CACHE_DIR"])
    rattler = yard.folder()
    yard.install(rattler)

    def ours() -> float:
        return _prompt(stage, yard.cache(*ARCHIVES, "prefixes/packages", source=packages))

    def baseline() -> float:
        seconds, prefix = yard.install(rattler)
        return seconds + yard.start_bare(prefix)

    name = "envbox shell, first time on this lock"
    return Row(name, "rattler's install, warm; docker run", *taken(ours, baseline, runs), 3.0, "seconds")


def cold_shell_row(stage: Stage, runs: int) -> Row:
    """The first shell ever on this machine: there are archives, the base, and a Python that compiles."""
    yard = Yard(Subject(stage))

    def ours() -> float:
        env = yard.cache(*ARCHIVES)
        seconds = _prompt(stage, env)
        settle(env)
        return seconds

    def baseline() -> float:
        seconds, prefix = yard.install(yard.folder(), compiling=True)
        return seconds + yard.start_bare(prefix)

    names = ("envbox shell, nothing but archives", "rattler's install, cold; compileall; docker run")
    return Row(*names, *taken(ours, baseline, runs), 3.0, "seconds")


def changed_shell_row(stage: Stage, runs: int) -> Row:
    """One small package changed, to a command in a container; beside rattler's install, and nothing else."""
    subject = Subject(stage)
    yard = Yard(subject)
    env = yard.cache(*ARCHIVES)
    _run(stage, env)
    settle(env)
    rattler = yard.folder()
    yard.install(rattler)
    before = stage.lockfile.read_bytes()
    archives = Path(env["ENVBOX_CACHE_DIR"]) / "packages"
    small = iter(sorted(subject.sizes, key=lambda name: subject.sizes[name])[20:])  # another one each time

    def ours() -> float:
        stage.lockfile.write_bytes(subject.changed(next(small)))
        shutil.copytree(stage.cache / "packages", archives, copy_function=_link, dirs_exist_ok=True)
        start = time.perf_counter()
        _run(stage, env)
        return time.perf_counter() - start

    def baseline() -> float:
        return yard.install(rattler)[0]

    try:
        times = taken(ours, baseline, runs)
    finally:
        stage.lockfile.write_bytes(before)
    return Row("envbox run, one package changed", "rattler's install, warm", *times, 1.5, "difference")


def mounted_run_row(stage: Stage, runs: int) -> Row:
    """`envbox run NAME -- true` with the prefix there, beside a bare `docker run` that mounts it."""
    yard = Yard(Subject(stage))
    env = yard.cache(*ARCHIVES)
    _run(stage, env)
    settle(env)
    _run(stage, env)  # which finds the prefix with byte-code
    prefix = next((Path(env["ENVBOX_CACHE_DIR"]) / "prefixes/trees").glob("*/prefix"))

    def ours() -> float:
        start = time.perf_counter()
        _run(stage, env)
        return time.perf_counter() - start

    times = taken(ours, lambda: yard.start_bare(prefix), max(runs, 9))
    return Row("envbox run, mounted", "docker run --volume PREFIX", *times, 0.25, "difference")


def taken(
    ours: Callable[[], float], baseline: Callable[[], float], runs: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Seconds of both in turn, after one of each that does not count."""
    both = [(ours(), baseline()) for _ in range(runs + 1)][1:]
    return tuple(a for a, _ in both), tuple(b for _, b in both)


def _run(stage: Stage, env: dict[str, str], command: Sequence[str] = ("true",)) -> None:
    argv = [*ENVBOX, "run", NAME, "--frozen", "--", *command]
    subprocess.run(argv, check=True, capture_output=True, cwd=stage.folder, env=env)


def settle(env: dict[str, str]) -> None:
    """Wait for byte-code that is made behind a session."""
    unfinished = Path(env["ENVBOX_CACHE_DIR"]) / "prefixes/unfinished"
    while any(not path.name.startswith(".") for path in unfinished.glob("*")):
        time.sleep(0.2)


def _prompt(stage: Stage, env: dict[str, str]) -> float:
    """The seconds until a shell shows its prompt."""
    argv = [*ENVBOX, "shell", NAME, "--frozen"]
    start = time.perf_counter()
    shell = pexpect.spawn(argv[0], argv[1:], cwd=str(stage.folder), env=env, timeout=120)
    shell.expect_exact(f"({NAME}) /work$ " if os.getuid() else f"({NAME}) /work")
    seconds = time.perf_counter() - start
    shell.sendline("exit")
    shell.expect(pexpect.EOF)
    return seconds


def _link(source: str, target: str) -> None:
    if not Path(target).exists():
        os.link(source, target)
