"""Real files gone wrong, through every reader: each is read, or refused in words, soon; no traceback."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support.broken_files import broken, warped
from support.foreign_locks import a_lock
from support.paper_channel import record, write_channel

from envbox.errors import EnvboxError
from envbox.lockfile import Base, conda_lock_foreign, explicit, pixi
from envbox.lockfile.conda_lock_v1 import dumps, loads, sealed
from envbox.lockfile.conflict_markers import sides
from envbox.lockfile.foreign import ForeignLock, channel_name
from envbox.lockfile.formats import kind_of, read_foreign
from envbox.locks.convert.spec_from_lock import SELECTORS, spec_text
from envbox.locks.convert.to_locked import locked
from envbox.locks.solve import solve
from envbox.locks.solve.request import SolveRequest
from envbox.notebooks import document as notebooks
from envbox.notebooks.imports import used_by_notebook
from envbox.notebooks.write import written_like
from envbox.packages.fetch import archive_path
from envbox.settings import Settings, read_settings

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "120"))
LONGEST = 20_000  # bytes of an error; some name a key, however long it is
HERE = Path("maps.conda-lock.yml")
fuzzed = hypothesis_settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # to shrink what takes long takes very long
)

LOCK = sealed(
    replace(
        a_lock(),
        base=Base("docker.io/x/y:1", {"linux-64": "sha256:" + "0" * 64}, {"linux-64": "2.36"}),
        variables={"A": "b"},
        requested={"linux-64": ("python >=3",)},
        exclude_newer="2026-01-01",
        slim=("tests",),
    )
)
OURS = dumps(LOCK)
PIXI = pixi.dumps(LOCK, LOCK.platforms)
EXPLICIT = explicit.dumps(LOCK, "linux-64")


def seven() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(PIXI)
    return {**found, "version": 7, "platforms": [{"name": p, "subdir": p} for p in LOCK.platforms]}


SEVEN = yaml.safe_dump(seven()).encode()
OLD = yaml.safe_load(OURS)
for entry in OLD["package"]:
    entry["hash"].pop("sha256")
FOREIGN = yaml.safe_dump(OLD).encode()


@contextlib.contextmanager
def allowed() -> Iterator[None]:
    """Errors in words, of a length that one reads, and soon."""
    start, said = time.process_time(), ""
    try:
        yield
    except EnvboxError as error:
        said = f"{error.message}{error.hint}"
    assert len(said.encode()) < LONGEST
    assert time.process_time() - start < 5  # seconds


def text_of(document: Any) -> bytes:
    """A document as JSON, which is YAML, too."""
    return json.dumps(document, default=str).encode()


def read_ours(data: bytes) -> None:
    lock = loads(data, HERE)
    for package in lock.packages:
        assert archive_path(package, Settings(Path("/c"))).parent == Path("/c/packages") / package.sha256
    assert loads(dumps(lock), HERE).packages == lock.packages


def taken(lock: ForeignLock) -> None:
    """Whatever is read can be locked, and asked for in a spec."""
    packages = [locked(replace(p, sha256="0" * 64), lock.packages) for p in lock.packages]
    asked = {p: [q for q in packages if q.platform == p] for p in lock.platforms if p in SELECTORS}
    spec_text("maps", "x", list(map(channel_name, lock.channels)), asked, {})


def read_any(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "some.lock")
        path.write_bytes(data)
        kind = kind_of(data, path)
        if kind == "environment":
            return
        for package in read_foreign(data, path).packages:
            assert "/" not in package.file_name


def read_conflicted(data: bytes) -> None:
    for side in sides(data) or ():
        read_ours(side)


LOCKFILES: dict[str, tuple[bytes, Callable[[bytes], Any]]] = {
    "ours": (OURS, read_ours),
    "conda-lock": (FOREIGN, lambda data: taken(conda_lock_foreign.loads(data, HERE))),
    "pixi6": (PIXI, lambda data: taken(pixi.loads(data, HERE))),
    "pixi7": (SEVEN, lambda data: taken(pixi.loads(data, HERE))),
    "any": (PIXI, read_any),
}


@pytest.mark.parametrize("kind", [*LOCKFILES, "explicit", "conflicted"])
@given(st.data())
@fuzzed
def test_lockfiles_with_broken_bytes(kind: str, data: st.DataObject) -> None:
    conflict = OURS.replace(b"version: 1.0\n", b"<<<<<<< a\nversion: 1.0\n=======\nversion: 2.0\n>>>>>>> b\n")
    more = {
        "explicit": (EXPLICIT, lambda found: taken(explicit.loads(found, HERE))),
        "conflicted": (conflict, read_conflicted),
    }
    whole, read = {**LOCKFILES, **more}[kind]
    with allowed():
        read(data.draw(broken(whole)))


@pytest.mark.parametrize("kind", LOCKFILES)
@given(st.data())
@fuzzed
def test_lockfiles_with_useless_values(kind: str, data: st.DataObject) -> None:
    whole, read = LOCKFILES[kind]
    with allowed():
        read(text_of(data.draw(warped(yaml.safe_load(whole)))))


@given(st.data())
@fuzzed
def test_useless_values_of_what_we_add_to_a_lockfile(data: st.DataObject) -> None:
    document = yaml.safe_load(OURS)
    custom = document["metadata"]["custom_metadata"]
    key = data.draw(st.sampled_from(sorted(custom)))
    try:
        value = json.loads(custom[key])
    except ValueError:
        value = custom[key]
    custom[key] = data.draw(
        st.just(json.dumps(data.draw(warped([value])), default=str))
        | st.text(max_size=9)
        | st.just("[" * 99999)
    )
    with allowed():
        read_ours(text_of(document))


# --- notebooks ----------------------------------------------------------------------------------------------

SOURCE = next((Path(__file__).parents[1] / "notebooks").glob("*.ipynb")).read_bytes()
CELL = {
    "cell_type": "code", "language": "python", "collapsed": False, "input": ["import numpy"], "outputs": [],
    "metadata": {}, "prompt_number": 1,
}  # fmt: skip
SHEET = {"metadata": {}, "cells": [CELL]}
OLDER = json.dumps(
    {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [SHEET]}
).encode()


def read_notebook(data: bytes) -> None:
    path = Path("some.ipynb")
    notebook = notebooks.loads(data, path)
    used_by_notebook(notebook, set())
    written_like(
        data, notebook.document, {**notebook.document, "metadata": {**notebook.metadata, "envbox": {}}}
    )


@pytest.mark.parametrize("whole", [SOURCE, OLDER], ids=["4", "3"])
@given(st.data())
@fuzzed
def test_notebooks(whole: bytes, data: st.DataObject) -> None:
    made = json.dumps(data.draw(warped(json.loads(whole))), default=str).encode("utf-8", "surrogatepass")
    with allowed():
        read_notebook(data.draw(st.just(made) | broken(whole)))


# --- settings -----------------------------------------------------------------------------------------------

TOML = b"""
base = "docker.io/x/y:1"
channels = ["conda-forge"]
platforms = ["linux-64"]
jobs = 2
timeout = 60.0
cuda = "12.4"
[mirrors]
"https://conda.anaconda.org/conda-forge" = "https://h/c"
[environments.maps]
base = "x:1"
slim = ["tests"]
"""


@given(st.data())
@fuzzed
def test_settings(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "envbox.toml").write_bytes(data.draw(broken(TOML)))
    with allowed():
        read_settings(folder, {"ENVBOX_CONFIG": os.devnull})


# --- what a channel says ------------------------------------------------------------------------------------


@given(st.data())
@hypothesis_settings(fuzzed, max_examples=max(10, EXAMPLES // 3))
def test_indexes(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        channel = write_channel(Path(folder, "channel"), [record("a", "1", ["b"]), record("b", "1", [])])
        for path in Path(channel).rglob("repodata.json"):
            whole = path.read_bytes()
            made = json.dumps(data.draw(warped(json.loads(whole))), default=str).encode(
                "utf-8", "surrogatepass"
            )
            path.write_bytes(data.draw(st.just(made) | broken(whole)))
        with allowed():
            found = solve(
                [SolveRequest("linux-64", ("a",), {})],
                [f"file://{channel}"],
                Settings(cache_dir=Path(folder, "cache")),
            )["linux-64"]
            if not isinstance(found, Exception):
                for package in found:
                    path = archive_path(package, Settings(Path("/c")))
                    assert path.parent == Path("/c/packages") / package.sha256
