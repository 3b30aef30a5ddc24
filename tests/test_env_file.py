"""One env file has one reading: the same bytes give the same variables in every engine, or are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.containers import Lab
from support.host_project import Place

from envbox.errors import LaunchError
from envbox.sessions.launch.env_file import read_env_file

MANY = (
    "A=plain\nB=\"quoted\"\nC='single'\n# comment\n  E=lead\nF=with # hash\nH\nGONE\nI=\nJ=a=b\nK=$HOME\n"
    "L=tail  \nM=é\u2028\x85\x0b!\nN=crlf\r\nO=a\rb\n\n   \nHOME=/somewhere/else\nA=last"
).encode()
READ = {
    "A": "last", "B": '"quoted"', "C": "'single'", "E": "lead", "F": "with # hash", "H": "here", "I": "",
    "J": "a=b", "K": "$HOME", "L": "tail  ", "M": "é\u2028\x85\x0b!", "N": "crlf", "O": "a\rb",
    "HOME": "/somewhere/else",
}  # fmt: skip


def read(tmp_path: Path, data: bytes) -> dict[str, str]:
    path = tmp_path / "x.env"
    path.write_bytes(data)
    return read_env_file(path, {"H": "here"})


def test_the_rule(tmp_path: Path) -> None:
    assert read(tmp_path, MANY) == READ
    assert read(tmp_path, b"\xef\xbb\xbfA=bom\nB=1") == {"A": "bom", "B": "1"}
    assert read(tmp_path, b"") == {}


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"A=1\nB=l\xf6\n", "line 2: not UTF-8"),
        (b"\xff\xfeA\x00=\x001\x00", "line 1: it is UTF-16"),
        (b"A=geheim\x00x\n", "line 1: a NUL"),
        (b"A=1\nexport D=geheim\n", "line 2: `export` is a shell's, leave it out"),
        (b"G = geheim\n", "line 1: a blank before the `=`"),
        (b"X Y=geheim", "line 1: a blank before the `=`"),
        (b"X\xc2\xa0=geheim", "line 1: a blank before the `=`"),
        (b"geheim geheim\n", "line 1: a blank in a name"),
        (b"\n=geheim\n", "line 2: no name before the `=`"),
        (b"A=" + b"geheim" * 30_000, "line 1: more than 128 KiB"),
        (b"A=1\n" * 300_000, "more than 1 MiB"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_line_and_no_value(
    tmp_path: Path, data: bytes, words: str
) -> None:
    with pytest.raises(LaunchError) as caught:
        read(tmp_path, data)
    assert words in caught.value.message
    assert "geheim" not in caught.value.message + (caught.value.hint or "")


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(LaunchError) as caught:
        read(tmp_path, b"=1\nA=1\nexport B=2\n")
    assert "line 1: " in caught.value.message
    assert "line 3: " in caught.value.message


def test_the_bytes_are_the_same_in_another_locale(tmp_path: Path) -> None:
    (tmp_path / "x.env").write_text("M=é à\nà=1\n", encoding="utf-8")
    code = (
        "import os, sys; from pathlib import Path;"
        "from envbox.sessions.launch.env_file import read_env_file as read;"
        "sys.stdout.buffer.write(b'|'.join(map(os.fsencode, read(Path(sys.argv[1]), {}).values())))"
    )
    env = {**os.environ, "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    argv = [sys.executable, "-c", code, str(tmp_path / "x.env")]
    assert subprocess.run(argv, env=env, stdout=subprocess.PIPE, check=True).stdout == "é à|1".encode()


def test_a_pipe_is_read_once_whoever_asks(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"A=piped\n")
    os.close(writing)
    path = Path(f"/dev/fd/{reading}")
    assert read_env_file(path, {}) == read_env_file(path, {}) == {"A": "piped"}
    os.close(reading)


def test_a_folder_is_no_env_file(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="cannot read the env file"):
        read_env_file(tmp_path, {})


@pytest.fixture
def many(tmp_path: Path) -> Path:
    path = tmp_path / "many.env"
    path.write_bytes(MANY)
    return path


SHOW = f"import json, os; print(json.dumps({{n: os.environ.get(n) for n in {[*READ, 'GONE']!r}}}))"


@pytest.mark.rig
def test_it_is_the_same_in_a_container_and_here(here: Place, lab: Lab, many: Path) -> None:
    options = ("--env-file", str(many), "--env", "I=said")
    wanted = {**READ, "I": "said", "GONE": None}
    argv = ("run", "--engine", "host", *options, "work", "--", "python", "-c", SHOW)
    assert json.loads(here.run(*argv, H="here").stdout) == wanted
    done = lab.run("run", *options, "lab", "--", "python", "-c", SHOW, extra_env={"H": "here"})
    assert json.loads(done.stdout) == wanted, done.stderr


@pytest.mark.rig
def test_no_value_of_it_stands_in_an_argument_list(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "x.env").write_text("SECRET=geheim-aus-der-datei\n")
    argv = lab.argv("run", "--env-file", str(tmp_path / "x.env"), "lab", "--", "sh", "-c", "echo on; read x")
    process = subprocess.Popen(argv, env=lab.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"on\n"
    lines = b"".join(p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline") if os.access(p, os.R_OK))
    process.communicate(b"\n", timeout=60)
    assert b"geheim-aus-der-datei" not in lines
