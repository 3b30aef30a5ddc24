from __future__ import annotations

import hashlib
import io
import random
import tarfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from envbox.errors import ToolError
from envbox.images.layers import BUCKETS, BUDGET, LARGE, Layer, build_layers, plan_groups
from envbox.packages.link import frames
from envbox.packages.link.fragments import FileEntry, Fragment, LinkEntry, files_fragment
from envbox.packages.link.frames import CHUNK, FrameWriter, compress
from envbox.report import SILENT
from envbox.settings import Settings

names = st.text("abcdefghijklmnopqrstuvwxyz-_0123456789", min_size=1, max_size=12)
sizes = st.one_of(st.integers(0, LARGE), st.integers(LARGE + 1, 1 << 33))
environments = st.dictionaries(names, sizes, max_size=150)


# --- the plan


@given(environments, st.integers(2, 80))
def test_no_package_is_lost_or_twice_and_the_budget_holds(found: dict[str, int], budget: int) -> None:
    groups = plan_groups(found, budget)
    flat = [name for group in groups for name in group]
    assert sorted(flat) == sorted(found)
    assert len(groups) <= budget - 1
    assert all(group == tuple(sorted(group)) for group in groups)


@given(environments, st.randoms())
def test_the_order_of_the_packages_does_not_matter(found: dict[str, int], dice: random.Random) -> None:
    shuffled = list(found.items())
    dice.shuffle(shuffled)
    assert plan_groups(dict(shuffled)) == plan_groups(found)


@given(environments, st.integers(0, LARGE), names)
def test_a_small_package_added_changed_or_removed_touches_one_group(
    found: dict[str, int], size: int, name: str
) -> None:
    found = {**found, name: size}
    before = plan_groups({n: s for n, s in found.items() if n != name})
    after = plan_groups(found)
    assert len(set(after) - set(before)) == 1
    assert plan_groups({**found, name: LARGE - size}) == after


@given(environments.filter(lambda found: sum(s > LARGE for s in found.values()) < BUDGET - BUCKETS - 1))
def test_a_large_package_added_moves_no_other_while_there_is_room(found: dict[str, int]) -> None:
    before = plan_groups(found)
    after = plan_groups({**found, "Added": 100 << 20})
    assert set(after) == set(before) | {("Added",)}
    assert [group for group in after if group != ("Added",)] == list(before)


@given(environments)
def test_beyond_the_room_one_large_package_added_moves_at_most_one_into_a_bucket(
    found: dict[str, int],
) -> None:
    before, after = plan_groups(found), plan_groups({**found, "Added": 1 << 40})
    assert len(set(after) - set(before)) <= 2


def test_large_packages_come_first_by_power_of_two_then_by_name() -> None:
    groups = plan_groups({"a": 5 << 18, "b": 100 << 20, "c": 7 << 18, "d": 127 << 20, "e": 1, "f": LARGE})
    assert groups[:4] == (("b",), ("d",), ("a",), ("c",))
    assert all(len(group) <= 2 for group in groups)


def test_the_plan_is_this_one_until_the_image_format_changes() -> None:
    """A golden value: moving a package to another bucket would change images."""
    found = {f"package-{n}": n * 100_000 for n in range(200)}
    text = repr(plan_groups(found))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "fc9aba2c377b6bb8"


def test_a_budget_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="budget of 1"):
        plan_groups({}, 1)


# --- the codec


def test_the_codec_writes_the_bytes_that_its_name_promises() -> None:
    frames.check_codec.cache_clear()
    frames.check_codec()


def test_another_compressor_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    frames.check_codec.cache_clear()
    monkeypatch.setattr(zstandard, "ZSTD_VERSION", (1, 5, 8))
    with pytest.raises(ToolError, match=r"1\.5\.8") as caught:
        frames.check_codec()
    assert "zstandard==0.25.0" in str(caught.value.hint)
    monkeypatch.undo()
    monkeypatch.setattr(frames, "LEVEL", 4)
    with pytest.raises(ToolError, match="golden"):
        frames.check_codec()
    frames.check_codec.cache_clear()


@given(st.lists(st.integers(0, 300_000), max_size=30), st.randoms())
def test_a_frame_depends_on_its_bytes_and_not_on_how_they_were_written(
    cuts: list[int], dice: random.Random
) -> None:
    whole = hashlib.sha256(b"%d" % len(cuts)).digest() * (sum(cuts) // 32)
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(whole[at : at + cut])
        at += cut
    pieces.append(whole[at:])
    file = io.BytesIO()
    writer = FrameWriter(file)
    for piece in pieces:
        writer.write(piece)
    writer.close()
    assert file.getvalue() == compress(whole)
    assert (writer.raw_size, writer.size) == (len(whole), len(file.getvalue()))
    assert writer.sha256 == hashlib.sha256(file.getvalue()).hexdigest()


def test_a_frame_of_much_unpacks_in_bounded_pieces() -> None:
    pieces = list(frames.decompress(io.BytesIO(compress(bytes(50 << 20)))))
    assert max(map(len, pieces)) <= CHUNK
    assert sum(map(len, pieces)) == 50 << 20


# --- layers


def fragment(name: str, settings: Settings, **files: bytes) -> Fragment:
    entries = {f"opt/envbox/{name}/{path}": FileEntry(data) for path, data in files.items()}
    return files_fragment(name, {**entries, f"opt/envbox/{name}/link": LinkEntry("a")}, settings)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path, jobs=2)


def build(settings: Settings, *contents: Fragment) -> tuple[Layer, ...]:
    environment = files_fragment(
        "environment", {"opt/envbox/x": FileEntry(b"x"), "work/": FileEntry(mode=0o1777)}, settings
    )
    return build_layers(contents, environment, settings, SILENT)


def test_a_layer_s_digests_are_those_of_its_bytes(settings: Settings) -> None:
    for layer in build(settings, *(fragment(f"p{n}", settings, a=b"1" * n, b=b"2") for n in range(40))):
        raw, blob = b"".join(layer.open_raw()), b"".join(layer.open_blob())
        assert layer.diff_id == f"sha256:{hashlib.sha256(raw).hexdigest()}"
        assert layer.blob.digest == f"sha256:{hashlib.sha256(blob).hexdigest()}"
        assert (layer.raw_size, layer.blob.size) == (len(raw), len(blob))
        reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(blob), read_across_frames=True)
        assert reader.read() == raw


def test_a_layer_is_a_tar_with_each_folder_once_and_first(settings: Settings) -> None:
    layers = build(settings, *(fragment(f"p{n}", settings, a=b"1") for n in range(40)))
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(b"".join(layer.open_raw()))) as archive:
            members = archive.getmembers()
        found = [m.name for m in members]
        assert len(found) == len(set(found))
        folders = [m for m in members if m.isdir() and m.name != "work"]
        assert members[: len(folders)] == folders
        assert {(m.mode, m.mtime, m.uid, m.uname) for m in folders} == {(0o755, 0, 0, "")}
        for m in members:
            parts = m.name.split("/")
            assert all("/".join(parts[:n]) in found for n in range(1, len(parts)))


def test_the_environment_is_the_last_layer_and_keeps_a_folder_s_own_mode(settings: Settings) -> None:
    layers = build(settings, fragment("a", settings, x=b"1"))
    assert layers[-1].packages == ("environment",)
    with tarfile.open(fileobj=io.BytesIO(b"".join(layers[-1].open_raw()))) as archive:
        assert archive.getmember("work").mode == 0o1777


def test_layers_do_not_depend_on_the_order_of_fragments(settings: Settings) -> None:
    contents = [fragment(f"p{n}", settings, a=b"1") for n in range(20)]
    assert build(settings, *contents) == build(settings, *reversed(contents))


def test_one_package_changed_leaves_the_other_layers_alone(settings: Settings) -> None:
    contents = [fragment(f"p{n}", settings, a=b"1") for n in range(40)]
    before = {layer.diff_id for layer in build(settings, *contents)}
    contents[7] = fragment("p7", settings, a=b"2")
    assert len({layer.diff_id for layer in build(settings, *contents)} - before) == 1


def test_layers_are_remembered(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    content = fragment("a", settings, x=b"1")
    before = build(settings, content)
    monkeypatch.setattr("envbox.images.layers._measure", None)
    assert build(settings, content) == before


@pytest.mark.parametrize("record", [b"", b"{}", b"[]", b"\xff"])
def test_a_damaged_record_of_a_layer_is_made_again(settings: Settings, record: bytes) -> None:
    content = fragment("a", settings, x=b"1")
    before = build(settings, content)
    for path in (settings.cache_dir / "layers").iterdir():
        path.write_bytes(record)
    assert build(settings, content) == before


@pytest.mark.parametrize("way", ["open_raw", "open_blob"])
@pytest.mark.parametrize("at", [0, 9, -3, None])
def test_a_damaged_fragment_is_named_and_removed(settings: Settings, way: str, at: int | None) -> None:
    content = fragment("a", settings, x=b"1" * 5000)
    layer = build(settings, content)[0]
    data = bytearray(content.path.read_bytes())
    if at is None:
        content.path.unlink()
    else:
        data[at] ^= 1
        content.path.write_bytes(data)
    with pytest.raises(ToolError, match="fragment of a in the cache is damaged"):
        b"".join(getattr(layer, way)())
    assert not content.path.exists()
