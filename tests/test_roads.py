"""Two roads out of the lock, one environment: all that can be seen from inside a container is the same."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.containers import Lab

from envbox.cache.memo import sealed_content
from envbox.engine.find import connect
from envbox.sessions.launch.bindings import Bind
from envbox.sessions.launch.container import Launch, run_argv
from envbox.sessions.launch.session import on_prefix

pytestmark = pytest.mark.rig

WALK = """\
import hashlib, json, os, stat
found = {}
for top in ("/opt/envbox", "/home/envbox", "/work"):
    for folder, folders, files in os.walk(top):
        for path in [folder, *(os.path.join(folder, name) for name in [*folders, *files])]:
            info = os.lstat(path)
            content = None
            if stat.S_ISLNK(info.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(info.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.sha256(file.read()).hexdigest()
            found[path] = [oct(info.st_mode), info.st_mtime_ns, content]
            if not path.startswith("/opt"):
                found[path][1] = 0
        if top == "/work":
            folders.clear()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def mounted(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The same project with a cache that knows of no image, so that its prefix is mounted."""
    cache = tmp_path_factory.mktemp("mounted")
    for name in ("packages", "fragments", "blobs", "bases", "compilers", "fresh"):
        if (lab.settings.cache_dir / name).is_dir():
            shutil.copytree(lab.settings.cache_dir / name, cache / name, copy_function=os.link)
    settings = replace(lab.settings, cache_dir=cache)
    made = replace(lab, settings=settings, environ={**lab.environ, "ENVBOX_CACHE_DIR": str(cache)})
    done = made.run("run", "lab", "--", "true")
    assert done.returncode == 0, done.stderr
    assert (
        done.stderr == "lab: mounted from the cache (--image uses the image)\n" or "layers: " in done.stderr
    )
    yield made
    engine = connect(settings)
    for name in made.containers():
        engine.remove(name)


@pytest.fixture(params=["image", "mounted"])
def road(request: pytest.FixtureRequest, lab: Lab) -> Lab:
    """A project whose environment is started by one road or the other."""
    return lab if request.param == "image" else request.getfixturevalue("mounted")


def said(lab: Lab, *arguments: str, **options: Any) -> str:
    done = lab.run(*arguments, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- the same


def test_the_two_are_not_one_and_the_same(lab: Lab, mounted: Lab) -> None:
    on = {one: said(one_lab, "run", "lab", "--", "cat", "/proc/mounts") for one, one_lab in
          (("image", lab), ("mounted", mounted))}  # fmt: skip
    assert [one for one in on if " /opt/envbox " in on[one]] == ["mounted"]


def test_every_file_is_the_same(lab: Lab, mounted: Lab) -> None:
    image, mount = (json.loads(said(one, "run", "lab", "--", "python", "-c", WALK)) for one in (lab, mounted))
    different = {path: (image.get(path), mount.get(path)) for path in image.keys() | mount.keys()
                 if image.get(path) != mount.get(path)}  # fmt: skip
    assert dict(list(different.items())[:5]) == {}
    assert len([path for path in image if path.endswith(".pyc")]) > 1000
    assert {"/home/envbox/.bashrc", "/opt/envbox/conda-meta/history", "/work"} <= image.keys()


@pytest.mark.parametrize(
    "command",
    [["env", "-0"], ["bash", "-c", "env -0"], ["bash", "-ic", "env -0"], ["sh", "-c", "exec env -0"]],
    ids=" ".join,
)
def test_every_variable_is_the_same(lab: Lab, mounted: Lab, command: list[str]) -> None:
    image, mount = (
        dict(
            entry.partition("=")[::2]
            for entry in said(one, "run", "lab", "--", *command).split("\0")
            if entry
        )
        for one in (lab, mounted)
    )
    assert image == mount
    assert image["LAB_VARIABLE"] == "set by the spec"


def test_variables_of_the_caller_go_before_those_of_the_environment(road: Lab, tmp_path: Path) -> None:
    (tmp_path / "some.env").write_text("LAB_VARIABLE=of the file\nCONDA_SHLVL=7\n")
    script = 'echo "$LAB_VARIABLE|$CONDA_SHLVL|$LANG|$BASH_ENV|$HOME"'
    words = ["run", "lab", "--env-file", str(tmp_path / "some.env"), "-e", "CONDA_SHLVL=8", "-e", "LANG",
             "-e", "BASH_ENV", "--", "sh", "-c", script]  # fmt: skip
    environ = {name: value for name, value in road.environ.items() if name not in ("LANG", "BASH_ENV")}
    found = said(replace(road, environ=environ), *words)
    assert found == "of the file|8|||/home/envbox\n"  # what is to be as it is here, and is not set, is not
    found = said(replace(road, environ={**environ, "LANG": "C"}), *words)
    assert found.split("|")[2] == "C"


def test_what_the_engine_says_is_the_same(lab: Lab, mounted: Lab) -> None:
    """Entrypoint, working directory and labels of a running container; what a name or a moment is, is not."""
    configs = []
    for one in (lab, mounted):
        word = f"said-{len(configs)}"
        process = subprocess.Popen(
            one.argv("run", "lab", "-e", f"WORD={word}", "--", "cat"), env=one.environ, stdin=subprocess.PIPE
        )
        try:
            configs.append(_config(one, word))
        finally:
            process.communicate(timeout=60)
    for key in ("Entrypoint", "Cmd", "WorkingDir", "User", "Volumes", "ExposedPorts", "Healthcheck"):
        assert configs[0].get(key) == configs[1].get(key), key
    assert configs[0]["Labels"] == configs[1]["Labels"]
    assert sorted(configs[0]["Env"]) == sorted(configs[1]["Env"])


def _config(lab: Lab, word: str) -> dict[str, Any]:
    for _ in range(200):
        for name in lab.containers():
            argv = ["docker", "inspect", "--format", "{{json .Config}}", name]
            asked = subprocess.run(argv, capture_output=True, text=True, check=False)
            config: dict[str, Any] = json.loads(asked.stdout or "{}")
            if f"WORD={word}" in config.get("Env", ()):
                config["Env"] = [entry for entry in config["Env"] if not entry.startswith("WORD=")]
                config["Labels"].pop("io.envbox.session")
                return config
        time.sleep(0.05)
    raise AssertionError("no container")


# --- the same things can be done


def test_a_command_runs_as_ever(road: Lab) -> None:
    done = road.run("run", "lab", "--", "sh", "-c", "cat; cat /work/data.txt; exit 7", input="given\n")
    assert (done.returncode, done.stdout) == (7, "given\nof the project\n")
    assert road.run("run", "lab", "--", "no-such-command").returncode == 127


def test_home_is_anybody_s_to_write_and_the_prefix_nobody_s(road: Lab) -> None:
    script = 'touch ~/x /tmp/x && touch /opt/envbox/x 2>&1; ls -d ~/x; echo "$(whoami)"'
    found = said(road, "run", "lab", "--", "sh", "-c", script).splitlines()
    if os.getuid() or road.settings.cache_dir.name.startswith("mounted"):  # root may write into its own image
        assert any("Read-only" in line or "denied" in line for line in found)
    assert "/home/envbox/x" in found
    script = "touch ~/x; python -c 'import getpass; print(getpass.getuser())'; touch /opt/envbox/x"
    argv = ["docker", "run", "--rm", "--user", "12345:54321", *_mounts(road), "sh", "-ec", script]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.stdout == "envbox\n"
    assert done.returncode != 0


def _mounts(road: Lab) -> list[str]:
    """What `docker run` needs to be told."""
    from envbox.project import read_project
    from envbox.sessions.mounted import find_mounted

    found = find_mounted(read_project(road.project).environment("lab"), road.settings, connect(road.settings))
    if found is None:
        return [road.image]
    env = [word for name, value in found.env.items() for word in ("--env", f"{name}={value}")]
    return [*Bind(found.prefix, "/opt/envbox", read_only=True).argv(), *env, found.image]


@pytest.mark.parametrize("options", ["", "--user"])
def test_pip_says_what_to_do_instead(road: Lab, options: str) -> None:
    pip = importlib.util.find_spec("pip")
    if pip is None or pip.origin is None:
        pytest.skip("the Python of the tests has no pip to lend")
    volume = f"{Path(pip.origin).parent}:/pip/pip:ro"
    done = road.run("run", "lab", "--volume", volume, "-e", "PYTHONPATH=/pip", "--", "sh", "-c",
                    f"python -m pip install {options} requests")  # fmt: skip
    assert done.returncode != 0
    assert "error: externally-managed-environment" in done.stderr
    assert "add it to environments/lab.yml" in done.stderr


def test_a_venv_on_top_can_be_made(road: Lab) -> None:
    make = "python -m venv --without-pip --system-site-packages /tmp/try"
    said(road, "run", "lab", "--", "sh", "-c", f"{make} && /tmp/try/bin/python -c 'import numpy'")


def test_a_server_answers(road: Lab) -> None:
    server = json.loads(said(road, "notebook", "lab", "--detach", "--json"))
    try:
        assert server["state"] == "running"
        with urllib.request.urlopen(server["url"], timeout=30) as answer:
            assert answer.status == 200
    finally:
        road.run("stop", "lab")


def test_a_server_of_the_other_road_is_the_same_environment_s(lab: Lab, mounted: Lab) -> None:
    said(lab, "notebook", "lab", "--detach", "--json")
    try:
        done = mounted.run("notebook", "lab", "--detach", "--json")
        assert "runs here already" in done.stderr
        assert "older" not in done.stderr
    finally:
        lab.run("stop", "lab")


# --- which road


def test_a_second_time_nothing_is_said(mounted: Lab) -> None:
    assert mounted.run("run", "lab", "--", "true").stderr == ""
    done = mounted.run("-v", "run", "lab", "--", "true")
    assert done.stderr == "lab: mounted from the cache (--image uses the image)\n"


def test_an_image_that_is_there_is_taken(lab: Lab, mounted: Lab) -> None:
    assert " /opt/envbox " not in said(lab, "run", "lab", "--", "cat", "/proc/mounts")
    assert " /opt/envbox " in said(mounted, "run", "lab", "--", "cat", "/proc/mounts")
    assert " /opt/envbox " not in said(mounted, "run", "lab", "--image", "--", "cat", "/proc/mounts")
    assert " /opt/envbox " not in said(mounted, "run", "lab", "--", "cat", "/proc/mounts")  # it is there now
    for memo in (mounted.settings.cache_dir / "builds").glob("*.json"):
        if "reference" in json.loads(sealed_content(memo.read_bytes())):
            memo.unlink()
    assert " /opt/envbox " in said(mounted, "run", "lab", "--", "cat", "/proc/mounts")


def test_what_is_mounted_while_it_runs_is_not_freed(mounted: Lab) -> None:
    process = subprocess.Popen(
        mounted.argv("run", "lab", "--", "sh", "-c", "echo up; cat; python -c 'import math; print(math.pi)'"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=mounted.environ,
    )  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    assert mounted.run("clean", "prefixes").returncode == 0
    out, _ = process.communicate()
    assert out.startswith("3.14")
    assert said(mounted, "run", "lab", "--", "python", "-c", "print(1)") == "1\n"


def test_a_launch_on_a_prefix_is_a_value() -> None:
    launch = Launch("sha256:1", "lab", Path("/p"), ("true",), env={"A": "1", "B": None, "C": None})
    env = {"A": "image's", "B": "image's", "PATH": "/opt/envbox/bin:/bin"}
    found = on_prefix(launch, Path("/cache/prefix"), env, {"io.envbox.lock": "sha256:2"})
    argv = run_argv(found, ("docker",))
    assert "type=bind,source=/cache/prefix,target=/opt/envbox,readonly" in argv
    assert [argv[n + 1] for n, word in enumerate(argv) if word == "--env"] == [
        "PATH=/opt/envbox/bin:/bin", "HOME=/home/envbox", "A", "B", "C",
    ]  # fmt: skip
    assert "io.envbox.lock=sha256:2" in argv
