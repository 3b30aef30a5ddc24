"""A project's own modules are no packages; what packages have is asked of their own lists of files."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

import nbformat
import pytest
from support.packages import File, Package, Wheel
from support.packages import lock_of as lock

from envbox.errors import NotebookError
from envbox.lockfile import LockedPackage
from envbox.lockfile.conda_lock_v1 import dumps
from envbox.notebooks.check import Finding, check
from envbox.notebooks.contents import Contents, modules_of
from envbox.notebooks.document import read_notebook
from envbox.notebooks.draft import Channel, Draft, draft
from envbox.notebooks.imports import script_text, used_by_script
from envbox.notebooks.local import editable, own_modules
from envbox.notebooks.needs import gather
from envbox.packages.fetch import archive_path
from envbox.project import Project, read_project
from envbox.settings import Settings

PYTHON = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}


def notebook(*cells: str) -> bytes:
    made = nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_code_cell, cells)], metadata=PYTHON)
    return str(nbformat.writes(made)).encode()


def write(root: Path, **files: str) -> None:
    """Write files; `__` in a name is a slash, and what begins with no letter is none of it."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".ipynb":
            path.write_bytes(notebook(text))
        else:
            path.write_text(text)


def tree(root: Path, files: dict[str, str]) -> Path:
    write(root, **files)
    return root


def needed(root: Path) -> list[str]:
    return sorted(gather(root).modules)


# --- the project's own modules ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"a.ipynb": "import mine, numpy", "mine.py": ""}, ["numpy"]),
        ({"nb/a.ipynb": "import mine, pkg.x", "mine.py": "", "pkg/__init__.py": "", "pkg/x.py": ""}, []),
        ({"nb/deep/a.ipynb": "import pkg", "src/pkg/__init__.py": ""}, []),
        ({"nb/a.ipynb": "import helper.x\nfrom helper import x", "nb/helper/x.py": ""}, []),
        ({"nb/a.ipynb": "import a.b.c", "nb/a/b/c.py": ""}, []),
        ({"a.ipynb": "import fast, slow", "fast.cpython-311-x86_64-linux-gnu.so": "", "slow.pyx": ""}, []),
        ({"a.ipynb": "import lib_x", "libs/x/pyproject.toml": "", "libs/x/src/lib_x/__init__.py": ""}, []),
        ({"a.ipynb": "import m", "pyproject.toml": '[tool.setuptools.packages.find]\nwhere=["code"]',
          "code/m/__init__.py": ""}, []),
        ({"a.ipynb": "import my_own, other", "pyproject.toml": '[project]\nname="my-own"'}, ["other"]),
        ({"a.ipynb": "import p", "pyproject.toml": '[tool.poetry]\npackages=[{include="p", from="x"}]'}, []),
        ({"a.ipynb": "import h", "pyproject.toml": '[tool.hatch.build.targets.wheel]\npackages=["x/h"]'}, []),
        ({"a.ipynb": "import z", "requirements.txt": "-e ./sub\n", "sub/z/__init__.py": ""}, []),
        ({"a.ipynb": "import z", "code/z.py": ""}, ["z"]),
        ({"a.ipynb": "import sys\nsys.path.append('../code')\nimport z", "code/z.py": ""}, []),
        ({"a.ipynb": "%cd code\nimport z", "code/z.py": ""}, []),
        ({"a.ipynb": "import datasets", "datasets/prepare.py": ""}, ["datasets"]),
        ({"a.ipynb": "import env, build.x", "env/__init__.py": "", "build/__init__.py": ""}, []),
        ({"a.ipynb": "import x", "env/pyvenv.cfg": "", "env/x.py": "import numpy"}, ["x"]),
        ({"a.py": "from . import x\nfrom .y import z\nfrom .. import w"}, []),
    ],
)  # fmt: skip
def test_what_is_the_projects_own_is_not_needed(
    tmp_path: Path, files: dict[str, str], found: list[str]
) -> None:
    assert needed(tree(tmp_path, files)) == found


def test_a_linked_package_is_the_projects(tmp_path: Path) -> None:
    tree(tmp_path, {"shared/tools/__init__.py": "", "project/a.ipynb": "import tools"})
    (tmp_path / "project/tools").symlink_to("../shared/tools")
    (tmp_path / "project/loop").symlink_to(".")
    assert needed(tmp_path / "project") == []


def test_a_module_elsewhere_gives_way_to_a_package(tmp_path: Path) -> None:
    tree(tmp_path, {"a.ipynb": "import pandas, mine", "code/pandas.py": "", "code/mine.py": ""})
    found: Draft = draft(gather(tmp_path), Channel({"pandas", "python"}))
    assert sorted(found.conda) == ["ipykernel", "pandas", "python"]
    assert not found.unplaced
    assert "mine (a.ipynb, cell 1) is taken to be the project's own code/mine" in found.said


@pytest.mark.parametrize(
    ("line", "folders"),
    [
        ("-e .", [".", "src"]), ("--editable=./sub", ["sub", "sub/src"]), (".", [".", "src"]),
        ("-e ./sub[extra]", ["sub", "sub/src"]), ("-e git+https://x/y", []), ("./no", []), ("numpy", []),
        ("-e .\0", []),
    ],
)  # fmt: skip
def test_what_is_installed_in_place(tmp_path: Path, line: str, folders: list[str]) -> None:
    (tmp_path / "sub").mkdir()
    assert [*editable(line, tmp_path)] == [tmp_path / folder for folder in folders]


# --- what can be read, and how ------------------------------------------------------------------------------


def test_what_is_no_file_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.ipynb")
    os.mkfifo(tmp_path / "fifo.py")
    os.mkfifo(tmp_path / "pyproject.toml")
    (tmp_path / "folder.ipynb").mkdir()
    (tmp_path / "endless.py").symlink_to("/dev/zero")
    (tmp_path / "circle.py").symlink_to("circle.py")
    with socket.socket(socket.AF_UNIX) as door:
        here = Path.cwd()
        os.chdir(tmp_path)
        try:
            door.bind("door.ipynb")
        finally:
            os.chdir(here)
        (tmp_path / "a.py").write_text("import numpy")
        needs = gather(tmp_path)
    assert sorted(needs.modules) == ["numpy"]
    said = "\n".join(needs.said)
    for words in ("fifo.ipynb: it is a FIFO", "fifo.py cannot be read: it is a FIFO", "endless.py cannot",
                  "circle.py cannot", "door.ipynb"):  # fmt: skip
        assert words in said
    for name, words in (
        ("fifo.ipynb", "a FIFO"),
        ("folder.ipynb", "a directory"),
        ("no\0name.ipynb", "null"),
    ):
        with pytest.raises(NotebookError, match=words):
            read_notebook(tmp_path / name)


@pytest.mark.skipif(os.geteuid() != 0, reason="takes another user's identity")
def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    tree(tmp_path, {"a.py": "import numpy", "closed/b.py": "import scipy"})
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/tmp") and folder.is_relative_to("/tmp"):
            folder.chmod(0o755)
    (tmp_path / "closed").chmod(0)
    (tmp_path / "c.py").write_text("")
    (tmp_path / "c.py").chmod(0)
    os.seteuid(65534)
    try:
        needs = gather(tmp_path)
    finally:
        os.seteuid(0)
    assert sorted(needs.modules) == ["numpy"]
    assert any("closed cannot be read" in words for words in needs.said)
    assert any(words.startswith("c.py cannot be read") for words in needs.said)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("# -*- coding: latin-1 -*-\nimport numpy # é\n".encode("latin-1"), "é"),
        ("#!/usr/bin/env python\n# vim: set fileencoding=cp1252 :\nimport numpy # é\n".encode("cp1252"), "é"),
        ("\ufeffimport numpy # é\n".encode(), "é"),
    ],
)
def test_a_script_is_read_as_it_says(data: bytes, text: str) -> None:
    assert text in script_text(data)
    assert [*used_by_script(script_text(data)).modules] == ["numpy"]


@pytest.mark.parametrize(
    "data",
    [
        b"# coding: nothing-such\nimport x", b"# coding: rot13\nimport x", b"# coding: hex\n",
        b"# coding: punycode\n", b"# coding: unicode_escape\n\\u0041", b"# coding: utf-8\nx = '\xe9'",
        b"\xef\xbb\xbf# coding: latin-1\n",
        b"# coding: undefined\nimport x", b"# coding: idna\nimport x",
    ],
)  # fmt: skip
def test_what_a_script_cannot_be_is_said(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        script_text(data)
    (tmp_path / "a.py").write_bytes(data)
    assert gather(tmp_path).said


def test_newer_syntax_is_read_by_line(tmp_path: Path) -> None:
    newer = "import numpy\ntype X = int\nfrom google.cloud import storage\ndef f[T](x: T): import os\n"
    (tmp_path / "a.py").write_text(
        newer + "    import xarray as xr; print(f'{x['y']}')\nimport the data first\n"
    )
    needs = gather(tmp_path)
    assert sorted(needs.modules) == ["google.cloud.storage", "numpy", "xarray"]
    assert any("newer than 3." in words for words in needs.said)


def test_choices_are_optional() -> None:
    used = used_by_script(
        "if TYPE_CHECKING:\n import a\nelse:\n import b\n"
        "if sys.platform == 'win32':\n import c\nelif sys.version_info < (3, 11):\n import d\n"
        "if typing.TYPE_CHECKING: import e\nif False: import f\nif x: import g\n"
        "with contextlib.suppress(ImportError): import h\nwith suppress(KeyError): import i\n"
        "try:\n import j\nexcept* ImportError: pass\nif __name__ == '__main__': import k\n"
    )
    assert "".join(sorted(used.modules)) == "bgik"
    assert "".join(sorted(used.optional)) == "acdefhj"


def test_files_that_cells_install_from(tmp_path: Path) -> None:
    cell = "%pip install -r more.txt -q\n!mamba install --yes --file=conda.txt\n%pip install -r /etc/passwd"
    tree(
        tmp_path, {"nb/a.ipynb": cell, "nb/more.txt": "rich>=13 # x\n", "nb/conda.txt": "# y\ncartopy=0.23\n"}
    )
    needs = gather(tmp_path)
    assert [r.text for r in needs.requirements] == ["rich>=13"]
    assert [*needs.conda] == ["cartopy=0.23"]
    assert needs.said == ["/etc/passwd was not read, which a cell installs from"]


# --- what packages have -------------------------------------------------------------------------------------


def site(*paths: str, prefix: str = "lib/python3.12/site-packages/") -> list[tuple[str, File]]:
    return [(prefix + path, File(b"")) for path in paths]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    root = tmp_path / "project"
    (root / "environments").mkdir(parents=True)
    (root / "environments/maps.yml").write_text("dependencies: [python]\n")
    return read_project(root)


def cached(package: Package | Wheel, settings: Settings, folder: Path) -> LockedPackage:
    """Lay a package where a download of it would lie."""
    made = package.write(folder)
    locked = package.locked(made)
    place = archive_path(locked, settings)
    place.parent.mkdir(parents=True)
    made.rename(place)
    return locked


def found(project: Project, settings: Settings, *cells: str, packages: list[LockedPackage]) -> list[Finding]:
    environment = project.environment("maps")
    python = Package("python").locked(Package("python").write(project.root / "made"))
    added = [] if any(p.name == "python" for p in packages) else [python]
    environment.lock_path.write_bytes(dumps(lock(*packages, *added, name="maps")))
    path = project.root / "n.ipynb"
    path.write_bytes(notebook(*cells))
    return [f for f in check({"n.ipynb": path}, project, "maps", settings) if "kernel" not in f.words]


def words(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(f.words, f.hint) for f in findings]


def test_a_package_of_a_similar_name_does_not_count(
    project: Project, settings: Settings, tmp_path: Path
) -> None:
    """conda's `python-box` has no `pybox`, though a package may be called like it."""
    box = cached(Package("pybox", files=site("other/__init__.py")), settings, tmp_path)
    says = ("cell 1 imports box, which maps does not have", "envbox add python-box --name maps")
    assert words(found(project, settings, "import box", packages=[box])) == [says]
    assert words(found(project, settings, "import other", packages=[box])) == [
        (
            "cell 1 imports other, which maps does not have",
            "add the package that has it: envbox add PKG --name maps",
        )
    ]
    needing = cached(Package("odd", files=site("other/x.py"), depends=["python >=3"]), settings, tmp_path)
    assert words(found(project, settings, "import other, box", packages=[box, needing])) == [says]


def test_what_is_not_cached_is_taken_to_be_there(
    project: Project, settings: Settings, tmp_path: Path
) -> None:
    package = Package("pybox", files=site("other.py"))
    locked = package.locked(package.write(tmp_path))
    assert words(found(project, settings, "import box", packages=[locked])) == []
    damaged = archive_path(locked, settings)
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"PK nothing")
    assert words(found(project, settings, "import box", packages=[locked])) == []


def test_a_package_that_stands_for_others(project: Project, settings: Settings, tmp_path: Path) -> None:
    base = Package("plots-core", files=site("plots/__init__.py"), depends=["python >=3"])
    whole = cached(Package("plots", depends=["plots-core =1"]), settings, tmp_path)
    away = base.locked(base.write(tmp_path))
    assert words(found(project, settings, "import plots", packages=[whole, away])) == []
    there = cached(base, settings, tmp_path)
    assert words(found(project, settings, "import plots.x", packages=[whole, there])) == []
    assert len(found(project, settings, "import plot", packages=[whole, there])) == 1


def test_a_namespace_is_asked_for_its_part(project: Project, settings: Settings, tmp_path: Path) -> None:
    package = Package("google-cloud-core", files=site("google/cloud/_http.py"), depends=["python"])
    core = cached(package, settings, tmp_path)
    wheel = Wheel("storage", files={"google/cloud/storage/__init__.py": (b"", False)})
    told = found(project, settings, "from google.cloud import storage", packages=[core])
    assert words(told)[0][1] == "envbox add google-cloud-storage --name maps"
    both = [core, cached(wheel, settings, tmp_path)]
    assert found(project, settings, "from google.cloud import storage", packages=both) == []


def test_check_asks_for_none_of_the_projects_own(
    project: Project, settings: Settings, tmp_path: Path
) -> None:
    tree(project.root, {"mine.py": "", "src/pkg/__init__.py": "", "code/far.py": "", "helper/x.py": ""})
    python = cached(Package("python"), settings, tmp_path)
    cell = "import mine, pkg.y, far, helper.x\nfrom helper import x"
    assert found(project, settings, cell, packages=[python]) == []


def test_a_package_goes_before_a_module_elsewhere(
    project: Project, settings: Settings, tmp_path: Path
) -> None:
    tree(project.root, {"examples/pandas.py": "", "datasets/prepare.py": ""})
    python = cached(Package("python"), settings, tmp_path)
    told = found(project, settings, "import pandas, datasets", packages=[python])
    assert [hint for _, hint in words(told)] == [
        "envbox add pandas --name maps",
        "envbox add datasets --name maps",
    ]


def test_a_hint_runs_nothing_of_a_notebook(project: Project, settings: Settings, tmp_path: Path) -> None:
    python = cached(Package("python"), settings, tmp_path)
    (told,) = found(project, settings, "!pip install 'rich$(touch x)'", packages=[python])
    assert told.hint == "envbox add --pip 'rich$(touch x)' --name maps"


def test_a_list_outside_of_the_project_is_not_read(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "secret.txt": "key",
            "p/a.ipynb": "%pip install -r in.txt",
            "p/b.ipynb": "%pip install -r ../secret.txt",
        },
    )
    (tmp_path / "p/in.txt").symlink_to("../secret.txt")
    needs = gather(tmp_path / "p")
    assert not needs.requirements
    assert len(needs.said) == 2


def test_a_deep_and_wide_tree_is_looked_at_once(tmp_path: Path) -> None:
    for number in range(300):
        tree(tmp_path, {f"p{number}/setup.py": "", f"p{number}/m{number}.py": "import sys; sys.path"})
    own = own_modules(tmp_path)
    assert own.near(own.code[0]) is own.near(own.code[0])
    assert own.everywhere() is own.everywhere()
    assert needed(tmp_path) == []


def test_however_deep_folders_are(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import numpy")
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(3000):  # deeper than a path can be long
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    try:
        needs = gather(tmp_path)
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)
    assert [*needs.modules] == ["numpy"]
    assert any("cannot be read" in words for words in needs.said)


def test_check_says_what_it_could_not_read_without_a_fault(
    project: Project, settings: Settings, tmp_path: Path
) -> None:
    python = cached(Package("python"), settings, tmp_path)
    (told,) = found(project, settings, "type X = int", packages=[python])
    assert not told.is_fault
    assert "guessed by line" in told.words


def test_files_that_a_cell_installs_from_are_checked(
    project: Project, settings: Settings, tmp_path: Path
) -> None:
    rich = cached(Package("rich"), settings, tmp_path)
    (project.root / "more.txt").write_text("rich\nblack>=24\n")
    told = found(project, settings, "%pip install -r more.txt", packages=[rich])
    assert words(told) == [
        ("cell 1 installs black>=24, which no lock holds", 'envbox add --pip "black>=24" --name maps')
    ]


@pytest.mark.parametrize(
    ("paths", "modules"),
    [
        (["lib/python3.12/site-packages/a/__init__.py", "lib/python3.12/site-packages/a/b/c.py"],
         {"a", "a.b", "a.b.c"}),
        (["site-packages/one.py", "Lib/site-packages/two.cp312-win_amd64.pyd"], {"one", "two"}),
        (["lib/python3.12/site-packages/x.cpython-312-x86_64-linux-gnu.so", "site-packages/y.abi3.so"],
         {"x", "y"}),
        (["site-packages/a.txt", "site-packages/a-1.dist-info/METADATA", "share/doc/b.html"], set()),
        (["site-packages/pywin32.pth", "site-packages/win32/lib/win32con.py"],
         {"win32", "win32.lib", "win32.lib.win32con", "lib", "win32con"}),
        (["site-packages/a-nspkg.pth", "site-packages/a/b.py"], {"a", "a.b"}),
        (["lib/gmsh.py"], {"lib", "gmsh"}),
    ],
)  # fmt: skip
def test_modules_among_files(paths: list[str], modules: set[str]) -> None:
    assert modules_of(paths) == modules


def test_contents_are_read_once(settings: Settings, tmp_path: Path) -> None:
    locked = cached(Package("a", files=site("a.py")), settings, tmp_path)
    contents = Contents(settings)
    assert contents.modules(locked) == {"a"}
    archive_path(locked, settings).unlink()
    assert contents.modules(locked) == {"a"}
    assert Contents(settings).modules(locked) is None


def test_lists_of_files_that_lie_are_not_believed(settings: Settings, tmp_path: Path) -> None:
    deep = b'{"paths": ' + b"[" * 100_000
    for name, info in (
        ("deep", {"paths.json": deep}),
        ("up", {"paths.json": b'{"paths": [{"_path": "../x"}]}'}),
    ):
        locked = cached(Package(name, info=info), settings, tmp_path)
        assert Contents(settings).modules(locked) is None


def test_findings_and_walks_agree(tmp_path: Path) -> None:
    own = own_modules(tree(tmp_path, {"a/b/c.py": "", "d/__init__.py": "", "d/e/f.py": "", "g.ipynb": ""}))
    assert own.near(tmp_path / "g.ipynb") == {"a.b", "d", "d.e"}
    assert own.anywhere() == {"a": "a", "b": "a/b", "c": "a/b/c", "d": "d", "e": "d/e", "f": "d/e/f"}
    assert json.dumps(own.anywhere())
