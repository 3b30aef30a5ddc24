"""What is big: every byte is counted once, by a lockfile and by an image alike; and a page that shows it."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.chromium import BINARY, open_page
from support.containers import Lab
from support.paper_registry import PaperRegistry, serving
from support.tampering import Loose, taken_apart, tar_of
from support.tiny import SHORT, Tiny, make_tiny

from envbox.engine.find import connect
from envbox.errors import ImageError, ToolError
from envbox.images.assemble import Image
from envbox.images.build import make_image
from envbox.images.saved import SavedImage, read_archive
from envbox.images.size import NOBODY, Item, Sizes, by_package, byte_code, part_of, unneeded
from envbox.images.size.find import sizes_of_named_image
from envbox.images.size.image import OWN, _is_kept, sizes_of_image, sizes_of_saved
from envbox.images.size.lock import sizes_of_lock
from envbox.images.size.tree import folder_tiles, largest_folders, package_tiles
from envbox.images.size.treemap import treemap
from envbox.lockfile.conda_lock_v1 import dumps
from envbox.packages.fetch import fetch_archives
from envbox.packages.link.fragments import link_packages
from envbox.project import Project
from envbox.registry.base import fetch_layers, pull_base
from envbox.registry.lock_with_base import read_lock_with_base
from envbox.report import SILENT


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    with serving(PaperRegistry()) as registry:
        yield make_tiny(tmp_path_factory.mktemp("size"), registry)


@pytest.fixture(scope="module")
def image(tiny: Tiny) -> Image:
    """The tiny environment's image."""
    data = tiny.environment.lock_path.read_bytes()
    locked = read_lock_with_base(tiny.environment, data, "linux-64", tiny.settings(), SILENT)
    base = pull_base(locked.base, "linux-64", tiny.settings())
    fetch_layers(base, base.layers, tiny.settings(), SILENT)
    return make_image(locked, base, tiny.settings(), SILENT)


@pytest.fixture
def loose(image: Image) -> Loose:
    """That image, taken apart."""
    return taken_apart(image)


def read(loose: Loose) -> SavedImage:
    return read_archive([loose.archive("it:1")], "it:1", _is_kept, hashed=False, packed=True)


def by_path(sizes: Sizes) -> dict[str, Item]:
    return {item.path: item for item in sizes.items}


# --- by the lockfile


def test_every_file_of_every_fragment_is_counted_and_their_shares_add_up(tiny: Tiny) -> None:
    settings = tiny.settings()
    sizes = sizes_of_lock(tiny.environment, settings, SILENT, "linux-64")
    archives = fetch_archives(tiny.lock.packages, settings, SILENT)
    linked = link_packages(tiny.lock, "linux-64", archives, settings, SILENT)
    for fragment in linked:
        mine = [item for item in sizes.items if item.package == fragment.name]
        assert sorted(item.path for item in mine) == list(fragment.paths)
        assert sum(item.packed for item in mine) == pytest.approx(fragment.size, abs=len(mine))
        assert all(item.packed >= 0 for item in mine)
    assert by_path(sizes)["opt/envbox/share/two"].size == 2000
    assert sizes.versions["pip:wheeled"] == "1.0"
    assert byte_code(sizes).files > 5


def test_a_second_time_nothing_is_read(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sizes_of_lock(tiny.environment, tiny.settings(), SILENT, "linux-64")
    monkeypatch.setattr("envbox.images.size.lock._walked", None)
    assert sizes_of_lock(tiny.environment, tiny.settings(), SILENT, "linux-64") == before


def test_a_damaged_fragment_is_said_and_made_again(tiny: Tiny) -> None:
    settings = tiny.settings("damaged")
    sizes_of_lock(tiny.environment, settings, SILENT, "linux-64")
    for record in (settings.cache_dir / "sizes").iterdir():
        record.unlink()
    path = max((settings.cache_dir / "fragments").iterdir(), key=lambda p: p.stat().st_size)
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ToolError, match="in the cache is damaged"):
        sizes_of_lock(tiny.environment, settings, SILENT, "linux-64")
    assert sizes_of_lock(tiny.environment, settings, SILENT, "linux-64").items


# --- by the image


def test_an_image_says_the_same_as_its_lockfile(tiny: Tiny, loose: Loose) -> None:
    locked = sizes_of_lock(tiny.environment, tiny.settings(), SILENT, "linux-64")
    saved = sizes_of_saved(read(loose))
    expected = {item.path: (item.size, item.package) for item in locked.items}
    assert {i.path: (i.size, i.package) for i in saved.items if i.package not in (OWN, NOBODY)} == expected
    assert {i.path for i in saved.items if i.package == OWN} >= {
        "opt/envbox/share/envbox/conda-lock.yml",
        "opt/envbox/conda-meta/history",
    }
    assert by_path(saved)["etc/motd"].package == NOBODY
    assert saved.versions == locked.versions
    assert saved.platform == "linux-64"


def test_what_an_upper_layer_removes_or_replaces_is_not_counted(loose: Loose) -> None:
    def upper(*names: str) -> bytes:
        return tar_of([(tarfile.TarInfo(name), b"new" if "two" in name else b"") for name in names])

    changed = Loose(loose.config, [*loose.layers, upper(
        "etc/.wh.motd", "opt/envbox/share/two", "opt/envbox/etc/.wh..wh..opq"
    )])  # fmt: skip
    found = by_path(sizes_of_saved(read(changed)))
    assert "etc/motd" not in found
    assert found["opt/envbox/share/two"].size == 3
    assert found["opt/envbox/share/two"].package == "two"
    assert not [path for path in found if path.startswith("opt/envbox/etc/") or ".wh." in path]


def test_layers_share_what_they_take_compressed(loose: Loose) -> None:
    import zstandard

    image = read(loose)
    for layer, raw in zip(image.layers, loose.layers, strict=True):
        assert layer.packed == pytest.approx(len(zstandard.compress(raw, 3)), rel=0.1, abs=64)
    sizes = sizes_of_saved(image)
    assert sum(item.packed for item in sizes.items) <= sum(layer.packed for layer in image.layers)


def test_a_conda_package_with_metadata_of_a_wheel_is_one_package() -> None:
    record = "lib/python3.11/site-packages/x-1.0.dist-info/RECORD"
    about = {"name": "x", "version": "1.0", "files": [record, "lib/python3.11/site-packages/x.py"]}
    files = {
        "conda-meta/x-1.0-0.json": json.dumps(about).encode(),
        record: b"x.py,,\n",
        "lib/python3.11/site-packages/x.py": b"",
        "lib/python3.11/site-packages/y-1.0.dist-info/RECORD": b"y.py,,\n../../../bin/y,,\n",
        "lib/python3.11/site-packages/y.py": b"",
        "bin/y": b"",
    }
    config = {"os": "linux", "architecture": "amd64", "config": {}, "history": [], "rootfs": {"diff_ids": []}}
    layer = tar_of([(tarfile.TarInfo(f"opt/conda/{name}"), data) for name, data in files.items()])
    sizes = sizes_of_saved(read(Loose(config, [layer])))
    assert sizes.versions == {"x": "1.0", "pip:y": "1.0"}
    owners = {item.path.rpartition("/")[2]: item.package for item in sizes.items}
    assert (owners["x.py"], owners["y.py"], owners["y"]) == ("x", "pip:y", "pip:y")


def test_an_image_without_conda_is_all_base() -> None:
    config = {"os": "linux", "architecture": "amd64", "config": {}, "history": [], "rootfs": {"diff_ids": []}}
    sizes = sizes_of_saved(read(Loose(config, [tar_of([(tarfile.TarInfo("bin/sh"), b"x")])])))
    assert [(item.path, item.package, item.kind) for item in sizes.items] == [("bin/sh", NOBODY, None)]


@pytest.mark.rig
def test_an_image_in_the_engine_is_read(tiny: Tiny, loose: Loose) -> None:
    name = f"envbox-size/{uuid4().hex[:12]}:1"
    subprocess.run(["docker", "load", "-q"], input=loose.archive(name), check=True)
    try:
        sizes = sizes_of_image(name, connect(tiny.settings()), SILENT)
        assert by_path(sizes)["opt/envbox/share/two"].size == 2000
    finally:
        subprocess.run(["docker", "rmi", "-f", name], check=True, stdout=subprocess.DEVNULL)


class _NoImages:
    """An engine without images."""

    def image_id(self, image: str) -> None: ...


def test_a_name_is_an_image_or_a_mistake(tiny: Tiny) -> None:
    project = Project(tiny.folder, (tiny.environment,))
    with pytest.raises(ImageError, match="no environment tni, and no such image") as caught:
        sizes_of_named_image("tni", project, _NoImages, SILENT)  # type: ignore[arg-type]
    assert caught.value.hint == "the environments are tiny"


@pytest.mark.rig
def test_the_command_prints_tables_json_and_a_page(lab: Lab, tmp_path: Path) -> None:
    page = tmp_path / "size.html"
    done = lab.run("size", "lab", "--top", "3", "--html", str(page))
    assert done.returncode == 0, done.stderr
    rows = done.stdout.splitlines()
    assert re.fullmatch(r"package +files +in the image +compressed", rows[0])
    assert rows[4].startswith("in all")
    assert "\nfolder " in done.stdout
    assert "\ncould be left out " in done.stdout
    assert page.read_text().startswith("<!doctype html>")
    told = json.loads(lab.run("size", "--json").stdout)
    assert {"numpy", "python", "jupyterlab"} <= {part["name"] for part in told["packages"]}
    assert sum(part["size"] for part in told["packages"]) == told["all"]["size"]
    gone = lab.run("size", "nothing")
    assert (gone.returncode, "the environments are lab" in gone.stderr) == (1, True)


# --- what could be left out


def test_what_is_said_to_be_left_out_is_what_slim_leaves_out(tiny: Tiny) -> None:
    from support.packages import File, Package

    site = f"lib/python{SHORT}/site-packages"
    fat = Package(
        "fat",
        files=[
            (f"{site}/fat/__init__.py", File(b"from .kept.tests import x\n")),
            (f"{site}/fat/tests/test_a.py", File(b"a = 1\n" * 100)),
            (f"{site}/fat/kept/tests/__init__.py", File(b"x = 1\n")),
            ("lib/libfat.a", File(b"a" * 3000)),
        ],
        depends=["python"],
    )
    path = fat.write(tiny.folder / "channel" / "linux-64")
    lock_path = tiny.folder / "fat.conda-lock.yml"
    environment = replace(tiny.environment, name="fat", lock_path=lock_path)
    lock = replace(tiny.lock, name="fat", packages=(*tiny.lock.packages, fat.locked(path)))
    lock_path.write_bytes(dumps(lock))
    before = sizes_of_lock(environment, tiny.settings(), SILENT, "linux-64")
    said = {part.name: part.size for part in unneeded(before)}
    assert (said["tests"], said["static"]) == (600, 3000)
    lock_path.write_bytes(dumps(replace(lock, slim=("static", "tests"))))
    after = sizes_of_lock(environment, tiny.settings(), SILENT, "linux-64")
    assert after.slim == ("static", "tests")
    assert not [part for part in unneeded(after) if part.size]
    gone = by_path(before).keys() - by_path(after).keys()
    assert sum(by_path(before)[name].size for name in gone) == 3600
    assert f"opt/envbox/{site}/fat/kept/tests/__init__.py" in by_path(after)


# --- trees and the page

NAMES = st.sampled_from(["a", "b", "tests", "lib.so", "x.py", "y.pyc", "</script>", "ü"])
ITEMS = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=5).map("/".join),
    st.tuples(st.integers(0, 10**9), st.sampled_from(["one", "two"]), st.sampled_from([None, "tests"])),
    max_size=30,
)


def sizes_of(files: dict[str, tuple[int, str, str | None]]) -> Sizes:
    found = [
        Item(path + "/f", size, size / 3, package, kind) for path, (size, package, kind) in files.items()
    ]
    return Sizes("it", "linux-64", tuple(found), {"one": "1.0"})


@given(ITEMS, st.integers(1, 20))
def test_folders_and_tiles_add_up_to_everything(
    files: dict[str, tuple[int, str, str | None]], most: int
) -> None:
    sizes = sizes_of(files)
    whole = part_of("", sizes.items)
    parts = largest_folders(sizes, most)
    assert sum(part.size for part in parts) == whole.size
    assert sum(part.files for part in parts) == whole.files
    for tree in (package_tiles(sizes), folder_tiles(sizes)):
        assert tree["s"] == whole.size == sum(tile["s"] for tile in leaves(tree))
        assert sum(tile.get("m", 1) for tile in leaves(tree)) == whole.files
        for kind in (None, "tests"):
            expected = sum(item.size for item in sizes.items if item.kind == kind)
            assert sum(tile["s"] for tile in leaves(tree) if tile.get("k") == kind) == expected


def leaves(tile: dict) -> Iterator[dict]:  # type: ignore[type-arg]
    if "c" in tile:
        for inner in tile["c"]:
            yield from leaves(inner)
    else:
        yield tile


def test_the_largest_package_comes_first() -> None:
    sizes = sizes_of({"a": (5, "one", None), "b": (7, "two", None), "c": (3, "one", None)})
    assert [(part.name, part.size) for part in by_package(sizes)] == [("one", 8), ("two", 7)]


@given(ITEMS)
def test_the_page_needs_nothing_else_and_no_name_breaks_it(
    files: dict[str, tuple[int, str, str | None]],
) -> None:
    sizes = sizes_of(files)
    page = treemap(sizes)
    assert page == treemap(sizes)
    assert not re.search(r"(?:src|href)=|https?:|@import|url\(", page)
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert json.loads(text)["views"]["package"] == json.loads(json.dumps(package_tiles(sizes)))
    assert page.count("</script>") == 2


@pytest.mark.browser
@pytest.mark.skipif(BINARY is None, reason="there is no Chromium")
def test_a_browser_draws_it_and_opens_a_package(tiny: Tiny, tmp_path: Path) -> None:
    page_path = tmp_path / "size.html"
    sizes = sizes_of_lock(tiny.environment, tiny.settings(), SILENT, "linux-64")
    page_path.write_text(treemap(sizes), encoding="utf-8")
    packages = by_package(sizes)
    with open_page(tmp_path / "profile") as page:
        page.goto(page_path.as_uri())
        page.wait_for("document.querySelectorAll('.tile.top').length > 3")
        rows = page.evaluate("[...document.querySelectorAll('#rows th')].map(x => x.textContent)")
        assert rows == [f"{part.name} {sizes.versions[part.name]}" for part in packages]
        tiles, area = "[...document.querySelectorAll('.tile.top')]", "x.offsetWidth * x.offsetHeight"
        covered = (
            f"{tiles}.reduce((sum, x) => sum + {area}, 0) / (x => {area})(document.getElementById('map'))"
        )
        assert page.evaluate(covered) > 0.9
        page.evaluate("document.querySelector('.tile.top').click()")
        assert packages[0].name in page.evaluate("document.getElementById('what').textContent")
        page.evaluate("document.querySelector('input[value=folder]').click()")
        assert page.evaluate("document.querySelector('#rows th').textContent").startswith("opt/envbox")


@pytest.mark.browser
@pytest.mark.skipif(BINARY is None, reason="there is no Chromium")
def test_no_name_acts_in_a_browser(tmp_path: Path) -> None:
    evil = [
        "</script><script>document.title = 'hit'</script>",
        "<!--<script>",
        "<img src=x onerror=document.title='hit'>",
        "{{data}}",
        "{{title}}",
        "]]>",
        "\u2028'\"`${document.title='hit'}",
        "\udcff",
        "__proto__",
        "constructor",
    ]
    files = {f"{name}/{name}": (10 + number, name, None) for number, name in enumerate(evil)}
    sizes = replace(sizes_of(files), name="</title>{{data}}<script>document.title='hit'</script>")
    path = tmp_path / "size.html"
    path.write_text(treemap(sizes), encoding="utf-8")
    with open_page(tmp_path / "profile") as page:
        page.goto(path.as_uri())
        page.wait_for("document.querySelectorAll('.tile.top').length > 3")
        assert page.evaluate("document.title") == f"{sizes.name} · {sizes.platform}"
        rows = page.evaluate("[...document.querySelectorAll('#rows th')].map(x => x.textContent)")
        assert {name.strip() for name in evil[:6]} <= {row.strip() for row in rows}
        assert page.evaluate("document.scripts.length") == 2
        assert page.evaluate("document.querySelectorAll('img').length") == 0


def test_shares_are_of_the_frame_as_it_is_stored(tiny: Tiny) -> None:
    """A file that cannot be compressed takes its size, one that is all zeros nothing."""
    import os

    from envbox.images.size.lock import _Task, weigh
    from envbox.packages.link.fragments import FileEntry, files_fragment

    noise = os.urandom(3 << 20)
    many = {f"opt/envbox/{n:03}": FileEntry(noise[n * 10_000 : (n + 1) * 10_000]) for n in range(200)}
    small = weigh(_Task(files_fragment("many", many, tiny.settings()), None, tiny.folder / "weighed"))
    assert all(4_000 < packed < 20_000 for _, _, packed, _ in small[:-1])
    files = {f"opt/envbox/{n}": FileEntry(data) for n, data in {"a": noise, "b": bytes(3 << 20)}.items()}
    fragment = files_fragment("noise", files, tiny.settings())
    a, b = weigh(_Task(fragment, None, tiny.folder / "weighed"))
    assert a[2] == pytest.approx(3 << 20, rel=0.06)
    assert b[2] < 200_000
    assert a[2] + b[2] == pytest.approx(fragment.size, abs=1)
