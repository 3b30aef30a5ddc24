"""A notebook's cell as Python alone: IPython's own lines taken out, and what they tell kept.

A cell that is Python already is left alone, so a `%` that begins a line of arithmetic is never taken for a
magic. Nothing is run, and IPython is not asked: it would load extensions.

Syntax: https://ipython.readthedocs.io/en/stable/interactive/python-ipython-diff.html
"""

from __future__ import annotations

import ast
import re
import shlex
import warnings
from dataclasses import dataclass
from typing import Literal

_PYTHON_CELLS = {"time", "timeit", "capture", "prun", "px", "debug", "memit", "mprun", "lprun", "snakeviz"}
_SHELL_CELLS = {"bash", "sh", "!", "system", "sx", "script"}
_PYTHON_LINES = {"time", "timeit", "prun", "memit", "debug"}
_LINE = re.compile(
    r"(?P<indent>\s*)(?P<assigned>[\w.\[][\w.,\s\[\]]*=\s*)?(?P<mark>%|!!?)(?P<rest>.*)", re.DOTALL
)
_HELP = re.compile(r"(?P<indent>\s*)(?:\?{1,2}\s*[%\w.*]+|[%\w.*\[\]]+\?{1,2})\s*")
_FLAGS = re.compile(r"(?:\s+-\S+(?:\s+\d+)?)*\s*")  # of `%timeit -n 10 statement`
_INSTALL = re.compile(
    r"(?:^|[;&|]|\b(?:sudo|time)\s)\s*"
    r"(?:[^\s;&|]*python[\d.]*\s+-m\s+|[\"']?(?:\{|\$)sys\.executable\}?[\"']?\s+-m\s+|uv\s+)?"
    r"(?P<tool>pip[\d.]*|conda|mamba|micromamba)\s+(?:-\S+\s+)*install\s+(?P<rest>[^;&|]*)"
)
_COMMENT = re.compile(r"(?:^|\s)#")
_LONGEST = 1 << 22  # characters that are parsed: a syntax tree takes a hundred times their memory
_IMPORTED = re.compile(r"\b(?:import|from)\b[\s\w.\\]*")
_MOST_DOTS = 100  # of a name that is imported: Python's parser takes the square of their number
_LONGEST_COMMAND = 1 << 14  # characters whose quotes are looked at
_MOST_LAYERS = 20  # of cell magics in one another, before what is in them counts as not understood
_FILES = {"-r", "--requirement", "--requirements", "-f", "--file"}
_WITH_VALUE = {"-c", "--channel", "-n", "--name", "-p", "--prefix", "-i", "--index-url", "--extra-index-url",
               "-f", "--find-links", "-t", "--target", "--root", "--trusted-host"}  # fmt: skip
EXTENSIONS = {"autoreload", "storemagic", "nb_black"}
"""Names of `%load_ext` that come with IPython, or are for the eye only."""


@dataclass(frozen=True, slots=True)
class Install:
    """A package that a notebook installs when it runs, as it is written.

    :param is_file: the text is the name of a file that lists packages
    """

    manager: Literal["conda", "pip"]
    text: str
    is_file: bool = False


@dataclass(frozen=True, slots=True)
class Plain:
    """A cell's Python, with a line for each of its lines, and what its other lines told.

    :param modules: that magics need: matplotlib, what `%load_ext` loads
    """

    source: str
    installs: tuple[Install, ...] = ()
    modules: tuple[str, ...] = ()


def parse(source: str) -> ast.Module | None:
    """Parse Python without a word; None when it is not Python 3, or is longer or nested beyond reason."""
    if len(source) > _LONGEST or any(m[0].count(".") > _MOST_DOTS for m in _IMPORTED.finditer(source)):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def plain(source: str) -> Plain:
    """Take IPython's lines out of a cell."""
    statements: list[str] = []
    for _ in range(_MOST_LAYERS):
        if parse(source) is not None:
            return _below(statements, Plain(source))
        first, _, rest = source.lstrip("\n").partition("\n")
        if not first.startswith("%%"):
            return _below(statements, _plain_lines(source))
        name, _, arguments = first[2:].partition(" ")
        if name in _SHELL_CELLS or name.startswith("!"):
            return _below(statements, Plain("", tuple(i for line in _joined(rest) for i in installs(line))))
        if name not in _PYTHON_CELLS:
            return _below(statements, Plain(""))
        statements.append(_FLAGS.sub("", " " + arguments, count=1) if name == "timeit" else "")
        source = rest
    return Plain(source)


def _below(statements: list[str], inner: Plain) -> Plain:
    """Put together what cell magics had in their own line, each above the cell that it was for."""
    if not statements:
        return inner
    return Plain("\n".join((*statements, inner.source)), inner.installs, inner.modules)


def _plain_lines(source: str) -> Plain:
    lines: list[str] = []
    found: list[Install] = []
    modules: list[str] = []
    for line in _joined(source):
        kept = _without_magic(line, found, modules)
        lines.append(kept + "\n" * (line.count("\n") - kept.count("\n")))
    return Plain("\n".join(lines), tuple(found), tuple(modules))


def _joined(source: str) -> list[str]:
    """Join lines that a backslash continues."""
    joined: list[str] = []
    parts: list[str] = []
    for line in source.split("\n"):
        parts.append(line)
        if not line.endswith("\\"):
            joined.append("\n".join(parts))
            parts = []
    return joined + (["\n".join(parts)] if parts else [])


def _without_magic(line: str, found: list[Install], modules: list[str]) -> str:
    if asked := _HELP.fullmatch(line):
        return f"{asked['indent']}pass"
    match = _LINE.fullmatch(line)
    if match is None:
        return line
    indent, rest = match["indent"], match["rest"].replace("\\\n", " ").strip()
    found += installs(rest)
    if match["mark"] == "%":
        name, _, arguments = rest.partition(" ")
        if name in _PYTHON_LINES:
            return indent + (_FLAGS.sub("", " " + arguments, count=1) or "pass")
        if name in ("matplotlib", "pylab"):
            modules.append("matplotlib")
        if name in ("load_ext", "reload_ext"):
            modules += [a.split(".")[0] for a in arguments.split() if a.split(".")[0] not in EXTENSIONS]
    return f"{indent}{match['assigned'] or ''}{'None' if match['assigned'] else 'pass'}"


def installs(command: str) -> list[Install]:
    """Return the packages that a line of shell, or a magic of the same name, installs, and files that list
    them.
    """
    found: list[Install] = []
    for call in _INSTALL.finditer(command.replace("\\\n", " ")):
        manager: Literal["conda", "pip"] = "pip" if call["tool"].startswith("pip") else "conda"
        files = _FILES - ({"-f", "--file"} if manager == "pip" else {"-r", "--requirement", "--requirements"})
        words = iter(_words(_COMMENT.split(call["rest"], maxsplit=1)[0]))
        for word in words:
            option, sign, value = word.partition("=")
            if option in files:
                value = value if sign else next(words, "")
                if re.match(r"[\w./]", value) and "{" not in value:
                    found.append(Install(manager, value, is_file=True))
            elif word.startswith("-"):
                if word in _WITH_VALUE | {"-e", "--editable"}:
                    next(words, "")
            elif re.match(r"[A-Za-z0-9]", word) and "{" not in word:
                found.append(Install(manager, word))
    return found


def _words(text: str) -> list[str]:
    if len(text) > _LONGEST_COMMAND:
        return text.split()
    try:
        return shlex.split(text)
    except ValueError:  # a quote that is not closed
        return text.split()
