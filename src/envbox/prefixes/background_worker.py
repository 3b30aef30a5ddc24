"""The process that is left behind to make a tree with byte-code; `background_compile` starts it."""

from __future__ import annotations

import fcntl
import os
import pickle
import sys

from envbox.cache.in_use import hold
from envbox.packages.fetch import fetch_archives
from envbox.packages.link.folders import forget_folder, read_folder
from envbox.prefixes.assembly import supersede
from envbox.prefixes.obtain import unpack
from envbox.report import SILENT

_LEAST = 19  # nice(2)


def finish(handle: int) -> None:
    """Be the process: what to do comes on stdin.

    :param handle: a file; who has it locked is the one at work
    """
    fcntl.flock(handle, fcntl.LOCK_EX)
    os.nice(_LEAST)
    finisher, wanted, without = pickle.load(sys.stdin.buffer)  # noqa: S301 - from our own parent
    hold(finisher.cache_dir)
    packages = wanted.locked.lock.for_platform(wanted.platform)
    done = unpack(wanted, fetch_archives(packages, wanted.settings), SILENT)
    supersede(without)
    for key in set(without.packages) - set(done.tree.packages):
        if folder := read_folder(finisher.cache_dir, key):
            forget_folder(folder)
    finisher.forget()
