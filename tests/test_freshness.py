"""A plain spec is read as conda-lock reads it, without it; what is locked is held against that."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from support.lock_values import lock_of, package, wheel

from envbox.lockfile import Lock
from envbox.lockfile.conda_lock_v1 import dumps, sealed
from envbox.locks.freshness import differences
from envbox.locks.freshness.content_hash import Asked, read_asked, read_quickly
from envbox.locks.freshness.requirements import broken, unmet, unmet_wheels
from envbox.project import Environment
from envbox.settings import Settings

PLATFORMS = ("linux-64", "linux-aarch64", "linux-ppc64le", "osx-64", "osx-arm64", "win-64")
SPECS = [
    "numpy",
    "numpy=1.26",
    "numpy =1.26",
    "numpy==1.26.4",
    "numpy ==1.26.4",
    "numpy 1.26.*",
    "numpy>=1.2,<2",
]
SPECS += [
    "numpy >=1.2,!=1.25",
    "numpy=1.26.4=py311_0",
    "conda-forge::numpy",
    "conda-forge::numpy >=2",
    "openssl=1.1.1w",
]
OTHERS = ["scipy", "python 3.11.*", "_openmp_mutex", "pip", "r-base=4.3", "ca-certificates"]
WHEELS = ["tqdm", "Foo_Bar>=1.2,<3", "boo~=1.3", "baz ==1.0.1", "a.b-c!=2"]
CHANNELS = ["conda-forge", "bioconda", "nodefaults", "conda-forge/label/rc", "https://conda.example.org/team"]


def write(folder: Path, conda: Sequence[str], pip: Sequence[str] = (), **more: object) -> Path:
    path = folder / "maps.yml"
    document = {"name": "maps", **more, "dependencies": [*conda, *([{"pip": [*pip]}] if pip else [])]}
    path.write_text(yaml.safe_dump(document, sort_keys=False, width=10**6))
    return path


def both(path: Path, platforms: Sequence[str] = PLATFORMS) -> tuple[Asked, Asked]:
    settings = Settings(cache_dir=path.parent / "cache")
    quick = read_quickly(path, platforms, settings)
    assert quick is not None
    return replace(quick, is_quick=False), read_asked(path, platforms, settings)


@given(
    st.sampled_from(SPECS),
    st.lists(st.sampled_from(OTHERS), unique=True),
    st.lists(st.sampled_from(WHEELS), unique=True),
    st.lists(st.sampled_from(CHANNELS), unique=True),
)
@examples(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_plain_spec_is_read_as_conda_lock_reads_it(
    tmp_path: Path, spec: str, others: list[str], pip: list[str], channels: list[str]
) -> None:
    quick, slow = both(write(tmp_path, [spec, *others], pip, channels=channels, variables={"A": "1.10"}))
    assert quick == slow


@pytest.mark.parametrize("spec", [*SPECS, *OTHERS])
def test_each_plain_match_spec_has_conda_locks_hash(tmp_path: Path, spec: str) -> None:
    quick, slow = both(write(tmp_path, [spec]), ["linux-64"])
    assert quick == slow


def test_selectors_are_conda_locks(tmp_path: Path) -> None:
    path = tmp_path / "maps.yml"
    lines = [
        f"  - only-{s}  # [{s}]"
        for s in ("linux", "unix", "osx", "win", "aarch64", "arm64", "linux64", "win64")
    ]
    path.write_text("\n".join(["dependencies:", "  # [win] is a comment", "  - numpy", *lines, ""]))
    quick, slow = both(path)
    assert quick == slow
    assert "only-arm64" in quick.conda["osx-arm64"]


@pytest.mark.parametrize(
    ("conda", "more"),
    [
        (["numpy", "numpy >=1"], {}),
        (["numpy[version='>=1']"], {}),
        (["numpy >=1|<0.5"], {}),
        (["-r x"], {}),
        (["numpy"], {"category": "dev"}),
        (["numpy"], {"channels": ["https://me:pw@h.org/c"]}),
        (["numpy"], {"channels": ["https://h.org/t/tk-1/c"]}),
        (["numpy"], {"pip-repositories": ["https://h.org/simple"]}),
        (["numpy"], {"platforms": ["linux-65"]}),
        (["numpy"], {"variables": {"1A": "x"}}),
        ([], {}),
    ],
)
def test_what_is_not_plain_is_left_to_conda_lock(
    tmp_path: Path, conda: list[str], more: dict[str, object]
) -> None:
    path = write(tmp_path, conda, **more)
    assert read_quickly(path, ["linux-64"], Settings(cache_dir=tmp_path / "cache")) is None


@pytest.mark.parametrize(
    "requirement", ["a[x]", "a ; os_name=='nt'", "a>=1,>=1.0", "a~=1", "git+https://h/a", "-e ."]
)
def test_what_is_no_plain_requirement_is_left_to_conda_lock(tmp_path: Path, requirement: str) -> None:
    path = write(tmp_path, ["python"], [requirement])
    assert read_quickly(path, ["linux-64"], Settings(cache_dir=tmp_path / "cache")) is None


# --- what is locked, held against it ----------------------------------------------------------------------


def test_packages_that_do_not_fit_each_other_are_named() -> None:
    numpy = package(
        "numpy", depends={"python": ">=3.12", "__glibc": ">=2.17", "libblas": "", "tzdata": "* h1*"}
    )
    others = [package("python", version="3.11.7"), package("libblas"), package("tzdata")]
    assert list(broken([numpy, *others])) == [
        "numpy needs python >=3.12, 3.11.7 h0_0 is locked",
        "numpy needs tzdata * h1*, 1.0 h0_0 is locked",
    ]


def test_a_match_spec_is_met_by_name_version_build_and_channel() -> None:
    packages = [package("numpy", version="1.26.4")]
    met = ["numpy", "NumPy", "numpy 1.26.*", "numpy 1.26.4 h0_0", "conda-forge::numpy"]
    assert list(unmet(met, packages)) == []
    assert list(unmet(["scipy", "numpy >2", "other::numpy"], packages)) == [
        "scipy is not locked",
        "numpy >2 is asked for, 1.26.4 h0_0 is locked",
        "other::numpy is asked for, 1.26.4 h0_0 is locked",
    ]


def test_a_wheel_of_another_version_is_named() -> None:
    assert list(unmet_wheels(["TQDM>=1", "elsewhere"], [wheel("tqdm")])) == []
    assert list(unmet_wheels(["tqdm>=2"], [wheel("tqdm")])) == ["tqdm>=2 is asked for, 1.0 is locked"]


def locked(folder: Path, *conda: str) -> tuple[Environment, Settings, Lock]:
    """An environment whose lockfile is what its spec asks for."""
    settings = Settings(cache_dir=folder / "cache", base="docker.io/a/b:1")
    path = write(folder, conda, channels=["conda-forge"])
    asked = read_quickly(path, ["linux-64", "linux-aarch64"], settings)
    assert asked is not None
    packages = [package(n, p) for n in ("numpy", "python") for p in asked.hashes]
    lock = lock_of(*packages, content_hash=asked.hashes, variables={}, requested=asked.conda)
    environment = Environment("maps", path, folder / "maps.conda-lock.yml")
    environment.lock_path.write_bytes(dumps(lock))
    return environment, settings, lock


def test_a_fresh_lock_of_a_plain_spec_is_found_fresh_without_conda_lock(tmp_path: Path) -> None:
    environment, _, _ = locked(tmp_path, "numpy")
    code = (
        "import sys; from pathlib import Path; from envbox.locks.freshness import differences;"
        "from envbox.project import Environment; from envbox.settings import Settings;"
        "d = Path(sys.argv[1]);"
        "e = Environment('maps', d / 'maps.yml', d / 'maps.conda-lock.yml');"
        "s = Settings(cache_dir=d / 'other', base='a/b:1');"
        "print(differences(e, s), 'conda_lock' in sys.modules, flush=True);"
        "import os; os._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["()", "False"]
    assert environment.lock_path.is_file()


def test_what_has_changed_is_named_once_for_all_platforms(tmp_path: Path) -> None:
    environment, settings, _ = locked(tmp_path, "numpy", "python")
    assert differences(environment, settings) == ()
    write(tmp_path, ["numpy >=1"], channels=["conda-forge"])
    assert differences(environment, settings) == (
        "linux-64, linux-aarch64: the spec has changed: numpy >=1 is asked for, and was not",
        "linux-64, linux-aarch64: the spec has changed: numpy was asked for, and is not now",
        "linux-64, linux-aarch64: the spec has changed: python was asked for, and is not now",
    )


def test_a_hash_that_nothing_else_explains_is_told(tmp_path: Path) -> None:
    environment, settings, lock = locked(tmp_path, "numpy")
    other = {"linux-64": "0" * 64, "linux-aarch64": lock.content_hash["linux-aarch64"]}
    environment.lock_path.write_bytes(dumps(sealed(replace(lock, content_hash=other))))
    assert differences(environment, settings) == ("linux-64: the spec has changed",)


def test_conda_lock_has_the_last_word_on_a_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment, settings, _ = locked(tmp_path, "numpy")
    monkeypatch.setattr(
        "envbox.locks.freshness.content_hash._virtual_packages", lambda platform: {}
    )  # as if it had moved
    assert differences(environment, settings) == ()
