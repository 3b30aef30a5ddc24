"""What is newer, within the spec and beyond it: channels and indexes are asked as a solve asks them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from support.changed_locks import BOTH, CHANNEL, lock_of, package, wheel
from support.command import envbox
from support.locked_project import Told
from support.paper_channel import record, served, write_channel

from envbox.errors import ToolError
from envbox.lockfile import Base, Lock, LockedPackage
from envbox.lockfile.conda_lock_v1 import dumps
from envbox.locks.inspect.indexes import newest_wheels
from envbox.locks.inspect.outdated import Outdated, channels_in, compared, lines, outdated
from envbox.mirrors import Mirrors
from envbox.report import SILENT
from envbox.settings import Settings

BASE = Base("docker.io/library/b:1", dict.fromkeys(BOTH, "sha256:" + "0" * 64), dict.fromkeys(BOTH, "2.36"))
RECORDS = [
    *(record("python", v, subdir=p) for v in ("3.11.7", "3.12.1") for p in BOTH),
    *(record("numpy", v, ["python 3.11.*"], subdir=p) for v in ("1.9.0", "1.10.0") for p in BOTH),
    record("numpy", "2.0.0", ["python 3.12.*"], subdir="linux-64"),
    record("openssl", "3.9.0", subdir="linux-64"),
    record("openssl", "3.10.0", subdir="linux-64"),
    record("quiet", "1.0"),
]


@pytest.fixture(scope="module")
def channel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(write_channel(tmp_path_factory.mktemp("channel"), RECORDS)) as url:
        yield url


@pytest.fixture
def settings(tmp_path: Path, channel: str) -> Settings:
    return Settings(cache_dir=tmp_path / "cache", mirrors=Mirrors({CHANNEL: channel}))


def locked(*packages: LockedPackage, asked: Sequence[str], platforms: tuple[str, ...] = BOTH) -> Lock:
    lock = lock_of(*packages, platforms=platforms)
    base = replace(
        BASE,
        digests={p: BASE.digests[p] for p in platforms if p in BOTH},
        glibc={p: BASE.glibc[p] for p in platforms if p in BOTH},
    )
    return replace(
        lock,
        base=base,
        requested=dict.fromkeys(platforms, tuple(asked)),
        content_hash=dict.fromkeys(platforms, "0"),
    )


def maps() -> Lock:
    packages = [
        package(n, v, platform=p) for n, v in (("python", "3.11.7"), ("numpy", "1.9.0")) for p in BOTH
    ]
    return locked(*packages, package("openssl", "3.9.0"), asked=("numpy", "python 3.11.*"))


def test_what_the_spec_allows_is_told_from_what_there_is(settings: Settings) -> None:
    assert outdated(maps(), settings, SILENT) == (
        Outdated("numpy", "conda", ("linux-64",), "1.9.0", "1.10.0", "2.0.0", ("numpy",), True),
        Outdated("numpy", "conda", ("linux-aarch64",), "1.9.0", "1.10.0", None, ("numpy",), True),
        Outdated("openssl", "conda", ("linux-64",), "3.9.0", None, "3.10.0", (), False),
        Outdated("python", "conda", BOTH, "3.11.7", None, "3.12.1", ("python 3.11.*",), True),
    )


def test_a_spec_without_a_solution_is_said_and_what_there_is_is_told(settings: Settings) -> None:
    told = Told()
    found = outdated(replace(maps(), requested={"linux-64": ("gone",)}), settings, told)
    assert "linux-64: what was asked for has no solution any more" in told.warned[0]
    assert {(one.name, one.newest) for one in found} >= {("numpy", "2.0.0"), ("openssl", "3.10.0")}
    assert all(one.within is None for one in found)


def test_what_is_locked_as_of_a_date_stays_within_it(settings: Settings) -> None:
    found = outdated(replace(maps(), exclude_newer="2020-01-01"), settings, SILENT)
    assert {one.name: (one.within, one.newest) for one in found}["openssl"] == (None, "3.10.0")
    assert all(one.within is None for one in found)


def test_a_channel_that_is_down_is_named(settings: Settings) -> None:
    down = replace(
        settings, mirrors=Mirrors({CHANNEL: "http://127.0.0.1:1"}), cache_dir=settings.cache_dir / "x"
    )
    with pytest.raises(ToolError, match="conda-forge"):
        outdated(maps(), down, SILENT)


def test_a_spec_gives_the_logins_that_a_lock_has_not(tmp_path: Path) -> None:
    spec = tmp_path / "maps.yml"
    spec.write_text("channels: [https://bob:secret@example.org/x, conda-forge]\ndependencies: [numpy]\n")
    assert channels_in(spec) == ("https://bob:secret@example.org/x", "conda-forge")
    assert channels_in(tmp_path / "missing.yml") == ()


def test_versions_are_compared_as_versions() -> None:
    lock = locked(package("a", "1.10"), asked=("a",), platforms=("linux-64",))
    assert compared(lock, {("linux-64", "a"): "1.9"}, {("linux-64", "a"): "1.10.0"}) == ()
    (one,) = compared(lock, {}, {("linux-64", "a"): "1.11"})
    assert (one.within, one.newest) == (None, "1.11")


def test_a_lock_that_does_not_say_what_was_asked_for_has_its_roots_asked_for() -> None:
    lock = replace(locked(package("a"), asked=(), platforms=("linux-64",)), requested={})
    (one,) = compared(lock, {}, {("linux-64", "a"): "2.0"})
    assert (one.asked, one.is_asked) == ((), True)


def test_lines_are_a_table(settings: Settings) -> None:
    assert list(lines(outdated(maps(), settings, SILENT), BOTH)) == [
        "package  locked  in the spec  newest  platforms      asked for",
        "numpy    1.9.0   1.10.0       2.0.0   linux-64       numpy",
        "numpy    1.9.0   1.10.0       1.10.0  linux-aarch64  numpy",
        "openssl  3.9.0                3.10.0  linux-64",
        "python   3.11.7               3.12.1                 python 3.11.*",
    ]
    assert list(lines((), BOTH)) == []


# --- wheels -------------------------------------------------------------------------------------------------


def index_of(folder: Path, name: str, files: dict[str, str]) -> None:
    """A simple index: file name → attributes of its link."""
    (folder / name).mkdir(parents=True)
    links = [f'<a href="../{file}#sha256=0" {said}>{file}</a>' for file, said in files.items()]
    (folder / name / "index.html").write_text(f"<html><body>{''.join(links)}</body></html>")


@pytest.fixture
def index(tmp_path: Path, settings: Settings) -> Iterator[tuple[Path, Settings]]:
    folder = tmp_path / "index"
    folder.mkdir()
    with served(folder) as url:
        mirrors = Mirrors({**settings.mirrors.rules, "https://pypi.org/simple": url})
        yield folder, replace(settings, mirrors=mirrors)


def with_wheel(*asked: str, platform: str = "linux-64") -> Lock:
    python = package("python", "3.11.7", platform=platform)
    one = replace(wheel("my-tool", "1.0", platform))
    return locked(python, one, asked=("python 3.11.*", *asked), platforms=(platform,))


def test_the_newest_wheel_that_fits_is_found(index: tuple[Path, Settings]) -> None:
    folder, settings = index
    index_of(
        folder,
        "my-tool",
        {
            "my_tool-1.0-py3-none-any.whl": "",
            "my_tool-1.9-py3-none-any.whl": "",
            "my_tool-1.10-cp311-cp311-manylinux2014_x86_64.whl": 'data-requires-python="&gt;=3.9"',
            "my_tool-1.11-py3-none-any.whl": 'data-requires-python="&gt;=3.12"',
            "my_tool-1.12-py3-none-any.whl": "data-yanked",
            "my_tool-1.13-cp312-cp312-manylinux_2_17_x86_64.whl": "",
            "my_tool-1.14-cp311-cp311-manylinux_2_39_x86_64.whl": "",
            "my_tool-1.15-cp311-cp311-win_amd64.whl": "",
            "my_tool-1.16.tar.gz": "",
            "my_tool-2.0-cp38-abi3-manylinux_2_28_x86_64.whl": "",
            "my_tool-3.0rc1-py3-none-any.whl": "",
            "other": "",
        },
    )
    key = ("linux-64", "pip:my-tool")
    assert newest_wheels(with_wheel("pip: my_tool <2"), settings, SILENT) == ({key: "1.10"}, {key: "2.0"})
    assert newest_wheels(with_wheel("pip: my-tool"), settings, SILENT)[0] == {key: "2.0"}
    mac = newest_wheels(with_wheel("pip: my-tool", platform="osx-arm64"), settings, SILENT)
    assert set(mac[1].values()) == {"1.9"}
    found = outdated(with_wheel("pip: my_tool <2"), settings, SILENT)
    assert (
        Outdated("my-tool", "pip", ("linux-64",), "1.0", "1.10", "2.0", ("pip: my_tool <2",), True) in found
    )


def test_what_needs_a_wheel_bounds_it_too(index: tuple[Path, Settings]) -> None:
    folder, settings = index
    index_of(folder, "my-tool", {f"my_tool-{v}-py3-none-any.whl": "" for v in ("1.0", "1.5", "2.0")})
    index_of(folder, "user", {"user-1.0-py3-none-any.whl": ""})
    lock = with_wheel("pip: user")
    user = replace(wheel("user"), depends={"my-tool": ">=1,<2"})
    found = newest_wheels(replace(lock, packages=(*lock.packages, user)), settings, SILENT)
    assert found[0]["linux-64", "pip:my-tool"] == "1.5"


def test_an_index_may_answer_in_json(index: tuple[Path, Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    from support.paper_channel import _Handler

    folder, settings = index
    (folder / "my-tool").mkdir()
    told = {"1.5": {"requires-python": ">=3.8", "yanked": False}, "1.6": {"yanked": "broken"}}
    names = {version: f"my_tool-{version}-py3-none-any.whl" for version in told}
    page = {
        "files": [
            {"url": f"../{names[v]}", "filename": names[v], "hashes": {}, **more} for v, more in told.items()
        ]
    }
    (folder / "my-tool/index.html").write_text(json.dumps(page))
    monkeypatch.setitem(_Handler.extensions_map, ".html", "application/vnd.pypi.simple.v1+json")
    assert set(newest_wheels(with_wheel(), settings, SILENT)[1].values()) == {"1.5"}
    (folder / "my-tool/index.html").write_text('{"files": 3}')
    with pytest.raises(ToolError, match="no list of files"):
        newest_wheels(with_wheel(), settings, SILENT)


def test_a_project_that_no_index_has_is_passed_over_and_an_index_that_is_down_is_named(
    index: tuple[Path, Settings],
) -> None:
    _, settings = index
    assert newest_wheels(with_wheel(), settings, SILENT) == ({}, {})
    down = Mirrors({"https://pypi.org/simple": "http://bob:secret@127.0.0.1:1/simple"})
    with pytest.raises(
        ToolError, match=r"cannot read the package index http://127\.0\.0\.1:1/simple/my-tool/"
    ) as error:
        newest_wheels(with_wheel(), replace(settings, mirrors=down), SILENT)
    assert "secret" not in error.value.message
    offline = replace(settings, offline=True)
    assert newest_wheels(with_wheel(), offline, SILENT) == ({}, {})  # as the cache has it
    with pytest.raises(ToolError, match="offline"):
        newest_wheels(with_wheel(), replace(offline, cache_dir=settings.cache_dir / "empty"), SILENT)


# --- the command --------------------------------------------------------------------------------------------


def test_outdated_is_typed(tmp_path: Path, channel: str) -> None:
    (tmp_path / "environment.yml").write_text("dependencies: [numpy]\n")
    (tmp_path / "conda-lock.yml").write_bytes(dumps(replace(maps(), name="maps")))
    own = {"ENVBOX_MIRRORS": f"{CHANNEL}={channel}", "ENVBOX_BASE": "b:1"}
    done = envbox("outdated", cwd=tmp_path, **own)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["package", "numpy", "numpy", "python"]
    assert "1 more that was not asked for has newer versions (--all)" in done.stderr
    assert "to move within the spec: envbox lock maps --update PKG, or --update-all" in done.stderr
    done = envbox("outdated", "--json", "--all", "--exit-code", cwd=tmp_path, **own)
    assert done.returncode == 1
    assert {one["name"] for one in json.loads(done.stdout)} == {"numpy", "openssl", "python"}
    done = envbox(
        "--offline", "outdated", cwd=tmp_path, **{**own, "ENVBOX_CACHE_DIR": str(tmp_path / "none")}
    )
    assert done.returncode == 1
    assert "offline" in done.stderr
