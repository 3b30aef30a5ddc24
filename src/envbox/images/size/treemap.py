"""A treemap of sizes as one HTML page that needs nothing else: no network, no library, no server.

The page itself is `treemap.html` beside this file: it draws what it finds in its one block of JSON.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from importlib.resources import files

from envbox.images.size import Sizes, by_package, part_of, unneeded
from envbox.images.size.tree import folder_tiles, package_tiles
from envbox.slim import KINDS

_PLACE = re.compile(r"{{(title|data|program)}}")


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
    # escaped, nothing in it can end the script that it stands in, and it is the same JSON
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    page = files("envbox.images.size").joinpath("treemap.html").read_text(encoding="utf-8")
    program = page.rpartition("<script>")[2].partition("</script>")[0]
    allowed = base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()
    values = {"title": html.escape(f"{sizes.name} · {sizes.platform}"), "data": text, "program": allowed}
    return _PLACE.sub(lambda found: values[found[1]], page)
