"""Sources that real packages have."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def real_sources(name: str) -> list[tuple[str, bytes]]:
    """The modules of a package that is installed here."""
    spec = importlib.util.find_spec(name)
    assert spec
    assert spec.submodule_search_locations
    root = Path(spec.submodule_search_locations[0])
    return [
        (f"/opt/envbox/lib/python3.11/site-packages/{p.relative_to(root.parent)}", p.read_bytes())
        for p in sorted(root.rglob("*.py"))
    ]
