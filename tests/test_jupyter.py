"""Jupyter servers in containers, asked through their own API."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import pytest
import websocket
from support.containers import Lab
from support.jupyter_page import call, execute, parts

from envbox.engine import Container, Engine
from envbox.engine.find import connect
from envbox.errors import LaunchError
from envbox.report import SILENT
from envbox.sessions.jupyter import server as jupyter
from envbox.sessions.jupyter import servers
from envbox.sessions.jupyter.api import ServerEndpoint
from envbox.sessions.jupyter.command import ServeOptions, has_jupyter, idle_argv, server_argv, server_launch
from envbox.sessions.jupyter.server import serve
from envbox.sessions.jupyter.servers import Server, container_name
from envbox.sessions.launch.container import Launch
from envbox.sessions.launch.identity import User

if TYPE_CHECKING:
    from conftest import Rig

ADA = User(1234, 100, "ada", "users")
LAUNCH = Launch(
    "sha256:1", "maps", Path("/home/ada/project"), (), user=ADA, env={"A": "1"}, ports=("127.0.0.1:1:1",)
)


# --- what is started


def test_the_server_runs_without_a_browser_on_its_port_in_the_project() -> None:
    words = server_argv(LAUNCH, 8890, "0.0.0.0")
    assert {
        "--no-browser",
        "--ServerApp.ip=0.0.0.0",
        "--ServerApp.port=8890",
        "--ServerApp.root_dir=/work",
    } <= set(words)
    assert "--allow-root" not in words
    assert "--allow-root" in server_argv(replace(LAUNCH, user=User(0, 0, "root", "root")), 8890, "0.0.0.0")


def test_the_port_leads_from_loopback_to_the_server() -> None:
    launch = server_launch(LAUNCH, 8890, Path("/secret/token"))
    assert launch.ports == ("127.0.0.1:1:1", "127.0.0.1:8890:8890")
    assert launch.labels["io.envbox.port"] == "8890"
    assert launch.kind == "notebook"


def test_on_the_hosts_network_the_server_itself_listens_on_loopback() -> None:
    launch = server_launch(replace(LAUNCH, network="host"), 8890, Path("/secret/token"))
    assert "--ServerApp.ip=127.0.0.1" in launch.command
    assert launch.ports == LAUNCH.ports


def test_a_public_server_is_for_other_machines_with_its_token(tmp_path: Path) -> None:
    launch = server_launch(replace(LAUNCH, is_public=True), 8890, tmp_path / "token")
    assert "0.0.0.0:8890:8890" in launch.ports
    assert "--ServerApp.allow_remote_access=True" in launch.command
    assert "JUPYTER_TOKEN_FILE" in launch.env
    host = server_launch(replace(LAUNCH, is_public=True, network="host"), 8890, tmp_path / "token")
    assert "--ServerApp.ip=0.0.0.0" in host.command


def test_a_servers_name_is_made_of_environment_project_and_user() -> None:
    assert container_name(LAUNCH) == container_name(replace(LAUNCH, image="sha256:2", env={}))
    others = [
        replace(LAUNCH, project=Path("/x")),
        replace(LAUNCH, user=replace(ADA, uid=1)),
        replace(LAUNCH, name="b"),
    ]
    assert len({container_name(launch) for launch in (LAUNCH, *others)}) == 4
    assert container_name(LAUNCH).startswith("envbox-maps-")


def test_an_idle_server_is_ended_by_jupyters_own_settings() -> None:
    words = server_argv(LAUNCH, 8890, "0.0.0.0", ServeOptions(idle=1800))
    assert {
        "--ServerApp.shutdown_no_activity_timeout=1800",
        "--MappingKernelManager.cull_idle_timeout=1800",
        "--MappingKernelManager.cull_interval=300",
        "--TerminalManager.cull_inactive_timeout=1800",
    } <= set(words)
    assert "--MappingKernelManager.cull_interval=1" in idle_argv(ServeOptions(idle=2))
    assert not [word for word in server_argv(LAUNCH, 8890, "0.0.0.0") if "cull" in word]


@pytest.mark.parametrize(
    ("locked", "app", "has_one"),
    [
        ("- name: jupyterlab\n", None, True),
        ("- name: jupyterlab\n", "lab", True),
        ("- name: notebook\n", "classic", True),
        ("- name: nbclassic\n", "classic", True),
        ("- {name: jupyter-server}\n", None, True),
        ("- name: jupyterlab_widgets\n- name: jupyterlab-widgets\n- name: notebook-shim", None, False),
        ("- name: jupyterlab\n", "classic", False),
        ("- name: notebook\n", "lab", False),
    ],
)
def test_a_lockfile_without_jupyter_is_found_out(locked: str, app: Any, has_one: bool) -> None:
    assert has_jupyter(f"{locked}\n- name: ipykernel\n".encode(), "maps", app) == has_one


@pytest.mark.parametrize("kernel", ["ipykernel", "r-irkernel", "xeus-python", "bash_kernel", "octave_kernel"])
def test_what_has_a_kernel_can_have_a_server_beside_it(kernel: str) -> None:
    assert not has_jupyter(f"- name: {kernel}\n".encode(), "maps", None)
    with pytest.raises(LaunchError, match="no Jupyter in maps, and no kernel for one beside it") as caught:
        has_jupyter(b"- name: python\n- name: kernel-headers_linux-64\n", "maps", "classic")
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("envbox add --name maps ipykernel")


def test_a_door_does_not_show_its_token() -> None:
    assert "geheim" not in repr(ServerEndpoint(8888, "geheim"))


# --- the real thing


@pytest.fixture
def engine(lab: Lab) -> Engine:
    return connect(lab.settings)


@pytest.fixture
def clean(lab: Lab, engine: Engine) -> Iterator[None]:
    """Leave no server behind."""
    yield
    for server in servers.servers(engine):
        if server.project == lab.project:
            servers.stop(server, engine)
    for name in lab.containers():
        engine.remove(name)


@pytest.fixture(scope="module")
def busy(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A second project with the same environment, so that one server may run while others come and go."""
    project = tmp_path_factory.mktemp("busy") / "project"
    shutil.copytree(lab.project, project)
    return replace(lab, project=project)


@pytest.fixture(scope="module")
def shared(busy: Lab) -> Iterator[dict[str, Any]]:
    """A detached server that several tests look at: what `--detach --json` printed."""
    done = busy.run("notebook", "lab", "--detach", "--json")
    assert done.returncode == 0, done.stderr
    yield json.loads(done.stdout)
    busy.run("stop", "lab", "--forget")
    assert busy.containers() == []


def launch_of(lab: Lab, **changes: Any) -> Launch:
    return replace(Launch(lab.image, "lab", lab.project, ()), **changes)


def token_folder(lab: Lab) -> Path:
    return lab.settings.cache_dir / "servers" / container_name(launch_of(lab))


def token_files(lab: Lab) -> list[Path]:
    return list(token_folder(lab).iterdir())


@pytest.mark.rig
def test_detached_it_is_one_object_for_programs(shared: dict[str, Any], busy: Lab) -> None:
    assert {"url", "name", "port", "image"} <= set(shared)
    assert shared["url"].startswith(f"http://127.0.0.1:{shared['port']}/lab?token=")
    assert shared["image"] == busy.image
    assert len(parts(shared["url"])[1]) == 48


@pytest.mark.rig
def test_a_cell_runs_in_the_environment_and_in_the_project(shared: dict[str, Any], busy: Lab) -> None:
    code = (
        "import os, sys, getpass, subprocess\n"
        "print(sys.prefix, os.getcwd(), open('data.txt').read().strip(), sep='|')\n"
        "print(os.environ['LAB_VARIABLE'], subprocess.getoutput('command -v python'), sep='|')\n"
        "open('made by a cell', 'w').close()"
    )
    assert execute(shared["url"], code).splitlines() == [
        "/opt/envbox|/work|of the project",
        "set by the spec|/opt/envbox/bin/python",
    ]
    made = (busy.project / "made by a cell").stat()
    assert (made.st_uid, made.st_gid) == (os.getuid(), os.getgid())


@pytest.mark.rig
def test_a_terminal_is_a_bash_in_the_environment(shared: dict[str, Any]) -> None:
    origin, token = parts(shared["url"])
    name = call(shared["url"], "/api/terminals", "POST", {})["name"]
    channel = websocket.create_connection(
        f"{origin.replace('http', 'ws')}/terminals/websocket/{name}",
        header=[f"Authorization: token {token}"],
        timeout=30,
    )
    channel.send(json.dumps(["stdin", "echo [$BASH_VERSION] [$(command -v python)]; echo do''ne\r"]))
    seen = ""
    while "done" not in seen:
        seen += "".join(map(str, json.loads(channel.recv())[1:]))
    channel.close()
    assert "[5." in seen
    assert "[/opt/envbox/bin/python]" in seen


@pytest.mark.rig
def test_the_server_lists_the_project(shared: dict[str, Any]) -> None:
    assert "data.txt" in [entry["name"] for entry in call(shared["url"], "/api/contents")["content"]]


@pytest.mark.rig
def test_without_the_token_nothing_is_given(shared: dict[str, Any]) -> None:
    for path in ("/api/contents", "/api/kernels", "/lab/api/settings"):
        with pytest.raises(HTTPError) as caught:
            call(shared["url"], path, token="0" * 48)
        assert caught.value.code == 403


@pytest.mark.rig
def test_a_foreign_host_name_is_refused(shared: dict[str, Any]) -> None:
    """What a page elsewhere could make a browser send, once its name leads to 127.0.0.1."""
    origin, token = parts(shared["url"])
    request = Request(
        f"{origin}/api/status", headers={"Authorization": f"token {token}", "Host": "evil.example"}
    )
    with pytest.raises(HTTPError) as caught:
        urlopen(request, timeout=30)
    assert caught.value.code == 403


@pytest.mark.rig
@pytest.mark.skipif(shutil.which("ss") is None, reason="there is no ss")
def test_it_listens_on_loopback_only(shared: dict[str, Any]) -> None:
    listening = subprocess.run(["ss", "-ltnH"], capture_output=True, text=True, check=True).stdout
    local = {line.split()[3] for line in listening.splitlines()}
    assert {address for address in local if address.endswith(f":{shared['port']}")} == {
        f"127.0.0.1:{shared['port']}"
    }


@pytest.mark.rig
def test_the_token_is_in_no_log_label_variable_or_argument(shared: dict[str, Any], busy: Lab) -> None:
    token = parts(shared["url"])[1]
    call(shared["url"], f"/api/status?token={token}")
    with pytest.raises(HTTPError):
        call(shared["url"], f"/api/contents/none?token={token}")
    written = busy.run("logs", "lab").stdout
    assert "contents/none" in written
    assert token not in written
    inspected = subprocess.run(
        ["docker", "inspect", shared["container"]], capture_output=True, text=True, check=True
    )
    assert token not in inspected.stdout
    assert token not in subprocess.run(["ps", "axeww"], capture_output=True, text=True, check=True).stdout


@pytest.mark.rig
def test_the_tokens_file_is_the_callers_alone(shared: dict[str, Any], busy: Lab) -> None:
    (path,) = token_files(busy)
    assert path.read_text() == parts(shared["url"])[1]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.rig
def test_a_second_start_finds_the_first(shared: dict[str, Any], busy: Lab) -> None:
    done = busy.run("notebook", "lab", "--no-browser")
    assert done.returncode == 0
    assert done.stdout.strip() == shared["url"]
    assert "already" in done.stderr
    assert "started" not in done.stderr
    assert len(busy.containers()) == 1


@pytest.mark.rig
@pytest.mark.parametrize("option", [("--volume", "/:/data:ro"), ("--env", "A=B"), ("--memory", "1g")])
def test_a_second_start_with_other_options_says_that_they_do_not_apply(
    shared: dict[str, Any], busy: Lab, option: tuple[str, str]
) -> None:
    done = busy.run("notebook", "lab", "--no-browser", *option)
    assert done.returncode == 0
    assert done.stdout.strip() == shared["url"]
    assert "it was started with other options; to change: envbox stop lab" in done.stderr


@pytest.mark.rig
def test_a_second_start_on_another_port_is_refused(shared: dict[str, Any], busy: Lab) -> None:
    other = busy.free_port()
    done = busy.run("notebook", "lab", "--no-browser", "--server-port", str(other))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"on port {shared['port']} and not on {other}" in done.stderr
    assert "hint: envbox stop lab" in done.stderr
    same = busy.run("notebook", "lab", "--no-browser", "--server-port", str(shared["port"]))
    assert same.stdout.strip() == shared["url"]
    assert len(busy.containers()) == 1


@pytest.mark.rig
def test_ps_and_logs_tell_of_it(shared: dict[str, Any], busy: Lab) -> None:
    listed = json.loads(busy.run("ps", "--json").stdout)
    (own,) = [server for server in listed if server["project"] == str(busy.project)]
    assert own == {**shared, "state": "running"}
    assert shared["url"] in busy.run("ps").stdout
    assert "ServerApp" in busy.run("logs", "lab").stdout


@pytest.mark.rig
def test_in_the_foreground_ctrl_c_stops_it_and_leaves_nothing(lab: Lab, clean: None) -> None:
    process = subprocess.Popen(
        lab.argv("notebook", "lab", "--no-browser"), stdout=subprocess.PIPE, text=True, env=lab.environ
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert execute(url, "print(6 * 7)") == "42\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert process.stdout.read() == ""
    assert lab.containers() == []
    assert not token_folder(lab).exists()


@pytest.mark.rig
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("seconds", [0.2, 0.5, 1.0])
def test_an_interrupt_while_it_starts_leaves_nothing(
    lab: Lab, clean: None, number: int, seconds: float
) -> None:
    process = subprocess.Popen(
        lab.argv("notebook", "lab", "--no-browser"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=lab.environ,
    )
    time.sleep(seconds)
    process.send_signal(number)
    out, _ = process.communicate(timeout=30)
    # before it began to start something, a signal other than Ctrl-C just ends it
    assert process.returncode in (130, -number, 0 if b"http" in out else 130)
    assert lab.containers() == []
    assert not token_folder(lab).exists()


@pytest.mark.rig
def test_a_server_that_ends_by_itself_ends_the_command_with_its_exit_code(lab: Lab, clean: None) -> None:
    process = subprocess.Popen(
        lab.argv("notebook", "lab", "--no-browser"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=lab.environ,
    )
    assert process.stdout is not None
    process.stdout.readline()
    (name,) = lab.containers()
    subprocess.run(["docker", "kill", name], check=True, capture_output=True)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 137
    assert "exit code 137" in err
    assert lab.containers() == []


@pytest.mark.rig
def test_stopped_from_elsewhere_the_command_ends_too(lab: Lab, clean: None) -> None:
    process = subprocess.Popen(
        lab.argv("notebook", "lab", "--no-browser"), stdout=subprocess.PIPE, text=True, env=lab.environ
    )
    assert process.stdout is not None
    process.stdout.readline()
    assert lab.run("stop", "lab").returncode == 0
    process.wait(20)
    assert lab.containers() == []


@pytest.mark.rig
def test_a_dead_container_of_the_name_is_replaced(lab: Lab, engine: Engine, clean: None) -> None:
    first = serve(launch_of(lab), engine, lab.settings, ServeOptions(), SILENT)
    subprocess.run(["docker", "kill", first.container], check=True, capture_output=True)
    (dead,) = [s for s in servers.servers(engine) if s.project == lab.project]
    assert (dead.state, dead.url) == ("exited", None)
    second = serve(launch_of(lab), engine, lab.settings, ServeOptions(), SILENT)
    assert second.is_new
    assert second.url is not None
    assert call(second.url, "/api/status")
    assert len(token_files(lab)) == 1
    servers.stop(second, engine)


@pytest.mark.rig
def test_two_that_start_at_once_end_with_one_server(lab: Lab, clean: None) -> None:
    started = [
        subprocess.Popen(
            lab.argv("notebook", "lab", "--detach"), stdout=subprocess.PIPE, text=True, env=lab.environ
        )
        for _ in range(3)
    ]
    urls = {process.communicate(timeout=120)[0].strip() for process in started}
    assert [process.returncode for process in started] == [0, 0, 0]
    assert len(urls) == 1
    assert len(lab.containers()) == 1


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield int(listening.getsockname()[1])


@pytest.mark.rig
@pytest.mark.parametrize("asks_first", [True, False])
def test_a_port_that_is_taken_gives_way_to_the_next(
    lab: Lab, engine: Engine, taken: int, monkeypatch: pytest.MonkeyPatch, clean: None, asks_first: bool
) -> None:
    """Also when it is taken between our asking and the engine's publishing."""
    monkeypatch.setattr(jupyter, "FIRST_PORT", taken)
    if not asks_first:
        monkeypatch.setattr(jupyter, "_candidates", lambda options: iter(range(taken, taken + 50)))
    server = serve(launch_of(lab), engine, lab.settings, ServeOptions(), SILENT)
    assert server.port > taken
    assert server.url is not None
    assert call(server.url, "/api/status")
    assert len(lab.containers()) == 1


@pytest.mark.rig
def test_a_port_that_is_asked_for_and_taken_is_an_error(
    lab: Lab, engine: Engine, taken: int, clean: None
) -> None:
    with pytest.raises(LaunchError, match=f"port {taken} is taken"):
        serve(launch_of(lab), engine, lab.settings, ServeOptions(port=taken), SILENT)
    assert lab.containers() == []
    assert not token_folder(lab).exists()


@pytest.mark.rig
def test_a_server_that_dies_before_it_is_ready_shows_its_last_lines(
    lab: Lab, clean: None, tmp_path: Path
) -> None:
    (tmp_path / "tornado.py").write_text("raise SystemExit('the sky is falling')\n")
    done = lab.run("notebook", "lab", "--env", "PYTHONPATH=/broken", "--volume", f"{tmp_path}:/broken")
    assert done.returncode == 1
    assert "the server of lab died: exit code 1; it wrote:\nthe sky is falling" in done.stderr
    assert lab.containers() == []
    assert not token_folder(lab).exists()


@pytest.mark.rig
def test_an_environment_without_jupyter_is_told_so(lab: Lab, clean: None, tmp_path: Path) -> None:
    done = lab.run("notebook", "lab", "--volume", f"{tmp_path}:/opt/envbox/bin:ro")
    assert done.returncode == 1
    assert "there is no Jupyter in lab" in done.stderr
    assert "hint: envbox add --name lab jupyterlab\n" in done.stderr


@pytest.mark.rig
def test_a_server_that_does_not_start_leaves_no_volume_but_one_that_was_there(
    lab: Lab, engine: Engine, clean: None, tmp_path: Path
) -> None:
    there = replace(lab, project=tmp_path / "project")
    shutil.copytree(lab.project, there.project)
    name = container_name(launch_of(there))
    broken = ("notebook", "lab", "-d", "--env", "JUPYTER_TOKEN=theirs")
    assert there.run(*broken).returncode == 1
    assert not engine.has_volume(name)
    assert there.run("notebook", "lab", "-d").returncode == 0
    there.run("stop", "lab")
    assert there.run(*broken).returncode == 1
    assert engine.has_volume(name)
    there.forget()


@pytest.mark.rig
def test_a_server_that_takes_too_long_is_removed(lab: Lab, engine: Engine, clean: None) -> None:
    with pytest.raises(LaunchError, match=r"did not answer within 0\.1 s"):
        serve(launch_of(lab), engine, lab.settings, ServeOptions(seconds=0.1), SILENT)
    assert lab.containers() == []


@pytest.mark.rig
def test_a_server_without_a_token_is_not_left_running(lab: Lab, engine: Engine, clean: None) -> None:
    folder = lab.project / "evil"
    folder.mkdir()
    try:
        config = "c.IdentityProvider.token = ''\nc.ServerApp.token = ''\n"
        (folder / "jupyter_server_config.py").write_text(config)
        done = lab.run("notebook", "lab", "-d", "--env", "JUPYTER_CONFIG_PATH=/work/evil")
    finally:
        shutil.rmtree(folder)
    assert done.returncode == 1
    assert "answers without a token" in done.stderr
    assert lab.containers() == []


@pytest.mark.rig
def test_a_public_server_is_warned_of(lab: Lab, engine: Engine, clean: None) -> None:
    done = lab.run("notebook", "lab", "-d", "--public")
    assert done.returncode == 0, done.stderr
    assert "other machines can reach the server, in the clear" in done.stderr
    assert call(done.stdout.strip(), "/api/status")["kernels"] == 0
    with pytest.raises(HTTPError):
        call(done.stdout.strip(), "/api/status", token="another")
    (name,) = lab.containers()
    words = ["docker", "port", name]
    published = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert f"0.0.0.0:{urlsplit(done.stdout).port}" in published


@pytest.mark.rig
def test_a_token_of_the_environments_own_is_found_out_at_once(lab: Lab, clean: None) -> None:
    done = lab.run("notebook", "lab", "--env", "JUPYTER_TOKEN=mine")
    assert done.returncode == 1
    assert "does not take its token" in done.stderr
    assert lab.containers() == []


def test_without_a_network_there_is_no_server(tmp_path: Path) -> None:
    nobody: Any = None
    with pytest.raises(LaunchError, match="without a network"):
        serve(replace(LAUNCH, network="none"), nobody, nobody, ServeOptions(), SILENT)


@pytest.mark.rig
def test_a_server_that_is_not_there_is_named(lab: Lab) -> None:
    done = lab.run("stop", "lab")
    assert done.returncode == 1
    assert "no server of lab" in done.stderr


@pytest.mark.rig
@pytest.mark.parametrize("command", ["stop", "logs"])
def test_without_a_name_and_a_server_it_says_that_none_runs(rig: Rig, tmp_path: Path, command: str) -> None:
    (tmp_path / "environments").mkdir()
    for name in ("maps", "other"):
        (tmp_path / "environments" / f"{name}.yml").touch()
    done = subprocess.run(
        [sys.executable, "-m", "envbox", "-C", str(tmp_path), command],
        env={**os.environ, **rig.env},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: no server runs in {tmp_path}\n")


@pytest.mark.rig
@pytest.mark.parametrize("command", ["stop", "logs"])
def test_an_empty_name_does_not_mean_the_only_server(shared: dict[str, Any], busy: Lab, command: str) -> None:
    done = busy.run(command, "")
    assert done.returncode == 1
    assert "'' is not an environment's name" in done.stderr
    assert busy.containers() == [shared["container"]]


class Listing:
    """An engine that knows some servers, all of /project."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def containers(self, labels: dict[str, str]) -> tuple[Container, ...]:
        project = {"io.envbox.project": "/project"}
        return tuple(
            Container(n, f"envbox-{n}-1", "i", "exited", 0, {**labels, **project, "io.envbox.name": n})
            for n in self.names
        )


def test_without_a_name_the_only_server_is_meant_or_the_defaults() -> None:
    one, two = (cast(Engine, Listing(*names)) for names in (["maps"], ["maps", "other"]))
    here = Path("/project")
    assert servers.find_only(one, here, "other").name == "maps"
    assert servers.find_only(two, here, "other").name == "other"
    with pytest.raises(LaunchError, match=r"which server.*maps, other"):
        servers.find_only(two, here)
    with pytest.raises(LaunchError, match="no server runs in /elsewhere"):
        servers.find_only(two, Path("/elsewhere"))


@pytest.mark.rig
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_caller_who_is_not_root_has_a_server_of_his_own(
    lab: Lab, engine: Engine, open_folder: Path
) -> None:
    project = open_folder / "theirs"
    project.mkdir()
    os.chown(project, 4321, 4322)
    code = (
        "import codecs, grp, os, pwd, sys\n"
        "from pathlib import Path\n"
        "import docker, requests, http.client, envbox.engine.http_socket, envbox.engine.docker\n"
        "from envbox.sessions.launch.container import Launch\n"
        "from envbox.engine.find import connect\n"
        "from envbox.sessions.jupyter.server import ServeOptions, serve\n"
        "from envbox.report import SILENT\n"
        "from envbox.settings import Settings\n"
        "image, project, group = sys.argv[1:]\n"
        "[codecs.lookup(name) for name in ('ascii', 'idna', 'latin-1', 'utf-8-sig')]\n"
        "os.setgroups([int(group)]); os.setgid(4322); os.setuid(4321)\n"
        "settings = Settings(cache_dir=Path(project) / 'cache')\n"
        "launch = Launch(image, 'lab', Path(project), ())\n"
        "print(serve(launch, connect(settings), settings, ServeOptions(), SILENT).url)\n"
    )
    group = Path("/var/run/docker.sock").stat().st_gid
    words = [sys.executable, "-c", code, lab.image, str(project), str(group)]
    environ = {**os.environ, "HOME": str(project)}
    done = subprocess.run(words, capture_output=True, text=True, cwd=project, env=environ, check=False)
    try:
        assert done.stderr == ""
        code = (
            "import os; open('made', 'w').close(); print(os.path.realpath(os.path.expanduser('~/.ipython')))"
        )
        assert execute(done.stdout.strip(), code) == "/run/envbox/jupyter/ipython\n"
        assert ((project / "made").stat().st_uid, (project / "made").stat().st_gid) == (4321, 4322)
        assert not [s for s in servers.servers(engine) if s.project == project]  # not ours to see
    finally:
        for container in engine.containers({"io.envbox.project": str(project)}):
            engine.remove(container.id)
            engine.remove_volume(container.name)


def test_a_servers_words_do_not_show_its_token() -> None:
    server = Server("maps", "c", Path("/"), 1, "http://127.0.0.1:1/lab?token=geheim", "i", "running", 0)
    assert "geheim" not in repr(server)
