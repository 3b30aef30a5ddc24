"""How a notebook can fail, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envbox.errors import EnvboxError, LaunchError, NotebookError

_KILLED = (-9, 137)  # SIGKILL, as Python and as a shell tell it
_NOT_FOUND = 127  # of a command, as a shell and the engine tell it


class Failed(NotebookError):
    """A notebook did not come to its end.

    :param short: the message in one line
    """

    def __init__(self, message: str, hint: str | None = None, short: str | None = None) -> None:
        super().__init__(message, hint)
        self.short = short or message.partition("\n")[0]


def kernel_died(told: Mapping[str, Any], limit: str | None) -> tuple[str, str | None]:
    """How a kernel ended: words and a hint.

    :param limit: of memory, as it was asked for
    """
    code = told.get("code")
    if told.get("memory"):
        return _out_of_memory(limit)
    if code in _KILLED:
        return "was ended: the kernel was killed, as happens when the machine has no memory left", None
    how = "" if code is None else f", by signal {-code}" if code < 0 else f", with exit code {code}"
    return f"was ended: the kernel died{how}", None


def ended_early(code: int, written: str, limit: str | None) -> tuple[str, str | None]:
    """How everything inside ended, kernel and driver."""
    if code in _KILLED:
        words, hint = _out_of_memory(limit)
        return (words, hint) if limit else ("was ended: it was killed (137), perhaps out of memory", None)
    if code == _NOT_FOUND:
        return "cannot run: there is no Python in the environment", "envbox add ipykernel"
    end = written.splitlines()[-15:]
    return "\n".join([f"was ended, with exit code {code}", *end]), None


def not_started(told: Mapping[str, Any], shown: str, kernel: str | None, name: str) -> EnvboxError:
    """Why no kernel could be started."""
    event = told["event"]
    if event == "no client":
        return NotebookError(f"{shown}: there is no kernel in {name}", f"envbox add --name {name} ipykernel")
    if event == "no kernel":
        there = ", ".join(told["there"])
        words = (
            f"{shown}: there is no kernel {kernel} in {name}" if kernel else f"{shown}: no kernel in {name}"
        )
        package = "r-irkernel" if kernel == "ir" else "ipykernel"
        hint = f"envbox add --name {name} {package}"
        return NotebookError(words, f"there is {there}: --kernel NAME" if there else hint)
    return LaunchError(f"{shown}: the kernel did not start: {told.get('words', event)}")


def _out_of_memory(limit: str | None) -> tuple[str, str | None]:
    within = f", of which it has {limit}" if limit else ""
    return f"was ended: the kernel was killed, out of memory{within}", "give it more: --memory SIZE"
