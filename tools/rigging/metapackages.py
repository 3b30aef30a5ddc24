"""Packages that hold little or nothing: Python's ABI markers, extras, matplotlib, certificates."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence

from packaging.utils import canonicalize_name

from rigging import names
from rigging.conda_package import Entry, Package, softlink
from rigging.from_wheel import Wheel

_TAG = f"cp{names.PYTHON.replace('.', '')}"


def python_markers(version: str) -> Iterator[Package]:
    """What conda-forge has beside `python`, for the ABI of a package.

    :param version: of the channel's Python, X.Y.Z
    """
    generic = {"noarch": "generic"}
    yield Package(
        name="python_abi",
        version=names.PYTHON,
        subdir="noarch",
        build_number=8,
        suffix=f"_{_TAG}",
        index={**generic, "constrains": [f"python {names.PYTHON}.* *_cpython"]},
    )
    yield Package(
        name="cpython",
        version=version,
        subdir="noarch",
        build=f"py{_TAG[2:]}h",
        depends=(f"python {version}.*", f"python_abi * *_{_TAG}"),
        index=generic,
    )
    yield Package(
        name="python-gil",
        version=version,
        subdir="noarch",
        suffix=f"_{_TAG}",
        depends=(f"cpython {version}.*", f"python_abi * *_{_TAG}"),
        index=generic,
    )
    yield Package(
        name="_python_abi3_support",
        version="1.0",
        subdir="noarch",
        depends=("cpython", "python-gil"),
        index=generic,
    )


def matplotlib(version: str) -> Package:
    """conda-forge's `matplotlib` is `matplotlib-base` and more."""
    return Package(
        name="matplotlib",
        version=version,
        subdir="noarch",
        build="pyh",
        depends=(f"matplotlib-base =={version}",),
        index={"noarch": "generic"},
    )


def certificates(certifi: Wheel) -> Package:
    """`ca-certificates`, with activation scripts that make OpenSSL find them in any prefix."""
    with zipfile.ZipFile(certifi.path) as archive:
        bundle = archive.read("certifi/cacert.pem")
    activate = b'export SSL_CERT_FILE="${CONDA_PREFIX}/ssl/cacert.pem"\n'
    return Package(
        name="ca-certificates",
        version=certifi.version,
        subdir="noarch",
        depends=("__unix",),
        index={"noarch": "generic"},
        about={"license": "MPL-2.0"},
        files={
            "ssl/cacert.pem": Entry(bundle),
            "ssl/cert.pem": softlink("cacert.pem"),
            "etc/conda/activate.d/ca-certificates_activate.sh": Entry(activate),
            "etc/conda/deactivate.d/ca-certificates_deactivate.sh": Entry(b"unset SSL_CERT_FILE\n"),
        },
    )


def extras(wheels: Sequence[Wheel]) -> Iterator[Package]:
    """One package for each extra that some wheel asks of another: `a[b]` → `a-with-b`."""
    by_project: dict[str, list[Wheel]] = {}
    for wheel in wheels:
        by_project.setdefault(canonicalize_name(wheel.project), []).append(wheel)
    todo = {pair for wheel in wheels for pair in names.depends(wheel.requirements, wheel.machines)[1]}
    done: set[tuple[str, str]] = set()
    while todo - done:
        project, extra = min(todo - done)
        done.add((project, extra))
        versions = {wheel.version: wheel for wheel in by_project.get(project, []) if extra in wheel.extras}
        for version, wheel in sorted(versions.items()):
            specs, wanted = names.extra_depends(wheel.requirements, wheel.machines, extra)
            todo |= wanted
            yield Package(
                name=names.extra_name(project, extra),
                version=version,
                subdir="noarch",
                build="pyh",
                depends=tuple(sorted(specs | {f"{names.conda_name(project)} =={version}"})),
                index={"noarch": "generic"},
            )
