"""What an environment can run without is left out when that is set, and nothing that is imported."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
from support.containers import Lab
from support.packages import File, Package, Wheel

import envbox
from envbox.packages.link.conda import ArchiveSource, link_package
from envbox.packages.link.entries import EntryWriter
from envbox.packages.link.tar import END
from envbox.packages.link.target import ROOT, PythonLayout
from envbox.packages.link.wheel import link_wheel
from envbox.slim import KINDS, imported_tests, kind_of, left_out

LIBRARY = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}"
SITE = f"{LIBRARY}/site-packages"
PYTHON = PythonLayout(".".join(map(str, sys.version_info[:3])), SITE)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        (f"{SITE}/numpy/core/tests/test_a.py", "tests"),
        (f"{SITE}/numpy/test/data/a.bin", "tests"),
        (f"{SITE}/numpy/tests/__pycache__/test_a.cpython-311.pyc", "tests"),
        (f"{SITE}/numpy/testing/__init__.py", None),
        (f"{SITE}/numpy/tests.py", None),
        (f"{SITE}/tests/__init__.py", None),  # a package of that name, whoever's it is
        (f"{SITE}/numpy/core/include/numpy/arrayobject.h", None),
        (f"{LIBRARY}/test/test_os.py", "tests"),
        (f"{LIBRARY}/unittest/test/test_case.py", "tests"),
        (f"{LIBRARY}/test/support/os_helper.py", None),
        (f"{LIBRARY}/test/__init__.py", None),
        ("lib/libz.a", "static"),
        (f"{LIBRARY}/config-3.11/libpython3.11.a", "static"),
        ("lib/libz.so", None),
        ("include/zlib.h", "headers"),
        ("include/python3.11/pyconfig.h", None),  # sysconfig reads it
        ("share/man/man1/git.1", "docs"),
        ("share/doc/git/README", "docs"),
        ("share/doc/git/COPYING", None),
        ("share/info/dir", "docs"),
        ("share/gtk-doc/html/a.html", "docs"),
        ("share/proj/proj.db", None),
        ("share/tests/a", None),
    ],
)
def test_the_rules_go_by_the_path(path: str, kind: str | None) -> None:
    assert kind_of(path, SITE) == kind


def test_without_a_python_there_are_no_tests_of_its_packages() -> None:
    assert kind_of("lib/python3.11/site-packages/a/tests/b.py", None) is None


@pytest.mark.parametrize(
    ("path", "line", "found"),
    [
        ("a/__init__.py", "from .tests.runner import Runner", "a/tests"),
        ("a/__init__.py", "from . import (x,  # why\n    tests as t,\n)", "a/tests"),
        ("a/b/c.py", "from ..tests import helper", "a/tests"),
        ("a/b.py", "import os, a.c.test.d as e", "a/c/test"),
        ("a/b.py", "def f():\n    from a.tests import \\\n        x", "a/tests"),
        ("z/b.py", "from a import tests", "a/tests"),
        ("a/b.py", "from a.testing import tests_of", None),
        ("a/conftest.py", "from a.tests import x", None),
        ("a/b.py", "# from a.tests import x\n>>> import a.tests\nimport tests, test\nfrom . import a", None),
    ],
)
def test_what_a_module_imports_from_tests_is_found(path: str, line: str, found: str | None) -> None:
    expected = {f"{SITE}/{found}"} if found else set()
    assert (
        set(imported_tests(f"{SITE}/{path}", f"x = 1\n{line}\n".encode(), SITE))
        & {
            f"{SITE}/a/tests",
            f"{SITE}/a/c/test",
            f"{SITE}/tests",
            f"{SITE}/test",
        }
        == expected
    )


def test_tests_that_needed_tests_need_stay_too() -> None:
    modules = {
        f"{SITE}/a/__init__.py": b"from .tests.runner import run",
        f"{SITE}/a/tests/runner.py": b"from a.io.tests import data",
        f"{SITE}/a/io/tests/data.py": b"",
        f"{SITE}/a/other/tests/test_x.py": b"import a.last.tests",
        f"{SITE}/a/last/tests/test_y.py": b"",
    }
    found = left_out(modules.keys(), ["tests"], SITE, modules.items)
    assert set(found) == {f"{SITE}/a/other/tests/test_x.py", f"{SITE}/a/last/tests/test_y.py"}


def test_modules_are_read_only_where_there_are_tests() -> None:
    def never() -> list[tuple[str, bytes]]:
        raise AssertionError

    assert left_out(["lib/a.a", "include/a.h"], sorted(KINDS), SITE, never) == {
        "lib/a.a": "static",
        "include/a.h": "headers",
    }


FILES = [
    ("site-packages/demo/__init__.py", File(b"x = 1\n")),
    ("site-packages/demo/tests/test_x.py", File(b"import demo\n")),
    ("site-packages/demo/kept/__init__.py", File(b"from .test import y\n")),
    ("site-packages/demo/kept/test/__init__.py", File(b"y = 1\n")),
    ("lib/libdemo.a", File(b"!<arch>\n")),
    ("lib/libother.a", File(kind=tarfile.SYMTYPE, link="libdemo.a")),
    ("include/demo/empty", File(kind=tarfile.DIRTYPE)),
    ("site-packages/demo/empty/tests", File(kind=tarfile.DIRTYPE)),
    ("include/demo.h", File(b"int x;\n")),
    ("share/doc/demo/LICENSE", File(b"free\n")),
    ("share/doc/demo/README", File(b"read\n")),
]


def linked(package: Package, folder: Path, slim: tuple[str, ...]) -> tuple[EntryWriter, bytes]:
    path = package.write(folder)
    buffer = io.BytesIO()
    out = EntryWriter(buffer.write)
    link_package(ArchiveSource(package.locked(path), path, PYTHON, slim=slim), out)
    return out, buffer.getvalue()


@pytest.mark.parametrize("slim", [(), ("tests",), tuple(sorted(KINDS))])
def test_what_is_left_out_is_neither_there_nor_in_conda_meta(tmp_path: Path, slim: tuple[str, ...]) -> None:
    out, data = linked(Package(noarch="python", files=FILES), tmp_path, slim)
    gone = {path.removeprefix(f"{ROOT}/") for path in linked(
        Package(noarch="python", files=FILES), tmp_path, ())[0].paths - out.paths}  # fmt: skip
    expected = {
        "tests": {f"{SITE}/demo/tests/test_x.py"},
        "static": {"lib/libdemo.a", "lib/libother.a"},
        "headers": {"include/demo.h"},
        "docs": {"share/doc/demo/README"},
    }
    assert gone == set().union(*(expected[kind] for kind in slim))
    with tarfile.open(fileobj=io.BytesIO(data + END)) as archive:
        meta = json.load(archive.extractfile(f"{ROOT}/conda-meta/demo-1.0-h0_0.json"))  # type: ignore[arg-type]
    there = {path.removeprefix(f"{ROOT}/") for path in out.paths if "/conda-meta/" not in path}
    listed = {p["_path"] for p in meta["paths_data"]["paths"] if p["path_type"] != "directory"}
    assert listed == there
    empty = {"include/demo/empty": "headers", f"{SITE}/demo/empty/tests": "tests"}
    assert set(meta["files"]) - there == {path for path, kind in empty.items() if kind not in slim}
    for path, kind in empty.items():
        assert (f"{ROOT}/{path}" in out.directories) == (kind not in slim)


def test_a_wheels_record_has_only_what_is_there(tmp_path: Path) -> None:
    wheel = Wheel(
        files={
            "demo/__init__.py": (b"", False),
            "demo/tests/test_x.py": (b"", False),
            "demo/kept.py": (b"import demo.api.test\n", False),
            "demo/api/test/__init__.py": (b"", False),
            "demo-1.0.data/data/share/man/man1/demo.1": (b"", False),
            "demo-1.0.data/purelib/demo/more/tests/x.py": (b"", False),
        }
    )
    path = wheel.write(tmp_path)
    buffer = io.BytesIO()
    out = EntryWriter(buffer.write)
    link_wheel(ArchiveSource(wheel.locked(path), path, PYTHON, slim=tuple(sorted(KINDS))), out)
    site = f"{ROOT}/{SITE}"
    assert {p.removeprefix(f"{site}/") for p in out.paths if "dist-info" not in p} == {
        "demo/__init__.py",
        "demo/kept.py",
        "demo/api/test/__init__.py",
    }
    with tarfile.open(fileobj=io.BytesIO(buffer.getvalue() + END)) as archive:
        record = archive.extractfile(f"{site}/demo-1.0.dist-info/RECORD").read().decode()  # type: ignore[union-attr]
    assert {f"{site}/{row[0]}" for row in csv.reader(io.StringIO(record))} == out.paths


def test_the_rules_are_the_same_under_every_python() -> None:
    """No parser of the running Python is asked: new syntax in a module changes nothing."""
    source = b"match x:\n    case [*_]: from .tests import y\ntype X[T] = int\nfrom .tests import z\n"
    assert imported_tests(f"{SITE}/a/b.py", source, SITE) == {f"{SITE}/a/tests"}
    code = "import sys, envbox.slim; sys.exit(bool({'ast', 'tokenize'} & set(sys.modules)))"
    environ = {**os.environ, "PYTHONPATH": str(Path(envbox.__file__).parents[1])}  # -S knows no site-packages
    assert subprocess.run([sys.executable, "-S", "-c", code], env=environ, check=False).returncode == 0


CHECK = """
import importlib.metadata, json, sysconfig
from pathlib import Path
import numpy, numpy.testing, numpy.polynomial
numpy.testing.assert_allclose(numpy.linalg.inv([[2.0]]), [[0.5]])
prefix = Path("/opt/envbox")
assert Path(sysconfig.get_config_h_filename()).is_file() or not (prefix / "include").exists()
there = [path for path in prefix.rglob("*") if path.is_file()]
records = [json.loads(path.read_text()) for path in prefix.glob("conda-meta/*.json")]
print(json.dumps({
    "tests": sum("/site-packages/numpy/" in str(path) and "/tests/" in str(path) for path in there),
    "size": sum(path.stat().st_size for path in there),
    "missing": sorted(file for r in records for file in r["files"] if not (prefix / file).exists()),
    "distributions": sorted(d.name.lower() for d in importlib.metadata.distributions()),
}))
"""


@pytest.mark.rig
def test_a_slim_environment_imports_and_runs(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "environments").mkdir()
    (tmp_path / "environments" / "slim.yml").write_text(
        "channels: [conda-forge]\ndependencies: [python, numpy, pip]\n"
    )
    project = replace(lab, project=tmp_path)
    found = {}
    for slim in ("false", "true"):
        (tmp_path / "envbox.toml").write_text(f"[environments.slim]\nslim = {slim}\n")
        done = project.run("run", "slim", "--", "python", "-c", CHECK)
        assert done.returncode == 0, done.stderr
        found[slim] = json.loads(done.stdout)
    assert found["false"]["tests"] > 100
    assert found["true"]["tests"] == 0
    assert found["true"]["missing"] == []
    assert found["true"]["distributions"] == found["false"]["distributions"]
    assert found["true"]["size"] < found["false"]["size"] - 6_000_000
    checked = project.run("run", "slim", "--", "pip", "check")
    assert (checked.returncode, checked.stdout) == (0, "No broken requirements found.\n")
