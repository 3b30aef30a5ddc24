"""The end of this program: the process becomes the one that has the session, with its streams and number."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Mapping
from typing import NoReturn

from envbox.packages.confine import end_before_exec


def hand_over(argv: tuple[str, ...], env: Mapping[str, str], handles: Iterable[int]) -> NoReturn:
    """Become a program, by its path; what was printed is written first.

    :param handles: open files that it keeps, as long as it lives
    """
    for handle in handles:
        os.set_inheritable(handle, True)
    sys.stdout.flush()
    sys.stderr.flush()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and an ignored signal survives exec
    end_before_exec()
    os.execve(argv[0], argv, env)  # noqa: S606  # no shell is wanted
