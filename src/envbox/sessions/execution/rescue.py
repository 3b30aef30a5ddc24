"""Results of hours that cannot be written where they belong are kept elsewhere, and the place is named."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from envbox.errors import NotebookError, ToolError
from envbox.files import PART, write_whole


def keep_elsewhere(result: Path, data: bytes, fault: ToolError) -> NotebookError:
    """Keep a result in the first folder that takes it, and say where.

    :param fault: what stood against writing it to `result`
    """
    hint = fault.hint
    for folder in _folders():
        path = None
        try:
            handle, name = tempfile.mkstemp(f".{result.name}{PART}", ".envbox-", folder)  # for our eyes only
            os.close(handle)
            path = Path(name)
            write_whole(path, data, mode=0o600, is_cache=False)
            kept = path.with_name(f"envbox-{path.name.removeprefix('.envbox-').removesuffix(PART)}")
            path.rename(kept)
        except (OSError, ToolError):
            if path is not None:
                with suppress(OSError):
                    path.unlink()
            continue
        words, hint = f"the result is kept in {kept}", f"free some space, then: mv '{kept}' '{result}'"
        break
    else:
        words = "and nowhere else is room for the result"
    return NotebookError(f"{fault.message}; {words}", hint)


def _folders() -> Iterator[str]:
    """Yield where there may be room: for files of the moment, the user's own, and memory."""
    with suppress(OSError):
        yield tempfile.gettempdir()
    yield from ("/var/tmp", os.path.expanduser("~"), "/dev/shm")  # noqa: S108, PTH111
