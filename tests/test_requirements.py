"""A `pip:` section becomes wheels pinned by hash, for each platform, beside what conda has."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.auth_servers import basic
from support.locked_project import BASE, BOTH, FORGE, Place, versions
from support.paper_channel import record, served, write_channel
from support.paper_index import Paper, paper_index

from envbox.errors import PackageError, SolveError, SpecError, ToolError
from envbox.lockfile import Lock, LockedPackage
from envbox.locks.lock import Update, lock
from envbox.locks.solve.prefetch import CONNECTIONS
from envbox.mirrors import Mirrors
from envbox.settings import Settings

RECORDS = [
    *(
        record("python", v, ["python_abi"], subdir=p)
        for v in ("3.11.7", "3.12.1")
        for p in (*BOTH, "osx-arm64")
    ),
    record("python_abi", "1.0"),
    record("pip", "26.0", ["python"]),
    record("numpy", "2.5.0", ["python"]),
    record("tzdata", "2026a"),
]


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(write_channel(tmp_path_factory.mktemp("channel"), RECORDS)) as url:
        yield url


@pytest.fixture
def index() -> Iterator[Paper]:
    """PyPI, as it is mirrored here."""
    with paper_index() as paper:
        yield paper


@pytest.fixture
def place(tmp_path: Path, channel: str, index: Paper, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(
        "envbox.registry.base.resolve_base", lambda reference, *_: replace(BASE, reference=reference)
    )
    monkeypatch.setattr("envbox.locks.solve.index.RETRY_DELAYS", ())
    names = tmp_path / "names.json"
    names.write_text('{"np": {"conda_name": "numpy", "pypi_name": "np"}}')
    root = tmp_path / "project"
    root.mkdir()
    mirrors = Mirrors({FORGE: channel, "https://pypi.org": index.url})
    return Place(root, Settings(tmp_path / "cache", base="b:1", mirrors=mirrors, mapping_url=str(names)))


def ask(place: Place, *requirements: str, python: str = "python 3.12.*", **top: str) -> None:
    place.spec(f"  - {python}", "  - numpy", "  - pip:", *(f"      - {r}" for r in requirements), **top)


def wheels(found: Lock, platform: str = "linux-64") -> dict[str, LockedPackage]:
    return {p.name: p for p in found.for_platform(platform) if p.manager == "pip"}


# --- which index --------------------------------------------------------------------------------------------


def test_an_index_of_the_settings_is_asked_before_pypi_which_cannot_take_over_its_projects(
    place: Place, index: Paper
) -> None:
    index.add("ours", "99.0")
    index.add("cup", "1.0")
    with paper_index() as private:
        sha256 = private.add("ours", "1.0", needs=["cup"])
        place.settings = replace(place.settings, extra_index_urls=(private.simple,))
        ask(place, "ours")
        found = wheels(place.lock("linux-64"))
    assert {n: p.version for n, p in found.items()} == {"ours": "1.0", "cup": "1.0"}
    assert found["ours"].url == f"{private.url}/files/ours-1.0-py3-none-any.whl"
    assert found["ours"].sha256 == sha256
    assert found["cup"].url == "https://pypi.org/files/cup-1.0-py3-none-any.whl"
    assert index.paths("ours") == []
    assert private.paths("cup") == ["/simple/cup/"]


def test_the_specs_own_indexes_come_first_and_pypi_can_be_left_out(place: Place, index: Paper) -> None:
    with paper_index() as first, paper_index("html") as second:
        first.add("tee", "1.0")
        second.add("tee", "2.0")
        second.add("cup", "2.0")
        place.settings = replace(place.settings, extra_index_urls=(second.simple,))
        top = {"pip-repositories": f"['{first.simple}']", "allow-pypi-requests": "false"}
        ask(place, "tee", "cup", **top)
        assert {n: p.version for n, p in wheels(place.lock("linux-64")).items()} == {
            "tee": "1.0",
            "cup": "2.0",
        }
        ask(place, "tee", "gone", **top)
        error = place.refused(SolveError, "linux-64")
    assert f"there is no gone in the package index {first.simple}, {second.simple}" in error.message
    assert "extra_index_urls" in str(error.hint)
    assert index.asked == []


def test_an_index_that_refuses_is_not_passed_over(place: Place, index: Paper) -> None:
    index.add("ours", "99.0")
    with paper_index(wants="no") as private:
        place.settings = replace(place.settings, extra_index_urls=(private.simple,))
        ask(place, "ours")
        error = place.refused(ToolError, "linux-64")
        assert f"answers 401 for {private.simple}/ours/" in error.message
        assert "ENVBOX_CREDENTIALS" in str(error.hint)
        private.status = 503
        assert "answers 503" in place.refused(ToolError, "linux-64").message
    assert "refused" in place.refused(ToolError, "linux-64").message
    assert index.asked == []


@pytest.mark.parametrize("way", ["variable", "address", "netrc", "expanded"])
def test_a_login_is_shown_to_its_index_alone_and_written_nowhere(
    place: Place, index: Paper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str
) -> None:
    index.add("cup", "1.0")
    monkeypatch.setenv("HOME", str(tmp_path))
    with paper_index(wants=basic("bob", "s3cr3t")) as private:
        private.add("ours", "1.0", needs=["cup"])
        address = private.simple
        if way == "variable":
            monkeypatch.setenv("ENVBOX_CREDENTIALS", f"{private.url.removeprefix('http://')}=bob:s3cr3t")
        elif way == "netrc":
            (tmp_path / ".netrc").write_text("machine 127.0.0.1 login bob password s3cr3t\n")
        elif way == "address":
            address = address.replace("://", "://bob:s3cr3t@")
        top = {}
        if way == "expanded":
            monkeypatch.setenv("INDEX_PASSWORD", "s3cr3t")
            top = {"pip-repositories": f"['{address.replace('://', '://bob:$INDEX_PASSWORD@')}']"}
        else:
            place.settings = replace(place.settings, extra_index_urls=(address,))
        ask(place, "ours", **top)
        assert versions(place.lock("linux-64"))["ours"] == "1.0"
        private.status = 500
        place.environment.lock_path.unlink()
        told = place.refused(ToolError, "linux-64")
    assert {said for _, said in index.asked} <= ({basic("bob", "s3cr3t")} if way == "netrc" else {""})
    text = f"{told.message} {told.hint} {place.told.said} {place.told.warned}"
    cached = b"".join(p.read_bytes() for p in place.settings.cache_dir.rglob("*") if p.is_file())
    for secret in (b"s3cr3t", b"bob"):
        assert secret not in cached
        assert secret.decode() not in text


def test_a_variable_that_is_not_set_is_named(place: Place) -> None:
    ask(place, "tee", **{"pip-repositories": "['https://$WHO_KNOWS:$THAT@pypi.example/simple']"})
    assert "names $WHO_KNOWS, which is not set" in place.refused(SpecError, "linux-64").message


def test_a_mirror_whose_files_no_rule_names_is_said(place: Place, index: Paper) -> None:
    index.add("tee", "1.0")
    ask(place, "tee")
    mirrors = Mirrors({FORGE: place.settings.mirrors.rules[FORGE], "https://pypi.org/simple": index.simple})
    place.settings = replace(place.settings, mirrors=mirrors)
    assert wheels(place.lock("linux-64"))["tee"].url.startswith(index.url)
    (warning,) = place.told.warned
    assert f"the mirror {index.simple} has tee at an address that nobody else may reach" in warning
    assert "beside https://pypi.org/simple" in warning


def test_both_kinds_of_page_give_the_same_lock(place: Place, index: Paper) -> None:
    index.add("tee", "1.0", needs=["cup >=1 ; python_version >= '3.8'"])
    index.add("tee", "2.0", **{"requires-python": ">=3.13"})
    index.add("tee", "3.0", yanked="broken")
    index.add("cup", "1.0")
    ask(place, "tee")
    place.lock("linux-64")
    json_lock = place.bytes()
    place.environment.lock_path.unlink()
    index.speaks = "html"
    place.settings = replace(place.settings, cache_dir=place.settings.cache_dir / "another")
    assert {n: p.version for n, p in wheels(place.lock("linux-64")).items()} == {"tee": "1.0", "cup": "1.0"}
    assert place.bytes() == json_lock


# --- what is read of a wheel --------------------------------------------------------------------------------


@pytest.mark.parametrize(("has_metadata", "takes_ranges"), [(True, True), (False, True), (False, False)])
def test_metadata_is_read_beside_the_wheel_or_out_of_its_end_or_out_of_all_of_it(
    place: Place, index: Paper, has_metadata: bool, takes_ranges: bool
) -> None:
    index.has_metadata, index.takes_ranges = has_metadata, takes_ranges
    index.add("tee", "1.0", needs=["cup"])
    index.add("cup", "1.0")
    ask(place, "tee")
    assert {"tee", "cup"} == set(wheels(place.lock("linux-64")))
    assert (index.sent > 500_000) == (not has_metadata and not takes_ranges)
    assert bool(index.paths(".metadata")) == has_metadata
    before = len(index.paths("/files/"))
    place.environment.lock_path.unlink()
    place.lock("linux-64")
    assert len(index.paths("/files/")) == before


@pytest.mark.parametrize("has_metadata", [True, False])
def test_what_is_not_what_the_index_says_is_refused(
    place: Place, index: Paper, monkeypatch: pytest.MonkeyPatch, has_metadata: bool
) -> None:
    index.has_metadata, index.takes_ranges = has_metadata, False
    index.add("tee", "1.0")
    entry = index._entry

    def lying(name: str, data: bytes, told: dict[str, object]) -> dict[str, object]:
        found = entry(name, data, told)
        key = "core-metadata" if has_metadata else "hashes"
        return {**found, key: {"sha256": "0" * 64}}

    monkeypatch.setattr(index, "_entry", lying)
    ask(place, "tee")
    assert "is not what the package index says it is" in place.refused(PackageError, "linux-64").message


def test_a_page_that_is_none_is_refused(place: Place, index: Paper, monkeypatch: pytest.MonkeyPatch) -> None:
    index.add("tee", "1.0")
    ask(place, "tee")
    for page in (b"[]", b'{"files": [{}]}', b"{", b'{"files": [{"filename": "a", "url": "b", "hashes": 1}]}'):
        monkeypatch.setattr(index, "page", lambda _, page=page: page)
        assert "is no list of files" in place.refused(ToolError, "linux-64").message


# --- what is taken ------------------------------------------------------------------------------------------


def test_what_conda_has_is_there_already_and_that_is_said(place: Place, index: Paper) -> None:
    index.add("np", "9.0")
    index.add("tee", "1.0", needs=["np >=2"])
    ask(place, "np", "tee")
    assert set(wheels(place.lock("linux-64"))) == {"tee"}
    assert "np is there already as conda's numpy 2.5.0; pip adds nothing to it" in place.told.said
    ask(place, "np >=9")
    assert (
        "the pip requirements need np 9.0, but conda has 2.5.0"
        in place.refused(SolveError, "linux-64").message
    )


def test_what_was_yanked_is_taken_only_where_it_is_pinned_and_then_said(place: Place, index: Paper) -> None:
    index.add("tee", "1.0")
    index.add("tee", "2.0", yanked="eats files")
    ask(place, "tee")
    assert wheels(place.lock("linux-64"))["tee"].version == "1.0"
    assert place.told.warned == []
    ask(place, "tee ==2.0")
    assert wheels(place.lock("linux-64"))["tee"].version == "2.0"
    (warning,) = place.told.warned
    assert "tee 2.0 was yanked by who published it (eats files)" in warning
    ask(place, "tee >=2")
    place.environment.lock_path.unlink()
    assert "tee" in place.refused(SolveError, "linux-64").message


def test_a_version_without_a_wheel_is_passed_over_and_that_is_said(place: Place, index: Paper) -> None:
    for platform in ("macosx_11_0_arm64", "win_amd64"):
        index.add("tee", "2.0", f"cp312-cp312-{platform}")
    index.add("tee", "1.0")
    ask(place, "tee")
    found = place.lock("linux-64", "osx-arm64")
    assert (wheels(found)["tee"].version, wheels(found, "osx-arm64")["tee"].version) == ("1.0", "2.0")
    (said,) = [line for line in place.told.said if "tee" in line and "taken" in line]
    assert said == "linux-64: tee 2.0 has no wheel for linux-64, only for osx-arm64, win-64; 1.0 is taken"


def test_a_requirement_without_a_wheel_is_told_with_who_has_one_and_which_versions_would(
    place: Place, index: Paper
) -> None:
    index.add("tee", "2.0", "cp312-cp312-macosx_11_0_arm64")
    index.add("tee", "2.0", "cp313-cp313-manylinux_2_17_x86_64")
    index.add("tee", "2.0", "cp312-cp312-manylinux_2_39_x86_64")
    index.add("tee", "1.0")
    ask(place, "tee >=2")
    error = place.refused(SolveError, "linux-64")
    assert (
        "tee 2.0 has no wheel for linux-64, only for cp312-manylinux_2_39_x86_64, linux-64 (cp313), osx-arm64"
    ) in error.message
    assert "ask for a version of tee that has one (1.0)" in str(error.hint)
    index.files["tee"].clear()
    index.add_source("tee", "2.0")
    assert (
        "tee 2.0 has no wheel for linux-64, only a source archive"
        in place.refused(SolveError, "linux-64").message
    )
    index.files["tee"].clear()
    index.add("tee", "2.0", **{"requires-python": ">=3.13"})
    assert (
        "tee 2.0 needs Python >=3.13, and 3.12.1 is locked" in place.refused(SolveError, "linux-64").message
    )


def test_markers_are_the_platforms_and_extras_are_who_asked_for_thems(place: Place, index: Paper) -> None:
    index.add(
        "tee", "1.0", needs=[
            "intel ; platform_machine == 'x86_64'", "arm ; platform_machine == 'aarch64'",
            "win ; sys_platform == 'win32'", "old ; python_version < '3.12'", "more ; extra == 'all'",
            "less ; extra == 'none'", "pypy ; platform_python_implementation == 'PyPy'",
        ],
    )  # fmt: skip
    for name in ("intel", "arm", "win", "old", "more", "less", "pypy", "only"):
        index.add(name, "1.0")
    ask(place, "'tee[all]'", "only ; python_version >= '3.12' and platform_machine != 'x86_64'")
    found = place.lock(*BOTH)
    assert set(wheels(found)) == {"tee", "intel", "more"}
    assert set(wheels(found, "linux-aarch64")) == {"tee", "arm", "more", "only"}
    assert wheels(found)["tee"].depends == {"intel": "*", "more": "*"}


def test_a_wheel_by_its_address_has_extras_and_markers_too(place: Place, index: Paper) -> None:
    sha256 = index.add("tee", "1.0", needs=["cup ; extra == 'all'"])
    index.add("cup", "1.0")
    url = "https://pypi.org/files/tee-1.0-py3-none-any.whl"
    ask(
        place,
        f"'tee[all] @ {url}#sha256={sha256} ; platform_machine == \"x86_64\"'",
        platforms=f"[{', '.join(BOTH)}]",
    )
    found = place.lock()
    assert set(wheels(found)) == {"tee", "cup"}
    assert wheels(found, "linux-aarch64") == {}
    assert (wheels(found)["tee"].url, wheels(found)["tee"].sha256) == (url, sha256)
    assert index.paths("simple/tee") == []
    ask(place, f"'cup @ {url}#sha256={sha256}'")
    assert "is a wheel of tee" in place.refused(SpecError).message


def test_a_hash_that_is_asked_for_chooses_the_wheel(place: Place, index: Paper) -> None:
    index.add("tee", "1.0", "cp312-cp312-manylinux_2_17_x86_64")
    plain = index.add("tee", "1.0")
    ask(place, f"tee --hash=sha256:{plain}")
    assert wheels(place.lock("linux-64"))["tee"].sha256 == plain
    ask(place, f"tee --hash=sha256:{'0' * 64}")
    assert (
        "tee 1.0 has no wheel of the hash that is asked for" in place.refused(SolveError, "linux-64").message
    )


def test_requirements_that_clash_are_told_as_they_depend_on_each_other(place: Place, index: Paper) -> None:
    index.add("tee", "1.0", needs=["cup <2"])
    index.add("pot", "1.0", needs=["cup >=2"])
    index.add("cup", "1.0")
    index.add("cup", "2.0")
    ask(place, "tee", "pot")
    message = place.refused(SolveError, "linux-64").message
    for words in ("tee", "pot", "cup (<2)", "cup (>=2)", "the spec"):
        assert words in message


# --- as of a date, and the lowest ---------------------------------------------------------------------------


def test_a_date_holds_for_wheels_and_stays_in_the_lock(place: Place, index: Paper) -> None:
    for version, day in (
        ("1.0", "2026-01-01T10:00:00Z"),
        ("1.1", "2026-05-31T23:59:59.5Z"),
        ("2.0", "2026-06-01T00:00:00Z"),
    ):
        index.add("tee", version, **{"upload-time": day})
    place.spec("  - python 3.12.*", "  - pip:", "      - tee")

    def as_of(date: str) -> Lock:
        return lock(
            place.environment, place.settings, ["linux-64"], place.told, update=Update(exclude_newer=date)
        )

    found = as_of("2026-05-31")
    assert (wheels(found)["tee"].version, found.exclude_newer) == ("1.1", "2026-05-31")
    assert wheels(as_of("2026-06-01"))["tee"].version == "2.0"
    assert place.told.warned == []


def test_what_has_no_date_is_passed_over_and_its_index_named(place: Place, index: Paper) -> None:
    index.add("tee", "1.0")
    ask(place, "tee")
    place.settings = replace(place.settings, exclude_newer="2026-06-01")
    error = place.refused(SolveError, "linux-64")
    assert (
        f"tee 1.0 is passed over: the index {index.simple} does not say when it was uploaded (PEP 700)"
        in error.message
    )
    assert "--exclude-newer none" in str(error.hint)


def test_lowest_direct_takes_the_oldest_that_is_asked_for_and_the_newest_of_the_rest(
    place: Place, index: Paper
) -> None:
    for version in ("1.0", "1.5", "2.0"):
        index.add("tee", version, needs=["cup"])
        index.add("cup", version)
    ask(place, "tee >=1.5")
    found = lock(
        place.environment, place.settings, ["linux-64"], place.told, update=Update(strategy="lowest-direct")
    )
    assert {n: p.version for n, p in wheels(found).items()} == {"tee": "1.5", "cup": "2.0"}
    assert found.strategy == "lowest-direct"
    assert place.told.warned == []


# --- what is locked stays -----------------------------------------------------------------------------------


def test_what_is_settled_by_the_lock_asks_no_index(place: Place, index: Paper) -> None:
    index.add("tee", "1.0", needs=["cup"])
    index.add("cup", "1.0")
    ask(place, "tee")
    place.lock("linux-64")
    index.status = 500
    place.spec("  - python 3.12.*", "  - tzdata", "  - pip:", "      - tee >=1")
    place.settings = replace(place.settings, offline=True)
    assert {"tee", "cup", "tzdata"} <= set(versions(place.lock("linux-64")))
    place.spec("  - python 3.12.*", "  - tzdata", "  - pip:", "      - cup")
    assert set(wheels(place.lock("linux-64"))) == {"cup"}
    index.status = 0


def test_offline_the_cache_will_do_and_what_is_missing_is_named(place: Place, index: Paper) -> None:
    index.add("tee", "1.0", needs=["cup"])
    index.add("cup", "1.0")
    ask(place, "tee")
    place.lock("linux-64")
    before = place.bytes()
    place.environment.lock_path.unlink()
    place.settings = replace(place.settings, offline=True)
    asked = len(index.asked)
    place.lock("linux-64")
    assert place.bytes() == before
    ask(place, "tee", "pot")
    error = place.refused(ToolError, "linux-64")
    assert f"{index.simple}/pot/ is not in the cache, and --offline fetches nothing" in error.message
    assert len(index.asked) == asked


def test_asking_again_costs_an_empty_answer(place: Place, index: Paper) -> None:
    index.add("tee", "1.0")
    ask(place, "tee")
    place.lock("linux-64")
    place.environment.lock_path.unlink()
    sent = index.sent
    place.lock("linux-64")
    assert index.sent == sent
    index.add("tee", "2.0")
    place.environment.lock_path.unlink()
    assert versions(place.lock("linux-64"))["tee"] == "2.0"


def test_updating_a_wheel_moves_it_alone(place: Place, index: Paper) -> None:
    index.add("tee", "1.0")
    index.add("cup", "1.0")
    ask(place, "tee", "cup")
    place.lock("linux-64")
    index.add("tee", "2.0")
    index.add("cup", "2.0")
    found = lock(place.environment, place.settings, None, place.told, update=Update(frozenset({"tee"})))
    assert {n: p.version for n, p in wheels(found).items()} == {"tee": "2.0", "cup": "1.0"}


def test_a_locked_wheel_that_was_yanked_stays_and_that_is_said(place: Place, index: Paper) -> None:
    index.add("tee", "1.0")
    ask(place, "tee")
    place.lock("linux-64")
    index.files["tee"]["tee-1.0-py3-none-any.whl"][1]["yanked"] = True
    index.add("tee", "1.1")
    index.add("cup", "1.0")
    ask(place, "tee", "cup")
    assert versions(place.lock("linux-64"))["tee"] == "1.0"
    assert (
        "tee 1.0 was yanked by who published it; it stays locked until: envbox lock --update tee"
        in place.told.warned
    )


def test_another_python_is_another_question(place: Place, index: Paper) -> None:
    index.add("tee", "1.0", "cp311-cp311-manylinux_2_17_x86_64")
    index.add("tee", "1.0", "cp312-cp312-manylinux_2_17_x86_64")
    ask(place, "tee", python="python 3.11.*")
    assert "cp311" in wheels(place.lock("linux-64"))["tee"].url
    ask(place, "tee", python="python 3.12.*")
    assert "cp312" in wheels(place.lock("linux-64"))["tee"].url


# --- all platforms ------------------------------------------------------------------------------------------


def test_every_platform_that_fails_is_named_and_the_lock_stays(place: Place, index: Paper) -> None:
    index.add("tee", "1.0", "cp312-cp312-manylinux_2_17_x86_64")
    index.add("tee", "1.0", "cp312-cp312-win_amd64")
    ask(place, "tee")
    place.lock("linux-64")
    message = place.refused(SolveError, "linux-64", "linux-aarch64", "osx-arm64").message
    assert "tee 1.0 has no wheel for linux-aarch64, osx-arm64, only for linux-64, win-64" in message
    assert "no wheel for linux-64" not in message


def test_what_is_wrong_everywhere_is_said_once_with_where(place: Place, index: Paper) -> None:
    index.add("tee", "1.0")
    ask(place, "tee", "gone")
    message = place.refused(SolveError, *BOTH).message
    assert message == (
        "maps cannot be locked: linux-64, linux-aarch64: "
        f"there is no gone in the package index {index.simple}"
    )


def test_all_requirements_that_nothing_fits_are_named_at_once(place: Place, index: Paper) -> None:
    for name, version in (("tee", "1.0"), ("pot", "2.0"), ("cup", "1.0")):
        index.add(name, version)
    index.add("far", "1.0", "cp312-cp312-win_amd64")
    ask(place, "tee", "gone", "pot >=3", "alsogone[extra] >=1", "far", "cup")
    error = place.refused(SolveError, *BOTH)
    assert error.message.splitlines() == [
        "maps cannot be locked: the pip requirements cannot be satisfied on linux-64, linux-aarch64:",
        f"  there is no gone, alsogone in the package index {index.simple}",
        f"  there is no pot >=3 in the package index {index.simple}",
        "  far 1.0 has no wheel for linux-64, linux-aarch64, only for win-64",
    ]
    assert "the newest pot there is 2.0" in str(error.hint)
    assert "take far from conda instead" in str(error.hint)


def test_what_will_be_needed_is_asked_for_side_by_side(place: Place, index: Paper) -> None:
    index.meeting = threading.Barrier(8, timeout=10)  # for metadata, of which each waits for seven others
    for number in range(8):
        index.add(f"direct{number}", "1.0", needs=[f"far{number} >=1", f"never{number}; extra == 'x'"])
        index.add(f"far{number}", "1.0")
    ask(place, *(f"direct{number} ==1.0" for number in range(8)))
    assert len(wheels(place.lock("linux-64"))) == 16
    assert len(index.paths("/simple/")) == 16
    assert len(index.paths(".metadata")) == 16


def test_an_index_is_never_asked_for_much_at_once(place: Place, index: Paper) -> None:
    for number in range(60):
        index.add(f"direct{number}", "1.0")
    index.pause = 0.02
    ask(place, *(f"direct{number} ==1.0" for number in range(60)))
    place.lock(*BOTH)
    assert 4 < index.most_at_once <= CONNECTIONS + len(BOTH)


def test_platforms_are_resolved_at_once(place: Place, index: Paper) -> None:
    index.meeting = threading.Barrier(2, timeout=10)
    for tag in ("manylinux_2_17_x86_64", "manylinux_2_17_aarch64"):
        index.add("tee", "1.0", f"cp312-cp312-{tag}")
    ask(place, "tee")
    assert {p.url.rpartition("_17_")[2] for p in place.lock(*BOTH).packages if p.name == "tee"} == {
        "x86_64.whl", "aarch64.whl",
    }  # fmt: skip


def test_platforms_share_what_an_index_says(place: Place, index: Paper) -> None:
    index.add("tee", "1.0")
    ask(place, "tee")
    place.lock("linux-64", "linux-aarch64", "osx-arm64")
    assert index.paths("simple") == ["/simple/tee/"]
    text = (place.bytes() or b"").decode()
    assert hashlib.sha256(index.files["tee"]["tee-1.0-py3-none-any.whl"][0]).hexdigest() in text
    assert {p.name for p in (place.settings.cache_dir / "pypi").iterdir()} == {"metadata", "pages"}
