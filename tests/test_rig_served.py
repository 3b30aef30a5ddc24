"""The package index, the registry, the base image and the web server say the truth."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.rig_checks import fetch

from rigging import (
    debian,
    debian_tree,
    http_server,
)

if TYPE_CHECKING:
    from conftest import Rig

TOOLS = Path(__file__).parents[1] / "tools"


# --- the package index


@pytest.mark.rig
def test_the_package_index_serves_what_it_says(rig: Rig) -> None:
    mirrors = dict(pair.split("=", 1) for pair in rig.env["ENVBOX_MIRRORS"].split())
    simple = mirrors["https://pypi.org/simple"]
    root = fetch(f"{simple}/")[1].decode()
    projects = re.findall(r'href="([^"]+)/"', root)
    assert {"tqdm", "tabulate", "python-slugify", "markupsafe", "awkward-sdist"} <= set(projects)
    for project in projects:
        page = fetch(f"{simple}/{project}/")[1].decode()
        for href, sha256 in re.findall(r'href="\.\./\.\./(\S+)#sha256=([0-9a-f]{64})"', page):
            files = mirrors["https://files.pythonhosted.org/packages"].rpartition("/packages")[0]
            assert hashlib.sha256(fetch(f"{files}/{href}")[1]).hexdigest() == sha256
            if href.endswith(".whl"):
                (stated,) = re.findall(
                    rf'{re.escape(href)}#\S+ data-core-metadata="sha256=([0-9a-f]{{64}})"', page
                )
                metadata = fetch(f"{files}/{href}.metadata")[1]
                assert hashlib.sha256(metadata).hexdigest() == stated


@pytest.mark.rig
def test_pip_installs_from_the_package_index(rig: Rig, tmp_path: Path) -> None:
    mirrors = dict(pair.split("=", 1) for pair in rig.env["ENVBOX_MIRRORS"].split())
    command = [sys.executable, "-m", "pip", "download", "-q", "--isolated", "-d", str(tmp_path)]
    command += ["--index-url", mirrors["https://pypi.org/simple"], "python-slugify"]
    subprocess.run(command, check=True)
    assert {p.name.split("-")[0] for p in tmp_path.iterdir()} == {"python_slugify", "text_unidecode"}


@pytest.mark.rig
def test_the_table_of_names_is_in_conda_locks_format(rig: Rig) -> None:
    table = json.loads(fetch(rig.env["ENVBOX_MAPPING_URL"])[1])
    assert table["jupyter-client"]["conda_name"] == "jupyter_client"
    assert table["matplotlib"]["conda_name"] == "matplotlib-base"
    assert {"conda_name", "import_name", "mapping_source", "pypi_name"} == table["numpy"].keys()


# --- the registry and the base


@pytest.mark.rig
def test_the_registry_serves_the_base_for_both_platforms(rig: Rig) -> None:
    import gzip

    root = f"http://{rig.registry}/v2/continuumio/miniconda3"
    kind = "application/vnd.oci.image.index.v1+json"
    _, data, headers = fetch(f"{root}/manifests/25.3.1-1", Accept=kind)
    assert headers["Docker-Content-Digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
    index = json.loads(data)
    assert {m["platform"]["architecture"] for m in index["manifests"]} == {"amd64", "arm64"}
    for entry in index["manifests"]:
        data = fetch(f"{root}/manifests/{entry['digest']}", Accept=entry["mediaType"])[1]
        assert entry["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
        manifest = json.loads(data)
        config = json.loads(fetch(f"{root}/blobs/{manifest['config']['digest']}")[1])
        assert config["architecture"] == entry["platform"]["architecture"]
        assert "PATH=/opt/conda/bin:/usr/local/sbin:" in config["config"]["Env"][0]
        assert len(manifest["layers"]) == 2
        names: set[str] = set()
        for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
            blob = fetch(f"{root}/blobs/{layer['digest']}")[1]
            assert layer["digest"] == f"sha256:{hashlib.sha256(blob).hexdigest()}"
            raw = gzip.decompress(blob)
            assert diff_id == f"sha256:{hashlib.sha256(raw).hexdigest()}"
            with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
                found = [m.name for m in tar]
            assert len(found) == len(set(found))
            names |= set(found)
        assert {"usr/bin/bash", "var/lib/dpkg/status", "opt/conda/bin/python3.11"} <= names
        assert any(re.fullmatch(r"usr/lib/\S+/libc\.so\.6", name) for name in names)


@pytest.mark.rig
def test_the_base_is_a_debian_with_a_python(rig: Rig) -> None:
    repository = f"{rig.registry}/continuumio/miniconda3"
    kind = "application/vnd.oci.image.index.v1+json"
    data = fetch(f"http://{rig.registry}/v2/continuumio/miniconda3/manifests/25.3.1-1", Accept=kind)[1]
    reference = f"{repository}@sha256:{hashlib.sha256(data).hexdigest()}"
    command = "dpkg --audit && apt-get check -qq && python -c 'import ssl; print(ssl.__file__)' && su -c true"
    done = subprocess.run(
        ["docker", "run", "--rm", reference, "bash", "-c", command],
        capture_output=True,
        text=True,
        check=True,
    )
    subprocess.run(["docker", "image", "rm", reference], capture_output=True, check=True)
    assert done.stdout == "/opt/conda/lib/python3.11/ssl.py\n"


def test_what_a_debian_needs_is_found_in_its_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = {
        "a": {"Depends": "b (>= 1), c | d"},
        "b": {"Pre-Depends": "e"},
        "d": {},
        "e": {"Depends": "a"},
    }
    monkeypatch.setattr(debian, "fields", lambda deb: control[deb.name])
    debs = {name: tmp_path / name for name in control}
    assert debian_tree.closure(debs, ["a"]) == ["a", "b", "d", "e"]


# --- the web server


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    import threading

    server = http_server.serve(tmp_path, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", tmp_path
    server.shutdown()
    server.server_close()


def test_a_file_that_is_known_is_answered_with_its_validators(served: tuple[str, Path]) -> None:
    url, folder = served
    (folder / "repodata.json").write_text("{}")
    _, _, headers = fetch(f"{url}/repodata.json")
    status, body, again = fetch(f"{url}/repodata.json", If_None_Match=headers["ETag"])
    assert (status, body, again["ETag"]) == (304, b"", headers["ETag"])
    assert again["Last-Modified"] == headers["Last-Modified"]
    assert again["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    ("wanted", "status", "body"),
    [
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=5-99", 206, b"56789"),
        ("bytes=10-", 416, b""),
        ("lines=1-2", 200, b"0123456789"),
    ],
)
def test_ranges(served: tuple[str, Path], wanted: str, status: int, body: bytes) -> None:
    url, folder = served
    (folder / "digits").write_text("0123456789")
    assert fetch(f"{url}/digits", Range=wanted)[:2] == (status, body)


def test_what_is_not_there_or_outside_is_not_found(served: tuple[str, Path]) -> None:
    url, folder = served
    (folder.parent / "secret").write_text("x")
    assert fetch(f"{url}/nothing")[0] == 404
    assert fetch(f"{url}/../secret")[0] == 404
    assert fetch(f"{url}/%2e%2e/secret")[0] == 404
