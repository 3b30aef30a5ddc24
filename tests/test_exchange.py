"""What others have locked becomes ours, to the package; what is missing is found out; nothing is guessed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.auth_servers import basic, guarded
from support.foreign_world import Told, World, explicit_of, md5_of, pip, registry, world, write, write_index  # noqa: F401  # fixtures
from support.paper_registry import PaperRegistry
from support.tiny import CHANNEL

from envbox.cli import run
from envbox.errors import (
    EnvboxError,
    ImageError,
    LockfileError,
    PackageError,
    SolveError,
    SpecError,
    ToolError,
)
from envbox.images.embedded_lock import find_lockfile, lockfile_in_registry
from envbox.lockfile import LockedPackage
from envbox.lockfile.conda_lock_v1 import read_lockfile
from envbox.lockfile.formats import FORMATS, read_foreign
from envbox.locks.convert.complete import complete
from envbox.locks.convert.export import export
from envbox.locks.convert.import_lock import ForeignFiles, adopt, import_files, take
from envbox.locks.convert.spec_from_lock import roots
from envbox.locks.freshness import differences, is_fresh
from envbox.mirrors import Mirrors
from envbox.project import Environment, check_not_foreign, foreign_environment, read_project
from envbox.report import SILENT
from envbox.settings import Settings


def pinned(packages: Any) -> set[tuple[str | None, ...]]:
    return {(p.manager, p.name, p.version, p.build, p.platform, p.url, p.sha256) for p in packages}


def read(path: Path, settings: Settings, report: Any = SILENT) -> tuple[LockedPackage, ...]:
    return complete(read_foreign(path.read_bytes(), path), settings, report)


# --- what is missing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fragment", ["", "md5", "sha256"])
def test_what_an_explicit_file_leaves_out_is_in_the_channels_index(
    world: World, tmp_path: Path, fragment: str
) -> None:
    found = read(write(tmp_path, "x.txt", explicit_of(world, fragment)), world.settings)
    assert pinned(found) == pinned(world.lock.packages)
    three = next(p for p in found if p.name == "three")
    assert (dict(three.depends), three.license) == ({"two": ""}, "BSD-3-Clause")
    assert three.size == next(
        (world.channel / p).stat().st_size for p in (f"{three.subdir}/{three.file_name}",)
    )


def test_what_no_index_has_is_read_from_its_archive_and_said(world: World, tmp_path: Path) -> None:
    write_index(world.channel, world.lock.packages, leave_out=("three", "two"))
    told = Told()
    found = read(write(tmp_path, "x.txt", explicit_of(world)), world.settings, told)
    assert pinned(found) == pinned(world.lock.packages)
    assert dict(next(p for p in found if p.name == "three").depends) == {"two": ""}
    (words,) = [w for w in told.words if "the hash of what came now is recorded" in w]
    assert "three-1.0-h0_0.conda" in words
    assert "one-" not in words


def test_an_archive_that_was_read_is_not_fetched_again(world: World, tmp_path: Path) -> None:
    from envbox.packages.fetch import fetch_archives

    write_index(world.channel, world.lock.packages, leave_out=("three",))
    found = read(write(tmp_path, "x.txt", explicit_of(world)), world.settings)
    three = next(p for p in found if p.name == "three")
    (world.channel / "linux-64" / three.file_name).unlink()
    assert fetch_archives([three], world.settings)[three.sha256].is_file()


def test_a_channel_without_an_index_is_one_of_archives(world: World, tmp_path: Path) -> None:
    for path in world.channel.rglob("repodata.json"):
        path.unlink()
    found = read(write(tmp_path, "x.txt", explicit_of(world, "md5")), world.settings)
    assert pinned(found) == pinned(world.lock.packages)


def test_what_is_in_the_cache_needs_no_channel(world: World, tmp_path: Path) -> None:
    """A sha256 names an archive, and its dependencies are in it."""
    from envbox.packages.fetch import fetch_archives

    fetch_archives(world.lock.packages, world.settings)
    offline = replace(world.settings, offline=True)
    found = read(write(tmp_path, "x.txt", explicit_of(world, "sha256")), offline)
    assert pinned(found) == pinned(world.lock.packages)
    assert dict(next(p for p in found if p.name == "three").depends) == {"two": ""}
    with pytest.raises(ToolError, match="--offline"):
        read(write(tmp_path, "x.txt", explicit_of(world, "md5")), offline)


def test_a_hash_that_the_channel_contradicts_is_refused(world: World, tmp_path: Path) -> None:
    path = write(tmp_path, "x.txt", explicit_of(world, "md5"))
    wrong = md5_of(world.channel / "linux-64" / "two-1.0-h0_0.conda")
    path.write_text(path.read_text().replace(wrong, "0" * 32))
    with pytest.raises(PackageError, match=f"two-1.0-h0_0.conda has md5 {wrong} in its channel, and 0000"):
        read(path, world.settings)
    write_index(world.channel, world.lock.packages, leave_out=("two",))
    with pytest.raises(PackageError, match=f"two-1.0-h0_0.conda has md5 {wrong}, and 0000"):
        read(path, replace(world.settings, cache_dir=tmp_path / "other"))


def test_what_is_nowhere_is_named(world: World, tmp_path: Path) -> None:
    path = write(tmp_path, "x.txt", f"@EXPLICIT\n{CHANNEL}/linux-64/gone-1.0-h0_0.conda\n")
    with pytest.raises(ToolError, match=r"gone-1.0-h0_0.conda: the server says 404"):
        read(path, world.settings)
    assert not list(world.settings.cache_dir.rglob("*gone*"))


def test_a_file_that_lacks_what_a_package_needs_is_no_environment(world: World, tmp_path: Path) -> None:
    lines = explicit_of(world).splitlines()
    path = write(tmp_path, "x.txt", "\n".join(line for line in lines if "/two-" not in line))
    with pytest.raises(LockfileError, match="three needs two, which is not there for linux-64"):
        read(path, world.settings)


def test_a_channel_that_wants_a_login_is_asked_with_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its index, and the archives that the index does not have."""
    monkeypatch.setenv("HOME", str(tmp_path))
    write_index(world.channel, world.lock.packages, leave_out=("three",))
    with guarded(world.channel, wants=basic("me", "s3cret")) as server:
        monkeypatch.setenv("ENVBOX_CREDENTIALS", server.url.removeprefix("http://") + "=me:s3cret")
        path = write(tmp_path, "x.txt", explicit_of(world).replace(CHANNEL, server.url))
        found = read(path, replace(world.settings, mirrors=Mirrors({})))
    assert {p.sha256 for p in found} == {p.sha256 for p in world.lock.packages}
    assert server.shown == {basic("me", "s3cret")}
    assert [p for p in server.paths if p.endswith(".conda")] == ["/linux-64/three-1.0-h0_0.conda"]


def test_an_empty_licence_is_none(world: World, tmp_path: Path) -> None:
    for path in world.channel.rglob("repodata.json"):
        path.write_text(path.read_text().replace("BSD-3-Clause", ""))
    found = read(write(tmp_path, "x.txt", explicit_of(world)), world.settings)
    assert {p.license for p in found} == {None}


# --- a spec of it -------------------------------------------------------------------------------------------


def package(name: str, *depends: str, manager: Any = "conda") -> LockedPackage:
    url = f"{CHANNEL}/linux-64/{name}-1-0.conda"
    return LockedPackage(manager, name, "1", "0", "linux-64", dict.fromkeys(depends, ""), url, "0" * 64)


def names(packages: Any) -> list[str]:
    return sorted(p.name for p in packages)


def test_the_roots_are_what_no_other_needs_and_python() -> None:
    packages = [
        package("python", "zlib"),
        package("zlib"),
        package("numpy", "python"),
        package("maps", "numpy"),
    ]
    assert names(roots(packages)) == ["maps", "python"]


def test_a_circle_that_nobody_needs_stands_there_whole() -> None:
    assert names(roots([package("a", "b"), package("b", "a"), package("c")])) == ["a", "b", "c"]
    assert names(roots([package("a", "b"), package("b", "a"), package("c", "a")])) == ["c"]


# --- imported -----------------------------------------------------------------------------------------------


def imported(world: World, root: Path, path: Path, **more: Any) -> Environment:
    source = ForeignFiles((path,), more.pop("name", "maps"))
    return import_files(source, read_project(root), world.settings, SILENT, **more)


FOREIGN = ("conda-lock", "explicit", "pixi")


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_exported_and_imported_is_the_same_lock(world: World, tmp_path: Path, kind: str) -> None:
    data = export(world.lock, kind, (), world.settings, SILENT)
    found = imported(world, tmp_path / "project", write(tmp_path, "theirs", data))
    lock = read_lockfile(found.lock_path)
    expected = (*world.lock.packages, pip(world.channel))  # for which the spec asks, since there is a wheel
    assert pinned(lock.packages) == pinned(expected)
    assert [dict(p.depends) for p in lock.packages] == [
        dict(p.depends) for p in sorted(expected, key=lambda p: (p.manager, p.name))
    ]
    assert lock.base == world.lock.base


@pytest.mark.parametrize("kind", FOREIGN)
def test_an_import_is_fresh_by_the_spec_that_it_wrote(world: World, tmp_path: Path, kind: str) -> None:
    data = export(world.lock, kind, (), world.settings, SILENT)
    found = imported(world, tmp_path / "project", write(tmp_path, "theirs", data))
    assert differences(found, world.settings) == ()
    assert is_fresh(found, world.settings)
    spec = yaml.safe_load(found.spec_path.read_text())
    assert spec["channels"] == ["conda-forge"]
    asked = [d for d in spec["dependencies"] if isinstance(d, str)]
    assert asked[0].startswith("python=")
    assert "three=1.0" in asked
    assert not [d for d in asked if d.startswith("two")]
    assert spec["dependencies"][-1] == {"pip": ["wheeled==1.0"]}


def test_an_export_of_conda_is_locked_by_its_builds(world: World, tmp_path: Path) -> None:
    """`conda env export` has neither URLs nor hashes: each package is asked for by version and build."""
    lock = replace(world.lock, packages=tuple(p for p in world.lock.packages if p.manager == "conda"))
    data = export(lock, "environment", ("linux-64",), world.settings, SILENT)
    text = data.decode().replace("platforms:\n- linux-64\n", "") + "prefix: /home/me/envs/maps\n"
    assert "three=1.0=h0_0" in text
    found = imported(world, tmp_path / "project", write(tmp_path, "environment.yml", text))
    assert pinned(read_lockfile(found.lock_path).packages) == pinned(lock.packages)
    assert differences(found, world.settings) == ()
    assert yaml.safe_load(found.spec_path.read_text())["variables"] == {"Y": "y", "Z": "z"}


def test_wheels_without_pip_where_there_is_none_are_said_to_need_it(world: World, tmp_path: Path) -> None:
    write_index(world.channel, world.lock.packages)
    with pytest.raises(SolveError, match="without conda's pip") as caught:
        imported(world, tmp_path / "project", write(tmp_path, "theirs", explicit_of(world)))
    assert caught.value.hint == "a lockfile can be used as it is, without a spec: envbox build FILE"


def test_nothing_is_replaced_unless_that_is_asked_for(world: World, tmp_path: Path) -> None:
    path = write(tmp_path, "theirs", explicit_of(world))
    spec = write(tmp_path / "project/environments", "maps.yml", "dependencies: [python]")
    with pytest.raises(SpecError, match=r"maps.yml exists"):
        imported(world, tmp_path / "project", path)
    assert spec.read_text() == "dependencies: [python]"
    imported(world, tmp_path / "project", path, force=True)
    assert "three=1.0" in spec.read_text()


def test_a_spec_that_would_no_longer_be_found_stops_it(world: World, tmp_path: Path) -> None:
    path = write(tmp_path, "theirs", explicit_of(world))
    write(tmp_path / "project", "environment.yml", "dependencies: [python]")
    with pytest.raises(SpecError, match=r"environment.yml would no longer be found"):
        imported(world, tmp_path / "project", path)


def test_a_failed_import_writes_nothing(world: World, tmp_path: Path) -> None:
    path = write(tmp_path, "theirs", f"@EXPLICIT\n{CHANNEL}/linux-64/gone-1.0-h0_0.conda\n")
    with pytest.raises(EnvboxError):
        imported(world, tmp_path / "project", path)
    assert not (tmp_path / "project").exists()


def test_files_for_two_platforms_are_one_environment(world: World, tmp_path: Path) -> None:
    """Differences between the platforms become selectors."""
    one = write(tmp_path, "conda-linux-64.lock", explicit_of(world))
    archive = world.channel / "linux-64" / "two-1.0-h0_0.conda"
    arm = write(world.channel / "osx-arm64", archive.name, archive.read_bytes())
    two = write(tmp_path, "conda-osx-arm64.lock", f"@EXPLICIT\n{CHANNEL}/osx-arm64/{arm.name}\n")
    taken = take(ForeignFiles((one, two), "maps"), world.settings, SILENT)
    assert taken.lock.platforms == ("linux-64", "osx-arm64")
    assert "  - two=1.0  # [arm64]\n" in taken.spec
    assert "  - pip:  # [linux64]\n      - wheeled==1.0  # [linux64]\n" in taken.spec
    assert taken.lock.base is not None
    assert set(taken.lock.base.digests) == {"linux-64"}
    with pytest.raises(LockfileError, match="are both for linux-64"):
        take(ForeignFiles((one, one), "maps"), world.settings, SILENT)


# --- used as it is ------------------------------------------------------------------------------------------


def test_a_foreign_lockfile_is_an_environment_as_it_is(world: World, tmp_path: Path) -> None:
    """It is taken over once; nothing is written beside it."""
    write(tmp_path / "project", "pixi.lock", export(world.lock, "pixi", (), world.settings, SILENT))
    (environment,) = read_project(tmp_path / "project").environments
    told = Told()
    adopted = adopt(environment, world.settings, told)
    lock = read_lockfile(adopted.lock_path)
    assert pinned(lock.packages) == pinned(world.lock.packages)
    assert lock.name == "project"
    assert lock.base == world.lock.base
    assert len(told.words) == 2
    assert "as it is today, and may be another one on another machine" in told.words[1]
    assert adopt(environment, world.settings, told) == adopted
    assert len(told.words) == 2
    assert lock.base is not None
    pinned_base = f"{lock.base.reference.rpartition(':')[0]}@{lock.base.digests['linux-64']}"
    told.words.clear()
    adopt(environment, replace(world.settings, base=pinned_base), told)
    assert len(told.words) == 1  # the setting says it for every machine
    assert [p.name for p in (tmp_path / "project").iterdir()] == ["pixi.lock"]
    with pytest.raises(SpecError, match=r"no spec to lock, only .*pixi.lock"):
        check_not_foreign(environment)


def test_a_lockfile_of_ours_without_a_spec_is_taken_as_it_is(world: World, tmp_path: Path) -> None:
    path = write(tmp_path, "conda-lock.yml", world.tiny.environment.lock_path.read_bytes())
    assert adopt(foreign_environment(path), world.settings, SILENT).lock_path == path


def test_an_image_is_built_from_a_foreign_lockfile(world: World, tmp_path: Path) -> None:
    """The same packages in the same base give the same layers but the lockfile's own."""
    from envbox.images.output import write_output
    from envbox.images.publication import PublishRequest

    path = write(tmp_path, "maps.lock", explicit_of(world, "md5"))
    environment = adopt(foreign_environment(path), world.settings, SILENT)
    wanted = PublishRequest(environment, ("linux-64",), False)
    publication = write_output(wanted, tmp_path / "image", world.settings, SILENT)
    assert publication.to_json()["digest"].startswith("sha256:")


# --- exported -----------------------------------------------------------------------------------------------


def test_conda_lock_reads_what_we_write(world: World, tmp_path: Path) -> None:
    from conda_lock.lockfile import parse_conda_lock_file

    with_md5 = tuple(replace(p, md5="0" * 32) if p.manager == "conda" else p for p in world.lock.packages)
    lock = replace(world.lock, packages=with_md5)
    data = export(lock, "conda-lock", ("linux-64",), world.settings, SILENT)
    path = write(tmp_path, "conda-lock.yml", data)
    content = parse_conda_lock_file(path)
    assert {(p.manager, p.name, p.version, p.url, p.hash.sha256) for p in content.package} == {
        (p.manager, p.name, p.version, p.url, p.sha256) for p in lock.packages
    }


def test_requirements_have_pypis_names_and_no_more_than_python(world: World) -> None:
    text = export(world.lock, "requirements", (), world.settings, SILENT).decode()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == ["pure-on-pypi==1.0", "wheeled==1.0"]
    assert "5 packages that are not Python's" in text


def test_a_format_for_one_platform_wants_to_know_which(world: World) -> None:
    both = replace(world.lock, platforms=("osx-64", "win-64"))
    with pytest.raises(LockfileError, match="for one platform, and tiny is locked for osx-64, win-64"):
        export(both, "explicit", (), world.settings, SILENT)


@pytest.mark.parametrize("kind", [one.name for one in FORMATS])
def test_a_platform_that_is_not_locked_is_refused(world: World, kind: str) -> None:
    with pytest.raises(LockfileError, match="not locked for win-64"):
        export(world.lock, kind, ("win-64",), world.settings, SILENT)


# --- from an image ------------------------------------------------------------------------------------------


def test_the_lockfile_in_an_image_comes_back_byte_for_byte(world: World, registry: PaperRegistry) -> None:
    data = world.tiny.environment.lock_path.read_bytes()
    inside = "opt/envbox/share/envbox/conda-lock.yml"
    registry.put_image("a/maps:1", [{"etc/motd": b"x"}, {inside: data}, {"etc/later": b"y"}], "linux-64")
    assert lockfile_in_registry("docker://docker.io/a/maps:1", "linux-64", world.settings, SILENT) == data


def test_an_image_without_a_lockfile_is_refused_by_name(world: World, registry: PaperRegistry) -> None:
    registry.put_image("a/plain:1", [{"etc/motd": b"x"}], "linux-64")
    with pytest.raises(ImageError, match=r"docker.io/a/plain:1 has no lockfile"):
        lockfile_in_registry("docker.io/a/plain:1", "linux-64", world.settings, SILENT)
    registry.put_image("a/broken:1", [{"opt/envbox/share/envbox/conda-lock.yml": b"version: 1"}], "linux-64")
    with pytest.raises(ImageError, match=r"the lockfile in docker.io/a/broken:1 is damaged"):
        lockfile_in_registry("docker.io/a/broken:1", "linux-64", world.settings, SILENT)


def test_what_the_engine_does_not_have_is_looked_for_in_its_registry(
    world: World, registry: PaperRegistry
) -> None:
    data = world.tiny.environment.lock_path.read_bytes()
    registry.put_image("a/there:1", [{"opt/envbox/share/envbox/conda-lock.yml": data}], "linux-64")

    def no_engine() -> Any:
        raise ToolError("no engine answers")

    project = read_project(world.tiny.folder / "nowhere")
    assert find_lockfile("docker.io/a/there:1", project, no_engine, world.settings, SILENT) == data
    with pytest.raises(ToolError, match="no engine"):
        find_lockfile("maps", project, no_engine, world.settings, SILENT)


# --- on the command line ------------------------------------------------------------------------------------


def test_import_export_and_lock_on_the_command_line(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    rules = " ".join(f"{old}={new}" for old, new in world.settings.mirrors.rules.items())
    monkeypatch.setenv("ENVBOX_MIRRORS", rules)
    monkeypatch.setenv("ENVBOX_TRUST_PYTHON", "1")
    monkeypatch.setenv("ENVBOX_BASE", world.settings.base)
    monkeypatch.setenv("ENVBOX_CACHE_DIR", str(world.settings.cache_dir))
    project = tmp_path / "project"
    path = write(project, "theirs/maps.lock", explicit_of(world))
    at = ["-C", str(project)]
    assert run([*at, "import", str(path)]) == 0
    assert capsysbinary.readouterr().out == f"{project}/environments/maps.yml\n".encode()
    assert run([*at, "lock", "maps"]) == 0
    assert b"up to date" in capsysbinary.readouterr().err
    assert run([*at, "export", "maps", "--format", "explicit"]) == 0
    assert capsysbinary.readouterr().out.startswith(
        b"# maps, exported by envbox\n# platform: linux-64\n@EXPLICIT\n"
    )
    assert run([*at, "export", "maps", "--format", "pixi", "-o", "pixi.lock"]) == 0
    assert run([*at, "lock", "pixi.lock"]) == 1
    assert b"envbox import pixi.lock" in capsysbinary.readouterr().err
    assert run([*at, "build", "pixi.lock", "-o", "image"]) == 0
    assert (project / "image").is_dir()
    assert run([*at, "import", str(write(project, "broken.lock", b"@EXPLICIT\nnumpy\n"))]) == 1
    assert b"line 2" in capsysbinary.readouterr().err
