"""The content hash of a spec that nobody has at hand, made of what its lockfile says was asked for.

While git merges lockfiles, the spec beside them is still one side's. But conda-lock's hash is a function of
the channels and of what is asked for, whatever else stands in a spec, and a lockfile has both. That this
holds for a lockfile is proven by its own hash: where that does not come out, no other is made.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from envbox.errors import SpecError
from envbox.lockfile import Lock
from envbox.lockfile.conda_lock_v1 import PIP_PREFIX
from envbox.locks.freshness.content_hash import read_asked, read_quickly
from envbox.locks.merge.three_way import Sides
from envbox.settings import Settings


def merged_hashes(sides: Sides, lock: Lock, settings: Settings) -> Mapping[str, str] | None:
    """Return platform → content hash of the merged lock; None where it cannot be told.

    :param lock: with what both sides ask for; its hashes are not looked at
    """
    found: dict[str, str] = {}
    for platform in lock.platforms:
        made = _known(sides, lock, platform) or _made(sides, lock, platform, settings)
        if made is None:
            return None
        found[platform] = made
    return found


def _known(sides: Sides, lock: Lock, platform: str) -> str | None:
    """Return the hash of the side that asks for all of it; of both, the one that has changed."""
    asked = lock.requested.get(platform), lock.channels
    hashes = {
        side.content_hash.get(platform)
        for side in (sides.ours, sides.theirs)
        if (side.requested.get(platform), side.channels) == asked
    }
    if len(hashes) == 2 and sides.ancestor is not None:
        hashes -= {sides.ancestor.content_hash.get(platform)}
    return hashes.pop() if len(hashes) == 1 else None


def _made(sides: Sides, lock: Lock, platform: str, settings: Settings) -> str | None:
    for side in (sides.ours, sides.theirs):
        made = _hash(side.requested.get(platform, ()), side.channels, platform, settings)
        if made != side.content_hash.get(platform):
            return None
    return _hash(lock.requested.get(platform, ()), lock.channels, platform, settings)


def _hash(texts: Sequence[str], channels: Sequence[str], platform: str, settings: Settings) -> str | None:
    import yaml

    pip = [text.removeprefix(PIP_PREFIX) for text in texts if text.startswith(PIP_PREFIX)]
    conda: list[object] = [text for text in texts if not text.startswith(PIP_PREFIX)]
    spec = {"channels": [*channels], "dependencies": [*conda, *([{"pip": pip}] if pip else [])]}
    with tempfile.TemporaryDirectory(prefix="envbox-merge-") as folder:
        path = Path(folder, "merged.yml")
        path.write_text(yaml.safe_dump(spec, allow_unicode=True, width=2**30), encoding="utf-8")
        quick = read_quickly(path, [platform], settings)
        try:
            return (quick or read_asked(path, [platform], settings)).hashes.get(platform)
        except SpecError:
            return None
