"""The driver as it is sent inside, and what it tells in return."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib.resources import files
from typing import Any

from envbox.sessions.launch.pipes import PipedProcess

_MODULES = ("claims", "surroundings", "driver")
# The driver comes through stdin: no mount is needed for it, and it stands in no argument list. A module of
# the notebook's folder must not stand in for one of the driver's.
_BOOT = """\
import os, sys
sys.path[:] = [p for p in sys.path if p]
import json
n, s = int(sys.argv[1]), b""
while len(s) < n: s += os.read(0, n - len(s)) or sys.exit(1)
for text in json.loads(s): exec(compile(text, "<envbox>", "exec"))
"""


def told_by(running: PipedProcess) -> Iterator[dict[str, Any]]:
    """Yield what the driver tells, until it ends."""
    for line in running.stdout:
        with suppress(ValueError):  # half a line of a driver that was killed
            told = json.loads(line)
            if isinstance(told, dict) and "event" in told:
                yield whole(told) if b"\\ud" in line else told


def whole(value: Any) -> Any:
    """Return a value whose texts have no halves of surrogate pairs, which no file and no page can hold."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {whole(key): whole(item) for key, item in value.items()}
    return [whole(item) for item in value] if isinstance(value, list) else value


def command() -> tuple[str, ...]:
    """Return what is started inside, to wait for the driver."""
    return ("python", "-c", _BOOT, str(len(driver())))


@cache
def driver() -> bytes:
    """Return what is sent inside: the texts of modules, which are run one after the other."""
    texts = [
        files("envbox.sessions.execution").joinpath(f"{name}.py").read_text("utf-8") for name in _MODULES
    ]
    return json.dumps(texts).encode()
