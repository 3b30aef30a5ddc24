"""Benchmarks of the lockfile as a daily tool: solves on an index of conda-forge's size, checks, updates."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from large import NAME as LARGE
from large import write_large
from measure import Action, Row, command, pairs, peak_memory
from stage import ENVBOX, NAME, Stage

from envbox.files import write_whole
from envbox.lockfile import Lock
from envbox.lockfile.conda_lock_v1 import dumps, loads, read_lockfile
from envbox.settings import read_settings

SMALL_PLATFORMS = ("linux-64", "linux-aarch64")  # that the rig's channel has
PLATFORMS = (*SMALL_PLATFORMS, "osx-arm64")
LEAF = "jupyterlab"  # nothing else in the environment needs it
SOLVES = 30
NOTEBOOKS = 100
BARE_SOLVE = """
import asyncio, sys
from rattler import solve, GenericVirtualPackage, PackageName, Version, BuildString, Gateway
SYSTEMS = {"linux": (("__glibc", "2.36"), ("__unix", "0"), ("__linux", "5.10")),
           "osx": (("__osx", "13.0"), ("__unix", "0"))}
def virtual(platform):
    return [GenericVirtualPackage(PackageName(n), Version(v), BuildString("0"))
            for n, v in SYSTEMS[platform.split("-")[0]]]
async def main(channel, cache, platforms, specs):
    gateway = Gateway(cache_dir=cache)
    await asyncio.gather(*(solve([channel], specs, gateway=gateway, platforms=[p, "noarch"],
    virtual_packages=virtual(p)) for p in platforms))
asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3].split(","), sys.argv[4:]))
"""
MANY_SOLVES = """
import os, re, sys
from pathlib import Path
from envbox.locks.lock import Update, lock
from envbox.project import read_project
from envbox.report import SILENT
from envbox.settings import read_settings
here, name, platforms, number = Path(sys.argv[1]), sys.argv[2], sys.argv[3].split(","), int(sys.argv[4])
settings = read_settings(here, os.environ)
environment = read_project(here, settings).environment(name)
for _ in range(number):
    Path("/proc/self/clear_refs").write_text("5")  # what was most is forgotten
    found = lock(environment, settings, platforms, SILENT, update=Update(everything=True), dry_run=True)
    assert found.packages
    status = Path("/proc/self/status").read_text()
    print(*(re.search(rf"{key}:\\s*(\\d+) kB", status)[1] for key in ("VmHWM", "VmRSS")))
"""


def lock_row(stage: Stage, runs: int) -> Row:
    """Lock for two platforms with a warm index, beside rattler's bare solve of the same specs."""
    bare = _bare(stage, stage.channel, SMALL_PLATFORMS)
    lock = stage.envbox("lock", NAME, *_for(SMALL_PLATFORMS))
    with _kept(stage.lockfile):
        taken = pairs(lock, bare, runs, (lambda: stage.lockfile.unlink(missing_ok=True), None))
    what = ("envbox lock, 2 platforms, warm", "rattler's bare solve of the same")
    return Row(*what, *taken, 1.0, "seconds")


# --- on an index of conda-forge's size ----------------------------------------------------------------------


@dataclass(frozen=True)
class Synthetic:
    """The stage, with a channel of 450,000 records."""

    stage: Stage

    @cached_property
    def url(self) -> str:
        """The channel's address; it is made first, once."""
        rig = Path(__file__).parents[1] / "tools/rig"
        done = subprocess.run([rig, "synthetic"], check=True, capture_output=True, text=True)
        return done.stdout.split()[-1]

    @cached_property
    def env(self) -> dict[str, str]:
        """The variables that make envbox use it."""
        mirrors = self.stage.env["ENVBOX_MIRRORS"].replace(self.stage.channel, self.url)
        return {**self.stage.env, "ENVBOX_MIRRORS": mirrors}

    def lock(self, *arguments: str) -> Action:
        """An action that runs one `envbox lock` for three platforms."""
        argv = (*ENVBOX, "lock", NAME, *_for(PLATFORMS), *arguments)
        return command(*argv, env=self.env, cwd=self.stage.folder)


def synthetic_row(stage: Stage, runs: int) -> Row:
    """Lock maps for three platforms on an index of conda-forge's size, warm, beside rattler's bare solve."""
    place = Synthetic(stage)
    bare = _bare(stage, place.url, PLATFORMS)
    reset = lambda: stage.lockfile.unlink(missing_ok=True)  # noqa: E731
    with _kept(stage.lockfile):
        ours, baseline = pairs(place.lock(), bare, runs, (reset, None))
    what = ("envbox lock, 450,000 records", "rattler's bare solve of the same")
    return Row(*what, ours, baseline, 4.0, "seconds")


def peak_row(stage: Stage, runs: int) -> Row:
    """The most memory that such a lock takes, beside the interpreter with rattler imported, in MiB."""
    place = Synthetic(stage)
    taken: tuple[list[float], list[float]] = ([], [])
    with _kept(stage.lockfile):
        place.lock()()  # the index is in the cache from now on
        for _ in range(min(runs, 3)):
            stage.lockfile.unlink()
            argv = (*ENVBOX, "lock", NAME, *_for(PLATFORMS))
            taken[0].append(peak_memory(*argv, env=place.env, cwd=stage.folder))
            taken[1].append(peak_memory(sys.executable, "-c", "import rattler"))
    what = ("envbox lock, 450,000 records, memory", "python -c 'import rattler'")
    return Row(*what, tuple(taken[0]), tuple(taken[1]), 1024, "value", unit="MiB")


def memory_row(stage: Stage, runs: int) -> Row:
    """The most memory that the last of 30 solves in one process had, beside the first, in MiB."""
    del runs  # one process has them all
    place = Synthetic(stage)
    argv = [sys.executable, "-c", MANY_SOLVES, stage.folder, NAME, ",".join(PLATFORMS), str(SOLVES)]
    done = subprocess.run(
        [str(a) for a in argv],
        env={**os.environ, **place.env},
        check=True,
        capture_output=True,
        text=True,
    )
    sizes = [tuple(int(word) / 1024 for word in line.split()) for line in done.stdout.splitlines()]
    assert len(sizes) == SOLVES
    (first, after_first), (last, after_last) = sizes[0], sizes[-1]
    notes = {"resident_after_first": round(after_first), "resident_after_last": round(after_last)}
    notes["most_of_any"] = round(max(most for most, _ in sizes))
    what = (f"memory in solve {SOLVES} of a process", "in its first")
    return Row(*what, (last,), (first,), 1.3, notes=notes, unit="MiB")


def update_row(stage: Stage, runs: int) -> Row:
    """Update one leaf, beside a full solve; nothing else may move."""
    place = Synthetic(stage)
    spec = stage.spec.read_text()
    with _kept(stage.lockfile), _kept(stage.spec):
        before, leaf = _with_an_old_leaf(place, spec)
        reset = lambda: stage.lockfile.write_bytes(before)  # noqa: E731

        def update() -> None:
            place.lock("--update", LEAF)()
            moved = _moved(loads(before, stage.lockfile), read_lockfile(stage.lockfile))
            assert moved == {LEAF}, f"{', '.join(sorted(moved))} moved, and {LEAF} {leaf} alone should have"

        ours, baseline = pairs(update, place.lock("--update-all"), runs, (reset, reset))
    what = (f"envbox lock --update {LEAF}", "envbox lock --update-all")
    return Row(*what, ours, baseline, 1.0, notes={"others_moved": 0})


def _with_an_old_leaf(place: Synthetic, spec: str) -> tuple[bytes, str]:
    """A lockfile that is as new as can be but for its leaf, which is one version behind; and that version."""
    stage = place.stage
    stage.lockfile.unlink(missing_ok=True)
    place.lock()()
    newest = read_lockfile(stage.lockfile)
    now = next(p.version for p in newest.packages if p.name == LEAF)
    stage.spec.write_text(re.sub(rf"- {LEAF}$", f"- {LEAF} <{now}", spec, flags=re.MULTILINE))
    place.lock()()
    stage.spec.write_text(spec)
    place.lock()()
    older = read_lockfile(stage.lockfile)
    assert _moved(newest, older) == {LEAF}, f"an older {LEAF} needs other packages"
    return stage.lockfile.read_bytes(), next(p.version for p in older.packages if p.name == LEAF)


def _moved(old: Lock, new: Lock) -> set[str]:
    before, after = ({(p.platform, p.name, p.url) for p in lock.packages} for lock in (old, new))
    return {name for _, name, _ in before ^ after}


# --- a lockfile of 500 packages for 4 platforms -------------------------------------------------------------


def check_row(stage: Stage, runs: int) -> Row:
    """The whole process of a check that is asked for the first time, beside the interpreter's own start."""
    write_large(stage.folder, read_settings(stage.folder, {**os.environ, **stage.env}))
    answers = stage.cache / "fresh"

    def forget() -> None:
        for answer in answers.iterdir() if answers.is_dir() else ():
            answer.unlink()

    check = stage.envbox("lock", "--check", LARGE)
    ours, baseline = pairs(check, command(sys.executable, "-c", "pass"), max(runs, 5), (forget, None))
    return Row("envbox lock --check, 500 × 4", "python -c pass", ours, baseline, 0.5, "seconds")


def reading_row(stage: Stage, runs: int) -> Row:
    """Read it, beside conda-lock's own reader."""
    from conda_lock.lockfile import parse_conda_lock_file

    environment, lock = write_large(stage.folder, read_settings(stage.folder, {**os.environ, **stage.env}))

    def ours() -> None:
        assert len(read_lockfile(environment.lock_path).packages) == len(lock.packages)

    def theirs() -> None:
        assert len(parse_conda_lock_file(environment.lock_path).package) == len(lock.packages)

    taken = pairs(ours, theirs, runs)
    return Row("reading a lock, 500 × 4", "conda-lock's reader", *taken, 1.0, "seconds")


def writing_row(stage: Stage, runs: int) -> Row:
    """Write it, beside conda-lock's own writer."""
    from conda_lock.lockfile import parse_conda_lock_file, write_conda_lock_file

    environment, lock = write_large(stage.folder, read_settings(stage.folder, {**os.environ, **stage.env}))
    same = parse_conda_lock_file(environment.lock_path)
    mine, other = stage.folder / "ours.yml", stage.folder / "theirs.yml"
    taken = pairs(
        lambda: write_whole(mine, dumps(lock)), lambda: write_conda_lock_file(same, other, None), runs
    )
    assert mine.read_bytes() == environment.lock_path.read_bytes()
    return Row("writing a lock, 500 × 4", "conda-lock's writer", *taken, 1.0, "seconds")


# --- notebooks ----------------------------------------------------------------------------------------------


def notebooks_row(stage: Stage, runs: int) -> Row:
    """Check a hundred notebooks, beside the interpreter's own start."""
    source = next((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
    document = json.loads(source.read_bytes())
    names = [f"notebook{number}.ipynb" for number in range(NOTEBOOKS)]
    for number, name in enumerate(names):
        cell = {**document["cells"][-1], "cell_type": "code", "source": [f"import numpy\nx = {number}"]}
        cell |= {"outputs": [], "execution_count": None, "metadata": {}}
        text = json.dumps({**document, "cells": [*document["cells"], cell]}, indent=1)
        (stage.folder / name).write_text(text)
    stage.envbox("stamp", *names, "--name", NAME)()
    check = stage.envbox("check", *names)
    ours, baseline = pairs(check, command(sys.executable, "-c", "pass"), max(runs, 5))
    what = (f"envbox check, {NOTEBOOKS} notebooks", "python -c pass")
    return Row(*what, ours, baseline, 1.0, "difference")


# --- around them --------------------------------------------------------------------------------------------


def _for(platforms: Sequence[str]) -> list[str]:
    return [word for platform in platforms for word in ("--platform", platform)]


@contextmanager
def _kept(path: Path) -> Iterator[None]:
    """Put a file back as it was, afterwards."""
    data = path.read_bytes()
    try:
        yield
    finally:
        path.write_bytes(data)


def _bare(stage: Stage, channel: str, platforms: Sequence[str]) -> Action:
    specs = re.findall(r"^  - (.+)$", stage.spec.read_text().split("dependencies:")[1], re.MULTILINE)
    cache = stage.folder / "bare-index"
    return command(sys.executable, "-c", BARE_SOLVE, channel, cache, ",".join(platforms), *specs)
