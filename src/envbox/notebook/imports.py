"""Which modules code asks for: read by `ast`, never run.

What an environment must have is less than what stands after `import`: not the standard library, not the
project's own files, and only perhaps what is tried inside `try … except ImportError`.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from envbox.notebook.magics import Install, parse, plain
from envbox.notebook.names import known_module
from envbox.notebook.reading import Notebook

_GONE = """
    asynchat asyncore audioop binhex cgi cgitb chunk crypt distutils formatter imghdr imp lib2to3 mailcap
    msilib nis nntplib ossaudiodev parser pipes smtpd sndhdr spwd sunau symbol telnetlib uu xdrlib
    __builtin__ BaseHTTPServer ConfigParser Cookie HTMLParser Queue SimpleHTTPServer SocketServer StringIO
    Tkinter cPickle cStringIO commands cookielib httplib md5 sets tkMessageBox urllib2 urlparse
"""
"""Of the standard library once: no package has them, whichever Python is locked."""
STANDARD = frozenset(sys.stdlib_module_names) | {*_GONE.split(), "__main__"}
_FAILED = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
_IMPORT_LINE = re.compile(
    r"[ \t]*(?:from[ \t]+([A-Za-z_][\w.]*)[ \t]+import\b|import[ \t]+([A-Za-z_][^#;\n]*))"
)
_R_LINE = re.compile(
    r"\b(?:library|require|requireNamespace)\(\s*[\"']?([A-Za-z][\w.]*)|\b([A-Za-z][\w.]*)::"
)
_R_BASE = """
    base compiler datasets grDevices graphics grid methods parallel splines stats stats4 tcltk tools utils
"""


@dataclass(frozen=True, slots=True)
class Used:
    """What a piece of code needs.

    :param modules: module → the cell (from 1; 0: a script) that needs it first; as far with dots as decides
        which package it is from
    :param optional: the same of modules that the code can do without
    :param unread: cells that are neither Python 3 nor what IPython makes of it; their imports were guessed
    """

    modules: dict[str, int] = field(default_factory=dict)
    optional: dict[str, int] = field(default_factory=dict)
    installs: dict[Install, int] = field(default_factory=dict)
    unread: tuple[int, ...] = ()


def used_by_notebook(notebook: Notebook, local: Collection[str] = ()) -> Used:
    """What a notebook's cells need; of other kernels than Python's and R's, nothing is known.

    :param local: names of modules that lie beside it
    """
    if notebook.language == "r":
        found: dict[str, int] = {}
        for cell in notebook.cells:
            for match in _R_LINE.finditer(re.sub(r"#.*", "", cell.source)):
                name = match[1] or match[2]
                if name not in _R_BASE.split():
                    found.setdefault(name, cell.number)
        return Used(found)
    if notebook.language not in ("python", "ipython"):
        return Used()
    return _used(((c.number, c.source) for c in notebook.cells), local)


def used_by_script(source: str, local: Collection[str] = ()) -> Used:
    """What a Python script needs."""
    return _used([(0, source)], local)


def _used(pieces: Iterable[tuple[int, str]], local: Collection[str]) -> Used:
    used, unread = Used(), []
    for number, source in pieces:
        cell = plain(source)
        for install in cell.installs:
            used.installs.setdefault(install, number)
        tree = parse(cell.source)
        names = [(name, False) for name in cell.modules]
        if tree is None:
            unread.append(number)
            names += [(name, False) for name in _guessed(cell.source)]
        else:
            names += _imported(tree)
        for name, is_optional in names:
            if name.split(".")[0] in STANDARD or name.split(".")[0] in local:
                continue
            (used.optional if is_optional else used.modules).setdefault(known_module(name), number)
    for name in used.modules:
        used.optional.pop(name, None)
    return Used(used.modules, used.optional, used.installs, tuple(unread))


def _guessed(source: str) -> Iterator[str]:
    """The imports in what no parser takes: Python 2, a line cut off."""
    for line in source.splitlines():
        if match := _IMPORT_LINE.match(line):
            for name in [match[1]] if match[1] else match[2].split(","):
                if word := re.match(r"\s*([A-Za-z_][\w.]*)", name):
                    yield word[1]


def _imported(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Names that are imported anywhere, and whether the code can do without."""
    todo: list[tuple[ast.AST, bool]] = [(tree, False)]
    while todo:
        node, is_optional = todo.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name, is_optional) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module and not node.level:
                yield from ((_longest(node.module, alias.name), is_optional) for alias in node.names)
        elif isinstance(node, ast.Call) and (name := _by_name(node)):
            yield name, is_optional
        if isinstance(node, ast.If) and _is_typing(node.test):
            todo += [(child, is_optional) for child in reversed(node.orelse)]
            continue
        tried = isinstance(node, ast.Try) and any(_catches(h.type) for h in node.handlers)
        inner = set(map(id, [*node.body, *node.handlers])) if tried and isinstance(node, ast.Try) else set()
        children = [(child, is_optional or id(child) in inner) for child in ast.iter_child_nodes(node)]
        todo += reversed(children)


def _longest(module: str, name: str) -> str:
    """`from mpl_toolkits import basemap` names a module; `from numpy import array` does not."""
    full = f"{module}.{name}"
    return full if known_module(full) == full else module


def _by_name(call: ast.Call) -> str | None:
    function = call.func
    named = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)
    if named not in ("import_module", "__import__", "importorskip") or not call.args:
        return None
    value = call.args[0].value if isinstance(call.args[0], ast.Constant) else None
    return value if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w.]*", value) else None


def _catches(kind: ast.expr | None) -> bool:
    kinds = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(k is None or (isinstance(k, ast.Name) and k.id in _FAILED) for k in kinds)


def _is_typing(test: ast.expr) -> bool:
    return "TYPE_CHECKING" in (getattr(test, "id", None), getattr(test, "attr", None))
