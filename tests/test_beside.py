"""A Jupyter server beside an environment that has none: its own prefix, and the environment's kernels."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen
from uuid import uuid4

import pytest
from support.containers import Lab
from support.jupyter_page import call, execute

from envbox.engine.find import connect
from envbox.image_paths import JUPYTER
from envbox.report import SILENT
from envbox.sessions.jupyter.command import beside_env, server_launch
from envbox.sessions.jupyter.own_server import JupyterTarget, obtain_jupyter
from envbox.sessions.launch.container import Launch, options_digest, run_argv
from envbox.sessions.launch.host import here_argv
from envbox.sessions.launch.identity import User

if TYPE_CHECKING:
    from conftest import Rig

LAUNCH = Launch("sha256:1", "kern", Path("/home/ada/p"), (), user=User(1234, 100, "ada", "users"))
BESIDE = replace(LAUNCH, jupyter=Path("/cache/tree/prefix"))
FACTS = """\
import importlib.util, json, os, shutil, sys
found = importlib.util.find_spec
print(json.dumps([sys.prefix, bool(found("jupyterlab")), bool(found("six")), shutil.which("jupyter-lab")]))
"""


# --- what is started


def test_its_prefix_is_mounted_read_only_at_a_place_of_its_own() -> None:
    mount = "type=bind,source=/cache/tree/prefix,target=/opt/envbox-jupyter,readonly"
    assert mount in run_argv(BESIDE, ("docker",))
    assert mount not in run_argv(LAUNCH, ("docker",))
    here = here_argv(replace(BESIDE, prefix=Path("/cache/env/prefix")))
    assert "/cache/env/prefix /opt/envbox /cache/tree/prefix /opt/envbox-jupyter --" in " ".join(here)


def test_its_programs_are_named_by_path_and_the_environments_by_name() -> None:
    command = server_launch(BESIDE, 8890, Path("/t")).command
    assert command[5:7] == (f"{JUPYTER}/bin/", "/opt/envbox/share/jupyter/kernels")
    command = server_launch(LAUNCH, 8890, Path("/t")).command
    assert command[4:7] == ("jupyter-lab jupyter-notebook jupyter-server", "", "")


@pytest.mark.parametrize(
    ("env", "path"),
    [
        ({}, "/opt/envbox/share/jupyter"),
        ({"JUPYTER_PATH": "/mine"}, "/mine:/opt/envbox/share/jupyter"),
        ({"JUPYTER_PATH": None}, "/callers:/opt/envbox/share/jupyter"),
    ],
)
def test_it_is_led_to_the_environments_kernels_and_extensions(
    env: dict[str, Any], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_PATH", "/callers")
    here = beside_env(replace(BESIDE, prefix=Path("/p"), seen_at="/p"), os.environ)["JUPYTER_PATH"]
    assert here == "/p/share/jupyter"
    assert server_launch(replace(BESIDE, env=env), 8890, Path("/t")).env["JUPYTER_PATH"] == path
    assert server_launch(replace(LAUNCH, env=env), 8890, Path("/t")).env.get("JUPYTER_PATH") == env.get(
        "JUPYTER_PATH"
    )


def test_another_version_of_it_is_no_other_option_of_the_launch() -> None:
    other = replace(BESIDE, jupyter=Path("/cache/newer/prefix"))
    assert options_digest(BESIDE, {}, "k") == options_digest(other, {}, "k")


# --- the real thing


@pytest.fixture(scope="module")
def place(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A project with an environment that has a kernel and no server, and one that has neither."""
    project = tmp_path_factory.mktemp("beside") / "with space"
    (project / "environments").mkdir(parents=True)
    for name, packages in (("kern", "python, ipykernel, six"), ("bare", "python")):
        text = f"channels: [conda-forge]\ndependencies: [{packages}]\n"
        (project / "environments" / f"{name}.yml").write_text(text)
    environ = {**os.environ, **rig.env, "ENVBOX_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}
    settings = replace(rig.settings(), cache_dir=Path(environ["ENVBOX_CACHE_DIR"]))
    lab = Lab("", project, settings, environ)
    yield lab
    lab.run("stop", "--all", "--forget")
    assert lab.containers() == []


@pytest.fixture
def elsewhere(place: Lab, tmp_path: Path) -> Lab:
    """The same project at a place of the test's own."""
    project = tmp_path / "project"
    shutil.copytree(place.project, project)
    return replace(place, project=project)


@pytest.fixture(scope="module")
def server(place: Lab) -> str:
    """The address of a server beside the environment."""
    done = place.run("notebook", "kern", "--detach")
    assert done.returncode == 0, done.stderr
    assert "locking a Jupyter to put beside environments that have none\n" in done.stderr
    assert "kern has no Jupyter: envbox's own is put beside it\n" in done.stderr
    return done.stdout.strip()


@pytest.mark.rig
def test_a_cell_runs_in_the_environment_which_is_as_it_is_without(server: str) -> None:
    assert "/lab?token=" in server
    assert json.loads(execute(server, FACTS)) == ["/opt/envbox", False, True, None]


@pytest.mark.rig
def test_the_kernels_are_the_environments_alone(server: str) -> None:
    found = call(server, "/api/kernelspecs")["kernelspecs"]
    assert {name: spec["spec"]["argv"][0] for name, spec in found.items()} == {
        "python3": found["python3"]["spec"]["argv"][0]
    }
    assert found["python3"]["spec"]["argv"][0].startswith("/opt/envbox/bin/python")


@pytest.mark.rig
def test_a_second_start_takes_it_and_a_later_one_locks_nothing(server: str, place: Lab) -> None:
    again = place.run("notebook", "kern", "--detach")
    assert again.stdout.strip() == server
    assert "a server of kern runs here already" in again.stderr
    assert "other options" not in again.stderr
    locks = list(Path(place.settings.cache_dir, "jupyter").glob("*.conda-lock.yml"))
    assert len(locks) == 1
    assert "jupyterlab" in locks[0].read_text()
    place.run("clean", "prefixes")  # what a container has stays
    assert json.loads(execute(server, FACTS))[0] == "/opt/envbox"


@pytest.mark.rig
def test_a_path_of_jupyters_gives_it_kernels_and_extensions(elsewhere: Lab, tmp_path: Path) -> None:
    """As the environment's own does; a kernelspec that says `python` means the environment's."""
    folder = tmp_path / "jupyter" / "kernels" / "plain"
    folder.mkdir(parents=True)
    spec = {"argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "p"}
    (folder / "kernel.json").write_text(json.dumps({**spec, "language": "python"}))
    extension = tmp_path / "jupyter" / "labextensions" / "demo"
    extension.mkdir(parents=True)
    built = {"_build": {"load": "static/demo.js", "extension": "./extension"}}
    (extension / "package.json").write_text(
        json.dumps({"name": "demo", "version": "1.0.0", "jupyterlab": built})
    )
    done = elsewhere.run(
        "notebook", "kern", "-d", "--volume", f"{tmp_path}/jupyter:/srv:ro", "-e", "JUPYTER_PATH=/srv"
    )
    try:
        assert done.returncode == 0, done.stderr
        found = call(done.stdout.strip(), "/api/kernelspecs")["kernelspecs"]
        assert set(found) == {"python3", "plain"}
        assert found["plain"]["spec"]["argv"][0] == "/opt/envbox/bin/python"
        with urlopen(done.stdout.strip(), timeout=30) as answer:
            assert b"static/demo.js" in answer.read()
    finally:
        elsewhere.run("stop", "--forget")


@pytest.mark.rig
def test_without_a_kernel_it_is_said_before_anything_is_made(place: Lab) -> None:
    done = place.run("notebook", "bare")
    assert done.returncode == 1
    assert "error: there is no Jupyter in bare, and no kernel for one beside it\n" in done.stderr
    assert "hint: envbox add --name bare ipykernel" in done.stderr
    assert "mounted" not in done.stderr
    assert not [name for name in place.containers() if "bare" in name]


@pytest.mark.rig
def test_what_only_seems_to_have_a_kernel_is_found_out_by_the_server(elsewhere: Lab, tmp_path: Path) -> None:
    done = elsewhere.run("notebook", "kern", "-d", "--volume", f"{tmp_path}:/opt/envbox/share/jupyter")
    assert done.returncode == 1
    assert "no Jupyter in kern, and no kernel for one beside it" in done.stderr
    assert elsewhere.containers() == []


@pytest.mark.rig
@pytest.mark.parametrize("name", ["kern", "bare"])
def test_an_image_that_somebody_pushed_gets_one_if_it_has_a_kernel(elsewhere: Lab, name: str) -> None:
    reference = f"{elsewhere.environ['RIG_REGISTRY']}/{uuid4().hex}/{name}:1"
    pushed = elsewhere.run("push", name, reference, "--platform", "linux-64")
    assert pushed.returncode == 0, pushed.stderr
    done = elsewhere.run("notebook", reference, "-d")
    try:
        if name == "bare":
            assert done.returncode == 1
            assert "and no kernel for one beside it" in done.stderr
            assert "hint" not in done.stderr
            assert "locking" not in done.stderr
            return
        assert done.returncode == 0, done.stderr
        assert json.loads(execute(done.stdout.strip(), FACTS)) == ["/opt/envbox", False, True, None]
    finally:
        elsewhere.run("stop", "--all", "--forget")
        connect(elsewhere.settings).remove_image(reference)


@pytest.mark.rig
@pytest.mark.parametrize("text", [None, "dependencies: [no-such-package-anywhere]\n", "- nonsense\n"])
def test_a_spec_of_ones_own_that_is_wrong_is_named(place: Lab, tmp_path: Path, text: str | None) -> None:
    spec = tmp_path / "mine.yml"
    if text is not None:
        spec.write_text(text)
    there = replace(place, environ={**place.environ, "ENVBOX_JUPYTER": str(spec)})
    done = there.run("notebook", "kern", "-d")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert ("no-such-package-anywhere" if text and "no-such" in text else str(spec)) in done.stderr


@pytest.mark.rig
def test_a_damaged_lockfile_of_it_has_a_way_out(place: Lab) -> None:
    (path,) = Path(place.settings.cache_dir, "jupyter").glob("*.conda-lock.yml")
    sound = path.read_text()
    place.run("stop", "kern")
    for memo in Path(place.settings.cache_dir, "builds").iterdir():
        memo.unlink()
    path.write_text(sound.replace("sha256: ", "sha256: 0", 1))
    done = place.run("notebook", "kern", "-d")
    assert done.returncode == 1
    assert "hint: envbox clean jupyter: it is locked anew" in done.stderr
    assert place.run("clean", "jupyter").returncode == 0
    assert place.run("notebook", "kern", "-d").returncode == 0
    place.run("stop", "kern")


@pytest.mark.rig
def test_on_this_machine_too_it_stands_beside(place: Lab) -> None:
    """In the foreground, on a terminal's line, as it is there."""
    argv = place.argv("notebook", "kern", "--engine", "host", "--no-browser", "--server-port", "0")
    port = place.free_port()
    argv[-1] = str(port)
    main, side = pty.openpty()
    process = subprocess.Popen(argv, env={**place.environ, "JUPYTER_TOKEN": "t"}, stdout=side, stderr=side)
    url = f"http://127.0.0.1:{port}/lab?token=t"
    try:
        for _ in range(300):
            try:
                call(url, "/api")
                break
            except OSError:
                time.sleep(0.1)
        assert json.loads(execute(url, FACTS))[:3] == ["/opt/envbox", False, True]
        assert set(call(url, "/api/kernelspecs")["kernelspecs"]) >= {"python3"}
    finally:
        process.terminate()
        process.wait(30)
        os.close(side)
        os.close(main)


@pytest.mark.rig
def test_the_classic_notebook_stands_beside_too(elsewhere: Lab) -> None:
    done = elsewhere.run("notebook", "kern", "--classic", "-d")
    try:
        assert done.returncode == 0, done.stderr
        assert "/tree?token=" in done.stdout
        with urlopen(done.stdout.strip(), timeout=30) as answer:
            assert b"<title>Home</title>" in answer.read()  # JupyterLab's is its own name
        again = elsewhere.run("notebook", "kern", "--lab", "-d")
        assert "/lab?token=" in again.stdout, again.stderr
    finally:
        elsewhere.run("stop", "--forget")


@pytest.mark.rig
def test_at_a_path_of_this_machine_each_has_its_own(place: Lab, tmp_path: Path) -> None:
    """A server goes on to read its files while another, of another spec, comes up."""
    spec = tmp_path / "another.yml"
    spec.write_text("channels: [conda-forge]\ndependencies: [jupyterlab, six]\n")
    where = JupyterTarget("linux-64", "2.36", is_mounted=False)
    settings = replace(place.settings, mirrors=place.settings.mirrors)
    first = obtain_jupyter(where, settings, SILENT)
    second = obtain_jupyter(where, replace(settings, jupyter=spec), SILENT)
    assert first != second
    assert first.resolve() != second.resolve()
    assert obtain_jupyter(where, settings, SILENT) == first
    assert (first / "bin/jupyter-lab").read_text().splitlines()[0] == f"#!{first}/bin/python3.11"
