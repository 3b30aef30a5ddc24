"""Sessions on this machine where nothing can be mounted: the same lock, at a path of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from conftest import Rig
from support.host_project import ENVBOX, Place, exit_code, locked_place
from support.jupyter_page import call, execute

from envbox.errors import PackageError
from envbox.packages.link.placeholder import python_shebang, replace_prefix

needs_rig = pytest.mark.rig
WALLED = (sys.executable, str(Path(__file__).parent / "support" / "no_namespaces.py"))
CODE = "import os, sys; print(sys.prefix, os.environ['CONDA_PREFIX'], os.environ['COLOUR'])"


def test_a_first_line_that_linux_cannot_read_becomes_another() -> None:
    assert python_shebang("/a/python") == "#!/a/python"
    long = f"/{'x' * 130}/python3.11"
    for path in ("/with space/python3.11", long):
        assert python_shebang(path) == f"#!/bin/sh\n'''exec' \"{path}\" \"$0\" \"$@\" #'''"
    script = replace_prefix(b"#!/PLACE/bin/python -u\nx = '/PLACE'\n", "/PLACE", "/a b", "text")
    assert bytes(script).decode().splitlines() == [
        "#!/bin/sh",
        "'''exec' \"/a b/bin/python\" -u \"$0\" \"$@\" #'''",
        "x = '/a b'",
    ]


@pytest.fixture(scope="module")
def place(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return locked_place(rig, tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("cache"), WALLED)


@needs_rig
def test_it_is_at_a_path_in_the_cache_and_that_is_said(place: Place) -> None:
    done = place.run("run", "--engine", "host", "work", "--", "python", "-c", CODE)
    path, prefix, colour = done.stdout.split()
    assert (Path(path).parent, colour) == (place.cache / "prefixes/here", "blue")
    assert path == prefix
    assert f"work: at its own path, {path}, since this machine does not let you mount" in done.stderr


@needs_rig
def test_both_roads_share_a_cache_and_each_has_its_own_path(place: Place) -> None:
    own = place.python(CODE)
    free = replace(place, before=())
    if "does not let you mount" in free.run("run", "--engine", "host", "work", "--", "true").stderr:
        pytest.skip("nothing can be mounted here at all")
    assert free.python(CODE).startswith("/opt/envbox /opt/envbox")
    assert place.python(CODE) == own
    assert free.python(CODE, ENVBOX_OWN_PATH="1") == own


@needs_rig
def test_scripts_and_kernelspecs_lead_to_it(place: Place) -> None:
    argv = ("run", "--engine", "host", "work", "--", "jupyter-kernelspec", "list", "--json")
    found = json.loads(place.run(*argv).stdout)["kernelspecs"]["python3"]
    assert Path(found["resource_dir"]).is_relative_to(place.cache / "prefixes/here")


@needs_rig
def test_a_notebook_is_run_and_its_result_says_where(place: Place) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("import sys; print(sys.prefix)")])
    nbformat.write(notebook, place.root / "a.ipynb")
    place.run("exec", "--engine", "host", "--name", "work", "a.ipynb")
    found = json.loads((place.root / "a.out.ipynb").read_bytes())
    assert "prefixes/here/" in found["cells"][0]["outputs"][0]["text"][0]
    assert found["metadata"]["envbox"]["prefix"].startswith("sha256:")


@needs_rig
def test_a_damaged_prefix_is_made_anew(place: Place) -> None:
    path = Path(place.python("import sys; print(sys.prefix)"))
    target = path.resolve()
    (target / "bin").chmod(0o755)
    (target / "bin/python").unlink()
    assert place.python("print(1)") == "1"
    (path / "bin").resolve().chmod(0o755)
    (path / "bin/more").touch()
    place.python("print(1)")
    assert not (path / "bin/more").exists()


@needs_rig
def test_a_prefix_in_use_is_not_cleaned_away(place: Place) -> None:
    argv = [*WALLED, *ENVBOX, "run", "--engine", "host", "work", "--", "python", "-c",
            "print(1, flush=True); input(); import json.tool, sqlite3; print(2)"]  # fmt: skip
    process = subprocess.Popen(
        argv, cwd=place.root, env={**os.environ, **place.env}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    place.run("clean", "prefixes")
    assert len(list((place.cache / "prefixes/here").iterdir())) == 1
    assert process.communicate("\n", timeout=60)[0] == "2\n"
    place.run("clean", "prefixes")
    assert not (place.cache / "prefixes").exists()
    assert place.python("print(3)") == "3"


@needs_rig
@pytest.mark.parametrize("name", ["with space", "x" * 120])
def test_a_cache_whose_path_no_first_line_can_hold_will_do(place: Place, tmp_path: Path, name: str) -> None:
    argv = ("run", "--engine", "host", "work", "--", "jupyter-kernelspec", "list", "--json")
    found = place.run(*argv, ENVBOX_CACHE_DIR=str(tmp_path / name))
    assert str(tmp_path / name) in json.loads(found.stdout)["kernelspecs"]["python3"]["resource_dir"]


@needs_rig
def test_a_cache_whose_path_leads_astray_is_refused(place: Place, tmp_path: Path) -> None:
    argv = ("run", "--engine", "host", "work", "--", "true")
    done = place.run(*argv, check=False, ENVBOX_CACHE_DIR=str(tmp_path / "a:b"))
    assert done.returncode == 1
    assert "leads scripts astray" in done.stderr
    assert "ENVBOX_CACHE_DIR" in done.stderr


def test_a_path_that_is_longer_than_a_binary_has_room_for_is_refused() -> None:
    with pytest.raises(PackageError, match="placeholder shorter") as caught:
        replace_prefix(b"/PLACE/lib\0", "/PLACE", "/srv/longer", "binary")
    assert "ENVBOX_CACHE_DIR" in str(caught.value.hint)


@needs_rig
def test_a_shell_has_the_environment_s_prompt(place: Place) -> None:
    shell = place.shell()
    shell.sendline("python -c 'import sys; print(sys.prefix)'; exit 5")
    shell.expect("prefixes/here/[0-9a-f]{12}")
    assert exit_code(shell) == 5


@needs_rig
def test_two_commands_at_once_make_it_once(place: Place) -> None:
    place.run("clean", "prefixes")
    argv = [*WALLED, *ENVBOX, "run", "--engine", "host", "work", "--", "python", "-c", CODE]
    env = {**os.environ, **place.env}
    both = [
        subprocess.Popen(argv, cwd=place.root, env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = {process.communicate(timeout=120)[0] for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert len(said) == 1


@needs_rig
@pytest.mark.skipif(os.getuid() != 0, reason="others cannot write there anyway")
def test_its_folders_are_sealed_and_root_s_python_writes_no_byte_code(place: Place) -> None:
    prefix = Path(place.python("import sys; print(sys.prefix)")).resolve()
    modes = {path.stat().st_mode & 0o777 for path in (prefix, *prefix.rglob("*")) if path.is_dir()}
    assert modes == {0o555}
    assert place.python("import sys; print(sys.dont_write_bytecode or sys.pycache_prefix)") != "None"


@needs_rig
@pytest.mark.parametrize("folder", ["plain", "with space"])
def test_a_server_beside_it_is_at_a_path_of_its_own_too(place: Place, tmp_path: Path, folder: str) -> None:
    """The environment has a kernel and no Jupyter."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = ["notebook", "work", "--engine", "host", "--no-browser", "--server-port", str(port)]
    env = {**os.environ, **place.env, "JUPYTER_TOKEN": "t"}
    if folder != "plain":
        env["ENVBOX_CACHE_DIR"] = str(tmp_path / folder)
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [*WALLED, *ENVBOX, *argv], cwd=place.root, env=env, stdout=file, stderr=file
        )
    url = f"http://127.0.0.1:{port}/lab?token=t"
    try:
        wait_for(url, process, log)
        code = "import importlib.util, sys; print(sys.prefix, importlib.util.find_spec('jupyterlab'))"
        prefix, _, server = execute(url, code).strip().rpartition(" ")
        assert Path(prefix).parent == Path(env["ENVBOX_CACHE_DIR"], "prefixes/here")
        assert server == "None"
        argv_0 = call(url, "/api/kernelspecs")["kernelspecs"]["python3"]["spec"]["argv"][0]
        assert argv_0.startswith(f"{env['ENVBOX_CACHE_DIR']}/prefixes/here/")
    finally:
        process.terminate()
        process.wait(30)


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers."""
    for _ in range(1200):
        assert process.poll() is None, log.read_text()
        try:
            call(url, "/api/status")
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(log.read_text())
