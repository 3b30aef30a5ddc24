"""Benchmarks of sessions without a container: a command with the prefix there, and the prefix made.

The baseline of making is py-rattler's install of the same archives, unpacked before by both. The start of a
process is not counted, nor what it reads first: the lock here, the records there.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

from changes import PLATFORM, Subject
from instant import ARCHIVES, Yard, settle, taken
from measure import Row
from stage import ENVBOX, NAME, Stage

MAKE = """
import sys, time
from pathlib import Path
from envbox.registry.lock_with_base import LockWithBase as Locked
from envbox.lockfile.conda_lock_v1 import loads
from envbox.prefixes.obtain import obtain_tree
from envbox.prefixes.request import PrefixRequest as Wanted
from envbox.report import SILENT
from envbox.settings import Settings
path, cache, platform = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
data = path.read_bytes()
lock = loads(data, path)
wanted = Wanted(Locked(lock, data, lock.base), platform, Settings(cache_dir=cache), *sys.argv[4:])
start = time.perf_counter()
obtain_tree(wanted, None, SILENT)
print(time.perf_counter() - start)
"""


def here_row(stage: Stage, runs: int) -> Row:
    """`envbox run --engine host NAME -- true`, prefix there, beside the interpreter's own start."""
    return _here(stage, runs, "envbox run --engine host NAME -- true")


def own_path_row(stage: Stage, runs: int) -> Row:
    """The same where nothing can be mounted."""
    return _here(stage, runs, "the same at a path of its own", ENVBOX_OWN_PATH="1")


def _here(stage: Stage, runs: int, label: str, **variables: str) -> Row:
    env = {**Yard(Subject(stage)).cache(*ARCHIVES), **variables}
    ours = _run(stage, env)
    ours()
    settle(env)
    ours()  # which finds the prefix with byte-code
    times = taken(ours, _bare, max(runs, 9))
    return Row(label, "python -c pass", *times, 0.25, "seconds")


def new_here_row(stage: Stage, runs: int) -> Row:
    """The prefix of a lock that is new, its packages unpacked for another one before."""
    return _new_here(stage, runs, "prefix, first time on this lock", is_own=False)


def new_own_path_row(stage: Stage, runs: int) -> Row:
    """The same at a path of its own, which what has it in its files is linked for anew."""
    return _new_here(stage, runs, "the same at a path of its own", is_own=True)


def _new_here(stage: Stage, runs: int, label: str, *, is_own: bool) -> Row:
    yard = Yard(Subject(stage))
    warm = yard.cache(*ARCHIVES)
    _run(stage, warm)()
    settle(warm)
    rattler = yard.folder()
    yard.install(rattler)

    def ours() -> float:
        cache = yard.place(yard.cache(*ARCHIVES, "prefixes/packages", source=yard.place(warm)))
        argv = [sys.executable, "-c", MAKE, str(stage.lockfile), str(cache), PLATFORM]
        argv += [str(cache / "prefixes/here/0123456789ab")] * is_own
        return float(subprocess.run(argv, check=True, capture_output=True, text=True, env=warm).stdout)

    times = taken(ours, lambda: yard.install(rattler)[0], runs)
    return Row(label, "rattler's install, warm", *times, 1.5)


def _run(stage: Stage, env: dict[str, str]) -> Callable[[], float]:
    argv = [*ENVBOX, "run", "--engine", "host", NAME, "--frozen", "--", "true"]

    def run() -> float:
        start = time.perf_counter()
        subprocess.run(argv, check=True, capture_output=True, cwd=stage.folder, env=env)
        return time.perf_counter() - start

    return run


def _bare() -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - start
