"""The awkward packages are as awkward as they promise, by what rattler makes of them."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.rig_checks import channel_of, installed, solved

from rigging import awkward, tiny_elf
from rigging.conda_package import PLACEHOLDER

if TYPE_CHECKING:
    from conftest import Rig

TOOLS = Path(__file__).parents[1] / "tools"


@pytest.fixture(scope="module")
def awkward_prefix(rig: Rig, tmp_path_factory: pytest.TempPathFactory, package_cache: Path) -> Path:
    """All awkward packages that can be together, as rattler installs them (it refuses an empty directory)."""
    names = {p.name for p in awkward.packages() if p.subdir in ("noarch", "linux-64")} - {
        "awkward-clobber-two",
        "awkward-empty-directory",
    }
    prefix = tmp_path_factory.mktemp("awkward") / "prefix"
    return installed(channel_of(rig), [*sorted(names), "awkward-old-format"], prefix, package_cache)


@pytest.mark.rig
def test_activation_scripts_and_variables_are_there(awkward_prefix: Path) -> None:
    script = awkward_prefix / "etc/conda/activate.d/awkward-activate.sh"
    command = f'CONDA_PREFIX={awkward_prefix}; . {script}; echo "$AWKWARD_ACTIVATED"; awkward-on-path'
    done = subprocess.run(["sh", "-eu", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == f"1.1 at {awkward_prefix}\nfound\n"
    variables = json.loads((awkward_prefix / "etc/conda/env_vars.d/awkward.json").read_text())
    assert variables["AWKWARD_VARIABLE"] == "from env_vars.d"


@pytest.mark.rig
def test_a_binary_prints_the_prefix_that_was_patched_in(awkward_prefix: Path) -> None:
    program = awkward_prefix / "bin/awkward-where"
    done = subprocess.run([program], capture_output=True, text=True, check=True)
    assert done.stdout == f"{awkward_prefix}/share/awkward\n"
    whole = tiny_elf.program("linux-64", f"{PLACEHOLDER}/share/awkward".encode())
    assert program.stat().st_size == len(whole)  # as a binary: nothing after the prefix has moved


@pytest.mark.rig
def test_texts_have_the_prefix_and_a_long_shebang_was_too_long(awkward_prefix: Path) -> None:
    assert str(awkward_prefix) in (awkward_prefix / "share/awkward/where.txt").read_text()
    assert len(f"#!/opt/envbox/share/awkward/{awkward.LONG}/python") > 127
    for name in ("awkward-short-shebang", "awkward-long-shebang"):
        environment = {"PATH": f"{awkward_prefix}/bin:{os.environ['PATH']}"}
        done = subprocess.run(
            [awkward_prefix / "bin" / name], capture_output=True, text=True, env=environment, check=True
        )
        assert done.stdout == f"{awkward_prefix}\n"


@pytest.mark.rig
def test_links_names_and_conflicts(awkward_prefix: Path) -> None:
    share = awkward_prefix / "share/awkward"
    assert {p.name: str(p.readlink()) for p in (share / "links").iterdir() if p.is_symlink()} == {
        "to-file": "folder/file.txt",
        "to-folder": "folder",
        "to-link": "to-file",
        "dangling": "folder/not-there.txt",
    }
    assert (share / "a file with spaces.txt").exists()
    assert (share / "naïve Ωmega файл.txt").exists()
    assert (share / "hard/second.txt").read_bytes() == (share / "hard/first.txt").read_bytes()
    assert (share / "clobbered.txt").read_text() == "dependent\n"
    assert (share / "tiny.txt").read_text() == "2.0\n"
    assert str(awkward_prefix) in (share / "old.txt").read_text()
    assert not (awkward_prefix / "share/awkward-post-link.txt").exists()  # rattler runs no scripts


@pytest.mark.rig
def test_entry_points_of_a_project_with_an_odd_name_run(awkward_prefix: Path) -> None:
    for name, words in (("awkward-noarch", "awkward noarch python"), ("awkward.dotted", "dotted")):
        done = subprocess.run([awkward_prefix / "bin" / name], capture_output=True, text=True, check=True)
        assert done.stdout == f"{words}\n"


@pytest.mark.rig
def test_the_shipped_byte_code_is_right_for_the_floored_time(awkward_prefix: Path) -> None:
    site = awkward_prefix / "lib/python3.11/site-packages"
    os.utime(site / "awkward_bytecode.py", (1700000000, 1700000000))
    code = "import awkward_bytecode, sys; print(awkward_bytecode.VALUE)"
    done = subprocess.run(
        [awkward_prefix / "bin/python", "-v", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout == "from the file\n"
    assert re.search(r"matches .*awkward_bytecode\.py", done.stderr)


@pytest.mark.rig
def test_archives_hold_what_installers_trip_over(rig: Rig) -> None:
    def members(name: str, subdir: str = "noarch") -> list[tarfile.TarInfo]:
        import zstandard

        (path,) = (rig.channel_dir / subdir).glob(f"{name}-1.0-*.conda")
        with zipfile.ZipFile(path) as archive:
            (inner,) = (n for n in archive.namelist() if n.startswith("pkg-"))
            raw = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(archive.read(inner))).read()
        with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
            return tar.getmembers()

    assert sum(m.islnk() for m in members("awkward-hardlinks")) == 2
    assert any(m.isdir() for m in members("awkward-empty-directory"))
    assert any("mtime" in m.pax_headers for m in members("awkward-bytecode", "linux-64"))
    assert any("post-link" in m.name for m in members("awkward-post-link"))
    assert list((rig.channel_dir / "noarch").glob("awkward-old-format-*.tar.bz2"))
    assert not list((rig.channel_dir / "linux-64").glob("awkward-only-aarch64*"))
    assert list((rig.channel_dir / "linux-aarch64").glob("awkward-only-aarch64*"))


@pytest.mark.rig
def test_a_second_channel_has_another_version_of_the_same_package(rig: Rig) -> None:
    found = solved(channel_of(rig, "awkward"), ["awkward-tiny", "awkward-elsewhere"])
    assert str(found["awkward-tiny"].version) == "9.0"


def test_the_tiny_program_runs(tmp_path: Path) -> None:
    if os.uname().machine not in ("x86_64", "aarch64"):
        pytest.skip("no program for this machine")
    subdir = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}[os.uname().machine]
    path = tmp_path / "program"
    path.write_bytes(tiny_elf.program(subdir, b"hello\0\0\0"))
    path.chmod(0o755)
    assert subprocess.run([path], capture_output=True, check=True).stdout == b"hello\n"
