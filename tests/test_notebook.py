"""Notebooks of all ages are read and never run; what they import is placed, and checked against a lock."""

from __future__ import annotations

import difflib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.paper_channel import record, served, write_channel

from envbox.errors import EnvboxError, LockfileError, NotebookError, SpecError
from envbox.lockfile import Lock, LockedPackage
from envbox.lockfile.conda_lock_v1 import dumps
from envbox.locks.spec import read_spec
from envbox.mirrors import Mirrors
from envbox.notebooks.check import check
from envbox.notebooks.document import loads, read_notebook
from envbox.notebooks.draft import conda_version
from envbox.notebooks.imports import used_by_notebook, used_by_script
from envbox.notebooks.init import init
from envbox.notebooks.magics import Install, installs, plain
from envbox.notebooks.names import conda_names, packages_for
from envbox.notebooks.stamp import stamp
from envbox.project import Environment, Project, read_project
from envbox.report import SILENT
from envbox.settings import Settings

PYTHON = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}


def notebook(*cells: str, metadata: dict[str, Any] | None = None) -> bytes:
    made = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# import nothing"), *map(nbformat.v4.new_code_cell, cells)],
        metadata=PYTHON if metadata is None else metadata,
    )
    return str(nbformat.writes(made)).encode()


def old(version: int, *cells: str) -> bytes:
    module = getattr(nbformat, f"v{version}")
    sheet = module.new_worksheet(cells=[module.new_code_cell(input=c) for c in cells])
    return json.dumps(module.new_notebook(worksheets=[sheet])).encode()


def modules(*cells: str) -> list[str]:
    return sorted(used_by_notebook(loads(notebook(*cells), Path("n.ipynb"))).modules)


# --- reading ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3])
def test_older_formats_are_read(version: int) -> None:
    found = loads(old(version, "import numpy", "print 'x'"), Path("n.ipynb"))
    assert [c.source for c in found.cells] == ["import numpy", "print 'x'"]
    assert (found.language, found.kernel) == ("python", None)


def test_lines_may_be_a_list_and_metadata_missing() -> None:
    cells = [{"cell_type": "code", "source": ["import numpy\n", "import scipy"], "outputs": []}]
    found = loads(json.dumps({"nbformat": 4, "nbformat_minor": 0, "cells": cells}).encode(), Path("n.ipynb"))
    assert sorted(used_by_notebook(found).modules) == ["numpy", "scipy"]


@pytest.mark.parametrize(
    ("metadata", "language"),
    [
        ({}, "python"),
        ({"kernelspec": {"name": "ir", "display_name": "R"}}, "r"),
        ({"kernelspec": {"name": "julia-1.9", "display_name": "Julia"}}, "julia"),
        ({"kernelspec": {"name": "maps", "display_name": "maps"}}, "python"),
        ({"language_info": {"name": "R", "version": "4.3"}}, "r"),
        ({"kernelspec": None, "language_info": []}, "python"),
    ],
)
def test_the_kernel_tells_the_language(metadata: dict[str, Any], language: str) -> None:
    data = json.dumps({"nbformat": 4, "metadata": metadata, "cells": []}).encode()
    assert loads(data, Path("n.ipynb")).language == language


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html>", "is not a notebook"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"[1, 2]", "not a notebook"),
        (b'{"a": 1}', "no `nbformat`"),
        (b'{"nbformat": "4"}', "no `nbformat`"),
        (b'{"nbformat": 5, "cells": []}', "format 5"),
        (b'{"nbformat": 4, "metadata": []}', "no `nbformat`"),
        (b'{"nbformat": 4, "cells": {}}', "no list of cells"),
        (b'{"nbformat": 4, "cells": [1]}', "cell 1"),
        (b'{"nbformat": 4, "cells": [{"cell_type": "code", "source": 1}]}', "cell 1"),
        (b'{"nbformat": 3, "worksheets": 7}', "old format"),
        (b'{"nbformat": 4,\n<<<<<<< HEAD\n', "conflict markers (line 2)"),
        (b"[" * 200_000, "not a notebook"),
        (b'{"nbformat": 4, "cells": [', "line 1"),
    ],
)
def test_what_is_no_notebook_is_named(data: bytes, words: str) -> None:
    with pytest.raises(NotebookError) as caught:
        loads(data, Path("n.ipynb"))
    assert words in caught.value.message
    assert "n.ipynb" in caught.value.message


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 5) | st.sampled_from(["code", "import numpy", "%%"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["cells", "metadata", "source", "cell_type", "kernelspec"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["cells", "metadata", "worksheets"]), JSON), st.integers(-1, 6))
def test_no_document_breaks_the_reader(document: dict[str, Any], version: int) -> None:
    with suppress(NotebookError):
        used_by_notebook(loads(json.dumps({**document, "nbformat": version}).encode(), Path("n.ipynb")))


# --- imports ------------------------------------------------------------------------------------------------


def test_imports_are_found_wherever_they_stand() -> None:
    source = """\
import os, numpy as np, mpl_toolkits.basemap
from mpl_toolkits import mplot3d
from google.cloud import storage
from . import beside
def f():
    import importlib
    from scipy.stats import norm
    importlib.import_module("xarray")
if TYPE_CHECKING:
    import pandas
import mine
"""
    used = used_by_script(source, {"mine"})
    assert sorted(used.modules) == [
        "google.cloud.storage", "mpl_toolkits", "mpl_toolkits.basemap", "numpy", "scipy", "xarray",
    ]  # fmt: skip


def test_what_is_tried_is_optional() -> None:
    source = """\
try:
    import ujson as json
except ImportError:
    import simplejson
try:
    import numpy
except ValueError:
    import torch
try:
    import rich
except (AttributeError, ModuleNotFoundError):
    rich = None
else:
    import textual
import simplejson
"""
    used = used_by_script(source)
    assert (sorted(used.modules), sorted(used.optional)) == (
        ["numpy", "simplejson", "textual", "torch"], ["rich", "ujson"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("cell", "found"),
    [
        ("%matplotlib inline\nimport numpy", ["matplotlib", "numpy"]),
        ("%load_ext autoreload\n%autoreload 2\n%load_ext cython", ["cython"]),
        ("for x in y:\n    !ls\nimport numpy", ["numpy"]),
        ("files = !ls *.nc\nimport xarray", ["xarray"]),
        ("numpy.array?\n?print\nimport numpy", ["numpy"]),
        ("%%time\nimport numpy", ["numpy"]),
        ("%%timeit -n 10 import numpy\nimport scipy", ["numpy", "scipy"]),
        ("%time import numpy", ["numpy"]),
        ("%%bash\nimport nothing", []),
        ("%%html\n<b>import x</b>", []),
        ("%%writefile x.py\nimport written", []),
        ("x = (10\n  % 3)\nimport numpy", ["numpy"]),
        ("!echo a \\\n  import b\nimport numpy", ["numpy"]),
        ("print 'two'\nimport numpy, scipy.stats as s", ["numpy", "scipy"]),
        ("import numpy\nawait f()", ["numpy"]),
        ("import \x00", []),
        ("(" * 10_000, []),
    ],
)
def test_a_cell_is_understood_as_ipython_does(cell: str, found: list[str]) -> None:
    assert modules(cell) == found


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("pip install -q rich 'black>=24' -e lib", ["rich", "black>=24"]),
        ("{sys.executable} -m pip install --index-url https://x/y rich", ["rich"]),
        ("apt-get install x && pip3 install rich; ls", ["rich"]),
        ("conda install -y -c conda-forge cartopy", ["cartopy"]),
        ("pip install {name} git+https://x/y", ["git+https://x/y"]),
        ("pip install .", []),
        ("echo pip", []),
        ("pip install git+https://x/y#egg=z rich # black", ["git+https://x/y#egg=z", "rich"]),
        ("$sys.executable -m pip -q install rich", ["rich"]),
        ("sudo pip3.11 install rich && time uv pip install black", ["rich", "black"]),
        ('"{sys.executable}" -m pip install "rich"', ["rich"]),
    ],
)
def test_what_a_line_installs(command: str, found: list[str]) -> None:
    manager = "conda" if command.startswith("conda") else "pip"
    assert installs(command) == [Install(manager, text) for text in found]  # type: ignore[arg-type]


@given(st.text(alphabet="%!?\\\n =(import nupy'\"", max_size=60))
def test_lines_stay_where_they_are(source: str) -> None:
    cell = plain(source)
    if not source.lstrip("\n").startswith("%%"):
        assert cell.source.count("\n") == source.count("\n")


def test_nothing_is_run(tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    modules(
        f"open({str(trap)!r}, 'w')", f"!touch {trap}", f"%%bash\ntouch {trap}", "import envbox_no_such_thing"
    )
    assert not trap.exists()


def test_r_packages() -> None:
    metadata = {"kernelspec": {"name": "ir", "language": "R", "display_name": "R"}}
    data = notebook(
        "library(ggplot2); require('dplyr')\n# library(no)\nsf::st_read(x); utils::head(x)", metadata=metadata
    )
    assert sorted(used_by_notebook(loads(data, Path("n.ipynb"))).modules) == ["dplyr", "ggplot2", "sf"]


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("mpl_toolkits.basemap", "basemap"), ("cv2", "opencv"), ("sklearn", "scikit-learn"), ("zmq", "pyzmq"),
        ("skimage", "scikit-image"), ("osgeo", "gdal"), ("yaml", "pyyaml"), ("torch", "pytorch"),
        ("mpl_toolkits.mplot3d", "matplotlib"), ("numpy", "numpy"), ("PIL", "pillow"),
        ("Crypto", "pycryptodome"),
        ("google.cloud.storage", "google-cloud-storage"), ("docx", "python-docx"),
        ("some_new_thing", "some-new-thing"),
    ],
)  # fmt: skip
def test_the_package_of_a_module(module: str, package: str) -> None:
    assert packages_for(module)[0] == package


def test_the_package_of_a_project() -> None:
    assert [conda_names(n)[0] for n in ("torch", "opencv-python", "NumPy", "Flask-Cors")] == [
        "pytorch", "opencv", "numpy", "flask-cors",
    ]  # fmt: skip


def test_versions_in_condas_words() -> None:
    texts = (">=1,<2", "==1.2.*", "~=1.4", "!=1.5,>=1", "", "===1", "==1+local")
    assert [conda_version(t) for t in texts] == [">=1,<2", "1.2.*", "~=1.4", ">=1,!=1.5", "", None, None]


# --- init ---------------------------------------------------------------------------------------------------


@pytest.fixture
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    folder = tmp_path_factory.mktemp("made")
    names = "python numpy basemap matplotlib scikit-learn ipykernel pyyaml cartopy r-irkernel r-ggplot2 pip"
    write_channel(folder / "channel", [record(n, "1", ["python"]) for n in names.split()])
    with served(folder / "channel") as url:
        yield Settings(
            cache_dir=folder / "cache", mirrors=Mirrors({"https://conda.anaconda.org/conda-forge": url})
        )


def test_init_writes_a_spec_of_what_is_there(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "maps.ipynb").write_bytes(
        notebook("%pylab\nfrom mpl_toolkits.basemap import Basemap\nimport mine, helper.x, nowhere",
                 "!pip install rich\nimport rich", "!conda install cartopy")
    )  # fmt: skip
    (tmp_path / "broken.ipynb").write_text("{")
    (tmp_path / "mine.py").write_text("import sklearn\nimport os\n")
    (tmp_path / "helper").mkdir()
    (tmp_path / "helper/x.py").write_text("from mine import x\nimport yaml\n")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints/old.ipynb").write_bytes(notebook("import forgotten"))
    (tmp_path / "requirements.txt").write_text(
        "numpy>=1.20,<3  # fast\n-r more.txt\ngit+https://x/y\npywin32; sys_platform == 'win32'\n"
    )
    (tmp_path / "more.txt").write_text("-r requirements.txt\nhttpx[http2]==0.27\n")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nrequires-python = ">=3.11"\n')
    path, found = init(tmp_path, None, settings, SILENT)
    wanted = """\
# begun by `envbox init` from {sources}; yours to edit
channels:
  - conda-forge
dependencies:
  - python >=3.11
  - basemap
  - cartopy
  - ipykernel
  - matplotlib
  - numpy >=1.20,<3
  - pyyaml
  - scikit-learn
  # not placed: git+https://x/y (requirements.txt, line 3)
  # not placed: nowhere (maps.ipynb, cell 2)
  - pip
  - pip:
      - rich
      - httpx[http2]==0.27
"""
    assert path.read_text() == wanted.format(
        sources="1 notebook, 2 scripts, pyproject.toml, requirements.txt and more.txt"
    )
    assert any("broken.ipynb" in words for words in found.said)
    assert read_spec(path, ("linux-64",), settings).conda["linux-64"][0] == "python >=3.11"


def test_init_for_r(tmp_path: Path, settings: Settings) -> None:
    metadata = {"kernelspec": {"name": "ir", "language": "R", "display_name": "R"}}
    (tmp_path / "a.ipynb").write_bytes(notebook("library(ggplot2)", metadata=metadata))
    _, found = init(tmp_path, None, settings, SILENT)
    assert {"r-ggplot2", "r-irkernel"} <= set(found.conda)


def test_init_never_writes_over_a_spec(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(SpecError, match="no notebooks"):
        init(tmp_path, None, settings, SILENT)
    (tmp_path / "a.py").write_text("import numpy\n")
    init(tmp_path, None, settings, SILENT)
    with pytest.raises(SpecError, match="there already"):
        init(tmp_path, None, settings, SILENT)


# --- stamp and check ----------------------------------------------------------------------------------------


def locked(name: str, platform: str = "linux-64", version: str = "3.12.1") -> LockedPackage:
    url = f"https://conda.anaconda.org/conda-forge/{platform}/{name}-{version}-0.conda"
    return LockedPackage("conda", name, version, "0", platform, {}, url, "0" * 64)


def write_lock(environment: Environment, *names: str, platforms: tuple[str, ...] = ("linux-64",)) -> None:
    packages = tuple(locked(n, p) for n in sorted(names) for p in platforms)
    hashes = dict.fromkeys(platforms, "0" * 64)
    environment.lock_path.write_bytes(
        dumps(Lock(environment.name, platforms, ("conda-forge",), hashes, packages, None, ""))
    )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "environments").mkdir()
    for name in ("maps", "other"):
        (tmp_path / f"environments/{name}.yml").write_text("dependencies: [python]\n")
    found = read_project(tmp_path)
    write_lock(found.environment("maps"), "python", "numpy", "matplotlib-base", "ipykernel", "py-opencv")
    return found


def words(path: Path, project: Project, name: str | None = None) -> list[str]:
    return [f.words for f in check({"n.ipynb": path}, project, name, nothing_cached(project))]


def nothing_cached(project: Project) -> Settings:
    return Settings(cache_dir=project.root / ".cache")


def test_a_stamped_notebook_whose_imports_are_locked_is_well(project: Project, tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    path.write_bytes(
        notebook("import numpy, matplotlib.pyplot, cv2, os", "try:\n    import no\nexcept ImportError: pass")
    )
    assert words(path, project) == [
        "it is not bound to an environment",
        f"which environment? {tmp_path} has maps, other",
    ]
    assert stamp(path, project.environment("maps"))
    assert words(path, project) == []
    assert not stamp(path, project.environment("maps"))
    nbformat.validate(nbformat.read(path, as_version=4))


def test_what_is_missing_is_said_with_its_cell(project: Project, tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    path.write_bytes(notebook("import numpy", "import sklearn\n!pip install rich"))
    found = check({"n.ipynb": path}, project, "maps", nothing_cached(project))
    assert [(f.words, f.hint) for f in found] == [
        ("cell 3 imports sklearn, which maps does not have", "envbox add scikit-learn --name maps"),
        ("cell 3 installs rich, which no lock holds", 'envbox add --pip "rich" --name maps'),
    ]


def test_a_package_on_one_platform_only(project: Project, tmp_path: Path) -> None:
    maps, path = project.environment("maps"), tmp_path / "n.ipynb"
    packages = [locked(n, p) for n in ("ipykernel", "python") for p in ("linux-64", "osx-64")]
    both = ("linux-64", "osx-64")
    hashes = dict.fromkeys(both, "0" * 64)
    lock = Lock("maps", both, ("conda-forge",), hashes, (*packages, locked("numpy")), None, "")
    maps.lock_path.write_bytes(dumps(lock))
    path.write_bytes(notebook("import numpy"))
    assert words(path, project, "maps") == ["cell 2 imports numpy, which maps does not have for osx-64"]


def test_another_lock_than_stamped_is_said(project: Project, tmp_path: Path) -> None:
    path, maps = tmp_path / "n.ipynb", project.environment("maps")
    path.write_bytes(notebook("import numpy"))
    stamp(path, maps)
    write_lock(maps, "python", "numpy", "ipykernel")
    assert words(path, project) == ["it was bound to another lock of maps than is there"]


def test_the_kernel_is_looked_at(project: Project, tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    path.write_bytes(notebook("library(sf)", metadata={"kernelspec": {"name": "ir", "display_name": "R"}}))
    assert words(path, project, "maps") == [
        "its kernel is ir, and maps has no r-irkernel", "cell 2 imports sf, which maps does not have",
    ]  # fmt: skip
    path.write_bytes(notebook("", metadata={"language_info": {"name": "python", "version": "2.7.18"}}))
    assert words(path, project, "maps") == ["it was run with Python 2.7.18, and maps has 3.12.1"]


def test_what_cannot_be_checked_is_a_finding(project: Project, tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    assert words(path, project) == [f"there is no notebook {path}"]
    path.write_bytes(notebook("import numpy"))
    with pytest.raises(LockfileError, match="not locked"):
        stamp(path, project.environment("other"))
    assert words(path, project, "other")
    assert words(path, project, "nope")


@pytest.mark.parametrize(
    "form", [{"indent": 1}, {"indent": 2}, {"indent": None}, {"indent": "\t"}, {"ensure_ascii": False}]
)
@pytest.mark.parametrize("end", ["", "\n"])
def test_a_stamp_changes_its_own_lines_only(
    project: Project, tmp_path: Path, form: dict[str, Any], end: str
) -> None:
    path = tmp_path / "n.ipynb"
    document = {"cells": [], "metadata": {"z": "ä", "a": 1.50}, "nbformat_minor": 2, "nbformat": 4}
    path.write_text(json.dumps(document, **form) + end, encoding="utf-8")
    path.chmod(0o600)
    stamp(path, project.environment("maps"))
    written = json.loads(path.read_text(encoding="utf-8"))
    assert [*written] == [*document]
    del written["metadata"]["envbox"]
    assert json.dumps(written, **form) + end == json.dumps(document, **form) + end
    without = {**document, "metadata": json.loads(path.read_text())["metadata"]}
    assert path.read_text(encoding="utf-8") == json.dumps(without, **form) + end
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_notebook_of_an_old_format_stays_one(project: Project, tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    path.write_bytes(old(3, "import numpy"))
    stamp(path, project.environment("maps"))
    assert json.loads(path.read_bytes())["nbformat"] == 3
    assert words(path, project) == []


def test_an_environment_named_by_its_directory_is_found_in_another(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "environment.yml").write_text("dependencies: [python]\n")
    one = read_project(tmp_path / "one").environment()
    write_lock(one, "python", "numpy", "ipykernel")
    path = tmp_path / "two/n.ipynb"
    path.write_bytes(notebook("import numpy"))
    stamp(path, one)
    (tmp_path / "two/conda-lock.yml").write_bytes(one.lock_path.read_bytes())
    assert words(path, read_project(tmp_path / "two")) == []


def test_the_commands(project: Project, tmp_path: Path) -> None:
    (tmp_path / "n.ipynb").write_bytes(notebook("import numpy"))
    (tmp_path / "m.ipynb").write_bytes(notebook("import sklearn"))

    def envbox(*arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "envbox", *arguments], cwd=tmp_path, capture_output=True, text=True,
            env={**os.environ, "ENVBOX_CACHE_DIR": str(tmp_path / "cache")}, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    assert envbox("stamp", "n.ipynb", "m.ipynb", "--name", "maps")[0] == 0
    assert envbox("check", "n.ipynb") == (0, "", "")
    code, _, said = envbox("check", "n.ipynb", "m.ipynb")
    assert (code, said) == (
        1, "m.ipynb: cell 2 imports sklearn, which maps does not have\n"
        "hint: envbox add scikit-learn --name maps\n"
    )  # fmt: skip
    code, out, _ = envbox("check", "--json", "m.ipynb")
    assert (code, json.loads(out)[0]["notebook"]) == (1, "m.ipynb")


def test_errors_are_of_one_kind() -> None:
    assert issubclass(NotebookError, EnvboxError)
    with pytest.raises(NotebookError, match="no notebook"):
        read_notebook(Path("/nowhere/n.ipynb"))


BY_HAND = [
    '{"cells": [],\n  "metadata": {"z": 1, "a": 2},\n\n "nbformat": 4, "nbformat_minor": 5}\n',
    '{"nbformat": 4, "nbformat_minor": 5, "cells": [ ],\n "metadata": {\n    "a": [1,2],\n    "b": {}\n }}',
    '{"cells":[], "metadata":{ }, "nbformat":4,"nbformat_minor":5}\n\n',
    '{"cells":[],"nbformat":4,   "nbformat_minor":5}',
    '{"cells": [], "metadata": {"envbox":  {"environment": "old"}, "a": "\\u00e4ä"}, "nbformat": 4,\r\n'
    '"nbformat_minor": 5}\r\n',
    '\ufeff{"metadata": {"a": 1}, "metadata": {"b": "\\ud800", "c": "}"},\t"cells": [], "nbformat": 4,'
    ' "nbformat_minor": 5 }',
]


@pytest.mark.parametrize("text", BY_HAND)
def test_a_stamp_is_all_that_changes_in_what_a_person_laid_out(
    project: Project, tmp_path: Path, text: str
) -> None:
    path, link = tmp_path / "real.ipynb", tmp_path / "n.ipynb"
    path.write_bytes(text.encode())
    link.symlink_to(path)
    before = loads(text.encode(), path).document
    stamp(link, project.environment("maps"))
    assert link.is_symlink()
    written = path.read_bytes().decode()
    same = difflib.SequenceMatcher(None, text, written, autojunk=False)
    changes = [(kind, text[a:b]) for kind, a, b, _, _ in same.get_opcodes() if kind != "equal"]
    assert {kind for kind, _ in changes} <= {"insert"} or '"envbox":  ' in text
    after = json.loads(written.removeprefix("\ufeff"))
    made = after.get("metadata", {}).pop("envbox")
    assert made["environment"] == "maps"
    before = {**before, "metadata": {k: v for k, v in before.get("metadata", {}).items() if k != "envbox"}}
    assert after == before
    assert written.endswith(text[-3:])
