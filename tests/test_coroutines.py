"""What a Ctrl-C does to a coroutine that is run to its end."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, signal, sys
from envbox import coroutines

class Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self):
        signal.raise_signal(signal.SIGINT)
        return super().new_event_loop()

async def work():
    return "done"

if "interrupted" in sys.argv:
    asyncio.set_event_loop_policy(Policy())
try:
    print(coroutines.run(work))
except KeyboardInterrupt:
    print("Ctrl-C")
"""


@pytest.mark.parametrize(("argv", "said"), [((), "done\n"), (("interrupted",), "Ctrl-C\n")])
def test_ctrl_c_while_the_loop_is_made_is_no_complaint(argv: tuple[str, ...], said: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *argv], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (said, "")
