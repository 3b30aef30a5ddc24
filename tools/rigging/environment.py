"""The virtual environment that the rig makes for itself: what converts packages, at pinned versions and
hashes.

Debian splits `ensurepip` off its Python. Where it is missing, pip comes from Debian's own `python3-pip-whl`,
unpacked into the rig's folder: nothing is installed on the machine, and root is not needed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from rigging import debian, state
from rigging.places import Places
from rigging.state import RigError

REQUIREMENTS = Path(__file__).with_name("requirements.txt")


def key() -> str:
    """What the environment is made of."""
    return state.key_of([REQUIREMENTS, sys.version])


def is_made(places: Places) -> bool:
    """Whether it is there, whole and current."""
    return state.read(places).get("venv") == key() and places.python.exists()


def make(places: Places) -> None:
    """Make the environment anew.

    :raises RigError: when pip cannot be had or fails
    """
    shutil.rmtree(places.venv, ignore_errors=True)
    has_pip = importlib.util.find_spec("ensurepip") is not None
    _run([sys.executable, "-m", "venv", *([] if has_pip else ["--without-pip"]), str(places.venv)])
    command = [str(places.python), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    if not has_pip:
        _run([*command, str(_pip_wheel(places))], pythonpath=_pip_wheel(places))
    _run([*command, "--only-binary=:all:", "--require-hashes", "-r", str(REQUIREMENTS)])
    state.record(places, venv=key())


def _pip_wheel(places: Places) -> Path:
    """pip, out of the machine's own release of Debian."""
    folder = places.root / "downloads" / "pip"
    if not (found := list(folder.glob("pip-*.whl"))):
        deb = debian.download_own(Places(folder), "python3-pip-whl")
        for member, data in debian.contents(deb):
            if member.name.startswith("usr/share/python-wheels/pip-"):
                state.write_whole(folder / Path(member.name).name, data)
        found = list(folder.glob("pip-*.whl"))
    return found[0]


def _run(command: list[str], pythonpath: Path | None = None) -> None:
    environment = {**os.environ, **({"PYTHONPATH": str(pythonpath)} if pythonpath else {})}
    environment.pop("PYTHONHOME", None)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RigError(f"{' '.join(command[:4])}: {(done.stderr or done.stdout).strip()[-2000:]}")
