from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from envbox.errors import PackageError, ToolError
from envbox.packages.link.workers import run_all


def square(number: int) -> int:
    return number * number


def whoami(_: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def fail(number: int) -> int:
    if number == 1:
        raise PackageError("bad package", "mend it")
    time.sleep(30)
    return number


def bug(number: int) -> int:
    return 1 // number


def die(_: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def talk(number: int) -> int:
    print("among the answers")
    return number


def mark(folder: str) -> None:
    """Leave a file that only an orderly end removes."""
    path = Path(folder) / f"{os.getpid()}.part"
    try:
        path.write_text("half")
        time.sleep(60)
    finally:
        path.unlink()


@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_every_task_is_answered_once(jobs: int) -> None:
    assert dict(run_all(square, range(20), jobs)) == {n: n * n for n in range(20)}


def test_work_is_shared_by_processes_of_its_own() -> None:
    pids = {pid for _, pid in run_all(whoami, range(8), 2)}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_a_failure_keeps_its_words_and_ends_the_rest_at_once() -> None:
    start = time.monotonic()
    with pytest.raises(PackageError, match="bad package") as caught:
        list(run_all(fail, [0, 1, 2, 3], 2))
    assert caught.value.hint == "mend it"
    assert time.monotonic() - start < 10


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        list(run_all(bug, [1, 0], 2))
    assert "return 1 // number" in "".join(caught.value.__notes__)


def test_a_worker_that_dies_is_said() -> None:
    with pytest.raises(ToolError, match="SIGKILL"):
        list(run_all(die, [1, 2], 2))


def test_what_a_task_prints_does_not_spoil_the_answers() -> None:
    assert sorted(number for _, number in run_all(talk, [1, 2, 3], 2)) == [1, 2, 3]


SCRIPT = """
import sys
sys.path[:] = {path!r}
from test_workers import mark
from envbox.packages.link.workers import run_all
list(run_all(mark, [{folder!r}] * 2, 2))
"""


@pytest.mark.parametrize(
    ("how", "status"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_ending_the_parent_ends_the_workers_and_leaves_nothing(
    tmp_path: Path, how: signal.Signals, status: int
) -> None:
    path = [str(Path(__file__).parent), *sys.path]
    script = SCRIPT.format(path=path, folder=str(tmp_path))
    parent = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    workers: list[int] = []
    deadline = time.monotonic() + 30
    while len(workers) < 2 and time.monotonic() < deadline:
        workers = [int(p.stem) for p in tmp_path.glob("*.part")]
        time.sleep(0.02)
    parent.send_signal(how)
    assert parent.wait(30) == status
    if how == signal.SIGINT:
        assert not list(tmp_path.iterdir())
        assert not [pid for pid in workers if is_alive(pid)]
    for pid in workers:  # after SIGKILL a worker ends with the task that it has in hand
        if is_alive(pid):
            os.kill(pid, signal.SIGTERM)


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
