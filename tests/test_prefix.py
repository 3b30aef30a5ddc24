"""A prefix on this machine has the image's files, is looked at before it is used, and heals."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from support.packages import PLACEHOLDER, File, Package, lock_of
from support.paper_registry import PaperRegistry, serving
from support.prefix_view import Seen, seen
from support.tiny import Tiny, make_tiny

from envbox.cache.contents import free
from envbox.cache.memo import sealed, sealed_content
from envbox.engine import Engine
from envbox.engine.address import Address
from envbox.engine.docker import DockerEngine
from envbox.engine.find import connect
from envbox.engine.locality import obstacle as engine_obstacle
from envbox.image_paths import PREFIX
from envbox.images.build import make_image
from envbox.lockfile.conda_lock_v1 import dumps
from envbox.packages.fetch import fetch_archives
from envbox.packages.link import folders as folders_module
from envbox.packages.link import packages
from envbox.packages.link import unpack as unpacking
from envbox.packages.link.folders import PLACE as PACKAGES
from envbox.packages.link.folders import Folder, read_folder
from envbox.packages.link.fragments import FileEntry, link_packages
from envbox.packages.link.frames import compress, decompress
from envbox.packages.link.packages import Installation, LinkTask
from envbox.packages.link.tar import SYMLINK, TarReader
from envbox.packages.link.unpack import unpack_packages
from envbox.prefixes import tree
from envbox.prefixes.assembly import DamagedError, clear_leftovers, make_tree, tree_key
from envbox.prefixes.in_use import prefixes_in_use
from envbox.prefixes.mountable import filesystem_of, obstacle
from envbox.prefixes.tree import PLACE, Tree, find_tree
from envbox.project import Environment
from envbox.registry.base import pull_base
from envbox.registry.lock_with_base import read_lock_with_base
from envbox.report import SILENT
from envbox.sessions.mounted import find_mounted, mount
from envbox.settings import Settings

OWN = {
    "opt/envbox/share/envbox/own": FileEntry(b"own\n", 0o755),
    "opt/envbox/conda-meta/history": FileEntry(b"h"),
}
needs_engine = pytest.mark.skipif(shutil.which("docker") is None, reason="needs a container engine")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    """A tiny lock that has one of everything: a wheel, byte-code, links, a conflict, odd names."""
    with serving(PaperRegistry()) as registry:
        yield make_tiny(tmp_path_factory.mktemp("tiny"), registry)


@pytest.fixture
def settings(shop: Tiny) -> Settings:
    """With a cache of the test's own, which is not there yet."""
    return shop.settings(f"cache-{uuid4().hex[:8]}")


def unpacked(shop: Tiny, settings: Settings) -> tuple[Folder, ...]:
    archives = fetch_archives(shop.lock.for_platform("linux-64"), settings)
    return unpack_packages(Installation(shop.lock, "linux-64", archives), settings, SILENT)


def made(shop: Tiny, settings: Settings) -> Tree:
    return make_tree(unpacked(shop, settings), OWN, settings.cache_dir)


def said(shop: Tiny, settings: Settings) -> Seen:
    """The same of the fragments, which images are made of."""
    archives = fetch_archives(shop.lock.for_platform("linux-64"), settings)
    found: Seen = {}
    for fragment in link_packages(shop.lock, "linux-64", archives, settings, SILENT):
        for directory in fragment.directories:
            if directory != "opt":
                name = "opt/envbox/." if directory == "opt/envbox" else directory
                found[name] = (stat.S_IFDIR, 0o755, 0, None)
        with fragment.path.open("rb") as file:
            reader = TarReader(io.BytesIO(b"".join(decompress(file))))
            for member in reader:
                is_link = member.kind == SYMLINK
                content = member.link if is_link else hashlib.sha256(reader.read()).hexdigest()
                kind = stat.S_IFLNK if is_link else stat.S_IFREG
                found[member.name] = (kind, member.mode, member.mtime * 10**9, content)
    return found


# --- what is in it


def test_it_has_the_files_of_the_image_and_nothing_else(
    shop: Tiny, settings: Settings, tmp_path: Path
) -> None:
    found = seen(made(shop, settings).prefix)
    ours = {f"opt/envbox/{p}" for p in ("share/envbox", "share/envbox/own", "conda-meta/history")}
    assert ours <= found.keys()
    elsewhere = Settings(
        cache_dir=tmp_path / "other", base=settings.base, mirrors=settings.mirrors, jobs=1, trust_python=True
    )
    expected = said(shop, elsewhere)
    assert {path: what for path, what in found.items() if path not in ours} == expected
    assert {"opt/envbox/share/link", "opt/envbox/bin/wheeled"} <= expected.keys()
    assert any(path.endswith(".pyc") for path in expected)


def test_it_is_the_same_from_archives_and_from_fragments(
    shop: Tiny, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_archives = unpacked(shop, settings)
    other = Settings(
        cache_dir=tmp_path / "other", base=settings.base, mirrors=settings.mirrors, jobs=1, trust_python=True
    )
    archives = fetch_archives(shop.lock.for_platform("linux-64"), other)
    link_packages(shop.lock, "linux-64", archives, other, SILENT)
    monkeypatch.setattr(folders_module.LinkTask, "link", None)  # no package is linked a second time
    from_fragments = unpack_packages(Installation(shop.lock, "linux-64", archives), other, SILENT)
    assert [_record(f) for f in from_archives] == [_record(f) for f in from_fragments]
    assert all(_data(a) == _data(b) for a, b in zip(from_archives, from_fragments, strict=True))


def _record(folder: Folder) -> tuple[object, ...]:
    files = [(f.path, f.mode, f.mtime, f.size) for f in folder.files]
    return folder.key, folder.name, files, folder.links, folder.directories, folder.timestamp


def _data(folder: Folder) -> list[bytes]:
    return [Path(file.source).read_bytes() for file in folder.files]


@pytest.mark.parametrize("damage", ["torn", "another file in it"])
def test_a_damaged_fragment_is_not_unpacked(shop: Tiny, settings: Settings, damage: str) -> None:
    archives = fetch_archives(shop.lock.for_platform("linux-64"), settings)
    fragments = link_packages(shop.lock, "linux-64", archives, settings, SILENT)
    one = next(fragment for fragment in fragments if fragment.name == "one")
    with one.path.open("rb") as file:
        raw = b"".join(decompress(file))
    data = compress(raw)
    torn = data[:20] + b"\xff" * 40 + data[60:]
    data = torn if damage == "torn" else compress(raw.replace(b"one\n", b"two\n"))
    one.path.write_bytes(data)
    record = one.path.with_name(f"{one.key}.json")
    said = sealed_content(record.read_bytes())
    record.write_bytes(sealed(said.replace(b'"size":%d' % one.size, b'"size":%d' % len(data))))
    folder = next(folder for folder in unpacked(shop, settings) if folder.name == "one")
    assert folder.paths == one.paths
    assert b"one\n" in _data(folder)
    assert not one.path.exists()


def test_empty_folders_are_there_by_both_ways(tmp_path: Path) -> None:
    package = Package("a", files=[("share/empty", File(kind=tarfile.DIRTYPE, mode=0o755))])
    path = package.write(tmp_path / "channel")
    locked = package.locked(path)
    archives = {locked.sha256: path}
    for number in range(2):
        settings = Settings(tmp_path / f"cache-{number}", jobs=1)
        if number:
            link_packages(lock_of(locked), "linux-64", archives, settings, SILENT)
        (folder,) = unpack_packages(Installation(lock_of(locked), "linux-64", archives), settings, SILENT)
        assert (make_tree([folder], OWN, settings.cache_dir).prefix / "share/empty").is_dir()


def test_the_umask_and_a_group_s_folder_change_nothing(
    shop: Tiny, settings: Settings, tmp_path: Path
) -> None:
    first = seen(made(shop, settings).prefix)
    other = tmp_path / "other"
    other.mkdir()
    other.chmod(0o2770)  # new folders in it have its group, and this bit
    before = os.umask(0o077)
    try:
        again = made(
            shop,
            Settings(
                cache_dir=other, base=settings.base, mirrors=settings.mirrors, jobs=1, trust_python=True
            ),
        )
    finally:
        os.umask(before)
    assert seen(again.prefix) == first


def test_what_is_of_no_package_is_on_top_and_leaves_the_packages_alone(tmp_path: Path) -> None:
    package = Package("a", files=[
        ("share/envbox/own", File(b"the package's")),
        ("conda-meta/history", File(kind=tarfile.SYMTYPE, link="../share/envbox/own")),
    ])  # fmt: skip
    path = package.write(tmp_path / "channel")
    locked = package.locked(path)
    settings = Settings(tmp_path / "cache", jobs=1)
    installation = Installation(lock_of(locked), "linux-64", {locked.sha256: path})
    (folder,) = unpack_packages(installation, settings, SILENT)
    prefix = make_tree([folder], OWN, settings.cache_dir).prefix
    assert (prefix / "share/envbox/own").read_bytes() == b"own\n"
    assert (prefix / "conda-meta/history").read_bytes() == b"h"
    assert b"the package's" in _data(folder)


def test_what_is_to_be_seen_elsewhere_has_that_place_s_path_in_its_files(tmp_path: Path) -> None:
    text, binary = (f"{PLACEHOLDER}/lib".encode() for _ in range(2))
    files = [("bin/t", File(text, placeholder="text")), ("lib/b", File(binary + b"\0", placeholder="binary"))]
    package = Package("a", noarch="python", entry_points=["go = m:f"], files=files)
    path = package.write(tmp_path / "channel")
    locked, python = package.locked(path), Package("python", "3.11.9")
    path_of_python = python.write(tmp_path / "channel")
    lock = lock_of(locked, python.locked(path_of_python))
    archives = {locked.sha256: path, python.locked(path_of_python).sha256: path_of_python}
    settings = Settings(tmp_path / "cache", jobs=1)
    keys = set()
    for prefix in (PREFIX, "/srv/else"):
        installation = Installation(lock, "linux-64", archives, prefix)
        folders = unpack_packages(installation, settings, SILENT, compiled=False)
        tree = make_tree(folders, OWN, settings.cache_dir).prefix
        keys |= {folder.key for folder in folders if folder.name == "a"}
        assert (tree / "bin/t").read_bytes() == f"{prefix}/lib".encode()
        assert (tree / "lib/b").read_bytes() == f"{prefix}/lib\0".encode().ljust(len(binary) + 1, b"\0")
        assert (tree / "bin/go").read_text().startswith(f"#!{prefix}/bin/python3.11\n")
    assert len(keys) == 2


def test_elsewhere_it_is_as_rattler_would_say_of_all_its_files(tmp_path: Path) -> None:
    """What has no path in it is the image's very file; the records tell of all of them."""
    package = Package("a", noarch="python", entry_points=["go = m:f"], files=[
        ("site-packages/m.py", File(f"P = '{PLACEHOLDER}'".encode(), placeholder="text")),
        ("site-packages/n.py", File(b"N = 1")),
    ])  # fmt: skip
    path, python = package.write(tmp_path / "channel"), Package("python", "3.11.9")
    path_of_python = python.write(tmp_path / "channel")
    locked, locked_python = package.locked(path), python.locked(path_of_python)
    archives = {locked.sha256: path, locked_python.sha256: path_of_python}
    settings = Settings(tmp_path / "cache", jobs=1)
    trees = []
    for prefix in (PREFIX, "/srv/else"):
        installation = Installation(lock_of(locked, locked_python), "linux-64", archives, prefix)
        folders = unpack_packages(installation, settings, SILENT, compiled=False)
        trees.append(make_tree(folders, OWN, settings.cache_dir, prefix).prefix)
    image, other = trees
    site = "lib/python3.11/site-packages"
    assert (other / site / "n.py").samefile(image / site / "n.py")
    assert (other / site / "m.py").read_text() == "P = '/srv/else'"
    metas = [json.loads((t / "conda-meta/a-1.0-h0_0.json").read_text()) for t in trees]
    assert metas[0]["files"] == metas[1]["files"]
    for meta, tree_ in zip(metas, trees, strict=True):
        for line in meta["paths_data"]["paths"]:
            data = (tree_ / line["_path"]).read_bytes()
            said = line.get("sha256_in_prefix") or line["sha256"]
            assert hashlib.sha256(data).hexdigest() == said, line
            assert line["size_in_bytes"] == len(data)


def test_what_another_process_has_no_use_for_any_more_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = Package("a", files=[("bin/t", File(PLACEHOLDER.encode(), placeholder="text"))])
    path = package.write(tmp_path / "channel")
    locked, settings = package.locked(path), Settings(tmp_path / "cache", jobs=1)
    archives = {locked.sha256: path}
    unpack_packages(Installation(lock_of(locked), "linux-64", archives), settings, SILENT)
    found = unpacking._record_path

    def gone(task: LinkTask, sources: Mapping[str, Path]) -> str | None:
        monkeypatch.setattr(unpacking, "_record_path", found)
        shutil.rmtree(next(iter(sources.values())).parent)
        return found(task, sources)

    monkeypatch.setattr(unpacking, "_record_path", gone)
    elsewhere = Installation(lock_of(locked), "linux-64", archives, "/srv/else")
    monkeypatch.setattr(packages, "run_all", lambda make, tasks, *_: ((task, make(task)) for task in tasks))
    (folder,) = unpack_packages(elsewhere, settings, SILENT)
    assert make_tree([folder], OWN, settings.cache_dir, "/srv/else").prefix.joinpath(
        "bin/t"
    ).read_bytes() == (b"/srv/else")


# --- looking at it


def test_it_is_found_as_it_was_made(shop: Tiny, settings: Settings) -> None:
    tree = made(shop, settings)
    assert find_tree(settings.cache_dir, tree.key) == tree
    assert find_tree(settings.cache_dir, "0" * 64) is None


DAMAGES = {
    "a file is gone": lambda prefix: (prefix / "share/two").unlink(),
    "a file is new": lambda prefix: (prefix / "share/new").touch(),
    "a file has another name": lambda prefix: (prefix / "share/two").rename(prefix / "share/too"),
    "a folder is gone": lambda prefix: shutil.rmtree(prefix / "conda-meta"),
    "a folder is closed": lambda prefix: (prefix / "share").chmod(0o700),
    "all is gone": shutil.rmtree,
    "a link leads elsewhere": lambda prefix: _replace_link(prefix / "share/link"),
}
AFTER_A_START = {
    "a file is empty": lambda prefix: os.truncate(prefix / "share/two", 0),
    "a file was written to": lambda prefix: (prefix / "share/two").write_bytes(b"3" * 2000),
    "a file has another mode": lambda prefix: (prefix / "share/two").chmod(0o600),
    "a file of no package is empty": lambda prefix: os.truncate(prefix / "share/envbox/own", 0),
}


def _replace_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("two")


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_what_changed_a_folder_is_seen_at_once(shop: Tiny, settings: Settings, damage: object) -> None:
    tree = made(shop, settings)
    before = seen(tree.prefix)
    damage(tree.prefix)  # type: ignore[operator]
    assert find_tree(settings.cache_dir, tree.key) is None
    assert seen(made(shop, settings).prefix) == before


@pytest.mark.parametrize("damage", AFTER_A_START.values(), ids=AFTER_A_START.keys())
def test_what_a_crash_leaves_is_seen_after_the_start(
    shop: Tiny, settings: Settings, damage: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = made(shop, settings)
    damage(tree.prefix)  # type: ignore[operator]
    started = tmp_path / "boot_id"
    started.write_text("another\n")
    monkeypatch.setattr("envbox.prefixes.tree._BOOT_ID", started)
    assert find_tree(settings.cache_dir, tree.key) is None


def test_after_a_start_all_is_looked_at_once(
    shop: Tiny, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_before = made(shop, settings)
    started = tmp_path / "boot_id"
    started.write_text("another\n")
    monkeypatch.setattr("envbox.prefixes.tree._BOOT_ID", started)
    assert find_tree(settings.cache_dir, made_before.key) == made_before
    monkeypatch.setattr(tree, "is_damaged", None)
    assert find_tree(settings.cache_dir, made_before.key) == made_before


def test_a_damaged_package_is_named_and_no_tree_is_made(shop: Tiny, settings: Settings) -> None:
    folders = unpacked(shop, settings)
    two = next(folder for folder in folders if folder.name == "two")
    os.truncate(two.files[0].source, 0)
    with pytest.raises(DamagedError, match="the files of two in the cache are damaged") as raised:
        make_tree(folders, OWN, settings.cache_dir)
    assert raised.value.folders == (two,)
    assert [p.name for p in (settings.cache_dir / PLACE).iterdir()] == []


def test_a_tree_that_is_replaced_stays_for_the_containers_that_have_it(
    shop: Tiny, settings: Settings
) -> None:
    tree = made(shop, settings)
    (tree.prefix / "share/new").touch()
    again = made(shop, settings)
    (aside,) = (settings.cache_dir / PLACE).glob(".*.part")
    clear_leftovers(settings.cache_dir, {tree.key})
    assert (aside / "prefix/share/new").exists()
    clear_leftovers(settings.cache_dir, ())
    assert not aside.exists()
    assert find_tree(settings.cache_dir, tree.key) == again


def test_one_that_containers_have_is_not_freed(shop: Tiny, settings: Settings) -> None:
    tree = made(shop, settings)
    assert free(settings.cache_dir, ("prefixes",), [tree.path]) > 0
    assert find_tree(settings.cache_dir, tree.key) == tree
    assert [p.name for p in (settings.cache_dir / "prefixes").iterdir()] == ["trees"]
    free(settings.cache_dir, ("prefixes",))
    assert not (settings.cache_dir / "prefixes").exists()


def test_the_key_is_of_everything(shop: Tiny, settings: Settings) -> None:
    folders = unpacked(shop, settings)
    keys = {
        tree_key(folders, OWN),
        tree_key(folders[1:], OWN),
        tree_key(folders, {}),
        tree_key(
            folders, {"opt/envbox/share/envbox/own": FileEntry(b"own\n"), **dict(list(OWN.items())[1:])}
        ),
    }
    assert len(keys) == 4


# --- through an engine


MOUNT = """
import json, sys
from pathlib import Path
from envbox.engine.find import connect
from envbox.mirrors import Mirrors
from envbox.sessions.mounted import mount
from envbox.project import Environment
from envbox.report import SILENT
from envbox.settings import Settings

lock, cache, rules = sys.argv[1:]
settings = Settings(cache_dir=Path(cache), base="a/b:1", mirrors=Mirrors(json.loads(rules)), jobs=2,
                    trust_python=True)
print(mount(Environment("tiny", Path(lock), Path(lock)), settings, connect(settings), SILENT).prefix)
"""


def mounting(shop: Tiny, settings: Settings) -> subprocess.Popen[str]:
    argv = [
        sys.executable,
        "-c",
        MOUNT,
        shop.environment.lock_path,
        settings.cache_dir,
        json.dumps(shop.rules),
    ]
    return subprocess.Popen([str(word) for word in argv], stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def engine(shop: Tiny) -> Iterator[Engine]:
    """The engine, and in the end no image that these tests made."""
    engine = connect(shop.settings())
    yield engine
    memos = (json.loads(sealed_content(path.read_bytes())) for path in shop.folder.rglob("builds/*.json"))
    for image in {memo["image"] for memo in memos if "prefix" in memo}:
        engine.remove_image(image)


@needs_engine
def test_a_second_time_nothing_is_done(shop: Tiny, settings: Settings, engine: Engine) -> None:
    first = mount(shop.environment, settings, engine, SILENT)
    assert first.is_new
    shop.registry.log.clear()
    assert mount(shop.environment, settings, engine, SILENT) == replace(first, is_new=False)
    assert shop.registry.log == []
    (settings.cache_dir / "packages").rename(settings.cache_dir / "gone")  # not even an archive is needed
    assert find_mounted(shop.environment, settings, engine) == replace(first, is_new=False)


@needs_engine
def test_variables_and_labels_are_the_image_s(shop: Tiny, settings: Settings, engine: Engine) -> None:
    mounted = mount(shop.environment, settings, engine, SILENT)
    data = shop.environment.lock_path.read_bytes()
    locked = read_lock_with_base(shop.environment, data, "linux-64", settings, SILENT)
    image = make_image(locked, pull_base(locked.base, "linux-64", settings), settings, SILENT)
    config = json.loads(image.config)["config"]
    assert [f"{name}={value}" for name, value in mounted.env.items()] == config["Env"]
    assert mounted.labels == config["Labels"]
    asked = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{json .Config}}", mounted.image],
        capture_output=True, check=True,
    )  # fmt: skip
    bare = json.loads(asked.stdout)
    for key in ("Entrypoint", "WorkingDir", "User"):
        assert (bare.get(key) or None) == config.get(key)


@needs_engine
def test_one_package_changed_unpacks_that_one(
    shop: Tiny, settings: Settings, engine: Engine, tmp_path: Path
) -> None:
    first = mount(shop.environment, settings, engine, SILENT)
    changed = Package("two", "2.0", files=[("share/two", File(b"new"))])
    locked = changed.locked(changed.write(shop.folder / "channel/linux-64"))
    packages = (*(p for p in shop.lock.packages if p.name != "two"), locked)
    environment = Environment("tiny", tmp_path / "tiny.yml", tmp_path / "tiny.conda-lock.yml")
    environment.lock_path.write_bytes(dumps(replace(shop.lock, packages=packages)))
    before = set((settings.cache_dir / PACKAGES).iterdir())
    second = mount(environment, settings, engine, SILENT)
    assert second.prefix != first.prefix
    assert second.image == first.image
    new = [read_folder(settings.cache_dir, path.name) for path in (settings.cache_dir / PACKAGES).iterdir()
           if path not in before]  # fmt: skip
    assert {folder.name for folder in new if folder} == {"two"}
    assert (second.prefix / "share/two").read_bytes() == b"new"
    assert (first.prefix / "share/two").read_bytes() == b"2" * 2000
    assert (second.prefix / "bin/one").samefile(first.prefix / "bin/one")


@needs_engine
def test_a_package_that_is_damaged_in_the_cache_is_unpacked_again(
    shop: Tiny, settings: Settings, engine: Engine
) -> None:
    first = mount(shop.environment, settings, engine, SILENT)
    before = seen(first.prefix)
    with (first.prefix / "share/two").open("r+b") as file:  # one file, in the cache and in the tree
        file.truncate(7)
    (first.prefix / "share/two").with_name("new").touch()
    assert find_mounted(shop.environment, settings, engine) is None
    again = mount(shop.environment, settings, engine, SILENT)
    assert seen(again.prefix) == before


@needs_engine
def test_an_image_that_was_removed_is_loaded_again(shop: Tiny, settings: Settings, engine: Engine) -> None:
    first = mount(shop.environment, settings, engine, SILENT)
    engine.remove_image(first.image)
    assert find_mounted(shop.environment, settings, engine) is None
    assert mount(shop.environment, settings, engine, SILENT) == first
    assert engine.has_image(first.image)


@needs_engine
def test_one_that_is_killed_at_any_moment_is_finished_by_the_next(
    shop: Tiny, settings: Settings, engine: Engine
) -> None:
    for delay in (0.1, 0.2, 0.3, 0.4, 0.5, 0.7):
        process = mounting(shop, settings)
        time.sleep(delay)
        process.kill()
        process.wait()
    mounted = mount(shop.environment, settings, engine, SILENT)
    (settings.cache_dir / PACKAGES / ".dead.x.part").mkdir()
    (mounted.prefix / "share/x").touch()  # so that it is made once more, which clears up
    mount(shop.environment, settings, engine, SILENT)
    left = list((settings.cache_dir / "prefixes").glob("*/.*.part"))
    assert [path for path in left if mounted.key not in path.name] == []
    assert find_mounted(shop.environment, settings, engine) is not None


@needs_engine
def test_two_at_once_make_one(shop: Tiny, settings: Settings, engine: Engine) -> None:
    processes = [mounting(shop, settings) for _ in range(3)]
    said = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    mounted = find_mounted(shop.environment, settings, engine)
    assert mounted
    assert said == {str(mounted.prefix)}


@needs_engine
def test_containers_say_which_prefixes_they_have(shop: Tiny, settings: Settings, engine: Engine) -> None:
    mounted = mount(shop.environment, settings, engine, SILENT)
    bind = f"type=bind,source={mounted.prefix},target=/opt/envbox,readonly"
    argv = ["docker", "create", "--mount", bind, mounted.image]
    container = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()
    try:
        assert mounted.key in prefixes_in_use(engine)
    finally:
        engine.remove(container)
    assert mounted.key not in prefixes_in_use(engine)


# --- where it can be


INFO = {
    "OperatingSystem": "Debian GNU/Linux 12",
    "KernelVersion": "6.1",
    "Name": "here",
    "SecurityOptions": None,
}


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, None),
        ({"SecurityOptions": ["name=seccomp,profile=default", "name=cgroupns"]}, None),
        ({"OperatingSystem": "Docker Desktop"}, "virtual machine"),
        ({"KernelVersion": "6.1-linuxkit"}, "virtual machine"),
        ({"Name": "there"}, "other folders"),
        ({"SecurityOptions": ["name=selinux"]}, "SELinux"),
    ],
)
def test_an_engine_that_does_not_see_our_files_is_known(said: dict[str, object], words: str | None) -> None:
    found = engine_obstacle({**INFO, **said}, "6.1", "here")
    assert (found is None) if words is None else (found and words in found)


def test_an_engine_elsewhere_is_known(settings: Settings) -> None:
    engine = DockerEngine(Address("tcp://192.0.2.1:2375", "a test"), settings.cache_dir)
    assert obstacle(settings.cache_dir, engine) == "the engine is another machine's"


@needs_engine
def test_here_nothing_stands_against_it(settings: Settings, engine: Engine) -> None:
    assert obstacle(settings.cache_dir, engine) is None
    assert list(settings.cache_dir.iterdir()) == []


MOUNTS = """\
22 1 0:1 / / rw - ext4 /dev/vda rw
23 22 0:2 / /home rw shared:1 - nfs4 server:/home rw
24 23 0:3 / /home/ada/my\\040disk rw - vfat /dev/sdb rw
25 22 0:4 / /opt rw - ext4 /dev/vdb rw
26 22 0:5 / /opt rw - fuse.sshfs ada@there rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "ext4"), ("/homes/x", "ext4"), ("/home/ada/.cache", "nfs4"), ("/home/ada/my disk/x", "vfat"),
     ("/opt/x", "fuse.sshfs")],
)  # fmt: skip
def test_the_filesystem_of_a_path_is_the_nearest_mount_s(path: str, kind: str) -> None:
    assert filesystem_of(Path(path), MOUNTS) == kind


TRY = """
import sys
from pathlib import Path
from envbox.prefixes.mountable import _disk_obstacle
print(_disk_obstacle(Path(sys.argv[1])))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount")
@pytest.mark.parametrize(
    ("mount_it", "words"),
    [("mount -t tmpfs none", "None"), ("mount -t tmpfs -o noexec none", "no programs to be run (noexec)")],
)
def test_a_filesystem_that_is_not_fit_is_known(tmp_path: Path, mount_it: str, words: str) -> None:
    script = f'{mount_it} "$1" && exec "$2" -c "$3" "$1"'
    argv = ["unshare", "-m", "sh", "-c", script, "sh", tmp_path, sys.executable, TRY]
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(done.stderr)
    assert words in done.stdout, done.stderr


READY = """
import json, sys
from pathlib import Path
from envbox.cli.terminal import TerminalReporter
from envbox.engine.find import connect
from envbox.mirrors import Mirrors
from envbox.project import Environment
from envbox.sessions.prepare import ready_environment
from envbox.settings import Settings

lock, cache, rules = sys.argv[1:]
settings = Settings(cache_dir=Path(cache), base="a/b:1", mirrors=Mirrors(json.loads(rules)), jobs=1,
                    trust_python=True)
report = TerminalReporter(sys.stderr, {}, quiet=False, verbose=False)
environment = Environment("tiny-2", Path("none"), Path(lock))
ready = ready_environment(environment, settings, connect(settings), report)
print(ready.image, ready.prefix)
"""


@needs_engine
@pytest.mark.skipif(os.getuid() != 0, reason="only root may rename a machine")
def test_where_nothing_can_be_mounted_the_image_is_built_and_that_is_said(
    shop: Tiny, engine: Engine, tmp_path: Path
) -> None:
    script = 'hostname elsewhere && exec "$0" -c "$1" "$2" "$3" "$4"'
    words = [sys.executable, READY, shop.environment.lock_path, tmp_path, json.dumps(shop.rules)]
    argv = ["unshare", "--uts", "sh", "-c", script, *map(str, words)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr or "hostname:" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    image, prefix = done.stdout.split()
    subprocess.run(["docker", "rmi", "--force", image], capture_output=True, check=False)
    assert prefix == "None"
    assert "tiny-2: from its image, since the engine sees other folders than we do" in done.stderr


def test_machines_that_share_a_cache_look_at_all_files_once_each(
    shop: Tiny, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree_, looked = made(shop, settings), []
    is_damaged = tree.is_damaged
    monkeypatch.setattr(tree, "is_damaged", lambda *args: looked.append(1) or is_damaged(*args))
    counts = []
    for boot in (b"one", b"two", b"one", b"two"):
        monkeypatch.setattr(tree, "boot_id", lambda boot=boot: boot)
        assert find_tree(settings.cache_dir, tree_.key) is not None
        counts.append(len(looked))
    assert 0 < counts[0] < counts[1] == counts[2] == counts[3]


def test_of_what_was_set_aside_only_what_no_container_can_have_goes_when_nobody_knows(
    shop: Tiny, settings: Settings
) -> None:
    folders, place = unpacked(shop, settings), settings.cache_dir / tree.PLACE
    own = str(settings.cache_dir / tree.HERE / "0123456789ab")
    for seen_at in (PREFIX, own):
        for _ in range(2):  # the second sets the first aside
            make_tree(folders, OWN, settings.cache_dir, seen_at)
    assert len(list(place.glob(".*.part"))) == 2
    clear_leftovers(settings.cache_dir, None)
    (left,) = place.glob(".*.part")
    found = tree.read_tree(left)
    assert found is not None
    assert found.seen_at == PREFIX
    clear_leftovers(settings.cache_dir, ())
    assert not list(place.glob(".*.part"))
