"""What a person meets at the prompt: help for everything, errors in words, exit codes as documented."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from support.command import envbox

from envbox.cli import COMMANDS, cli
from envbox.cli.context import Invocation

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_and_stands_in_the_readme(name: str, tmp_path: Path) -> None:
    done = envbox(name, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "Usage: envbox" in done.stdout
    assert f"envbox {name}" in README or f"`{name}`" in README


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_list_and_the_command_say_the_same(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.help
    for parameter in command.params:
        assert not isinstance(parameter, click.Option) or parameter.help, (
            f"{name} {parameter.name} has no help"
        )


def test_usage_errors_exit_with_2(tmp_path: Path) -> None:
    assert envbox("nonsense", cwd=tmp_path).returncode == 2
    assert envbox("lock", "--nonsense", cwd=tmp_path).returncode == 2
    assert envbox("-C", "missing", "lock", cwd=tmp_path).returncode == 2


def test_errors_exit_with_1_and_say_what_to_do_on_stderr(tmp_path: Path) -> None:
    done = envbox("lock", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: no environment in ")
    assert "\nhint: write environments/NAME.yml" in done.stderr


@pytest.mark.parametrize("name", ["../maps", "a/b", ".."])
def test_a_name_that_could_be_a_path_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments/maps.yml").touch()
    for command in ("lock", "build", "shell", "notebook"):
        done = envbox(command, name, cwd=tmp_path)
        assert done.returncode == 1
        assert "is not an environment's name" in done.stderr


def test_colour_is_for_those_who_want_it(tmp_path: Path) -> None:
    assert "\x1b[" not in envbox("lock", cwd=tmp_path).stderr
    assert "\x1b[" in envbox("lock", cwd=tmp_path, FORCE_COLOR="1").stderr
    assert "\x1b[" not in envbox("lock", cwd=tmp_path, FORCE_COLOR="1", NO_COLOR="1").stderr


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    (tmp_path / "environment.yml").write_text("dependencies: [numpy]\n")
    (tmp_path / "envbox.toml").write_text("bsae = 'x'\n")
    done = envbox("lock", cwd=tmp_path)
    assert done.returncode == 1
    assert "bsae" in done.stderr
    assert "envbox.toml" in done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell: str, tmp_path: Path) -> None:
    done = envbox("completion", shell, cwd=tmp_path)
    assert done.returncode == 0
    assert "_ENVBOX_COMPLETE" in done.stdout


def test_names_are_completed(tmp_path: Path) -> None:
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments/maps.yml").touch()
    (tmp_path / "environments/base.yml").touch()
    done = envbox(cwd=tmp_path, _ENVBOX_COMPLETE="bash_complete", COMP_WORDS="envbox shell m", COMP_CWORD="2")
    assert "maps" in done.stdout
    assert "base" not in done.stdout


def test_names_are_completed_for_another_directory_and_never_with_errors(tmp_path: Path) -> None:
    (tmp_path / "deep/environments").mkdir(parents=True)
    (tmp_path / "deep/environments/maps.yml").touch()
    words = {"_ENVBOX_COMPLETE": "bash_complete", "COMP_WORDS": "envbox -C deep shell m", "COMP_CWORD": "4"}
    assert "maps" in envbox(cwd=tmp_path, **words).stdout
    (tmp_path / "deep/envbox.toml").write_text("nonsense = 1\n")
    done = envbox(cwd=tmp_path, **words)
    assert "error" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_roundabout_way_to_a_directory_is_the_directory(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    assert Invocation(str(tmp_path / "sub" / ".."), quiet=True, verbose=False).here == tmp_path


def test_a_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m envbox completion bash | true",
        shell=True,
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert b"Traceback" not in done.stderr


def test_a_working_directory_that_is_gone_is_said_by_every_command(tmp_path: Path) -> None:
    code = (
        "import os, sys; from envbox.cli import COMMANDS, run\n"
        "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n"
        "more = {'merge-lock': ['a', 'b', 'c', 'd']}\n"
        "codes = {run([name, *more.get(name, [])]) for name in COMMANDS}\n"
        "print(codes, run(['-C', sys.argv[1], 'list']), os.getcwd())"
    )
    argv = [sys.executable, "-c", code, str(tmp_path)]
    env = {**os.environ, "ENVBOX_CACHE_DIR": "cache"}
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines()[-1] == f"{{1}} 1 {tmp_path}"
    gone = done.stderr.count("error: the working directory cannot be found: No such file or directory")
    assert gone == len(COMMANDS)
    assert "hint: go to one that is there" in done.stderr
