"""Why layers are new: every one has a cause, every change of a package is named, and nothing else is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.paper_registry import PaperRegistry, serving
from support.tiny import Tiny, make_tiny

from envbox.engine.find import connect
from envbox.images.build import build, repository
from envbox.images.explain import NEW, RESTACKED, REUSED, Explanation, compare, explain
from envbox.images.layers import plan_groups, plan_homes
from envbox.images.record import (
    BASE,
    BUCKET,
    ENVIRONMENT,
    OWN,
    ImageRecord,
    LayerRecord,
    PackageRecord,
    recall_record,
    remember_record,
)
from envbox.lockfile.conda_lock_v1 import dumps
from envbox.oci import digest_of
from envbox.report import SILENT
from envbox.settings import Settings

MIB = 1 << 20


@dataclass(frozen=True)
class Made:
    """A package: its version, its archive's size in bytes, and what else its bytes are a function of."""

    version: str = "1.0"
    size: int = MIB // 4
    else_: str = ""


def image(packages: Mapping[str, Made], slim: tuple[str, ...] = (), base: str = "base") -> ImageRecord:
    """An image of these packages, grouped as the real ones are."""
    sizes = {name: made.size for name, made in packages.items()}
    homes = plan_homes(sizes)
    layers = [LayerRecord(digest_of(base.encode()), BASE, 0, 0, 30 * MIB)]
    for group in plan_groups(sizes):
        records = tuple(
            PackageRecord(
                n, packages[n].version, "h0", repr((n, packages[n], slim)), sizes[n], sizes[n] * 4, sizes[n]
            )
            for n in group
        )
        bucket = homes[group[0]]
        size = sum(sizes[n] for n in group)
        layers.append(
            LayerRecord(
                digest_of(repr([r.key for r in records]).encode()),
                OWN if bucket is None else BUCKET,
                bucket or 0,
                size * 4,
                size,
                records,
            )
        )
    layers.append(LayerRecord(digest_of(repr((packages, slim)).encode()), ENVIRONMENT, 0, 1000, 300))
    return ImageRecord(digest_of(repr(layers).encode()), tuple(layers), slim)


def told(now: ImageRecord, before: ImageRecord) -> Explanation:
    """What an engine that keeps unpacked layers is told: it has everything up to the first other layer."""
    same = 0
    for ours, theirs in zip(now.layers, before.layers, strict=False):
        if ours.diff_id != theirs.diff_id:
            break
        same += 1
    return compare(now, before, {layer.diff_id for layer in now.layers[same:]}, "sha256:before")


def words(explanation: Explanation) -> dict[str, list[str]]:
    """Layer → causes; how many packages a bucket has is left away."""
    named = {layer.name.partition(" (")[0]: layer.causes for layer in explanation.layers if layer.causes}
    return {name: [str(cause) for cause in causes] for name, causes in named.items()}


SMALL = {"a": Made(), "b": Made(), "python": Made("3.11.1")}


def test_another_version_is_the_cause_of_its_bucket() -> None:
    found = told(image(SMALL | {"a": Made("2.0")}), image(SMALL))
    bucket = f"bucket {plan_homes({'a': 1})['a']}"
    lockfile = ["the lockfile: it changed, and lies in the image"]
    assert words(found) == {bucket: ["a 1.0 → 2.0"], "environment": lockfile}
    assert {layer.state for layer in found.layers if layer.causes} == {NEW}


def test_another_build_of_a_version_is_told_by_its_build() -> None:
    before, now = image(SMALL), image(SMALL | {"a": Made(else_="other")})

    def rebuilt(layer: LayerRecord) -> LayerRecord:
        return replace(
            layer, packages=tuple(replace(p, build="h1") if p.name == "a" else p for p in layer.packages)
        )

    now = replace(now, layers=tuple(map(rebuilt, now.layers)))
    assert ["a 1.0 h0 → 1.0 h1"] in words(told(now, before)).values()


def test_what_came_and_what_is_gone_is_named_even_with_its_whole_layer() -> None:
    found = words(told(image({"python": Made("3.11.1"), "c": Made("3.0")}), image(SMALL)))
    assert ["c 3.0 added"] in found.values()
    assert set(found["environment"][1:]) == {"a 1.0 removed", "b 1.0 removed"}


def test_a_package_that_grows_over_the_limit_gets_a_layer_and_its_bucket_says_so() -> None:
    other = next(n for n in map(str, range(99)) if plan_homes({n: 1})[n] == plan_homes({"a": 1})["a"])
    before = SMALL | {other: Made()}
    found = words(told(image(before | {"a": Made("2.0", 5 * MIB)}), image(before)))
    number = plan_homes({"a": 1})["a"]
    assert found["a"] == [f"a 1.0 → 2.0: it came from bucket {number}, now over 1 MiB"]
    assert found[f"bucket {number}"] == ["a: went to a layer of its own, now over 1 MiB"]


def test_a_package_that_others_push_out_of_its_layer_says_so() -> None:
    number = plan_homes({"p0": 1})["p0"]
    small = next(n for n in map(str, range(99)) if plan_homes({n: 1})[n] == number)
    many = {f"p{n}": Made(size=(10 + n) * MIB) for n in range(40)} | {small: Made()}
    found = words(told(image(many | {"new": Made("1.0", 99 * MIB)}), image(many)))
    assert found["new"] == ["new 1.0 added"]
    assert found[f"bucket {number}"] == ["p0: came from a layer of its own, others are larger now"]


def test_byte_code_for_another_python_and_slim_are_said() -> None:
    now = image(SMALL | {"python": Made("3.11.2"), "b": Made(else_="3.11.2")})
    found = [cause for causes in words(told(now, image(SMALL))).values() for cause in causes]
    assert "b: its byte-code is for python 3.11.2 now" in found
    assert "python 3.11.1 → 3.11.2" in found
    found = [c for cs in words(told(image(SMALL, ("docs",)), image(SMALL))).values() for c in cs]
    assert "a: slim leaves out docs now" in found


def test_another_base_restacks_everything_and_changes_nothing_else() -> None:
    found = told(image(SMALL, base="other"), image(SMALL))
    assert words(found) == {"base, layer 1": ["the base image: it is another one"]}
    assert {layer.state for layer in found.layers[1:]} == {RESTACKED}


def test_without_a_record_of_the_image_before_causes_are_not_made_up() -> None:
    now = image(SMALL)
    found = compare(now, None, {now.layers[-1].diff_id}, "sha256:before")
    assert not found.is_known
    assert words(found) == {}
    assert [layer.state for layer in found.layers] == [REUSED] * (len(found.layers) - 1) + [NEW]


PACKAGES = st.dictionaries(
    st.sampled_from([f"p{n}" for n in range(60)] + ["python"]),
    st.builds(
        Made, st.sampled_from(["1.0", "2.0"]), st.sampled_from([MIB, 3 * MIB, 5 * MIB, 70 * MIB]),
        st.sampled_from(["", "x"]),
    ),
    min_size=1,
)  # fmt: skip


@given(PACKAGES, PACKAGES)
def test_every_layer_of_other_bytes_has_a_cause_and_every_change_is_named(
    old: dict[str, Made], new: dict[str, Made]
) -> None:
    before, now = image(old), image(new)
    found = told(now, before)
    diff_ids = {layer.diff_id for layer in before.layers}
    for layer in found.layers:
        assert bool(layer.causes) == (layer.diff_id not in diff_ids)
    changed = {name for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    named = {c.package for layer in found.layers for c in layer.causes} - {"the lockfile"}
    moved = {n for n in old.keys() & new.keys() if before.packages[n][0].place != now.packages[n][0].place}
    assert named == changed | moved
    sums = found.to_json()
    assert sum(sums[s]["layers"] for s in (NEW, RESTACKED, REUSED)) == len(now.layers)
    json.dumps(sums)


def test_a_record_is_read_back_and_another_versions_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(cache_dir=tmp_path)
    made = image(SMALL, ("docs",))
    remember_record("sha256:x", made, settings)
    assert recall_record("sha256:x", settings) == made
    assert recall_record("sha256:y", settings) is None
    monkeypatch.setattr("envbox.images.record.VERSION", 99)
    assert recall_record("sha256:x", settings) is None
    for path in (tmp_path / "builds").iterdir():
        path.write_bytes(path.read_bytes()[:-10])
    assert recall_record("sha256:x", settings) is None


# --- with an engine


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Tiny]:
    with serving(PaperRegistry()) as registry:
        made = make_tiny(tmp_path, registry, motd=uuid4().bytes)
        name = f"explain-{uuid4().hex[:12]}"
        yield replace(made, environment=replace(made.environment, name=name))
        found = subprocess.run(
            ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}", repository(name)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        for reference in found.stdout.split():
            connect(made.settings()).remove_image(reference)


@pytest.mark.rig
def test_a_build_is_explained_before_and_after(tiny: Tiny) -> None:
    settings = tiny.settings()
    engine = connect(settings)

    def asked() -> Explanation:
        return explain(tiny.environment, settings, engine, SILENT, "linux-64")

    first = asked()
    assert (first.previous, words(first)) == (None, {})
    built = build(tiny.environment, settings, engine, SILENT, "linux-64")
    assert built.config_digest == first.id
    assert {layer.state for layer in asked().layers} == {REUSED}
    packages = tuple(p for p in tiny.lock.packages if p.name != "two")
    packages = tuple(replace(p, depends={}) for p in packages)
    tiny.environment.lock_path.write_bytes(dumps(replace(tiny.lock, packages=packages)))
    second = asked()
    assert (second.previous, second.is_known) == (built.id, True)
    causes = {str(cause) for layer in second.layers for cause in layer.causes}
    assert {"two 1.0 removed", "the lockfile: it changed, and lies in the image"} <= causes
    assert not any(cause.startswith(("one", "vars", "act")) for cause in causes)
    before = engine.present()
    assert engine.present() == before  # asking loads nothing
    assert second.id == build(tiny.environment, settings, engine, SILENT, "linux-64").config_digest


@pytest.mark.rig
def test_the_command_explains_and_a_dry_run_loads_nothing(tiny: Tiny, tmp_path: Path) -> None:
    folder = tmp_path / "environments"
    folder.mkdir()
    name = tiny.environment.name
    (folder / f"{name}.conda-lock.yml").write_bytes(tiny.environment.lock_path.read_bytes())
    environ = {**os.environ, "ENVBOX_CONFIG": os.devnull, **tiny.environ}
    environ["ENVBOX_CACHE_DIR"] = str(tmp_path / "cache")
    environ["ENVBOX_BASE"] = tiny.settings().base

    def run(*words: str) -> str:
        argv = [sys.executable, "-m", "envbox", "-C", str(tmp_path), "build", name, *words]
        done = subprocess.run(argv, env=environ, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "there is no image of it in the engine yet" in run("--dry-run")
    assert connect(tiny.settings()).image_id(f"{repository(name)}:latest") is None
    told = json.loads(run("--explain", "--json"))
    assert told["image"]["new"]
    assert told["explanation"]["id"] == told["image"]["id"]
    assert told["explanation"]["layers"][-1]["name"] == "environment"
    words = run("--explain").splitlines()
    assert [words[0].split("  ")[-1].strip(), words[1]] == ["there already", told["image"]["reference"]]
