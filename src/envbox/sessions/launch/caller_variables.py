"""What a session on this machine inherits: variables without those that lead elsewhere, and PATH.

A variable that names another environment's parts would make a locked environment something else, and the
lockfile would still be stamped on the result. They are listed here, each kind with its reason; what `--env`
or an env file says passes all the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

# Why they are left out, and the pattern of their names.
LEFT_OUT: Mapping[str, str] = {
    "another Python's modules, start-up file and options": r"PYTHON[A-Z0-9_]*|PYSPARK_(DRIVER_)?PYTHON",
    "another environment that is active here, and its tool's settings": (
        r"_?CONDA_?[A-Z0-9_]*|_?CE_[A-Z]+|MAMBA_[A-Z_]+|PIXI_[A-Z_]+|VIRTUAL_ENV[A-Z_]*|UV_[A-Z_]+"
        r"|PYENV_[A-Z_]+|POETRY_ACTIVE|PIPENV_[A-Z_]+"
    ),
    "where another pip installs": r"PIP_(TARGET|PREFIX|ROOT|USER|PYTHON|BREAK_SYSTEM_PACKAGES)",
    "other kernels, extensions and start-up files": (
        r"JUPYTER_(PATH|CONFIG_DIR|CONFIG_PATH|DATA_DIR)|IPYTHON[A-Z_]*"
    ),
    "set by another kernel, or for another matplotlib": r"MPLBACKEND|MATPLOTLIBRC",
    "tables and plugins that belong to one version of a library": (
        r"PROJ_(LIB|DATA)|GDAL_(DATA|DRIVER_PATH|PYTHON_DRIVER_PATH)|OGR_DRIVER_PATH|GEOTIFF_CSV|ESMFMKFILE"
        r"|UDUNITS2_XML_PATH|ECCODES_(DEFINITION|SAMPLES)_PATH|HDF5_PLUGIN_PATH|GRASS_[A-Z_]+|GISBASE"
    ),
    "another Tcl's scripts": r"TCL_LIBRARY|TCLLIBPATH|TK_LIBRARY|TIX_LIBRARY",
    "another R's packages and start-up files": (
        r"R_(HOME|ARCH|LIBS[A-Z_]*|PROFILE[A-Z_]*|ENVIRON[A-Z_]*|(INCLUDE|SHARE|DOC)_DIR)|RETICULATE_[A-Z]+"
    ),
    "modules of another Perl, Ruby, Lua, Julia or Node": (
        r"PERL5[A-Z]+|PERL_(LOCAL_LIB_ROOT|MB_OPT|MM_OPT)|RUBY(LIB|OPT)|GEM_(HOME|PATH)|LUA_C?PATH[0-9_]*"
        r"|JULIA_(LOAD_PATH|PROJECT|DEPOT_PATH)|NODE_(PATH|OPTIONS)"
    ),
    "plugins built for another Qt, GTK or GLib": (
        r"QT_(QPA_PLATFORM_)?PLUGIN_PATH|QTDIR|QML2?_IMPORT_PATH|GI_TYPELIB_PATH|GST_PLUGIN_[A-Z0-9_]+"
        r"|GIO_(MODULE_DIR|EXTRA_MODULES)|GTK_(PATH|MODULES|(EXE|DATA)_PREFIX|IM_MODULE_FILE)"
        r"|GDK_PIXBUF_MODULE[A-Z_]*|GSETTINGS_SCHEMA_DIR"
    ),
    "another fontconfig's, ImageMagick's or Ghostscript's files": r"FONTCONFIG_[A-Z]+|MAGICK_[A-Z_]+|GS_LIB",
    "libraries of the machine or of another environment": r"LD_(LIBRARY_PATH|PRELOAD|AUDIT)",
    "headers and libraries for another compiler": (
        r"CPATH|(C|CPLUS|OBJC)_INCLUDE_PATH|LIBRARY_PATH|PKG_CONFIG_(PATH|LIBDIR)|CMAKE_PREFIX_PATH"
    ),
    "the start-up of another shell, and functions of another environment's tools": (
        r"BASH_ENV|ENV|PS1|PROMPT_COMMAND|ENVBOX_ACTIVE"
        r"|BASH_FUNC_(_*(conda|mamba)\w*|micromamba|pyenv|pip3?)(%%|\(\))"
    ),
}
# Kept, since they are of the machine, or name data: SSL_CERT_FILE and other certificates, JAVA_HOME,
# SPARK_HOME, CUDA_…, XDG_…, NLTK_DATA, OMP_…, JUPYTER_RUNTIME_DIR, JPY_…; unless they lead into an active
# environment.
_LEFT_OUT = re.compile("|".join(LEFT_OUT.values()))
_ACTIVE = ("VIRTUAL_ENV", "CONDA_PREFIX")
_OF_PEOPLE = frozenset(("PATH", "HOME", "PWD", "OLDPWD", "SHELL", "EDITOR", "VISUAL", "PAGER", "_"))

SYSTEM_FOLDERS = frozenset(
    f"{root}{name}" for root in ("/", "/usr/", "/usr/local/") for name in ("bin", "sbin", "games")
)
"""The machine's own, which stay in PATH whatever they hold: git, psql, editors, and a Python as well."""
ABSENT = Path(__file__).with_name("absent")
"""Programs that say that the environment has none of their name, before the machine's would be taken."""
_OF_ENVIRONMENTS = ("python", "python3", "pip", "pip3", "conda", "mamba", "micromamba", "ipython", "jupyter")


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the caller's variables without those that lead elsewhere."""
    roots = tuple(f"{root}/" for root in _active(environ))
    return {
        name: value
        for name, value in environ.items()
        if not _LEFT_OUT.fullmatch(name) and (name in _OF_PEOPLE or not _leads_into(value, roots))
    }


def path_here(environ: Mapping[str, str], own: str) -> str:
    """Return PATH of a session: the environment's, what says that something is not in it, and the machine's.

    Folders of other environments are left out: those that hold a Python, or a tool that installs for one.

    :param own: the environment's folder of programs
    """
    active = {f"{root}/bin" for root in _active(environ)} | {f"{root}/condabin" for root in _active(environ)}
    kept = [
        folder
        for folder in environ.get("PATH", os.defpath).split(":")
        if folder in SYSTEM_FOLDERS or (folder not in active and not _is_of_environment(folder))
    ]
    absent = [str(ABSENT)] if ":" not in str(ABSENT) else []
    return ":".join([own, *absent, *(folder for folder in kept if folder not in (own, str(ABSENT)))])


def _active(environ: Mapping[str, str]) -> list[str]:
    """Return the environments that are active here; a root or a home is taken for none."""
    home = environ.get("HOME", "/").rstrip("/") + "/"
    found = [environ[name].rstrip("/") for name in _ACTIVE if environ.get(name)]
    return [root for root in found if root and not home.startswith(f"{root}/")]


def _leads_into(value: str, roots: tuple[str, ...]) -> bool:
    return any(part.removeprefix("file://").startswith(roots) for part in re.split(r"[:\s]+(?!//)", value))


def _is_of_environment(folder: str) -> bool:
    if not folder.startswith("/"):
        return False
    above = os.path.dirname(folder)  # noqa: PTH120  # of texts; a Path for each takes longer
    marks = (f"{above}/pyvenv.cfg", f"{above}/conda-meta", *(f"{folder}/{name}" for name in _OF_ENVIRONMENTS))
    return any(map(os.path.lexists, marks))
