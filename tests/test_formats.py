"""Every command that takes a lockfile takes one of every format; a path means what a name means."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.foreign_world import Told, World, explicit_of, md5_of, registry, world, write  # noqa: F401  # fixtures
from support.tiny import CHANNEL

from envbox.cli import run
from envbox.errors import LockfileError, SpecError
from envbox.lockfile.conda_lock_v1 import read_lockfile
from envbox.lockfile.foreign import Selection
from envbox.lockfile.formats import FORMATS, is_spec, read_any, read_foreign
from envbox.locks.convert.export import export
from envbox.project import environment_at, read_project
from envbox.report import SILENT

Files = Callable[[World], str | bytes]


def exported(kind: str) -> Files:
    return lambda w: export(w.lock, kind, (), w.settings, SILENT)


def without_sha256(at: World) -> str:
    """As conda-lock before 2.0 wrote them."""
    text = export(at.lock, "conda-lock", (), at.settings, SILENT).decode()
    text = re.sub(r"  custom_metadata:\n(    .*\n)+", "", text)
    for package in (p for p in at.lock.packages if p.manager == "conda"):
        md5 = md5_of(at.channel / package.subdir / package.file_name)
        text = text.replace(f"sha256: {package.sha256}", f"md5: {md5}")
    return text


FILES: dict[str, Files] = {
    "mine.conda-lock.yml": exported("conda-lock"),
    "lock.yml": exported("conda-lock"),
    "old.lock": without_sha256,
    "explicit.txt": lambda w: explicit_of(w, "md5"),
    "bare.txt": explicit_of,
    "pixi.lock": exported("pixi"),
}
COMMANDS: dict[str, tuple[str, ...]] = {
    "list": ("list", "FILE"),
    "tree": ("tree", "FILE"),
    "why": ("why", "two", "FILE"),
    "size": ("size", "FILE", "--platform", "linux-64"),
    "outdated": ("outdated", "FILE"),
    "diff": ("diff", "FILE", "FILE", "--exit-code"),
    "export": ("export", "FILE", "--format", "explicit"),
    "build": ("build", "FILE", "-o", "image"),
    "stamp": ("stamp", "a.ipynb", "--name", "FILE"),
    "check": ("check", "a.ipynb", "--name", "FILE"),
    "import": ("import", "FILE", "--name", "theirs"),
}
NOTEBOOK = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture
def at(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The command line, with the world's settings."""
    rules = " ".join(f"{old}={new}" for old, new in world.settings.mirrors.rules.items())
    monkeypatch.setenv("ENVBOX_MIRRORS", rules)
    monkeypatch.setenv("ENVBOX_BASE", world.settings.base)
    monkeypatch.setenv("ENVBOX_CACHE_DIR", str(world.settings.cache_dir))
    monkeypatch.setenv("ENVBOX_CONFIG", os.devnull)
    monkeypatch.setenv("ENVBOX_TRUST_PYTHON", "1")  # it is a script, which is no program on its own
    return world


@pytest.mark.parametrize("file", FILES)
def test_each_command_reads_each_format(
    at: World, tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "project"
    path = write(project, file, FILES[file](at))
    before = path.read_bytes()
    (project / "a.ipynb").write_text(json.dumps(NOTEBOOK))
    for command, words in COMMANDS.items():
        code = run(["-C", str(project), *(file if word == "FILE" else word for word in words)])
        told = capsys.readouterr()
        assert code == (1 if command == "check" else 0), (command, told.err)
        assert "Traceback" not in told.err
        assert path.read_bytes() == before, command
        if command in ("list", "tree", "why", "size", "export"):
            assert "two" in told.out, command
        if command == "check":
            assert "ipykernel" in told.err, told.err
    assert read_lockfile(project / "environments/theirs.conda-lock.yml").packages


@pytest.mark.parametrize("file", FILES)
def test_two_lockfiles_are_compared_whatever_their_formats(at: World, tmp_path: Path, file: str) -> None:
    """What a format does not say is no difference."""
    ours = at.tiny.environment.lock_path
    path = write(tmp_path, file, FILES[file](at))
    from envbox.locks.inspect.changes import changes, details

    old, new = (read_any(one.read_bytes(), one) for one in (ours, path))
    assert changes(old, new) == ()
    assert [d.what for d in details(old, new) if d.what == "base"] == []


def test_the_table_has_what_the_command_line_offers() -> None:
    from envbox.cli.exchange import export as command

    (choice,) = (o.type.choices for o in command.params if o.name == "kind")  # type: ignore[attr-defined]
    assert list(choice) == [one.name for one in FORMATS]


# --- a path is a name ---------------------------------------------------------------------------------------


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("dependencies: [python]\n" if "lock" not in name else "version: 1\npackage: []\n")
    return root


@pytest.mark.parametrize(
    ("files", "path", "name", "spec", "lock"),
    [
        (["my.yml"], "my.yml", "my", "my.yml", "my.conda-lock.yml"),
        (["my.yaml"], "my.yaml", "my", "my.yaml", "my.conda-lock.yml"),
        (["my.yml", "my.conda-lock.yml"], "my.conda-lock.yml", "my", "my.yml", "my.conda-lock.yml"),
        (["my.yaml", "my.conda-lock.yml"], "my.conda-lock.yml", "my", "my.yaml", "my.conda-lock.yml"),
        (["environment.yml"], "environment.yml", "here", "environment.yml", "conda-lock.yml"),
        (["environment.yml", "conda-lock.yml"], "conda-lock.yml", "here", "environment.yml",
         "conda-lock.yml"),
        (["binder/environment.yml"], "binder/environment.yml", "here", "binder/environment.yml",
         "binder/conda-lock.yml"),
        (["environments/a.yml"], "environments/a.yml", "a", "environments/a.yml",
         "environments/a.conda-lock.yml"),
        (["environments/environment.yml"], "environments/environment.yml", "environment",
         "environments/environment.yml", "environments/environment.conda-lock.yml"),
    ],
)  # fmt: skip
def test_a_path_means_the_spec_and_the_lockfile_beside_it(
    tmp_path: Path, files: list[str], path: str, name: str, spec: str, lock: str
) -> None:
    here = touch(tmp_path / "here", *files)
    (tmp_path / "there").mkdir()
    for named in (here / path, tmp_path / "there" / ".." / "here" / path):
        found = environment_at(named, is_spec=is_spec(named))
        assert (found.name, found.spec_path, found.lock_path) == (name, here / spec, here / lock)
        assert found.has_spec


def test_a_lockfile_by_another_name_has_no_spec_even_where_one_is_called_so(tmp_path: Path) -> None:
    """Its folder's name is its own, and what lies under that name is another environment."""
    here = touch(tmp_path / "maps", "lock.yml", "maps.yml")
    found = environment_at(here / "lock.yml", is_spec=is_spec(here / "lock.yml"))
    assert (found.name, found.foreign, found.has_spec) == ("maps", here / "lock.yml", False)


def test_a_lock_beside_a_spec_is_read_and_nothing_is_solved(
    at: World, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it is named, from wherever; and without a lockfile the command to make it is said."""
    project, other = tmp_path / "project", tmp_path / "other"
    other.mkdir()
    spec = write(project, "my.yml", "channels: [conda-forge]\nplatforms: [linux-64]\ndependencies: [three]\n")
    assert run(["-C", str(project), "list", "my.yml"]) == 1
    told = capsys.readouterr()
    assert "there is no lockfile" in told.err
    assert run(["-C", str(project), "lock", "my.yml"]) == 0
    assert (project / "my.conda-lock.yml").is_file()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("nothing may be solved")

    monkeypatch.setattr("envbox.locks.solve.solve", never)
    monkeypatch.setattr("envbox.locks.solve.platforms.solve_spec", never)
    capsys.readouterr()
    for folder, name in [
        (project, "my.yml"), (project, "my.conda-lock.yml"), (project, "./my.yml"),
        (other, "../project/my.yml"), (other, str(spec)), (other, "../project/my.conda-lock.yml"),
    ]:  # fmt: skip
        for command in (["list", name], ["export", name, "--format", "explicit"], ["lock", name, "--check"]):
            assert run(["-C", str(folder), *command]) == 0, capsys.readouterr().err
            if "--check" not in command:
                assert "three" in capsys.readouterr().out
    assert run(["-C", str(other), "build", "../project/my.yml", "-o", "image"]) == 0
    assert sorted(p.name for p in project.iterdir()) == ["my.conda-lock.yml", "my.yml"]


def test_two_specs_of_one_name_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "environments/x.yml", "environments/x.yaml")
    with pytest.raises(SpecError, match=r"both x.yml and x.yaml, and they would share one lockfile"):
        read_project(tmp_path)
    touch(tmp_path / "single", "environment.yml", "environment.yaml")
    with pytest.raises(SpecError, match=r"both environment.yml and environment.yaml"):
        read_project(tmp_path / "single")
    touch(tmp_path / "loose", "my.yml", "my.yaml")
    with pytest.raises(SpecError, match=r"both my.yml and my.yaml"):
        environment_at(tmp_path / "loose/my.yaml", is_spec=True)


# --- a way around what cannot be locked ---------------------------------------------------------------------

SDIST = """\
- name: docrep
  version: 0.3.2
  manager: pip
  platform: {platform}
  dependencies: {{}}
  url: https://files.pythonhosted.org/packages/00/00/00/docrep-0.3.2.tar.gz
  hash: {{sha256: "{sha256}"}}
  category: main
  optional: false
"""


def with_sdist(at: World) -> str:
    text = export(at.lock, "conda-lock", (), at.settings, SILENT).decode()
    entry = SDIST.format(platform="linux-64", sha256="1" * 64)
    return text.replace("envbox.name", "x.name").replace("package:\n", "package:\n" + entry)


def test_one_sdist_costs_one_package(at: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = tmp_path / "project"
    write(project, "theirs.yml", with_sdist(at))
    assert run(["-C", str(project), "import", "theirs.yml"]) == 1
    assert "envbox import theirs.yml --without docrep" in capsys.readouterr().err
    assert run(["-C", str(project), "import", "theirs.yml", "--without", "docrep"]) == 0
    assert "left out, as asked: docrep 0.3.2; what imports it will not find it" in capsys.readouterr().err
    lock = read_lockfile(project / "environments/theirs.conda-lock.yml")
    assert "three" in {p.name for p in lock.packages}
    assert run(["-C", str(project), "import", "theirs.yml", "--without", "docrap,docrep", "-f"]) == 1
    assert "has no package docrap" in capsys.readouterr().err


def test_what_cannot_be_built_can_be_looked_at_and_is_refused_before_it_is_fetched(
    at: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "project"
    write(project, "theirs.yml", with_sdist(at))
    for command in (["list", "theirs.yml"], ["tree", "theirs.yml"]):
        assert run(["-C", str(project), *command]) == 0
        assert "docrep" in capsys.readouterr().out
    for command in (["build", "theirs.yml", "-o", "image"], ["size", "theirs.yml"]):
        assert run(["-C", str(project), *command]) == 1
        told = capsys.readouterr().err
        assert "docrep (docrep-0.3.2.tar.gz)" in told
        assert "envbox import theirs.yml --without docrep" in told
    assert not (project / "image").exists()


def test_a_hint_never_meets_the_same_fault(tmp_path: Path) -> None:
    """A platform is only named where the file is sound for it; leaving out only what can be left out."""
    sound = SDIST.replace("docrep-0.3.2.tar.gz", "docrep-0.3.2-py3-none-any.whl")

    def hint(*entries: str) -> str | None:
        text = "version: 1\nmetadata: {channels: []}\npackage:\n" + "".join(entries)
        with pytest.raises(LockfileError) as caught:
            read_foreign(text.encode(), tmp_path / "x.lock")
        return caught.value.hint

    broken, fine = (
        SDIST.format(platform="linux-64", sha256="1" * 64),
        sound.format(platform="osx-arm64", sha256="1" * 64),
    )
    assert hint(broken, fine) == "it is sound for osx-arm64: envbox import x.lock --platform osx-arm64"
    assert hint(broken) == "to do without what is wrong: envbox import x.lock --without docrep"
    assert hint(broken, "- {}\n") is None


@pytest.mark.parametrize("kind", ["conda-lock", "pixi"])
def test_other_categories_and_the_project_itself_are_left_out_and_said(kind: str) -> None:
    url = "https://conda.anaconda.org/conda-forge/noarch/{}-1-0.conda"
    if kind == "conda-lock":
        entry = "- {{name: {0}, version: '1', manager: conda, platform: linux-64, url: {1}, category: {2}}}\n"
        text = "version: 1\nmetadata: {channels: []}\npackage:\n" + "".join(
            entry.format(name, url.format(name), category)
            for name, category in [("a", "main"), ("b", "dev"), ("c", "docs")]
        )
        found = read_foreign(text.encode(), Path("x.lock"))
        assert [p.name for p in found.packages] == ["a"]
        assert found.left_out[0] == "left out: 1 of the category dev (b); --category dev"
        both = read_foreign(text.encode(), Path("x.lock"), Selection(categories=frozenset({"dev"})))
        assert [p.name for p in both.packages] == ["a", "b"]
        assert [p.name for p in read_any(text.encode(), Path("x.lock")).packages] == ["a"]
        return
    text = (
        "version: 6\nenvironments: {default: {channels: [], packages: {linux-64: "
        f"[{{conda: {url.format('a')}}}, {{pypi: ./}}]}}}}}}\n"
        f"packages:\n- {{conda: {url.format('a')}}}\n- {{pypi: ./, name: mine, version: 0.1}}\n"
    )
    found = read_foreign(text.encode(), Path("pixi.lock"))
    assert [p.name for p in found.packages] == ["a"]
    assert "left out: mine is the project itself" in found.left_out[0]


def test_what_others_need_cannot_be_left_out(at: World, tmp_path: Path) -> None:
    from envbox.locks.convert.complete import complete

    path = write(tmp_path, "x.txt", explicit_of(at))
    found = read_foreign(path.read_bytes(), path, Selection(without=frozenset({"two"})))
    with pytest.raises(LockfileError, match="three needs two"):
        complete(replace(found), at.settings, SILENT)


def test_what_cannot_be_had_is_named_all_at_once(at: World, tmp_path: Path) -> None:
    """With and without hashes: each costs whoever imports it another try."""
    from envbox.errors import ToolError
    from envbox.locks.convert.complete import complete

    lines = [f"{CHANNEL}/linux-64/gone{n}-1.0-h0_0.conda" + ("#" + "a" * 64) * (n % 2) for n in range(4)]
    path = write(tmp_path, "x.txt", "@EXPLICIT\n" + "\n".join(lines))
    with pytest.raises(ToolError) as caught:
        complete(read_foreign(path.read_bytes(), path), at.settings, SILENT)
    for number in range(4):
        assert f"gone{number}-1.0" in caught.value.message


# --- a checkout with other line ends ------------------------------------------------------------------------


def test_a_checkout_with_other_line_ends_gives_the_same_image(at: World, tmp_path: Path) -> None:
    from envbox.images.output import write_output
    from envbox.images.publication import PublishRequest
    from envbox.notebooks.stamp import lock_digest

    data = at.tiny.environment.lock_path.read_bytes()
    found = []
    for name, text in (("unix", data), ("windows", data.replace(b"\n", b"\r\n"))):
        path = write(tmp_path / name, "tiny.conda-lock.yml", text)
        environment = environment_at(path, is_spec=False)
        environment = replace(environment, lock_path=path)
        publication = write_output(
            PublishRequest(environment, ("linux-64",), False), tmp_path / f"{name}.image", at.settings, SILENT
        )
        found.append((read_lockfile(path), lock_digest(environment), publication.to_json()["digest"]))
    assert found[0] == found[1]


def test_conda_lock_leaves_no_folder_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folders end with the process, which often becomes the session that it was locked for."""
    import subprocess
    import sys

    (tmp_path / "here").mkdir()
    (tmp_path / "maps.yml").write_text("dependencies: [python]\n")
    script = (
        "import os, sys; from pathlib import Path; from envbox.settings import Settings\n"
        "from envbox.locks.spec import content_hashes, read_spec\n"
        "content_hashes(read_spec(Path(sys.argv[1]), (), Settings(cache_dir=Path('x'))))\n"
        "os._exit(0)\n"
    )
    env = os.environ | {"TMPDIR": str(tmp_path / "here"), "RUNNER_TEMP": str(tmp_path / "here")}
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "maps.yml")], env=env, check=True)
    assert list((tmp_path / "here").iterdir()) == []


def test_files_that_give_way_to_anothers_are_told(at: World) -> None:
    from envbox.packages.fetch import fetch_archives
    from envbox.packages.link.fragments import link_packages

    told = Told()
    archives = fetch_archives(at.lock.packages, at.settings)
    link_packages(at.lock, "linux-64", archives, at.settings, told)
    assert "1 file of two give way to other packages' (-v: whose)" in told.words
    assert "1 file of two give way to three's: opt/envbox/share/both, …" in told.words
