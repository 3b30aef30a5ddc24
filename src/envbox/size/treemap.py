"""A treemap of sizes as one HTML page that needs nothing else: no network, no library, no server.

The page itself is `treemap.html` beside this file: it draws what it finds in its one block of JSON.
"""

from __future__ import annotations

import html
import json
from importlib.resources import files

from envbox.size import Sizes, by_package, part_of, unneeded
from envbox.size.tree import folder_tiles, package_tiles
from envbox.slim import KINDS


def treemap(sizes: Sizes) -> str:
    """Write the page."""
    whole = part_of("", sizes.items)
    data = {
        "name": sizes.name,
        "platform": sizes.platform,
        "files": whole.files,
        "packages": len([part for part in by_package(sizes) if part.name in sizes.versions]),
        "views": {"package": package_tiles(sizes), "folder": folder_tiles(sizes)},
        "unneeded": [
            {
                "kind": part.name,
                "what": KINDS[part.name],
                "files": part.files,
                "s": part.size,
                "p": part.packed,
            }
            for part in unneeded(sizes)
        ],
        "slim": sizes.slim,
        "is_by_path": sizes.is_by_path,
    }
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("</", "<\\/")
    page = files("envbox.size").joinpath("treemap.html").read_text(encoding="utf-8")
    return page.replace("{{title}}", html.escape(f"{sizes.name} · {sizes.platform}"), 1).replace(
        "{{data}}", text.replace("<!--", "<\\!--"), 1
    )
