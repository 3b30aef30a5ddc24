"""Paths of this machine for prefixes that are mounted nowhere: links in the cache, each leading to a tree.

A tree's own name is a hash over its bytes, which have the path in them. So the path is another one, named
after what the tree is made of.
"""

from __future__ import annotations

import os
import re
from hashlib import sha256
from pathlib import Path

from envbox.errors import ToolError
from envbox.files import PART, disk_error, make_folder, remove
from envbox.oci import canonical_json
from envbox.prefixes.tree import HERE, Tree, is_mounted
from envbox.settings import Settings

_LENGTH = 12  # hex digits: the path stands in scripts' first lines, and must fit where the placeholder was
_UNFIT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\"'`$\\:;*?]")


def path_for(name: str, settings: Settings, *made_of: str) -> str:
    """Return the path for a tree.

    :param name: of the environment
    :raises ToolError: when the cache's path could not stand in a script or in PATH
    """
    cache = settings.cache_dir.absolute()
    cache = cache.resolve() if ".." in cache.parts else cache
    path = str(cache / HERE / sha256(canonical_json([name, *made_of])).hexdigest()[:_LENGTH])
    if found := _UNFIT.search(path):
        raise ToolError(
            f"{name} cannot be used at {path!r}: {found[0]!r} in a path leads scripts astray",
            "set ENVBOX_CACHE_DIR to another folder",
        )
    return path


def let_be_seen(tree: Tree, settings: Settings) -> None:
    """Let the path that a tree was made for lead to it, where that is one of these."""
    if is_mounted(tree.seen_at):
        return
    link = Path(tree.seen_at)
    target = os.path.relpath(tree.prefix, settings.cache_dir / HERE)
    try:
        if link.is_symlink() and os.readlink(link) == target:  # noqa: PTH115
            return
        make_folder(link.parent)
        part = link.with_name(f".{link.name}.{os.urandom(4).hex()}{PART}")
        part.symlink_to(target)
        if link.is_dir() and not link.is_symlink():
            remove(link)
        part.replace(link)  # at once: who looks there meanwhile finds the one or the other
    except OSError as error:
        raise disk_error(link, error) from error
