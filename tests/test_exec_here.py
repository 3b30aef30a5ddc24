"""Notebooks run on this machine: what may be lost, whose kernel it is, and how a failure is told."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import nbformat
import pytest
from here_place import Place

pytestmark = pytest.mark.rig
PRECIOUS = "precious result of 10 hours\n"


def write(place: Place, name: str, *cells: str, **metadata: Any) -> Path:
    """Write a notebook whose first cell has an output already."""
    made = [nbformat.v4.new_code_cell(source) for source in cells]
    made[0].outputs = [nbformat.v4.new_output("stream", text=PRECIOUS)]
    for number, cell in enumerate(made):
        cell["id"] = f"c{number}"
    path = place.root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": kernel, **metadata}), path)
    return path


def execute(place: Place, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `exec` on this machine, to any end."""
    return place.run("exec", "--engine", "host", "-n", "work", *arguments, check=False, **env)


def text(path: Path, index: int = 0) -> str:
    """What a cell has printed."""
    outputs = json.loads(path.read_bytes())["cells"][index]["outputs"]
    return "".join("".join(o["text"]) for o in outputs if o["output_type"] == "stream")


# --- nothing is lost


@pytest.mark.parametrize("arguments", [("--inplace",), ("-o", "a.ipynb")])
def test_until_a_first_cell_has_begun_the_target_stays_to_the_byte(
    here: Place, arguments: tuple[str, ...]
) -> None:
    path = write(here, "a.ipynb", "print(1)", widgets={"application/vnd.jupyter.widget-state+json": {}})
    before, times = path.read_bytes(), path.stat().st_mtime_ns
    done = execute(here, "a.ipynb", *arguments, "--kernel", "nowhere")
    assert done.returncode == 1
    assert "there is no kernel nowhere" in done.stderr
    assert done.stdout == ""
    assert "what was put out" not in done.stderr
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, times)


def test_a_result_goes_through_links_and_keeps_the_mode(here: Place) -> None:
    real = write(here, "real/a.ipynb", "print(1)")
    real.chmod(0o640)
    link = here.root / "link.ipynb"
    link.unlink(missing_ok=True)
    link.symlink_to(real)
    done = execute(here, "link.ipynb", "--inplace")
    assert done.returncode == 0, done.stderr
    assert link.is_symlink()
    assert text(real) == "1\n"
    assert real.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(("cells", "code"), [(("print(1)",), 1), (("print(1)", "1/0"), 1)])
def test_where_the_disk_is_full_at_the_end_the_result_is_kept_and_the_place_is_named(
    here: Place, tmp_path: Path, cells: tuple[str, ...], code: int
) -> None:
    write(here, "a.ipynb", *cells)
    full = here.root / "full.ipynb"
    full.unlink(missing_ok=True)
    full.symlink_to("/dev/full")
    done = execute(here, "a.ipynb", "-o", "full.ipynb", TMPDIR=str(tmp_path))
    assert done.returncode == code
    assert "no space left" in done.stderr
    assert full.is_symlink()
    (kept,) = tmp_path.glob("envbox-*.ipynb")
    assert f"the result is kept in {kept}" in " ".join(done.stderr.split())
    assert text(kept) == "1\n"
    assert kept.stat().st_mode & 0o777 == 0o600
