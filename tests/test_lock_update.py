"""What is told to move, moves, and how the solver is to choose is kept in the lock until told otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.locked_project import BASE, BOTH, FORGE, Place, versions
from support.paper_channel import record, served, write_channel

from envbox.cli import run
from envbox.errors import EnvboxError, LockfileError, SettingsError, SolveError, SpecError
from envbox.lockfile import Base, Lock
from envbox.lockfile.conda_lock_v1 import read_lockfile
from envbox.locks.lock import Update, lock, relock
from envbox.locks.solve.request import cutoff, moment, virtual_packages
from envbox.mirrors import Mirrors
from envbox.settings import EnvironmentSettings, Settings


def made(day: str, found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "timestamp": int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)}


RECORDS = [
    *(made(f"20{v}-06-01", record("lib", f"{v}.0", subdir=p)) for v in (21, 22, 23) for p in BOTH),
    made("2021-06-01", record("app", "1.0", ["lib <22"])),
    made("2022-06-01", record("app", "2.0", ["lib >=22,<23"])),
    made("2023-06-01", record("app", "3.0", ["lib >=23"])),
    made("2021-06-01", record("beside", "1.0")),
    made("2023-06-01", record("beside", "2.0", build="0")),
    made("2023-07-01", record("beside", "2.0", build="1")),
    made("2023-06-01", record("fast", "1.0", ["__cuda >=12"], subdir="linux-64")),
    {k: v for k, v in record("ancient", "1.0").items() if k != "timestamp"},
]


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(write_channel(tmp_path_factory.mktemp("channel"), RECORDS)) as url:
        yield url


class Updated(Place):
    """A place whose lock is told more than platforms."""

    def update(self, *names: str, dry_run: bool = False, **told: Any) -> Lock:
        asked = Update(frozenset(names), **told)
        return lock(
            self.environment, self.settings, told.pop("platforms", None), self.told, update=asked,
            dry_run=dry_run,
        )  # fmt: skip

    def locked_at(self, *dependencies: str) -> None:
        """Lock the past, then ask for anything."""
        self.spec(*dependencies)
        self.lock("linux-64")
        self.spec(*(line.partition(" <")[0] for line in dependencies))


@pytest.fixture
def place(tmp_path: Path, channel: str, monkeypatch: pytest.MonkeyPatch) -> Updated:
    def resolve_base(reference: str, platforms: Sequence[str], *rest: object) -> Base:
        return Base(reference, {p: BASE.digests[p] for p in platforms}, {p: BASE.glibc[p] for p in platforms})

    monkeypatch.setattr("envbox.registry.base.resolve_base", resolve_base)
    root = tmp_path / "project"
    root.mkdir()
    mirrors = Mirrors({FORGE: channel})
    return Updated(root, Settings(cache_dir=tmp_path / "cache", base="b:1", mirrors=mirrors))


# --- what moves ---------------------------------------------------------------------------------------------


def test_an_update_moves_what_is_named_and_what_must_move_with_it(place: Updated) -> None:
    place.locked_at("  - app <2", "  - beside <2")
    assert versions(place.lock()) == {"app": "1.0", "lib": "21.0", "beside": "1.0"}
    assert versions(place.update("beside")) == {"app": "1.0", "lib": "21.0", "beside": "2.0"}
    assert versions(place.update("app")) == {"app": "3.0", "lib": "23.0", "beside": "2.0"}
    assert "  upgraded  app  1.0 → 3.0" in [said.rstrip() for said in place.told.said]


def test_an_update_is_for_a_newer_build_too(place: Updated, tmp_path: Path) -> None:
    place.spec("  - beside=2.0=0")
    place.lock("linux-64")
    place.spec("  - beside")
    place.lock()
    (package,) = place.update("beside").packages
    assert package.build == "1"


def test_an_update_of_what_others_hold_moves_them(place: Updated) -> None:
    place.locked_at("  - app <2", "  - beside <2")
    assert versions(place.update("lib")) == {"app": "3.0", "lib": "23.0", "beside": "1.0"}


def test_an_update_keeps_to_the_spec_and_says_what_stays(place: Updated) -> None:
    place.spec("  - app <2", "  - beside")
    place.lock("linux-64")
    before = place.bytes()
    assert versions(place.update("lib"))["lib"] == "21.0"
    assert place.bytes() == before
    assert "lib stays: nothing newer fits the spec" in place.told.said


def test_an_update_of_everything(place: Updated) -> None:
    place.locked_at("  - app <2", "  - beside <2")
    assert versions(place.update(everything=True)) == {"app": "3.0", "lib": "23.0", "beside": "2.0"}


def test_what_is_not_locked_cannot_be_updated(place: Updated) -> None:
    place.spec("  - app")
    with pytest.raises(LockfileError, match="not locked yet"):
        place.update("app")
    place.lock("linux-64")
    before = place.bytes()
    with pytest.raises(LockfileError, match="apps is not locked in maps") as caught:
        place.update("apps")
    assert caught.value.hint == "did you mean app?"
    assert place.bytes() == before


def test_a_dry_run_writes_nothing(place: Updated) -> None:
    place.spec("  - app <2")
    place.update(dry_run=True)
    assert place.bytes() is None
    place.lock("linux-64")
    before = place.bytes()
    place.spec("  - app")
    assert versions(place.update("app", dry_run=True))["app"] == "3.0"
    assert place.bytes() == before
    assert not place.fresh()


def test_a_dry_run_is_printed(
    place: Updated, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = place.environment.spec_path.parent / "environments"
    folder.mkdir()
    at = replace(place.environment, spec_path=folder / "maps.yml", lock_path=folder / "maps.conda-lock.yml")
    place.environment = at
    place.locked_at("  - app <2")
    rules = [f"{old}={new}" for old, new in place.settings.mirrors.rules.items()]
    monkeypatch.setenv("ENVBOX_MIRRORS", " ".join(rules))
    monkeypatch.setenv("ENVBOX_CACHE_DIR", str(place.settings.cache_dir))
    monkeypatch.setenv("ENVBOX_BASE", "b:1")
    monkeypatch.chdir(folder.parent)
    before = place.bytes()
    assert run(["lock", "--update", "app", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert [line.split() for line in out.splitlines()] == [
        ["upgraded", "app", "1.0", "→", "3.0"], ["upgraded", "lib", "21.0", "→", "23.0"],
    ]  # fmt: skip
    assert place.bytes() == before
    assert run(["lock", "-U", "app,lib", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["virtual_packages"] == {
        "linux-64": {"__archspec": "1 x86_64", "__glibc": "2.36", "__linux": "5.10", "__unix": "0"}
    }
    assert versions(read_lockfile(at.lock_path))["app"] == "3.0"


# --- a spec that is not on disk -----------------------------------------------------------------------------


def test_a_spec_is_written_with_the_lock_that_it_has(place: Updated) -> None:
    place.locked_at("  - app <2")
    place.lock()
    path = place.environment.spec_path
    text = path.read_bytes() + b"  - beside\n"
    found = relock(place.environment, text, place.settings, place.told)
    assert versions(found) == {"app": "1.0", "lib": "21.0", "beside": "2.0"}
    assert found.sources == ("maps.yml",)
    assert path.read_bytes() == text
    assert read_lockfile(place.environment.lock_path) == found
    assert place.fresh()


@pytest.mark.parametrize(
    ("line", "kind"),
    [(b"  - nothing-such\n", SolveError), (b"  - 'a b c d'\n", SpecError), (b" - [", SpecError)],
)
def test_a_spec_without_a_solution_is_not_written(
    place: Updated, line: bytes, kind: type[EnvboxError]
) -> None:
    place.locked_at("  - app <2")
    place.lock()
    spec, locked = place.environment.spec_path.read_bytes(), place.bytes()
    with pytest.raises(kind) as caught:
        relock(place.environment, spec + line, place.settings, place.told)
    assert "/tmp/envbox-spec" not in caught.value.message
    assert place.environment.spec_path.read_bytes() == spec
    assert place.bytes() == locked


# --- as of a date, and the oldest that will do --------------------------------------------------------------


def test_a_solve_as_of_a_date_is_kept_until_told_otherwise(place: Updated) -> None:
    place.spec("  - app", "  - ancient")
    found = place.update(exclude_newer="2022-12-31")
    assert found == read_lockfile(place.environment.lock_path)
    assert found.exclude_newer == "2022-12-31"
    assert versions(found) == {"app": "2.0", "lib": "22.0", "ancient": "1.0"}
    assert place.fresh()
    place.spec("  - app", "  - beside")
    assert versions(place.lock()) == {"app": "2.0", "lib": "22.0", "beside": "1.0"}
    assert place.update(everything=True).exclude_newer == "2022-12-31"
    lifted = place.update(exclude_newer="none")
    assert lifted.exclude_newer is None
    assert versions(lifted)["app"] == "2.0"  # it still fits
    assert versions(place.update(everything=True))["app"] == "3.0"


def test_a_date_gives_the_same_whatever_was_locked(place: Updated) -> None:
    place.spec("  - app")
    place.lock()
    assert versions(place.update(exclude_newer="2021-12-31")) == {"app": "1.0", "lib": "21.0"}
    later = place.update(exclude_newer="2022-12-31")
    place.environment.lock_path.unlink()
    assert place.update(exclude_newer="2022-12-31") == later


def test_the_day_itself_counts(place: Updated) -> None:
    place.spec("  - app")
    assert versions(place.update(exclude_newer="2022-06-01"))["app"] == "2.0"
    assert versions(place.update(exclude_newer="2022-05-31"))["app"] == "1.0"


def test_a_date_in_the_settings_is_part_of_being_fresh(place: Updated) -> None:
    place.spec("  - app")
    place.lock()
    assert place.fresh()
    place.settings = replace(place.settings, exclude_newer="2022-12-31")
    assert "packages are looked at up to 2022-12-31; locked with those up to now" in place.differences()
    assert versions(place.lock())["app"] == "2.0"
    assert place.fresh()
    place.update(exclude_newer="2021-12-31")
    assert not place.fresh()


def test_a_date_before_which_there_was_nothing_is_said(place: Updated) -> None:
    place.spec("  - app")
    with pytest.raises(SolveError) as caught:
        place.update(exclude_newer="2020-01-01")
    assert caught.value.hint == "take a later date with --exclude-newer; `none` lifts it"


@pytest.mark.parametrize(
    ("text", "form", "last"),
    [
        ("2024-05-31", "2024-05-31", "2024-05-31T23:59:59.999000+00:00"),
        ("2024-05-31T12:00:00+02:00", "2024-05-31T10:00:00Z", "2024-05-31T10:00:00+00:00"),
        ("2024-05-31 12:00", "2024-05-31T12:00:00Z", "2024-05-31T12:00:00+00:00"),
    ],
)
def test_a_date_or_time_has_one_form(text: str, form: str, last: str) -> None:
    assert moment(text) == form == moment(form)
    assert cutoff(form).isoformat() == last


@pytest.mark.parametrize("text", ["yesterday", "2024-13-01", "31.5.2024", ""])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="neither a date nor a time"):
        moment(text)


def test_the_oldest_that_the_spec_allows(place: Updated) -> None:
    place.spec("  - app >=2")
    place.lock()
    found = place.update(strategy="lowest-direct")
    assert versions(found) == {"app": "2.0", "lib": "22.0"}
    assert found.strategy == "lowest-direct"
    assert found == read_lockfile(place.environment.lock_path)
    assert place.fresh()
    place.spec("  - app >=1")
    place.spec("  - app >=2", "  - beside")
    assert versions(place.lock()) == {"app": "2.0", "lib": "22.0", "beside": "1.0"}
    found = place.update(strategy="highest")
    assert found.strategy is None
    assert versions(found) == {"app": "3.0", "lib": "23.0", "beside": "2.0"}


# --- the machine --------------------------------------------------------------------------------------------


def test_cuda_is_assumed_only_where_it_is_set(place: Updated) -> None:
    place.spec("  - fast")
    error = place.refused(SolveError, "linux-64")
    assert error.hint is not None
    assert 'cuda = "12.4"' in error.hint
    place.settings = replace(place.settings, environments={"maps": EnvironmentSettings(cuda="11.8")})
    hint = place.refused(SolveError, "linux-64").hint
    assert hint == "the settings offer __cuda 11.8: choose a newer one, or older packages"
    place.settings = replace(place.settings, environments={"maps": EnvironmentSettings(cuda="12.4")})
    found = place.lock("linux-64")
    assert found.virtual == {"linux-64": {"__cuda": "12.4"}}
    assert found == read_lockfile(place.environment.lock_path)
    assert place.told.said[-1] == "locked maps: 1 package for linux-64 (glibc 2.36, cuda 12.4)"
    assert place.fresh()
    place.settings = replace(place.settings, environments={})
    assert place.differences() == "linux-64: no CUDA is set; locked for CUDA 12.4"


def test_no_mac_has_cuda_and_a_version_is_one() -> None:
    assert virtual_packages("linux-64", None, "12.4")["__cuda"] == ("12.4", "0")
    assert virtual_packages("win-64", None, "12")["__cuda"] == ("12", "0")
    assert "__cuda" not in virtual_packages("osx-arm64", None, "12.4")
    with pytest.raises(SettingsError, match="cuda should be a version"):
        virtual_packages("linux-64", None, "yes")
