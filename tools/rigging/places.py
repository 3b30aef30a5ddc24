"""Where the rig keeps things: one folder outside the checkout, which may be deleted at any time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Places:
    """The rig's folder, by name instead of by path.

    `www` is what the web server shows: links into the folders whose names carry the key of what they are made
    of, so that a rebuilt channel appears all at once.
    """

    root: Path

    @property
    def state(self) -> Path:
        return self.root / "state.json"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def venv(self) -> Path:
        return self.root / "venv"

    @property
    def python(self) -> Path:
        """The interpreter of the rig's own virtual environment."""
        return self.venv / "bin" / "python"

    @property
    def wheels(self) -> Path:
        return self.root / "downloads" / "wheels"

    def debs(self, architecture: str) -> Path:
        return self.root / "downloads" / "debs" / architecture

    def apt(self, architecture: str) -> Path:
        return self.root / "downloads" / "apt" / architecture

    @property
    def channels(self) -> Path:
        return self.root / "channels"

    @property
    def indexes(self) -> Path:
        return self.root / "pypi"

    @property
    def synthetic(self) -> Path:
        return self.root / "synthetic"

    @property
    def www(self) -> Path:
        return self.root / "www"

    @property
    def registry(self) -> Path:
        return self.root / "registry"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def cache(self) -> Path:
        """envbox's cache while it is pointed at the rig."""
        return self.root / "cache"


def places(environ: Mapping[str, str]) -> Places:
    """The rig's folder: `RIG_DIR`, else `envbox-rig` in the user's cache folder."""
    if said := environ.get("RIG_DIR"):
        return Places(Path(said).expanduser().absolute())
    home = environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Places(Path(home).absolute() / "envbox-rig")
