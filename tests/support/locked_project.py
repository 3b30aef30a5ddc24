"""A project whose specs are locked from a channel of a test's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from envbox.errors import EnvboxError
from envbox.lockfile import Base, Lock
from envbox.locks.freshness import differences, is_fresh
from envbox.locks.lock import lock
from envbox.project import Environment
from envbox.report import SILENT
from envbox.settings import Settings

FORGE = "https://conda.anaconda.org/conda-forge"


BOTH = ("linux-64", "linux-aarch64")


BASE = Base("docker.io/library/b:1", dict.fromkeys(BOTH, "sha256:" + "0" * 64), dict.fromkeys(BOTH, "2.36"))


def let_every_base_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any reference name a base like BASE, and no registry be asked."""

    def resolve_base(reference: str, platforms: Sequence[str], *rest: object) -> Base:
        return replace(BASE, reference=reference)

    monkeypatch.setattr("envbox.registry.base.resolve_base", resolve_base)


class Told:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def detail(self, text: str) -> None:
        """Not for these tests."""

    def warn(self, text: str) -> None:
        self.warned.append(text)

    def task(self, *args: Any, **named: Any) -> Any:
        return SILENT.task("")


class Place:
    """A project of one environment, whose base is there without a registry."""

    def __init__(self, root: Path, settings: Settings) -> None:
        self.environment = Environment("maps", root / "maps.yml", root / "maps.conda-lock.yml")
        self.settings = settings
        self.told = Told()

    def spec(self, *dependencies: str, **top: str) -> None:
        lines = [f"{key}: {value}" for key, value in {"channels": "[conda-forge]", **top}.items()]
        self.environment.spec_path.write_text("\n".join([*lines, "dependencies:", *dependencies, ""]))

    def lock(self, *platforms: str) -> Lock:
        return lock(self.environment, self.settings, platforms or None, self.told)

    def fresh(self) -> bool:
        return is_fresh(self.environment, self.settings)

    def differences(self) -> str:
        return "; ".join(differences(self.environment, self.settings))

    def refused(self, kind: type[EnvboxError], *platforms: str) -> EnvboxError:
        before = self.bytes()
        with pytest.raises(kind) as caught:
            self.lock(*platforms)
        assert self.bytes() == before
        return caught.value

    def bytes(self) -> bytes | None:
        path = self.environment.lock_path
        return path.read_bytes() if path.exists() else None


def versions(found: Lock, platform: str = "linux-64") -> dict[str, str]:
    return {p.name: p.version for p in found.for_platform(platform)}
