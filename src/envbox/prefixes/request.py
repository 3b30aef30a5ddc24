"""What a tree is to be made of: the value that all who make one share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from envbox.image_paths import PREFIX
from envbox.packages.link.packages import Installation
from envbox.settings import Settings

if TYPE_CHECKING:
    from envbox.packages.link.fragments import FileEntry
    from envbox.registry.lock_with_base import LockWithBase


@dataclass(frozen=True, slots=True)
class PrefixRequest:
    """What a tree is to be made of.

    :param seen_at: the path of its prefix for what runs in it, which is written into its files
    :param own: files besides those that every environment has, by path relative to `/`, all in the prefix
    """

    locked: LockWithBase
    platform: str
    settings: Settings
    seen_at: str = PREFIX
    own: Mapping[str, FileEntry] = field(default_factory=dict)

    def installation(self, archives: Mapping[str, Path]) -> Installation:
        """Return it with the packages downloaded."""
        return Installation(self.locked.lock, self.platform, archives, self.seen_at)
