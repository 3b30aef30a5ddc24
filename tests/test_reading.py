"""What is in a lock and why: graphs, trees, chains and lists, from the lockfile alone."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from support.changed_locks import CHANNEL, package, wheel
from support.command import envbox
from support.small_lock import needing, small

from envbox.errors import LockfileError, SettingsError
from envbox.lockfile.conda_lock_v1 import dumps
from envbox.locks.inspect.graph import asked_key, chains, direct, find_key, graph_of
from envbox.locks.inspect.package_table import channel_name, listing, rows
from envbox.locks.inspect.trees import tree


def test_what_was_asked_for_is_found_by_its_text() -> None:
    graph = graph_of(small())
    assert list(graph.asked) == ["numpy", "pip:maps-kit", "python"]
    assert graph.is_told


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("numpy", "numpy"),
        ("NumPy>=1.2,<2", "numpy"),
        ("conda-forge::basemap =2.0=py_0", "basemap"),
        (f"{CHANNEL}/linux-64/ca-certs-2024-h1_0.conda#abc", "ca-certs"),
        ("pip: Foo.Bar_baz[extra]>=1 ; python_version<'4'", "pip:foo-bar-baz"),
        ("pip: ", None),
    ],
)
def test_a_text_names_a_package(text: str, key: str | None) -> None:
    assert asked_key(text) == key


def test_a_wheel_needs_wheels_first_then_what_conda_calls_alike() -> None:
    graph = graph_of(small())
    assert graph.needs["pip:maps-kit"] == {"numpy": ">=1", "typing_extensions": ">=4"}
    both = replace(small(), packages=(*small().packages, wheel("typing-extensions", "5")))
    assert "pip:typing-extensions" in graph_of(both).needs["pip:maps-kit"]


def test_chains_are_the_shortest_and_those_through_something_asked_for_are_told_apart() -> None:
    graph = graph_of(small())
    ways = chains(graph, "openssl")
    assert ways == (
        ("python", "openssl"),
        ("numpy", "python", "openssl"),
        ("pip:maps-kit", "numpy", "python", "openssl"),
    )
    assert direct(graph, ways) == (("python", "openssl"),)
    assert chains(graph, "openblas")[0] == ("numpy", "libblas", "openblas")
    assert chains(graph, "python")[0] == ("python",)
    assert ("python", "openssl", "__glibc") in chains(graph, "__glibc")


def test_a_shortest_chain_is_no_longer_than_any_walk() -> None:
    names = [f"p{n:02}" for n in range(40)]
    packages = tuple(
        needing(package(name), **{names[k]: "*" for k in (n * 2 + 1, n * 3 + 2, n + 1) if k < 40})
        for n, name in enumerate(names)
    )
    graph = graph_of(replace(small(), packages=packages, requested={"linux-64": ("p00",)}))

    def distance(key: str) -> int:
        seen, front, steps = {"p00"}, {"p00"}, 0
        while key not in seen:
            front = {other for one in front for other in graph.needs[one]} - seen
            seen |= front
            steps += 1
        return steps

    for name in names:
        (way,) = chains(graph, name)
        assert len(way) == distance(name) + 1
        assert all(after in graph.needs[before] for before, after in pairwise(way))


def test_without_what_was_asked_for_the_roots_are_what_nobody_needs() -> None:
    graph = graph_of(replace(small(), requested={}))
    assert not graph.is_told
    assert list(graph.asked) == ["pip:maps-kit"]


def test_of_a_circle_that_nobody_needs_one_is_a_root() -> None:
    circle = (
        needing(package("b"), a="*", z="*"), needing(package("c"), b="*"), needing(package("a"), c="*"),
        needing(package("z"), y="*"), package("y"), needing(package("self"), self="*"),
    )  # fmt: skip
    graph = graph_of(replace(small(), packages=circle, requested={}))
    assert len(graph.asked) == 2
    assert "self" in graph.asked
    assert graph.asked.keys() & {"a", "b", "c"}
    assert all(chains(graph, key) for key in graph.packages)


def test_a_package_is_found_as_people_write_it() -> None:
    graph = graph_of(small())
    assert find_key(graph, "OpenSSL") == "openssl"
    assert find_key(graph, "typing-extensions") == "typing_extensions"
    assert find_key(graph, "Maps_Kit") == "pip:maps-kit"
    with pytest.raises(LockfileError) as error:
        find_key(graph, "numpi")
    assert error.value.hint == "did you mean numpy?"


def test_a_tree_unfolds_a_package_once() -> None:
    assert list(tree(graph_of(small()), ["numpy", "python"])) == [
        "numpy 1.26",
        "├── libblas 3.9",
        "│   └── openblas 0.3",
        "└── python 3.11",
        "    ├── openssl 3.1",
        "    │   └── ca-certs 2024",
        "    └── pip 24",
        "        └── python 3.11 (*)",
        "python 3.11 (*)",
    ]
    assert list(tree(graph_of(small()), ["numpy"], depth=1)) == [
        "numpy 1.26", "├── libblas 3.9", "└── python 3.11",
    ]  # fmt: skip


def test_an_inverted_tree_says_who_needs_which_versions() -> None:
    assert list(tree(graph_of(small()), ["libblas"], is_inverted=True)) == [
        "libblas 3.9",
        "└── numpy 1.26  needs >=3.9",
        "    └── maps-kit 2 (pip)  needs >=1",
    ]


def test_a_chain_of_thousands_is_no_trouble() -> None:
    packages = tuple(needing(package(f"p{n}"), **{f"p{n + 1}": "*"} if n < 4999 else {}) for n in range(5000))
    graph = graph_of(replace(small(), packages=packages, requested={"linux-64": ("p0",)}))
    assert len(chains(graph, "p4999")[0]) == 5000
    assert sum(1 for _ in tree(graph, ["p0"], depth=3)) == 4


def test_a_list_leaves_out_columns_of_which_nothing_is_known() -> None:
    graph = graph_of(small())
    found = list(listing(rows(graph, "ssl|certs")))
    assert found == [
        "package     version  build     size  channel      licence",
        "ca-certs    2024     0      0.10 MB  conda-forge  ISC",
        "openssl     3.1      0      2.50 MB  conda-forge",
        "2 packages                  2.60 MB",
    ]
    assert list(listing(rows(graph, only_asked=True)))[1:] == [
        "numpy       1.26     0      conda-forge  >=1.20",
        "python      3.11     0      conda-forge  3.11.*",
        "maps-kit    2               pypi         >=1; python_version > '3'",
        "3 packages",
    ]
    assert [row.name for row in rows(graph, by_size=True)][:2] == ["openssl", "ca-certs"]
    with pytest.raises(SettingsError):
        rows(graph, "(")


@pytest.mark.parametrize(
    ("channel", "name"),
    [
        (CHANNEL, "conda-forge"),
        (f"{CHANNEL}/label/dev", "conda-forge/label/dev"),
        ("https://repo.anaconda.com/pkgs/main", "pkgs/main"),
        ("https://prefix.dev/x", "https://prefix.dev/x"),
    ],
)
def test_a_channel_is_called_as_people_do(channel: str, name: str) -> None:
    one = package("a")
    assert channel_name(replace(one, url=f"{channel}/linux-64/{one.file_name}")) == name


# --- the commands -------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments/maps.yml").write_text("dependencies: [numpy]\n")
    (tmp_path / "environments/maps.conda-lock.yml").write_bytes(dumps(small()))
    return tmp_path


def test_list_tree_and_why_are_typed(project: Path) -> None:
    said = envbox("list", cwd=project)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.splitlines()[-1].split() == ["9", "packages", "2.60", "MB"]
    assert envbox("tree", "maps", "-p", "libblas", cwd=project).stdout == "libblas 3.9\n└── openblas 0.3\n"
    assert envbox("why", "openssl", cwd=project).stdout == (
        "python 3.11 → openssl 3.1 (>=3,<4)\nand 2 more, most through these (--all)\n"
    )
    assert envbox("why", "numpy", cwd=project).stdout.startswith("numpy 1.26 was asked for: numpy >=1.20\n")
    done = envbox("why", "scipy", cwd=project)
    assert (done.returncode, done.stdout) == (1, "")
    assert "hint: what there is: envbox list maps" in done.stderr


def test_json_is_complete(project: Path) -> None:
    listed = json.loads(envbox("list", "--json", cwd=project).stdout)
    assert {p["name"]: p["size"] for p in listed["packages"]}["openssl"] == 2_500_000
    graph = json.loads(envbox("tree", "--json", cwd=project).stdout)
    assert graph["packages"]["numpy"]["needs"] == {"libblas": ">=3.9", "python": ">=3.11,<3.12"}
    why = json.loads(envbox("why", "--json", "openblas", cwd=project).stdout)
    assert why["chains"][0] == ["numpy", "libblas", "openblas"]


def test_reading_a_lock_imports_nothing_heavy(project: Path) -> None:
    code = (
        "import sys; from envbox.cli import run\n"
        "for words in (['list'], ['tree'], ['why', 'openssl']): assert run(words) == 0\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project, capture_output=True, text=True, check=True
    )
    assert not set(done.stderr.split()) & {"rattler", "conda_lock", "requests", "docker", "rich", "pydantic"}
