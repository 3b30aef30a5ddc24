"""What tests of sessions on this machine share: a project with one environment, and commands in it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pexpect
import pytest

if TYPE_CHECKING:
    from conftest import Rig

ENVBOX = (sys.executable, "-m", "envbox")
SPEC = "channels: [conda-forge]\ndependencies: [python, ipykernel]\nvariables: {COLOUR: blue}\n"
ON_HOST = ("run", "--engine", "host", "work", "--")


@dataclass(frozen=True)
class Place:
    """A project whose environment, `work`, has Python and a kernel, and a cache.

    :param before: what every command is started by
    """

    root: Path
    env: dict[str, str]
    before: tuple[str, ...] = ()

    @property
    def cache(self) -> Path:
        return Path(self.env["ENVBOX_CACHE_DIR"])

    def argv(self, *arguments: str) -> list[str]:
        """A command line of envbox."""
        return [*self.before, *ENVBOX, *arguments]

    def environ(self, **env: str) -> dict[str, str]:
        """The variables of a command."""
        return {**os.environ, **self.env, **env}

    def run(self, *arguments: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """Run envbox to its end."""
        done = subprocess.run(
            self.argv(*arguments), cwd=self.root, env=self.environ(**env),
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0 or not check, done.stderr
        return done

    def python(self, code: str, **env: str) -> str:
        """What a script in the environment writes."""
        return self.run(*ON_HOST, "python", "-c", code, **env).stdout.strip()

    def shell(self, **env: str) -> Any:
        """An interactive shell in the environment, which shows its prompt."""
        command, *arguments = self.argv("shell", "--engine", "host", "work")
        environ = self.environ(TERM="dumb", **env)
        child = pexpect.spawn(
            command, arguments, cwd=str(self.root), env=environ, timeout=60, encoding="utf-8"
        )
        child.expect(r"\(work\) .*[#$] ")
        return child


def locked_place(rig: Rig, root: Path, cache: Path, before: tuple[str, ...] = ()) -> Place:
    """Make such a project in a folder, and lock it."""
    (root / "environments").mkdir()
    (root / "environments/work.yml").write_text(SPEC)
    place = Place(root, {**rig.env, "ENVBOX_CACHE_DIR": str(cache)}, before)
    place.run("lock", "work")
    return place


@pytest.fixture(scope="session")
def here(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Such a project, for all tests that need no cache of their own."""
    found = locked_place(rig, tmp_path_factory.mktemp("with space"), tmp_path_factory.mktemp("cache"))
    done = found.run("run", "--engine", "host", "work", "--", "true")
    if "does not let you mount" in done.stderr:
        pytest.skip(done.stderr)
    return found


def exit_code(shell: Any) -> int | None:
    """Wait until a shell has ended, and give its exit code."""
    shell.expect(pexpect.EOF)
    shell.close()
    return shell.exitstatus  # type: ignore[no-any-return]
