"""`add` and `remove`: the spec and the lock move together, as little as can be, or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.paper_channel import record, served, write_channel
from support.paper_registry import BASE, PaperRegistry, serving

from envbox.cli.context import Invocation
from envbox.cli.edit import add as add_command
from envbox.errors import SolveError, SpecError
from envbox.lockfile.conda_lock_v1 import read_lockfile
from envbox.locks.edit import add, remove
from envbox.locks.freshness import is_fresh
from envbox.locks.lock import lock
from envbox.mirrors import Mirrors
from envbox.project import Environment, Project
from envbox.report import SILENT
from envbox.settings import Settings

FORGE = "https://conda.anaconda.org/conda-forge"
SPEC = """\
# what we draw with
channels: [conda-forge]
platforms: [linux-64]
dependencies:
  - "python >=3.11"   # not older
  - basemap  # [linux]
"""
RECORDS = [
    *(record("python", v) for v in ("3.11.7", "3.12.1")),
    *(record("numpy", v, ["python"]) for v in ("1.26.4", "2.3.5")),
    record("basemap", "2.0.0", ["numpy", "python"]),
    record("scipy", "1.0", ["numpy <2"]),
    record("picky", "1.0", ["python <3"]),
    record("pip", "26.0", ["python"]),
]
"""What a channel has; `NEWER` is what comes out afterwards, and must not move anything."""
NEWER = [record("numpy", "2.9.0", ["python"]), record("python", "3.13.0"), record("zlib", "1.3")]


@pytest.fixture
def registry() -> Iterator[PaperRegistry]:
    with serving(PaperRegistry()) as registry:
        registry.put_image("a/b:1", [BASE], "linux-64")
        yield registry


@pytest.fixture
def channel(tmp_path: Path) -> Iterator[str]:
    write_channel(tmp_path / "channel", RECORDS)
    with served(tmp_path / "channel") as url:
        yield url


@pytest.fixture
def settings(tmp_path: Path, channel: str, registry: PaperRegistry) -> Settings:
    rules = {FORGE: channel, "docker.io": registry.host}
    return Settings(cache_dir=tmp_path / "cache", base="a/b:1", mirrors=Mirrors(rules))


@pytest.fixture
def maps(tmp_path: Path, settings: Settings) -> Environment:
    environment = Environment("maps", tmp_path / "maps.yml", tmp_path / "maps.conda-lock.yml")
    environment.spec_path.write_text(SPEC)
    lock(environment, settings, None, SILENT)
    write_channel(tmp_path / "channel", [*RECORDS, *NEWER])
    return environment


def locked(environment: Environment) -> dict[str, str]:
    return {p.name: p.version for p in read_lockfile(environment.lock_path).packages}


def test_a_package_comes_and_goes_and_nothing_else_moves(maps: Environment, settings: Settings) -> None:
    before, bytes_before = locked(maps), maps.lock_path.read_bytes()
    add(maps, ["zlib >=1.3"], "conda", settings, SILENT)
    assert maps.spec_path.read_text() == SPEC + "  - zlib >=1.3\n"
    assert locked(maps) == {**before, "zlib": "1.3"}
    assert is_fresh(maps, settings)
    remove(maps, ["zlib"], False, settings, SILENT)
    assert maps.spec_path.read_text() == SPEC
    assert maps.lock_path.read_bytes() == bytes_before


def test_only_what_must_move_does(maps: Environment, settings: Settings) -> None:
    before = locked(maps)
    add(maps, ["scipy"], "conda", settings, SILENT)
    assert locked(maps) == {**before, "numpy": "1.26.4", "scipy": "1.0"}


def test_a_package_that_is_there_is_changed(maps: Environment, settings: Settings) -> None:
    add(maps, ["python>=3.11,<3.12"], "conda", settings, SILENT)
    assert maps.spec_path.read_text() == SPEC.replace("python >=3.11", "python>=3.11,<3.12")
    assert locked(maps)["python"] == "3.11.7"


def test_a_package_that_is_there_is_said(maps: Environment, settings: Settings) -> None:
    before = maps.lock_path.read_bytes()
    said: list[str] = []

    class Told(type(SILENT)):  # type: ignore[misc]
        def say(self, text: str) -> None:
            said.append(text)

    add(maps, ["python", "basemap"], "conda", settings, Told())
    assert said == ["python >=3.11 is in the spec already", "basemap is in the spec already"]
    assert (maps.spec_path.read_text(), maps.lock_path.read_bytes()) == (SPEC, before)


@pytest.mark.parametrize(
    ("asked", "words", "hint"),
    [
        ("numpi", "no package numpi", "did you mean numpy?"),
        ("picky", "picky", None),
        ("numpy >=9", "no numpy >=9", "newest"),
    ],
)
def test_a_spec_left_unsolvable_is_not_written(
    maps: Environment, settings: Settings, asked: str, words: str, hint: str | None
) -> None:
    before = maps.lock_path.read_bytes()
    with pytest.raises(SolveError) as caught:
        add(maps, ["zlib", asked], "conda", settings, SILENT)
    assert words in caught.value.message
    assert hint is None or hint in (caught.value.hint or "")
    assert (maps.spec_path.read_text(), maps.lock_path.read_bytes()) == (SPEC, before)


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        (["sklearn", "zlib"], "sklearn is a module of scikit-learn: envbox add scikit-learn"),
        (["numpi"], "did you mean numpy?"),
    ],
)
def test_the_command_sets_a_modules_name_right(
    maps: Environment, settings: Settings, asked: list[str], hint: str
) -> None:
    session = Invocation(str(maps.spec_path.parent), quiet=True, verbose=False, trust=True)
    session.settings = settings
    session.project = Project(maps.spec_path.parent, (maps,), None)
    with pytest.raises(SolveError) as caught:
        add_command.main(asked, obj=session, standalone_mode=False)
    assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("asked", "pip", "words"),
    [
        (["numpy>==2"], False, "two operators"),
        (["requests[security]"], False, "envbox add --pip"),
        (["./mine"], False, "envbox add --pip"),
        (["zlib", "zlib>=1"], False, "zlib is named twice"),
        (["rich=13"], True, "pip writes `==13`"),
        (["numpy >=2", "a b c d e", ">=2"], False, "'>=2'"),
        ([""], False, "''"),
        (["--channel"], False, "--channel"),
    ],
)
def test_what_was_typed_is_checked(
    maps: Environment, settings: Settings, asked: list[str], pip: bool, words: str
) -> None:
    with pytest.raises(SpecError) as caught:
        add(maps, asked, "pip" if pip else "conda", settings, SILENT)
    assert words in f"{caught.value.message} {caught.value.hint}"
    assert maps.spec_path.read_text() == SPEC


def test_removing_what_is_not_there_says_what_is(maps: Environment, settings: Settings) -> None:
    for name, hint in (("basmap", "did you mean basemap?"), ("numpy", "envbox why numpy"), ("x", "asks for")):
        with pytest.raises(SpecError, match="not asked for") as caught:
            remove(maps, [name], False, settings, SILENT)
        assert hint in (caught.value.hint or "")


def test_a_channel_that_was_named_stays(maps: Environment, settings: Settings) -> None:
    maps.spec_path.write_text(SPEC.replace("basemap", "conda-forge::basemap"))
    add(maps, ["basemap=2"], "conda", settings, SILENT)
    assert "  - conda-forge::basemap=2  # [linux]\n" in maps.spec_path.read_text()


def test_two_lines_for_one_package_are_not_guessed_between(maps: Environment, settings: Settings) -> None:
    text = SPEC + "  - numpy >=2  # [linux]\n  - numpy <2  # [osx]\n"
    maps.spec_path.write_text(text)
    with pytest.raises(SpecError, match="2 times"):
        add(maps, ["numpy=2"], "conda", settings, SILENT)
    remove(maps, ["numpy"], False, settings, SILENT)
    assert maps.spec_path.read_text() == SPEC


def test_the_commands(maps: Environment, settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "environments").mkdir()
    for path in (maps.spec_path, maps.lock_path):
        path.rename(tmp_path / "environments" / path.name)
    rules = " ".join(f"{k}={v}" for k, v in settings.mirrors.rules.items())
    environ = {**os.environ, "ENVBOX_MIRRORS": rules, "ENVBOX_CACHE_DIR": str(settings.cache_dir)}

    def envbox(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "envbox", *arguments], cwd=tmp_path, capture_output=True, text=True,
            env={**environ, "ENVBOX_BASE": "a/b:1"}, check=False,
        )  # fmt: skip
        assert not done.stdout
        return done.returncode, done.stderr

    assert envbox("add", "zlib", "-n", "maps")[0] == 0
    assert (tmp_path / "environments/maps.yml").read_text() == SPEC + "  - zlib\n"
    code, said = envbox("remove", "zlip")
    assert (code, "did you mean zlib?" in said) == (1, True)
    assert envbox("remove", "zlib")[0] == 0
    assert (tmp_path / "environments/maps.yml").read_text() == SPEC
