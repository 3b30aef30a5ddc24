"""Which modules code asks for: read by `ast`, never run.

What an environment must have is less than what stands after `import`: not the standard library, not the
project's own files, and only perhaps what is tried inside `try … except ImportError`.
"""

from __future__ import annotations

import ast
import codecs
import io
import re
import sys
import tokenize
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from envbox.notebooks.document import Notebook
from envbox.notebooks.magics import Install, parse, plain
from envbox.notebooks.names import known_module

_GONE = """
    asynchat asyncore audioop binhex cgi cgitb chunk crypt distutils formatter imghdr imp lib2to3 mailcap
    msilib nis nntplib ossaudiodev parser pipes smtpd sndhdr spwd sunau symbol telnetlib uu xdrlib
    __builtin__ BaseHTTPServer ConfigParser Cookie HTMLParser Queue SimpleHTTPServer SocketServer StringIO
    Tkinter cPickle cStringIO commands cookielib httplib md5 sets tkMessageBox urllib2 urlparse
"""
"""Of the standard library once: no package has them, whichever Python is locked."""
STANDARD = frozenset(sys.stdlib_module_names) | {*_GONE.split(), "__main__"}
_NO_ENCODINGS = {
    "idna",
    "punycode",
    "raw-unicode-escape",
    "unicode-escape",
}  # that take very long, or interpret
_FAILED = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
_IMPORT_LINE = re.compile(
    r"[ \t]*(?:from[ \t]+([A-Za-z_][\w.]*)[ \t]+import\b([^#;\n]*)"
    r"|import[ \t]+([A-Za-z_][\w.]*(?:[ \t]+as\b[ \t]+\w+)?(?:[ \t]*,[ \t]*[\w.]+(?:[ \t]+as\b[ \t]+\w+)?)*)"
    r"[ \t]*(?:[#;\\]|$))"
)
_R_LINE = re.compile(
    r"\b(?:library|require|requireNamespace)\(\s*[\"']?([A-Za-z][\w.]*)|(?<![\w.])([A-Za-z][\w.]*)::"
)
_MOVES = re.compile(r"\bsys\.path\b|\baddsitedir\b|\bchdir\(|^[ \t]*%cd\b", re.MULTILINE)
_CHOICES = {"sys.platform", "platform.system", "os.name", "sys.version_info", "sys.version"}
"""What an `if` asks that means another machine or Python, not another run."""
_R_BASE = """
    base compiler datasets grDevices graphics grid methods parallel splines stats stats4 tcltk tools utils
"""


@dataclass(frozen=True, slots=True)
class Used:
    """What a piece of code needs.

    :param modules: module → the cell (from 1; 0: a script) that needs it first; as far with dots as decides
        which package it is from
    :param optional: the same of modules that the code can do without
    :param unread: cells that are neither Python 3 nor what IPython makes of it, or newer than the Python that
        runs this; their imports were guessed
    """

    modules: dict[str, int] = field(default_factory=dict)
    optional: dict[str, int] = field(default_factory=dict)
    installs: dict[Install, int] = field(default_factory=dict)
    unread: tuple[int, ...] = ()


def used_by_notebook(notebook: Notebook, local: Collection[str] = ()) -> Used:
    """Return what a notebook's cells need; of other kernels than Python's and R's, nothing is known.

    :param local: names of the project's own modules, as `near` gives them
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


def moves(source: str) -> bool:
    """Say whether code changes where modules are imported from, as `sys.path.append("../lib")` does."""
    return _MOVES.search(source) is not None


def script_text(data: bytes) -> str:
    """Decode a script as Python does, by its own cookie where it has one (PEP 263).

    :raises ValueError: when it is not what it says it is
    """
    try:
        encoding = tokenize.detect_encoding(io.BytesIO(data).readline)[0]
    except SyntaxError as error:
        raise ValueError(error.msg) from None
    if codecs.lookup(encoding).name in _NO_ENCODINGS:
        raise ValueError(f"no script is written in {encoding}")
    try:
        return data.decode(encoding)
    except (UnicodeError, LookupError) as error:
        raise ValueError(f"it is not {encoding}") from error


def used_by_script(source: str, local: Collection[str] = ()) -> Used:
    """Return what a Python script needs."""
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
            top, below = (*name.split(".", 2), "", "")[:2]
            if top in STANDARD or top in local or f"{top}.{below}" in local:
                continue
            (used.optional if is_optional else used.modules).setdefault(known_module(name), number)
    for name in used.modules:
        used.optional.pop(name, None)
    return Used(used.modules, used.optional, used.installs, tuple(unread))


def _guessed(source: str) -> Iterator[str]:
    """Yield the imports in what no parser takes: Python 2, a line cut off."""
    for line in source.splitlines():
        if match := _IMPORT_LINE.match(line):
            for name in [match[1]] if match[1] else match[3].split(","):
                if word := re.match(r"\s*([A-Za-z_][\w.]*)", name):
                    yield from _parts(word[1], re.findall(r"\w+", match[2] or "")[:1])


def _imported(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Yield names that are imported anywhere, and whether the code can do without."""
    todo: list[tuple[ast.AST, bool]] = [(tree, False)]
    while todo:
        node, is_optional = todo.pop()
        if isinstance(node, ast.Import):
            yield from ((alias.name, is_optional) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module and not node.level:
                names = _parts(node.module, [alias.name for alias in node.names])
                yield from ((name, is_optional) for name in names)
        elif isinstance(node, ast.Call) and (name := _by_name(node)):
            yield name, is_optional
        inner = set(map(id, _dispensable(node)))
        children = [(child, is_optional or id(child) in inner) for child in ast.iter_child_nodes(node)]
        todo += reversed(children)


def _dispensable(node: ast.AST) -> list[ast.AST]:
    """Return those of a statement's parts that the code can do without."""
    if isinstance(node, ast.Try | ast.TryStar) and any(_catches(h.type) for h in node.handlers):
        return [*node.body, *node.handlers]
    if isinstance(node, ast.With) and any(_suppresses(item.context_expr) for item in node.items):
        return [*node.body]
    if isinstance(node, ast.If) and _is_choice(node.test):
        return [*node.body, *node.orelse]
    return [*node.body] if isinstance(node, ast.If) and _is_never(node.test) else []


def _parts(module: str, names: Iterable[str]) -> Iterator[str]:
    """Yield what `from module import names` may ask for: `from mpl_toolkits import basemap` is a module."""
    found = [f"{module}.{name}" for name in names if name.isidentifier()]
    yield from found or [module]


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


def _suppresses(call: ast.expr) -> bool:
    """Say whether it is `suppress(ImportError)`."""
    if not isinstance(call, ast.Call) or _name(call.func).rpartition(".")[2] != "suppress":
        return False
    return any(_catches(kind) for kind in call.args)


def _is_never(test: ast.expr) -> bool:
    """Say whether what is below runs in no program: it is for type checkers, or switched off."""
    constant = isinstance(test, ast.Constant) and not test.value
    return constant or _name(test).rpartition(".")[2] == "TYPE_CHECKING"


def _is_choice(test: ast.expr) -> bool:
    """Say whether a condition is about the machine or the Python."""
    return any(_name(node) in _CHOICES for node in ast.walk(test) if isinstance(node, ast.Attribute))


def _name(node: ast.expr) -> str:
    """Return a name with at most one dot, as written; nothing for any other expression."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        return f"{node.value.id}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""
