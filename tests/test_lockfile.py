"""The lockfile says the same bytes for the same lock, other tools read it, and damage is named."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lock_values import HERE, MAPS, lock_of, locks, package, wheel

from envbox.errors import LockfileError
from envbox.lockfile import Lock
from envbox.lockfile.conda_lock_v1 import dumps, loads, read_lockfile, sealed
from envbox.oci import digest_of

# --- round trip -----------------------------------------------------------------------------------------


CHANNELS = ["conda-forge", "https://h/c", "a/label/b"]


@given(locks())
@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_what_is_written_is_read_back(lock: Lock) -> None:
    assert loads(dumps(lock), HERE) == lock


@given(locks(), st.randoms(use_true_random=False))
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_the_order_of_what_is_locked_does_not_matter(lock: Lock, random: Any) -> None:
    packages = list(lock.packages)
    random.shuffle(packages)
    turned = {p: tuple(reversed(texts)) for p, texts in reversed(list(lock.requested.items()))}
    hashes = dict(reversed(list(lock.content_hash.items())))
    other = replace(
        lock,
        packages=tuple(packages),
        platforms=lock.platforms[::-1],
        requested=turned,
        content_hash=hashes,
        variables=dict(reversed(list(lock.variables.items()))),
        digest="sha256:" + "0" * 64,
    )
    assert dumps(other) == dumps(lock)


def test_the_digest_is_of_the_bytes(tmp_path: Path) -> None:
    path = tmp_path / "maps.conda-lock.yml"
    path.write_bytes(dumps(MAPS))
    assert read_lockfile(path).digest == digest_of(path.read_bytes()) == MAPS.digest


def test_a_lock_of_before_is_written_as_it_was() -> None:
    assert MAPS.digest == "sha256:b9252fddbf55c89e3be770a79ec49ed00d9b04ee0c5650411871b94952c7b996"


def test_size_and_licence_stand_in_one_line_a_package() -> None:
    numpy = [
        replace(p, size=n, license="BSD-3-Clause")
        for n, p in enumerate(MAPS.packages, 7)
        if p.name == "numpy"
    ]
    python = replace(package("python", version="3.11.7"), license="PSF-2.0")
    told = lock_of(*numpy, python, replace(wheel("tqdm"), size=3))
    custom = yaml.safe_load(dumps(told))["metadata"]["custom_metadata"]
    assert {key: text for key, text in custom.items() if key.startswith("envbox.about.")} == {
        "envbox.about.numpy": '{"license": "BSD-3-Clause", "size": {"linux-64": 7, "linux-aarch64": 8}}',
        "envbox.about.python": '{"license": "PSF-2.0"}',
        "envbox.about.pip:tqdm": '{"size": {"linux-64": 3}}',
    }
    assert len(dumps(told).splitlines()) == len(dumps(MAPS).splitlines()) + 3


def test_an_empty_licence_is_none() -> None:
    told = {text: dumps(lock_of(*(replace(p, license=text) for p in MAPS.packages))) for text in ("MIT", "")}
    assert told[""] == dumps(MAPS)
    assert b'{"license": "MIT"}' in told["MIT"]
    read = loads(told["MIT"].replace(b'"MIT"', b'""'), HERE)
    assert {p.license for p in read.packages} == {None}


def test_what_is_said_of_a_package_that_is_gone_does_not_matter() -> None:
    about = {"envbox.about.scipy": '{"size": {"linux-64": 7}}'}
    read = loads(edited(lambda d: d["metadata"]["custom_metadata"].update(about)), HERE)
    assert read.packages == MAPS.packages


def test_a_lockfile_has_no_time_and_no_machine_in_it() -> None:
    text = dumps(MAPS).decode()
    assert "/home" not in text
    assert "/root" not in text
    assert "created_at" not in text


def test_one_changed_package_changes_few_lines() -> None:
    newer = package("numpy", version="1.1", depends=MAPS.packages[0].depends, sha256="f" * 64)
    other = sealed(replace(MAPS, packages=(newer, *MAPS.packages[1:])))
    before, after = dumps(MAPS).splitlines(), dumps(other).splitlines()
    assert len(before) == len(after)
    assert sum(a != b for a, b in zip(before, after, strict=True)) == 3  # version, url, sha256


def test_reading_imports_no_library_but_yaml(tmp_path: Path) -> None:
    path = tmp_path / "maps.conda-lock.yml"
    path.write_bytes(dumps(MAPS))
    code = (
        "import sys; from pathlib import Path; from envbox.lockfile.conda_lock_v1 import read_lockfile;"
        "read_lockfile(Path(sys.argv[1])); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert "yaml" in done.stdout.split()
    assert not set(done.stdout.split()) & {"conda_lock", "rattler", "pydantic", "requests", "ruamel"}


# --- conda-lock reads and renders it, and we read conda-lock's -------------------------------------------


def test_conda_lock_reads_it(tmp_path: Path) -> None:
    from conda_lock.lockfile import parse_conda_lock_file

    path = tmp_path / "conda-lock.yml"
    path.write_bytes(dumps(MAPS))
    theirs = parse_conda_lock_file(path)
    assert {(p.manager, p.name, p.platform, p.url) for p in theirs.package} == {
        (p.manager, p.name, p.platform, p.url) for p in MAPS.packages
    }
    assert theirs.metadata.custom_metadata is not None
    assert theirs.metadata.custom_metadata["envbox.base"] == "docker.io/a/b:1"


def test_conda_lock_renders_it_as_an_explicit_file(tmp_path: Path) -> None:
    path = tmp_path / "conda-lock.yml"
    path.write_bytes(dumps(MAPS))
    subprocess.run(
        [sys.executable, "-m", "conda_lock", "render", "--kind", "explicit", "-p", "linux-64", str(path)],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    lines = (tmp_path / "conda-linux-64.lock").read_text().splitlines()
    assert f"{MAPS.packages[0].url}#{'b' * 32}" in lines
    assert any(line.startswith("# pip tqdm @ https://files") for line in lines)


def test_a_lockfile_that_conda_lock_wrote_is_read(tmp_path: Path) -> None:
    from conda_lock.lockfile import parse_conda_lock_file, write_conda_lock_file

    ours, path = tmp_path / "ours.yml", tmp_path / "maps.conda-lock.yml"
    plain = sealed(replace(MAPS, base=None, requested={}, variables={}))
    ours.write_bytes(dumps(plain))
    content = parse_conda_lock_file(ours)
    content.metadata.custom_metadata = None
    write_conda_lock_file(content, path, metadata_choices=None)
    read = read_lockfile(path)
    assert replace(read, digest="") == replace(plain, digest="")
    assert read.base is None


def test_the_name_is_the_files_when_it_says_none() -> None:
    document = yaml.safe_load(dumps(replace(MAPS, base=None)))
    document["metadata"]["custom_metadata"] = None
    data = yaml.safe_dump(document).encode()
    assert loads(data, Path("environments/course.conda-lock.yml")).name == "course"
    assert loads(data, Path("/srv/atlas/conda-lock.yml")).name == "atlas"


def test_a_package_of_two_categories_is_one_package() -> None:
    document = yaml.safe_load(dumps(MAPS))
    again = dict(document["package"][0], category="dev", optional=True)
    document["package"].insert(0, again)
    assert loads(yaml.safe_dump(document).encode(), HERE).packages == MAPS.packages


# --- damage -----------------------------------------------------------------------------------------------


def refused(data: bytes, path: Path = HERE) -> LockfileError:
    with pytest.raises(LockfileError) as caught:
        loads(data, path)
    assert str(path) in caught.value.message
    return caught.value


def edited(edit: Any) -> bytes:
    document = yaml.safe_load(dumps(MAPS))
    edit(document)
    return yaml.safe_dump(document).encode()


@pytest.mark.parametrize("name", ["..%2F..%2F..%2Fx-1-py3-none-any.whl", "..", ""])
def test_a_url_that_ends_in_a_path_is_refused(name: str) -> None:
    def lead_away(document: Any) -> None:
        document["package"][0] |= {"manager": "pip", "url": f"https://h/{name}"}

    with pytest.raises(LockfileError, match="ends in a path"):
        loads(edited(lead_away), HERE)


def test_a_channel_whose_host_is_none_is_named() -> None:
    with pytest.raises(LockfileError, match="host is none"):
        loads(edited(lambda d: d["metadata"].update(channels=[{"url": "https://["}])), HERE)


def test_half_a_character_is_refused() -> None:
    custom = {"envbox.variables": '{"A": "\\ud800"}'}
    with pytest.raises(LockfileError, match="variables"):
        loads(edited(lambda d: d["metadata"]["custom_metadata"].update(custom)), HERE)


def test_a_missing_lockfile_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(LockfileError) as caught:
        read_lockfile(tmp_path / "maps.conda-lock.yml")
    assert caught.value.hint == "envbox lock maps"


@pytest.mark.parametrize("share", [step / 40 for step in range(40)])
def test_a_lockfile_that_was_cut_off_is_refused(share: float) -> None:
    data = dumps(MAPS)
    refused(data[: int(len(data) * share)])


def test_a_lockfile_that_was_cut_off_between_two_packages_is_refused() -> None:
    data = dumps(MAPS)
    assert "cut off" in refused(data[: data.rindex(b"- name:")]).message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\x00\x01\x02", "not YAML"),
        (b"\xff\xfe\x00", "not YAML"),
        (b"<html><body>sign in</body></html>", "no lockfile|not a lockfile|not YAML"),
        (b"a: [1", "not YAML: line 2"),
        (b"[" * 100_000, "not YAML"),
        (b"version: 2\n", "of version 2; this envbox reads version 1"),
        (b"version: true\n", "of version True"),
        (b"version: 1\nmetadata: {}\n", "`package` is missing"),
        (b"version: 1\npackage: []\n", "`metadata` is missing"),
    ],
)
def test_what_is_no_lockfile_is_refused_in_words(data: bytes, words: str) -> None:
    import re

    assert re.search(words, refused(data).message)


def test_conflict_markers_are_named_with_their_line() -> None:
    data = dumps(MAPS).replace(b"- name: numpy", b"<<<<<<< HEAD\n- name: numpy", 1)
    line = data[: data.index(b"<<<<")].count(b"\n") + 1
    assert f"merge conflict markers (line {line})" in refused(data).message


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda d: d["package"][0]["hash"].pop("sha256"), "numpy (linux-64) has no sha256"),
        (lambda d: d["package"][0]["hash"].update(sha256="12"), "not 64 hex digits"),
        (lambda d: d["package"][0].update(hash=None), "numpy (linux-64) has no sha256"),
        (lambda d: d["package"][0].pop("url"), "has no `url`"),
        (lambda d: d["package"][0].pop("name"), "package 1 has no `name`"),
        (lambda d: d["package"][0].update(version=1.1), "should be text, in quotes, not 1.1"),
        (lambda d: d["package"][0].update(version="1.1"), "is not of version 1.1"),
        (lambda d: d["package"][0].update(platform="win-64"), "`metadata.platforms` does not name"),
        (
            lambda d: d["package"][0].update(url="ftp://h/linux-64/numpy-1.0-h0_0.conda"),
            "begin with https",
        ),
        (
            lambda d: d["package"][0].update(url="https://h/osx-64/numpy-1.0-h0_0.conda"),
            "platform: osx-64",
        ),
        (lambda d: d["package"][0].update(manager="npm"), "should be conda or pip"),
        (lambda d: d["package"].append("numpy"), "package 5 is not a mapping"),
        (lambda d: d["package"].append(d["package"][0]), "locked twice"),
        (lambda d: d["package"].pop(2), "numpy needs python, which is not locked for linux-64"),
        (lambda d: d["package"].pop(1), "nothing is locked for linux-aarch64"),
        (lambda d: d["metadata"].update(platforms=["linux-65"]), "'linux-65' in `metadata.platforms`"),
        (lambda d: d["metadata"].update(channels="conda-forge"), "`metadata.channels`"),
        (lambda d: d["metadata"].update(content_hash=[1]), "`metadata.content_hash`"),
        (lambda d: d["metadata"]["custom_metadata"].update({"envbox.variables": "{"}), "should be JSON"),
        (lambda d: d["metadata"]["custom_metadata"].update({"envbox.virtual.linux-64": "[]"}), "a dict of"),
        (
            lambda d: d["metadata"]["custom_metadata"].update({"envbox.about.numpy": "7"}),
            "`envbox.about.numpy`",
        ),
        (
            lambda d: d["metadata"]["custom_metadata"].update({"envbox.about.numpy": '{"size": {"a": -1}}'}),
            "a `size` in bytes",
        ),
        (lambda d: d["metadata"]["custom_metadata"].update({"envbox.slim": '["fat"]'}), "has fat, and"),
        (
            lambda d: d["metadata"]["custom_metadata"].pop("envbox.glibc.linux-64"),
            "not pinned for linux-64",
        ),
        (
            lambda d: d["metadata"]["custom_metadata"].update({"envbox.base-digest.linux-64": "latest"}),
            "not a sha256 digest",
        ),
        (
            lambda d: d["metadata"]["custom_metadata"].update({"envbox.requested.linux-64": '["scipy >1"]'}),
            "scipy was asked for, but is not locked for linux-64",
        ),
    ],
)
def test_an_edit_that_matters_is_named(edit: Any, words: str) -> None:
    error = refused(edited(edit))
    assert words in error.message
    assert error.hint is not None


def test_several_faults_are_told_at_once_up_to_ten() -> None:
    many = lock_of(*(package(f"p{i:02}") for i in range(15)), requested={})
    document = yaml.safe_load(dumps(many))
    for entry in document["package"]:
        del entry["hash"]["sha256"]
    message = refused(yaml.safe_dump(document).encode()).message
    assert message.count("has no sha256") == 10
    assert "and 5 more" in message


def test_credentials_in_a_lockfile_stay_out_of_the_lock() -> None:
    def edit(document: Any) -> None:
        document["package"][0]["url"] = "https://me:pw@h.org/t/tk-1/c/linux-64/numpy-1.0-h0_0.conda"
        document["metadata"]["channels"][0]["url"] = "https://me:pw@h.org/t/tk-1/c"

    lock = loads(edited(edit), HERE)
    assert lock.packages[0].url == "https://h.org/c/linux-64/numpy-1.0-h0_0.conda"
    assert lock.channels == ("https://h.org/c",)
    assert lock.packages[-1].url.endswith("/packages/t/tqdm-1.0-py3-none-any.whl")


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
@settings(max_examples=200, deadline=None)
def test_no_bytes_bring_a_traceback(data: bytes) -> None:
    with contextlib.suppress(LockfileError):
        loads(data, HERE)


YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_value_in_the_wrong_place_brings_a_traceback(data: st.DataObject) -> None:
    document = yaml.safe_load(dumps(MAPS))
    where = document
    while True:
        key = data.draw(st.sampled_from(list(where) if isinstance(where, dict) else list(range(len(where)))))
        if not isinstance(where[key], dict | list) or not where[key] or data.draw(st.booleans()):
            where[key] = data.draw(YAML_VALUES)
            break
        where = where[key]
    with contextlib.suppress(LockfileError):
        loads(yaml.safe_dump(document).encode(), HERE)
