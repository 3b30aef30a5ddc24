"""Kernels of locked environments, for a Jupyter of this machine: real clients, real containers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

import nbformat
import pytest
from support.chromium import BINARY, open_page
from support.containers import Lab
from support.rig_checks import channel_of, installed

from envbox.engine import RunPolicy
from envbox.engine.find import connect
from envbox.errors import LaunchError, ToolError
from envbox.sessions.kernels import specs
from envbox.sessions.kernels.commands import start_argv
from envbox.sessions.kernels.kernel import Connection, choose, kernel_launch, read_connection
from envbox.sessions.launch.bindings import Bind
from envbox.sessions.launch.container import Launch
from envbox.sessions.launch.identity import User

if TYPE_CHECKING:
    from conftest import Rig

LAUNCH = Launch("sha256:1", "maps", Path("/home/ada/project"), (), user=User(1234, 100, "ada", "users"))
TCP = Connection(Path("/run/kernel-1.json"), "tcp", "127.0.0.1", (1, 2, 3, 4, 5))
INSIDE = ("python3", {"language": "python", "metadata": {"debugger": True}})


# --- kernelspecs


def test_a_kernelspec_leads_to_the_environment_of_the_project(tmp_path: Path) -> None:
    made = specs.add(tmp_path, "maps", Path("/a/project"), INSIDE)
    assert made.name == "envbox-maps"
    written = json.loads((tmp_path / "envbox-maps/kernel.json").read_text())
    assert written["display_name"] == "maps (locked)"
    assert written["interrupt_mode"] == "message"
    assert written["language"] == "python"
    assert written["metadata"]["debugger"] is True
    words = written["argv"]
    assert words[:4] == [sys.executable, "-P", "-m", "envbox"]
    assert words[words.index("--directory") + 1] == "/a/project"
    assert "{connection_file}" in words
    assert specs.known(tmp_path) == (made,)


def test_added_again_it_is_replaced_and_of_another_project_it_has_another_name(tmp_path: Path) -> None:
    specs.add(tmp_path, "Maps", Path("/a"), INSIDE)
    again = specs.add(tmp_path, "Maps", Path("/a"), INSIDE)
    other = specs.add(tmp_path, "Maps", Path("/b/other"), INSIDE)
    assert again.name == "envbox-maps"
    assert other.name.startswith("envbox-maps-")
    assert other.display_name == "Maps (locked, other)"
    assert len(specs.known(tmp_path)) == 2
    assert specs.add(tmp_path, "Maps", Path("/b/other"), INSIDE).name == other.name


def test_what_somebody_else_has_put_there_is_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / "envbox-maps/kernel.json"
    theirs.parent.mkdir()
    theirs.write_text('{"argv": ["theirs"], "display_name": "theirs", "metadata": {}}')
    made = specs.add(tmp_path, "maps", Path("/a"), INSIDE)
    assert made.name != "envbox-maps"
    assert "theirs" in theirs.read_text()
    assert specs.remove(tmp_path, "maps", Path("/a")).name == made.name
    assert theirs.is_file()
    with pytest.raises(LaunchError, match="has no kernel"):
        specs.remove(tmp_path, "envbox-maps", Path("/a"))
    made.path.mkdir()
    with pytest.raises(ToolError, match="not envbox's"):
        specs.add(tmp_path, "maps", Path("/a"), INSIDE)


def test_one_is_removed_by_its_own_name_from_anywhere(tmp_path: Path) -> None:
    specs.add(tmp_path, "maps", Path("/a"), INSIDE)
    assert specs.remove(tmp_path, "envbox-maps", Path("/elsewhere")).project == Path("/a")
    assert specs.known(tmp_path) == ()


def test_they_lie_where_jupyter_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    assert specs.kernels_folder(None) == tmp_path / "kernels"
    assert specs.kernels_folder(Path("/opt/lab")) == Path("/opt/lab/share/jupyter/kernels")


@pytest.mark.parametrize(
    ("inside", "wanted", "chosen"),
    [(["ir", "python3"], None, "python3"), (["ir", "python3"], "ir", "ir"), (["ir"], None, "ir")],
)
def test_the_kernel_inside_is_chosen(inside: list[str], wanted: str | None, chosen: str) -> None:
    assert choose(dict.fromkeys(inside), wanted, "maps") == chosen


@pytest.mark.parametrize(("inside", "wanted"), [(["ir"], "python3"), (["ir", "bash"], None)])
def test_where_none_can_be_chosen_those_that_there_are_are_named(
    inside: list[str], wanted: str | None
) -> None:
    with pytest.raises(LaunchError) as caught:
        choose(dict.fromkeys(inside), wanted, "maps")
    assert "ir" in f"{caught.value.message} {caught.value.hint}"


# --- what is started


def test_the_five_ports_lead_from_loopback_to_the_kernel_and_nothing_else_does() -> None:
    launch = kernel_launch(LAUNCH, "python3", TCP)
    assert launch.ports == tuple(f"127.0.0.1:{port}:{port}" for port in (1, 2, 3, 4, 5))
    assert launch.command[-3:] == ("python3", "/run/envbox/connection.json", "0.0.0.0")
    assert launch.mounts[-1] == Bind(TCP.path, "/run/envbox/connection.json", read_only=True)
    assert not launch.interactive


def test_on_the_hosts_network_the_kernel_itself_listens_on_loopback() -> None:
    launch = kernel_launch(replace(LAUNCH, network="host"), "python3", TCP)
    assert launch.ports == ()
    assert launch.command[-1] == "127.0.0.1"


def test_over_ipc_the_folder_of_the_sockets_is_mounted_and_no_port_is_opened() -> None:
    ipc = replace(TCP, transport="ipc", ip="/run/user/1/kernel-ipc")
    launch = kernel_launch(replace(LAUNCH, network="none"), "python3", ipc)
    assert launch.ports == ()
    assert launch.mounts[-1] == Bind(Path("/run/user/1"), "/run/user/1")


def test_without_a_network_a_kernel_on_ports_is_refused() -> None:
    with pytest.raises(LaunchError, match="`none` is set"):
        kernel_launch(replace(LAUNCH, network="none"), "python3", TCP)


def test_a_connection_file_is_read_without_its_key(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    ports = dict(
        zip(("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port"), range(1, 6), strict=True)
    )
    path.write_text(json.dumps({**ports, "transport": "tcp", "ip": "127.0.0.1", "key": "geheim"}))
    found = read_connection(path)
    assert found.ports == (1, 2, 3, 4, 5)
    assert "geheim" not in repr(found)
    for text in ("{", "[]", "{}"):
        path.write_text(text)
        with pytest.raises(LaunchError, match="not a connection file"):
            read_connection(path)
    with pytest.raises(LaunchError, match="cannot read"):
        read_connection(tmp_path / "none.json")


@pytest.mark.parametrize("address", ["", "0.0.0.0"])
def test_inside_it_becomes_the_kernel_with_a_private_copy_of_the_file(tmp_path: Path, address: str) -> None:
    folder = tmp_path / "share/jupyter/kernels/k"
    folder.mkdir(parents=True)
    show = (
        "import os, sys, json; p = sys.argv[1]\n"
        "print(json.dumps([p, oct(os.stat(p).st_mode), open(p).read(), os.environ['A']]))"
    )
    spec = {"argv": ["python", "-c", show, "{connection_file}"], "env": {"A": "${B}c"}}
    (folder / "kernel.json").write_text(json.dumps(spec))
    connection = tmp_path / "c.json"
    connection.write_text('{"ip": "127.0.0.1", "key": "k"}')
    command = start_argv("k", str(connection), address)
    code = f"import sys; sys.prefix = {str(tmp_path)!r}\n{command[4]}"
    argv = [sys.executable, "-I", "-c", code, *command[5:]]
    done = subprocess.run(argv, env={**os.environ, "B": "b"}, capture_output=True, text=True, check=True)
    path, mode, text, variable = json.loads(done.stdout)
    assert variable == "bc"
    assert json.loads(text) == {"ip": address or "127.0.0.1", "key": "k"}
    assert (path == str(connection)) is not bool(address)
    if address:
        assert mode == "0o100600"
        Path(path).unlink()


def test_where_ports_are_held_it_takes_none_unless_others_are_asked_for() -> None:
    held = replace(LAUNCH, ways=RunPolicy(holds_ports=True))
    found = kernel_launch(held, "python3", TCP)
    assert (found.network, found.ports) == ("host", ())
    assert found.command[-1] == "127.0.0.1"
    assert kernel_launch(replace(held, network="lab"), "python3", TCP).network == "lab"
    assert len(kernel_launch(replace(held, ports=("127.0.0.1:80:80",)), "python3", TCP).ports) == 6


# --- the real thing


@dataclass(frozen=True)
class Desk:
    """A Jupyter of this machine, outside of all environments, and a project with a kernel in it.

    :param environ: with Jupyter's folders in a place of the test's own
    """

    python: Path
    project: Path
    environ: dict[str, str]

    def envbox(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Envbox's command line in the project."""
        argv = [sys.executable, "-m", "envbox", "-C", str(self.project), *arguments]
        return subprocess.run(argv, env=self.environ, capture_output=True, text=True, check=False)

    @contextmanager
    def client(self, *what: str) -> Iterator[subprocess.Popen[str]]:
        """A client that does things with the kernel."""
        script = Path(__file__).parent / "support" / "kernel_client.py"
        argv = [str(self.python), str(script), "envbox-kern", *what]
        streams: dict[str, Any] = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }
        with subprocess.Popen(argv, env=self.environ, text=True, **streams) as process:
            try:
                yield process
            finally:
                process.kill()

    def do(self, *what: str) -> dict[str, Any]:
        """Have things done, and give what came of each."""
        with self.client(*what) as process:
            out, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        return dict(map(json.loads, out.splitlines()))

    def containers(self) -> list[str]:
        """The IDs of the project's containers."""
        argv = ["docker", "ps", "-aq", "--filter", f"label=io.envbox.project={self.project}"]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()

    def wait_for_no_container(self) -> None:
        """Give the watcher a few seconds."""
        for _ in range(80):
            if not self.containers():
                return
            time.sleep(0.1)
        assert not self.containers()


@pytest.fixture(scope="module")
def desk(rig: Rig, lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    home = tmp_path_factory.mktemp("desk")
    prefix = installed(channel_of(rig), ["python", "jupyterlab", "ipykernel"], home / "lab", home / "cache")
    project = home / "a project"
    (project / "environments").mkdir(parents=True)
    spec = "channels: [conda-forge]\ndependencies: [python, ipykernel, numpy, matplotlib-base]\n"
    (project / "environments/kern.yml").write_text(spec)
    (project / "notebooks").mkdir()
    jupyter = {f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("DATA", "RUNTIME", "CONFIG")}
    (home / "runtime").mkdir(mode=0o700)
    (home / "config/labconfig").mkdir(parents=True)  # no question about news comes in the way
    quiet = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (home / "config/labconfig/page_config.json").write_text(json.dumps(quiet))
    environ = {**lab.environ, **jupyter, "KERNEL_CWD": str(project / "notebooks"), "PYTHONPATH": str(SOURCE)}
    made = Desk(prefix / "bin/python", project, environ)
    done = made.envbox("kernel", "add", "kern")
    assert done.returncode == 0, done.stderr
    assert "kern (locked)" in done.stderr
    yield made
    engine = connect(lab.settings)
    for container in made.containers():
        engine.remove(container)


SOURCE = Path(__file__).parents[1] / "src"


@pytest.mark.rig
def test_it_is_listed_by_us_and_by_jupyter(desk: Desk) -> None:
    (listed,) = json.loads(desk.envbox("kernel", "list", "--json").stdout)
    assert (listed["name"], listed["environment"], listed["kernel"]) == ("envbox-kern", "kern", "python3")
    argv = [str(desk.python), "-m", "jupyter_client.kernelspecapp", "list", "--json"]
    done = subprocess.run(argv, env=desk.environ, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["kernelspecs"]["envbox-kern"]["spec"]["display_name"] == "kern (locked)"


@pytest.mark.rig
def test_a_client_does_with_it_what_it_does_with_any_kernel(desk: Desk) -> None:
    done = desk.do("where", "input", "complete", "plot", "interrupt", "restart", "key", "containers")
    assert done["where"] == f"/opt/envbox|/work/notebooks|{os.getuid()}\n"
    assert done["input"] == "hello Ada\n"
    assert done["complete"] == ["a_long_name"]
    assert ["image/png", "text/plain"] in [sorted(kinds) for kinds in done["plot"]]
    assert done["interrupt"] == ["error", "KeyboardInterrupt", True, "lives\n"]
    assert done["restart"] == "False\n"
    (mine,) = [line for line in done["containers"] if f"io.envbox.project={desk.project}" in line]
    assert mine.partition("|")[0].count("127.0.0.1:") == 5
    assert "0.0.0.0:" not in mine.partition("|")[0]
    assert done["key"] not in mine
    assert not desk.containers()


@pytest.mark.rig
@pytest.mark.parametrize("own_path", ["false", "true"])
def test_without_a_container_it_is_the_same_kernel(desk: Desk, own_path: str) -> None:
    environ = {**desk.environ, "ENVBOX_ENGINE": "host", "DOCKER_HOST": "unix:///none"}
    here = replace(desk, environ={**environ, "ENVBOX_OWN_PATH": own_path})
    done = here.do("where", "input", "complete", "interrupt", "restart")
    prefix, folder, uid = done["where"].split("|")
    assert ("/prefixes/here/" in prefix) if own_path == "true" else (prefix == "/opt/envbox")
    assert (folder, uid) == (f"{desk.project}/notebooks", f"{os.getuid()}\n")
    assert done["input"] == "hello Ada\n"
    assert done["complete"] == ["a_long_name"]
    assert done["interrupt"] == ["error", "KeyboardInterrupt", True, "lives\n"]
    assert done["restart"] == "False\n"


@pytest.mark.rig
def test_its_key_stands_in_no_argument_list_and_no_log(desk: Desk) -> None:
    with desk.client("key", "wait") as process:
        assert process.stdout
        assert process.stdin
        key = json.loads(process.stdout.readline())[1].encode()
        (container,) = desk.containers()
        lines = b"".join(
            p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if os.access(p, os.R_OK)
        )
        inspected = subprocess.run(["docker", "inspect", container], capture_output=True, check=True).stdout
        logged = subprocess.run(["docker", "logs", container], capture_output=True, check=True)
        process.communicate("\n", timeout=60)
    assert len(key) > 20
    assert key not in lines
    assert key not in inspected
    assert key not in logged.stdout + logged.stderr


@pytest.mark.rig
def test_over_ipc_it_needs_no_ports(desk: Desk) -> None:
    done = desk.do("ipc", "where", "interrupt", "containers")
    assert done["where"].startswith("/opt/envbox|/work/notebooks|")
    assert done["interrupt"][0] == "error"
    (mine,) = [line for line in done["containers"] if f"io.envbox.project={desk.project}" in line]
    assert mine.startswith("|")
    assert not desk.containers()


@pytest.mark.rig
def test_the_process_has_the_kernels_own_exit_code(desk: Desk) -> None:
    assert desk.do("exit")["exit"] == 7


@pytest.mark.rig
def test_a_client_that_is_killed_leaves_no_container_and_is_started_again_on_its_ports(desk: Desk) -> None:
    assert desk.do("where", "kill")["kill"] == "again\n"
    desk.wait_for_no_container()


@pytest.mark.rig
def test_a_jupyter_that_is_killed_leaves_no_kernel(desk: Desk) -> None:
    with desk.client("where", "die") as process:
        process.communicate(timeout=120)
    assert process.returncode == -9
    desk.wait_for_no_container()


@pytest.mark.rig
def test_an_environment_without_a_kernel_is_refused_with_the_way_out(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "environment.yml").write_text("name: bare\nchannels: [conda-forge]\ndependencies: [python]\n")
    argv = [*lab.argv()[:3], "-C", str(tmp_path), "kernel", "add", "--prefix", str(tmp_path / "p")]
    done = subprocess.run(argv, env=lab.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "there is no kernel in" in done.stderr
    assert "ipykernel" in done.stderr.partition("hint:")[2]
    assert not (tmp_path / "p").exists()


@pytest.mark.rig
def test_removed_it_is_gone(desk: Desk, tmp_path: Path) -> None:
    for verb in ("add", "remove"):
        done = desk.envbox("kernel", verb, "kern", "--prefix", str(tmp_path))
        assert done.returncode == 0, done.stderr
    assert list((tmp_path / "share/jupyter/kernels").iterdir()) == []
    done = desk.envbox("kernel", "remove", "kern", "--prefix", str(tmp_path))
    assert done.returncode == 1
    assert "has no kernel" in done.stderr


CELLS = [
    "print('in', __import__('sys').prefix)",
    "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2]);",
    "print('hello', input('who? '))",
    "import time\nprint('sleeping', flush=True)\ntime.sleep(600)",
]


@contextmanager
def jupyterlab(desk: Desk, port: int) -> Iterator[str]:
    """A JupyterLab of this machine: its address, to which a path and the token are still to be added."""
    argv = [
        *(
            str(desk.python),
            "-m",
            "jupyterlab",
            "--no-browser",
            "--allow-root",
            "--LabApp.expose_app_in_browser=True",
        ),
        *(f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={desk.project}"),
        "--ServerApp.ip=127.0.0.1",
    ]
    environ = {**desk.environ, "JUPYTER_TOKEN": "t" * 48}
    log = desk.project.parent / "jupyterlab.log"
    with log.open("wb") as out, subprocess.Popen(argv, env=environ, stdout=out, stderr=out) as server:
        try:
            request = Request(
                f"http://127.0.0.1:{port}/api/status", headers={"Authorization": f"token {'t' * 48}"}
            )
            for _ in range(300):
                try:
                    urlopen(request, timeout=2).close()
                    break
                except OSError:
                    assert server.poll() is None, log.read_text()
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


@pytest.mark.rig
@pytest.mark.browser
@pytest.mark.skipif(BINARY is None, reason="there is no Chromium")
def test_jupyterlab_of_this_machine_has_it_and_works_with_it(desk: Desk, lab: Lab, tmp_path: Path) -> None:
    spec = {"name": "envbox-kern", "display_name": "kern (locked)", "language": "python"}
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    nbformat.write(
        nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec}), desk.project / "n.ipynb"
    )

    def shown(index: int) -> str:
        return f"(document.querySelectorAll('.jp-CodeCell .jp-OutputArea')[{index}]?.innerText ?? '')"

    with jupyterlab(desk, lab.free_port()) as address, open_page(tmp_path / "profile") as page:
        page.goto(f"{address}/lab?token={'t' * 48}")
        page.wait_for("document.querySelector('.jp-Launcher')?.innerText.includes('kern (locked)')")
        page.goto(f"{address}/lab/tree/n.ipynb?token={'t' * 48}")
        page.wait_for("document.querySelectorAll('.jp-CodeCell').length === 4")
        page.wait_for("document.querySelector('.jp-Toolbar-kernelName')?.innerText.includes('kern (locked)')")
        page.wait_for("document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle'")
        page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
        page.wait_for(f"{shown(0)}.includes('in /opt/envbox')")
        page.wait_for("document.querySelectorAll('.jp-OutputArea img').length === 1")
        page.wait_for("document.querySelectorAll('.jp-Stdin-input').length === 1")
        page.evaluate("document.querySelector('.jp-Stdin-input').focus()")
        page.send("Input.insertText", text="Ada")
        for kind in ("keyDown", "keyUp"):
            page.send("Input.dispatchKeyEvent", type=kind, key="Enter", windowsVirtualKeyCode=13, text="\r")
        page.wait_for(f"{shown(2)}.includes('hello Ada')")
        page.wait_for(f"{shown(3)}.includes('sleeping')")
        page.evaluate("void window.jupyterapp.commands.execute('notebook:interrupt-kernel')")
        page.wait_for(f"{shown(3)}.includes('KeyboardInterrupt')")
        page.picture(tmp_path / "kernel.png")
        assert len(desk.containers()) == 1
        page.evaluate("void window.jupyterapp.serviceManager.sessions.shutdownAll()")
        desk.wait_for_no_container()
    assert (tmp_path / "kernel.png").stat().st_size > 10_000


def test_of_the_client_s_environment_a_kernel_gets_what_was_named(tmp_path: Path) -> None:
    specs.add(tmp_path, "maps", Path("/a/project"), INSIDE, ("API_KEY", "PGHOST"))
    words = json.loads((tmp_path / "envbox-maps/kernel.json").read_text())["argv"]
    assert words[-5:] == ["--env", "API_KEY", "--env", "PGHOST", "maps"]
    done = subprocess.run(
        [sys.executable, "-m", "envbox", "kernel", "add", "--env", "A=geheim", "maps"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "write NAME alone" in done.stderr
    assert "geheim" not in done.stderr
