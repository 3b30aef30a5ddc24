"""A spec is solved for the base's platforms, what is locked stays, and a failure changes nothing."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.locked_project import BASE, BOTH, FORGE, Place, versions
from support.paper_channel import record, served, write_channel

from envbox.errors import (
    EnvboxError,
    ImageError,
    LockfileError,
    PackageError,
    SolveError,
    SpecError,
    ToolError,
)
from envbox.lockfile import Base
from envbox.lockfile.conda_lock_v1 import dumps, read_lockfile
from envbox.locks.freshness import is_fresh
from envbox.locks.lock import solve_spec
from envbox.locks.solve.match_specs import joined_depends
from envbox.locks.solve.names import names_table
from envbox.locks.solve.request import virtual_packages
from envbox.locks.spec import read_spec
from envbox.mirrors import Mirrors
from envbox.packages.fetch import fetch, fetch_archives
from envbox.registry import parse_reference, resolve
from envbox.settings import EnvironmentSettings, Settings

RECORDS = [
    *(
        record("python", v, ["__glibc >=2.17", "openssl >=3"], subdir=p)
        for v in ("3.11.7", "3.12.1")
        for p in BOTH
    ),
    *(record("openssl", v, subdir=p) for v in ("3.0.1", "3.1.0") for p in BOTH),
    *(record("numpy", v, ["python >=3.11,<3.12.0a0"], subdir=p) for v in ("1.26.4", "2.3.5") for p in BOTH),
    record("numpy", "2.5.0", ["python >=3.12", "python <3.13.0a0"], subdir="linux-64"),
    record("basemap", "2.0.0", ["numpy >=1.21,<2.4", "python >=3.11"], subdir="linux-64"),
    record("basemap", "1.4.1", ["numpy >=1.21,<1.27", "python >=3.11"], subdir="linux-64"),
    record("modern", "1.0", ["__glibc >=2.40"], subdir="linux-64"),
    record("pip", "26.0", ["python"]),
    record("tzdata", "2026a"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_channel(tmp_path_factory.mktemp("channel"), RECORDS)


@pytest.fixture(scope="module")
def channel(folder: Path) -> Iterator[str]:
    with served(folder) as url:
        yield url


@pytest.fixture
def place(tmp_path: Path, channel: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    def resolve_base(reference: str, platforms: Sequence[str], *rest: object) -> Base:
        return Base(reference, {p: BASE.digests[p] for p in platforms}, {p: BASE.glibc[p] for p in platforms})

    monkeypatch.setattr("envbox.registry.base.resolve_base", resolve_base)
    mirrors = {FORGE: channel, "https://conda.anaconda.org/gone": channel + "/gone"}
    root = tmp_path / "project"
    root.mkdir()
    return Place(root, Settings(cache_dir=tmp_path / "cache", base="b:1", mirrors=Mirrors(mirrors)))


# --- the lock -----------------------------------------------------------------------------------------------


def test_all_platforms_are_locked_and_written_as_they_are_returned(place: Place) -> None:
    place.spec("  - numpy >=2", "  - python")
    found = place.lock()
    assert found.platforms == BOTH
    assert versions(found, "linux-64")["numpy"] == "2.5.0"
    assert versions(found, "linux-aarch64")["numpy"] == "2.3.5"
    assert found == read_lockfile(place.environment.lock_path)
    assert found.base == replace(BASE, reference="docker.io/library/b:1")
    assert found.requested["linux-64"] == ("numpy >=2", "python")
    assert any("4 packages" in said or "3 packages" in said for said in place.told.said)


def test_a_lock_holds_canonical_addresses_and_the_channels_hashes(place: Place) -> None:
    place.spec("  - tzdata")
    package = place.lock().packages[0]
    assert package.url == f"{FORGE}/noarch/tzdata-2026a-0.conda"
    assert package.sha256 == hashlib.sha256(b"tzdata-2026a-0").hexdigest()
    assert package.md5 == hashlib.md5(b"tzdata-2026a-0").hexdigest()


def test_a_mirror_that_a_spec_names_is_not_written(place: Place, channel: str) -> None:
    place.spec("  - tzdata", channels=f"['{channel}']")
    assert place.lock("linux-64").packages[0].url == f"{FORGE}/noarch/tzdata-2026a-0.conda"


def test_constraints_on_one_name_are_joined(place: Place) -> None:
    place.spec("  - numpy 2.5.0")
    numpy = next(p for p in place.lock("linux-64").packages if p.name == "numpy")
    assert numpy.depends == {"python": ">=3.12,<3.13.0a0"}


@pytest.mark.parametrize(
    ("depends", "joined"),
    [
        (["a"], {"a": ""}),
        (["a >=1", "a <2"], {"a": ">=1,<2"}),
        (["a 3.11.* *_cp311", "a >=3"], {"a": "3.11.*,>=3 *_cp311"}),
        (["a *", "a >=1"], {"a": "*,>=1"}),
        (["a >=1", "a >=1", "a"], {"a": ">=1"}),
    ],
)
def test_joined_constraints_are_a_match_spec_again(depends: list[str], joined: dict[str, str]) -> None:
    from rattler import MatchSpec

    assert joined_depends(depends) == joined
    MatchSpec(f"a {joined['a']}".strip())


def test_the_system_is_the_bases_and_never_this_machines(place: Place) -> None:
    assert virtual_packages("linux-aarch64", BASE) == {
        "__archspec": ("1", "aarch64"),
        "__unix": ("0", "0"),
        "__linux": ("5.10", "0"),
        "__glibc": ("2.36", "0"),
    }
    assert "__glibc" not in virtual_packages("osx-arm64", BASE)
    place.spec("  - modern")
    error = place.refused(SolveError, "linux-64")
    assert "modern" in error.message
    assert error.hint is not None
    assert "__glibc 2.36" in error.hint


def test_nothing_of_this_machine_is_in_a_solve(place: Place, tmp_path: Path) -> None:
    place.spec("  - basemap", "  - tzdata")
    spec = read_spec(place.environment.spec_path, ["linux-64"], place.settings)
    other = replace(place.settings, cache_dir=tmp_path / "another cache")
    assert solve_spec(spec, BASE, place.settings) == solve_spec(spec, BASE, other)


def test_a_platform_that_nobody_asked_for_is_left_out_in_one_line(place: Place) -> None:
    place.spec("  - basemap")
    assert place.lock().platforms == ("linux-64",)
    left_out = [said for said in place.told.said if "left out" in said]
    assert len(left_out) == 1
    assert "linux-aarch64" in left_out[0]
    assert "basemap" in left_out[0]
    assert place.fresh()


def test_a_platform_that_was_asked_for_is_not_left_out(place: Place) -> None:
    place.spec("  - basemap")
    assert "linux-aarch64" in place.refused(SolveError, *BOTH).message
    place.spec("  - basemap", platforms="[linux-64, linux-aarch64]")
    assert "linux-aarch64" in place.refused(SolveError).message


def test_a_platform_that_the_base_lacks_is_left_out_too(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve_base(reference: str, platforms: Sequence[str], *rest: object) -> Base:
        if "linux-aarch64" in platforms:
            raise ImageError("b:1 has no image for linux-aarch64")
        return replace(BASE, digests={"linux-64": BASE.digests["linux-64"]}, glibc={"linux-64": "2.36"})

    monkeypatch.setattr("envbox.registry.base.resolve_base", resolve_base)
    place.spec("  - tzdata")
    assert place.lock().platforms == ("linux-64",)
    place.refused(ImageError, *BOTH)


def test_a_lock_for_macos_needs_no_base(place: Place) -> None:
    place.spec("  - tzdata")
    found = place.lock("osx-arm64")
    assert found.base == Base("docker.io/library/b:1", {}, {})
    assert found == read_lockfile(place.environment.lock_path)


def test_a_channel_that_only_a_match_spec_names_is_asked_too(
    place: Place, folder: Path, tmp_path: Path
) -> None:
    other = write_channel(tmp_path / "other", [record("tzdata", "2026b"), record("extra", "1.0")])
    place.spec("  - tzdata", f"  - file://{other}::extra")
    found = place.lock("linux-64")
    assert versions(found) == {"tzdata": "2026a", "extra": "1.0"}
    assert [p.channel for p in found.packages] == [f"file://{other}", FORGE]
    assert place.fresh()


def test_a_packages_url_names_the_package(place: Place) -> None:
    place.spec(f"  - {FORGE}/linux-64/numpy-1.26.4-0.conda")
    found = place.lock("linux-64")
    assert versions(found)["numpy"] == "1.26.4"
    assert next(p for p in found.packages if p.name == "numpy").md5


def test_a_base_that_is_nowhere_is_said_once(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*rest: object) -> Base:
        raise ImageError("there is no image docker.io/library/b:1")

    monkeypatch.setattr("envbox.registry.base.resolve_base", nowhere)
    place.spec("  - numpy")
    assert "there is no image" in place.refused(ImageError).message
    assert place.told.said == []


def test_no_secret_of_a_channel_is_written(place: Place, channel: str) -> None:
    secret = channel.replace("http://", "http://me:pass-word@")
    place.spec("  - tzdata", channels=f"[{secret}]")
    place.lock("linux-64")
    assert b"pass-word" not in (place.bytes() or b"")
    assert b"//me" not in (place.bytes() or b"")
    assert place.fresh()


# --- what is locked stays -----------------------------------------------------------------------------------


def test_locking_again_touches_nothing(place: Place) -> None:
    place.spec("  - numpy")
    first = place.lock()
    path = place.environment.lock_path
    os.utime(path, (1, 1))
    assert place.lock() == first
    assert path.stat().st_mtime == 1
    assert place.told.said[-1] == "maps is up to date"


def test_solving_again_gives_the_same_bytes(place: Place) -> None:
    place.spec("  - numpy")
    place.lock()
    before = place.bytes()
    place.environment.spec_path.write_text(place.environment.spec_path.read_text() + "# a comment\n")
    place.environment.lock_path.write_bytes(before or b"")
    place.lock()
    assert place.bytes() == before
    place.environment.lock_path.unlink()
    place.lock()
    assert place.bytes() == before


def test_what_still_fits_stays_and_what_does_not_moves(place: Place) -> None:
    place.spec("  - numpy 1.26.*", "  - openssl 3.0.*")
    place.lock("linux-64")
    place.spec("  - numpy", "  - openssl")
    assert versions(place.lock()) == {"numpy": "1.26.4", "openssl": "3.0.1", "python": "3.11.7"}
    place.spec("  - numpy >=2", "  - openssl")
    assert versions(place.lock()) == {"numpy": "2.3.5", "openssl": "3.0.1", "python": "3.11.7"}
    place.spec("  - numpy >=2", "  - openssl", "  - tzdata")
    assert versions(place.lock())["openssl"] == "3.0.1"


def test_a_package_that_the_channel_has_no_more_moves(place: Place, tmp_path: Path) -> None:
    mine = write_channel(tmp_path / "mine", [record("a", "1.0"), record("a", "2.0")])
    place.spec("  - a <2", channels=f"['file://{mine}']")
    place.lock("linux-64")
    write_channel(mine, [record("a", "0.9"), record("a", "2.0")])
    place.spec("  - a", channels=f"['file://{mine}']")
    assert versions(place.lock("linux-64"))["a"] == "2.0"


def test_another_first_channel_outranks_what_is_locked(place: Place, tmp_path: Path) -> None:
    place.spec("  - tzdata")
    place.lock("linux-64")
    mine = write_channel(tmp_path / "mine", [record("tzdata", "2020a")])
    place.spec("  - tzdata", channels=f"['file://{mine}', conda-forge]")
    assert versions(place.lock("linux-64"))["tzdata"] == "2020a"


def test_the_base_stays_pinned_until_another_is_asked_for(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Sequence[str]] = []

    def resolve_base(reference: str, platforms: Sequence[str], *rest: object) -> Base:
        asked.append(tuple(platforms))
        digests = {p: f"sha256:{len(asked):064}" for p in platforms}
        return Base(reference, digests, {p: BASE.glibc[p] for p in platforms})

    monkeypatch.setattr("envbox.registry.base.resolve_base", resolve_base)
    place.spec("  - numpy")
    first = place.lock("linux-64")
    place.spec("  - numpy", "  - tzdata")
    assert place.lock().base == first.base
    assert asked == [("linux-64",)]
    both = place.lock(*BOTH).base
    assert both is not None
    assert first.base is not None
    assert both.digests["linux-64"] == first.base.digests["linux-64"]
    assert asked[1:] == [("linux-aarch64",)]
    place.settings = replace(place.settings, base="b:2")
    moved = place.lock().base
    assert moved is not None
    assert moved.reference == "docker.io/library/b:2"
    assert asked[2:] == [BOTH]


def test_the_platforms_that_are_locked_are_locked_again(place: Place) -> None:
    place.spec("  - tzdata")
    place.lock("osx-arm64", "linux-64")
    place.spec("  - tzdata", "  - openssl")
    place.spec("  - tzdata >=2026a")
    assert place.lock().platforms == ("linux-64", "osx-arm64")


# --- fresh or not -------------------------------------------------------------------------------------------


def test_a_lock_is_fresh_until_something_that_matters_changes(place: Place) -> None:
    place.spec("  - numpy", variables="{A: '1'}")
    assert not place.fresh()
    place.lock("linux-64")
    assert place.fresh()
    path = place.environment.spec_path
    text = path.read_text()
    path.write_text(text.replace("\n", "\r\n") + "# a comment\n")
    assert place.fresh()
    path.write_text(text.replace("numpy", "numpy >2"))
    assert "linux-64: the spec has changed" in place.differences()
    path.write_text(text + "  - tzdata\n")
    assert "linux-64: tzdata is not locked" in place.differences()
    path.write_text(text.replace("numpy", "numpy <2"))
    assert "numpy <2 is asked for, 2.5.0 0 is locked" in place.differences()
    path.write_text(text.replace("numpy", "gone::numpy"))
    assert "gone::numpy is asked for" in place.differences()
    path.write_text(text.replace("[conda-forge]", "[conda-forge, gone]"))
    assert "the channels are conda-forge, gone" in place.differences()
    path.write_text(text.replace("A: '1'", "A: '2'"))
    assert "the variables differ" in place.differences()
    path.write_text("platforms: [linux-64, osx-64]\n" + text)
    assert "osx-64 is not locked" in place.differences()
    path.write_text(text)
    assert place.fresh()
    place.settings = replace(place.settings, base="docker.io/library/b:2")
    assert "the base is docker.io/library/b:2" in place.differences()
    place.settings = replace(place.settings, base="docker.io/b:1")
    assert place.fresh()


def test_what_is_left_out_is_locked(place: Place) -> None:
    place.spec("  - numpy")
    assert "slim" not in dumps(place.lock("linux-64")).decode()
    own = {place.environment.name: EnvironmentSettings(slim=("docs", "tests"))}
    place.settings = replace(place.settings, environments=own)
    assert "slim leaves out docs, tests; locked with nothing left out" in place.differences()
    locked = place.lock("linux-64")
    assert locked.slim == ("docs", "tests")
    assert place.fresh()
    assert 'envbox.slim: \'["docs", "tests"]\'' in place.environment.lock_path.read_text()
    place.settings = replace(place.settings, environments={})
    assert not place.fresh()


def test_a_lockfile_edited_by_hand_is_not_fresh(place: Place) -> None:
    place.spec("  - numpy 2.3.*")
    place.lock("linux-64")
    data = (
        (place.bytes() or b"")
        .replace(b"numpy-2.3.5", b"numpy-1.26.4")
        .replace(b"version: 2.3.5", b"version: 1.26.4")
    )
    place.environment.lock_path.write_bytes(data)
    assert "numpy 2.3.* is asked for, 1.26.4 0 is locked" in place.differences()


def test_a_lock_of_conda_locks_own_is_not_fresh_for_want_of_a_base(place: Place) -> None:
    place.spec("  - tzdata")
    place.lock("linux-64")
    data = (place.bytes() or b"").decode().splitlines(keepends=True)
    kept = "".join(line for line in data if "envbox." not in line)
    place.environment.lock_path.write_text(kept.replace("custom_metadata:\n", "custom_metadata: {}\n"))
    assert place.differences() == "no base is pinned"
    assert place.lock().base is not None


def test_asking_again_is_fast_and_imports_nothing(place: Place) -> None:
    place.spec("  - numpy")
    place.lock("linux-64")
    code = (
        "import sys, time; from pathlib import Path; from envbox.settings import Settings;"
        "from envbox.project import Environment; from envbox.locks.lock import is_fresh;"
        "e = Environment('maps', Path(sys.argv[1]), Path(sys.argv[2]));"
        "s = Settings(cache_dir=Path(sys.argv[3]), base='b:1'); t = time.perf_counter();"
        "print(is_fresh(e, s), time.perf_counter() - t, *sys.modules)"
    )
    paths = (place.environment.spec_path, place.environment.lock_path, place.settings.cache_dir)
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    fresh, seconds, *modules = done.stdout.split()
    assert fresh == "True"
    assert float(seconds) < 0.05
    assert not set(modules) & {"yaml", "conda_lock", "rattler", "pydantic", "requests"}


def test_freshness_needs_no_network(place: Place) -> None:
    place.spec("  - numpy")
    place.lock("linux-64")
    nowhere = Mirrors(dict.fromkeys(place.settings.mirrors.rules, "http://127.0.0.1:1"))
    offline = replace(place.settings, mirrors=nowhere, cache_dir=place.settings.cache_dir / "empty")
    assert is_fresh(place.environment, offline)


# --- what goes wrong ----------------------------------------------------------------------------------------


def test_requirements_that_clash_are_named(place: Place) -> None:
    place.spec("  - basemap 1.4.1", "  - numpy >=2", "  - tzdata")
    message = place.refused(SolveError, "linux-64").message
    assert "maps cannot be locked" in message
    assert "these requirements clash on linux-64: basemap 1.4.1, numpy >=2" in message
    assert "\n  " in message
    assert "tzdata" not in message


def test_an_unknown_package_is_named_with_what_is_near(place: Place) -> None:
    place.spec("  - nunpy")
    error = place.refused(SolveError, "linux-64")
    assert "there is no package nunpy in conda-forge for linux-64" in error.message
    assert error.hint == "did you mean numpy?"


def test_an_unknown_version_is_named_with_the_newest(place: Place) -> None:
    place.spec("  - numpy >=9")
    error = place.refused(SolveError, "linux-64")
    assert "no numpy >=9 in conda-forge" in error.message
    assert error.hint == "the newest there is 2.5.0"


def test_every_platform_without_a_solution_is_named(place: Place) -> None:
    place.spec("  - nunpy", platforms="[linux-64, linux-aarch64]")
    message = place.refused(SolveError).message
    assert "linux-64" in message
    assert "linux-aarch64" in message


def test_an_unknown_channel_is_named(place: Place) -> None:
    place.spec("  - numpy")
    place.lock()
    place.spec("  - numpy", channels="[gone, conda-forge]")
    error = place.refused(SpecError)
    assert "there is no channel gone" in error.message
    assert "404" in error.message


def test_a_channel_that_is_down_is_named_and_its_secret_is_not(place: Place) -> None:
    place.spec("  - numpy", channels="['http://me:secret@127.0.0.1:1/t/tk-123/lab']")
    error = place.refused(ToolError)
    assert "the channel http://127.0.0.1:1/lab cannot be read" in error.message
    assert "refused" in error.message
    assert error.hint is not None
    assert "secret" not in error.message
    assert "tk-123" not in error.message


def test_what_a_killed_lock_left_is_swept_and_a_running_one_s_is_not(place: Place) -> None:
    path = place.environment.lock_path
    old, young = (path.with_name(f".{path.name}.{n}.part") for n in ("old", "young"))
    for part in (old, young):
        part.touch()
    os.utime(old, (0, 0))
    place.spec("  - tzdata")
    place.lock()
    assert not old.exists()
    assert young.exists()


def test_a_lockfile_that_cannot_be_read_is_not_replaced(place: Place) -> None:
    place.spec("  - numpy")
    place.environment.lock_path.write_text("version: 9\n")
    assert "version 9" in place.refused(LockfileError).message


def test_an_interrupted_solve_leaves_the_old_lockfile(place: Place) -> None:
    place.spec("  - numpy")
    place.lock("linux-64")
    before = place.bytes()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a channel that takes the call and says nothing
        silent.settimeout(30)
        place.spec("  - numpy", channels=f"['http://127.0.0.1:{silent.getsockname()[1]}']")
        code = (
            "import sys; from pathlib import Path; from envbox.settings import Settings;"
            "from envbox.locks.lock import lock; from envbox.project import Environment;"
            "from envbox.report import SILENT;"
            "e = Environment('maps', Path(sys.argv[1]), Path(sys.argv[2]));"
            "lock(e, Settings(cache_dir=Path(sys.argv[3]), base='b:1'), ['linux-64'], SILENT)"
        )
        paths = (place.environment.spec_path, place.environment.lock_path, place.settings.cache_dir)
        process = subprocess.Popen([sys.executable, "-c", code, *paths], stderr=subprocess.PIPE)
        call, _ = silent.accept()
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
        call.close()
    assert time.monotonic() - start < 5
    assert process.returncode != 0
    assert b"KeyboardInterrupt" in stderr
    assert place.bytes() == before
    assert not list(place.environment.lock_path.parent.glob(".*.part"))


# --- pip ----------------------------------------------------------------------------------------------------


def write_wheel(
    index: Path, name: str, version: str, tag: str = "py3-none-any", needs: Sequence[str] = ()
) -> Path:
    """A real wheel in a simple index (PEP 503), without code."""
    project = index / name
    project.mkdir(parents=True, exist_ok=True)
    path = project / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        metadata = [
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}",
            *(f"Requires-Dist: {n}" for n in needs),
        ]
        archive.writestr(f"{info}/METADATA", "\n".join(metadata) + "\n")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")
    write_page(project)
    return path


def write_page(project: Path) -> None:
    links = [
        f'<a href="{p.name}#sha256={hashlib.sha256(p.read_bytes()).hexdigest()}">{p.name}</a>'
        for p in sorted(project.iterdir())
        if p.suffix in (".whl", ".gz")
    ]
    (project / "index.html").write_text("<!DOCTYPE html><html><body>" + "\n".join(links) + "</body></html>")


@pytest.fixture
def index(tmp_path: Path, place: Place) -> Iterator[Path]:
    """An empty package index, as the mirror of PyPI's."""
    folder = tmp_path / "index"
    folder.mkdir()
    names = tmp_path / "names.json"
    names.write_text('{"np": {"conda_name": "numpy", "import_name": "np", "pypi_name": "np"}}')
    with served(folder) as url:
        mirrors = Mirrors({**place.settings.mirrors.rules, "https://pypi.org/simple": url})
        place.settings = replace(place.settings, mirrors=mirrors, mapping_url=str(names))
        yield folder


@contextmanager
def answering(status: int) -> Iterator[str]:
    """A server that says the same to everything; gives its host."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "kind", "words", "hint"),
    [
        (401, ToolError, "it answers 401 for http://{}/simple/tee/", "log in to 127.0.0.1"),
        (403, ToolError, "it answers 403 for http://{}/simple/tee/", "check its address"),
        (500, ToolError, "it answers 500 for http://{}/simple/tee/", "mirror"),
        (404, SolveError, "there is no tee in the package index http://{}/simple", "check its name"),
    ],
)
def test_an_index_that_fails_is_named_and_no_requirement_blamed(  # noqa: PLR0917
    place: Place, index: Path, monkeypatch: pytest.MonkeyPatch,
    status: int, kind: type[EnvboxError], words: str, hint: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("envbox.locks.solve.index.RETRY_DELAYS", ())
    with answering(status) as host:
        rules = {
            **place.settings.mirrors.rules,
            "https://pypi.org/simple": f"http://bob:s3cr3t@{host}/simple",
        }
        place.settings = replace(place.settings, mirrors=Mirrors(rules))
        place.spec("  - python", "  - pip:", "      - tee")
        error = place.refused(kind, "linux-64")
    assert words.format(host) in error.message
    assert hint.format(host) in str(error.hint)
    assert "s3cr3t" not in f"{error.message}{error.hint}"


DOORS = ("channel", "index", "names", "registry", "archive")


@pytest.mark.parametrize("status", [401, 403, 404, None])
@pytest.mark.parametrize("door", DOORS)
def test_no_door_shows_the_login_of_a_mirror(
    place: Place, monkeypatch: pytest.MonkeyPatch, door: str, status: int | None
) -> None:
    monkeypatch.undo()  # the real way to a base
    monkeypatch.setattr("envbox.registry.access.RETRY_DELAYS", ())
    monkeypatch.setattr("envbox.packages.fetch.download._ATTEMPTS", 1)
    place.spec("  - python", "  - pip:", "      - tee")
    path, table = place.environment.spec_path, place.environment.spec_path.with_name("names.json")
    table.write_text("{}")
    with answering(status) if status else nullcontext("127.0.0.1:1") as host:
        address = f"http://bob:s3cr3t@{host}"
        login = {"channel": FORGE, "index": "https://pypi.org/simple", "registry": "docker.io"}
        rules = {**place.settings.mirrors.rules, login.get(door, FORGE): f"{address}/t/tk-1/x"}
        names = f"{address}/t/tk-1/x.json" if door == "names" else str(table)
        settings = replace(place.settings, mirrors=Mirrors(rules), mapping_url=names)
        doors: dict[str, Callable[[], object]] = {
            "channel": lambda: solve_spec(read_spec(path, BOTH, settings), BASE, settings),
            "names": lambda: names_table(settings, place.told),
            "registry": lambda: resolve(parse_reference("a/b:1"), ["linux-64"], settings),
            "archive": lambda: fetch(
                f"{FORGE}/noarch/a.conda", place.settings.cache_dir / "a", "0" * 64, settings
            ),
        }
        doors["index"] = doors["channel"]
        said = []
        try:
            doors[door]()
        except EnvboxError as error:
            said = [error.message, str(error.hint)]
        said += place.told.warned
    assert said
    for secret in ("s3cr3t", "tk-1", "bob"):
        assert secret not in " ".join(said)


def test_a_lock_of_what_the_channel_has_replaced_is_mended_as_its_hint_says(
    place: Place, tmp_path: Path
) -> None:
    folder = write_channel(tmp_path / "own", [record("tzdata", "2026a")])
    archive = folder / "noarch" / "tzdata-2026a-0.conda"
    with served(folder) as url:
        rules = {**place.settings.mirrors.rules, FORGE: url}
        place.settings = replace(place.settings, mirrors=Mirrors(rules))
        place.spec("  - tzdata")
        (package,) = place.lock("linux-64").packages
        (tmp_path / "own" / "noarch" / package.file_name).write_bytes(b"another")
        with pytest.raises(PackageError) as changed:
            fetch_archives([package], place.settings)
        archive.unlink()
        with pytest.raises(ToolError) as gone:
            fetch_archives([package], place.settings)
        assert "ask whoever runs" in str(changed.value.hint)  # to lock anew would be to believe them
        assert "remove the lockfile (NAME.conda-lock.yml), and run: envbox lock NAME" in str(gone.value.hint)
        write_channel(tmp_path / "own", [record("tzdata", "2026b")])
        assert versions(place.lock("linux-64")) == {"tzdata": "2026a"}  # it is fresh by its own lights
        place.environment.lock_path.unlink()
        assert versions(place.lock("linux-64")) == {"tzdata": "2026b"}


def test_requirements_become_wheels_with_hashes_and_canonical_addresses(place: Place, index: Path) -> None:
    wheel = write_wheel(index, "tee", "1.0", needs=["cup >=1", "np"])
    write_wheel(index, "cup", "1.0")
    write_wheel(index, "cup", "2.0")
    place.spec("  - python", "  - numpy", "  - pip:", "      - tee")
    found = place.lock("linux-64")
    wheels = {p.name: p for p in found.for_platform("linux-64") if p.manager == "pip"}
    assert {n: p.version for n, p in wheels.items()} == {"cup": "2.0", "tee": "1.0"}  # np is conda's numpy
    assert wheels["tee"].url == "https://pypi.org/simple/tee/tee-1.0-py3-none-any.whl"
    assert wheels["tee"].sha256 == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert wheels["tee"].build is None
    assert found.requested["linux-64"] == ("numpy", "pip", "pip: tee", "python")
    assert found == read_lockfile(place.environment.lock_path)
    assert place.fresh()


def test_a_wheel_that_is_locked_stays(place: Place, index: Path) -> None:
    write_wheel(index, "tee", "1.0")
    place.spec("  - python", "  - pip:", "      - tee")
    place.lock("linux-64")
    write_wheel(index, "tee", "2.0")
    place.spec("  - python", "  - tzdata", "  - pip:", "      - tee")
    place.settings = replace(place.settings, cache_dir=place.settings.cache_dir / "new")
    assert versions(place.lock("linux-64"))["tee"] == "1.0"


def test_the_bases_glibc_decides_which_wheel_fits(place: Place, index: Path) -> None:
    for minor in (17, 35, 39):
        write_wheel(index, "tee", "1.0", f"cp312-cp312-manylinux_2_{minor}_x86_64")
    place.spec("  - python 3.12.*", "  - pip:", "      - tee")
    tee = next(p for p in place.lock("linux-64").packages if p.name == "tee")
    assert "manylinux_2_35" in tee.url


def test_a_source_archive_is_refused_and_named_and_its_code_is_not_run(
    place: Place, index: Path, tmp_path: Path
) -> None:
    project = index / "tee"
    project.mkdir()
    ran = tmp_path / "ran"
    source = tmp_path / "tee-1.0"
    source.mkdir()
    (source / "backend.py").write_text(f"open({str(ran)!r}, 'w')")
    (source / "pyproject.toml").write_text(
        "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
    )
    subprocess.run(["tar", "-czf", project / "tee-1.0.tar.gz", "-C", tmp_path, "tee-1.0"], check=True)
    write_page(project)
    place.spec("  - python", "  - pip:", "      - tee")
    error = place.refused(SolveError, "linux-64")
    assert "tee 1.0 has no wheel for linux-64, only a source archive" in error.message
    assert error.hint is not None
    assert "conda" in error.hint
    assert not ran.exists()


def test_requirements_that_clash_are_told(place: Place, index: Path) -> None:
    write_wheel(index, "tee", "1.0", needs=["cup >=9"])
    write_wheel(index, "cup", "1.0")
    place.spec("  - python", "  - pip:", "      - tee")
    message = place.refused(SolveError, "linux-64").message
    assert "the pip requirements cannot be satisfied on linux-64" in message
    assert "cup" in message
    assert "dummy" not in message


def test_requirements_need_a_python(place: Place, index: Path) -> None:
    place.spec("  - tzdata", "  - pip:", "      - tee")
    with pytest.raises(EnvboxError, match="tee"):  # pip brings python; tee is nowhere
        place.lock("linux-64")


def test_without_a_table_of_names_the_same_names_are_assumed_with_a_warning(
    place: Place, index: Path
) -> None:
    write_wheel(index, "tee", "1.0", needs=["numpy"])
    place.settings = replace(place.settings, mapping_url="http://127.0.0.1:1/names.json")
    place.spec("  - python", "  - numpy", "  - pip:", "      - tee")
    assert "tee" in versions(place.lock("linux-64"))
    assert len(place.told.warned) == 1
    assert "mapping_url" in place.told.warned[0]


def test_an_index_that_is_down_is_named(place: Place, index: Path) -> None:
    mirrors = Mirrors(
        {**place.settings.mirrors.rules, "https://pypi.org/simple": "http://127.0.0.1:1/simple"}
    )
    place.settings = replace(place.settings, mirrors=mirrors)
    place.spec("  - python", "  - pip:", "      - tee")
    assert "index" in place.refused(ToolError, "linux-64").message


def test_locking_prints_nothing(place: Place, index: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_wheel(index, "tee", "1.0")
    place.spec("  - python", "  - a  # [win]", "  - pip:", "      - tee")
    place.lock("linux-64")
    assert capfd.readouterr() == ("", "")
    assert not {key for key in os.environ if key.startswith("POETRY_")}


def test_a_wheel_does_not_shadow_a_conda_package(place: Place, index: Path) -> None:
    write_wheel(index, "np", "1.0")
    place.spec("  - python", "  - numpy", "  - pip:", "      - np <2")
    message = place.refused(SolveError, "linux-64").message
    assert "the pip requirements need np 1.0, but conda has 2.5.0 for linux-64" in message


# --- on the rig: real packages, a real base, a real index ---------------------------------------------------


def on_the_rig(rig: Any, root: Path, *dependencies: str) -> Place:
    place = Place(root, rig.settings())
    place.spec(*dependencies)
    return place


MAPS = [
    "  - python >=3.11",
    *(f"  - {n}" for n in ("numpy", "basemap", "matplotlib", "ipython", "jupyterlab")),
]


@pytest.mark.rig
def test_the_maps_are_locked_for_the_real_base_and_the_same_from_an_empty_cache(
    rig: Any, tmp_path: Path
) -> None:
    from conda_lock.lockfile import parse_conda_lock_file

    place = on_the_rig(rig, tmp_path, *MAPS)
    found = place.lock()
    assert found.platforms == BOTH
    assert {"basemap", "numpy", "python", "jupyterlab"} <= set(versions(found))
    assert found.base is not None
    assert found.base.reference.startswith("docker.io/continuumio/miniconda3:")
    assert set(found.base.digests) == set(found.base.glibc) == set(BOTH)
    for package in found.packages:
        archive = rig.channel_dir / package.subdir / package.file_name
        assert hashlib.sha256(archive.read_bytes()).hexdigest() == package.sha256
        assert package.channel == FORGE
    assert place.fresh()
    assert len(parse_conda_lock_file(place.environment.lock_path).package) == len(found.packages)
    before = place.bytes()
    place.environment.lock_path.unlink()
    place.settings = rig.settings()
    place.lock()
    assert place.bytes() == before


@pytest.mark.rig
def test_conda_locks_own_command_finds_the_hash_of_the_spec_up_to_date(rig: Any, tmp_path: Path) -> None:
    from conda_lock.content_hash import backwards_compatible_content_hashes
    from conda_lock.lockfile import parse_conda_lock_file
    from conda_lock.src_parser import make_lock_spec
    from conda_lock.virtual_package import default_virtual_package_repodata

    place = on_the_rig(rig, tmp_path, *MAPS)
    place.lock()
    theirs = parse_conda_lock_file(place.environment.lock_path).metadata.content_hash
    spec = make_lock_spec(
        src_files=[place.environment.spec_path], platform_overrides=BOTH, mapping_url="not needed"
    )
    repodata = default_virtual_package_repodata()
    for platform in BOTH:
        assert theirs[platform] in backwards_compatible_content_hashes(spec, repodata, platform)


@pytest.mark.rig
def test_requirements_are_locked_from_the_rigs_index(rig: Any, tmp_path: Path) -> None:
    place = on_the_rig(
        rig, tmp_path, "  - python", "  - numpy", "  - pip:", "      - python-slugify", "      - tqdm"
    )
    found = place.lock("linux-64")
    wheels = {p.name: p for p in found.packages if p.manager == "pip"}
    assert {"python-slugify", "text-unidecode", "tqdm"} <= set(wheels)
    for wheel in wheels.values():
        assert wheel.url.startswith("https://files.pythonhosted.org/packages/")
        assert wheel.file_name.endswith(".whl")
    assert not place.told.warned
    assert place.fresh()


@pytest.mark.rig
def test_a_requirement_without_a_wheel_is_refused_by_name(rig: Any, tmp_path: Path) -> None:
    place = on_the_rig(rig, tmp_path, "  - python", "  - pip:", "      - awkward-sdist")
    assert "awkward-sdist" in place.refused(SolveError, "linux-64").message
