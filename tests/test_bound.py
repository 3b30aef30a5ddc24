"""A notebook's path on a command line means the environment that it is bound to, in its own project."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pytest
from support.containers import Lab

from envbox.cli.context import Invocation
from envbox.cli.serve import page_of
from envbox.errors import NotebookError, SpecError


def project(root: Path, *names: str) -> Path:
    (root / "environments").mkdir(parents=True)
    for name in names:
        (root / f"environments/{name}.yml").write_text("channels: [conda-forge]\ndependencies: [python]\n")
    return root


def notebook(path: Path, environment: str | None = None) -> Path:
    metadata = {"envbox": {"environment": environment}} if environment else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(metadata=metadata), path)
    return path


def session(directory: Path) -> Invocation:
    return Invocation(str(directory), quiet=True, verbose=False)


def test_a_bound_notebook_names_its_environment(tmp_path: Path) -> None:
    root = project(tmp_path, "a", "b")
    notebook(root / "in/n.ipynb", "b")
    assert session(root).named("in/n.ipynb").name == "b"
    assert session(root / "in").named("n.ipynb").name == "b"


def test_one_that_is_bound_to_none_takes_what_a_command_without_a_name_would(tmp_path: Path) -> None:
    one, two = project(tmp_path / "one", "a"), project(tmp_path / "two", "a", "b")
    notebook(one / "n.ipynb")
    notebook(two / "n.ipynb")
    assert session(one).named("n.ipynb").name == "a"
    with pytest.raises(SpecError) as caught:
        session(two).named("n.ipynb")
    assert "envbox stamp --name NAME n.ipynb" in (caught.value.hint or "")


def test_its_own_project_counts_and_not_the_one_that_we_are_in(tmp_path: Path) -> None:
    here, there = project(tmp_path / "here", "a"), project(tmp_path / "there", "a")
    path = notebook(there / "n.ipynb", "a")
    assert session(here).named(str(path)).spec_path == there / "environments/a.yml"


def test_what_is_not_there_or_no_longer_there_is_said(tmp_path: Path) -> None:
    root = project(tmp_path, "a")
    notebook(root / "n.ipynb", "gone")
    with pytest.raises(SpecError, match="no environment gone"):
        session(root).named("n.ipynb")
    with pytest.raises(NotebookError, match="there is no notebook"):
        session(root).named("none.ipynb")


@pytest.mark.parametrize(
    ("url", "path", "opened"),
    [
        ("http://127.0.0.1:8888/lab?token=t", "a b/n#1.ipynb", "http://127.0.0.1:8888/lab/tree/a%20b/n%231.ipynb?token=t"),
        ("http://127.0.0.1:8888/tree?token=t", "n.ipynb", "http://127.0.0.1:8888/notebooks/n.ipynb?token=t"),
        ("http://127.0.0.1:8888/?token=t", "n.ipynb", "http://127.0.0.1:8888/lab/tree/n.ipynb?token=t"),
    ],
)  # fmt: skip
def test_a_server_opens_that_notebook(url: str, path: str, opened: str) -> None:
    assert page_of(url, path) == opened


@pytest.mark.rig
def test_run_and_notebook_take_a_notebooks_path(lab: Lab) -> None:
    notebook(lab.project / "in/n.ipynb", "lab")
    try:
        done = lab.run("run", "in/n.ipynb", "--", "python", "-c", "import sys; print(sys.prefix)")
        assert (done.returncode, done.stdout) == (0, "/opt/envbox\n"), done.stderr
        done = lab.run("notebook", "in/n.ipynb", "--detach", "--json")
        assert done.returncode == 0, done.stderr
        assert urlsplit(json.loads(done.stdout)["url"]).path == "/lab/tree/in/n.ipynb"
    finally:
        lab.run("stop", "lab")
        (lab.project / "in/n.ipynb").unlink()
