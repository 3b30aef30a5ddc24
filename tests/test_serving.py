"""`envbox notebook` where machines are awkward: on the command line, as people meet it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
from support.containers import Lab
from support.jupyter_page import call, execute

from envbox.sessions.jupyter.server import FIRST_PORT, PORTS_TRIED

pytestmark = pytest.mark.rig


@contextmanager
def at(lab: Lab, project: Path) -> Iterator[Lab]:
    """The lab's project at another place; its server is gone at the end."""
    shutil.copytree(lab.project, project)
    there = replace(lab, project=project)
    try:
        yield there
    finally:
        there.run("stop", "lab")
        there.forget()


@pytest.fixture
def place(lab: Lab, tmp_path: Path) -> Iterator[Lab]:
    with at(lab, tmp_path / "project") as there:
        yield there


def files(url: str) -> list[str]:
    """What a server lists of its root."""
    found = urlsplit(url)
    with urlopen(f"{found.scheme}://{found.netloc}/api/contents?{found.query}", timeout=30) as answer:
        return [entry["name"] for entry in json.load(answer)["content"]]


@pytest.mark.parametrize(
    "name", ["with space", "with:colon", "mit ü und 地図", 'comma, "quotes"', "two\nlines", "$HOME", "-d"]
)
def test_any_folder_is_served_found_again_and_stopped(lab: Lab, tmp_path: Path, name: str) -> None:
    with at(lab, tmp_path / name) as there:
        first = there.run("notebook", "lab", "--detach")
        assert first.returncode == 0, first.stderr
        assert "data.txt" in files(first.stdout.strip())
        again = there.run("notebook", "lab", "--detach", "--json")
        assert json.loads(again.stdout)["url"] == first.stdout.strip()
        assert json.loads(again.stdout)["project"] == str(there.project)
        assert there.run("run", "lab", "--", "cat", "data.txt").stdout == "of the project\n"
        assert there.run("stop").stderr == "stopped lab\n"
        assert there.containers() == []


def test_a_folder_whose_name_is_no_text_is_refused_with_a_way_out(lab: Lab, tmp_path: Path) -> None:
    project = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    shutil.copytree(lab.project, project)
    for command in (["notebook", "lab", "-d"], ["run", "lab", "--", "true"]):
        done = subprocess.run(
            replace(lab, project=project).argv(*command),
            env=lab.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert "its name is not UTF-8" in done.stderr
        assert "hint: rename the folder, or do without a container: --engine host" in done.stderr


@pytest.fixture
def read_only(place: Lab) -> Iterator[Lab]:
    """A project that nobody can write to: root too."""
    folder = str(place.project)
    if subprocess.run(["mount", "--bind", folder, folder], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        yield place
    finally:
        place.run("stop", "lab")
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_read_only_project_is_served_and_said_to_be(read_only: Lab) -> None:
    done = read_only.run("notebook", "lab", "--detach")
    assert done.returncode == 0, done.stderr
    assert f"warning: {read_only.project} is read-only for you" in done.stderr
    assert "data.txt" in files(done.stdout.strip())
    assert "Read-only file system" in read_only.run("run", "lab", "--", "touch", "new").stderr
    notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": []}
    outside = read_only.project.parent / "a.ipynb"
    outside.write_text(json.dumps(notebook))
    inside = read_only.run("exec", str(outside), "-n", "lab", "-o", str(read_only.project / "out.ipynb"))
    assert inside.returncode == 1
    assert "the result cannot be written to" in inside.stderr


@pytest.mark.parametrize("home", [None, "", "/nowhere/home", "not/absolute"])
def test_a_home_that_is_missing_is_no_matter(place: Lab, home: str | None) -> None:
    environ = {key: value for key, value in place.environ.items() if key != "HOME"}
    there = replace(place, environ=environ if home is None else {**environ, "HOME": home})
    if home is None:
        assert "HOME" not in there.environ
    assert there.run("run", "lab", "--", "sh", "-c", "echo $HOME").stdout == "/home/envbox\n"
    done = there.run("notebook", "lab", "--detach")
    assert done.returncode == 0, done.stderr
    assert "data.txt" in files(done.stdout.strip())


def test_a_home_that_cannot_be_written_is_said_with_the_way_out(place: Lab) -> None:
    environ = {key: value for key, value in place.environ.items() if key != "ENVBOX_CACHE_DIR"}
    environ = {key: value for key, value in environ.items() if not key.startswith("XDG_")}
    there = replace(place, environ={**environ, "HOME": "/proc/nobody"})
    done = there.run("notebook", "lab", "--detach")
    assert done.returncode == 1
    assert "/proc/nobody/.cache/envbox" in done.stderr
    assert "hint: set ENVBOX_CACHE_DIR" in done.stderr


def test_when_all_ports_are_taken_it_is_said_and_one_can_be_named(place: Lab) -> None:
    with ExitStack() as stack:
        for port in range(FIRST_PORT, FIRST_PORT + PORTS_TRIED):
            taken = stack.enter_context(socket.socket())
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # whatever closed lately
            with suppress(OSError):  # somebody else has it, which is as good
                taken.bind(("127.0.0.1", port))
                taken.listen()
        done = place.run("notebook", "lab", "--detach")
        assert done.returncode == 1
        last = FIRST_PORT + PORTS_TRIED - 1
        assert f"error: all ports from {FIRST_PORT} to {last} are taken" in done.stderr
        assert "hint: name one: --server-port PORT" in done.stderr
        assert place.containers() == []
        named = place.run("notebook", "lab", "--detach", "--server-port", str(place.free_port()))
        assert named.returncode == 0, named.stderr


@pytest.mark.parametrize("browser", ["/nowhere/browser", "/bin/false"])
def test_a_browser_that_cannot_be_opened_is_said_and_the_address_stands(place: Lab, browser: str) -> None:
    environ = {
        key: value for key, value in place.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")
    }
    there = replace(place, environ={**environ, "BROWSER": browser})
    detached = there.run("notebook", "lab", "--detach")
    done = there.run("notebook", "lab")
    assert done.returncode == 0
    assert done.stdout == detached.stdout
    assert "warning: no browser could be opened" in done.stderr
    assert "warning" not in there.run("notebook", "lab", "--no-browser").stderr


def test_a_dead_container_that_holds_the_name_is_replaced(place: Lab) -> None:
    first = json.loads(place.run("notebook", "lab", "--detach", "--json").stdout)
    subprocess.run(["docker", "kill", first["container"]], check=True, capture_output=True)
    second = json.loads(place.run("notebook", "lab", "--detach", "--json").stdout)
    assert second["container"] == first["container"]
    assert second["url"] != first["url"]
    assert "data.txt" in files(second["url"])
    assert place.containers() == [first["container"]]


def test_a_server_that_is_paused_is_named_and_not_waited_for(place: Lab) -> None:
    first = json.loads(place.run("notebook", "lab", "--detach", "--json").stdout)
    subprocess.run(["docker", "pause", first["container"]], check=True, capture_output=True)
    done = place.run("notebook", "lab", "--detach")
    assert done.returncode == 1
    assert "a server of lab is there already, but it is paused" in done.stderr
    assert f"hint: docker unpause {first['container']}" in done.stderr
    assert place.run("stop", "lab").returncode == 0
    assert place.containers() == []


def test_the_page_that_is_asked_for_is_one_that_the_server_has(place: Lab) -> None:
    first = place.run("notebook", "lab", "--lab", "--detach")
    assert urlsplit(first.stdout).path == "/lab"
    again = place.run("notebook", "lab", "--lab", "--detach")
    assert again.stdout == first.stdout
    assert "warning" not in again.stderr


def test_a_server_that_is_not_used_ends_and_leaves_nothing(place: Lab) -> None:
    """Jupyter looks at it once a minute."""
    done = place.run("notebook", "lab", "--no-browser", "--idle-timeout", "0.1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("http://127.0.0.1:")
    assert place.containers() == []


def test_settings_and_history_outlive_a_server_and_lie_outside_of_the_project(place: Lab) -> None:
    before = sorted(path.name for path in place.project.iterdir())
    setting = "/lab/api/settings/@jupyterlab/apputils-extension:themes"
    history = "str(get_ipython().history_manager.hist_file)"

    def start() -> str:
        return place.run("notebook", "lab", "--detach").stdout.strip()

    url = start()
    call(url, setting, "PUT", {"raw": '{"theme": "JupyterLab Dark"}'})
    execute(url, f"open({history} + '.mark', 'w').write('kept')")
    (runtime,) = execute(url, "import jupyter_core.paths as p; print(p.jupyter_runtime_dir())").splitlines()
    assert runtime == "/home/envbox/.local/share/jupyter/runtime"
    assert place.run("stop", "lab").returncode == 0
    url = start()
    assert json.loads(call(url, setting)["raw"]) == {"theme": "JupyterLab Dark"}
    assert execute(url, f"print(open({history} + '.mark').read())") == "kept\n"
    assert sorted(path.name for path in place.project.iterdir()) == before
    assert place.run("stop", "lab", "--forget").returncode == 0
    url = start()
    assert "Dark" not in call(url, setting)["raw"]


def test_a_folder_of_ones_own_goes_before_the_volume(place: Lab, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    done = place.run("notebook", "lab", "-d", "--volume", f"{tmp_path}/own:/home/envbox/.jupyter")
    setting = "/lab/api/settings/@jupyterlab/apputils-extension:themes"
    call(done.stdout.strip(), setting, "PUT", {"raw": '{"theme": "JupyterLab Dark"}'})
    assert list((tmp_path / "own").rglob("themes.jupyterlab-settings"))
