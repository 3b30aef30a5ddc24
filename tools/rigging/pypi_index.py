"""A static package index: PEP 503 pages with hashes, PEP 658 metadata, and conda-lock's table of names.

Files lie at the path that they have on files.pythonhosted.org (made of their BLAKE2 digest), so that an
address from here and the canonical one differ by the mirror's prefix alone.
"""

from __future__ import annotations

import hashlib
import html
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

from packaging.utils import canonicalize_name

from rigging import awkward, names, wheels
from rigging.from_wheel import read
from rigging.places import Places


def build(places: Places, target: Path) -> int:
    """Make `simple/`, `packages/` and `mapping.json` in `target`; return the number of distributions."""
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    shutil.rmtree(aside, ignore_errors=True)
    anchors: dict[str, list[str]] = {}
    pins = wheels.used_for("pypi")
    for pin in pins:
        path = places.wheels / pin.file
        wheel = read(path)
        with zipfile.ZipFile(path) as archive:
            metadata = archive.read(f"{wheel.dist_info}/METADATA")
        place = _put(aside, pin.file, path.read_bytes())
        (aside / f"{place}.metadata").write_bytes(metadata)
        attributes = [f'data-core-metadata="sha256={hashlib.sha256(metadata).hexdigest()}"']
        attributes.append(attributes[0].replace("core-metadata", "dist-info-metadata"))
        if requires := wheel.metadata.get("Requires-Python"):
            attributes.append(f'data-requires-python="{html.escape(requires)}"')
        anchors.setdefault(canonicalize_name(wheel.project), []).append(
            _anchor(place, pin.file, pin.sha256, attributes)
        )
    name, data = awkward.sdist()
    place = _put(aside, name, data)
    anchors["awkward-sdist"] = [_anchor(place, name, hashlib.sha256(data).hexdigest(), [])]
    for project, lines in anchors.items():
        _page(aside / "simple" / project, project, lines)
    _page(aside / "simple", "Simple index", [f'<a href="{p}/">{p}</a>' for p in sorted(anchors)])
    projects = {pin.project for pin in wheels.pins()}
    (aside / "mapping.json").write_text(json.dumps(names.mapping(projects), indent=1), encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)
    return sum(map(len, anchors.values()))


def _put(root: Path, name: str, data: bytes) -> str:
    digest = hashlib.blake2b(data, digest_size=32).hexdigest()
    place = f"packages/{digest[:2]}/{digest[2:4]}/{digest[4:]}/{name}"
    (root / place).parent.mkdir(parents=True, exist_ok=True)
    (root / place).write_bytes(data)
    return place


def _anchor(place: str, name: str, sha256: str, attributes: Sequence[str]) -> str:
    words = " ".join([f'href="../../{place}#sha256={sha256}"', *attributes])
    return f"<a {words}>{name}</a>"


def _page(folder: Path, title: str, lines: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    body = "\n".join(f"    {line}<br/>" for line in lines)
    (folder / "index.html").write_text(
        "<!DOCTYPE html>\n<html>\n  <head>\n"
        '    <meta name="pypi:repository-version" content="1.0">\n'
        f"    <title>{title}</title>\n  </head>\n  <body>\n{body}\n  </body>\n</html>\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    root, where = sys.argv[1:]
    print(build(Places(Path(root)), Path(where)), "files")
