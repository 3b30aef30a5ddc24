"""Notebooks are run in containers; whatever happens in them, what came until then is kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support.containers import Lab

from envbox.errors import NotebookError
from envbox.sessions.execution.batch import plan_results
from envbox.sessions.execution.surroundings import chosen
from envbox.sessions.launch.bindings import Bind
from envbox.sessions.launch.container import Launch

STAMP = {"environment": "lab"}
PYTHON = {"name": "python3", "display_name": "Python 3", "language": "python"}


def write(lab: Lab, name: str, *cells: str, tags: dict[int, str] | None = None, **metadata: Any) -> Path:
    """Write a notebook into the project; a cell by its place may have a tag."""
    made = [nbformat.v4.new_code_cell(source, metadata={"tags": []}) for source in cells]
    for index, tag in (tags or {}).items():
        made[index]["metadata"]["tags"] = [tag]
    notebook = nbformat.v4.new_notebook(
        cells=made, metadata={"kernelspec": PYTHON, "envbox": STAMP, **metadata}
    )
    path = lab.project / name
    path.parent.mkdir(exist_ok=True, parents=True)
    nbformat.write(notebook, path)
    return path


def result(lab: Lab, name: str) -> Any:
    """A result, which is valid."""
    made = nbformat.read(lab.project / name, as_version=nbformat.NO_CONVERT)
    nbformat.validate(made)
    return made


def text(made: Any, index: int) -> str:
    """What a cell has printed."""
    return "".join(o["text"] for o in made.cells[index].outputs if o["output_type"] == "stream")


@pytest.fixture
def clean(lab: Lab) -> Iterator[None]:
    """Nothing is left in the engine."""
    yield
    lab.wait_for_no_container()
    for path in lab.project.rglob("*.ipynb"):
        path.unlink()


# --- what needs no engine


def test_results_lie_beside_their_notebooks_or_where_they_are_told(tmp_path: Path) -> None:
    paths = [("a.ipynb", tmp_path / "a.ipynb"), ("a.out.ipynb", tmp_path / "a.out.ipynb")]
    assert plan_results(paths, None, in_place=False) == {"a.ipynb": tmp_path / "a.out.ipynb"}
    assert plan_results(paths[1:], None, in_place=False) == {"a.out.ipynb": tmp_path / "a.out.out.ipynb"}
    assert plan_results(paths[:1], None, in_place=True) == {"a.ipynb": tmp_path / "a.ipynb"}
    assert plan_results(paths[:1], tmp_path / "b.ipynb", in_place=False) == {"a.ipynb": tmp_path / "b.ipynb"}
    assert plan_results(paths[:1], tmp_path / "new", in_place=False) == {"a.ipynb": tmp_path / "new/a.ipynb"}


def test_two_results_in_one_place_are_refused(tmp_path: Path) -> None:
    paths = [("a.ipynb", tmp_path / "a.ipynb"), ("x/a.ipynb", tmp_path / "x/a.ipynb")]
    with pytest.raises(NotebookError, match="two notebooks"):
        plan_results(paths, tmp_path / "out", in_place=False)
    with pytest.raises(NotebookError, match="two notebooks"):
        plan_results(paths, tmp_path / "b.ipynb", in_place=False)


@pytest.mark.parametrize("out", ["file/b.ipynb", "file"])
def test_a_result_that_cannot_be_written_is_said_before_anything_runs(tmp_path: Path, out: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotebookError, match="cannot be written"):
        plan_results([("a.ipynb", tmp_path / "a.ipynb")], tmp_path / out, in_place=False)


def test_a_kernel_of_the_language_does_for_one_that_is_not_there() -> None:
    specs = {"python3": {"spec": {"language": "python"}}, "ir": {"spec": {"language": "R"}}}
    job = {"kernel": "my-env", "language": "python", "strict": False}
    assert chosen(specs, job) == "python3"
    assert chosen(specs, {**job, "kernel": "irkernel", "language": "r"}) == "ir"
    with pytest.raises(LookupError):
        chosen(specs, {**job, "language": "julia"})
    with pytest.raises(LookupError):
        chosen(specs, {**job, "strict": True})


def test_a_result_names_the_lock_and_the_image_or_the_prefix() -> None:
    from envbox.sessions.execution.record import made_by

    launch = Launch("sha256:1", "maps", Path("/p"), (), labels={"io.envbox.lock": "sha256:2"})
    assert {"environment": "maps", "lock": "sha256:2", "image": "sha256:1"}.items() <= made_by(launch).items()
    mounted = Launch("sha256:1", "maps", Path("/p"), (), mounts=(Bind(Path("/c/KEY/prefix"), "/opt/envbox"),))
    assert made_by(mounted)["prefix"] == "sha256:KEY"
    assert "image" not in made_by(mounted)


# --- the real thing


@pytest.mark.rig
def test_a_notebook_is_run_in_its_environment_and_the_result_says_so(lab: Lab, clean: None) -> None:
    source = write(
        lab, "deep er/a.ipynb", "n = 1", "import sys, os, numpy\nprint(n, sys.prefix, os.getcwd())\nn", "1/0",
        "never", "from IPython.display import display\nh = display(1, display_id='x')",
        "h.update(2)", "  ",
        tags={0: "parameters", 2: "raises-exception", 3: "skip-execution"},
    )  # fmt: skip
    before = source.read_bytes()
    done = lab.run("exec", "deep er/a.ipynb", "-p", "n=5", "--html")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["deep er/a.out.ipynb", "deep er/a.out.html"]
    assert source.read_bytes() == before
    assert "[3/8] import sys, os, numpy  " in done.stderr
    made = result(lab, "deep er/a.out.ipynb")
    assert text(made, 2) == "5 /opt/envbox /work/deep er\n"
    assert made.cells[2].outputs[1].data["text/plain"] == "5"
    assert made.cells[3].outputs[0].ename == "ZeroDivisionError"
    assert made.cells[4].outputs == []
    assert made.cells[5].outputs[0].data["text/plain"] == "2"
    stamp = made.metadata["envbox"]
    assert stamp["environment"] == "lab"
    assert stamp["lock"].startswith("sha256:")
    assert stamp["image"] == lab.image
    assert made.metadata.language_info["name"] == "python"
    assert "ZeroDivisionError" in (lab.project / "deep er/a.out.html").read_text()


@pytest.mark.rig
def test_the_same_notebook_gives_the_same_result(lab: Lab, clean: None) -> None:
    write(lab, "a.ipynb", "print(1)", "{1: 2}")
    results = []
    for _ in range(2):
        assert lab.run("-q", "exec", "a.ipynb").returncode == 0
        results.append((lab.project / "a.out.ipynb").read_bytes())
    assert results[0] == results[1]
    assert lab.run("-q", "exec", "a.out.ipynb", "a.ipynb", "--inplace").returncode == 0
    assert (lab.project / "a.out.ipynb").read_bytes() == results[0]


@pytest.mark.rig
@pytest.mark.parametrize(
    ("cells", "words", "index"),
    [
        (("print(1)", "x = 1\nraise OSError('a\\nb')"), ["cell 2 failed: OSError", "x = 1", "In[2]"], 1),
        (("print(1)", "input('who? ')"), ["cell 2 asks for input", "hint: make it a parameter"], 1),
        (("print(1)", "import os; os.kill(os.getpid(), 11)"), ["cell 2 was ended", "signal 11"], 1),
        (("print(1)", "import os; os._exit(3)"), ["cell 2 was ended", "exit code 3"], 1),
        (("print(1)", "import sys; sys.stdin.read(); 1/0"), ["cell 2 failed: ZeroDivisionError"], 1),
        (("print(1)", "def f(:"), ["cell 2 failed: SyntaxError"], 1),
        (("print(1)", "import cv2"), ["cell 2 failed: ModuleNotFoundError", "hint: opencv has it"], 1),
    ],
)  # fmt: skip
def test_a_failure_has_the_cells_number_source_and_traceback(
    lab: Lab, clean: None, cells: tuple[str, ...], words: list[str], index: int
) -> None:
    write(lab, "a.ipynb", *cells, "print('not reached')")
    done = lab.run("exec", "a.ipynb")
    assert done.returncode == 1
    assert f"error: a.ipynb: cell {index + 1} " in done.stderr
    assert not [word for word in words if word not in done.stderr], done.stderr
    made = result(lab, "a.out.ipynb")
    assert text(made, 0) == "1\n"
    assert made.cells[-1].outputs == []


@pytest.mark.rig
def test_for_want_of_memory_the_kernel_is_killed_and_it_is_said(lab: Lab, clean: None) -> None:
    write(lab, "a.ipynb", "print(1)", "x = b'x' * (600 << 20)")
    done = lab.run("exec", "a.ipynb", "--memory", "200m")
    assert done.returncode == 1
    assert "cell 2 was ended: the kernel was killed, out of memory, of which it has 200m" in done.stderr
    assert "--memory" in done.stderr.partition("hint:")[2]
    assert text(result(lab, "a.out.ipynb"), 0) == "1\n"


@pytest.mark.rig
def test_what_is_printed_without_end_is_bounded_and_a_timeout_ends_it(lab: Lab, clean: None) -> None:
    write(lab, "a.ipynb", "while True:\n    print('x' * 1000)")
    done = lab.run("exec", "a.ipynb", "--timeout", "2")
    assert done.returncode == 1
    assert "puts out more than is kept" in done.stderr
    assert "cell 1 took longer than 2 s" in done.stderr
    assert (lab.project / "a.out.ipynb").stat().st_size < 10 << 20
    assert "the rest is left out" in text(result(lab, "a.out.ipynb"), 0)


@pytest.mark.rig
def test_a_cell_that_takes_no_notice_of_an_interrupt_is_ended_all_the_same(lab: Lab, clean: None) -> None:
    ignore = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('on', flush=True)"
    write(lab, "a.ipynb", f"{ignore}\nwhile True: time.sleep(1)")
    done = lab.run("exec", "a.ipynb", "--timeout", "1")
    assert done.returncode == 1
    assert "cell 1 took longer than 1 s" in done.stderr
    assert text(result(lab, "a.out.ipynb"), 0) == "on\n"


@pytest.mark.rig
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)]
)
def test_stopped_it_keeps_what_there_is_and_leaves_no_container(
    lab: Lab, clean: None, number: int, code: int
) -> None:
    write(lab, "a.ipynb", "open('begun', 'w').close(); print('on', flush=True)\nimport time; time.sleep(600)")
    (lab.project / "begun").unlink(missing_ok=True)
    process = subprocess.Popen(
        lab.argv("exec", "a.ipynb"), env=lab.environ, stderr=subprocess.PIPE, text=True
    )
    for _ in range(300):
        if (lab.project / "begun").exists():
            break
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    lab.wait_for_no_container()
    if number != signal.SIGKILL:
        assert text(result(lab, "a.out.ipynb"), 0) == "on\n"


@pytest.mark.rig
def test_children_of_a_fork_are_no_harm(lab: Lab, clean: None) -> None:
    write(
        lab, "a.ipynb",
        "import os\nif os.fork() == 0:\n    print('child'); os._exit(0)\nprint('parent', os.wait()[1])",
        "import os; os.fork()\nprint('both')", "print('end')",
    )  # fmt: skip
    done = lab.run("exec", "a.ipynb", "--timeout", "60")
    assert done.returncode == 0, done.stderr
    made = result(lab, "a.out.ipynb")
    assert set(text(made, 0).splitlines()) == {"child", "parent 0"}
    assert text(made, 2) == "end\n"


@pytest.mark.rig
def test_many_at_once_and_each_failure_is_named(lab: Lab, clean: None) -> None:
    write(lab, "a.ipynb", "print('a')")
    write(lab, "b.ipynb", "1/0")
    write(lab, "c.ipynb", "print('c')")
    write(lab, "d.ipynb", "raise KeyError('d')")
    (lab.project / "e.ipynb").write_text("{not json")
    (lab.project / "f.ipynb").write_text('{"nbformat": 9, "nbformat_minor": 0, "metadata": {}, "cells": []}')
    names = [f"{letter}.ipynb" for letter in "abcd"]
    done = lab.run("exec", *names, "--jobs", "2", "-o", "res/", "-n", "lab")
    assert done.returncode == 1
    assert sorted(done.stdout.split()) == [f"res/{name}" for name in names]
    end = done.stderr[done.stderr.index("2 of 4 notebooks failed") :]
    assert "b.ipynb: cell 1 failed: ZeroDivisionError: division by zero" in end
    assert "d.ipynb: cell 1 failed: KeyError" in end
    assert text(result(lab, "res/c.ipynb"), 0) == "c\n"
    done = lab.run("exec", "e.ipynb", "f.ipynb", "a.ipynb", "-n", "lab")
    assert done.returncode == 1
    assert "e.ipynb is not a notebook" in done.stderr
    assert "of format 9" in done.stderr
    assert done.stdout.split() == ["a.out.ipynb"]


@pytest.mark.rig
def test_a_large_notebook_of_an_old_format_without_a_kernelspec(lab: Lab, clean: None) -> None:
    large = nbformat.v3.new_output("stream", "x" * (50 << 20))
    cell = nbformat.v3.new_code_cell(input="print('old')", outputs=[large])
    old = nbformat.v3.new_notebook(worksheets=[nbformat.v3.new_worksheet(cells=[cell])])
    (lab.project / "a.ipynb").write_text(json.dumps(old))
    done = lab.run("exec", "a.ipynb", "-n", "lab", "-o", "b.ipynb")
    assert done.returncode == 0, done.stderr
    made = result(lab, "b.ipynb")
    assert made.nbformat == 4
    assert text(made, 0) == "old\n"
    assert made.metadata.kernelspec["name"] == "python3"


@pytest.mark.rig
def test_a_kernel_of_another_name_is_taken_and_said_unless_it_was_asked_for(lab: Lab, clean: None) -> None:
    write(lab, "a.ipynb", "print(1)", kernelspec={**PYTHON, "name": "conda-env-old"})
    done = lab.run("exec", "a.ipynb")
    assert done.returncode == 0, done.stderr
    assert "run with the kernel python3, since there is no conda-env-old" in done.stderr
    done = lab.run("exec", "a.ipynb", "-k", "julia")
    assert done.returncode == 1
    assert "there is no kernel julia in lab" in done.stderr
    assert "there is python3" in done.stderr


@pytest.mark.rig
def test_modules_of_the_notebooks_folder_are_its_own_and_not_the_drivers(lab: Lab, clean: None) -> None:
    path = write(lab, "in/a.ipynb", "import queue\nprint(queue.OURS)")
    (path.parent / "queue.py").write_text(
        "from _queue import Empty, SimpleQueue\nOURS = 'ours'\nQueue = LifoQueue = Full = Empty\n"
    )
    (path.parent / "jupyter_client.py").write_text("1/0")
    done = lab.run("exec", "in/a.ipynb")
    assert "jupyter_client.py" not in done.stderr
    assert (lab.project / "in/a.out.ipynb").exists()


@pytest.mark.rig
def test_without_a_kernel_the_way_out_is_said(lab: Lab, clean: None, tmp_path: Path) -> None:
    (tmp_path / "environment.yml").write_text("channels: [conda-forge]\ndependencies: [python]\n")
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")]), tmp_path / "a.ipynb")
    argv = [*lab.argv()[:3], "-C", str(tmp_path), "exec", "a.ipynb"]
    done = subprocess.run(argv, env=lab.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "there is no kernel in" in done.stderr
    assert "ipykernel" in done.stderr.partition("hint:")[2]


@pytest.mark.rig
def test_nothing_of_the_notebook_stands_in_an_argument_list(lab: Lab, clean: None) -> None:
    write(
        lab,
        "a.ipynb",
        "n = 0",
        "open('begun', 'w').close(); import time; time.sleep(3)",
        tags={0: "parameters"},
    )
    (lab.project / "begun").unlink(missing_ok=True)
    environ = {**lab.environ, "ENVBOX_TEST_SECRET": "geheim"}
    argv = lab.argv("exec", "a.ipynb", "--env", "ENVBOX_TEST_SECRET")
    process = subprocess.Popen(argv, env=environ)
    while not (lab.project / "begun").exists() and process.poll() is None:
        time.sleep(0.1)
    lines = b"".join(p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if os.access(p, os.R_OK))
    assert process.wait() == 0
    assert b"time.sleep(3)" not in lines
    assert b"geheim" not in lines
