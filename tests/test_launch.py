"""From settings and a command line to a running container."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest
from support.containers import Lab

from envbox.engine import Engine
from envbox.engine.address import Address
from envbox.engine.docker import DockerEngine
from envbox.engine.find import connect
from envbox.errors import LaunchError
from envbox.sessions.launch.bindings import Bind, Volume
from envbox.sessions.launch.container import Launch
from envbox.sessions.launch.session import (
    LaunchOptions,
    NameTakenError,
    create,
    from_settings,
    image_terminal,
    prepare,
)
from envbox.settings import EnvironmentSettings, Settings


def merged(project: Path, own: EnvironmentSettings | None = None, **options: object) -> Launch:
    said = LaunchOptions(**{"command": ("true",), **options})  # type: ignore[arg-type]
    return from_settings("sha256:1", "maps", project, own or EnvironmentSettings(), said)


# --- merging


@pytest.mark.parametrize("field", ["network", "memory", "cpus", "gpus"])
def test_the_command_line_has_the_last_word(tmp_path: Path, field: str) -> None:
    own = EnvironmentSettings(**{field: "1"})  # type: ignore[arg-type]
    assert getattr(merged(tmp_path, own), field) == "1"
    assert getattr(merged(tmp_path, own, **{field: "2"}), field) == "2"


def test_no_gpus_are_none_whatever_the_file_says(tmp_path: Path) -> None:
    assert merged(tmp_path, EnvironmentSettings(gpus="all"), gpus="none").gpus is None
    assert merged(tmp_path, EnvironmentSettings(gpus="none")).gpus is None
    assert merged(tmp_path, EnvironmentSettings(gpus="none"), gpus="all").gpus == "all"


def test_ports_are_open_to_other_machines_where_the_command_line_says_so(tmp_path: Path) -> None:
    own = EnvironmentSettings(ports=("8000",))
    assert merged(tmp_path, own, ports=("9000",)).ports == ("127.0.0.1:8000:8000", "127.0.0.1:9000:9000")
    launch = merged(tmp_path, own, ports=("9000",), public=True)
    assert launch.ports == ("0.0.0.0:8000:8000", "0.0.0.0:9000:9000")
    assert launch.is_public


def test_variables_are_merged_one_by_one(tmp_path: Path) -> None:
    own = EnvironmentSettings(env={"A": "1", "B": "1"})
    assert merged(tmp_path, own, env=("B=2=3", "C", "D=")).env == {"A": "1", "B": "2=3", "C": None, "D": ""}


def test_a_file_on_the_command_line_goes_before_what_is_set(tmp_path: Path) -> None:
    (tmp_path / "set.env").write_text("X=set\n")
    (tmp_path / "said.env").write_text("# A=no\nA=said\n")
    own = EnvironmentSettings(env={"A": "1", "B": "1"}, env_file="set.env")
    launch = merged(tmp_path, own, env_file="said.env")
    assert launch.env == {"A": "said", "B": "1", "X": "set"}


def test_paths_of_the_settings_start_from_the_project_and_ours_from_here(tmp_path: Path) -> None:
    here = tmp_path / "sub"
    (here / "data").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    own = EnvironmentSettings(volumes=("./data:/a", "cache:/c"))
    launch = merged(tmp_path, own, here=here, volumes=("./data:/b:ro",))
    assert launch.mounts == (
        Bind(tmp_path / "data", "/a"),
        Volume("cache:/c"),
        Bind(here / "data", "/b", read_only=True),
    )
    assert launch.folder == "sub"


def test_ports_come_beside_those_that_are_set(tmp_path: Path) -> None:
    launch = merged(tmp_path, EnvironmentSettings(ports=("8000",)), ports=("9000:80",))
    assert launch.ports == ("127.0.0.1:8000:8000", "127.0.0.1:9000:80")


def test_a_directory_outside_the_project_starts_at_its_top(tmp_path: Path) -> None:
    assert merged(tmp_path / "project", here=tmp_path).folder == "."


def test_a_run_without_a_command_takes_the_one_that_is_set(tmp_path: Path) -> None:
    own = EnvironmentSettings(command=("python", "app.py"))
    assert merged(tmp_path, own, command=()).command == ("python", "app.py")
    assert merged(tmp_path, own, command=(), kind="shell").command == ("bash",)


def test_a_run_without_any_command_says_how_to_give_one(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="no command") as caught:
        merged(tmp_path, command=())
    assert caught.value.hint is not None
    assert "envbox run maps -- COMMAND" in caught.value.hint


def test_a_missing_env_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"there is no file .*gone\.env"):
        merged(tmp_path, env_file="gone.env")


@pytest.mark.parametrize(
    ("key", "value", "option"),
    [
        ("volumes", ("./gone:/x",), "--volume"),
        ("volumes", ("x",), "--volume"),
        ("ports", ("x",), "--port"),
        ("env_file", "gone.env", "--env-file"),
        ("memory", "lots", "--memory"),
        ("cpus", "abc", "--cpus"),
    ],
)
def test_a_wrong_value_is_blamed_on_whoever_said_it(
    tmp_path: Path, key: str, value: object, option: str
) -> None:
    text = value if isinstance(value, str) else value[0]  # type: ignore[index]
    with pytest.raises(LaunchError) as typed:
        merged(tmp_path, **{key: value})
    assert typed.value.message.startswith(f"{option} {text}: ")
    with pytest.raises(LaunchError) as stored:
        merged(tmp_path, EnvironmentSettings(**{key: value}))  # type: ignore[arg-type]
    assert f" {text} in [environments.maps]: " in stored.value.message
    assert option not in stored.value.message


def test_an_env_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.env").write_bytes(b"\xff\xfeA\x00")
    with pytest.raises(LaunchError, match=r"x\.env"):
        merged(tmp_path, env_file="x.env")


def test_a_variable_without_a_name_is_refused_and_its_value_not_shown(tmp_path: Path) -> None:
    with pytest.raises(LaunchError) as caught:
        merged(tmp_path, env=("=geheim",))
    assert "geheim" not in caught.value.message


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("xterm-256color", "xterm-256color"),
        ("tmux-256color", "tmux-256color"),
        ("xterm-kitty", "xterm-256color"),
    ],
)
def test_a_terminal_that_the_image_does_not_know_becomes_one_that_it_does(here: str, there: str) -> None:
    assert image_terminal(here) == there


@pytest.mark.parametrize(
    ("url", "words"),
    [("ssh://user@example.org", "engine over ssh"), ("tcp://example.org:1", "another machine")],
)
def test_another_machines_engine_is_refused(tmp_path: Path, url: str, words: str) -> None:
    engine = DockerEngine(Address(url, "from DOCKER_HOST"), tmp_path)
    with pytest.raises(LaunchError, match=re.escape(f"{url} (from DOCKER_HOST)")) as caught:
        prepare(merged(tmp_path), engine, Settings(cache_dir=tmp_path))
    assert words in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("command", "docker_host", "words"),
    [
        (("run", "maps", "--memory", "lots", "--", "true"), "unix:///nowhere", "--memory lots: not a size"),
        (("run", "maps", "--cpus", "abc", "--", "true"), "unix:///nowhere", "--cpus abc: not a number"),
        (("notebook", "maps", "--network", "none"), "unix:///nowhere", "without a network"),
        (("run", "maps", "--", "true"), "ssh://nobody@127.0.0.1:1", "an engine over ssh"),
        (("shell", "maps"), "tcp://127.0.0.1:1", "another machine's"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_made(
    tmp_path: Path, command: tuple[str, ...], docker_host: str, words: str
) -> None:
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments" / "maps.yml").write_text("dependencies: [python]\n")
    cache = tmp_path / "cache"
    environ = {**os.environ, "DOCKER_HOST": docker_host, "ENVBOX_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-m", "envbox", "-C", str(tmp_path), *command],
        env={**environ, "ENVBOX_CONFIG": os.devnull},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert words in done.stderr
    assert "\nhint: " in done.stderr
    assert not [path for path in cache.glob("*") if path.is_dir()]
    assert [path.name for path in (tmp_path / "environments").iterdir()] == ["maps.yml"]


# --- running, through the command line


@pytest.mark.rig
def test_streams_and_the_exit_code_are_the_commands(lab: Lab) -> None:
    done = lab.run("run", "lab", "--", "sh", "-c", "cat; echo words >&2; exit 7", input="1\n2\n")
    assert (done.stdout, done.stderr, done.returncode) == ("1\n2\n", "words\n", 7)


@pytest.mark.rig
def test_bytes_pass_unchanged(lab: Lab) -> None:
    data = bytes(range(256)) * 5000
    done = subprocess.run(
        lab.argv("run", "lab", "--", "cat"), input=data, capture_output=True, env=lab.environ, check=True
    )
    assert done.stdout == data


@pytest.mark.rig
def test_a_reader_that_goes_away_ends_the_command(lab: Lab) -> None:
    line = f"{shlex.join(lab.argv('run', 'lab', '--', 'yes'))} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], env=lab.environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == ["y", "1"]
    lab.wait_for_no_container()


def asleep(lab: Lab) -> subprocess.Popen[bytes]:
    """A session whose command is there, and sleeps."""
    process = subprocess.Popen(
        lab.argv("run", "lab", "--", "sh", "-c", "echo up; exec sleep 60"),
        stdout=subprocess.PIPE,
        env=lab.environ,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    return process


@pytest.mark.rig
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_reaches_the_command_and_leaves_no_container(lab: Lab, number: int, code: int) -> None:
    process = asleep(lab)
    process.send_signal(number)
    assert process.wait(20) == code
    assert lab.containers() == []


@pytest.mark.rig
def test_a_client_that_is_killed_takes_its_container_along(lab: Lab) -> None:
    process = asleep(lab)
    process.kill()
    process.wait(20)
    lab.wait_for_no_container()


@pytest.mark.rig
def test_the_caller_has_a_name_a_home_and_the_project(lab: Lab) -> None:
    python = (
        "import getpass, os; print(getpass.getuser(), os.path.expanduser('~'), os.getcwd(), os.uname()[1])"
    )
    done = lab.run("run", "lab", "--", "sh", "-c", f'whoami; id -un; python -c "{python}"')
    import pwd

    name = pwd.getpwuid(os.getuid()).pw_name
    assert done.stdout.splitlines() == [name, name, f"{name} /home/envbox /work lab"]


@pytest.mark.rig
def test_home_is_writable_and_not_the_project(lab: Lab) -> None:
    done = lab.run("run", "lab", "--", "sh", "-c", "echo x > ~/x && mkdir ~/d && ls -A /work")
    assert done.returncode == 0
    assert "x" not in done.stdout.split()


@pytest.mark.rig
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_files_belong_to_a_caller_who_is_not_root(lab: Lab, open_folder: Path) -> None:
    """As a user of this machine who is in the engine's group, and of whom the image has never heard."""
    project = open_folder / "theirs"
    project.mkdir()
    os.chown(project, 4321, 4322)
    socket_group = Path("/var/run/docker.sock").stat().st_gid
    code = (
        "import grp, os, pwd, sys\n"
        "from pathlib import Path\n"
        "import envbox.engine.http_socket, envbox.engine.docker\n"
        "from envbox.engine.find import connect\n"
        "from envbox.sessions.launch.session import LaunchOptions, exec_session, from_settings\n"
        "from envbox.settings import EnvironmentSettings, Settings\n"
        "image, project, group, *command = sys.argv[1:]\n"
        "os.setgroups([int(group), 4323]); os.setgid(4322); os.setuid(4321)\n"
        "settings = Settings(cache_dir=Path(project) / 'cache')\n"
        "options = LaunchOptions(command=tuple(command))\n"
        "launch = from_settings(image, 'lab', Path(project), EnvironmentSettings(), options)\n"
        "exec_session(launch, connect(settings), settings)\n"
    )
    inside = "id -u; id -g; id -G; whoami; touch made; mkdir folder; touch ~/mine"
    done = subprocess.run(
        [sys.executable, "-c", code, lab.image, str(project), str(socket_group), "sh", "-c", inside],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(project)},
        cwd=project,
        check=False,
    )
    assert done.stderr == ""
    uid, gid, gids, name = done.stdout.splitlines()
    assert (uid, gid, name) == ("4321", "4322", "envbox")
    assert set(map(int, gids.split())) == {4322, 4323, socket_group}
    for made in (project / "made", project / "folder"):
        assert (made.stat().st_uid, made.stat().st_gid) == (4321, 4322)


@pytest.mark.rig
@pytest.mark.parametrize(
    "name", ["with space", "with:colon", "with,comma", 'with"quote', "mit ü und 地図", "$HOME"]
)
def test_any_project_path_can_be_mounted(lab: Lab, tmp_path: Path, name: str) -> None:
    project = tmp_path / name
    (project / "sub dir").mkdir(parents=True)
    (project / "sub dir" / "file").write_text("found")
    launch = from_settings(
        lab.image,
        "lab",
        project,
        EnvironmentSettings(),
        LaunchOptions(command=("cat", "file"), here=project / "sub dir"),
    )
    engine = connect(lab.settings)
    container = create(launch, engine, lab.settings)
    try:
        engine.start(container)
        assert engine.wait(container) == 0
        assert b"".join(engine.logs(container)) == b"found"
    finally:
        engine.remove(container)


@pytest.mark.rig
def test_variables_files_and_volumes_arrive(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "e.env").write_text("FROM_FILE=f\nBOTH=file\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_text("x")
    done = lab.run(
        *(
            "run",
            "lab",
            "-e",
            "GIVEN=a b",
            "-e",
            "HERE",
            "-e",
            "BOTH=said",
            "-e",
            "GONE",
            "-e",
            "LINES2=1\n2",
        ),
        *("--env-file", str(tmp_path / "e.env"), "--volume", f"{tmp_path}/data:/data:ro"),
        *(
            "--",
            "sh",
            "-c",
            'echo "$GIVEN|$HERE|$FROM_FILE|$BOTH|${GONE-unset}|$LINES2"; cat /data/x; touch /data/y',
        ),
        extra_env={"HERE": "host"},
    )
    assert done.stdout == "a b|host|f|said|unset|1\n2\nx"
    assert "Read-only" in done.stderr


@pytest.mark.rig
def test_limits_and_the_network_arrive(lab: Lab) -> None:
    done = lab.run(
        *("run", "lab", "--network", "none", "--memory", "64m", "--cpus", "0.5"),
        *("--", "sh", "-c", "ls /sys/class/net; cat /proc/self/cgroup >/dev/null; hostname"),
    )
    assert done.stdout.split() == ["lo", "lab"]


@pytest.mark.rig
@pytest.mark.skipif(shutil.which("ss") is None, reason="there is no ss")
def test_a_port_is_published_on_loopback_only(lab: Lab) -> None:
    from urllib.request import urlopen

    port = lab.free_port()
    process = subprocess.Popen(
        lab.argv("run", "lab", "--port", f"{port}:8000", "--", "python", "-m", "http.server", "8000"),
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=lab.environ,
    )
    try:
        for _ in range(100):
            try:
                with urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                    assert answer.status == 200
                break
            except OSError:
                time.sleep(0.1)
        listening = subprocess.run(["ss", "-ltnH"], capture_output=True, text=True, check=True).stdout
        assert {line.split()[3] for line in listening.splitlines() if f":{port}" in line} == {
            f"127.0.0.1:{port}"
        }
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


@pytest.mark.rig
def test_a_container_that_several_remove_at_once_is_gone_for_each(lab: Lab) -> None:
    engine: Engine = connect(lab.settings)
    for _ in range(3):
        container = create(Launch(lab.image, "lab", lab.project, ("sleep", "60")), engine, lab.settings)
        engine.start(container)
        with ThreadPoolExecutor(4) as pool:
            removals = [pool.submit(connect(lab.settings).remove, container) for _ in range(4)]
            for removal in removals:
                removal.result()
        assert engine.container(container) is None


@pytest.mark.rig
def test_a_name_that_is_taken_is_told_apart(lab: Lab) -> None:
    engine: Engine = connect(lab.settings)
    name = f"envbox-test-{uuid4().hex[:8]}"
    launch = Launch(lab.image, "lab", lab.project, ("true",), container=name)
    first = create(launch, engine, lab.settings)
    try:
        with pytest.raises(NameTakenError, match=name):
            create(launch, engine, lab.settings)
    finally:
        engine.remove(first)


@pytest.mark.rig
@pytest.mark.parametrize(("field", "value"), [("network", "none-such"), ("gpus", "some")])
def test_what_the_engine_refuses_is_said_in_its_words(lab: Lab, field: str, value: str) -> None:
    done = lab.run("run", "lab", f"--{field}", value, "--", "true")
    assert done.returncode == 125
    assert value in done.stderr or "gpu" in done.stderr.lower()
