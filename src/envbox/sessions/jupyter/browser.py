"""Open a page in the person's browser, if there is one.

An address with a token must not stand in a browser's argument list, which every user of the machine can read:
what is opened is a private file that leads on to it (as Jupyter itself does it).
"""

from __future__ import annotations

import html
import os
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from envbox.files import write_whole


def has_browser(environ: Mapping[str, str], system: str = sys.platform) -> bool:
    """Return whether a page would come up somewhere: not on a Linux machine without a screen."""
    return system != "linux" or any(environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def open_browser(url: str, page: Path, failed: Callable[[], None]) -> threading.Thread | None:
    """Open an address in a browser, in the background; nothing where there is no screen.

    :param page: the private file that leads to it; its folder must be closed to others
    :param failed: called from the background, when no browser would open
    :returns: what is at it; it is not over before the browser is, where that does not detach itself
    """
    if not has_browser(os.environ):
        return None
    target = html.escape(url)
    head = f'<!DOCTYPE html><meta http-equiv="refresh" content="0;url={target}">'
    text = f'{head}<a href="{target}">Jupyter</a>\n'
    write_whole(page, text.encode(), mode=0o600)
    thread = threading.Thread(target=_open, args=(page.absolute().as_uri(), failed), daemon=True)
    thread.start()
    return thread


def _open(address: str, failed: Callable[[], None]) -> None:
    import webbrowser

    try:
        is_open = webbrowser.open(address)
    except (webbrowser.Error, OSError):
        is_open = False
    if not is_open:
        failed()
