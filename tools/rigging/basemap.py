"""basemap for linux-aarch64, for which there is no wheel: the x86-64 wheel's Python, and `geoslib.py`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from rigging import from_wheel
from rigging.conda_package import Entry, Package
from rigging.from_wheel import SITE_PACKAGES, Wheel

_SHAPELY = "shapely >=2"


def lacks_aarch64(wheel: Wheel) -> bool:
    """Whether a wheel is the one that this is for."""
    return wheel.project == "basemap" and wheel.version.startswith("2.")


def convert(wheel: Wheel) -> Package:
    """The package for linux-aarch64."""
    package = from_wheel.convert(wheel)
    files = {
        path: entry
        for path, entry in package.files.items()
        if ".so" not in path and not path.endswith((".dist-info/RECORD", ".dist-info/WHEEL"))
    }
    files[f"{SITE_PACKAGES}/_geoslib.py"] = Entry(Path(__file__).with_name("geoslib.py").read_bytes())
    kept = [spec for spec in package.depends if spec.split()[0] not in ("__glibc", "libstdcxx", "libgcc")]
    return dataclasses.replace(
        package, subdir="linux-aarch64", files=files, depends=tuple(sorted([*kept, _SHAPELY]))
    )
