"""The rig is what the other tests stand on: real, complete, and the same bytes every time."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rigging import (
    awkward,
    conda_package,
    debian,
    debian_tree,
    http_server,
    services,
    state,
    tiny_elf,
    wheels,
)
from rigging.conda_package import PLACEHOLDER, Entry, Package, softlink
from rigging.places import Places
from rigging.services import Service

if TYPE_CHECKING:
    from conftest import Rig

TOOLS = Path(__file__).parents[1] / "tools"
MAPS = ["python >=3.11", "numpy", "basemap", "matplotlib", "ipython", "ipykernel", "jupyterlab"]
COURSE = ["python", "pandas", "scipy", "matplotlib", "jupyterlab", "nbclient"]
BASE = ["python", "ipython", "numpy"]


async def _solve(channel: str, specs: Sequence[str], platform: str) -> list[Any]:
    from rattler import (
        BuildString,
        Channel,
        GenericVirtualPackage,
        PackageName,
        Version,
        solve,
    )

    known = {"__unix": "0", "__linux": "6", "__glibc": "2.36"}
    virtual = [
        GenericVirtualPackage(PackageName(name), Version(version), BuildString("0"))
        for name, version in known.items()
    ]
    found = await solve(
        [Channel(channel)], list(specs), platforms=[platform, "noarch"], virtual_packages=virtual
    )
    return list(found)


def solved(channel: str, specs: Sequence[str], platform: str = "linux-64") -> dict[str, Any]:
    return {r.name.normalized: r for r in asyncio.run(_solve(channel, specs, platform))}


def installed(channel: str, specs: Sequence[str], prefix: Path, cache: Path) -> Path:
    async def work() -> None:
        from rattler import install

        records = await _solve(channel, specs, "linux-64")
        await install(records, prefix, cache_dir=cache, show_progress=False)

    asyncio.run(work())
    return prefix


def channel_of(rig: Rig, name: str = "conda-forge") -> str:
    mirrors = dict(pair.split("=", 1) for pair in rig.env["ENVBOX_MIRRORS"].split())
    return mirrors[f"https://conda.anaconda.org/{name}"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packages")


# --- the channel


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
def test_an_installed_environment_draws_a_coastline(rig: Rig, tmp_path: Path, cache: Path) -> None:
    prefix = installed(channel_of(rig), ["numpy", "basemap"], tmp_path / "prefix", cache)
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
def test_python_knows_its_prefix_and_nothing_of_debian(rig: Rig, tmp_path: Path, cache: Path) -> None:
    prefix = installed(channel_of(rig), ["python"], tmp_path / "prefix", cache)
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
    bare = [prefix / "bin/python", "-I", "-S", "-c", "import zlib, _ctypes"]
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


# --- the awkward packages


@pytest.fixture(scope="module")
def awkward_prefix(rig: Rig, tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """All awkward packages that can be together, as rattler installs them (it refuses an empty directory)."""
    names = {p.name for p in awkward.packages() if p.subdir in ("noarch", "linux-64")} - {
        "awkward-clobber-two",
        "awkward-empty-directory",
    }
    prefix = tmp_path_factory.mktemp("awkward") / "prefix"
    return installed(channel_of(rig), [*sorted(names), "awkward-old-format"], prefix, cache)


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
    done = subprocess.run([awkward_prefix / "bin/awkward-where"], capture_output=True, text=True, check=True)
    assert done.stdout == f"{awkward_prefix}/share/awkward\n"


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


# --- the package index


@pytest.mark.rig
def test_the_package_index_serves_what_it_says(rig: Rig) -> None:
    mirrors = dict(pair.split("=", 1) for pair in rig.env["ENVBOX_MIRRORS"].split())
    simple = mirrors["https://pypi.org/simple"]
    root = fetch(f"{simple}/")[1].decode()
    projects = re.findall(r'href="([^"]+)/"', root)
    assert {"tqdm", "tabulate", "python-slugify", "markupsafe", "awkward-sdist"} <= set(projects)
    for project in projects:
        page = fetch(f"{simple}/{project}/")[1].decode()
        for href, sha256 in re.findall(r'href="\.\./\.\./(\S+)#sha256=([0-9a-f]{64})"', page):
            files = mirrors["https://files.pythonhosted.org/packages"].rpartition("/packages")[0]
            assert hashlib.sha256(fetch(f"{files}/{href}")[1]).hexdigest() == sha256
            if href.endswith(".whl"):
                (stated,) = re.findall(
                    rf'{re.escape(href)}#\S+ data-core-metadata="sha256=([0-9a-f]{{64}})"', page
                )
                metadata = fetch(f"{files}/{href}.metadata")[1]
                assert hashlib.sha256(metadata).hexdigest() == stated


@pytest.mark.rig
def test_pip_installs_from_the_package_index(rig: Rig, tmp_path: Path) -> None:
    mirrors = dict(pair.split("=", 1) for pair in rig.env["ENVBOX_MIRRORS"].split())
    command = [sys.executable, "-m", "pip", "download", "-q", "--isolated", "-d", tmp_path]
    command += ["--index-url", mirrors["https://pypi.org/simple"], "python-slugify"]
    subprocess.run(command, check=True)
    assert {p.name.split("-")[0] for p in tmp_path.iterdir()} == {"python_slugify", "text_unidecode"}


@pytest.mark.rig
def test_the_table_of_names_is_in_conda_locks_format(rig: Rig) -> None:
    table = json.loads(fetch(rig.env["ENVBOX_MAPPING_URL"])[1])
    assert table["jupyter-client"]["conda_name"] == "jupyter_client"
    assert table["matplotlib"]["conda_name"] == "matplotlib-base"
    assert {"conda_name", "import_name", "mapping_source", "pypi_name"} == table["numpy"].keys()


# --- the registry and the base


def fetch(url: str, **headers: str) -> tuple[int, bytes, Any]:
    request = urllib.request.Request(url, headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as response:
            return response.status, response.read(), response.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


@pytest.mark.rig
def test_the_registry_serves_the_base_for_both_platforms(rig: Rig) -> None:
    import gzip

    root = f"http://{rig.registry}/v2/continuumio/miniconda3"
    kind = "application/vnd.oci.image.index.v1+json"
    _, data, headers = fetch(f"{root}/manifests/25.3.1-1", Accept=kind)
    assert headers["Docker-Content-Digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
    index = json.loads(data)
    assert {m["platform"]["architecture"] for m in index["manifests"]} == {"amd64", "arm64"}
    for entry in index["manifests"]:
        data = fetch(f"{root}/manifests/{entry['digest']}", Accept=entry["mediaType"])[1]
        assert entry["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
        manifest = json.loads(data)
        config = json.loads(fetch(f"{root}/blobs/{manifest['config']['digest']}")[1])
        assert config["architecture"] == entry["platform"]["architecture"]
        assert "PATH=/opt/conda/bin:/usr/local/sbin:" in config["config"]["Env"][0]
        assert len(manifest["layers"]) == 2
        names: set[str] = set()
        for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
            blob = fetch(f"{root}/blobs/{layer['digest']}")[1]
            assert layer["digest"] == f"sha256:{hashlib.sha256(blob).hexdigest()}"
            raw = gzip.decompress(blob)
            assert diff_id == f"sha256:{hashlib.sha256(raw).hexdigest()}"
            with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
                found = [m.name for m in tar]
            assert len(found) == len(set(found))
            names |= set(found)
        assert {"usr/bin/bash", "var/lib/dpkg/status", "opt/conda/bin/python3.11"} <= names
        assert any(re.fullmatch(r"usr/lib/\S+/libc\.so\.6", name) for name in names)


@pytest.mark.rig
def test_the_base_is_a_debian_with_a_python(rig: Rig) -> None:
    repository = f"{rig.registry}/continuumio/miniconda3"
    kind = "application/vnd.oci.image.index.v1+json"
    data = fetch(f"http://{rig.registry}/v2/continuumio/miniconda3/manifests/25.3.1-1", Accept=kind)[1]
    reference = f"{repository}@sha256:{hashlib.sha256(data).hexdigest()}"
    command = "dpkg --audit && apt-get check -qq && python -c 'import ssl; print(ssl.__file__)' && su -c true"
    done = subprocess.run(
        ["docker", "run", "--rm", reference, "bash", "-c", command],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "/opt/conda/lib/python3.11/ssl.py\n"


def test_what_a_debian_needs_is_found_in_its_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = {
        "a": {"Depends": "b (>= 1), c | d"},
        "b": {"Pre-Depends": "e"},
        "d": {},
        "e": {"Depends": "a"},
    }
    monkeypatch.setattr(debian, "fields", lambda deb: control[deb.name])
    debs = {name: tmp_path / name for name in control}
    assert debian_tree.closure(debs, ["a"]) == ["a", "b", "d", "e"]


# --- apt's sources


def test_the_mirror_is_the_machines_own_in_both_formats(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# deb http://commented.example/debian bookworm main\n"
        "deb http://security.example/debian-security trixie-security main\n"
        "deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://one.example/debian trixie main contrib\n"
    )
    (tmp_path / "sources.list.d/debian.sources").write_text(
        "Types: deb deb-src\n# a comment\nURIs: http://two.example/debian\n"
        "Suites: bookworm\n bookworm-updates\nComponents: main\nSigned-By: /k.gpg\n\n"
        "Types: deb\nURIs: http://off.example/debian\nSuites: bookworm\nComponents: main\nEnabled: no\n"
    )
    found = list(debian.sources(tmp_path))
    assert [(s.uri, s.suite) for s in found] == [
        ("http://security.example/debian-security", "trixie-security"),
        ("http://one.example/debian", "trixie"),
        ("http://two.example/debian", "bookworm"),
        ("http://two.example/debian", "bookworm-updates"),
    ]
    assert debian.mirror(iter(found)).signed_by == "/usr/share/keyrings/x.gpg"


def test_a_machine_without_debian_is_told_so() -> None:
    with pytest.raises(state.RigError, match="no Debian mirror"):
        debian.mirror(iter([debian.Source("http://other.example/apt", "cloud-sdk-bookworm", ("main",))]))


@pytest.mark.parametrize(
    ("version", "upstream"),
    [
        ("3.11.2-6+deb12u9", "3.11.2"),
        ("1:1.2.13.dfsg-1", "1.2.13"),
        ("6.4-4", "6.4"),
        ("2026b-0+deb12u1", "2026b"),
    ],
)
def test_debians_version_becomes_upstreams(version: str, upstream: str) -> None:
    assert debian.upstream_version(version) == upstream


# --- wheels


def test_rounds_hold_one_version_of_a_project_and_one_machine() -> None:
    dealt = wheels.rounds(wheels.pins())
    assert sum(map(len, dealt)) == len(wheels.pins())
    for round_ in dealt:
        assert len({pin.project for pin in round_}) == len(round_)
        assert len({pin.machine for pin in round_}) == 1


# --- the web server


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    import threading

    server = http_server.serve(tmp_path, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", tmp_path
    server.shutdown()
    server.server_close()


def test_a_file_that_is_known_is_answered_with_its_validators(served: tuple[str, Path]) -> None:
    url, folder = served
    (folder / "repodata.json").write_text("{}")
    _, _, headers = fetch(f"{url}/repodata.json")
    status, body, again = fetch(f"{url}/repodata.json", If_None_Match=headers["ETag"])
    assert (status, body, again["ETag"]) == (304, b"", headers["ETag"])
    assert again["Last-Modified"] == headers["Last-Modified"]
    assert again["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    ("wanted", "status", "body"),
    [
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=5-99", 206, b"56789"),
        ("bytes=10-", 416, b""),
        ("lines=1-2", 200, b"0123456789"),
    ],
)
def test_ranges(served: tuple[str, Path], wanted: str, status: int, body: bytes) -> None:
    url, folder = served
    (folder / "digits").write_text("0123456789")
    assert fetch(f"{url}/digits", Range=wanted)[:2] == (status, body)


def test_what_is_not_there_or_outside_is_not_found(served: tuple[str, Path]) -> None:
    url, folder = served
    (folder.parent / "secret").write_text("x")
    assert fetch(f"{url}/nothing")[0] == 404
    assert fetch(f"{url}/../secret")[0] == 404
    assert fetch(f"{url}/%2e%2e/secret")[0] == 404


# --- services and state


def a_service(log: str = "") -> Service:
    code = (
        f"import time; print({log!r}, flush=True); time.sleep(60)"
        if not log
        else f"raise SystemExit({log!r})"
    )
    return Service("thing", (sys.executable, "-c", code), lambda: not log, patience=5)


def test_a_service_is_started_once_and_stopped(tmp_path: Path) -> None:
    places = Places(tmp_path)
    assert services.ensure(a_service(), places)
    pid = services.process("thing", places)
    assert pid is not None
    assert not services.ensure(a_service(), places)
    assert services.process("thing", places) == pid
    assert services.stop("thing", places)
    assert services.process("thing", places) is None
    assert not services.stop("thing", places)


def test_a_pid_that_is_somebody_elses_by_now_is_left_alone(tmp_path: Path) -> None:
    places = Places(tmp_path)
    state.write_whole(places.run / "thing.pid", f"{os.getpid()} 1 -\n".encode())
    assert services.process("thing", places) is None
    assert not services.stop("thing", places)  # and this test runs on


def test_a_service_that_dies_is_told_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(state.RigError, match="no such luck"):
        services.ensure(a_service("no such luck"), Places(tmp_path))


def test_a_port_is_kept_until_somebody_else_has_it(tmp_path: Path) -> None:
    import socket

    places = Places(tmp_path)
    number = services.port(places, "thing")
    assert services.port(places, "thing") == number
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", number))
        taken.listen()
        assert services.port(places, "thing") != number


def test_a_damaged_state_is_no_state(tmp_path: Path) -> None:
    places = Places(tmp_path)
    state.record(places, a=1)
    state.record(places, b=2)
    assert state.read(places) == {"a": 1, "b": 2}
    places.state.write_text('{"a": ')
    assert state.read(places) == {}


# --- the command


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RIG_DIR": str(folder)}
    return subprocess.run(
        [TOOLS / "rig", *arguments], capture_output=True, text=True, env=environment, check=False
    )


def test_env_of_a_rig_that_is_not_up_says_what_to_do(tmp_path: Path) -> None:
    done = run("env", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: the rig is not ready\nhint: run tools/rig up\n"


def test_status_of_a_rig_that_is_not_up_is_one(tmp_path: Path) -> None:
    done = run("status", folder=tmp_path)
    assert done.returncode == 1
    assert "not running" in done.stdout


@pytest.mark.rig
def test_env_is_safe_to_evaluate_and_stays_the_same(rig: Rig) -> None:
    shown = subprocess.run([TOOLS / "rig", "env"], capture_output=True, text=True, check=True).stdout
    command = 'eval "$1"; printf %s "$ENVBOX_MIRRORS"'
    done = subprocess.run(["sh", "-c", command, "sh", shown], capture_output=True, text=True, check=True)
    assert done.stdout == rig.env["ENVBOX_MIRRORS"]
    assert subprocess.run([TOOLS / "rig", "up"], check=True).returncode == 0
    again = subprocess.run([TOOLS / "rig", "env"], capture_output=True, text=True, check=True).stdout
    assert again == shown
