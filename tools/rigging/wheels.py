"""Wheels: which ones, pinned by sha256 in `wheels.json`, and how pip downloads just those.

pip takes one version of a project a call and one platform, so the pins are dealt into rounds; the rounds run side by
side. `python3 tools/rig repin` resolves the sets below anew and writes the pins.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rigging.state import RigError

PINS = Path(__file__).with_name("wheels.json")
PYTHON = "3.11"
_GLIBCS = (36, 35, 34, 31, 28, 27, 26, 24, 17, 12, 5)  # manylinux_2_N that run on the base's C library


@dataclass(frozen=True, slots=True)
class Pin:
    """One wheel.

    :param used: `channel`, `pypi` and `small` (the channel's small profile), as they apply
    """

    file: str
    sha256: str
    used: tuple[str, ...]

    @property
    def project(self) -> str:
        return self.file.split("-")[0].lower().replace("_", "-").replace(".", "-")

    @property
    def version(self) -> str:
        return self.file.split("-")[1]

    @property
    def machine(self) -> str:
        """What pip has to be told: `aarch64` for wheels of that machine, else `x86_64`."""
        return "aarch64" if "aarch64" in self.file.rsplit("-", 1)[1] else "x86_64"


def pins() -> tuple[Pin, ...]:
    """All wheels of the rig."""
    return tuple(
        Pin(file, value["sha256"], tuple(value["used"]))
        for file, value in sorted(json.loads(PINS.read_text(encoding="utf-8")).items())
    )


def used_for(use: str) -> tuple[Pin, ...]:
    """The wheels of `channel`, `small` or `pypi`."""
    return tuple(pin for pin in pins() if use in pin.used)


def download(wanted: Iterable[Pin], folder: Path, python: Path) -> None:
    """Bring wheels into `folder`, each checked against its pin; those that are there stay.

    :param python: an interpreter with pip
    :raises RigError: when pip cannot
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [pin for pin in wanted if not (folder / pin.file).exists()]
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda round_: _download(round_, folder, python), rounds(missing)):
            pass


def rounds(wanted: Sequence[Pin]) -> list[list[Pin]]:
    """Deal pins into lists that pip can take in one call: one machine, one version of a project; none too long."""
    dealt: list[list[Pin]] = []
    for pin in wanted:
        for round_ in dealt:
            if (
                round_[0].machine == pin.machine
                and len(round_) < 80
                and pin.project not in {p.project for p in round_}
            ):
                round_.append(pin)
                break
        else:
            dealt.append([pin])
    return dealt


def platforms(machine: str) -> list[str]:
    """pip's options for a machine with the base's C library."""
    tags = [*(f"manylinux_2_{n}_{machine}" for n in _GLIBCS), f"manylinux2014_{machine}", f"linux_{machine}"]
    if machine == "x86_64":
        tags += [f"manylinux2010_{machine}", f"manylinux1_{machine}"]
    options = ["--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}"]
    return options + [f"--platform={tag}" for tag in tags]


def _download(round_: Sequence[Pin], folder: Path, python: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".pip-", dir=folder) as name:
        aside = Path(name)
        requirements = aside / "requirements.txt"
        lines = [f"{pin.project}=={pin.version} --hash=sha256:{pin.sha256}\n" for pin in round_]
        requirements.write_text("".join(lines))
        command = [python, "-m", "pip", "download", "-q", "--no-deps", "--no-cache-dir", "--require-hashes"]
        command += ["--disable-pip-version-check", *platforms(round_[0].machine), "-d", aside / "got"]
        done = subprocess.run([*command, "-r", requirements], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RigError(f"pip download: {done.stderr.strip()[-3000:]}", "is the package index reachable?")
        for pin in round_:
            got = aside / "got" / pin.file
            if not got.exists() or hashlib.sha256(got.read_bytes()).hexdigest() != pin.sha256:
                raise RigError(
                    f"pip brought another file than {pin.file}", "pin the wheels anew: tools/rig repin"
                )
            got.replace(folder / pin.file)


# --- pinning anew

SETS: dict[str, tuple[str, Sequence[str]]] = {
    # name: (machine, requirements); resolved one after the other, each on its own
    "main": (
        "x86_64",
        "numpy matplotlib basemap basemap-data pyproj pyshp ipython jupyterlab ipykernel nbclient pandas scipy "
        "pip setuptools wheel shapely".split(),
    ),
    "old": ("x86_64", "numpy==1.26.4 ipython==8.37.0 basemap==1.4.1 matplotlib pandas==2.2.3".split()),
    "new": ("x86_64", "numpy ipython".split()),  # newer than basemap allows: the solver has to step back
    "arm": (
        "aarch64",
        "numpy matplotlib ipython jupyterlab ipykernel nbclient pandas scipy pip setuptools wheel basemap-data "
        "pyproj pyshp shapely".split(),
    ),
}
SINGLE = {  # without what they depend on: older versions, so that an update is cheap to try
    "channel": "six==1.16.0 traitlets==5.14.3 packaging==24.2 wcwidth==0.2.13 idna==3.10".split(),
    "pypi": "tqdm==4.67.1 tqdm==4.66.6 colorama==0.4.6 tabulate==0.9.0 tabulate==0.8.10 attrs==25.3.0 "
    "python-slugify==8.0.4 text-unidecode==1.3 humanize==4.12.3 jinja2==3.1.6 markupsafe==3.0.2".split(),
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
                info["url"].rsplit("/", 1)[1],
                {"sha256": info["archive_info"]["hashes"]["sha256"], "used": []},
            )
            value["used"] = sorted({*value["used"], use})

    versions: list[str] = []
    for name, (machine, requirements) in SETS.items():
        report = _resolve(python, machine, requirements, versions if name == "arm" else ())
        add(report, "channel")
        if name == "new":
            add(report, "small")
        if name == "main":
            versions = [f"{r['metadata']['name']}=={r['metadata']['version']}" for r in report]
    for use, requirements in SINGLE.items():
        for requirement in requirements:
            add(_resolve(python, "x86_64", ["--no-deps", requirement]), use)
    add(_resolve(python, "aarch64", ["--no-deps", "markupsafe==3.0.2"]), "pypi")
    add(_resolve(python, "x86_64", ["--no-deps", "certifi"]), "small")
    PINS.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _resolve(
    python: Path, machine: str, requirements: Sequence[str], constraints: Sequence[str] = ()
) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        limits, report = Path(folder, "constraints.txt"), Path(folder, "report.json")
        limits.write_text("\n".join(constraints))
        command = [
            python,
            "-m",
            "pip",
            "install",
            "-q",
            "--dry-run",
            "--ignore-installed",
            "--target",
            folder,
        ]
        command += [*platforms(machine), "-c", limits, "--report", report, *requirements]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RigError(f"pip cannot resolve {' '.join(requirements)}: {done.stderr.strip()[-2000:]}")
        items: list[dict[str, Any]] = json.loads(report.read_text())["install"]
        return items
