"""What `driver` knows of where it runs: kernels, start-up files, memory. Run in its namespace, before it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def own_kernels() -> Path:
    """Return where the environment's own kernelspecs lie."""
    return Path(sys.prefix, "share/jupyter/kernels")


def is_exit(reply: dict[str, Any]) -> bool:
    """Return whether a cell has ended its notebook well, as `sys.exit(0)` does; papermill takes it so."""
    return reply.get("ename") == "SystemExit" and reply.get("evalue") in ("", "0", "None")


def no_start_up(private: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Return variables by which a kernel runs nothing that stands in a home; what is set already is asked
    for.

    R takes what lies in the project's folder, and that alone: https://rdrr.io/r/base/Startup.html

    :param private: an empty folder
    """
    nothing = {"IPYTHONDIR": str(Path(private, "ipython"))}
    for name, file in (("R_PROFILE_USER", ".Rprofile"), ("R_ENVIRON_USER", ".Renviron")):
        if not Path(file).exists():
            nothing[name] = os.devnull
    return {name: value for name, value in nothing.items() if name not in environ}


def chosen(specs: dict[str, Any], job: dict[str, Any]) -> str:
    """Return the kernel to take: the one that is wanted, else one of its language.

    :raises LookupError: with the names of those that there are
    """
    wanted, language = job["kernel"], job["language"]
    if wanted in specs:
        return str(wanted)
    alike = [n for n, s in sorted(specs.items()) if s["spec"].get("language", "").lower() == language]
    if job["strict"]:
        raise LookupError(sorted(specs))
    if alike:
        return "python3" if "python3" in alike else alike[0]
    raise LookupError(sorted(specs))


def oom_kills() -> int:
    """Return how often the system has killed in our group for want of memory; 0 where it is not told.

    https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files and, of version 1, oom_control
    """
    for path in ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"):
        try:
            lines = [line.split() for line in Path(path).read_text().splitlines()]
            return int(dict(line for line in lines if len(line) == 2).get("oom_kill", 0))
        except (OSError, ValueError):
            continue
    return 0


def is_limited() -> bool:
    """Return whether the memory of our group has a limit."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text().strip()
            return text.isdigit() and int(text) < 1 << 60
        except OSError:
            continue
    return False
