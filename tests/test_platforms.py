"""Any platform of conda's can be locked for, on any machine; what is assumed of it is said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from support.locked_project import BASE, FORGE, Place, versions
from support.paper_channel import record, served, write_channel
from support.paper_index import paper_index

from envbox.cli import run
from envbox.errors import ImageError, SolveError, SpecError
from envbox.lockfile import Base
from envbox.lockfile.conda_lock_v1 import read_lockfile
from envbox.locks.solve.request import system_of, virtual_packages, whole_system_of
from envbox.locks.spec.selectors import CONDA_LOCKS, SELECTORS
from envbox.mirrors import Mirrors
from envbox.platforms import IMAGE_PLATFORMS, PLATFORMS
from envbox.settings import EnvironmentSettings, Settings

RARE = ("linux-ppc64le", "linux-riscv64", "linux-s390x")
RECORDS = [
    record("tzdata", "2026a"),
    record("pip", "26.0", ["python"]),
    *(record("python", "3.12.1", subdir=p) for p in ("win-arm64", "emscripten-wasm32", "linux-s390x")),
    *(record(f"on-{name}", "1.0", [f"__{name}"]) for name in ("unix", "linux", "win", "osx", "emscripten")),
    record("new-c", "1.0", ["__glibc >=2.28"]),
    record("newer-c", "1.0", ["__glibc >=2.29"]),
    record("new-mac", "1.0", ["__osx >=13.0"]),
    record("for-cuda", "1.0", ["__cuda >=12"]),
    record("only-arm", "1.0", subdir="win-arm64"),
]


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(write_channel(tmp_path_factory.mktemp("channel"), RECORDS)) as url:
        yield url


@pytest.fixture
def place(tmp_path: Path, channel: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A project whose base is there for linux-64, linux-aarch64 and linux-s390x."""

    def resolve_base(reference: str, platforms: Sequence[str], *rest: object) -> Base:
        there = {**BASE.digests, "linux-s390x": "sha256:" + "1" * 64}
        if missing := [p for p in platforms if p not in there]:
            raise ImageError(f"the image b:1 is not there for {', '.join(missing)}")
        return Base(reference, {p: there[p] for p in platforms}, dict.fromkeys(platforms, "2.36"))

    monkeypatch.setattr("envbox.registry.base.resolve_base", resolve_base)
    root = tmp_path / "project"
    root.mkdir()
    return Place(root, Settings(tmp_path / "cache", base="b:1", mirrors=Mirrors({FORGE: channel})))


def test_the_platforms_are_those_that_rattler_knows() -> None:
    from rattler.platform.subdir import SubdirLiteral

    assert set(PLATFORMS) == set(get_args(SubdirLiteral)) - {"noarch"}
    assert set(IMAGE_PLATFORMS) < set(PLATFORMS)


def test_the_systems_are_those_that_rattler_takes_them_for() -> None:
    from rattler import Subdir

    for platform in PLATFORMS:
        if not platform.startswith(("ios", "android", "zos", "wasi")):
            assert ("__unix" in virtual_packages(platform, None)) == Subdir(platform).is_unix, platform


def test_the_selectors_of_condas_platforms_are_conda_locks_where_it_has_them() -> None:
    assert {p: SELECTORS[p] for p in CONDA_LOCKS} == CONDA_LOCKS
    assert SELECTORS["win-arm64"] == {"win", "arm64"}
    assert SELECTORS["win-32"] == {"win", "win32"}
    assert SELECTORS["linux-s390x"] == {"unix", "linux", "s390x"}
    assert SELECTORS["emscripten-wasm32"] == {"unix", "emscripten", "wasm32"}


def test_every_platform_is_locked_for_at_once_and_is_fresh(place: Place) -> None:
    from conda_lock.lockfile import parse_conda_lock_file

    place.spec("  - tzdata", platforms=f"[{', '.join(PLATFORMS)}]")
    found = place.lock()
    assert found.platforms == tuple(sorted(PLATFORMS))
    assert len({found.content_hash[p] for p in PLATFORMS}) == len(PLATFORMS)
    assert found == read_lockfile(place.environment.lock_path)
    assert len(parse_conda_lock_file(place.environment.lock_path).package) == len(PLATFORMS)
    assert place.differences() == ""
    place.spec("  - tzdata >=2026a", platforms=f"[{', '.join(PLATFORMS)}]")
    assert place.differences().count("the spec has changed") >= 1
    assert "win-arm64" in place.differences()


def test_selectors_hold_for_platforms_that_conda_lock_does_not_know(place: Place) -> None:
    place.spec(
        "  - tzdata", "  - only-arm  # [arm64]", "  - on-win  # [win]", "  - on-linux  # [linux]",
        "  - on-unix  # [unix]", platforms="[win-arm64, linux-s390x, emscripten-wasm32]",
    )  # fmt: skip
    found = place.lock()
    assert set(versions(found, "win-arm64")) == {"tzdata", "only-arm", "on-win"}
    assert set(versions(found, "linux-s390x")) == {"tzdata", "on-linux", "on-unix"}
    assert set(versions(found, "emscripten-wasm32")) == {"tzdata", "on-unix"}
    assert place.fresh()


@pytest.mark.parametrize(
    ("package", "there"),
    [
        ("on-win", {"win-64", "win-32", "win-arm64"}),
        ("on-osx", {"osx-64", "osx-arm64"}),
        ("on-emscripten", {"emscripten-wasm32", "emscripten-wasm64"}),
        ("on-linux", {p for p in PLATFORMS if p.startswith("linux-")}),
    ],
)
def test_a_system_is_told_by_its_virtual_package(place: Place, package: str, there: set[str]) -> None:
    assert {p for p in PLATFORMS if f"__{package[3:]}" in virtual_packages(p, None)} == there
    place.spec(f"  - {package}")
    some = sorted(there)[-1]
    assert package in versions(place.lock(some), some)
    wrong = next(p for p in PLATFORMS if p not in {*there, *RARE, "linux-64"})
    assert wrong in place.refused(SolveError, wrong).message


# --- what is assumed ----------------------------------------------------------------------------------------


def test_what_no_base_tells_is_assumed_and_stands_in_the_lock_and_the_output(place: Place) -> None:
    place.spec("  - new-c  # [linux]", "  - new-mac  # [osx]", "  - tzdata")
    found = place.lock("linux-64", "linux-s390x", "linux-riscv64", "linux-armv7l", "osx-arm64", "win-arm64")
    assert {p: system_of(found, p) for p in found.platforms} == {
        "linux-64": {"__glibc": "2.36"}, "linux-s390x": {"__glibc": "2.36"},
        "linux-riscv64": {"__glibc": "2.28"}, "linux-armv7l": {"__glibc": "2.28"},
        "osx-arm64": {"__osx": "13.0"}, "win-arm64": {},
    }  # fmt: skip
    assert found.base is not None
    assert set(found.base.digests) == {"linux-64", "linux-s390x"}
    (warning,) = place.told.warned
    assert "is not there for linux-riscv64; glibc 2.28 is assumed there, and no image can be built" in warning
    said = place.told.said[-1]
    for words in ("linux-riscv64 (glibc 2.28)", "osx-arm64 (osx 13.0)", "1 package for win-arm64"):
        assert words in said
    assert whole_system_of(found, "osx-arm64") == {"__archspec": "1 arm64", "__osx": "13.0", "__unix": "0"}
    assert whole_system_of(found, "win-arm64") == {"__archspec": "1 arm64", "__win": "0"}
    assert place.fresh()
    place.spec("  - newer-c")
    error = place.refused(SolveError, "linux-riscv64", "linux-armv7l")
    assert "linux-riscv64" in error.message
    assert "linux-armv7l" in error.message


def test_cuda_is_there_only_where_it_is_set(place: Place) -> None:
    place.spec("  - for-cuda")
    error = place.refused(SolveError, "linux-64", "win-arm64")
    assert "cuda" in str(error.hint)
    own = {place.environment.name: EnvironmentSettings(cuda="12.4")}
    place.settings = replace(place.settings, environments=own)
    found = place.lock("linux-64", "win-arm64")
    assert found.virtual == {"linux-64": {"__cuda": "12.4"}, "win-arm64": {"__cuda": "12.4"}}
    assert "win-arm64 (cuda 12.4)" in place.told.said[-1]


def test_a_platform_that_is_none_is_refused_with_those_that_are(place: Place) -> None:
    place.spec("  - tzdata")
    message = place.refused(SpecError, "linux-amd64").message
    assert "'linux-amd64' is not a platform of conda's, which are linux-64, linux-aarch64" in message


# --- pip, and images ----------------------------------------------------------------------------------------


def test_wheels_are_the_platforms_own(place: Place, tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text("{}")
    with paper_index() as index:
        for tag in ("win_arm64", "win_amd64", "manylinux_2_17_s390x", "manylinux_2_17_x86_64"):
            index.add("tee", "1.0", f"cp312-cp312-{tag}", needs=["arm ; platform_machine == 'ARM64'"])
        index.add("arm", "1.0")
        rules = {**place.settings.mirrors.rules, "https://pypi.org/simple": index.simple}
        place.settings = replace(
            place.settings, mirrors=Mirrors(rules), mapping_url=str(tmp_path / "names.json")
        )
        place.spec("  - python", "  - pip:", "      - tee")
        found = place.lock("win-arm64", "linux-s390x")
        assert {p.url.rpartition("-")[2] for p in found.packages if p.name == "tee"} == {
            "win_arm64.whl", "manylinux_2_17_s390x.whl",
        }  # fmt: skip
        assert [p.platform for p in found.packages if p.name == "arm"] == ["win-arm64"]
        message = place.refused(SpecError, "emscripten-wasm32").message
    assert "there is a `pip:` section, but pip cannot install for emscripten-wasm32" in message


@pytest.mark.parametrize("platform", ["osx-arm64", "win-arm64", "emscripten-wasm32", "linux-riscv64"])
def test_a_build_for_what_no_image_can_be_of_is_refused_in_words(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], platform: str
) -> None:
    folder = place.environment.spec_path.parent / "environments"
    folder.mkdir()
    place.environment = replace(
        place.environment, spec_path=folder / "maps.yml", lock_path=folder / "maps.conda-lock.yml"
    )
    place.spec("  - tzdata")
    place.lock(platform)
    for key, value in {"CACHE_DIR": str(place.settings.cache_dir), "BASE": "b:1"}.items():
        monkeypatch.setenv(f"ENVBOX_{key}", value)
    monkeypatch.chdir(folder.parent)
    out = str(folder / "maps.oci.tar")
    assert run(["build", "maps", "--frozen", "--platform", platform, "--output", out]) == 1
    error = capsys.readouterr().err
    words = (
        "the lock pins no base for"
        if platform.startswith("linux")
        else "no container image can be of platform"
    )
    assert f"{words} {platform}" in error
    assert not Path(out).exists()
