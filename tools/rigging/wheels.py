"""Wheels: which ones, pinned by sha256 in `wheels.json`, and how pip downloads just those.

pip takes one version of a project a call and one platform, so the pins are dealt into rounds; the rounds run
side by side. `tools/rig repin` makes the pins.
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
    """Deal pins into lists for one call of pip each: one machine, one version of a project, none too long."""
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
        command = [
            str(python),
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--no-cache-dir",
            "--require-hashes",
        ]
        command += ["--disable-pip-version-check", *platforms(round_[0].machine), "-d", str(aside / "got")]
        done = subprocess.run(
            [*command, "-r", str(requirements)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RigError(f"pip download: {done.stderr.strip()[-3000:]}", "is the package index reachable?")
        for pin in round_:
            got = aside / "got" / pin.file
            if not got.exists() or hashlib.sha256(got.read_bytes()).hexdigest() != pin.sha256:
                raise RigError(
                    f"pip brought another file than {pin.file}", "pin the wheels anew: tools/rig repin"
                )
            got.replace(folder / pin.file)
