from __future__ import annotations

import csv
import hashlib
import io
import os
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.packages import Wheel

from envbox.errors import LockfileError, PackageError
from envbox.image_paths import PREFIX
from envbox.packages.link.conda import ArchiveSource
from envbox.packages.link.entries import EntryWriter
from envbox.packages.link.tar import END
from envbox.packages.link.target import ROOT, PythonLayout
from envbox.packages.link.wheel import link_wheel

PYTHON = PythonLayout("3.11.9", "lib/python3.11/site-packages")
SITE = f"{ROOT}/{PYTHON.site_packages}"
FULL = Wheel(
    files={
        "demo/__init__.py": (b"x = 1\n", False),
        "demo/bad.py": (b"x =\n", False),
        "demo-1.0.data/scripts/tool": (b"#!python\nprint(1)\n", True),
        "demo-1.0.data/scripts/shell": (b"#!/bin/sh\n", True),
        "demo-1.0.data/data/share/demo/x.txt": (b"data", False),
        "demo-1.0.data/headers/demo.h": (b"int x;", False),
        "demo-1.0.data/purelib/demo/extra.py": (b"y = 2\n", False),
        "demo/large.bin": (bytes(5 << 20), False),
        "demo/__pycache__/__init__.cpython-311.pyc": (b"shipped", False),
    },
    entry_points="[console_scripts]\ndemo = demo:App.main\n[gui_scripts]\ngui = demo:gui\n[other]\na = b\n",
)


def compile_sources(sources: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
    return [None if path.endswith("bad.py") else b"PYC " + data for path, data in sources]


def link(path: Path, wheel: Wheel, excluded: Sequence[str] = ()) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    buffer = io.BytesIO()
    source = ArchiveSource(wheel.locked(path), path, PYTHON, frozenset(excluded))
    link_wheel(source, EntryWriter(buffer.write), compile_sources)
    with tarfile.open(fileobj=io.BytesIO(buffer.getvalue() + END)) as archive:
        return {m.name: (m, archive.extractfile(m).read()) for m in archive}  # type: ignore[union-attr]


def test_a_wheel_goes_where_pypa_installer_puts_it(tmp_path: Path) -> None:
    from installer import install
    from installer.destinations import SchemeDictionaryDestination
    from installer.sources import WheelFile

    path = FULL.write(tmp_path)
    site = f"/{SITE}"
    schemes = {
        "purelib": site,
        "platlib": site,
        "scripts": f"{PREFIX}/bin",
        "data": PREFIX,
        "headers": f"{PREFIX}/include/python3.11/demo",
    }
    destination = SchemeDictionaryDestination(
        schemes, interpreter=f"{PREFIX}/bin/python3.11", script_kind="posix", destdir=str(tmp_path / "root")
    )
    with WheelFile.open(path) as wheel, pytest.warns(RuntimeWarning, match="__pycache__"):
        install(wheel, destination, {"INSTALLER": b"envbox\n"})
    root = tmp_path / "root"
    theirs = {
        str(p.relative_to(root)): (p.read_bytes(), os.access(p, os.X_OK))
        for p in root.rglob("*")
        if p.is_file()
    }
    ours = {name: (data, bool(m.mode & 0o111)) for name, (m, data) in link(path, FULL).items()}
    record = f"{SITE}/demo-1.0.dist-info/RECORD"
    assert {n: v for n, v in ours.items() if not n.endswith(".pyc") and n != record} == {
        n: v for n, v in theirs.items() if n != record
    }


def test_record_lists_every_file_with_its_hash_and_the_byte_code_without(tmp_path: Path) -> None:
    found = link(FULL.write(tmp_path), FULL)
    text = found[f"{SITE}/demo-1.0.dist-info/RECORD"][1].decode()
    rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(text))}
    listed = {os.path.normpath(f"{SITE}/{name}") for name in rows}
    assert listed == set(found)
    assert rows["../../../bin/demo"][1] == str(len(found[f"{ROOT}/bin/demo"][1]))
    assert rows["demo/__pycache__/__init__.cpython-311.pyc"] == ["", ""]


def test_times_come_from_the_wheel_read_as_utc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = FULL.write(tmp_path)
    before = link(path, FULL)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert before[f"{SITE}/demo/__init__.py"][0].mtime == 1715949010
    assert {n: m.mtime for n, (m, _) in before.items()} == {
        n: m.mtime for n, (m, _) in link(path, FULL).items()
    }


def test_shipped_byte_code_is_left_out_and_made_anew(tmp_path: Path) -> None:
    found = link(FULL.write(tmp_path), FULL)
    assert found[f"{SITE}/demo/__pycache__/__init__.cpython-311.pyc"][1] == b"PYC x = 1\n"
    assert f"{SITE}/demo/__pycache__/bad.cpython-311.pyc" not in found


def test_excluded_paths_are_left_out(tmp_path: Path) -> None:
    lost = [f"{SITE}/demo/__init__.py", f"{SITE}/demo/large.bin"]
    lost.append(f"{SITE}/demo/__pycache__/extra.cpython-311.pyc")
    found = link(FULL.write(tmp_path), FULL, lost)
    assert not set(lost) & set(found)


def test_a_wheel_in_a_lock_without_python_is_said(tmp_path: Path) -> None:
    path = FULL.write(tmp_path)
    with pytest.raises(LockfileError, match="python"):
        link_wheel(ArchiveSource(FULL.locked(path), path, None), EntryWriter(io.BytesIO().write))


def test_an_sdist_is_named_and_refused(tmp_path: Path) -> None:
    path = FULL.write(tmp_path).rename(tmp_path / "demo-1.0.tar.gz")
    with pytest.raises(PackageError, match=r"demo-1\.0\.tar\.gz is not a wheel"):
        link(path, FULL)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../up.py", "out of the prefix"),
        ("/abs.py", "out of the prefix"),
        ("a\nb", "control"),
        ("demo/../../x", "out"),
    ],
)
def test_a_path_that_leads_out_is_refused(tmp_path: Path, name: str, words: str) -> None:
    wheel = Wheel(files={name: (b"1", False)})
    with pytest.raises(PackageError, match=words):
        link(wheel.write(tmp_path), wheel)


@pytest.mark.parametrize(("mode", "words"), [(0o120777, "neither"), (0o104755, "setuid")])
def test_links_and_setuid_files_are_refused(tmp_path: Path, mode: int, words: str) -> None:
    wheel = Wheel(files={"demo/x": (b"/etc/passwd", False)})
    path = wheel.write(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("demo/y")
        info.external_attr = mode << 16
        archive.writestr(info, b"z")
    with pytest.raises(PackageError, match=words):
        link(path, wheel)


@pytest.mark.parametrize("data", [b"", b"<html>not found</html>", b"PK\x03\x04"])
def test_what_is_no_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "demo-1.0-py3-none-any.whl"
    path.write_bytes(data)
    with pytest.raises(PackageError, match=r"demo-1\.0-py3-none-any\.whl is damaged"):
        link(path, Wheel())


def test_a_wheel_with_another_hash_is_refused(tmp_path: Path) -> None:
    path = FULL.write(tmp_path)
    locked = FULL.locked(path)
    path.write_bytes(path.read_bytes() + b"!")
    with pytest.raises(PackageError, match="damaged"):
        link_wheel(ArchiveSource(locked, path, PYTHON), EntryWriter(io.BytesIO().write))


@pytest.mark.parametrize(
    "points", ["[console_scripts]\na/../../b = demo:x\n", "[console_scripts]\na = demo\n"]
)
def test_an_entry_point_that_is_none_is_refused(tmp_path: Path, points: str) -> None:
    wheel = Wheel(entry_points=points)
    with pytest.raises(PackageError, match="entry point"):
        link(wheel.write(tmp_path), wheel)


def test_linking_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    digests = set()
    for place in ("a", "b"):
        path = FULL.write(tmp_path / place)
        digest = hashlib.sha256()
        link_wheel(
            ArchiveSource(FULL.locked(path), path, PYTHON), EntryWriter(digest.update), compile_sources
        )
        digests.add(digest.hexdigest())
    assert len(digests) == 1


# --- a RECORD that lies ---

INFO = "demo-1.0.dist-info"
SMALL = Wheel(files={"demo/__init__.py": (b"x = 1\n", False)}, entry_points="[console_scripts]\nd = demo:d\n")


def with_record(path: Path, record: bytes | None, **more: bytes) -> Path:
    """Write a wheel anew with another RECORD, or none."""
    with zipfile.ZipFile(path) as wheel:
        members = {info.filename: wheel.read(info) for info in wheel.infolist()}
    members |= {f"{INFO}/{name.replace('_', '.')}": data for name, data in more.items()}
    del members[f"{INFO}/RECORD"]
    if record is not None:
        members[f"{INFO}/RECORD"] = record
    with zipfile.ZipFile(path, "w") as wheel:
        for name, data in members.items():
            wheel.writestr(zipfile.ZipInfo(name, (2024, 5, 17, 12, 30, 10)), data)
    return path


LIES = {
    "no line": b"",
    "a wrong hash": b"demo/__init__.py,sha256=AAAA,6\n",
    "an unknown hash": b"demo/__init__.py,md5=AAAA,6\n",
    "a wrong size": b"demo/__init__.py,,99999999999\n",
    "a file outside": b"../../../../etc/passwd,sha256=AAAA,1\n",
    "an absolute file": b"/etc/passwd,sha256=AAAA,1\n",
    "a file that is not there": b"demo/gone.py,sha256=AAAA,1\n",
    "a line twice": b"demo/__init__.py,,\ndemo/__init__.py,sha256=AAAA,1\n",
    "the same but for case": b"demo/__init__.py,,\nDemo/__INIT__.py,sha256=AAAA,1\n",
}


@pytest.mark.parametrize("lie", LIES)
def test_what_a_record_says_changes_nothing(tmp_path: Path, lie: str) -> None:
    honest = link(SMALL.write(tmp_path / "honest"), SMALL)
    path = with_record(SMALL.write(tmp_path / "lying"), LIES[lie], RECORD_jws=b"{}", RECORD_p7s=b"x")
    found = link(path, SMALL)
    extra = {f"{SITE}/{INFO}/RECORD.jws", f"{SITE}/{INFO}/RECORD.p7s"}
    assert found.keys() - extra == honest.keys()
    record = found[f"{SITE}/{INFO}/RECORD"][1]
    for word in (b"passwd", b"gone.py", b"AAAA", b"99999999999", b"Demo"):
        assert word not in record
    for name in honest.keys() - {f"{SITE}/{INFO}/RECORD"}:
        assert found[name][1] == honest[name][1]


@pytest.mark.parametrize("record", [None, b"a\n", b"a,b\n", b"demo/__init__.py,,x\n", b'"', b"\xff,,\n"])
def test_a_record_that_is_none_is_refused_in_words(tmp_path: Path, record: bytes | None) -> None:
    with pytest.raises(PackageError, match=r"^demo-1\.0-py3-none-any\.whl "):
        link(with_record(SMALL.write(tmp_path), record), SMALL)


@pytest.mark.parametrize(
    "points",
    ["[console_scripts]\n../evil = demo:d\n", "[console_scripts]\n/bin/sh = demo:d\n", "[a", "a=b\n"],
)
def test_entry_points_that_lead_elsewhere_are_refused(tmp_path: Path, points: str) -> None:
    wheel = Wheel(files=SMALL.files, entry_points=points)
    with pytest.raises(PackageError, match=r"^demo-1\.0-py3-none-any\.whl "):
        link(wheel.write(tmp_path), wheel)
