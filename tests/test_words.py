"""Nothing that somebody else wrote steers a terminal, and nobody's listening is no reason for a traceback."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import click
import pytest
from support.command import envbox
from support.small_lock import small

from envbox.cli import COMMANDS, words
from envbox.cli.terminal import TerminalReporter
from envbox.lockfile.conda_lock_v1 import dumps
from envbox.mirrors import Mirrors, secret_parts, without_logins

EVIL = (
    "\x1b]0;own\x07\x1b[2J\x1b[8m\x9b31m\r\x08\x7f\u202eabc\u2066\u200b\u2028\U000e0041"
    "\nerror: forged [red]x[/red][link=http://evil]y[/link]"
)
RAW = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\U000e0000-\U000e007f]")
FLAT = EVIL.replace("\n", " ")
ENVBOX = [sys.executable, "-m", "envbox"]


def on_a_terminal(*arguments: str, cwd: Path, **environ: str) -> str:
    """Run the command on a terminal; all that arrived there, without the carriage return at a line's end."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("ENVBOX_")}
    env |= {"ENVBOX_CACHE_DIR": str(cwd / ".cache"), "ENVBOX_CONFIG": str(cwd / ".none.toml")}
    env |= {"TERM": "dumb", "NO_COLOR": "1", "DOCKER_HOST": f"unix://{cwd}/none.sock", **environ}
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*ENVBOX, *arguments], cwd=cwd, env=env, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    found = bytearray()
    try:
        while piece := os.read(master, 1 << 16):
            found += piece
    except OSError:  # the terminal is gone with the last who had it
        pass
    os.close(master)
    process.wait(60)
    return found.decode().replace("\r\n", "\n")


def hostile(text: str) -> str:
    return json.dumps(text)  # for TOML and YAML as well, but for half characters


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose every text is hostile."""
    root = tmp_path_factory.mktemp("project")
    (root / "environments").mkdir()
    lock = small()
    first, *others = lock.packages
    first = replace(first, license=EVIL, depends={**first.depends, "pip": EVIL}, category="main" + FLAT)
    others = [replace(one, license=EVIL) for one in others]
    lock = replace(
        lock,
        packages=(first, *others),
        channels=("conda-forge", "https://host.invalid/" + FLAT),
        requested={"linux-64": (*lock.requested["linux-64"], "numpy " + EVIL)},
        variables={"A": EVIL},
        exclude_newer=None,
    )
    (root / "environments/maps.conda-lock.yml").write_bytes(dumps(lock))
    spec = f"channels: [conda-forge, {hostile(FLAT)}]\ndependencies: [python, {hostile('x' + EVIL)}]\n"
    (root / "environments/maps.yml").write_text(spec)
    (root / "environments/other.yml").write_text(f"channels: [{hostile(EVIL)}]\ndependencies: [python]\n")
    book = {
        "cells": [
            {"cell_type": "code", "id": "a", "source": f"import evil\nimport x{EVIL}", "metadata": {},
             "outputs": [], "execution_count": None}
        ],
        "metadata": {"kernelspec": {"name": EVIL, "display_name": EVIL, "language": EVIL},
                     "envbox": {"environment": EVIL, "lock": EVIL}},
        "nbformat": 4, "nbformat_minor": 5,
    }  # fmt: skip
    for name in ("book.ipynb", f"{FLAT.replace('/', '')}.ipynb"):
        (root / name).write_text(json.dumps(book))
    (root / "foreign.txt").write_text(f"@EXPLICIT\nhttps://host.invalid/noarch/{FLAT}-1-0.conda#{'0' * 32}\n")
    (root / "evil.env").write_text(f"A{EVIL}=1\n")
    return root


BOOK = f"{FLAT.replace('/', '')}.ipynb"
LINES = [
    ("list",), ("list", "maps"), ("list", "maps", "--json"), ("tree", "maps"),
    ("tree", "maps", "--json"), ("why", "openssl", "maps"), ("why", FLAT, "maps"),
    ("why", "openssl", "maps", "--json"), ("diff",),
    ("diff", "maps", "environments/maps.conda-lock.yml"), ("diff", "maps", "foreign.txt", "--markdown"),
    ("outdated", "maps"), ("export", "maps", "--format", "explicit"),
    ("export", "maps", "--format", "pixi"), ("export", "maps", "--format", "environment"),
    ("export", "maps", "--format", FLAT), ("size", "maps"), ("check", "book.ipynb"), ("check", BOOK),
    ("stamp", BOOK, "maps"), ("stamp", "book.ipynb"), ("exec", "book.ipynb"), ("exec", BOOK, "-p", FLAT),
    ("verify", "maps"), ("build", "maps"), ("build", FLAT), ("build", "maps", "--explain"),
    ("push", "maps", "127.0.0.1:1/x:" + FLAT), ("pull", "127.0.0.1:1/" + FLAT), ("lock", "maps"),
    ("lock", "other"), ("lock", "--check"), ("lock", "maps", "--dry-run"), ("init", "-n", "new", BOOK),
    ("init", "-n", FLAT, "book.ipynb"), ("import", "foreign.txt"), ("run", "maps", "--", "true"),
    ("run", "maps", "--env-file", "evil.env", "--", "true"), ("shell", "maps"),
    ("run", BOOK, "--", "true"), ("notebook", BOOK), ("kernel", "add", "maps"), ("kernel", "list"),
    ("trust", "--show"), ("trust", "--list"), ("trust", FLAT), ("ps",), ("logs", FLAT), ("stop", FLAT),
    ("clean",), ("clean", FLAT),
    ("merge-lock", FLAT, FLAT, FLAT, FLAT), ("add", "maps", FLAT), ("remove", "maps", FLAT),
    ("completion", FLAT), (FLAT,), ("--" + FLAT,), ("-C", FLAT, "ps"),
]  # fmt: skip


def test_every_command_is_among_them() -> None:
    assert {line[0] for line in LINES} >= set(COMMANDS)


@pytest.mark.parametrize("line", LINES, ids=lambda line: re.sub(r"[^a-z. -]", "", " ".join(line))[:40])
def test_no_foreign_text_steers_a_terminal(line: tuple[str, ...], project: Path) -> None:
    said = on_a_terminal("--trust", "--offline", *line, cwd=project)
    assert not RAW.search(said), repr(said)
    assert "Traceback" not in said
    assert "\nerror: forged" not in said or line[0] == "export"


def test_no_setting_steers_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "environment.yml").write_text("dependencies: [numpy]\n")
    for key in ("base", "mirrors", "nonsense", hostile(EVIL)):
        (tmp_path / "envbox.toml").write_text(f"{key} = [{hostile(EVIL)}]\n")
        assert not RAW.search(on_a_terminal("--offline", "lock", cwd=tmp_path))
    (tmp_path / "envbox.toml").unlink()
    assert not RAW.search(on_a_terminal("--offline", "lock", cwd=tmp_path, ENVBOX_BASE=EVIL))


@contextmanager
def evil_server() -> Iterator[str]:
    """A channel and registry whose every word is hostile."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"errors": [{"code": EVIL, "message": EVIL}], EVIL: EVIL}).encode()
            reason = EVIL.replace("\r", "").replace("\n", "")
            self.wfile.write(b"HTTP/1.1 403 " + reason.encode() + b"\r\nConnection: close\r\n")
            self.wfile.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)

        do_HEAD = do_POST = do_GET

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_no_answer_steers_a_terminal(tmp_path: Path) -> None:
    spec = "channels: [conda-forge]\nplatforms: [linux-64]\ndependencies: [python]\n"
    (tmp_path / "environment.yml").write_text(spec)
    with evil_server() as host:
        (tmp_path / "envbox.toml").write_text(
            f'base = "{host}/me/base:1"\n[mirrors]\n"https://conda.anaconda.org" = "http://u:pw@{host}/SECRET/t/T"\n'
        )
        for line in (("lock",), ("-v", "lock"), ("--offline", "lock"), ("pull", f"{host}/a/b:1")):
            said = on_a_terminal("--trust", *line, cwd=tmp_path, ENVBOX_TIMEOUT="5")
            assert not RAW.search(said), repr(said)
            assert not re.search("SECRET|pw@|/T/", said), said
            assert "Traceback" not in said


# --- the filter


def test_controls_are_shown_and_our_own_lines_stay() -> None:
    assert words.foreign("a\tb\nc") == "a\tb\nc"
    assert words.foreign("\x1b[31m\x7f\x9b\r\udc80\ud800\u202e\U000e0041") == (
        r"\x1b[31m\x7f\x9b\x0d\x80\ud800\u202e\U000e0041"
    )
    assert words.foreign("é→漢字 ok") == "é→漢字 ok"
    assert words.foreign.line("a\nb\tc") == r"a\nb\tc"
    assert words.foreign.message("a\nhint: rm -rf /") == "a\n  hint: rm -rf /"


def test_a_bar_s_label_is_no_markup_and_steers_nothing() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    report = TerminalReporter(stream, {"TERM": "xterm"}, quiet=False, verbose=True)
    with report.task("[link=http://evil]x[/link]\x1b[8m", 3) as task:
        task.advance(1)
        report.say("[red]said\x1b]0;t\x07")
        report.detail("\x1b[8mdetail")
    said = stream.getvalue()
    assert "[link=http://evil]x[/link]\\x1b[8m" in said
    assert r"[red]said\x1b]0;t\x07" in said
    assert "\x1b[8m" not in said
    assert "\x1b]" not in said


def test_what_is_hidden_is_escaped_in_json_too() -> None:
    said = words.escaped_json(json.dumps([EVIL, "\udcff", "é"], ensure_ascii=False))
    assert not RAW.search(said)
    assert json.loads(said) == [EVIL, "\udcff", "é"]


def test_logins_never_are_words() -> None:
    assert (
        without_logins("x https://u:p@ss@host/a and http://h/q/t/TOKEN/b")
        == "x https://host/a and http://h/q/b"
    )
    for plain in ("/srv/t/project user@host", "https://files.pythonhosted.org/packages/t/toolz/toolz-1.whl"):
        assert without_logins(plain) == plain
    assert without_logins("https://a/b,http://u:p@c/d") == "https://a/b,http://c/d"
    for long in ("a" * 2_000_000, "a://" * 500_000, "a://b@" * 300_000, "https://x" + "/t" * 1_000_000):
        without_logins("x://y " + long)  # in no time that grows with the square
    rules = {
        "https://conda.anaconda.org/conda-forge": "https://host/artifactory/hunter%202/conda-forge",
        "docker.io": "r/s3cret",
        "x": "file:///srv/mine",
    }
    assert secret_parts(Mirrors(rules)) == {"hunter%202", "hunter 2", "s3cret"}
    concealing = words.Foreign()
    concealing.conceal(["hunter2"])
    assert (
        concealing("GET /hunter2/x of https://h/hunter2: no hunter2") == "GET /…/x of https://h/…: no hunter2"
    )


def test_words_in_any_encoding() -> None:
    beneath = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    stream = words.WordStream(words._opened(beneath, 1), vital=True)
    words.codecs.register_error(words._ERRORS, words._plain)
    click.echo("a → b … é \udcff", file=stream)  # type: ignore[arg-type]
    stream.flush()
    assert beneath.buffer.getvalue() == b"a -> b ... \\xe9 \\xff\n"  # type: ignore[attr-defined]


# --- nobody listens

OUTPUTS = {
    "closed": ">&-", "full": ">/dev/full", "no words": "2>&-", "words full": "2>/dev/full",
    "nothing": ">&- 2>&- <&-", "all full": ">/dev/full 2>/dev/full", "gone": "| true",
    "all gone": "2>&1 | true",
}  # fmt: skip


def through_a_shell(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("ENVBOX_")}
    env |= {"ENVBOX_CACHE_DIR": str(cwd / ".cache"), "DOCKER_HOST": f"unix://{cwd}/none.sock"}
    script = f'set -o pipefail; "{sys.executable}" -m envbox {line}'
    return subprocess.run(
        ["bash", "-c", script], cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plain")
    (root / "environment.yml").write_text("channels: [conda-forge]\ndependencies: [python]\n")
    (root / "conda-lock.yml").write_bytes(dumps(small()))
    return root


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_s_help_may_be_heard_by_nobody(command: str, plain: Path) -> None:
    assert through_a_shell(f"{command} --help >/dev/full", plain).returncode == 1
    done = through_a_shell(f"{command} --nonsense >&- 2>/dev/full", plain)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


@pytest.mark.parametrize(
    "line", ["list", "list --json", "tree", "why openssl", "export --format explicit", "clean"]
)
@pytest.mark.parametrize("output", OUTPUTS)
def test_what_cannot_be_printed_is_an_error_and_words_are_not(line: str, output: str, plain: Path) -> None:
    done = through_a_shell(f"{line} {OUTPUTS[output]}", plain)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    if "gone" in output:
        assert done.returncode in (0, 141)
    else:
        assert done.returncode == (0 if "words" in output else 1)
    if output in ("closed", "full"):
        assert "cannot be written on stdout" in done.stderr


@pytest.mark.parametrize("output", OUTPUTS)
def test_an_error_s_exit_code_stays(output: str, tmp_path: Path) -> None:
    done = through_a_shell(f"list {OUTPUTS[output]}", tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr


def test_a_closed_output_is_no_free_number_for_a_file(plain: Path) -> None:
    code = "import os, sys; from envbox.cli.words import prepare; prepare(); "
    code += "print(os.open('/', 0), file=sys.stderr)"
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -c "{code}" >&- <&-'], capture_output=True, text=True, check=True
    )
    assert int(done.stderr) > 2


def test_a_reader_that_goes_away_is_told_apart(plain: Path) -> None:
    done = through_a_shell("list --json | head -c 1", plain)
    assert done.returncode in (0, 141)
    assert done.stderr == ""


def test_a_name_is_given_to_programs_as_it_is(tmp_path: Path) -> None:
    assert envbox("completion", "bash", cwd=tmp_path).stdout.startswith("_envbox")
