"""Another Python than the one that runs the tests, with the libraries that making an image takes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parents[2] / "requirements" / "dev.txt"
NEEDED = (
    "certifi", "charset-normalizer", "idna", "installer", "platformdirs", "py-rattler", "pyyaml", "requests",
    "urllib3", "zstandard",
)  # fmt: skip
OLDEST = (3, 11)


@dataclass(frozen=True)
class SecondPython:
    """A Python of another X.Y.

    :param libraries: a folder for its path
    """

    executable: Path
    version: str
    libraries: Path


@pytest.fixture(scope="session")
def second_python(tmp_path_factory: pytest.TempPathFactory) -> SecondPython:
    """Find one (ENVBOX_SECOND_PYTHON, the PATH, pyenv's) and fetch the libraries, at the pinned versions."""
    for executable in _candidates():
        version = _version(executable)
        if version and tuple(map(int, version.split("."))) >= OLDEST and version != _own():
            return SecondPython(executable, version, libraries(version, tmp_path_factory.mktemp("second")))
    pytest.skip(f"only python {_own()} is here; another (3.11 or newer) may be named: ENVBOX_SECOND_PYTHON")


def libraries(version: str, folder: Path, *platforms: str) -> Path:
    """Have the wheels that making an image takes, for a Python or a machine that is not this one."""
    chosen = folder / "requirements.txt"
    chosen.write_text("".join(_pinned(REQUIREMENTS.read_text())))
    target = folder / "libraries"
    subprocess.run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
            "--require-hashes", "--only-binary", ":all:", "--python-version", version,
            *(argument for platform in platforms for argument in ("--platform", platform)),
            "--target", str(target), "--requirement", str(chosen),
        ],
        check=True,
    )  # fmt: skip
    return target


def _pinned(text: str) -> Iterator[str]:
    """The lines of a requirements file that are about what is needed, hashes included."""
    wanted = False
    for line in text.splitlines(keepends=True):
        if not line.startswith((" ", "#")):
            wanted = line.partition("==")[0] in NEEDED
        if wanted and not line.lstrip().startswith("#"):
            yield line


def _candidates() -> Iterator[Path]:
    if said := os.environ.get("ENVBOX_SECOND_PYTHON"):
        yield Path(said)
        return
    for minor in range(20, OLDEST[1] - 1, -1):
        if found := shutil.which(f"python3.{minor}"):
            yield Path(found)
    yield from sorted(Path("~/.pyenv/versions").expanduser().glob("3.*/bin/python"))


def _version(executable: Path) -> str | None:
    """X.Y; None when it does not run (pyenv's shims of what is not chosen)."""
    script = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([executable, "-c", script], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None


def _own() -> str:
    return "{}.{}".format(*sys.version_info[:2])
