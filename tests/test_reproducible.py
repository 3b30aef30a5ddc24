"""The same lock and base give the same image, whatever machine, user and moment.

It is built again and again, in processes that share nothing but the lockfile and where bytes come from, each
in a world that differs in one thing that must not matter.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.paper_registry import PaperRegistry, serving
from support.second_python import second_python  # noqa: F401  # a fixture
from support.tiny import Tiny, make_tiny
from support.worlds import SOURCE, World, build, mirrors

from envbox.report import SILENT

if TYPE_CHECKING:
    from conftest import Rig
    from support.second_python import SecondPython

NOBODY = 65534


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    with serving(PaperRegistry()) as registry:
        yield make_tiny(tmp_path_factory.mktemp("tiny"), registry)


@pytest.fixture(scope="module")
def expected(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    made, seen = build(tiny.environment.lock_path, World(), tmp_path_factory.mktemp("one"), mirrors(tiny))
    assert (seen["umask"], seen["zone"], seen["encoding"], seen["jobs"]) == ("022", "+0000", "utf-8", 1)
    return made


WORLDS: dict[str, tuple[World, dict[str, Any]]] = {
    "umask": (World(umask="077"), {"umask": "077"}),
    "no umask": (World(umask="000"), {"umask": "000"}),
    "time zone": (World(variables={"TZ": "Pacific/Apia"}), {"zone": "+1300"}),
    "locale": (
        World(variables={"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}),
        {"encoding": "ascii"},
    ),
    "hash seed": (World(variables={"PYTHONHASHSEED": "12345"}), {}),
    "another hash seed": (World(variables={"PYTHONHASHSEED": "54321"}), {}),
    "workers": (World(variables={"ENVBOX_JOBS": "4"}), {"jobs": 4}),
    "cache folder": (World(cache="another, with spaces and ümlauts"), {}),
    "a long path": (World(cache="/".join(["long-" * 20] * 4)), {}),
}


@pytest.mark.parametrize("name", WORLDS)
def test_a_world_does_not_matter(name: str, tiny: Tiny, expected: dict[str, Any], tmp_path: Path) -> None:
    world, seen = WORLDS[name]
    made, saw = build(tiny.environment.lock_path, world, tmp_path, mirrors(tiny))
    assert made == expected
    assert saw | seen == saw
    assert str(tmp_path) not in json.dumps(made)


def test_who_builds_does_not_matter(tiny: Tiny, expected: dict[str, Any], tmp_path: Path) -> None:
    made, saw = build(tiny.environment.lock_path, as_nobody(), tmp_path, mirrors(tiny))
    assert saw["uid"] == NOBODY
    assert made == expected


def as_nobody() -> World:
    """Another user, who may read what is root's (the interpreter may lie in a home folder), and no more."""
    if os.getuid() or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv, to become another user")
    capability = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
    before = ("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", *capability)
    if subprocess.run([*before, "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let a process keep the capability to read")
    return World(before=before, uid=NOBODY, cache="nobody's")


@pytest.mark.parametrize("year", [1999, 2037])
def test_the_clock_does_not_matter(year: int, tiny: Tiny, expected: dict[str, Any], tmp_path: Path) -> None:
    made, saw = build(tiny.environment.lock_path, at_new_year(year), tmp_path, mirrors(tiny))
    assert saw["year"] == year
    assert made == expected


def at_new_year(year: int) -> World:
    if not shutil.which("faketime"):
        pytest.skip("needs faketime")
    return World(
        before=("faketime", f"{year}-01-01 00:00:30"), variables={"FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    )


def test_the_python_that_runs_envbox_does_not_matter(
    tiny: Tiny,
    expected: dict[str, Any],
    tmp_path: Path,
    second_python: SecondPython,  # noqa: F811
) -> None:
    world = World(
        python=(str(second_python.executable), "-S"),
        variables={"PYTHONPATH": f"{SOURCE}:{second_python.libraries}"},
    )
    made, saw = build(tiny.environment.lock_path, world, tmp_path, mirrors(tiny))
    assert saw["python"] == second_python.version
    assert made == expected


def test_the_order_of_downloads_does_not_matter(tiny: Tiny, expected: dict[str, Any], tmp_path: Path) -> None:
    orders = []
    for name, is_reversed in (("one", False), ("other", True)):
        with slow_channel(tiny.folder / "channel", is_reversed=is_reversed) as (url, order):
            there = replace(tiny, channel=url)
            world = World(cache=name, variables={"ENVBOX_JOBS": "4"})
            made, _ = build(tiny.environment.lock_path, world, tmp_path, mirrors(there))
        assert made == expected
        orders.append(order)
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1])


@contextmanager
def slow_channel(folder: Path, *, is_reversed: bool) -> Iterator[tuple[str, list[str]]]:
    """Serve a channel whose files come in the order of their names, or the other way round."""
    order: list[str] = []
    names = sorted((path.name for path in folder.rglob("*.*")), reverse=is_reversed)

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/")[2]
            time.sleep(0.05 * names.index(name))
            order.append(name)
            super().do_GET()

        def log_message(self, format: str, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", order
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_what_is_in_the_cache_does_not_matter(tiny: Tiny, expected: dict[str, Any], tmp_path: Path) -> None:
    env = mirrors(tiny)
    for gone in (None, None, "layers", "fragments", "compilers", "packages", "blobs"):
        if gone:
            shutil.rmtree(tmp_path / "cache" / gone)
        made, _ = build(tiny.environment.lock_path, World(), tmp_path, env)
        assert made == expected


@pytest.mark.rig
def test_two_worlds_make_the_same_image_of_a_real_environment(rig: Rig, tmp_path: Path) -> None:
    """Everything at once, with a Python that is linked and compiled itself."""
    from envbox.locks.lock import lock
    from envbox.project import Environment

    spec = tmp_path / "real.yml"
    spec.write_text("channels: [conda-forge]\ndependencies: [python, ipython]\nvariables: {B: b, A: a}\n")
    environment = Environment("real", spec, tmp_path / "real.conda-lock.yml")
    lock(environment, rig.settings(), ["linux-64"], SILENT)
    first, _ = build(environment.lock_path, World(), tmp_path / "first", rig.env)
    worlds = [WORLDS["locale"][0], WORLDS["a long path"][0], WORLDS["time zone"][0]]
    other = World(
        cache="/".join(w.cache for w in worlds),
        umask="077",
        variables={
            **{name: value for w in worlds for name, value in w.variables.items()},
            "PYTHONHASHSEED": "12345",
            "ENVBOX_JOBS": "4",
        },
        before=at_new_year(1999).before if shutil.which("faketime") else (),
    )
    second, _ = build(environment.lock_path, other, tmp_path / "second", rig.env)
    assert first["diff_ids"] == second["diff_ids"]
    assert first == second
    assert len(first["diff_ids"]) > 10
