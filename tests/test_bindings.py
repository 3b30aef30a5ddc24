"""What of the host a container gets."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from envbox.errors import LaunchError
from envbox.sessions.launch.bindings import Bind, Volume, parse_cpus, parse_memory, parse_port, parse_volume

AWKWARD = ["plain", "with space", "with:colon", "with,comma", 'with"quote', "mit ü", "a=b", " edge "]


@pytest.mark.parametrize("name", AWKWARD)
def test_any_path_is_one_field_of_the_mount(name: str) -> None:
    flag, value = Bind(Path("/data") / name, "/work").argv()
    assert flag == "--mount"
    assert next(csv.reader([value])) == ["type=bind", f"source=/data/{name}", "target=/work"]


def test_a_read_only_bind_says_so() -> None:
    assert Bind(Path("/a"), "/b", read_only=True).argv()[1].endswith(",readonly")


@pytest.mark.parametrize("name", AWKWARD)
def test_a_host_path_may_have_anything_in_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert parse_volume(f"./{name}:/data:ro", tmp_path) == Bind(tmp_path / name, "/data", read_only=True)


def test_a_relative_host_path_starts_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "project").mkdir()
    assert parse_volume("../data:/d", tmp_path / "project") == Bind(tmp_path / "data", "/d")


def test_the_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "data").mkdir()
    assert parse_volume("~/data:/d", Path("/")) == Bind(tmp_path / "data", "/d")


def test_a_named_volume_passes(tmp_path: Path) -> None:
    assert parse_volume("pgdata:/var/lib/data:ro", tmp_path) == Volume("pgdata:/var/lib/data:ro")


def test_options_that_only_the_engine_knows_pass(tmp_path: Path) -> None:
    assert parse_volume(f"{tmp_path}:/d:ro,z", Path("/")) == Volume(f"{tmp_path}:/d:ro,z")


def test_a_missing_host_folder_is_named_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match=r"there is no .*gone"):
        parse_volume("./gone:/data", tmp_path)
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("text", ["", "/data", "a:b", ":/data", "./x:relative", "./x:/d:ro:rw"])
def test_what_is_no_volume_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(LaunchError) as caught:
        parse_volume(text, tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "published"),
    [
        ("8000", "127.0.0.1:8000:8000"),
        ("9000:8000", "127.0.0.1:9000:8000"),
        ("9000:8000/udp", "127.0.0.1:9000:8000/udp"),
        ("8000-8003", "127.0.0.1:8000-8003:8000-8003"),
        ("0.0.0.0:9000:8000", "0.0.0.0:9000:8000"),
        ("[::1]:9000:8000", "[::1]:9000:8000"),
    ],
)
def test_a_port_is_published_on_loopback_unless_an_address_is_given(text: str, published: str) -> None:
    assert parse_port(text) == published


@pytest.mark.parametrize(
    "text", ["0.0.0.0:9000:8000", "[::]:9000:8000", "10.0.0.1:80", "999.0.0.1:80", "[::2]:80"]
)
def test_a_setting_opens_no_port_to_other_machines_unless_the_command_line_does(text: str) -> None:
    with pytest.raises(LaunchError, match="a setting opens no port to other machines") as caught:
        parse_port(text, "environments.e")
    assert "--public" in (caught.value.hint or "")
    assert parse_port(text, "environments.e", public=True).startswith(text.rpartition(":")[0])


@pytest.mark.parametrize("text", ["127.0.0.1:9000:8000", "127.1.2.3:9000:8000", "[::1]:9000:8000", "8000"])
def test_a_setting_may_publish_on_loopback(text: str) -> None:
    assert parse_port(text, "environments.e") == parse_port(text)


def test_public_ports_are_for_everybody_where_no_address_is_said() -> None:
    assert parse_port("8000", public=True) == "0.0.0.0:8000:8000"
    assert parse_port("127.0.0.1:8000:8000", public=True) == "127.0.0.1:8000:8000"


@pytest.mark.parametrize(
    "text", ["", "x", "0", "70000", "1:2:3", "8000:", ":8000", "-1", "8000/icmp", "localhost:1:2"]
)
def test_what_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(LaunchError, match="not a port"):
        parse_port(text)


@pytest.mark.parametrize("text", ["0", "512m", "4g", "1.5G", "1 GiB", "100b", "8kb", "33554432"])
def test_a_size_is_what_the_client_takes(text: str) -> None:
    assert parse_memory(text) == text


@pytest.mark.parametrize("text", ["", "lots", "-1", "4x", "g", "1e3", "4g\n", "4 g b"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(LaunchError, match="not a size") as caught:
        parse_memory(text)
    assert "4g" in str(caught.value.hint)


@pytest.mark.parametrize("text", ["", "abc", "-1", "inf", "1e1", "2,5", "2 "])
def test_what_is_no_number_of_cpus_is_refused(text: str) -> None:
    with pytest.raises(LaunchError, match="not a number of CPUs"):
        parse_cpus(text)
    assert parse_cpus("0.5") == "0.5"
