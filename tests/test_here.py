"""Sessions on this machine, without a container: the same prefix, at the same path, seen by nobody else."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support.host_project import ENVBOX, Place, exit_code

from envbox.errors import LaunchError
from envbox.files import held, is_held
from envbox.sessions.launch import host as sessions
from envbox.sessions.launch.bindings import Bind
from envbox.sessions.launch.caller_variables import ABSENT
from envbox.sessions.launch.container import Launch

needs_rig = pytest.mark.rig
NOWHERE = "unix:///there/is/none.sock"


def launch(**said: Any) -> Launch:
    given = {
        "image": "",
        "name": "e",
        "project": Path("/p"),
        "command": ("true",),
        "prefix": Path("/x/prefix"),
    }
    return Launch(**given | said)


# --- what it gets of this machine


def test_what_leads_python_elsewhere_is_left_out() -> None:
    environ = {
        "PATH": "/venv/bin:/conda/bin:/usr/bin",
        "HOME": "/home/me",
        "PYTHONPATH": "/mine",
        "PYTHONHOME": "/mine",
        "CONDA_PREFIX": "/conda",
        "VIRTUAL_ENV": "/venv",
        "LD_LIBRARY_PATH": "/old",
        "BASH_ENV": "/rc",
        "EDITOR": "vi",
        "LANG": "de_DE.UTF-8",
    }
    said = {"HOME": "/home/envbox", "PATH": "/opt/envbox/bin:/bin", "CONDA_PREFIX": "/opt/envbox"}
    assert sessions.here_env(launch(image_env=said), environ) == {
        "PATH": f"/opt/envbox/bin:{ABSENT}:/usr/bin",
        "HOME": "/home/me",
        "CONDA_PREFIX": "/opt/envbox",
        "PYTHONNOUSERSITE": "1",
        "R_LIBS_USER": "/dev/null",
        "JUPYTER_PREFER_ENV_PATH": "1",
        "EDITOR": "vi",
        "LANG": "de_DE.UTF-8",
    }


def test_what_is_asked_for_has_the_last_word() -> None:
    asked = launch(env={"PYTHONPATH": None, "D": "said", "GONE": None})
    found = sessions.here_env(asked, {"PYTHONPATH": "/mine", "D": "mine"})
    assert {name: found.get(name) for name in ("PYTHONPATH", "D", "GONE")} == {
        "PYTHONPATH": "/mine", "D": "said", "GONE": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"memory": "1g"}, "a limit on memory"),
        ({"cpus": "2"}, "a limit on CPUs"),
        ({"network": "none"}, "the network none"),
        ({"mounts": (Bind(Path("/a"), "/b"),)}, "volumes"),
    ],
)
def test_what_only_a_container_can_have_is_refused(said: dict[str, object], words: str) -> None:
    with pytest.raises(LaunchError, match=words) as caught:
        sessions.check_here(launch(**said))
    assert "--engine docker" in str(caught.value.hint)


def test_a_file_is_held_as_long_as_a_process_that_inherits_it(tmp_path: Path) -> None:
    path = tmp_path / "record"
    path.touch()
    handle = held(path)
    process = subprocess.Popen(["sleep", "60"], pass_fds=(handle,))
    os.close(handle)
    assert is_held(path)
    process.kill()
    process.wait()
    assert not is_held(path)
    assert not is_held(tmp_path / "none")


# --- for real


@pytest.fixture
def place(here: Place) -> Place:
    return here


@needs_rig
def test_python_is_the_environment_s_at_the_image_s_path(place: Place) -> None:
    code = "import os, sys; print(sys.prefix, os.environ['COLOUR'], os.getcwd(), sys.flags.no_user_site)"
    found = place.python(code, CONDA_PREFIX="/nowhere")
    assert found == f"/opt/envbox blue {place.root} 1"


@needs_rig
def test_nobody_else_sees_it_and_it_cannot_be_written(place: Place) -> None:
    before = sorted(path.name for path in Path("/opt").iterdir())
    inside = "import os; print(*sorted(os.listdir('/opt')), sep='|'); open('/opt/envbox/x', 'w')"
    done = place.run("run", "--engine", "host", "work", "--", "python", "-c", inside, check=False)
    assert done.stdout.strip().split("|") == sorted({*before, "envbox"})
    assert "Read-only file system" in done.stderr
    assert sorted(path.name for path in Path("/opt").iterdir()) == before


@needs_rig
def test_streams_exit_codes_and_arguments_are_the_command_s(place: Place) -> None:
    argv = [
        *ENVBOX,
        "run",
        "--engine",
        "host",
        "work",
        "--",
        "sh",
        "-c",
        'cat; echo "$1" >&2; exit 7',
        "x",
        "a b",
    ]
    done = subprocess.run(
        argv, cwd=place.root, env={**os.environ, **place.env}, input="in", capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr.splitlines()[-1]) == (7, "in", "a b")
    missing = place.run("run", "--engine", "host", "work", "--", "no-such-command", check=False)
    assert missing.returncode == 127


@needs_rig
def test_a_shell_shows_the_environment_and_reads_no_rc_file_of_the_user_s(
    place: Place, tmp_path: Path
) -> None:
    (tmp_path / ".bashrc").write_text("echo from the rc file\n")
    shell = place.shell(HOME=str(tmp_path))
    assert "from the rc file" not in str(shell.before)
    shell.sendline("echo $((40 + 2)) $CONDA_DEFAULT_ENV; exit 5")
    shell.expect("42 work")
    assert exit_code(shell) == 5


@needs_rig
def test_where_no_engine_answers_it_is_taken_and_said(place: Place) -> None:
    done = place.run("run", "work", "--", "python", "-c", "print(1)", DOCKER_HOST=NOWHERE)
    assert done.stdout == "1\n"
    assert "work: on this machine, without a container, since no container engine answers" in done.stderr
    asked = place.run("run", "--engine", "docker", "work", "--", "true", DOCKER_HOST=NOWHERE, check=False)
    assert asked.returncode == 1
    assert "no container engine answers" in asked.stderr


@needs_rig
def test_it_can_be_set(place: Place) -> None:
    code = "import sys; print(sys.prefix)"
    done = place.run("run", "work", "--", "python", "-c", code, ENVBOX_ENGINE="host", DOCKER_HOST=NOWHERE)
    assert done.stdout == "/opt/envbox\n"
    assert "without a container" not in done.stderr
    wrong = place.run("run", "work", "--", "true", ENVBOX_ENGINE="podman", check=False)
    assert "should be docker or host" in wrong.stderr


@needs_rig
def test_a_damaged_prefix_is_made_anew(place: Place) -> None:
    for tree in Path(place.env["ENVBOX_CACHE_DIR"]).glob("prefixes/trees/[!.]*/prefix"):
        (tree / "bin/python").unlink()
    assert place.python("print(1)") == "1"


@needs_rig
def test_a_prefix_in_use_is_not_cleaned_away(place: Place) -> None:
    argv = [*ENVBOX, "run", "--engine", "host", "work", "--", "python", "-c",
            "print(1, flush=True); input(); import json.tool, sqlite3; print(2)"]  # fmt: skip
    process = subprocess.Popen(
        argv, cwd=place.root, env={**os.environ, **place.env}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    place.run("clean", "prefixes")
    assert process.communicate("\n", timeout=60)[0] == "2\n"
    assert place.python("print(3)") == "3"


@needs_rig
def test_a_notebook_is_run_and_its_result_says_where(place: Place) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import sys; print(sys.prefix)")])
    nbformat.write(notebook, place.root / "a.ipynb")
    place.run("exec", "--engine", "host", "a.ipynb", DOCKER_HOST=NOWHERE)
    found = json.loads((place.root / "a.out.ipynb").read_bytes())
    assert found["cells"][0]["outputs"][0]["text"] == ["/opt/envbox\n"]
    assert found["metadata"]["envbox"]["prefix"].startswith("sha256:")
    assert found["metadata"]["envbox"]["lock"].startswith("sha256:")


@needs_rig
def test_a_server_without_a_container_cannot_be_left_behind(place: Place) -> None:
    detached = place.run("notebook", "--engine", "host", "--detach", "work", check=False)
    assert detached.returncode == 2
