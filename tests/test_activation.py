"""An environment is active however a process gets into the container, and other people's shells stay theirs.

The scripts are run by real shells: bash and dash.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from envbox.errors import LockfileError, PackageError
from envbox.image_paths import HOME
from envbox.lockfile import Lock, LockedPackage
from envbox.oci import digest_of
from envbox.packages.activation import (
    Activation,
    activate_script,
    bashrc,
    conda_history,
    entrypoint_script,
    environment_files,
    image_env,
    is_variables_file,
    package_list,
    read_activation,
)

if TYPE_CHECKING:
    from support.containers import Lab

BASH, DASH = shutil.which("bash") or "", shutil.which("dash") or ""
SHELLS = [pytest.param(shell, id=Path(shell).name) for shell in (BASH, DASH) if shell]
PLAIN = {"PATH": "/usr/bin:/bin"}


def locked(name: str, manager: str = "conda", subdir: str = "linux-64") -> LockedPackage:
    url = f"https://conda.anaconda.org/conda-forge/{subdir}/{name}-1.0-h0_0.conda"
    build = "h0_0" if manager == "conda" else None
    return LockedPackage(manager, name, "1.0", build, "linux-64", {}, url, "0" * 64)  # type: ignore[arg-type]


def a_lock(**variables: str) -> Lock:
    return Lock(
        name="maps",
        platforms=("linux-64",),
        channels=("conda-forge",),
        content_hash={},
        packages=(locked("numpy"), locked("tz", subdir="noarch"), locked("wheel", "pip")),
        base=None,
        digest=digest_of(b"lock"),
        requested={"linux-64": ("numpy >=1", "pip: wheel")},
        variables=variables,
    )


def run(
    argv: Sequence[str], env: dict[str, str] = PLAIN, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, env=env, input=stdin, capture_output=True, text=True, check=False)


@pytest.fixture
def activate(tmp_path: Path) -> Path:
    """activate.sh of an environment with variables and two scripts, which log their runs."""
    folder = tmp_path / "activate.d"
    folder.mkdir()
    (folder / "a b.sh").write_text(
        'echo "$$" >> "$LOG"; echo loud; read -r line && echo "$line" >> "$LOG"\n'
        'export FROM_SCRIPT="is ${UNSET_BY_ALL} here"; false\n'
    )
    (folder / "b.sh").write_text("if [[ x == x ]]; then export FROM_BASH=yes; fi; set -e; set -x\n")
    scripts = tuple(str(path) for path in sorted(folder.iterdir()))
    text = activate_script(Activation("maps", {"A": "it's $HOME", "odd-name": "x"}, scripts))
    path = tmp_path / "activate.sh"
    path.write_text(text)
    return path


def env_of(tmp_path: Path, **more: str) -> dict[str, str]:
    return {**PLAIN, "LOG": str(tmp_path / "log"), **more}


# --- activate.sh


@pytest.mark.parametrize("shell", SHELLS)
def test_sourcing_sets_what_is_static(shell: str, activate: Path, tmp_path: Path) -> None:
    done = run([shell, "-c", f". {activate}; env"], env_of(tmp_path))
    found = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    assert found["PATH"] == "/opt/envbox/bin:/usr/bin:/bin"
    assert found["CONDA_PREFIX"] == "/opt/envbox"
    assert found["CONDA_DEFAULT_ENV"] == "maps"
    assert found["A"] == "it's $HOME"
    assert found["FROM_SCRIPT"] == "is  here"
    assert not [name for name in found if name.startswith("_envbox")]


def test_bash_sources_what_only_bash_can_read(activate: Path, tmp_path: Path) -> None:
    assert run([BASH, "-c", f". {activate}; echo $FROM_BASH"], env_of(tmp_path)).stdout == "yes\n"


@pytest.mark.skipif(not DASH, reason="needs dash")
def test_a_script_that_sh_cannot_read_does_not_end_it(tmp_path: Path) -> None:
    bad = tmp_path / "bad.sh"
    bad.write_text("a=(1 2)\nexport ARRAY=1\n")
    path = tmp_path / "activate.sh"
    path.write_text(activate_script(Activation("maps", {}, (str(bad), "/nonexistent.sh"))))
    done = run([DASH, "-c", f". {path}; echo alive"])
    assert done.stdout == "alive\n"
    assert f"envbox: {bad} ends the shell: what it sets is left out\n" in done.stderr


@pytest.mark.parametrize("shell", SHELLS)
def test_a_second_time_changes_nothing(shell: str, activate: Path, tmp_path: Path) -> None:
    child = f'{shell} -c ". {activate}; echo child $PATH"'
    done = run(
        [shell, "-c", f". {activate}; PATH=/mine:$PATH; A=mine; . {activate}; echo $A; {child}"],
        env_of(tmp_path),
    )
    assert done.stdout == "mine\nchild /mine:/opt/envbox/bin:/usr/bin:/bin\n"
    runs = (tmp_path / "log").read_text().splitlines()
    assert len(set(runs)) == 1


def test_what_the_caller_set_stays(activate: Path, tmp_path: Path) -> None:
    done = run([BASH, "-c", f". {activate}; echo $A"], env_of(tmp_path, A="mine"))
    assert done.stdout == "mine\n"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("options", ["-e", "-u", "-x", "-eux", "-"])
def test_options_are_as_they_were(shell: str, options: str, activate: Path, tmp_path: Path) -> None:
    body = f". {activate}; case $- in *e*) echo e;; esac; case $- in *u*) echo u;; esac"
    argv = [shell, *([options] if options != "-" else []), "-c", body]
    done = run(argv, env_of(tmp_path))
    assert done.returncode == 0
    assert done.stdout.split() == [letter for letter in "eu" if letter in options]
    traced = [line for line in done.stderr.splitlines() if line.startswith("+")]
    own = [line for line in traced if "activate.sh" not in line and "case" not in line and "echo" not in line]
    assert bool(traced) == ("x" in options)
    assert own == []


def test_a_strict_script_is_traced_from_its_own_first_line(activate: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_text("echo hello\nfalse\necho not reached\n")
    done = run([BASH, "-eux", str(script)], env_of(tmp_path, BASH_ENV=str(activate)))
    assert (done.returncode, done.stdout) == (1, "hello\n")
    assert [line for line in done.stderr.splitlines() if not line.startswith("envbox: ")] == [
        "loud", "+ echo hello", "+ false",
    ]  # fmt: skip


def test_stdin_and_stdout_are_the_command_s(activate: Path, tmp_path: Path) -> None:
    done = run([BASH, "-c", "cat"], env_of(tmp_path, BASH_ENV=str(activate)), stdin="for cat\n")
    assert done.stdout == "for cat\n"


ENDS, CHANGES = "ends the shell", "changes the shell's options, arguments or directory"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("set -- evil", CHANGES),
        ("set -- $*", CHANGES),
        ("exit 0", ENDS),
        ("exit 7", ENDS),
        ("return 3", ""),
        ("exec echo evil", ENDS),
        ("exec >/dev/null 2>&1", ""),
        ("trap 'echo evil; exit 0' EXIT", ""),
        ("trap 'echo evil' EXIT; exit 0", ENDS),
        ("set -e; false", None),
        ("set -u", CHANGES),
        ("set -x", CHANGES),
        ("set -a; ALL=1", CHANGES),
        ("set -n", ENDS),
        ("cd /usr", CHANGES),
        ("alias cat='echo evil'; shopt -s expand_aliases 2>/dev/null", None),
        ("cat() { echo evil; }; printf() { echo evil; }", ""),
        ("IFS=ca; umask 777", ""),
        ("readonly GIVEN=1 PWD _envbox_script 2>/dev/null", None),
        ("sleep 20 >/dev/null 2>&1 &", ""),
        ("(while :; do sleep 1; done) & kill $!", ""),
        ("printf 'evil\\n'; read -r x && echo $x", ""),
        ("export A='it'\\''s \"$(echo evil)\" `x` \\\\ \n two'", ""),
        ("export _envbox_options=eux", ""),
    ],
)
def test_a_script_can_not_stand_in_the_way_of_the_command(
    shell: str, script: str, said: str | None, tmp_path: Path
) -> None:
    bad, good, path = tmp_path / "bad.sh", tmp_path / "good.sh", tmp_path / "activate.sh"
    bad.write_text(script + "\n")
    good.write_text("export GOOD=1\n")
    path.write_text(activate_script(Activation("maps", {}, (str(bad), str(good)))))
    words = 'printf "%s %s %s %s\\n" "$1" "$2" "$GOOD" "$PWD"; umask; cat; case $- in *[eux]*) echo $-;; esac'
    env = {**PLAIN, "GIVEN": "given"}
    done = subprocess.run(
        [shell, "-c", f". {path}; {words}", "x", "a b", "c"],
        env=env, cwd=tmp_path, input="in\n", capture_output=True, text=True, check=False, timeout=10,
        umask=0o022,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout == f"a b c 1 {tmp_path}\n0022\nin\n"
    named = [line for line in done.stderr.splitlines() if line.startswith(f"envbox: {bad} ")]
    assert said is None or (said in named[0] if said else named == [])


@pytest.mark.parametrize("shell", SHELLS)
def test_what_a_script_exports_is_taken_as_it_is(shell: str, tmp_path: Path) -> None:
    value = 'it\'s "$(echo evil)" `x` \\ \n two\n\n \x01 é'
    script, path = tmp_path / "a.sh", tmp_path / "activate.sh"
    script.write_text('export COPY="$VALUE" PATH="/mine:$PATH"; export NONE; unset VALUE\n')
    path.write_text(activate_script(Activation("maps", {}, (str(script),))))
    code = "import os; print(repr(os.environ['COPY']), os.environ['PATH'], 'POSIXLY_CORRECT' in os.environ)"
    done = run([shell, "-c", f'. {path}; exec {sys.executable} -c "{code}"'], {**PLAIN, "VALUE": value})
    assert done.stdout == f"{value!r} /mine:/opt/envbox/bin:/usr/bin:/bin False\n"


@pytest.mark.parametrize(
    "script", ["set -- evil", "exit 0", "exec echo evil", "trap 'echo evil' EXIT", "echo evil"]
)
def test_the_entrypoint_becomes_the_command_all_the_same(script: str, tmp_path: Path) -> None:
    bad, path, start = tmp_path / "bad.sh", tmp_path / "activate.sh", tmp_path / "entrypoint.sh"
    bad.write_text(script + "\n")
    activation = Activation("maps", {}, (str(bad),))
    path.write_text(activate_script(activation))
    start.write_text(entrypoint_script(activation).replace(activation.script, str(path)))
    done = run(["/bin/sh", str(start), "sh", "-c", 'echo "$1"; exit 5', "x", "the command"])
    assert (done.stdout, done.returncode) == ("the command\n", 5)


def test_a_login_shell_gets_the_path_back(activate: Path, tmp_path: Path) -> None:
    rc = tmp_path / ".bash_profile"
    rc.write_text(f"PATH=/usr/bin:/bin\n. {activate}\n")  # as /etc/profile does before it
    env = env_of(tmp_path, HOME=str(tmp_path), ENVBOX_ACTIVE="/opt/envbox", PATH="/opt/envbox/bin:/bin")
    assert run([BASH, "-lc", "echo $PATH"], env).stdout == "/opt/envbox/bin:/usr/bin:/bin\n"


def test_the_prompt_names_the_environment(activate: Path, tmp_path: Path) -> None:
    rc = tmp_path / "bashrc"
    rc.write_text(bashrc(Activation("maps")).replace(Activation("maps").script, str(activate)))
    done = run([BASH, "--rcfile", str(rc), "-ic", 'echo "${PS1@P}"'], env_of(tmp_path, HOME=str(tmp_path)))
    assert done.stdout.startswith("(maps) ")


def test_a_name_cannot_become_code() -> None:
    lock = a_lock()
    evil = Lock(**{**{f: getattr(lock, f) for f in lock.__slots__}, "name": "x'$(touch /tmp/pwned)`id`\\n"})
    assert set(read_activation(evil, (), {}).name) <= set("x-touchmpwnedi/")
    assert "/" not in read_activation(evil, (), {}).name


# --- the entrypoint


def entrypoint(tmp_path: Path, activate: Path, activation: Activation) -> str:
    path = tmp_path / "entrypoint.sh"
    path.write_text(entrypoint_script(activation).replace(activation.script, str(activate)))
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("scripts", [(), ("/some.sh",)])
def test_the_entrypoint_becomes_the_command(
    shell: str, scripts: tuple[str, ...], activate: Path, tmp_path: Path
) -> None:
    start = entrypoint(tmp_path, activate, Activation("maps", {}, scripts))
    argv = [shell, start, "sh", "-c", 'echo "$CONDA_PREFIX|$FROM_SCRIPT|$1|$$"; exit 7', "_", "two  words"]
    process = subprocess.Popen(argv, env=env_of(tmp_path), stdout=subprocess.PIPE, text=True)
    out, _ = process.communicate()
    assert out == f"/opt/envbox|is  here|two  words|{process.pid}\n"
    assert process.returncode == 7


def test_scripts_for_bash_are_sourced_by_bash(activate: Path, tmp_path: Path) -> None:
    start = entrypoint(tmp_path, activate, Activation("maps", {}, ("/some.sh",)))
    assert run(["/bin/sh", start, "printenv", "FROM_BASH"], env_of(tmp_path)).stdout == "yes\n"


def test_without_a_command_it_is_a_shell(activate: Path, tmp_path: Path) -> None:
    start = entrypoint(tmp_path, activate, Activation("maps"))
    done = run(["/bin/sh", start], env_of(tmp_path), stdin="echo $BASH_VERSION | cut -c1; exit 3\n")
    assert done.stdout.strip().isdigit()
    assert done.returncode == 3


def test_a_command_that_is_not_there_is_127(activate: Path, tmp_path: Path) -> None:
    for scripts in ((), ("/some.sh",)):
        start = entrypoint(tmp_path, activate, Activation("maps", {}, scripts))
        done = run(["/bin/sh", start, "no-such-command"], env_of(tmp_path))
        assert done.returncode == 127
        assert "no-such-command" in done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_a_user_without_a_name_gets_one(activate: Path, tmp_path: Path) -> None:
    start = entrypoint(tmp_path, activate, Activation("maps"))
    for path in (tmp_path, *tmp_path.parents):
        if path != Path("/") and path != Path("/tmp"):
            path.chmod(0o755)
    done = subprocess.run(
        ["/bin/sh", start, "sh", "-c", "echo $USER $LOGNAME"],
        env={**PLAIN, "LOG": "/dev/null"}, user=54321, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "envbox envbox\n"


# --- what the image says without a shell


def test_the_image_s_env_keeps_the_base_s_and_puts_the_environment_first() -> None:
    activation = Activation("maps", {"PROJ_DATA": "/opt/envbox/share/proj", "PATH": "/nowhere"})
    env = dict(e.partition("=")[::2] for e in image_env(activation, ["FOO=a=b", "PATH=/opt/conda/bin:/bin"]))
    assert env["PATH"] == "/opt/envbox/bin:/opt/conda/bin:/bin"
    assert env["FOO"] == "a=b"
    assert env["HOME"] == HOME
    assert env["BASH_ENV"] == activation.script
    assert env["LANG"] == "C.UTF-8"
    assert env["PROJ_DATA"] == "/opt/envbox/share/proj"


def test_a_language_that_is_set_stays() -> None:
    assert "LANG=de_DE.UTF-8" in image_env(Activation("maps"), ["LANG=de_DE.UTF-8"])
    assert not [e for e in image_env(Activation("maps"), ["LC_ALL=C"]) if e.startswith("LANG=")]
    assert "LANG=fr_FR.UTF-8" in image_env(Activation("maps", {"LANG": "fr_FR.UTF-8"}), [])


def test_packages_variables_come_in_order_and_the_spec_s_last() -> None:
    folder = "opt/envbox/etc/conda/env_vars.d"
    files = {f"{folder}/b.json": b'{"A": "b", "B": 2}', f"{folder}/a.json": b'{"A": "a", "C": "c"}'}
    found = read_activation(a_lock(C="spec"), (), files)
    assert dict(found.variables) == {"A": "b", "B": "2", "C": "spec"}
    assert list(found.variables) == sorted(found.variables)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"A=B": "c"}', b'{"": "c"}', b'{"A": "\\u0000"}', b"\xff"])
def test_a_variables_file_that_is_none_is_named(content: bytes) -> None:
    with pytest.raises(PackageError, match=r"/opt/envbox/etc/conda/env_vars.d/a\.json"):
        read_activation(a_lock(), (), {"opt/envbox/etc/conda/env_vars.d/a.json": content})


def test_only_conda_s_own_places_count() -> None:
    folder = "opt/envbox/etc/conda"
    paths = [f"{folder}/activate.d/{n}" for n in ("b.sh", "a.sh", "c.fish", "sub/d.sh")] + ["opt/envbox/x.sh"]
    assert read_activation(a_lock(), paths, {}).scripts == tuple(
        f"/{folder}/activate.d/{name}" for name in ("a.sh", "b.sh")
    )
    assert is_variables_file(f"{folder}/env_vars.d/a.json")
    assert not is_variables_file(f"{folder}/env_vars.d/sub/a.json")
    assert not is_variables_file("opt/envbox/a.json")


# --- the environment's own files


def test_the_environment_s_files_stand_at_their_places() -> None:
    lock = a_lock(A="b")
    files = environment_files(lock, "linux-64", b"lock", read_activation(lock, (), {}), 0)
    assert files["opt/envbox/share/envbox/conda-lock.yml"].data == b"lock"
    assert files["opt/envbox/share/envbox/entrypoint.sh"].mode == 0o755
    assert files["home/envbox/"].mode == files["work/"].mode == 0o1777
    assert json.loads(files["opt/envbox/conda-meta/state"].data)["env_vars"] == {"A": "b"}
    assert {path for path in files if path.startswith("/")} == set()


def test_the_history_is_what_conda_reads() -> None:
    assert conda_history(a_lock(), "linux-64", 86400) == (
        "==> 1970-01-02 00:00:00 <==\n"
        "# cmd: envbox build\n"
        "+https://conda.anaconda.org/conda-forge/linux-64::numpy-1.0-h0_0\n"
        "+https://conda.anaconda.org/conda-forge/noarch::tz-1.0-h0_0\n"
        '# update specs: ["numpy >=1"]\n'
    )


def test_the_package_list_has_a_line_for_each() -> None:
    rows = [line.split("\t") for line in package_list(a_lock(), "linux-64").splitlines()]
    assert [(row[0], row[2]) for row in rows] == [("numpy", "h0_0"), ("tz", "h0_0"), ("wheel", "pip")]


# --- in a container, on a real base


@pytest.fixture
def container(lab: Lab) -> Iterator[str]:
    """A container whose first process is not a shell: what comes into it comes by `docker exec`."""
    started = run(
        ["docker", "run", "-d", "--rm", "--entrypoint", "sleep", lab.image, "120"], dict(os.environ)
    )
    yield started.stdout.strip()
    run(["docker", "rm", "-f", started.stdout.strip()], dict(os.environ))


@pytest.mark.rig
@pytest.mark.parametrize(
    "argv",
    [["python"], ["sh", "-c", "exec python"], ["bash", "-c", "exec python"], ["bash", "-lc", "exec python"],
     ["bash", "-ic", "exec python"], ["bash", "-lic", "exec python"]],
    ids=" ".join,
)  # fmt: skip
def test_every_road_into_a_container_finds_the_environment(container: str, argv: list[str]) -> None:
    code = "import os, sys; print(sys.prefix, os.environ['CONDA_PREFIX'], os.environ['LAB_VARIABLE'])\n"
    done = run(["docker", "exec", "-i", container, *argv], dict(os.environ), stdin=code)
    assert done.stdout == "/opt/envbox /opt/envbox set by the spec\n", done.stderr


@pytest.mark.rig
def test_an_interactive_shell_shows_the_environment(container: str) -> None:
    done = run(["docker", "exec", container, "bash", "-ic", 'echo "${PS1@P}"'], dict(os.environ))
    assert done.stdout.startswith("(lab) ")


@pytest.mark.rig
def test_any_uid_has_a_home_a_name_and_a_place_to_write(lab: Lab) -> None:
    code = "import getpass, pathlib; pathlib.Path.home().joinpath('x').touch(); print(getpass.getuser())"
    script = f'touch here && echo "$HOME $PWD" && python -c "{code}"'
    argv = ["docker", "run", "--rm", "--user", "12345:54321", lab.image, "sh", "-ec", script]
    done = run(argv, dict(os.environ))
    assert done.stdout.split() == [HOME, "/work", "envbox"], done.stderr


@pytest.mark.rig
def test_conda_finds_the_environment_s_records(lab: Lab) -> None:
    script = (
        "cd /opt/envbox/conda-meta && head -2 history && ls numpy-*.json && cat ../share/envbox/packages.txt"
    )
    done = run(["docker", "run", "--rm", lab.image, "sh", "-ec", script], dict(os.environ))
    assert done.stdout.startswith("==> 20"), done.stderr
    assert "\nnumpy\t" in done.stdout


@pytest.mark.parametrize("name", ["PATH", "HOME", "BASH_ENV", "JUPYTER_CONFIG_PATH", "A B", "$(id)"])
def test_a_lockfile_that_sets_what_others_rely_on_is_refused(name: str) -> None:
    """Somebody else's lockfile need not have been made by a `lock` that refuses them."""
    with pytest.raises(LockfileError, match=re.escape(name)):
        read_activation(a_lock(**{name: "/tmp"}), [], {})
