"""What is known of a prefix that was made, under a hash over what it was made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from envbox import __version__
from envbox.files import write_whole
from envbox.oci import canonical_json
from envbox.settings import Settings


@dataclass(frozen=True, slots=True)
class Memo:
    """A note in the cache; whoever reads one sees to it that what it tells of is there."""

    path: Path

    @classmethod
    def of(cls, settings: Settings, *made_of: object) -> Memo:
        """The note, by all that matters. It is another version's no more."""
        key = sha256(canonical_json([__version__, *made_of])).hexdigest()
        return cls(settings.cache_dir / "builds" / f"{key}.json")

    def read(self, *names: str) -> Mapping[str, Any] | None:
        """What was written, when it has these names and no others."""
        try:
            known = json.loads(self.path.read_bytes())
        except (OSError, ValueError):
            return None
        return known if isinstance(known, dict) and known.keys() == set(names) else None

    def write(self, known: Mapping[str, Any]) -> None:
        """Remember it."""
        write_whole(self.path, canonical_json(known))
