from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.packages import PLACEHOLDER, TIME, File, Package, tarball, write_conda

from envbox.errors import LockfileError, PackageError
from envbox.image_paths import PREFIX
from envbox.packages.link.conda import ArchiveSource, Compile, link_package
from envbox.packages.link.entries import EntryWriter
from envbox.packages.link.placeholder import replace_prefix
from envbox.packages.link.tar import END, Member, TarReader
from envbox.packages.link.target import GENERATED_TIME, ROOT, PythonLayout

PYTHON = PythonLayout("3.11.9", "lib/python3.11/site-packages")
SITE = PYTHON.site_packages


class Linked:
    """What linking wrote, by path in the prefix."""

    def __init__(self, data: bytes, out: EntryWriter, timestamp: int) -> None:
        self.raw, self.out, self.timestamp = data, out, timestamp
        reader = TarReader(io.BytesIO(data + END))
        self.order: list[str] = []
        self.members: dict[str, Member] = {}
        self.data: dict[str, bytes] = {}
        for member in reader:
            assert member.name.startswith(f"{ROOT}/")
            name = member.name.removeprefix(f"{ROOT}/")
            assert name not in self.members
            self.order.append(name)
            self.members[name], self.data[name] = member, bytes(reader.read())

    def __getitem__(self, name: str) -> bytes:
        return self.data[name]

    @property
    def files(self) -> set[str]:
        return {name for name in self.members if not name.startswith("conda-meta/")}

    @property
    def meta(self) -> dict:  # type: ignore[type-arg]
        (name,) = (name for name in self.members if name.startswith("conda-meta/"))
        return json.loads(self.data[name])  # type: ignore[no-any-return]


def link(
    package: Package,
    folder: Path,
    *,
    extension: str = ".conda",
    python: PythonLayout | None = PYTHON,
    excluded: Sequence[str] = (),
    compile_sources: Compile | None = None,
) -> Linked:
    path = package.write(folder, extension)
    buffer = io.BytesIO()
    out = EntryWriter(buffer.write)
    lost = frozenset(f"{ROOT}/{name}" for name in excluded)
    timestamp = link_package(ArchiveSource(package.locked(path), path, python, lost), out, compile_sources)
    return Linked(buffer.getvalue(), out, timestamp)


# --- what installing would make


@pytest.mark.parametrize("extension", [".conda", ".tar.bz2"])
def test_files_links_and_modes_arrive_in_the_prefix(tmp_path: Path, extension: str) -> None:
    files = [
        ("bin/tool", File(b"\x7fELF", mode=0o775, mtime=TIME + 0.9)),
        ("bin/t", File(kind=tarfile.SYMTYPE, link="tool")),
        ("share/data with space/é.txt", File(b"text", mode=0o600)),
        ("share/empty", File(kind=tarfile.DIRTYPE)),
    ]
    linked = link(Package(files=files), tmp_path, extension=extension)
    assert linked.files == {"bin/tool", "bin/t", "share/data with space/é.txt"}
    tool, text = linked.members["bin/tool"], linked.members["share/data with space/é.txt"]
    assert (tool.mode, tool.mtime, text.mode) == (0o755, TIME, 0o644)
    assert linked.members["bin/t"].link == "tool"
    assert f"{ROOT}/share/empty" in linked.out.directories
    assert {"opt", ROOT, f"{ROOT}/bin", f"{ROOT}/conda-meta"} <= linked.out.directories
    assert linked.timestamp == TIME


def test_both_formats_link_to_the_same_entries(tmp_path: Path) -> None:
    package = Package(files=[("a", File(b"1")), ("b", File(b"2", mode=0o755))])
    conda, bz2 = link(package, tmp_path), link(package, tmp_path, extension=".tar.bz2")
    assert [(m, conda[n]) for n, m in conda.members.items() if n in conda.files] == [
        (m, bz2[n]) for n, m in bz2.members.items() if n in bz2.files
    ]


def test_a_zip64_archive_is_read(tmp_path: Path) -> None:
    package = Package(files=[("a", File(b"1"))])
    path = package.write(tmp_path)
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, data in parts.items():
            with new.open(name, "w", force_zip64=True) as file:
                file.write(data)
    out = EntryWriter(io.BytesIO().write)
    link_package(ArchiveSource(package.locked(path), path), out)
    assert f"{ROOT}/a" in out.paths


def test_linking_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    package = Package(noarch="python", files=[("site-packages/a.py", File(b"1"))], entry_points=["a = a:b"])
    assert link(package, tmp_path).raw == link(package, tmp_path / "other place").raw


def test_only_what_paths_json_lists_is_installed(tmp_path: Path) -> None:
    package = Package(files=[("a", File(b"1")), ("secret", File(b"2", listed=None))])
    assert link(package, tmp_path).files == {"a"}


def test_a_package_from_before_paths_json_is_linked_by_its_lists(tmp_path: Path) -> None:
    files = [
        ("bin/a", File(b"#!/old/bin/python\n", mode=0o755)),
        ("lib/b", File(b"/opt/anaconda1anaconda2anaconda3/x\0")),
        ("c", File(b"/old")),
    ]
    lists = {
        "paths.json": None,
        "has_prefix": b'"/old" text bin/a\nlib/b\n',
        "no_link": b"c\n",
    }
    linked = link(Package(files=files, info=lists), tmp_path, extension=".tar.bz2")
    assert linked["bin/a"] == f"#!{PREFIX}/bin/python\n".encode()
    assert linked["lib/b"] == f"{PREFIX}/x\0".encode()
    assert linked["c"] == b"/old"


def test_a_hard_link_becomes_a_file_of_its_own(tmp_path: Path) -> None:
    big = bytes(5 << 20)
    files = [
        ("z-link", File(kind=tarfile.LNKTYPE, link="small", mode=0o755)),
        ("small", File(b"content", mode=0o755)),
        ("big", File(big)),
        ("big-1", File(kind=tarfile.LNKTYPE, link="big")),
        ("big-2", File(kind=tarfile.LNKTYPE, link="big")),
    ]
    linked = link(Package(files=files), tmp_path)
    assert linked["z-link"] == b"content"
    assert linked["big-1"] == linked["big-2"] == big
    assert {m.kind for m in linked.members.values()} == {b"0"}


def test_a_loser_s_paths_are_left_out_of_its_entries_and_of_its_record(tmp_path: Path) -> None:
    package = Package(files=[("a", File(b"1")), ("b", File(b"2"))])
    linked = link(package, tmp_path, excluded=["a"])
    assert linked.files == {"b"}
    assert linked.meta["files"] == ["b"]


# --- the prefix


def test_text_gets_the_prefix_and_a_fixed_time(tmp_path: Path) -> None:
    text = f"#!{PLACEHOLDER}/bin/perl -w\nuse lib '{PLACEHOLDER}/lib';\n".encode()
    linked = link(Package(files=[("bin/a", File(text, 0o755, placeholder="text"))]), tmp_path)
    assert linked["bin/a"] == f"#!{PREFIX}/bin/perl -w\nuse lib '{PREFIX}/lib';\n".encode()
    assert linked.members["bin/a"].mtime == GENERATED_TIME
    (record,) = linked.meta["paths_data"]["paths"]
    assert record["sha256"] == hashlib.sha256(text).hexdigest()
    assert record["sha256_in_prefix"] == hashlib.sha256(linked["bin/a"]).hexdigest()
    assert (record["file_mode"], record["prefix_placeholder"]) == ("text", PLACEHOLDER)


def test_a_binary_keeps_its_length_and_each_string_its_end(tmp_path: Path) -> None:
    old = PLACEHOLDER.encode()
    data = b"\x7fELF\0" + old + b"/lib:" + old + b"/lib64\0next\0" + old
    linked = link(Package(files=[("lib/a.so", File(data, placeholder="binary"))]), tmp_path)
    new = linked["lib/a.so"]
    string = f"{PREFIX}/lib:{PREFIX}/lib64".encode()
    assert len(new) == len(data)
    assert new.startswith(
        b"\x7fELF\0" + string + bytes(2 * len(old) - 2 * len(PREFIX) + 1) + b"next\0" + PREFIX.encode()
    )


def test_a_binary_whose_placeholder_is_too_short_is_refused() -> None:
    with pytest.raises(PackageError, match="shorter"):
        replace_prefix(b"/short", "/short", PREFIX, "binary")


@pytest.mark.parametrize(
    ("first", "becomes"),
    [
        ("#!/P/bin/python3.11 -s", "#!/bin/sh\n'''exec' \"{}/bin/python3.11\" -s \"$0\" \"$@\" #'''"),
        ("#!/P/bin/perl -w", "#!/usr/bin/env perl -w"),
        ("#!/usr/bin/env python", "#!/usr/bin/env python"),
    ],
)
def test_a_first_line_too_long_for_linux_finds_its_interpreter_another_way(first: str, becomes: str) -> None:
    prefix = "/a-long-prefix" * 10
    data = replace_prefix(f"{first}\n/P\n".encode(), "/P", prefix, "text")
    assert data.decode() == f"{becomes.format(prefix)}\n{prefix}\n"


@given(st.lists(st.sampled_from([b"/placeholder", b"/lib", b"\0", b"x", b"/place"]), max_size=30))
def test_replacing_in_a_binary_never_changes_its_length(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    patched = bytes(replace_prefix(data, "/placeholder", "/p", "binary"))
    assert len(patched) == len(data)
    assert b"/placeholder" not in patched
    assert patched.replace(b"\0", b"") == data.replace(b"/placeholder", b"/p").replace(b"\0", b"")


# --- noarch python


def test_noarch_python_goes_where_the_locked_python_has_its_site_packages(tmp_path: Path) -> None:
    files = [
        ("site-packages/demo/__init__.py", File(b"1")),
        ("python-scripts/demo.sh", File(b"#!/bin/sh\n", mode=0o755)),
        ("share/x", File(b"2")),
    ]
    package = Package(noarch="python", files=files)
    free_threaded = PythonLayout("3.13.1", "lib/python3.13t/site-packages")
    assert link(package, tmp_path).files == {f"{SITE}/demo/__init__.py", "bin/demo.sh", "share/x"}
    assert (
        "lib/python3.13t/site-packages/demo/__init__.py"
        in link(package, tmp_path, python=free_threaded).files
    )


def test_noarch_generic_stays_where_it_is(tmp_path: Path) -> None:
    package = Package(noarch="generic", files=[("site-packages/x", File(b"1"))])
    assert link(package, tmp_path).files == {"site-packages/x"}


def test_noarch_python_without_a_python_in_the_lock_is_said(tmp_path: Path) -> None:
    with pytest.raises(LockfileError, match="no python"):
        link(Package(noarch="python"), tmp_path, python=None)


def test_entry_points_become_executable_scripts(tmp_path: Path) -> None:
    package = Package(noarch="python", entry_points=["demo-run = demo.cli:App.run [extra]"])
    linked = link(package, tmp_path)
    assert linked["bin/demo-run"].decode().splitlines()[0] == f"#!{PREFIX}/bin/python3.11"
    assert "from demo.cli import App\n" in linked["bin/demo-run"].decode()
    assert "sys.exit(App.run())" in linked["bin/demo-run"].decode()
    assert (linked.members["bin/demo-run"].mode, linked.members["bin/demo-run"].mtime) == (
        0o755,
        GENERATED_TIME,
    )


@pytest.mark.parametrize(
    "point", ["demo", "a/../../b = x:y", ".. = x:y", "a = x", "a = x:y\nimport os", "a = x;y:z"]
)
def test_an_entry_point_that_is_none_is_refused(tmp_path: Path, point: str) -> None:
    with pytest.raises(PackageError, match="entry point"):
        link(Package(noarch="python", entry_points=[point]), tmp_path)


def pyc(stored: int, flags: int = 0) -> bytes:
    return b"\xa7\x0d\x0d\x0a" + struct.pack("<III", flags, stored, 5) + b"code"


@pytest.mark.parametrize("pyc_first", [True, False])
def test_a_module_gets_the_time_that_its_shipped_byte_code_stores(tmp_path: Path, pyc_first: bool) -> None:
    module = (f"{SITE}/a.py", File(b"12345", mtime=TIME))
    cached = (f"{SITE}/__pycache__/a.cpython-311.pyc", File(pyc(TIME - 3600)))
    package = Package(files=[cached, module] if pyc_first else [module, cached])
    linked = link(package, tmp_path)
    assert linked.members[f"{SITE}/a.py"].mtime == TIME - 3600
    assert linked.members[f"{SITE}/__pycache__/a.cpython-311.pyc"].mtime == TIME


def test_a_module_with_hash_based_byte_code_keeps_its_time(tmp_path: Path) -> None:
    files = [
        (f"{SITE}/a.py", File(b"12345", mtime=TIME)),
        (f"{SITE}/__pycache__/a.cpython-311.pyc", File(pyc(77, flags=1))),
    ]
    assert link(Package(files=files), tmp_path).members[f"{SITE}/a.py"].mtime == TIME


def test_what_has_no_byte_code_is_compiled_and_what_has_is_not(tmp_path: Path) -> None:
    asked: list[tuple[str, bytes]] = []

    def compile_sources(sources: Sequence[tuple[str, bytes]]) -> list[bytes | None]:
        asked.extend(sources)
        return [None if b"syntax" in source else b"PYC " + source for _, source in sources]

    files = [
        (f"{SITE}/a.py", File(b"a")),
        (f"{SITE}/b.py", File(b"b")),
        (f"{SITE}/__pycache__/b.cpython-311.pyc", File(pyc(1))),
        (f"{SITE}/bad.py", File(b"syntax error")),
        ("lib/python3.11/os.py", File(b"os")),
        ("share/c.py", File(b"c")),
        (f"{SITE}/pkg/tests/test_a.py", File(b"t")),
    ]
    linked = link(Package(files=files), tmp_path, compile_sources=compile_sources)
    assert [path for path, _ in asked] == [
        f"{PREFIX}/{SITE}/a.py",
        f"{PREFIX}/{SITE}/bad.py",
        f"{PREFIX}/lib/python3.11/os.py",
    ]
    assert linked[f"{SITE}/__pycache__/a.cpython-311.pyc"] == b"PYC a"
    assert linked.members[f"{SITE}/__pycache__/a.cpython-311.pyc"].mtime == GENERATED_TIME
    assert f"{SITE}/__pycache__/bad.cpython-311.pyc" not in linked.members
    kinds = {p["_path"]: p["path_type"] for p in linked.meta["paths_data"]["paths"]}
    assert kinds[f"{SITE}/__pycache__/a.cpython-311.pyc"] == "pyc_file"


# --- conda-meta


def test_the_record_says_what_the_lock_says_and_nothing_of_this_machine(tmp_path: Path) -> None:
    package = Package(files=[("a", File(b"1"))], depends=["python >=3.11", "zlib"], index={"license": "MIT"})
    linked = link(package, tmp_path)
    meta, name = linked.meta, "conda-meta/demo-1.0-h0_0.json"
    assert linked.members[name].mode == 0o644
    assert str(tmp_path) not in linked[name].decode()
    assert meta["channel"] == "https://conda.anaconda.org/conda-forge/"
    assert meta["url"] == "https://conda.anaconda.org/conda-forge/linux-64/demo-1.0-h0_0.conda"
    assert (meta["fn"], meta["depends"], meta["license"]) == (
        "demo-1.0-h0_0.conda",
        ["python >=3.11", "zlib"],
        "MIT",
    )
    assert list(meta) == sorted(meta)


def test_rattler_reads_the_record(tmp_path: Path) -> None:
    from rattler import PrefixRecord

    files = [
        ("a", File(b"1")),
        ("b", File(kind=tarfile.SYMTYPE, link="a")),
        ("c", File(kind=tarfile.DIRTYPE)),
    ]
    linked = link(Package(noarch="python", files=files, entry_points=["x = y:z"]), tmp_path)
    path = tmp_path / "demo-1.0-h0_0.json"
    path.write_bytes(linked["conda-meta/demo-1.0-h0_0.json"])
    record = PrefixRecord.from_path(path)
    assert (record.name.normalized, str(record.version), len(record.files)) == ("demo", "1.0", 4)


# --- hostile archives


def refused(package: Package, folder: Path, words: str, extension: str = ".conda") -> None:
    with pytest.raises(PackageError, match=words) as caught:
        link(package, folder, extension=extension)
    assert caught.value.message.startswith(f"{package.stem}{extension} ")


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../up", "a//b", "./../x", "a/./b"])
@pytest.mark.parametrize("listed", [{}, None])
def test_a_path_out_of_the_prefix_is_refused(
    tmp_path: Path, name: str, listed: dict[str, str] | None
) -> None:
    refused(Package(files=[(name, File(b"1", listed=listed))]), tmp_path, "leads out|out of the prefix")


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "\x1b[31m"])
def test_a_name_with_a_control_character_is_refused(tmp_path: Path, name: str) -> None:
    refused(Package(files=[(name, File(b"1"))]), tmp_path, "control character")


@pytest.mark.parametrize("target", ["/etc/passwd", "../..", "../../../opt", "", "/opt/envbox-evil/x", "a\nb"])
def test_a_link_out_of_the_prefix_is_refused(tmp_path: Path, target: str) -> None:
    package = Package(files=[("bin/x", File(kind=tarfile.SYMTYPE, link=target))])
    refused(package, tmp_path, "leads out|control")


@pytest.mark.parametrize("target", ["..", "../lib/x", "/opt/envbox/lib/x", "y"])
def test_a_link_inside_the_prefix_is_kept(tmp_path: Path, target: str) -> None:
    linked = link(Package(files=[("bin/x", File(kind=tarfile.SYMTYPE, link=target))]), tmp_path)
    assert linked.members["bin/x"].link == target


def test_a_file_through_a_link_of_the_same_package_is_refused(tmp_path: Path) -> None:
    files = [("x", File(kind=tarfile.SYMTYPE, link="lib")), ("x/y", File(b"1"))]
    refused(Package(files=files), tmp_path, "as a folder and as something else")


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_a_device_or_pipe_is_refused(tmp_path: Path, kind: bytes) -> None:
    refused(Package(files=[("dev", File(kind=kind))]), tmp_path, "device")


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6755])
def test_a_setuid_file_is_refused(tmp_path: Path, mode: int) -> None:
    refused(Package(files=[("bin/su", File(b"1", mode=mode))]), tmp_path, "setuid")


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ({"sha256": "0" * 64}, "its own paths.json says 000"),
        ({"size_in_bytes": 99}, "with 99 bytes, but has 3"),
        ({"path_type": "softlink"}, "as a softlink"),
        ({"path_type": "windows"}, "windows"),
        ({"size_in_bytes": -1}, "size of -1"),
        ({"_path": "elsewhere"}, "does not have it"),
    ],
)
def test_a_paths_json_that_lies_is_refused(tmp_path: Path, listed: dict[str, object], words: str) -> None:
    refused(Package(files=[("a", File(b"123", listed=listed))]), tmp_path, re.escape(words))


def test_a_large_streamed_file_is_held_against_its_hash_as_well(tmp_path: Path) -> None:
    big = File(bytes(5 << 20), listed={"sha256": "0" * 64})
    refused(Package(files=[("a", big)]), tmp_path, "paths.json says")


def test_a_member_twice_is_refused(tmp_path: Path) -> None:
    package = Package(files=[("a", File(b"1")), ("a", File(b"2"))])
    refused(replace(package, files=[("a", File(b"1")), ("./a", File(b"1", listed=None))]), tmp_path, "twice")
    refused(package, tmp_path, "twice")


def test_two_members_for_one_path_are_refused(tmp_path: Path) -> None:
    files = [("site-packages/a", File(b"1")), (f"{SITE}/a", File(b"1"))]
    refused(Package(noarch="python", files=files), tmp_path, "one path")


def test_a_hard_link_to_nothing_is_refused(tmp_path: Path) -> None:
    link_to = File(kind=tarfile.LNKTYPE, link="b")
    package = Package(files=[("a", link_to), ("b", File(kind=tarfile.DIRTYPE))])
    refused(package, tmp_path, "hard link to 'b'")


@pytest.mark.parametrize("extension", [".conda", ".tar.bz2"])
@pytest.mark.parametrize("missing", ["index.json", "paths.json"])
def test_missing_info_is_refused(tmp_path: Path, missing: str, extension: str) -> None:
    lists: dict[str, bytes | None] = {missing: None, "files": None}
    refused(Package(files=[("a", File(b"1"))], info=lists), tmp_path, "has (no|neither) info/", extension)


DEEP = b'{"a":' + b"[" * 500 + b"]" * 500 + b"}"  # it can just be read, and not be written
HUGE = b'{"a": ' + b"9" * 10_000 + b"}"


@pytest.mark.parametrize(
    "text", [b"", b"<html>", b"[]", b"\xff\xfe", b'{"paths": 3}', b'{"a":' * 100_000, DEEP, HUGE]
)
@pytest.mark.parametrize("name", ["index.json", "paths.json", "link.json"])
def test_info_that_is_not_what_it_should_be_is_refused(tmp_path: Path, name: str, text: bytes) -> None:
    if name == "link.json" and text.startswith(b"{"):
        text = b'{"noarch": {"entry_points": "x"}}'
    refused(Package(noarch="python", info={name: text}), tmp_path, ".")


@pytest.mark.parametrize("extension", [".conda", ".tar.bz2"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_archive_is_refused(tmp_path: Path, share: float, extension: str) -> None:
    package = Package(files=[("a", File(b"123" * 1000))])
    path = package.write(tmp_path, extension)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(PackageError, match=r"damaged|middle|has no info"):
        link_package(ArchiveSource(package.locked(path), path), EntryWriter(io.BytesIO().write))


def test_an_archive_that_is_not_the_lock_s_is_refused_and_deleted_from_the_cache(tmp_path: Path) -> None:
    package = Package(files=[("a", File(b"1"))])
    there = package.write(tmp_path)
    locked = package.locked(there)
    there.write_bytes(there.read_bytes() + b"!")
    with pytest.raises(PackageError, match="damaged"):
        link_package(ArchiveSource(locked, there), EntryWriter(io.BytesIO().write))
    assert there.exists()
    cached = tmp_path / locked.sha256 / there.name
    cached.parent.mkdir()
    there.rename(cached)
    with pytest.raises(PackageError, match="damaged"):
        link_package(ArchiveSource(locked, cached), EntryWriter(io.BytesIO().write))
    assert not cached.exists()


@pytest.mark.parametrize("field", ["name", "version", "build"])
def test_an_archive_of_another_package_is_refused(tmp_path: Path, field: str) -> None:
    refused(Package(index={field: "other"}), tmp_path, "says it is .*other")


def test_a_bomb_that_says_its_size_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    package = Package(files=[("a", File(b"", listed={"size_in_bytes": 1 << 42}))])
    refused(package, tmp_path, "unpacks to")


def test_a_bomb_that_hides_its_size_is_refused(tmp_path: Path) -> None:
    zeros = File(bytes(64 << 20), listed={"size_in_bytes": 1})
    refused(Package(files=[("a", zeros)]), tmp_path, "with 1 bytes")


def test_an_info_file_beyond_all_measure_is_refused(tmp_path: Path) -> None:
    refused(Package(info={"index.json": bytes(65 << 20)}), tmp_path, "info/index.json of")


def test_a_post_link_script_is_named_and_refused(tmp_path: Path) -> None:
    package = Package(files=[("bin/.demo-post-link.sh", File(b"#!/bin/sh\n", mode=0o755))])
    with pytest.raises(PackageError, match=r"\.demo-post-link\.sh") as caught:
        link(package, tmp_path)
    assert "demo" in str(caught.value.hint)


def test_a_zip_without_a_payload_or_with_two_is_refused(tmp_path: Path) -> None:
    package = Package()
    path = package.write(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("info-other.tar.zst", b"")
    with pytest.raises(PackageError, match="has 2 info-"):
        link_package(ArchiveSource(package.locked(path), path), EntryWriter(io.BytesIO().write))


@given(st.data())
def test_noise_in_an_archive_is_refused_and_never_crashes(data: st.DataObject) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        package = Package(files=[("a", File(b"1" * 600)), ("b" * 120, File(b"x", placeholder="text"))])
        path = package.write(Path(name))
        noisy = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            noisy[data.draw(st.integers(0, len(noisy) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(noisy)
        with contextlib.suppress(PackageError):
            link_package(ArchiveSource(package.locked(path), path), EntryWriter(io.BytesIO().write))


def test_memory_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    """tracemalloc sees Python's own buffers, which are what could grow; zstd's window is bounded by zstd."""
    noise = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(1 << 16))
    files = [(f"lib/{n}.so", File(noise * 24)) for n in range(4)]
    package = Package(files=files)
    path = tmp_path / "demo-1.0-h0_0.conda"
    info = [(f"info/{name}", File(data or b"")) for name, data in package._info().items()]
    write_conda(path, package.stem, info, files)
    locked = package.locked(path)
    tracemalloc.start()
    try:
        out = EntryWriter(lambda data: None)
        link_package(ArchiveSource(locked, path), out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(out.paths) == 5
    assert peak < 16 << 20


def test_the_tests_own_writer_is_honest() -> None:
    with tarfile.open(fileobj=io.BytesIO(tarball([("a", File(b"1"))]))) as archive:
        assert archive.getnames() == ["a"]
