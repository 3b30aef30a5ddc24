"""Which conda package brings a module, and what a project of PyPI is called in conda-forge.

No index of conda's says which modules a package has. `names.tsv` is made of two tables that others keep (see
`tools/import-names`), and knows where the names differ; the few that both lack or have wrong stand here, each
looked up in conda-forge. A module that nobody names otherwise is taken to be called like its package.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from envbox.lockfile import pip_name

_OWN = {
    "Bio": "biopython",
    "PIL": "pillow",
    "PyQt5": "pyqt",
    "PyQt6": "pyqt6",
    "apt_pkg": "python-apt",
    "attr": "attrs",
    "basemap": "basemap",
    "bs4": "beautifulsoup4",
    "cairo": "pycairo",
    "cv2": "opencv py-opencv libopencv opencv-python-headless",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "faiss": "faiss-cpu faiss",
    "fitz": "pymupdf",
    "gi": "pygobject",
    "google.protobuf": "protobuf",
    "googleapiclient": "google-api-python-client",
    "graph_tool": "graph-tool",
    "graphviz": "python-graphviz",
    "igraph": "python-igraph",
    "matplotlib": "matplotlib matplotlib-base",
    "mpl_toolkits": "matplotlib matplotlib-base",
    "mpl_toolkits.basemap": "basemap",
    "netCDF4": "netcdf4",
    "osgeo": "gdal libgdal",
    "pylab": "matplotlib matplotlib-base",
    "rdkit": "rdkit",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "tables": "pytables",
    "tensorflow": "tensorflow",
    "torch": "pytorch pytorch-cpu pytorch-gpu",
    "yaml": "pyyaml",
}


@dataclass(frozen=True, slots=True)
class _Table:
    modules: Mapping[str, tuple[str, ...]]
    projects: Mapping[str, str]


@cache
def _table() -> _Table:
    modules: dict[str, tuple[str, ...]] = {}
    projects: dict[str, str] = {}
    for line in files("envbox.notebook").joinpath("names.tsv").read_text(encoding="ascii").splitlines():
        kind, _, rest = line.partition("\t")
        key, _, value = rest.partition("\t")
        if kind == "m":
            modules[key] = tuple(value.split())
        elif kind == "p":
            projects[key] = value
    return _Table({**modules, **{module: tuple(names.split()) for module, names in _OWN.items()}}, projects)


def packages_for(module: str) -> tuple[str, ...]:
    """The conda packages that may bring a module, the likeliest first; never none.

    :param module: with dots (`mpl_toolkits.basemap`): the longest part of it that is known counts
    """
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        known = _table().modules.get(".".join(parts[:length]))
        if known:
            return known
    return (pip_name(parts[0]),)


def known_module(module: str) -> str:
    """The part of a dotted name that decides which package it is from."""
    parts = module.split(".")
    for length in range(len(parts), 1, -1):
        if ".".join(parts[:length]) in _table().modules:
            return ".".join(parts[:length])
    return parts[0]


def conda_name(project: str) -> str:
    """The name in conda-forge of one of PyPI's projects."""
    return _table().projects.get(pip_name(project), project.lower().replace("_", "-"))


def possible_names(module: str) -> Iterator[str]:
    """All names, in plain form, of packages of either kind that may bring a module."""
    top = pip_name(module.split(".", maxsplit=1)[0])
    for name in packages_for(module):
        yield pip_name(name)
    if known_module(module) == module.split(".", maxsplit=1)[0]:
        yield from (top, f"python-{top}", f"py-{top}", f"py{top}")
