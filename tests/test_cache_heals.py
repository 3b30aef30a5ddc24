"""Whatever happens to entries of a cache, the next commands mend it, or say in words how."""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.other_user import NOBODY, nobodys_envbox
from support.paper_registry import PaperRegistry, serving
from support.tiny import Tiny, make_tiny, python

ROUNDS = int(os.environ.get("ENVBOX_TEST_ROUNDS", "2"))
SEED = int(os.environ.get("ENVBOX_TEST_SEED", "1"))
AT_ONCE = 3  # damages in one round
TIMEOUT = 120
SECRET = "not the cache's"
NAME = "tiny"
LOCKFILE = "environments/tiny.conda-lock.yml"
OUTPUT = ("build", NAME, "--output", "out.oci.tar")
HOST = ("run", "--engine", "host", NAME, "--", "true")
COMMANDS = (
    OUTPUT,
    ("build", NAME, "--output", "out.compat.tar", "--compat"),
    HOST,
    ("size", NAME),
    ("list", NAME),
)


@dataclass(frozen=True)
class Field:
    """A project with a lockfile, and a cache that commands have filled."""

    root: Path
    cache: Path
    env: dict[str, str]
    argv: tuple[str, ...] = (sys.executable, "-m", "envbox")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run envbox to its end, which comes."""
        done = subprocess.run(
            [*self.argv, *arguments], cwd=self.root, env={**os.environ, **self.env},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=TIMEOUT,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        assert "PermissionError" not in done.stderr
        return done

    def mended(self, *arguments: str) -> str:
        """Run it, and do what its error says until it works; each damage may be met once."""
        for _ in range(AT_ONCE + 1):
            done = self.run(*arguments)
            if done.returncode == 0:
                return done.stdout
            assert done.stderr.startswith("error: ") or "\nerror: " in done.stderr, done.stderr
            assert "hint: " in done.stderr, done.stderr
            if found := re.search(r"envbox (clean [a-z ]+)", done.stderr.partition("hint: ")[2]):
                self.run(*shlex.split(found[1]))
        raise AssertionError(f"{arguments} does not recover: {done.stderr}")


@pytest.fixture(scope="module")
def ground() -> Iterator[Path]:
    """A folder that everybody may enter."""
    with tempfile.TemporaryDirectory(prefix="envbox-test-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def shop(ground: Path) -> Iterator[Tiny]:
    (ground / "shop").mkdir()
    command = nobodys_envbox()[0][-3] if os.getuid() == 0 else sys.executable
    said = subprocess.run([command, "-V"], capture_output=True, text=True, check=True).stdout
    with serving(PaperRegistry()) as registry:
        pythons = [python(command, said.split()[1])]
        yield make_tiny(ground / "shop", registry, pythons=pythons)


@pytest.fixture(scope="module")
def warm(shop: Tiny, ground: Path) -> tuple[Field, str]:
    """A plain user's cache in which everything is, and the digest that a build prints."""
    root = ground / "project"
    (root / "environments").mkdir(parents=True)
    shutil.copy(shop.environment.lock_path, root / LOCKFILE)
    env = {
        **shop.environ,
        "ENVBOX_BASE": shop.settings().base,
        "ENVBOX_CACHE_DIR": str(root / "cache"),
        "ENVBOX_CONFIG": os.devnull,
        "ENVBOX_JOBS": "2",
        "HOME": str(root),
        "XDG_STATE_HOME": str(root / "state"),
    }
    if os.getuid() == 0:
        argv, own = nobodys_envbox()
        for path in (root, *root.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        field = Field(root, root / "cache", {**env, **own}, argv)
    else:
        field = Field(root, root / "cache", env)
    digest = field.mended(*OUTPUT)
    for command in (*COMMANDS, HOST):
        field.mended(*command)
    return field, digest


def damage(path: Path, dice: random.Random, elsewhere: Path) -> str:
    """Do something to an entry, as its owner would; what is said."""
    owner = path.lstat()
    way = _damage(path, dice, elsewhere)
    for each in (path, *path.glob("*")) if os.path.lexists(path) and os.getuid() == 0 else ():
        os.chown(each, owner.st_uid, owner.st_gid, follow_symlinks=False)
    return way


def _damage(path: Path, dice: random.Random, elsewhere: Path) -> str:
    ways = ["folder", "fifo", "dangling", "link", "socket", "empty", "gone", "unreadable"]
    if path.is_file() and not path.is_symlink() and path.stat().st_size:
        ways += ["short", "flip"]
    way = dice.choice(ways)
    if way in ("short", "flip", "unreadable"):
        if path.is_symlink():
            return "nothing"
        if way == "unreadable":
            path.chmod(0)
            return way
        data = bytearray(path.read_bytes())
        at = dice.randrange(len(data))
        if way == "flip":
            data[at] ^= 1 << dice.randrange(8)
        path.write_bytes(data[:at] if way == "short" else data)
        return way
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    if way == "folder":
        (path / "x").mkdir(parents=True)
    elif way == "fifo":
        os.mkfifo(path)
    elif way == "socket":
        here = Path.cwd()
        os.chdir(path.parent)  # such names are short
        try:
            with socket.socket(socket.AF_UNIX) as end:
                end.bind(path.name[:90])
            Path(path.name[:90]).rename(path.name)
        finally:
            os.chdir(here)
    elif way == "empty":
        path.write_bytes(b"")
    elif way in ("dangling", "link"):
        path.symlink_to(elsewhere if way == "link" else elsewhere / "nowhere")
    return way


def entries(cache: Path) -> list[Path]:
    """Everything in a cache, but what a tree's files are: they are the packages' own."""
    return sorted(
        path
        for path in cache.rglob("*")
        if not re.search(r"prefixes/trees/[^/]+/prefix/|compilers/[^/]+/", str(path))
    )


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_damaged_cache_is_mended(warm: tuple[Field, str], number: int, tmp_path: Path) -> None:
    field, digest = warm
    dice = random.Random(f"{SEED}-{number}")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(SECRET)
    done = []
    for _ in range(AT_ONCE):
        path = dice.choice(entries(field.cache))
        done.append((path.relative_to(field.cache), damage(path, dice, elsewhere)))
    print(done)
    for command in COMMANDS:
        said = field.mended(*command)
        if command == OUTPUT:
            assert said == digest
    assert elsewhere.read_text() == SECRET


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        ("packages", "dangling"), ("fragments", "file"), ("layers", "fifo"), ("blobs", "dangling"),
        ("builds", "file"), ("prefixes", "fifo"), ("sizes", "dangling"), ("gzip", "fifo"),
    ],
)  # fmt: skip
def test_a_folder_that_is_none_is_made_anew(
    warm: tuple[Field, str], kind: str, way: str, tmp_path: Path
) -> None:
    field, digest = warm
    shutil.rmtree(field.cache / kind)
    if way == "file":
        (field.cache / kind).write_bytes(b"x")
    elif way == "fifo":
        os.mkfifo(field.cache / kind)
    else:
        (field.cache / kind).symlink_to(tmp_path / "nowhere")
    if os.getuid() == 0:
        os.chown(field.cache / kind, NOBODY, NOBODY, follow_symlinks=False)
    command = {"prefixes": HOST, "sizes": ("size", NAME), "gzip": COMMANDS[1]}.get(kind, OUTPUT)
    said = field.mended(*command)
    assert command != OUTPUT or said == digest
    assert (field.cache / kind).is_dir() or kind not in ("packages", "fragments", "blobs")


# --- a cache that is only read ------------------------------------------------------------------------------


@pytest.fixture
def others(warm: tuple[Field, str], open_folder: Path) -> Field:
    """The same cache, root's, seen by a plain user who can read all of it and write nothing."""
    field, _ = warm
    for command in COMMANDS:
        field.mended(*command)
    argv, env = nobodys_envbox()
    shutil.copytree(field.cache, open_folder / "cache", symlinks=True)
    for path in [open_folder / "cache", *(open_folder / "cache").rglob("*")]:
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
    project = open_folder / "project"
    project.mkdir()
    shutil.copytree(field.root / "environments", project / "environments")
    for path in (project, *project.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    there = {"ENVBOX_CACHE_DIR": str(open_folder / "cache"), "HOME": str(project)}
    there["XDG_STATE_HOME"] = str(project / "state")
    return Field(project, open_folder / "cache", {**field.env, **env, **there}, argv)


def test_a_warm_cache_of_root_s_serves_others(others: Field, warm: tuple[Field, str]) -> None:
    for command in COMMANDS:
        done = others.run(*command)
        assert done.returncode == 0, (command, done.stderr)
        assert command != OUTPUT or done.stdout == warm[1]


@pytest.mark.parametrize("kind", ["packages", "fragments", "blobs", "prefixes"])
def test_a_half_warm_one_serves_or_says_so(others: Field, kind: str) -> None:
    shutil.rmtree(others.cache / kind)
    for command in COMMANDS:
        done = others.run(*command)
        if done.returncode:
            assert "error: " in done.stderr
            assert str(others.cache) in done.stderr
            assert "hint: " in done.stderr


def test_one_that_others_may_not_look_into_is_said(others: Field) -> None:
    for kind in ("packages", "builds", "prefixes", "fragments"):
        (others.cache / kind).chmod(0o700)
    for command in (*COMMANDS, ("clean",), ("clean", "--all")):
        done = others.run(*command)
        if done.returncode:
            assert "error: " in done.stderr
            assert "hint: " in done.stderr
    others.cache.chmod(0o700)
    done = others.run("clean")
    assert done.returncode == 1
    assert f"not allowed to look into the cache {others.cache}" in done.stderr


def test_a_cold_cache_that_cannot_be_written_is_said(others: Field) -> None:
    shutil.rmtree(others.cache)
    for command in COMMANDS:
        done = others.run(*command)
        if command[0] != "list":  # which needs no cache
            assert done.returncode == 1
            assert f"error: not allowed to write {others.cache}" in done.stderr
            assert "hint: " in done.stderr


def test_a_cache_removed_while_a_command_runs_is_said_or_made_anew(warm: tuple[Field, str]) -> None:
    field, digest = warm
    for pause in (0.05, 0.2, 0.4):
        shutil.rmtree(field.cache / "fragments", ignore_errors=True)
        child = subprocess.Popen(
            [*field.argv, *OUTPUT], cwd=field.root, env={**os.environ, **field.env},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            child.wait(pause)
        except subprocess.TimeoutExpired:
            shutil.rmtree(field.cache, ignore_errors=True)
        _, said = child.communicate(timeout=TIMEOUT)
        assert "Traceback" not in said
        assert child.returncode in (0, 1)
        assert field.mended(*OUTPUT) == digest
