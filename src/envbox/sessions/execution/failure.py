"""How a notebook can fail, in words."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envbox.errors import EnvboxError, LaunchError, NotebookError
from envbox.notebooks.document import Notebook
from envbox.notebooks.kernels import NO_PACKAGE, kernel_packages
from envbox.sessions.launch.container import Launch

_KILLED = (-9, 137)  # SIGKILL, as Python and as a shell tell it
_NOT_FOUND = 127  # of a command, as a shell and the engine tell it
_MOST_NAMED = 3
# What ipykernel imports besides Python's own modules.
_OF_KERNELS = frozenset((
    "IPython", "comm", "dateutil", "debugpy", "decorator", "executing", "ipykernel", "ipykernel_launcher",
    "jedi", "jupyter_client", "jupyter_core", "matplotlib_inline", "nest_asyncio", "packaging", "parso",
    "pexpect", "platformdirs", "prompt_toolkit", "psutil", "ptyprocess", "pygments", "six", "stack_data",
    "tornado", "traitlets", "wcwidth", "zmq",
))  # fmt: skip


class Failed(NotebookError):
    """A notebook did not come to its end.

    :param short: the message in one line
    """

    def __init__(self, message: str, hint: str | None = None, short: str | None = None) -> None:
        super().__init__(message, hint)
        self.short = short or message.partition("\n")[0]


def kernel_died(told: Mapping[str, Any], limit: str | None) -> tuple[str, str | None]:
    """Return how a kernel ended: words and a hint.

    :param limit: of memory, as it was asked for
    """
    code = told.get("code")
    if told.get("memory"):
        return _out_of_memory(limit)
    if code in _KILLED:
        return "was ended: the kernel was killed, as happens when the machine has no memory left", None
    return f"was ended: the kernel {_how(code)}", None


def ended_early(code: int, written: str, launch: Launch) -> tuple[str, str | None]:
    """Return how everything inside ended, kernel and driver."""
    if code in _KILLED:
        words, hint = _out_of_memory(launch.memory)
        return (
            (words, hint)
            if launch.memory
            else ("was ended: it was killed (137), perhaps out of memory", None)
        )
    if code == _NOT_FOUND:
        return (
            "cannot run: there is no Python in the environment",
            f"envbox add --name {launch.name} ipykernel",
        )
    return "\n".join([f"was ended, with exit code {code}", *_end(written)]), None


@dataclass(frozen=True, slots=True)
class Where:
    """What was to be started.

    :param shown: what the notebook is called
    :param environment: the environment's name
    :param asked: the kernelspec that a command line names
    """

    shown: str
    environment: str
    notebook: Notebook
    asked: str | None

    @property
    def kernel(self) -> str | None:
        """The kernelspec that is wanted."""
        return self.asked or self.notebook.kernel


def not_started(told: Mapping[str, Any], where: Where, written: str) -> EnvboxError:
    """Return why no kernel could be started.

    :param written: what it, and who started it, wrote on stderr
    """
    event, shown, name = told["event"], where.shown, where.environment
    there = ", ".join(told.get("there", ()))
    if event == "no client" and there:
        words = f"{shown}: {name} has the kernel {there}, but no jupyter_client, which runs it"
        return NotebookError(words, f"envbox add --name {name} jupyter_client")
    if event == "no client":
        words = f"{shown}: there is no kernel in {name}"
        return NotebookError(words, _adding(where))
    if event == "no kernel":
        words = f"{shown}: there is no kernel {where.kernel} in {name}" if where.kernel else (
            f"{shown}: no kernel in {name}"
        )  # fmt: skip
        if not there:
            return NotebookError(words, _adding(where))
        other = _adding(where) if where.asked is None else None
        return NotebookError(words, f"there is {there}: --kernel NAME" + (f"; or {other}" if other else ""))
    if event == "dead":
        words = f"{shown}: the kernel {_how(told.get('code'))} while it started"
    else:
        words = f"{shown}: the kernel did not start: {told.get('words', event)}"
    folder = where.notebook.path.absolute().parent
    return LaunchError("\n".join([words, *_end(written)]), shadowing(folder, written))


def cell_failed(error: Mapping[str, Any], outputs: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """Return what the kernel says of a cell that failed: in words, and its traceback.

    Some failures have no output of their own, such as an unknown magic's: there the reply says it.

    :param error: of the kernel's reply
    """
    shown = [output for output in outputs if output["output_type"] == "error"]
    last = shown[-1] if shown else error
    name, value = last.get("ename") or "", last.get("evalue") or ""
    traceback = "\n".join(last.get("traceback") or ())
    if not traceback:  # what it has printed instead
        printed = [o["text"] for o in outputs if o["output_type"] == "stream" and o["name"] == "stderr"]
        traceback = "\n".join(_end(printed[-1] if printed else ""))
    if not name:
        return traceback.strip().rpartition("\n")[2] or "the kernel does not say why", traceback
    return f"{name}: {value}" if value else str(name), traceback


def shadowing(folder: Path, written: str) -> str | None:
    """Return a hint that names a file of the notebook's folder which stands in the way of a module; None for
    none.

    :param written: where a traceback may name it
    """
    found = []
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            if path.suffix == ".py" or (path / "__init__.py").is_file():
                found.append(path)
    named = [path for path in found if re.search(rf'/{re.escape(path.name)}["/]', written)]
    likely = [path for path in found if path.stem in sys.stdlib_module_names or path.stem in _OF_KERNELS]
    culprits = [path for path in likely if path in named] or likely
    if not culprits:
        return None
    listed = ", ".join(path.name for path in culprits[:_MOST_NAMED])
    word = "stands" if len(culprits) == 1 else "stand"
    return f"{listed} in {folder} {word} before a module of that name, which the kernel imports: rename it"


def _adding(where: Where) -> str:
    packages = kernel_packages(where.kernel, where.notebook.language)
    return f"envbox add --name {where.environment} {packages[0]}" if packages else NO_PACKAGE


def _end(written: str) -> list[str]:
    """Return the last lines of what was written."""
    return [line for line in written.splitlines() if line.strip()][-15:]


def _out_of_memory(limit: str | None) -> tuple[str, str | None]:
    within = f", of which it has {limit}" if limit else ""
    return f"was ended: the kernel was killed, out of memory{within}", "give it more: --memory SIZE"


def _how(code: int | None) -> str:
    how = "" if code is None else f", by signal {-code}" if code < 0 else f", with exit code {code}"
    return f"died{how}"
