"""A channel and a registry that other tools' lockfiles are taken over from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from envbox.lockfile import Lock, LockedPackage
from envbox.mirrors import Mirrors
from envbox.report import SILENT
from envbox.settings import Settings
from support.packages import Package
from support.paper_channel import served
from support.paper_registry import PaperRegistry, serving
from support.tiny import CHANNEL, Tiny, make_tiny


@dataclass(frozen=True)
class World:
    """tiny's channel, with an index that is served; its lock, and settings that reach both."""

    tiny: Tiny
    channel: Path
    settings: Settings

    @property
    def lock(self) -> Lock:
        return self.tiny.lock


@pytest.fixture(scope="module")
def registry() -> Iterator[PaperRegistry]:
    with serving(PaperRegistry()) as found:
        yield found


@pytest.fixture
def world(tmp_path: Path, registry: PaperRegistry) -> Iterator[World]:
    tiny = make_tiny(tmp_path / "tiny", registry)
    channel = tmp_path / "tiny" / "channel"
    write_index(channel, (*tiny.lock.packages, pip(channel)))
    with served(channel) as url:
        rules = {**tiny.rules, CHANNEL: url}
        settings = replace(tiny.settings(), mirrors=Mirrors(rules), mapping_url=names_of(tmp_path))
        yield World(tiny, channel, settings)


def pip(channel: Path) -> LockedPackage:
    """conda's pip, which is in the channel and not in the lock."""
    made = Package("pip", "26.0", noarch="generic", depends=["python"])
    return made.locked(made.write(channel / "noarch"))


def names_of(folder: Path) -> str:
    path = folder / "names.json"
    path.write_text(
        json.dumps({"pure": {"conda_name": "pure", "pypi_name": "pure-on-pypi", "import_name": "pure"}})
    )
    return str(path)


def write_index(channel: Path, packages: tuple[LockedPackage, ...], leave_out: tuple[str, ...] = ()) -> None:
    """The channel's repodata, of what is in it."""
    for subdir in ("linux-64", "noarch"):
        index = {
            p.file_name: {
                "name": p.name, "version": p.version, "build": p.build, "build_number": 0,
                "depends": [f"{n} {b}".strip() for n, b in p.depends.items()], "subdir": subdir,
                "sha256": p.sha256, "md5": md5_of(channel / subdir / p.file_name),
                "size": (channel / subdir / p.file_name).stat().st_size,
                "license": "BSD-3-Clause",
            }
            for p in packages
            if p.manager == "conda" and p.subdir == subdir and p.name not in leave_out
        }  # fmt: skip
        document = {"info": {"subdir": subdir}, "packages": {}, "packages.conda": index}
        (channel / subdir / "repodata.json").write_text(json.dumps(document))


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def explicit_of(world: World, fragment: str = "") -> str:
    """An explicit file of tiny; `md5` or `sha256` as its fragment."""
    lines = ["# platform: linux-64", "@EXPLICIT"]
    for p in world.lock.for_platform("linux-64"):
        if p.manager == "conda":
            hashes = {"": "", "md5": "#" + md5_of(world.channel / p.subdir / p.file_name)}
            lines.append(p.url + (hashes | {"sha256": f"#sha256:{p.sha256}"})[fragment])
        else:
            lines.append(f"# pip {p.name} @ {p.url}#sha256={p.sha256}")
    return "\n".join(lines) + "\n"


def write(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


class Told:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def say(self, text: str) -> None:
        self.words.append(text)

    detail = warn = say

    def task(self, *args: Any, **kwargs: Any) -> Any:
        return SILENT.task("")
