"""A session on this machine inherits nothing by which another environment's parts would be used."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support.host_project import ON_HOST, Place

from envbox.sessions.launch.caller_variables import ABSENT, LEFT_OUT, inherited, path_here
from envbox.sessions.launch.container import Launch
from envbox.sessions.launch.host import here_env

LEADING = [
    "PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "PYSPARK_PYTHON", "CONDA_EXE", "_CONDA_ROOT",
    "_CE_M", "MAMBA_ROOT_PREFIX", "VIRTUAL_ENV", "PIP_TARGET", "JUPYTER_PATH", "JUPYTER_CONFIG_DIR",
    "JUPYTER_CONFIG_PATH", "JUPYTER_DATA_DIR", "IPYTHONDIR", "MPLBACKEND", "MATPLOTLIBRC",
    "PROJ_LIB", "PROJ_DATA", "GDAL_DATA", "GDAL_DRIVER_PATH", "ESMFMKFILE", "HDF5_PLUGIN_PATH",
    "TCL_LIBRARY", "TCLLIBPATH", "TK_LIBRARY", "R_HOME", "R_LIBS", "R_LIBS_SITE", "R_PROFILE_USER",
    "R_ENVIRON", "PERL5LIB", "PERL5OPT", "PERL_LOCAL_LIB_ROOT", "JULIA_LOAD_PATH", "NODE_PATH",
    "QT_PLUGIN_PATH", "QT_QPA_PLATFORM_PLUGIN_PATH", "QML2_IMPORT_PATH", "GI_TYPELIB_PATH",
    "GIO_MODULE_DIR", "GIO_EXTRA_MODULES", "FONTCONFIG_FILE", "FONTCONFIG_PATH", "MAGICK_HOME",
    "MAGICK_CONFIGURE_PATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "CMAKE_PREFIX_PATH", "BASH_ENV",
    "BASH_FUNC_conda%%",
]  # fmt: skip
KEPT = [
    "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "JAVA_HOME", "XDG_DATA_DIRS", "XDG_RUNTIME_DIR",
    "NLTK_DATA", "OMP_NUM_THREADS", "EDITOR", "TMPDIR", "DISPLAY", "SLURM_JOB_ID", "HTTPS_PROXY",
    "PGHOST", "CUDA_HOME", "TERM", "JPY_PARENT_PID", "BASH_FUNC_module%%", "PIP_INDEX_URL",
]  # fmt: skip


@pytest.mark.parametrize("name", LEADING)
def test_what_leads_elsewhere_is_left_out_and_passes_where_it_is_said(name: str) -> None:
    environ = {"PATH": "/bin", "HOME": "/h", name: "/theirs"}
    assert name not in inherited(environ)
    said = Launch("", "e", Path("/p"), (), env={name: None}, prefix=Path("/x"))
    assert here_env(said, environ)[name] == "/theirs"


@pytest.mark.parametrize("name", KEPT)
def test_what_is_the_machine_s_is_kept_unless_it_leads_into_an_active_environment(name: str) -> None:
    assert inherited({name: "/etc/x"})[name] == "/etc/x"
    active = {"CONDA_PREFIX": "/opt/conda/envs/a", name: "file:///opt/conda/envs/a/ssl/x /etc/x"}
    assert (name in inherited(active)) == (name in ("EDITOR",))
    assert name in inherited({"CONDA_PREFIX": "/opt/conda/envs/a", name: "/opt/conda/envs/another"})


def test_a_root_that_is_above_everything_is_no_environment() -> None:
    for root in ("/", "/home", "/home/me"):
        environ = {"CONDA_PREFIX": root, "HOME": "/home/me", "DATA": "/home/me/data"}
        assert inherited(environ)["DATA"] == "/home/me/data"


def test_each_kind_has_a_reason() -> None:
    assert all(len(reason) > 10 for reason in LEFT_OUT)


def test_the_spec_s_value_goes_before_the_caller_s() -> None:
    own = {"COLOUR": "blue", "LANG": "C.UTF-8", "GDAL_DATA": "/opt/envbox/share/gdal"}
    environ = {
        "COLOUR": "red",
        "LANG": "de_DE",
        "LC_ALL": "de_DE",
        "LC_TIME": "fr_FR",
        "GDAL_DATA": "/theirs",
    }
    found = here_env(Launch("", "e", Path("/p"), (), image_env=own, prefix=Path("/x")), environ)
    assert {name: found.get(name) for name in (*own, "LC_ALL", "LC_TIME")} == {
        **own, "LC_ALL": None, "LC_TIME": None,
    }  # fmt: skip
    said = Launch("", "e", Path("/p"), (), image_env=own, env={"COLOUR": "green"}, prefix=Path("/x"))
    assert here_env(said, environ)["COLOUR"] == "green"


def folder(root: Path, name: str, *programs: str) -> str:
    """A folder with programs."""
    made = root / name
    made.mkdir(parents=True)
    for program in programs:
        (made / program).write_text("#!/bin/sh\necho theirs\n")
        (made / program).chmod(0o755)
    return str(made)


def test_path_keeps_a_person_s_tools_and_no_other_environment(tmp_path: Path) -> None:
    own = folder(tmp_path, "home/bin", "mytool")
    tools = folder(tmp_path, "slurm/bin", "sbatch")
    others = [
        folder(tmp_path, "pyenv/shims", "python3"),
        folder(tmp_path, "home/.local/bin", "pip", "black"),
        folder(tmp_path, "conda/condabin", "conda"),
        folder(tmp_path, "r/bin", "Rscript"),
        folder(tmp_path, "venv/bin", "black"),
    ]
    (tmp_path / "r/conda-meta").mkdir()
    (tmp_path / "venv/pyvenv.cfg").write_text("")
    path = ":".join([others[0], own, *others[1:], "/usr/local/bin", tools, "/usr/bin", "relative"])
    assert path_here({"PATH": path}, "/opt/envbox/bin").split(":") == [
        "/opt/envbox/bin", str(ABSENT), own, "/usr/local/bin", tools, "/usr/bin", "relative",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["pip", "pip3", "conda", "mamba", "micromamba"])
def test_what_an_environment_has_none_of_answers_in_words(tmp_path: Path, name: str) -> None:
    machine = folder(tmp_path, "usr-bin", name)
    env = {"PATH": f"{ABSENT}:{machine}", "CONDA_DEFAULT_ENV": "maps"}
    done = subprocess.run([name, "install", "x"], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"there is no {name} in maps" in done.stderr
    assert "hint: add it to the spec: envbox add" in done.stderr


def test_they_are_one_program() -> None:
    assert len({path.read_bytes() for path in ABSENT.iterdir()}) == 1


@pytest.mark.rig
def test_no_session_reaches_the_machine_s_pip(here: Place, tmp_path: Path) -> None:
    theirs = folder(tmp_path, "bin", "pip", "conda")
    for command in ("pip", "pip3", "conda"):
        argv = (*ON_HOST, "sh", "-c", f"{command} install x")
        done = here.run(*argv, check=False, PATH=f"{theirs}:{os.environ['PATH']}")
        assert done.returncode == 1
        assert f"there is no {command} in work" in done.stderr
    assert here.run(*ON_HOST, "sh", "-c", "command -v git || command -v ls").stdout.startswith("/")
