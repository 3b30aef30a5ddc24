"""Which package brings a module: measured on what people import, where the wrong ones are there too."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.paper_channel import record, served, write_channel

from envbox.lockfile import pip_name
from envbox.mirrors import Mirrors
from envbox.notebooks.draft import Draft
from envbox.notebooks.init import brings_python, init
from envbox.notebooks.names import (
    conda_names,
    guessed,
    known_module,
    packages_for,
    possible_names,
    set_right,
    sure_package,
)
from envbox.notebooks.suggestions import meant, package_of_missing
from envbox.report import SILENT
from envbox.settings import Settings

TABLES = Path(__file__).parents[1] / "src/envbox/notebooks"


class Case(NamedTuple):
    """A module, the packages that are right for it, and others that there are."""

    module: str
    right: tuple[str, ...]
    others: tuple[str, ...]


def cases() -> list[Case]:
    text = (Path(__file__).parent / "data/modules.tsv").read_text(encoding="ascii")
    rows = [line.split("\t") for line in text.splitlines() if not line.startswith("#")]
    return [Case(m, tuple(r.split()), tuple(o[0].split()) if o else ()) for m, r, *o in rows]


CASES = cases()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """Settings for a channel that has all right packages and all wrong ones, but no project that has none."""
    folder = tmp_path_factory.mktemp("forge")
    right = {name for case in CASES for name in case.right if name != "-"}
    others = {name for case in CASES for name in case.others}
    bare = {"opencv": ["py-opencv >=4"]}
    records = [
        record(n, "1", bare.get(n, ["python >=3.11"])) for n in (right | others) if not n.endswith("!")
    ]
    records += [record(n.rstrip("!"), "1", ["libgcc"]) for n in others if n.endswith("!")]
    records += [record(n, "1", ["libgcc"]) for n in ("python", "pip")]
    records += [record(n, "1", ["python"]) for n in ("ipykernel", "docker-py") if n not in right]
    write_channel(folder / "channel", records)
    with served(folder / "channel") as url:
        yield Settings(
            cache_dir=folder / "cache", mirrors=Mirrors({"https://conda.anaconda.org/conda-forge": url})
        )


def drafted(folder: Path, settings: Settings, source: str, **others: str) -> Draft:
    (folder / "a.py").write_text(source)
    for name, text in others.items():
        (folder / f"{name}.txt").write_text(text)
    (folder / "environment.yml").unlink(missing_ok=True)
    return init(folder, None, settings, SILENT)[1]


def test_the_list_is_long_and_has_no_module_twice() -> None:
    assert len(CASES) >= 350
    assert len({case.module for case in CASES}) == len(CASES)


def test_what_people_import_is_placed_right(tmp_path: Path, settings: Settings) -> None:
    found = drafted(tmp_path, settings, "".join(f"import {case.module}\n" for case in CASES))
    wrong, unplaced = [], []
    for case in CASES:
        decides = known_module(case.module)
        if case.right == ("-",):
            wrong += [case.module] if decides not in found.unplaced else []
        elif not set(case.right) & found.conda.keys():
            unplaced.append(case.module)
    right = {name for case in CASES for name in case.right} | {"python", "ipykernel"}
    assert [name for name in found.conda if name not in right] == []  # never one that only exists
    assert len(wrong) + len(unplaced) <= 0.02 * len(CASES), (wrong, unplaced)
    assert not wrong


def test_offline_nothing_is_guessed(tmp_path: Path, settings: Settings) -> None:
    offline = Settings(cache_dir=settings.cache_dir, offline=True)
    found = drafted(tmp_path, offline, "import numpy, sklearn, keras, nowhere, some_new_thing\n")
    assert sorted(found.conda) == ["keras", "numpy", "python", "scikit-learn"]
    assert sorted(found.unplaced) == ["nowhere", "some_new_thing"]


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("keras", "keras"), ("iris", "iris"), ("ruamel.yaml", "ruamel.yaml"), ("box", "python-box"),
        ("eccodes", "python-eccodes"), ("ESMF", "esmpy"), ("rattler_build", "py-rattler-build"),
        ("google.cloud.bigquery.table", "google-cloud-bigquery"),
        ("google.cloud.spanner", "google-cloud-spanner"),
        ("azure.mgmt.compute", "azure-mgmt-compute"), ("zope.event", "zope.event"),
        ("jupyter_client", "jupyter_client"), ("huggingface_hub", "huggingface_hub"),
        ("wrf", "wrf-python"), ("Ngl", "pyngl"), ("Nio", "pynio"), ("awips.dataaccess", "python-awips"),
        ("scrapbook", "nteract-scrapbook"), ("mpl_toolkits.mplot3d.axes3d", "matplotlib"),
    ],
)  # fmt: skip
def test_packages_that_were_mistaken(module: str, package: str) -> None:
    assert packages_for(module)[0] == package


def test_a_namespace_is_no_package() -> None:
    assert packages_for("google") == packages_for("google.cloud") == packages_for("azure") == ()
    assert packages_for("google.colab.drive") == ()


def test_a_package_without_python_brings_no_module(tmp_path: Path, settings: Settings) -> None:
    found = drafted(tmp_path, settings, "import whois, mkl\n", requirements="docker\nclang\n")
    assert "whois" in found.unplaced
    assert {"mkl-service", "docker-py"} <= found.conda.keys()
    assert not {"whois", "mkl", "docker", "clang"} & found.conda.keys()
    assert found.pip == ["clang"]


@pytest.mark.parametrize(
    ("name", "depends", "brings"),
    [
        ("a", ["python >=3.9,<3.10.0a0"], True), ("a", ["python_abi 3.11.* *_cp311"], True), ("a", [], False),
        ("opencv", ["libopencv 4", "py-opencv 4"], True), ("duckdb", ["python-duckdb ==1"], True),
        ("git", ["perl", "pythonic"], False), ("matplotlib", ["matplotlib-base"], True), ("a", [" "], False),
    ],
)  # fmt: skip
def test_which_package_brings_python(name: str, depends: list[str], brings: bool) -> None:
    assert brings_python(name, depends) is brings


def test_projects_that_are_spelled_with_an_underscore(tmp_path: Path, settings: Settings) -> None:
    declared = '[project]\nname = "x"\ndependencies = ["jupyterlab_pygments", "jupyter-core>=4.7"]\n'
    (tmp_path / "pyproject.toml").write_text(declared)
    found = drafted(tmp_path, settings, "import jupyter_server\n")
    assert found.conda["jupyter_core"] == ">=4.7"
    assert {"jupyterlab_pygments", "jupyter_server"} <= found.conda.keys()
    assert not found.pip


def test_the_meant_package_of_a_name() -> None:
    assert [set_right(n)[0] for n in ("sklearn", "PIL", "cv2")] == ["scikit-learn", "pillow", "opencv"]
    assert [set_right(n) for n in ("numpy", "google", "nowhere", "google.colab")] == [()] * 4


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["sklearn>=1"], "sklearn is a module of scikit-learn: envbox add scikit-learn"),
        (["conda-forge::PIL", "yaml", "numpy"],
         "PIL is a module of pillow and yaml is a module of pyyaml: envbox add pillow pyyaml"),
        (["numpy", "keras", "nowhere", "google", "ephem", ""], None),
    ],
)  # fmt: skip
def test_a_module_that_is_added_is_set_right(asked: list[str], words: str | None) -> None:
    assert meant(asked) == words


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("ModuleNotFoundError: No module named 'cv2'", "opencv has it: envbox add opencv --name maps"),
        ("ModuleNotFoundError: No module named 'google.cloud.storage'",
         "google-cloud-storage has it: envbox add google-cloud-storage --name maps"),
        ("ModuleNotFoundError: No module named 'mine'", None), ("ValueError: No module named 'cv2'", None),
        ("ModuleNotFoundError: No module named 'cv2; rm'", "opencv has it: envbox add opencv --name maps"),
        ("ModuleNotFoundError", None),
    ],
)  # fmt: skip
def test_a_module_that_was_not_found_is_named_with_its_package(words: str, hint: str | None) -> None:
    assert package_of_missing(words, "maps") == hint


def test_only_what_a_table_has_is_sure() -> None:
    assert [sure_package(m) for m in ("numpy", "sklearn", "some_new_thing", "google.cloud")] == [
        "numpy", "scikit-learn", None, None,
    ]  # fmt: skip


@pytest.mark.parametrize("table", ["known.tsv", "names.tsv"])
def test_the_tables_are_well_formed(table: str) -> None:
    lines = (TABLES / table).read_text(encoding="ascii").splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    names = [n for row in rows for n in row[-1].split() if n not in "*-"]
    assert not [n for n in names if not re.fullmatch(r"[a-z0-9_][a-z0-9_.+-]*", n)]
    keys = [tuple(row[:-1]) for row in rows if row[0] not in "=s"]
    assert len(set(keys)) == len(keys)


@given(
    st.lists(st.sampled_from(["google", "cloud", "a", "_", "x1", "é", "mpl_toolkits"]), min_size=1).map(
        ".".join
    )
)
def test_every_dotted_name_has_an_answer(module: str) -> None:
    decides = known_module(module)
    assert f"{module}.".startswith(f"{decides}.")
    assert guessed(module) == guessed(decides)
    assert packages_for(module) == packages_for(decides)
    assert {pip_name(n) for n in packages_for(module)} <= set(possible_names(module))
    assert conda_names(module)


def test_a_name_is_cut_where_no_table_goes_deeper() -> None:
    assert len(known_module("google.cloud" + ".a" * 100_000)) < 40
    assert known_module("a." * 100_000 + "a") == "a"
