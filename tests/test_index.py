"""Package indexes that lie, or say too much: no page leads where it should not."""

from __future__ import annotations

import gzip
import json
import struct
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.paper_index import Paper, paper_index

from envbox.errors import PackageError, ToolError
from envbox.locks.solve import index as room
from envbox.locks.solve import names, wheel_metadata
from envbox.locks.solve.cached_answers import keep, kept
from envbox.locks.solve.index import Indexes
from envbox.locks.solve.index_page import File, from_html, from_json
from envbox.locks.solve.wheel_metadata import metadata_of
from envbox.report import SILENT
from envbox.settings import Settings

PAGE = "https://index.example/simple/a/"
SHA = "ab" * 32
NAME = "a-1-py3-none-any.whl"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(room, "RETRY_DELAYS", ())
    return Settings(tmp_path / "cache", timeout=5)


@pytest.fixture
def index() -> Iterator[Paper]:
    with paper_index() as paper:
        yield paper


# --- links ---


@pytest.mark.parametrize(
    ("link", "leads"),
    [
        (NAME, PAGE + NAME),
        (f"../../f/{NAME}", f"https://index.example/f/{NAME}"),
        (f"../../../../../../{NAME}", f"https://index.example/{NAME}"),
        (f"//other.example/{NAME}", f"https://other.example/{NAME}"),
        (f"https://other.example/x/..%2f/{NAME}", f"https://other.example/x/..%2f/{NAME}"),
        (f"javascript:alert(1)/{NAME}", None),
        (f"JavaScript:/{NAME}", None),
        (f"data:text/plain,/{NAME}", None),
        (f"file:///etc/{NAME}", None),
        (f"FILE:///etc/{NAME}", None),
        (f" \tfile:///etc/{NAME}", None),
        (f"file://server/share/{NAME}", None),
        (f"ftp://127.0.0.1/{NAME}", None),
        (f"http://[::1/{NAME}", None),
        (f"https://h:port/{NAME}", None),
        (f"http:///{NAME}", None),
        ("", None),
    ],
)
def test_a_link_leads_to_a_server_or_nowhere(link: str, leads: str | None) -> None:
    files = [{"filename": NAME, "url": link, "hashes": {"sha256": SHA}}]
    found = [file.url for file in from_json(json.dumps({"files": files}).encode(), PAGE)]
    assert found == ([leads] if leads else [])
    html = f'<a href="{link}#sha256={SHA}">{NAME}</a>'
    assert [file.url for file in from_html(html, PAGE) if file.name == NAME] == found


@pytest.mark.parametrize("base", ["javascript:1", "file:///etc/", "data:,", "http://["])
def test_a_base_that_is_no_server_changes_nothing(base: str) -> None:
    (file,) = from_html(f'<base href="{base}"><a href="{NAME}">x</a>', PAGE)
    assert file.url == PAGE + NAME


def test_a_folder_has_files_of_its_own() -> None:
    (file,) = from_html(f'<a href="{NAME}">x</a>', "file:///srv/simple/a/")
    assert file.url == f"file:///srv/simple/a/{NAME}"


@pytest.mark.parametrize("name", ["b-2-py3-none-any.whl", "../" + NAME, ""])
def test_a_name_that_is_not_the_address_s_is_passed_over(name: str) -> None:
    files = [{"filename": name, "url": NAME, "hashes": {"sha256": SHA}}]
    assert not list(from_json(json.dumps({"files": files}).encode(), PAGE))


@pytest.mark.parametrize("fragment", ["sha256=abc", "md5=" + "a" * 32, "sha256=" + "z" * 64, "SHA256", ""])
def test_a_hash_that_is_none_is_none(fragment: str) -> None:
    (file,) = from_html(f'<a href="{NAME}#{fragment}">x</a>', PAGE)
    assert file.sha256 is None


def test_no_page_takes_longer_than_its_length() -> None:
    start = time.process_time()
    for page in ("<a " * 1_000_000, "<base " * 500_000, '<a x="' * 300_000, "<a " + "x=' " * 500_000 + ">"):
        list(from_html(page, PAGE))
    assert time.process_time() - start < 60  # a guard: squared, it is hours


def test_a_page_nested_without_end_is_told() -> None:
    for page in (b"[" * 100_000, b'{"files":' * 50_000, b'{"files": ' + b"[" * 300 + b"]" * 300 + b"}"):
        with pytest.raises(ToolError, match="no list of files"):
            list(from_json(page, PAGE))


# --- how much comes ---


def test_a_page_larger_than_any_is_told(
    index: Paper, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LARGEST_PAGE", 1 << 20)
    monkeypatch.setattr(index, "page", lambda _: bytes(3 << 20))
    index.add("a", "1")
    with pytest.raises(ToolError, match="larger than it can be: more than 1 MiB"):
        Indexes([index.simple], settings).project("a")
    assert not (settings.cache_dir / "pypi").exists()


def test_metadata_larger_than_any_is_told(
    index: Paper, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheel_metadata, "_LARGEST", 200)
    index.add("a", "1", needs=["b" * 300])
    for index.has_metadata in (True, False):
        indexes = Indexes([index.simple], settings)
        (file,) = indexes.project("a").files
        with pytest.raises((ToolError, PackageError), match=r"larger than it can be|no METADATA in it"):
            metadata_of(file, indexes.transport, settings)


# --- what is kept ---


def spoil(path: Path, how: str) -> None:
    """Damage a file."""
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[-5] ^= 1
        path.write_bytes(data)
    elif how == "cut":
        path.write_bytes(data[:-3])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
        path.mkdir()


@pytest.mark.parametrize("how", ["flipped", "cut", "empty"])
def test_a_page_that_was_damaged_is_asked_for_anew(index: Paper, settings: Settings, how: str) -> None:
    index.add("a", "1")
    before = Indexes([index.simple], settings).project("a")
    for number in range(2):
        (path,) = (settings.cache_dir / "pypi" / "pages").iterdir()
        spoil(path, how)
        if number:
            with pytest.raises(ToolError, match="is not in the cache, and --offline"):
                Indexes([index.simple], replace(settings, offline=True)).project("a")
        else:
            assert Indexes([index.simple], settings).project("a") == before


@pytest.mark.parametrize("how", ["flipped", "cut", "empty"])
def test_metadata_that_was_damaged_is_asked_for_anew(index: Paper, settings: Settings, how: str) -> None:
    index.add("a", "1", needs=["b"])
    indexes = Indexes([index.simple], settings)
    (file,) = indexes.project("a").files
    before = metadata_of(file, indexes.transport, settings)
    (path,) = (settings.cache_dir / "pypi" / "metadata").iterdir()
    spoil(path, how)
    assert metadata_of(file, indexes.transport, settings) == before
    assert kept(path) == before


@pytest.mark.parametrize("how", ["flipped", "cut", "empty"])
def test_a_table_of_names_that_was_damaged_is_asked_for_anew(
    tmp_path: Path, index: Paper, settings: Settings, how: str
) -> None:
    del index
    from support.paper_channel import served

    (tmp_path / "www").mkdir()
    (tmp_path / "www" / "names.json").write_text('{"np": {"conda_name": "numpy", "pypi_name": "np"}}')
    with served(tmp_path / "www") as url:
        asking = replace(settings, mapping_url=f"{url}/names.json")
        path = names.names_table(asking, SILENT)
        before = path.read_bytes()
        spoil(path, how)
        assert names.names_table(asking, SILENT).read_bytes() == before
        assert len(list(path.parent.iterdir())) == 1
        spoil(path, how)
        (path.with_name(path.name.replace(".", ".0.", 1)) / "in it").mkdir(parents=True)
        assert names.names_table(asking, SILENT).read_bytes() == before
        assert len(list(path.parent.iterdir())) == 1


def test_what_is_kept_may_be_anything(tmp_path: Path) -> None:
    for data in (b"", b"\n", b"a\nb", gzip.compress(b"x")):
        keep(tmp_path / "x", data)
        assert kept(tmp_path / "x") == data
    assert kept(tmp_path) is None
    assert kept(tmp_path / "gone") is None
    (tmp_path / "y").write_bytes(b"as an older version wrote it")
    assert kept(tmp_path / "y") is None


def test_a_wheel_on_a_server_has_no_endless_table_of_contents(settings: Settings) -> None:
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 9, 9, 3_000_000_000, 0, 0)
    block = bytes(1 << 17) + end  # it says that its table of contents has 3 GB
    remote = wheel_metadata._Remote(f"https://h/{NAME}", 1 << 40, block, Indexes([], settings).transport)
    with pytest.raises(PackageError, match="larger than it can be"):
        wheel_metadata._in_wheel(remote, File(NAME, f"https://h/{NAME}"))
