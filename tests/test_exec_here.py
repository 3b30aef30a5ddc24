"""Notebooks run on this machine: what may be lost, whose kernel it is, and how a failure is told."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support.host_project import Place

from envbox.sessions.execution.surroundings import no_start_up

pytestmark = pytest.mark.rig
PRECIOUS = "precious result of 10 hours\n"


def write(place: Place, name: str, *cells: str, **metadata: Any) -> Path:
    """Write a notebook whose first cell has an output already."""
    made = [nbformat.v4.new_code_cell(source) for source in cells]
    made[0].outputs = [nbformat.v4.new_output("stream", text=PRECIOUS)]
    for number, cell in enumerate(made):
        cell["id"] = f"c{number}"
    path = place.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": kernel, **metadata}), path)
    return path


def execute(place: Place, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `exec` on this machine, to any end."""
    return place.run("exec", "--engine", "host", "-n", "work", *arguments, check=False, **env)


def text(path: Path, index: int = 0) -> str:
    """What a cell has printed."""
    outputs = json.loads(path.read_bytes())["cells"][index]["outputs"]
    return "".join("".join(o["text"]) for o in outputs if o["output_type"] == "stream")


# --- nothing is lost


@pytest.mark.parametrize("arguments", [("--inplace",), ("-o", "a.ipynb")])
def test_until_a_first_cell_has_begun_the_target_stays_to_the_byte(
    here: Place, arguments: tuple[str, ...]
) -> None:
    path = write(here, "a.ipynb", "print(1)", widgets={"application/vnd.jupyter.widget-state+json": {}})
    before, times = path.read_bytes(), path.stat().st_mtime_ns
    done = execute(here, "a.ipynb", *arguments, "--kernel", "nowhere")
    assert done.returncode == 1
    assert "there is no kernel nowhere" in done.stderr
    assert done.stdout == ""
    assert "what was put out" not in done.stderr
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, times)


def test_a_result_goes_through_links_and_keeps_the_mode(here: Place) -> None:
    real = write(here, "real/a.ipynb", "print(1)")
    real.chmod(0o640)
    link = here.root / "link.ipynb"
    link.unlink(missing_ok=True)
    link.symlink_to(real)
    done = execute(here, "link.ipynb", "--inplace")
    assert done.returncode == 0, done.stderr
    assert link.is_symlink()
    assert text(real) == "1\n"
    assert real.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(("cells", "code"), [(("print(1)",), 1), (("print(1)", "1/0"), 1)])
def test_where_the_disk_is_full_at_the_end_the_result_is_kept_and_the_place_is_named(
    here: Place, tmp_path: Path, cells: tuple[str, ...], code: int
) -> None:
    write(here, "a.ipynb", *cells)
    full = here.root / "full.ipynb"
    full.unlink(missing_ok=True)
    full.symlink_to("/dev/full")
    words = ("--trust", "exec", "--engine", "host", "-n", "work", "a.ipynb", "-o", "full.ipynb")
    done = here.run(*words, check=False, TMPDIR=str(tmp_path))  # the link leads out of the project
    assert done.returncode == code
    assert "no space left" in done.stderr
    assert full.is_symlink()
    (kept,) = tmp_path.glob("envbox-*.ipynb")
    assert f"the result is kept in {kept}" in " ".join(done.stderr.split())
    assert text(kept) == "1\n"
    assert kept.stat().st_mode & 0o777 == 0o600


# --- nothing of another environment's


def test_only_the_environment_s_kernels_count_and_no_start_up_of_the_user_s_runs(
    here: Place, tmp_path: Path
) -> None:
    marker = tmp_path / "ran"
    marker.touch()
    code = f"import sys; open({str(marker)!r}, 'a').write(sys.prefix)"
    theirs = {"argv": ["sh", "-c", f"echo theirs >{marker}", "{connection_file}"], "display_name": "x",
              "language": "python"}  # fmt: skip
    for folder in ("data", "path", "home/.local/share/jupyter", "ipython"):
        for name in ("myenv", "python3"):
            spec = tmp_path / folder / "kernels" / name / "kernel.json"
            spec.parent.mkdir(parents=True)
            spec.write_text(json.dumps(theirs))
    for folder in ("home/.ipython", "ipython"):
        profile = tmp_path / folder / "profile_default"
        (profile / "startup").mkdir(parents=True)
        (profile / "startup/00.py").write_text(code)
        (profile / "ipython_config.py").write_text(code)
    for name in ("sitecustomize.py", "usercustomize.py", "start.py"):
        (tmp_path / "path" / name).write_text(code)
    kernel = {"name": "myenv", "display_name": "x", "language": "python"}
    write(here, "b14.ipynb", "import sys; print(sys.executable)", "import os; print(os.environ['HOME'])",
          kernelspec=kernel)  # fmt: skip
    done = execute(
        here, "b14.ipynb", HOME=str(tmp_path / "home"), JUPYTER_DATA_DIR=str(tmp_path / "data"),
        JUPYTER_PATH=str(tmp_path / "path"), IPYTHONDIR=str(tmp_path / "ipython"),
        PYTHONPATH=str(tmp_path / "path"), PYTHONSTARTUP=str(tmp_path / "path/start.py"),
        TMPDIR=str(tmp_path),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "run with the kernel python3, since there is no myenv" in done.stderr
    assert text(here.root / "b14.out.ipynb") == "/opt/envbox/bin/python\n"
    assert text(here.root / "b14.out.ipynb", 1) == f"{tmp_path}/home\n"
    ran = marker.read_text()  # by envbox's own Python at most, which is the user's
    assert "/opt/envbox" not in ran
    assert "theirs" not in ran
    assert not list(tmp_path.glob("envbox-*"))  # what the kernel had for itself
    assert not list(tmp_path.rglob("kernel-*.json"))


def test_what_is_asked_for_runs(here: Place, tmp_path: Path) -> None:
    startup = tmp_path / "profile_default/startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("ASKED = 'asked for'")
    write(here, "a.ipynb", "print(ASKED)")
    done = execute(here, "a.ipynb", "--env", f"IPYTHONDIR={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert text(here.root / "a.out.ipynb") == "asked for\n"


def test_r_starts_with_the_project_s_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert no_start_up("/p", {})["R_PROFILE_USER"] == "/dev/null"
    (tmp_path / ".Rprofile").touch()
    assert "R_PROFILE_USER" not in no_start_up("/p", {})
    assert "R_ENVIRON_USER" not in no_start_up("/p", {"R_ENVIRON_USER": "/mine"})


def test_a_notebook_cannot_install_into_the_machine(here: Place) -> None:
    write(here, "a.ipynb", "!pip install x")
    execute(here, "a.ipynb")
    assert "there is no pip in work" in text(here.root / "a.out.ipynb")


# --- cells are run as nbclient runs them

OUTPUT_WIDGET = """\
import sys
from comm import create_comm
from IPython import get_ipython
from IPython.display import clear_output
kernel = get_ipython().kernel
heard = []
state = {"_model_name": "OutputModel", "_model_module": "@jupyter-widgets/output", "outputs": []}
made = create_comm(target_name="jupyter.widget", data={"state": state, "buffer_paths": []})
made.on_msg(lambda message: heard.append(message["content"]["data"]["state"]["outputs"]))
def claim(on):
    sys.stdout.flush()
    request = kernel.get_parent("shell")["header"]["msg_id"] if on else ""
    made.send({"method": "update", "state": {"msg_id": request}, "buffer_paths": []})
"""


def test_a_widget_takes_what_it_has_claimed_and_the_kernel_is_told(here: Place) -> None:
    claimed = "claim(True); print('in'); clear_output(); print('claimed'); claim(False)"
    write(here, "a.ipynb", OUTPUT_WIDGET, f"print('before'); {claimed}; print('after')", "print(heard)")
    done = execute(here, "a.ipynb")
    assert done.returncode == 0, done.stderr
    path = here.root / "a.out.ipynb"
    assert text(path, 1) == "before\nafter\n"
    assert "'text': 'claimed\\n'" in text(path, 2)
    widgets = json.loads(path.read_bytes())["metadata"]["widgets"][
        "application/vnd.jupyter.widget-state+json"
    ]
    (widget,) = widgets["state"].values()
    assert [o["text"] for o in widget["state"]["outputs"]] == ["claimed\n"]


@pytest.mark.parametrize("value", ["0", "", "None"])
def test_sys_exit_ends_a_notebook_well(here: Place, value: str) -> None:
    write(here, "a.ipynb", "print(1)", f"import sys; sys.exit({value})", "print('not reached')", "2")
    done = execute(here, "a.ipynb")
    assert done.returncode == 0, done.stderr
    assert "cell 2 has ended the notebook; 2 cells behind it did not run" in done.stderr
    assert text(here.root / "a.out.ipynb", 2) == ""


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import sys; sys.exit(3)", "failed: SystemExit: 3"),
        ("%no_such_magic", "failed: UsageError: Line magic function `%no_such_magic` not found."),
        ("get_ipython().set_custom_exc((KeyError,), lambda *a, **k: None); {}['x']", "failed: KeyError: 'x'"),
        ("raise ExceptionGroup('several', [ValueError('one'), OSError('two')])", "ValueError: one"),
    ],
)
def test_a_failure_says_what_the_kernel_said(here: Place, source: str, words: str) -> None:
    write(here, "a.ipynb", *source.split("; ", 1) if source.startswith("get") else [source], "print('never')")
    done = execute(here, "a.ipynb")
    assert done.returncode == 1
    assert words in done.stderr
    assert text(here.root / "a.out.ipynb", -1) == ""


def test_errors_may_be_allowed_and_halves_of_pairs_are_written(here: Place) -> None:
    path = write(
        here, "a.ipynb", "1/0", "print('a\\udc80b')", "print('end')", execution={"allow_errors": True}
    )
    path.write_text(path.read_text().replace("print('end')", "print('\\ud83d')"))
    done = execute(here, "a.ipynb", "--html")
    assert done.returncode == 0, done.stderr
    result = here.root / "a.out.ipynb"
    nbformat.validate(nbformat.read(result, as_version=nbformat.NO_CONVERT))
    assert json.loads(result.read_bytes())["cells"][0]["outputs"][0]["ename"] == "ZeroDivisionError"
    assert text(result, 1) == "a\ufffdb\n"
    assert text(result, 2) == "\ufffd\n"


# --- a kernel that does not start


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("types.py", "raise SystemExit(3)", "the kernel died, with exit code 3 while it started"),
        ("ipykernel_launcher.py", "raise ImportError('broken ipykernel')", "ImportError: broken ipykernel"),
    ],
)
def test_a_kernel_that_dies_at_its_start_says_why_and_who_is_in_its_way(
    here: Place, name: str, code: str, words: str
) -> None:
    path = write(here, f"{Path(name).stem}/a.ipynb", "print(1)")
    (path.parent / name).write_text(code)
    done = execute(here, f"{path.parent.name}/a.ipynb", "--inplace")
    assert done.returncode == 1
    assert words in done.stderr
    assert f"hint: {name} in {path.parent} stands before a module" in done.stderr
    assert "ipykernel\n" not in done.stderr.partition("hint:")[2]
    assert text(path) == PRECIOUS
