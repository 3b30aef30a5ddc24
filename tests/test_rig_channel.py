"""The channel: real, complete, and the same bytes every time."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.rig_checks import channel_of, installed, solved

from rigging import (
    conda_package,
    wheels,
)
from rigging.conda_package import PLACEHOLDER, Entry, Package, softlink
from rigging.places import Places

if TYPE_CHECKING:
    from conftest import Rig

TOOLS = Path(__file__).parents[1] / "tools"
MAPS = ["python >=3.11", "numpy", "basemap", "matplotlib", "ipython", "ipykernel", "jupyterlab"]
COURSE = ["python", "pandas", "scipy", "matplotlib", "jupyterlab", "nbclient"]
BASE = ["python", "ipython", "numpy"]


@pytest.mark.rig
@pytest.mark.parametrize("platform", ["linux-64", "linux-aarch64"])
@pytest.mark.parametrize("specs", [MAPS, COURSE, BASE], ids=["maps", "course", "base"])
def test_the_channel_solves_the_projects_environments(rig: Rig, specs: list[str], platform: str) -> None:
    assert {"python", "numpy"} <= solved(channel_of(rig), specs, platform).keys()


@pytest.mark.rig
def test_python_is_the_same_version_on_both_platforms(rig: Rig) -> None:
    versions = {
        str(solved(channel_of(rig), ["python"], p)["python"].version) for p in ("linux-64", "linux-aarch64")
    }
    assert len(versions) == 1


@pytest.mark.rig
@pytest.mark.parametrize("name", ["numpy", "ipython", "basemap", "pandas", "matplotlib", "awkward-tiny"])
def test_several_versions_are_there(rig: Rig, name: str) -> None:
    found = set()
    for subdir in ("linux-64", "noarch"):
        index = json.loads((rig.channel_dir / subdir / "repodata.json").read_text())
        found |= {r["version"] for r in index["packages.conda"].values() if r["name"] == name}
    assert len(found) >= 2


@pytest.mark.rig
def test_an_installed_environment_draws_a_coastline(rig: Rig, tmp_path: Path, package_cache: Path) -> None:
    prefix = installed(channel_of(rig), ["numpy", "basemap"], tmp_path / "prefix", package_cache)
    code = (
        "import numpy, matplotlib; matplotlib.use('Agg')\n"
        "from mpl_toolkits.basemap import Basemap\n"
        "print(len(Basemap(resolution='c').coastsegs))"
    )
    done = subprocess.run(
        [prefix / "bin/python", "-I", "-c", code], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 50


@pytest.mark.rig
def test_python_knows_its_prefix_and_nothing_of_debian(rig: Rig, tmp_path: Path, package_cache: Path) -> None:
    prefix = installed(channel_of(rig), ["python"], tmp_path / "prefix", package_cache)
    code = (
        "import ssl, sqlite3, ctypes, lzma, bz2, curses, readline, uuid\n"
        "import json, site, sys, sysconfig, zoneinfo\n"
        "zoneinfo.ZoneInfo('Europe/Berlin')\n"
        "print(json.dumps([sys.prefix, sysconfig.get_path('purelib'), sysconfig.get_config_var('prefix'),"
        " sysconfig.get_config_var('LIBDIR'), site.getsitepackages()]))"
    )
    for options in (["-I"], ["-E"], []):
        done = subprocess.run(
            [prefix / "bin/python", *options, "-c", code], capture_output=True, text=True, check=True
        )
        where, purelib, configured, libraries, sites = json.loads(done.stdout)
        assert where == configured == str(prefix)
        assert purelib == f"{prefix}/lib/python3.11/site-packages"
        assert libraries.startswith(str(prefix))
        assert purelib in sites
        assert not any("dist-packages" in path for path in sites)
    bare = [str(prefix / "bin/python"), "-I", "-S", "-c", "import zlib, _ctypes"]
    subprocess.run(bare, check=True)


@pytest.mark.rig
def test_the_index_is_not_stamped_with_the_time_of_indexing(rig: Rig) -> None:
    for subdir in ("linux-64", "linux-aarch64", "noarch"):
        index = json.loads((rig.channel_dir / subdir / "repodata.json").read_text())
        records = [*index["packages"].values(), *index["packages.conda"].values()]
        assert records
        assert all(r["indexed_timestamp"] == r["timestamp"] for r in records)


@pytest.mark.rig
def test_the_index_tells_the_truth_about_every_archive(rig: Rig) -> None:
    for subdir in ("linux-64", "linux-aarch64", "noarch"):
        index = json.loads((rig.channel_dir / subdir / "repodata.json").read_text())
        records = {**index["packages"], **index["packages.conda"]}
        assert set(records) == {
            p.name for p in (rig.channel_dir / subdir).iterdir() if p.suffix in (".conda", ".bz2")
        }
        for name, record in records.items():
            data = (rig.channel_dir / subdir / name).read_bytes()
            assert (record["sha256"], record["size"]) == (hashlib.sha256(data).hexdigest(), len(data))


@pytest.mark.rig
def test_the_channels_index_is_the_same_bytes_twice(rig: Rig, tmp_path: Path) -> None:
    """In the rig's own virtual environment, since it is its rattler that indexes."""
    code = (
        "import asyncio, pathlib, sys, time\n"
        "from rigging import awkward, channel, conda_package\n"
        "for name in sys.argv[1:]:\n"
        "    for subdir in ('noarch', 'linux-64', 'linux-aarch64'):\n"
        "        pathlib.Path(name, subdir).mkdir(parents=True)\n"
        "    for package in awkward.packages():\n"
        "        conda_package.write(package, pathlib.Path(name))\n"
        "    asyncio.run(channel.index(pathlib.Path(name)))\n"
        "    time.sleep(1.1)\n"
    )
    python = rig.channel_dir.parents[1] / "venv/bin/python"
    folders = [tmp_path / "once", tmp_path / "twice"]
    subprocess.run([python, "-c", code, *folders], check=True, env={**os.environ, "PYTHONPATH": str(TOOLS)})
    once, twice = (
        {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        for folder in folders
    )
    assert once == twice
    assert Path("noarch/repodata_shards.msgpack.zst") in once


def a_package() -> Package:
    files = {
        "bin/tool": Entry(f"#!{PLACEHOLDER}/bin/python\n".encode(), 0o755),
        "lib/link": softlink("../bin/tool"),
    }
    return Package("thing", "1.0", "noarch", files=files, index={"noarch": "generic"})


@pytest.mark.parametrize("write", [conda_package.write, conda_package.write_tar_bz2])
def test_a_package_is_the_same_bytes_twice(tmp_path: Path, write: Any) -> None:
    once, twice = (write(a_package(), tmp_path / name).read_bytes() for name in ("once", "twice"))
    assert once == twice


def test_other_contents_never_have_the_same_name() -> None:
    package = a_package()
    other = Package(package.name, package.version, "noarch", files={**package.files, "a": Entry(b"a")})
    assert package.stem != other.stem


@pytest.mark.rig
def test_a_wheel_becomes_the_same_bytes_twice(rig: Rig, tmp_path: Path) -> None:
    from rigging import from_wheel

    root = Places(rig.channel_dir.parents[1])
    for pin in wheels.pins():
        if pin.project in ("ipython", "pyzmq", "markupsafe"):
            package = from_wheel.convert(from_wheel.read(root.wheels / pin.file))
            once, twice = (conda_package.write(package, tmp_path / n).read_bytes() for n in "ab")
            assert once == twice
            if "channel" in pin.used:
                there = rig.channel_dir / package.subdir / f"{package.stem}.conda"
                assert there.read_bytes() == once
