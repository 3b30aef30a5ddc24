"""Which prefixes containers have mounted, so that nobody removes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from envbox.image_paths import JUPYTER, PREFIX

if TYPE_CHECKING:
    from envbox.engine import Engine


def prefixes_in_use(engine: Engine) -> frozenset[str]:
    """Return the keys of the prefixes that containers of an engine have mounted."""
    sources = [container.binds.get(at) for container in engine.containers({}) for at in (PREFIX, JUPYTER)]
    return frozenset(Path(source).parent.name for source in sources if source)
