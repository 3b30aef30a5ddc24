"""The rig itself: where it takes things from, what it starts and stops, and its command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rigging import (
    debian,
    services,
    state,
    wheels,
)
from rigging.places import Places
from rigging.services import Service

if TYPE_CHECKING:
    from conftest import Rig

TOOLS = Path(__file__).parents[1] / "tools"


# --- apt's sources


def test_the_mirror_is_the_machines_own_in_both_formats(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://commented.example/debian bookworm main\n"
        "deb http://security.example/debian-security trixie-security main\n"
        "deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://one.example/debian trixie main contrib\n"
    )
    (tmp_path / "sources.list.d/debian.sources").write_text(
        "Types: deb deb-src\n# a comment\nURIs: http://two.example/debian\n"
        "Suites: bookworm\n bookworm-updates\nComponents: main\nSigned-By: /k.gpg\n\n"
        "Types: deb\nURIs: http://off.example/debian\nSuites: bookworm\nComponents: main\nEnabled: no\n"
    )
    found = list(debian.sources(tmp_path))
    assert [(s.uri, s.suite) for s in found] == [
        ("http://security.example/debian-security", "trixie-security"),
        ("http://one.example/debian", "trixie"),
        ("http://two.example/debian", "bookworm"),
        ("http://two.example/debian", "bookworm-updates"),
    ]
    assert debian.mirror(iter(found)).signed_by == "/usr/share/keyrings/x.gpg"


def test_a_machine_without_debian_is_told_so() -> None:
    with pytest.raises(state.RigError, match="no Debian mirror"):
        debian.mirror(iter([debian.Source("http://other.example/apt", "cloud-sdk-bookworm", ("main",))]))


@pytest.mark.parametrize(
    ("version", "upstream"),
    [
        ("3.11.2-6+deb12u9", "3.11.2"),
        ("1:1.2.13.dfsg-1", "1.2.13"),
        ("6.4-4", "6.4"),
        ("2026b-0+deb12u1", "2026b"),
    ],
)
def test_debians_version_becomes_upstreams(version: str, upstream: str) -> None:
    assert debian.upstream_version(version) == upstream


# --- wheels


def test_rounds_hold_one_version_of_a_project_and_one_machine() -> None:
    dealt = wheels.rounds(wheels.pins())
    assert sum(map(len, dealt)) == len(wheels.pins())
    for round_ in dealt:
        assert len({pin.project for pin in round_}) == len(round_)
        assert len({pin.machine for pin in round_}) == 1


# --- services and state


def a_service(log: str = "") -> Service:
    code = (
        f"import time; print({log!r}, flush=True); time.sleep(60)"
        if not log
        else f"raise SystemExit({log!r})"
    )
    return Service("thing", (sys.executable, "-c", code), lambda: not log, patience=5)


def test_a_service_is_started_once_and_stopped(tmp_path: Path) -> None:
    places = Places(tmp_path)
    assert services.ensure(a_service(), places)
    pid = services.process("thing", places)
    assert pid is not None
    assert not services.ensure(a_service(), places)
    assert services.process("thing", places) == pid
    assert services.stop("thing", places)
    assert services.process("thing", places) is None
    assert not services.stop("thing", places)


def test_a_pid_that_is_somebody_elses_by_now_is_left_alone(tmp_path: Path) -> None:
    places = Places(tmp_path)
    state.write_whole(places.run / "thing.pid", f"{os.getpid()} 1 -\n".encode())
    assert services.process("thing", places) is None
    assert not services.stop("thing", places)  # and this test runs on


def test_a_service_that_dies_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(state.RigError, match="no such luck"):
        services.ensure(a_service("no such luck"), Places(tmp_path))


def test_a_port_is_kept_until_somebody_else_has_it(tmp_path: Path) -> None:
    import socket

    places = Places(tmp_path)
    number = services.port(places, "thing")
    assert services.port(places, "thing") == number
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", number))
        taken.listen()
        assert services.port(places, "thing") != number


def test_a_damaged_state_is_no_state(tmp_path: Path) -> None:
    places = Places(tmp_path)
    state.record(places, a=1)
    state.record(places, b=2)
    assert state.read(places) == {"a": 1, "b": 2}
    places.state.write_text('{"a": ')
    assert state.read(places) == {}


# --- the command


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RIG_DIR": str(folder)}
    return subprocess.run(
        [TOOLS / "rig", *arguments], capture_output=True, text=True, env=environment, check=False
    )


def test_env_of_a_rig_that_is_not_up_says_what_to_do(tmp_path: Path) -> None:
    done = run("env", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: the rig is not ready\nhint: run tools/rig up\n"


def test_status_of_a_rig_that_is_not_up_is_one(tmp_path: Path) -> None:
    done = run("status", folder=tmp_path)
    assert done.returncode == 1
    assert "not running" in done.stdout


@pytest.mark.rig
def test_env_is_safe_to_evaluate_and_stays_the_same(rig: Rig) -> None:
    shown = subprocess.run([TOOLS / "rig", "env"], capture_output=True, text=True, check=True).stdout
    command = 'eval "$1"; printf %s "$ENVBOX_MIRRORS"'
    done = subprocess.run(["sh", "-c", command, "sh", shown], capture_output=True, text=True, check=True)
    assert done.stdout == rig.env["ENVBOX_MIRRORS"]
    assert subprocess.run([TOOLS / "rig", "up"], check=True).returncode == 0
    again = subprocess.run([TOOLS / "rig", "env"], capture_output=True, text=True, check=True).stdout
    assert again == shown
