"""A project's own package is imported from where it is, in every engine, and from nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from envbox.errors import LaunchError
from envbox.sessions.launch.container import Launch
from envbox.sessions.launch.host import here_env
from envbox.sessions.launch.session import LaunchOptions, from_settings, on_this_machine
from envbox.settings import EnvironmentSettings, read_settings


def launch(project: Path, *folders: str, env: tuple[str, ...] = (), **own: str) -> Launch:
    settings = EnvironmentSettings(pythonpath=folders, env=own)
    return from_settings("i", "maps", project, settings, LaunchOptions("run", ("x",), env=env))


def here(found: Launch) -> dict[str, str]:
    return here_env(on_this_machine(found, Path("/p"), "/p", {}, {}), {"PYTHONPATH": "/elsewhere"})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "src/mine").mkdir(parents=True)
    (folder / "lib").mkdir()
    return folder


def test_python_imports_from_the_projects_folders_wherever_they_are_seen(project: Path) -> None:
    found = launch(project, "src", "./lib/", ".")
    assert found.env["PYTHONPATH"] == "/work/src:/work/lib:/work"
    assert here(found)["PYTHONPATH"] == f"{project}/src:{project}/lib:{project}"
    assert "PYTHONPATH" not in launch(project).env


def test_what_is_said_elsewhere_comes_first(project: Path) -> None:
    for found in (launch(project, "src", env=("PYTHONPATH=/x",)), launch(project, "src", PYTHONPATH="/x")):
        assert found.env["PYTHONPATH"] == "/x"
        assert here(found)["PYTHONPATH"] == "/x"


@pytest.mark.parametrize("folder", ["..", "../other", "/etc", "out", "src:/etc", "src/../.."])
def test_nothing_outside_of_the_project_is_imported_from(project: Path, folder: str) -> None:
    (project.parent / "other").mkdir()
    (project / "out").symlink_to(project.parent / "other")
    with pytest.raises(LaunchError, match="only folders of the project can be imported from"):
        launch(project, folder)


def test_a_folder_that_is_not_there_is_named(project: Path) -> None:
    with pytest.raises(LaunchError, match=r"there is no folder .*gone"):
        launch(project, "gone")


def test_it_is_a_setting_of_an_environment(project: Path) -> None:
    (project / "envbox.toml").write_text('[environments.maps]\npythonpath = ["src"]\n')
    found = read_settings(project, {"ENVBOX_CONFIG": "/dev/null"})
    assert found.environments["maps"].pythonpath == ("src",)
