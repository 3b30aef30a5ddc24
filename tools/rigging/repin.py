"""Makes the pins of `wheels.py`: sets of requirements, each resolved by pip on its own."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from rigging.state import RigError
from rigging.wheels import PINS, platforms

_JUPYTER = "ipython jupyterlab notebook ipykernel nbclient"
_SCIENCE = "numpy matplotlib pandas scipy basemap-data pyproj pyshp shapely"
_TOOLS = "pip setuptools wheel"
SETS = {  # name: (machine, requirements)
    "main": ("x86_64", f"{_SCIENCE} {_JUPYTER} {_TOOLS} basemap"),
    "old": ("x86_64", "numpy==1.26.4 ipython==8.37.0 basemap==1.4.1 matplotlib pandas==2.2.3"),
    "new": ("x86_64", "numpy ipython"),  # newer than basemap allows: the solver has to step back
    "arm": ("aarch64", f"{_SCIENCE} {_JUPYTER} {_TOOLS}"),  # at the versions of main
}
SINGLE = {  # without what they depend on; older versions, so that an update is cheap to try
    "channel": "six==1.16.0 traitlets==5.14.3 packaging==24.2 wcwidth==0.2.13 idna==3.10",
    "pypi": (
        "tqdm==4.67.1 tqdm==4.66.6 colorama==0.4.6 tabulate==0.9.0 tabulate==0.8.10 attrs==25.3.0 "
        "python-slugify==8.0.4 text-unidecode==1.3 humanize==4.12.3 jinja2==3.1.6 markupsafe==3.0.2"
    ),
    "small": "certifi",
}


def repin(python: Path) -> None:
    """Resolve the sets with pip and write `wheels.json`.

    :param python: of the channel's version (pip judges markers by the Python it runs on), with pip
    """
    found: dict[str, dict[str, Any]] = {}

    def add(reports: Iterable[dict[str, Any]], use: str) -> None:
        for item in reports:
            info = item["download_info"]
            value = found.setdefault(
                unquote(info["url"].rsplit("/", 1)[1]),
                {"sha256": info["archive_info"]["hashes"]["sha256"], "used": []},
            )
            value["used"] = sorted({*value["used"], use})

    versions: list[str] = []
    for name, (machine, requirements) in SETS.items():
        report = _resolve(python, machine, requirements.split(), versions if name == "arm" else ())
        add(report, "channel")
        if name == "new":
            add(report, "small")
        if name == "main":
            versions = [f"{r['metadata']['name']}=={r['metadata']['version']}" for r in report]
    for use, requirements in SINGLE.items():
        for requirement in requirements.split():
            add(_resolve(python, "x86_64", ["--no-deps", requirement]), use)
    add(_resolve(python, "aarch64", ["--no-deps", "markupsafe==3.0.2"]), "pypi")
    PINS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _resolve(
    python: Path, machine: str, requirements: Sequence[str], constraints: Sequence[str] = ()
) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        limits, report = Path(folder, "constraints.txt"), Path(folder, "report.json")
        limits.write_text("\n".join(constraints))
        command = [
            str(python),
            "-m",
            "pip",
            "install",
            "-q",
            "--dry-run",
            "--ignore-installed",
            "--target",
            folder,
        ]
        command += [*platforms(machine), "-c", str(limits), "--report", str(report), *requirements]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RigError(f"pip cannot resolve {' '.join(requirements)}: {done.stderr.strip()[-2000:]}")
        items: list[dict[str, Any]] = json.loads(report.read_text())["install"]
        return items
