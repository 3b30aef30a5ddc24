"""Open a page in the person's browser, if there is one.

An address with a token must not stand in a browser's argument list, which every user of the machine can read:
what is opened is a private file that leads on to it (as Jupyter itself does it).
"""

from __future__ import annotations

import html
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from envbox.files import write_whole


def has_browser(environ: Mapping[str, str], system: str = sys.platform) -> bool:
    """Whether a page would come up somewhere: not on a Linux machine without a screen."""
    return system != "linux" or any(environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def open_browser(url: str, page: Path) -> bool:
    """Open an address in a browser, in the background; nothing where there is none.

    :param page: the private file that leads to it; its folder must be closed to others
    :returns: whether it was tried
    """
    if not has_browser(os.environ):
        return False
    target = html.escape(url)
    head = f'<!DOCTYPE html><meta http-equiv="refresh" content="0;url={target}">'
    text = f'{head}<a href="{target}">Jupyter</a>\n'
    write_whole(page, text.encode(), mode=0o600)
    threading.Thread(target=_open, args=(page.absolute().as_uri(),), daemon=True).start()
    return True


def _open(address: str) -> None:
    import webbrowser

    try:
        webbrowser.open(address)
    except (webbrowser.Error, OSError):
        return  # the address was printed as well
