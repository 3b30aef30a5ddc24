"""One container to start, told to the engine's client."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from envbox.engine import RunPolicy
from envbox.errors import LaunchError
from envbox.sessions.launch.bindings import Volume
from envbox.sessions.launch.container import Launch, client_env, options_digest, run_argv
from envbox.sessions.launch.identity import User

ADA = User(1234, 100, "ada", "users", ((999, "docker"),))
LAUNCH = Launch("sha256:1", "maps", Path("/home/ada/project"), ("python", "-V"), user=ADA)


def argv(**changes: object) -> tuple[str, ...]:
    return run_argv(replace(LAUNCH, **changes), ("docker",))  # type: ignore[arg-type]


def value_of(flag: str, words: tuple[str, ...]) -> str:
    return words[words.index(flag) + 1]


def test_the_smallest_launch_in_full() -> None:
    assert argv() == (
        *("docker", "run", "--rm", "--init", "--pull", "never"),
        *("--security-opt", "no-new-privileges", "--hostname", "maps"),
        *("--user", "1234:100", "--group-add", "999"),
        *("--mount", "type=bind,source=/home/ada/project,target=/work", "--workdir", "/work"),
        *("--env", "HOME=/home/envbox"),
        *("--label", "io.envbox.name=maps", "--label", "io.envbox.project=/home/ada/project"),
        *("--label", "io.envbox.kind=run", "sha256:1", "python", "-V"),
    )


def test_a_command_that_looks_like_options_stays_behind_the_image() -> None:
    assert argv(command=("--rm", "-it"))[-3:] == ("sha256:1", "--rm", "-it")


def test_it_starts_in_the_callers_folder() -> None:
    assert value_of("--workdir", argv(folder="a/b c")) == "/work/a/b c"


@pytest.mark.parametrize("flag", ["network", "memory", "cpus", "gpus"])
def test_what_the_engine_decides_passes_through(flag: str) -> None:
    assert value_of(f"--{flag}", argv(**{flag: "2"})) == "2"
    assert f"--{flag}" not in argv()


def test_a_rootless_podman_is_asked_to_keep_the_caller_and_his_groups() -> None:
    kept = argv(ways=RunPolicy("kept", keeps_groups=True, is_podman=True))
    assert value_of("--userns", kept) == "keep-id"
    assert value_of("--user", kept) == "1234:100"
    assert value_of("--annotation", kept) == "run.oci.keep_original_groups=1"
    assert "--annotation" not in argv(ways=RunPolicy("kept", is_podman=True))
    assert "--group-add" not in kept


def test_where_a_rootless_engine_makes_root_of_the_caller_he_is_that() -> None:
    words = argv(ways=RunPolicy("root"))
    assert value_of("--user", words) == "0:0"
    assert not {"--userns", "--group-add", "--annotation"} & set(words)


@pytest.mark.parametrize(
    ("said", "devices"),
    [
        ("all", ["all"]),
        ("2", ["0", "1"]),
        ("device=1,3", ["1", "3"]),
        ('"device=0,1"', ["0", "1"]),
        ("GPU-ab12", ["GPU-ab12"]),
    ],
)
def test_podman_is_asked_for_gpus_by_name(said: str, devices: list[str]) -> None:
    words = argv(gpus=said, ways=RunPolicy(is_podman=True))
    asked = [words[at + 1] for at, word in enumerate(words) if word == "--device"]
    assert asked == [f"nvidia.com/gpu={name}" for name in devices]
    assert "--gpus" not in words


def test_what_podman_is_not_told_of_gpus_is_refused() -> None:
    with pytest.raises(LaunchError, match="capabilities=utility"):
        argv(gpus='"all,capabilities=utility"', ways=RunPolicy(is_podman=True))


def test_a_terminal_leaves_ctrl_p_to_the_shell() -> None:
    words = argv(interactive=True, tty=True)
    assert {"--interactive", "--tty"} <= set(words)
    assert "ctrl-p" not in value_of("--detach-keys", words)
    assert "--tty" not in argv(interactive=True)


def test_what_stays_is_created_and_kept() -> None:
    words = argv(stays=True, container="envbox-maps-1")
    assert words[1] == "create"
    assert "--rm" not in words
    assert value_of("--name", words) == "envbox-maps-1"


@pytest.mark.parametrize("network", ["host", "container:other"])
def test_a_shared_network_keeps_its_hostname(network: str) -> None:
    assert "--hostname" not in argv(network=network)


@pytest.mark.parametrize(("name", "hostname"), [("my_env.2", "my-env-2"), ("a" * 80, "a" * 63), ("x-", "x")])
def test_the_hostname_is_one(name: str, hostname: str) -> None:
    assert value_of("--hostname", argv(name=name)) == hostname


def test_values_of_variables_are_not_in_the_argument_list() -> None:
    launch = replace(LAUNCH, env={"PGPASSWORD": "geheim", "EMPTY": "", "LINES": "a\nb", "FROM_HERE": None})
    words = run_argv(launch, ("docker",))
    assert not [word for word in words if "geheim" in word]
    assert [words[i + 1] for i, word in enumerate(words) if word == "--env"][1:] == list(launch.env)
    env = client_env(launch, {"FROM_HERE": "1", "PATH": "/bin"})
    assert env == {"FROM_HERE": "1", "PATH": "/bin", "PGPASSWORD": "geheim", "EMPTY": "", "LINES": "a\nb"}


@pytest.mark.parametrize("name", ["PATH", "HOME", "DOCKER_HOST", "LD_PRELOAD", "DOCKER_CONFIG"])
def test_a_variable_for_the_container_does_not_change_the_client(name: str) -> None:
    launch = replace(LAUNCH, env={name: "/x"})
    assert f"{name}=/x" in run_argv(launch, ("docker",))
    assert client_env(launch, {name: "ours"})[name] == "ours"


@pytest.mark.parametrize(
    "name", ["DOCKER_AUTH_CONFIG", "DOCKER_PASSWORD", "DOCKER_TOKEN", "MY_PATH", "GOOGLE_KEY"]
)
def test_what_may_be_a_secret_is_never_in_the_argument_list(name: str) -> None:
    assert name in run_argv(replace(LAUNCH, env={name: "geheim"}), ("docker",))


@pytest.mark.parametrize(
    "changes",
    [
        {"mounts": (Volume("data:/data"),)},
        {"ports": ("127.0.0.1:1:1",)},
        {"env": {"A": "2", "HERE": None}},
        {"env": {"A": "1"}},
        {"network": "lab"},
        {"memory": "1g"},
        {"cpus": "1"},
        {"gpus": "all"},
    ],
)
def test_launches_with_other_options_are_told_apart(changes: dict[str, object]) -> None:
    launch = replace(LAUNCH, env={"A": "1", "HERE": None})
    other = replace(launch, **changes)  # type: ignore[arg-type]
    assert options_digest(launch, {"HERE": "x"}, "key") != options_digest(other, {"HERE": "x"}, "key")


def test_the_same_options_are_the_same_wherever_they_are_said() -> None:
    launch = replace(LAUNCH, env={"A": "1", "B": "2"})
    digest = options_digest(launch, {"X": "1"}, "key")
    same = replace(launch, env={"B": "2", "A": "1"}, image="sha256:2", folder="sub", command=("other",))
    assert options_digest(same, {"X": "2"}, "key") == digest
    assert options_digest(launch, {"X": "1"}, "other key") != digest


def test_a_variable_that_is_passed_on_counts_with_its_value() -> None:
    launch = replace(LAUNCH, env={"HERE": None})
    assert options_digest(launch, {"HERE": "1"}, "key") != options_digest(launch, {"HERE": "2"}, "key")
    assert options_digest(launch, {}, "key") == options_digest(launch, {}, "key")
