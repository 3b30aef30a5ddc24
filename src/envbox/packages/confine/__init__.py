"""A package's program run where it reaches nothing: no network, home, project or cache, nothing to write.

A lockfile's `python` can be any program, and it compiles the byte-code of images. What it gets is a folder,
to read; bytes, on stdin; and bounds. What it can do is answer.

`launcher` is the program that confines, by namespaces or Landlock, with `syscalls` as its filter; `container`
has an engine do it; `roads` says which of these a machine has; `converse` talks with what was started, within
bounds.
"""

from __future__ import annotations

import sys


def end_before_exec() -> None:
    """End this process's launcher, if there is one: a process that becomes another program does nothing at
    its exit.
    """
    if launch := sys.modules.get("envbox.packages.confine.launch"):  # else nothing was started
        launch.end_launcher()
