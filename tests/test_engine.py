"""Engines: found as the docker command finds them, asked, loaded into; their refusals in words."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from socket import AF_UNIX, socket
from uuid import uuid4

import pytest

from envbox.engine import Engine, MissingLayerError, RunPolicy, address
from envbox.engine.address import Address, find_address
from envbox.engine.client import EngineInfo, facts_of, find_client, ways_of
from envbox.engine.docker import DockerEngine
from envbox.engine.find import connect
from envbox.errors import EnvboxError, ImageError, ToolError
from envbox.oci import digest_of
from envbox.settings import Settings

needs_engine = pytest.mark.rig


# --- where it is


def docker(*arguments: str, config: Path) -> str:
    """The docker command, with a configuration folder of its own."""
    environ = {
        key: value for key, value in os.environ.items() if key not in ("DOCKER_HOST", "DOCKER_CONTEXT")
    }
    words = ["docker", "--config", str(config), *arguments]
    return subprocess.run(words, env=environ, capture_output=True, text=True, check=True).stdout


def test_without_a_word_it_is_the_default_socket(tmp_path: Path) -> None:
    assert find_address({"HOME": str(tmp_path)}).url == "unix:///var/run/docker.sock"


def test_a_context_of_the_docker_command_is_followed(tmp_path: Path) -> None:
    docker("context", "create", "lab", "--docker", "host=unix:///tmp/lab.sock", config=tmp_path)
    docker("context", "use", "lab", config=tmp_path)
    found = find_address({"DOCKER_CONFIG": str(tmp_path)})
    assert (found.url, found.context) == ("unix:///tmp/lab.sock", "lab")
    assert found.socket_path == Path("/tmp/lab.sock")


def test_the_order_is_that_of_the_docker_command(tmp_path: Path) -> None:
    for name in ("one", "two"):
        docker("context", "create", name, "--docker", f"host=unix:///tmp/{name}.sock", config=tmp_path)
    docker("context", "use", "one", config=tmp_path)
    environ = {"DOCKER_CONFIG": str(tmp_path)}
    assert find_address(environ).url == "unix:///tmp/one.sock"
    environ["DOCKER_CONTEXT"] = "two"
    assert find_address(environ).url == "unix:///tmp/two.sock"
    assert find_address({**environ, "DOCKER_CONTEXT": "default"}).url == "unix:///var/run/docker.sock"
    environ["DOCKER_HOST"] = "tcp://example.org:2375"
    assert find_address(environ) == Address("tcp://example.org:2375", "from DOCKER_HOST")


def test_a_context_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"currentContext": "gone"}')
    with pytest.raises(ToolError, match="context 'gone'"):
        find_address({"DOCKER_CONFIG": str(tmp_path)})


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe{}"])
def test_a_damaged_configuration_is_named_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ToolError, match=r"config\.json"):
        find_address({"DOCKER_CONFIG": str(tmp_path)})
    assert path.read_bytes() == content


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment without Docker, with podman's socket in the user's folder for such things."""
    monkeypatch.setattr(address, "DEFAULT_URL", f"unix://{tmp_path}/docker.sock")
    (tmp_path / "podman").mkdir()
    with socket(AF_UNIX) as listening:
        listening.bind(str(tmp_path / "podman/podman.sock"))
        listening.listen()
        yield {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}


def test_podman_is_found_where_no_docker_listens(alone: dict[str, str], tmp_path: Path) -> None:
    found = find_address(alone)
    assert found == Address(f"unix://{tmp_path}/podman/podman.sock", "podman's, this user's", is_found=True)
    (tmp_path / "other").symlink_to(tmp_path / "podman/podman.sock")
    said = f"unix://{tmp_path}/other"
    assert find_address({**alone, "CONTAINER_HOST": said}).url == said
    assert find_address({**alone, "CONTAINER_HOST": "ssh://somewhere/podman.sock"}) == found


def test_what_is_named_goes_before_podman_and_so_does_a_docker_that_listens(
    alone: dict[str, str], tmp_path: Path
) -> None:
    assert find_address({**alone, "DOCKER_HOST": "unix:///nowhere"}).url == "unix:///nowhere"
    with socket(AF_UNIX) as listening:
        listening.bind(str(tmp_path / "docker.sock"))
        listening.listen()
        assert not find_address(alone).is_found


def test_where_nobody_listens_it_is_docker_that_is_missed(alone: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "podman/podman.sock").unlink()
    found = find_address(alone)
    assert (found.url, found.is_found) == (f"unix://{tmp_path}/docker.sock", False)


# --- who speaks to it, and who one is in there


def test_podman_s_own_client_goes_first_where_the_engine_is_podman(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    there = Address("unix:///run/podman/podman.sock", "podman's, root's", is_found=True)
    with pytest.raises(ToolError, match="neither podman nor docker"):
        find_client(there, is_podman=True)
    for name in ("docker", "podman"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
        found = find_client(there, is_podman=True)
        assert found.is_podman == (name == "podman")
        assert found.argv[0] == str(tmp_path / name)
        assert there.url in found.argv
    named = Address("unix:///x", "from DOCKER_HOST")
    assert find_client(named, is_podman=False).argv == (str(tmp_path / "docker"),)


DOCKERS = {"SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless", "name=cgroupns"]}
PODMANS = {"SecurityOptions": ["name=seccomp,profile=default"], "Rootless": True, "DefaultRuntime": "crun"}


@pytest.mark.parametrize(
    ("info", "is_podman", "ways"),
    [
        ({"SecurityOptions": ["name=seccomp"], "DefaultRuntime": "runc"}, False, RunPolicy()),
        ({"SecurityOptions": None, "Rootless": False}, True, RunPolicy(is_podman=True)),
        (DOCKERS, False, RunPolicy("root")),
        (PODMANS, False, RunPolicy("root")),
        (PODMANS, True, RunPolicy("kept", keeps_groups=True, is_podman=True)),
        ({**PODMANS, "DefaultRuntime": "/usr/bin/runc"}, True, RunPolicy("kept", is_podman=True)),
    ],
)
def test_what_an_engine_says_of_itself_decides_who_one_is(
    info: dict[str, object], is_podman: bool, ways: RunPolicy
) -> None:
    facts = facts_of(info)
    assert ways_of(facts, is_podman=is_podman) == ways
    assert EngineInfo.loads(facts.dumps()) == facts
    assert ways_of(facts, is_podman=is_podman, of_podman=True) == replace(ways, holds_ports=True)


# --- none that answers


def fault(settings: Settings) -> EnvboxError:
    with pytest.raises(ToolError) as caught:
        connect(settings)
    assert caught.value.hint
    return caught.value


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache")


def test_no_engine_says_which_address_was_tried(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/engine.sock")
    message = fault(settings).message
    assert "unix:///nowhere/engine.sock (from DOCKER_HOST)" in message
    assert "No such file" in message


def test_no_engine_over_tcp_says_so_too(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    assert "tcp://127.0.0.1:1" in fault(settings).message


def test_an_engine_over_ssh_says_what_it_needs(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "ssh://nobody@127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "paramiko", None)
    said = fault(settings)
    assert "ssh://nobody@127.0.0.1:1 (from DOCKER_HOST)" in said.message
    assert "docker[ssh]" in str(said.hint)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody who may not")
def test_no_permission_names_the_socket_and_the_group(open_folder: Path) -> None:
    path = open_folder / "engine.sock"
    with socket(AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        path.chmod(0o600)
        code = (
            "import os; os.setgroups([]); os.setgid(54321); os.setuid(54321)\n"
            "from pathlib import Path; from envbox.engine.find import connect\n"
            "from envbox.settings import Settings; from envbox.errors import ToolError\n"
            "try: connect(Settings(cache_dir=Path('/nowhere')))\n"
            "except ToolError as error: print(error.message, error.hint, sep='\\n')\n"
        )
        os.chown(path, 0, 4)  # adm, on Debian
        environ = {**os.environ, "DOCKER_HOST": f"unix://{path}"}
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                "import envbox.engine.find, envbox.engine.sdk, docker, requests\n" + code,
            ],
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.splitlines() == [
        f"no permission to use the engine's socket {path}",
        "join its group, then log in again: sudo usermod -aG adm $USER",
    ]


@pytest.fixture
def answering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """Something at DOCKER_HOST that gives the same answer to everything: what is put into the list."""
    path = tmp_path / "engine.sock"
    answers: list[bytes] = []
    listening = socket(AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answers[0])

    threading.Thread(target=serve, daemon=True).start()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    yield answers
    listening.close()


def test_an_engine_that_is_too_old_says_its_version(settings: Settings, answering: list[bytes]) -> None:
    answering.append(b"HTTP/1.0 200 OK\r\nApi-Version: 1.30\r\n\r\nOK")
    assert "too old: API 1.30" in fault(settings).message


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"\x00\xff" * 100, b"HTTP/1.0\r\n\r\n"])
def test_what_is_no_engine_is_told_so(settings: Settings, answering: list[bytes], answer: bytes) -> None:
    answering.append(answer)
    assert "no container engine" in fault(settings).message


def test_the_platform_of_a_socket_is_asked_once(settings: Settings, answering: list[bytes]) -> None:
    def answer(architecture: str) -> bytes:
        about = json.dumps({"Os": "linux", "Arch": architecture})
        return f"HTTP/1.0 200 OK\r\nApi-Version: 1.45\r\n\r\n{about}".encode()

    answering.append(answer("arm64"))
    assert connect(settings).platform == "linux-aarch64"
    answering[0] = answer("amd64")
    assert connect(settings).platform == "linux-aarch64"
    path = find_address(os.environ).socket_path
    assert path is not None
    path.chmod(0o600)  # another socket, as one that a new engine makes
    assert connect(settings).platform == "linux-64"


# --- images


def layer(name: str) -> bytes:
    """An uncompressed layer with one file."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo(name))
    return buffer.getvalue()


def image_of(
    layers: Sequence[bytes], left_out: Sequence[bytes] = (), architecture: str = "amd64"
) -> tuple[str, bytes]:
    """The ID of an image of these layers, and an archive of it that leaves some out."""
    diff_ids = [digest_of(data) for data in layers]
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    config = json.dumps(
        {"architecture": architecture, "os": "linux", "config": {}, "rootfs": rootfs}
    ).encode()
    members = {"config.json": config}
    members |= {f"blobs/sha256/{digest_of(x)[7:]}": x for x in layers if x not in left_out}
    paths = [f"blobs/sha256/{digest[7:]}" for digest in diff_ids]
    members["manifest.json"] = json.dumps(
        [{"Config": "config.json", "RepoTags": None, "Layers": paths}]
    ).encode()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return digest_of(config), buffer.getvalue()


def pieces(data: bytes) -> Iterator[bytes]:
    return (data[start : start + 1000] for start in range(0, len(data), 1000))


@pytest.fixture
def engine(settings: Settings) -> Engine:
    return connect(settings)


@pytest.fixture
def layers() -> list[bytes]:
    """Three layers that no engine has seen."""
    return [layer(uuid4().hex) for _ in range(3)]


@needs_engine
def test_an_image_is_loaded_named_and_removed(engine: Engine, layers: list[bytes]) -> None:
    image, archive = image_of(layers)
    name = f"envbox-test-{uuid4().hex}:some"
    assert not engine.has_image(image)
    engine.load(pieces(archive))
    assert engine.has_image(image)
    engine.tag(image, name)
    assert engine.has_image(name)
    engine.remove_image(name)
    assert not engine.has_image(name)
    assert not engine.has_image(image)
    engine.remove_image(name)


@needs_engine
def test_layers_that_are_there_may_be_left_out(engine: Engine, layers: list[bytes]) -> None:
    first, archive = image_of(layers[:2])
    engine.load(pieces(archive))
    assert digest_of(layers[0]) in engine.present().chain_ids
    second, archive = image_of(layers, left_out=layers[:2])
    engine.load(pieces(archive))
    assert engine.has_image(second)
    for image in (second, first):
        engine.remove_image(image)


def test_an_image_that_goes_while_it_is_asked_about_is_not_remembered(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, diff_id = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    answers = {"/info": {}, "/images/json?manifests=1": [{"Id": image}]}
    monkeypatch.setattr(DockerEngine, "_json", lambda self, path: answers.get(path))
    engine = DockerEngine(Address("unix:///nowhere", "a test"), settings.cache_dir)
    assert engine.present().chain_ids == set()
    answers[f"/images/{image}/json"] = {"RootFS": {"Layers": [diff_id]}}
    assert engine.present().chain_ids == {diff_id}
    del answers[f"/images/{image}/json"]
    assert engine.present().chain_ids == {diff_id}, "what was asked once is remembered"


@needs_engine
def test_a_layer_that_is_missing_is_told_apart(engine: Engine, layers: list[bytes]) -> None:
    image, archive = image_of(layers, left_out=layers[1:2])
    with pytest.raises(MissingLayerError):
        engine.load(pieces(archive))
    assert not engine.has_image(image)


@needs_engine
@pytest.mark.parametrize("data", [b"", b"no archive" * 1000])
def test_what_is_no_archive_is_refused_in_the_engines_words(engine: Engine, data: bytes) -> None:
    with pytest.raises(ImageError, match=r"the engine refused the image: .+") as caught:
        engine.load(pieces(data))
    assert not isinstance(caught.value, MissingLayerError)


@needs_engine
def test_a_fault_in_the_stream_is_not_blamed_on_the_engine(engine: Engine) -> None:
    def failing() -> Iterator[bytes]:
        yield b"x" * 512
        raise ImageError("ours")

    with pytest.raises(ImageError, match="ours"):
        engine.load(failing())


@needs_engine
def test_naming_what_is_not_there_says_so(engine: Engine) -> None:
    with pytest.raises(ToolError, match="could not tag"):
        engine.tag("sha256:" + "0" * 64, "envbox-test:x")


@needs_engine
def test_it_knows_its_platform_and_its_client(engine: Engine) -> None:
    asked = ["docker", "version", "-f", "{{.Server.Arch}}"]
    architecture = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert engine.platform == {"amd64": "linux-64", "arm64": "linux-aarch64"}[architecture.stdout.strip()]
    assert Path(engine.client_argv()[0]).name == "docker"
    assert engine.is_local


@needs_engine
def test_a_missing_client_is_named(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ToolError, match="docker command"):
        engine.client_argv()


@needs_engine
def test_questions_need_no_sdk() -> None:
    code = (
        "import sys; from pathlib import Path; from envbox.engine.find import connect; "
        "from envbox.settings import Settings; engine = connect(Settings(cache_dir=Path('/nowhere'))); "
        "engine.has_image('none'); engine.platform; engine.container('none'); "
        "assert not {'docker', 'requests', 'http'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@needs_engine
def test_what_is_not_there_is_no_error(engine: Engine) -> None:
    assert engine.container("envbox-none") is None
    assert engine.containers({"io.envbox.name": uuid4().hex}) == ()
    engine.stop("envbox-none", 1)
    engine.remove("envbox-none")
