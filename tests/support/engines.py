"""Engines of other versions and other stores, in namespaces of their own, for tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from envbox.engine.address import Address
from envbox.engine.docker import DockerEngine
from envbox.settings import Settings

RESIZE = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
mounts = os.open(f"/proc/{sys.argv[1]}/ns/mnt", os.O_RDONLY)
assert libc.setns(mounts, 0x20000) == 0, os.strerror(ctypes.get_errno())
options = f"size={sys.argv[2]}m".encode()
assert libc.mount(None, b"/rig/data", None, 32, options) == 0, os.strerror(ctypes.get_errno())
"""  # CLONE_NEWNS, MS_REMOUNT


@dataclass
class SecondEngine:
    """An engine that tests may do with as they like.

    :param kind: one of the rig's
    :param name: the rig's for this one
    """

    kind: str
    name: str
    size: int = 0
    shared: Path | None = None

    def start(self) -> None:
        """Have it running."""
        from rigging import second
        from rigging.places import places

        where = places(os.environ)
        with skipping():
            self.socket = second.start(where, self.name, self.kind, self.size, self.shared)

    def kill(self) -> None:
        """End it, and all that it runs, at once."""
        from rigging import second
        from rigging.places import places

        pid = second.process(places(os.environ), self.name)
        assert pid is not None
        os.kill(pid, 9)

    def resize(self, size: int) -> None:
        """Give its store, which is in memory, more room.

        :param size: in MB
        """
        subprocess.run([sys.executable, "-c", RESIZE, str(self.pid), str(size)], check=True)

    @property
    def pid(self) -> int:
        """Of the engine's own process."""
        from rigging import second
        from rigging.places import places

        parent = second.process(places(os.environ), self.name)
        return int(Path(f"/proc/{parent}/task/{parent}/children").read_text().split()[0])

    def connect(self, settings: Settings) -> DockerEngine:
        """Speak to it as envbox does."""
        engine = DockerEngine(Address(f"unix://{self.socket}", "a test's"), settings.cache_dir)
        engine.check()
        return engine

    def docker(self, *arguments: str) -> str:
        """Speak to it as a person does."""
        words = ["docker", "--host", f"unix://{self.socket}", *arguments]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def save(self, image: str) -> bytes:
        """The archive that it gives of an image."""
        words = ["docker", "--host", f"unix://{self.socket}", "save", image]
        done = subprocess.run(words, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def run(self, image: str, *command: str) -> str:
        """What a command in a container of the image writes."""
        container = self.docker("create", "--network", "none", image, *command)
        try:
            self.docker("start", container)
            assert self.docker("wait", container) == "0", self.docker("logs", container)
            return self.docker("logs", container)
        finally:
            self.docker("rm", "--force", container)


@contextmanager
def skipping() -> Iterator[None]:
    """Skip a test where Debian's packages cannot be had, or namespaces cannot be made."""
    from rigging import state

    try:
        yield
    except state.RigError as error:
        if re.search("cannot fetch|no Debian mirror|no apt-get|cannot make namespaces", str(error)):
            pytest.skip(f"it cannot be had here: {error}")
        raise


@contextmanager
def second_engine(
    kind: str, size: int = 0, purpose: str = "", shared: Path | None = None
) -> Iterator[SecondEngine]:
    """An engine for a while, of one of the rig's kinds.

    :param size: of its store in MB, which then is in memory; 0 for what the disk has
    :param shared: a folder that it sees where it is here
    """
    if os.geteuid() != 0:
        pytest.skip("only root can start a second engine")
    if not (shutil.which("apt-get") and shutil.which("docker")):
        pytest.skip("a second engine needs Debian, and the docker command")
    from rigging import second
    from rigging.places import places

    where = places(os.environ)
    for name in second.running(where):  # of tests that were killed
        found = re.fullmatch(r"test-(\d+)-.*", name)
        if found and not Path(f"/proc/{found[1]}").exists():
            second.stop(where, name)
    engine = SecondEngine(kind, f"test-{os.getpid()}-{kind}{purpose}", size, shared)
    try:
        engine.start()
        yield engine
    finally:
        second.stop(where, engine.name)
