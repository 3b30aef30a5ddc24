"""Wheels as fragments."""

from __future__ import annotations

from envbox.entries import EntryWriter
from envbox.errors import PackageError
from envbox.link import Compile, Source


def link_wheel(source: Source, out: EntryWriter, compile_sources: Compile | None = None) -> int:
    """Write the entries of one wheel."""
    raise PackageError(f"{source.package.file_name}: wheels come next")
