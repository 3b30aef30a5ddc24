"""Podman where there is no Docker: found, spoken to by its own client, root's and a user's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pexpect
import pytest
from support.containers import Lab
from support.podman_machine import Machine, furnished, handed_over, machine, settings_of, words

from envbox.project import read_project
from envbox.report import SILENT
from envbox.sessions.prepare import ready_image

pytestmark = pytest.mark.rig
SOURCE = Path(__file__).parents[1] / "src"
PROMPT = r"\(lab\) /work[^\r\n]*[$#] "


@pytest.fixture(scope="module")
def podman(lab: Lab) -> Iterator[Machine]:
    """Root's podman, with the image of the environment, brought there by `build`."""
    with machine("podman", lab.environ) as made:
        furnished(made, lab)
        environment = read_project(made.project).environment("lab")
        built = ready_image(environment, settings_of(made, lab), made.engine, SILENT)
        assert built.id == lab.image
        yield made


@pytest.fixture(scope="module")
def rootless(lab: Lab) -> Iterator[Machine]:
    """A user's own podman, with the environment's files in the user's cache."""
    with machine("rootless", lab.environ) as made:
        handed_over(made, lab)
        (made.project / "team.txt").write_text("for the group\n")
        os.chown(made.project / "team.txt", 0, made.uid + 1)
        (made.project / "team.txt").chmod(0o640)
        yield made


@pytest.fixture(scope="module")
def rootless_docker(lab: Lab) -> Iterator[Machine]:
    """A user's own Docker, likewise."""
    with machine("rootless-docker", lab.environ) as made:
        handed_over(made, lab)
        yield made


def a_notebook(path: Path, *cells: str) -> None:
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells]), path)
    owner = path.parent.stat()
    os.chown(path, owner.st_uid, owner.st_gid)


def printed(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.text for cell in cells for output in cell.outputs)


# --- found


def test_it_is_found_where_no_docker_answers_and_that_is_said(podman: Machine) -> None:
    done = podman.run("run", "lab", "--", "python", "-c", "import numpy; print(6 * 7)")
    assert words(done) == "42\n"
    assert done.stderr == (
        f"podman 4.3.1 at unix://{podman.folder}/podman/podman.sock (podman's, this user's), "
        "since no Docker answers\n"
    )


def test_it_is_found_where_podman_s_own_variable_leads(podman: Machine) -> None:
    said = f"unix://{podman.second.socket}"
    done = podman.run("ps", XDG_RUNTIME_DIR="/nowhere", CONTAINER_HOST=said)
    assert done.returncode == 0
    assert f"podman 4.3.1 at {said} (from CONTAINER_HOST)" in done.stderr


def test_where_it_is_named_nothing_is_said(podman: Machine) -> None:
    done = podman.run("run", "lab", "--", "true", DOCKER_HOST=f"unix://{podman.second.socket}")
    assert words(done) == done.stderr == ""


# --- what a launch asks for


def test_nothing_but_the_image_is_left_of_a_build(podman: Machine, lab: Lab) -> None:
    listed = subprocess.run(
        ["curl", "-s", "--unix-socket", str(podman.second.socket), "http://podman/v1.41/images/json?all=1"],
        capture_output=True,
        text=True,
        check=True,
    )
    (image,) = json.loads(listed.stdout)
    assert image["Id"] == lab.image
    assert sorted(tag.removeprefix("docker.io/") for tag in image["RepoTags"]) == [
        f"envbox/lab:{lab.image[7:19]}",
        "envbox/lab:latest",
    ]
    assert podman.containers() == []


def test_streams_and_exit_codes_are_the_commands(podman: Machine) -> None:
    data = "".join(f"{number}\n" for number in range(200_000))
    assert podman.run("run", "lab", "--", "cat", input=data).stdout == data
    for command, code in (("exit 7", 7), ("kill -9 $$", 137), ("exec nowhere", 127), ("exec /work", 126)):
        assert podman.run("run", "lab", "--", "sh", "-c", command).returncode == code


def test_what_it_refuses_is_no_exit_code_of_the_command_s(podman: Machine) -> None:
    done = podman.run("run", "lab", "--network", "nowhere", "--", "true")
    assert done.returncode in (125, 126)
    assert "nowhere" in done.stderr


def test_options_mean_what_they_mean_to_docker(podman: Machine) -> None:
    folder = podman.folder / 'with, "all":sorts'
    folder.mkdir()
    (folder / "file").write_text("here\n")
    (podman.folder / "env").write_text('A=a "b" \n# B=1\nC=x#y\nD\nE= lead\n')
    script = (
        'env | grep "^[A-F]=" | sort; cat /data/file; touch /data/new || echo refused; pwd; hostname;'
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max;"
        "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max"
    )
    (podman.project / "sub").mkdir(exist_ok=True)
    done = podman.run(
        *("-C", str(podman.project / "sub"), "run", "lab", "--memory", "300m", "--cpus", "1.5"),
        *("--env-file", str(podman.folder / "env"), "--env", "F"),
        *("--volume", f"{folder}:/data:ro", "--", "sh", "-c", script),
        D="given",
        F="two\nlines",
    )
    assert done.stdout.splitlines()[:10] == [
        'A=a "b" ', "C=x#y", "D=given", "E= lead", "F=two", "here", "refused", "/work/sub", "lab", "314572800"
    ]  # fmt: skip
    assert done.stdout.splitlines()[10].split(" ")[0] == "150000"


def test_gpus_are_asked_for_and_not_passed_over_in_silence(podman: Machine) -> None:
    done = podman.run("run", "lab", "--gpus", "all", "--", "true")
    assert done.returncode in (125, 126)
    assert "nvidia.com/gpu=all" in done.stderr


def test_a_shell_has_a_terminal_of_the_right_size(podman: Machine) -> None:
    command, *rest = podman.argv("shell", "lab")
    environ = {**podman.environ, "TERM": "xterm-256color"}
    child = pexpect.spawn(command, rest, env=environ, encoding="utf-8", timeout=30, dimensions=(30, 100))
    child.expect(PROMPT)
    child.sendline("stty size; echo $TERM")
    child.expect("30 100\r\n.*xterm-256color")
    child.expect(PROMPT)
    child.setwinsize(40, 120)
    time.sleep(0.5)
    child.send("\x10")  # Ctrl-P, the last command, at once
    child.expect("stty size; echo")
    child.sendline()
    child.expect("40 120")
    child.expect(PROMPT)
    child.sendline("bash -c 'echo st''arted; exec sleep 100'")
    child.expect("started")
    child.sendintr()
    child.expect(PROMPT)
    child.sendline("exit 5")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 5
    podman.wait_for_no_container()


def test_a_client_that_is_killed_takes_its_container_along(podman: Machine) -> None:
    stubborn = "trap '' TERM INT; echo there; sleep 100 & wait; sleep 100"
    with subprocess.Popen(
        podman.argv("run", "lab", "--", "sh", "-c", stubborn), env=podman.environ, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"there\n"
        begin = time.monotonic()
        process.send_signal(signal.SIGKILL)
        podman.wait_for_no_container()
        assert time.monotonic() - begin < 8  # podman's own patience is ten seconds


def test_notebooks_are_run(podman: Machine) -> None:
    a_notebook(podman.project / "a.ipynb", "import os; print(os.getcwd())", "print('x' * 300_000)")
    assert words(podman.run("exec", "-n", "lab", "a.ipynb")) == "a.out.ipynb\n"
    assert printed(podman.project / "a.out.ipynb") == "/work\n" + "x" * 300_000 + "\n"
    assert podman.containers() == []


def kernel(made: Machine, *what: str) -> dict[str, object]:
    """What comes of using a kernel from a Jupyter outside of it, here the environment without a container."""
    jupyter = made.folder / "jupyter"
    words(made.run("kernel", "add", "lab", "--prefix", str(jupyter)))
    spec = jupyter / "share/jupyter/kernels/envbox-lab/kernel.json"
    spec.write_text(json.dumps({**json.loads(spec.read_text()), "env": {"PYTHONPATH": str(SOURCE)}}))
    done = made.run(
        *("run", "--engine", "host", "--env", "JUPYTER_PATH", "lab", "--", "python"),
        *(str(Path(__file__).parent / "support" / "kernel_client.py"), "envbox-lab", *what),
        JUPYTER_PATH=str(jupyter / "share/jupyter"),
        KERNEL_CWD=str(made.project),
    )
    return dict(map(json.loads, words(done).splitlines()))


def test_a_kernel_is_reached_at_once_interrupted_and_gone_with_its_client(podman: Machine) -> None:
    did = kernel(podman, "seconds", "where", "interrupt", "input")
    assert isinstance(did["seconds"], float)
    assert did["seconds"] < 25  # a client waits thirty seconds for a connection that nobody answers
    assert did["where"] == "/opt/envbox|/work|0\n"
    assert did["interrupt"] == ["error", "KeyboardInterrupt", True, "lives\n"]
    assert "hello Ada" in str(did["input"])
    podman.wait_for_no_container()


GET = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).status)"


def get(made: Machine, url: str) -> str:
    """The status of an answer, on that machine's own loopback."""
    done = subprocess.run(
        made.on(sys.executable, "-c", GET, url), capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or done.stderr.splitlines()[-1]


def test_a_server_is_reached_listed_read_and_stopped(podman: Machine) -> None:
    url = words(podman.run("notebook", "lab", "--detach")).strip()
    address, _, token = url.partition("/lab?token=")
    assert get(podman, f"{address}/api/status?token={token}") == "200"
    assert "403" in get(podman, f"{address}/api/status")
    (listed,) = json.loads(words(podman.run("ps", "--json")))
    assert (listed["url"], listed["state"]) == (url, "running")
    assert "ServerApp" in words(podman.run("logs", "lab"))
    again = podman.run("notebook", "lab", "--detach")
    assert words(again).strip() == url
    assert "already" in again.stderr
    assert "stopped lab" in podman.run("stop", "lab", "--forget").stderr
    assert podman.containers() == []
    assert not podman.engine.has_volume(listed["container"])


def test_a_paused_server_is_stopped_too(podman: Machine) -> None:
    words(podman.run("notebook", "lab", "--detach"))
    (name,) = podman.containers()
    podman.second.docker("pause", name)
    done = podman.run("stop", "lab")
    assert done.stderr.endswith("stopped lab\n")
    assert podman.containers() == []


# --- a user's own


def test_a_user_s_own_lets_him_be_himself(rootless: Machine) -> None:
    done = rootless.run("-v", "run", "lab", "--", "sh", "-c", "id -u; id -g; touch /work/made ~/mine")
    assert words(done).split() == [str(rootless.uid)] * 2
    assert "lab: mounted from the cache" in done.stderr
    made = (rootless.project / "made").stat()
    assert (made.st_uid, made.st_gid) == (rootless.uid, rootless.uid)


def test_what_only_his_group_may_read_he_may_read_there(rootless: Machine) -> None:
    assert words(rootless.run("run", "lab", "--", "cat", "team.txt")) == "for the group\n"


def test_the_environment_is_where_it_belongs_and_cannot_be_changed(rootless: Machine) -> None:
    script = "python -c 'import numpy; print(numpy.__file__)'; touch /opt/envbox/new"
    done = rootless.run("run", "lab", "--", "sh", "-c", script)
    assert done.stdout.startswith("/opt/envbox/lib/python3")
    assert "Read-only file system" in done.stderr


def test_his_shell_and_his_notebooks(rootless: Machine) -> None:
    command, *rest = rootless.argv("shell", "lab")
    child = pexpect.spawn(
        command, rest, env={**rootless.environ, "TERM": "xterm"}, encoding="utf-8", timeout=30
    )
    child.expect(PROMPT)
    child.sendline("id -u")
    child.expect(f"{rootless.uid}\r\n")
    child.sendline("exit 5")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 5
    a_notebook(rootless.project / "a.ipynb", "import os; print(os.getuid())")
    assert words(rootless.run("exec", "-n", "lab", "a.ipynb")) == "a.out.ipynb\n"
    assert printed(rootless.project / "a.out.ipynb") == f"{rootless.uid}\n"
    assert (rootless.project / "a.out.ipynb").stat().st_uid == rootless.uid
    rootless.wait_for_no_container()


GREET = """
import socket, sys, time
for _ in range(300):
    try:
        with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10) as there:
            print(there.recv(10).hex())
            break
    except ConnectionError:
        time.sleep(0.1)
"""


def test_his_kernel_answers_on_loopback(rootless: Machine) -> None:
    names = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
    ports = {name: number for number, name in enumerate(names, 40551)}
    connection = rootless.folder / "kernel.json"
    said = {**ports, "ip": "127.0.0.1", "transport": "tcp", "key": "k", "signature_scheme": "hmac-sha256"}
    connection.write_text(json.dumps(said))
    rootless.give(connection)
    argv = rootless.argv("kernel", "run", "lab", "--connection-file", str(connection))
    with subprocess.Popen(argv, env=rootless.environ, stderr=subprocess.DEVNULL) as process:
        greet = rootless.on(sys.executable, "-c", GREET, str(ports["shell_port"]))
        done = subprocess.run(greet, capture_output=True, text=True, check=True)
        process.send_signal(signal.SIGKILL)
    assert done.stdout.startswith("ff"), "ZeroMQ's greeting"
    rootless.wait_for_no_container()


def test_his_server_keeps_its_settings_in_a_volume_of_his(rootless: Machine) -> None:
    url = words(rootless.run("notebook", "lab", "--detach")).strip()
    address, _, token = url.partition("/lab?token=")
    assert get(rootless, f"{address}/api/status?token={token}") == "200"
    (name,) = rootless.containers()
    kept = rootless.second.docker("exec", name, "sh", "-c", "touch ~/.jupyter/x && readlink ~/.jupyter")
    assert kept == "/run/envbox/jupyter/config"
    assert "stopped lab" in rootless.run("stop", "lab", "--forget").stderr


def test_with_docker_s_client_he_is_root_in_there_and_his_files_are_his(rootless: Machine) -> None:
    done = rootless.run("run", "lab", "--", "sh", "-c", "id -u; touch /work/by-root", docker=True)
    assert words(done) == "0\n"
    made = (rootless.project / "by-root").stat()
    assert (made.st_uid, made.st_gid) == (rootless.uid, rootless.uid)


def test_in_a_user_s_own_docker_too(rootless_docker: Machine) -> None:
    made = rootless_docker
    a_notebook(made.project / "a.ipynb", "import os; print(os.getuid(), open('data.txt').read())")
    said = {"DOCKER_HOST": f"unix://{made.second.socket}"}
    script = "id -u; cat data.txt; touch by-root ~/mine"
    done = made.run("run", "lab", "--", "sh", "-c", script, docker=True, **said)
    assert words(done) == "0\nof the project\n"
    assert words(made.run("exec", "-n", "lab", "a.ipynb", docker=True, **said)) == "a.out.ipynb\n"
    assert printed(made.project / "a.out.ipynb") == "0 of the project\n\n"
    for name in ("by-root", "a.out.ipynb"):
        found = (made.project / name).stat()
        assert (found.st_uid, found.st_gid) == (made.uid, made.uid)
    assert made.containers() == []
