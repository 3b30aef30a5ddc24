"""A name is a file: which environments a directory has, and which one is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from envbox.errors import SpecError
from envbox.project import find_root, name_of_foreign, read_project


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def test_specs_and_lockfiles_in_the_folder_are_environments(tmp_path: Path) -> None:
    touch(tmp_path, "environments/maps.yml", "environments/maps.conda-lock.yml", "environments/old.yaml")
    touch(tmp_path, "environments/given.conda-lock.yml", "environments/notes.txt")
    project = read_project(tmp_path)
    assert [e.name for e in project.environments] == ["given", "maps", "old"]
    assert project.environment("maps").lock_path == tmp_path / "environments/maps.conda-lock.yml"
    assert project.environment("old").spec_path == tmp_path / "environments/old.yaml"


@pytest.mark.parametrize("spec", ["environment.yml", "binder/environment.yml"])
def test_a_single_spec_is_named_after_its_directory(tmp_path: Path, spec: str) -> None:
    root = touch(tmp_path / "My thesis (2026)", spec)
    found = read_project(root).environment(None)
    assert found.name == "My-thesis-2026"
    assert found.lock_path == (root / spec).with_name("conda-lock.yml")


@pytest.mark.parametrize("name", ["../maps", "a/b", "..", "-v", "", "a..b", "maps\n"])
def test_a_name_that_could_be_a_path_is_refused(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "environments/maps.yml", "environments/base.yml")
    with pytest.raises(SpecError):
        read_project(tmp_path).environment(name)


def test_an_empty_name_is_no_name_rather_than_none(tmp_path: Path) -> None:
    touch(tmp_path, "environments/maps.yml")
    for default in (None, "maps"):
        with pytest.raises(SpecError, match="'' is not an environment's name"):
            read_project(tmp_path, default).environment("")


def test_an_unknown_or_missing_name_lists_what_there_is(tmp_path: Path) -> None:
    touch(tmp_path, "environments/maps.yml", "environments/base.yml")
    with pytest.raises(SpecError) as unknown:
        read_project(tmp_path).environment("mpas")
    assert "base, maps" in str(unknown.value.hint)
    with pytest.raises(SpecError, match="which environment"):
        read_project(tmp_path).environment(None)
    assert read_project(tmp_path, default="maps").environment(None).name == "maps"


def test_an_empty_directory_says_what_to_write(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        read_project(tmp_path).environment(None)
    assert "environments/NAME.yml" in str(caught.value.hint)


def test_the_root_is_found_from_below_but_not_through_a_repository(tmp_path: Path) -> None:
    touch(tmp_path, "environments/maps.yml", "notebooks/deep/x.ipynb", "other/.git/HEAD", "other/sub/y")
    assert find_root(tmp_path / "notebooks/deep") == tmp_path
    assert find_root(tmp_path / "other/sub") == tmp_path / "other/sub"


@pytest.mark.parametrize("file", ["pixi.lock", "conda-lock.yml", "explicit.txt", "conda-linux-64.lock"])
def test_a_lockfile_of_another_tool_is_an_environment_where_there_is_no_spec(
    tmp_path: Path, file: str
) -> None:
    root = touch(tmp_path / "thesis", file)
    found = read_project(root).environment(None)
    assert (found.name, found.foreign) == ("thesis", root / file)
    touch(root, "environment.yml")
    assert read_project(root).environment(None).foreign is None


def test_in_the_folder_a_spec_comes_before_a_foreign_lockfile(tmp_path: Path) -> None:
    touch(tmp_path, "environments/maps.lock", "environments/old.explicit.txt", "environments/new.lock")
    touch(tmp_path, "environments/new.yml", "environments/requirements.txt")
    project = read_project(tmp_path)
    assert [(e.name, e.foreign and e.foreign.name) for e in project.environments] == [
        ("maps", "maps.lock"), ("new", None), ("old", "old.explicit.txt"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("thesis/pixi.lock", "thesis"),
        ("thesis/conda-linux-64.lock", "thesis"),
        ("thesis/maps.lock", "maps"),
        ("thesis/maps.conda-lock.yml", "maps"),
        ("thesis/maps.explicit.txt", "maps"),
        ("thesis/a b.txt", "thesis"),
    ],
)
def test_a_foreign_lockfile_has_its_files_name_where_that_says_something(path: str, name: str) -> None:
    assert name_of_foreign(Path("/home/me") / path) == name


@pytest.mark.parametrize(("one", "other"), [("Maps", "maps"), ("a--b", "a-b"), ("a.-b", "a-b"), ("x-", "x")])
def test_names_that_are_one_for_images_are_refused(tmp_path: Path, one: str, other: str) -> None:
    touch(tmp_path, f"environments/{one}.yml", f"environments/{other}.yml")
    with pytest.raises(SpecError, match="whose images would both be envbox/"):
        read_project(tmp_path)


def test_names_that_differ_for_images_are_taken(tmp_path: Path) -> None:
    touch(tmp_path, *(f"environments/{name}.yml" for name in ("a-b", "a_b", "a.b", "ab", "A-c")))
    assert len(read_project(tmp_path).environments) == 5


@pytest.mark.parametrize("name", ["my env.yml", "MAPS.YML", "maps.Yaml", "-x.yml", "kärnten.yml"])
def test_a_file_whose_name_is_none_is_named(tmp_path: Path, name: str) -> None:
    touch(tmp_path, f"environments/{name}")
    project = read_project(tmp_path)
    assert project.environments == ()
    assert project.passed_over == (name,)
    with pytest.raises(SpecError) as caught:
        project.environment(None)
    assert name in str(caught.value.hint)
