"""What an environment can run without: tests, static libraries, headers, manuals. Rules only, all pure.

The difficulty is a folder named `tests` that is none: `astropy.tests`, `django.test` and `tensorflow.test`
are imported by the packages themselves. So a package's test folder stays when any of its modules outside of
it imports from it. Modules are searched by regular expressions and not parsed: a parser reads the syntax of
the Python that envbox happens to run on, and the answer must be the same everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

KINDS: Mapping[str, str] = {
    "docs": "manuals: share/man, share/doc, share/info, share/gtk-doc; licences stay",
    "headers": "C headers in include/, but pyconfig.h",
    "static": "static libraries, *.a",
    "tests": "folders named tests or test in packages of Python and in its standard library",
}
"""What can be left out, and what that is."""

FORMAT = 1
"""Of the rules. Raised whenever they would leave out other files than before."""

_DOCS = ("share/man/", "share/doc/", "share/info/", "share/gtk-doc/")
_LEGAL = re.compile(r"(licen[cs]e|copying|copyright|notice|authors)", re.IGNORECASE)
_TESTS = frozenset({"tests", "test"})
_SUPPORT = ("test/support/", "test/__init__.py", "test/__pycache__/__init__.")  # others' tests import these
_LARGEST = 4 << 20  # bytes; a larger module is generated, and imports nobody's tests
_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(?P<origin>\.*[ \t]*[\w.]*)[ \t]+import[ \t]*(?P<names>\([^)]*\)|[^\n;#]*)"
    r"|import[ \t]+(?P<modules>[^\n;#]*))",
    re.MULTILINE,
)
Modules = Callable[[], Iterable[tuple[str, bytes | bytearray]]]
"""(path relative to the prefix, source) of a package's Python modules; called when they are needed at all."""


def kind_of(path: str, site_packages: str | None) -> str | None:
    """Return which of KINDS a file is by its path alone; a test folder may still be one that must stay.

    :param path: relative to the prefix
    :param site_packages: relative to the prefix; None where there is no Python
    """
    if path.endswith(".a"):
        return "static"
    if path.startswith("include/"):
        return None if path.endswith("/pyconfig.h") else "headers"  # sysconfig reads it
    if path.startswith(_DOCS):
        return None if _LEGAL.match(path.rsplit("/", 1)[-1]) else "docs"
    return "tests" if test_folder(path, site_packages) else None


def test_folder(path: str, site_packages: str | None) -> str | None:
    """Return the outermost test folder that a path lies in; in site-packages one of a package, not a
    package.
    """
    if site_packages is None:
        return None
    for root, first in ((f"{site_packages}/", 1), (f"{site_packages.rsplit('/', 1)[0]}/", 0)):
        if path.startswith(root):
            inner = path[len(root) :]
            if first == 0 and inner.startswith(_SUPPORT):
                return None
            folders = inner.split("/")[:-1]
            for at in range(first, len(folders)):
                if folders[at] in _TESTS:
                    return root + "/".join(folders[: at + 1])
            return None
    return None


def left_out(
    paths: Collection[str], kinds: Collection[str], site_packages: str | None, modules: Modules
) -> dict[str, str]:
    """Return the files of one package that are left out, each with its kind.

    :param paths: of all files of the package, relative to the prefix; an empty folder's ends in `/`
    :param kinds: of KINDS
    """
    by_path = {path: kind_of(path, site_packages) for path in paths}
    found = {path: kind for path, kind in by_path.items() if kind is not None and kind in kinds}
    folders = {path: test_folder(path, site_packages) for path in found if found[path] == "tests"}
    if folders and site_packages:
        imports = {path: imported_tests(path, source, site_packages) for path, source in modules()}
        needed = _needed(imports, site_packages) & set(folders.values())
        found = {path: kind for path, kind in found.items() if folders.get(path) not in needed}
    return found


def imported_tests(path: str, source: bytes | bytearray, site_packages: str) -> frozenset[str]:
    """Return the test folders that a module imports from, itself or a function in it.

    :param path: of the module, relative to the prefix
    """
    is_test = path.endswith("/conftest.py")  # pytest's own
    if b"test" not in source or len(source) > _LARGEST or is_test:
        return frozenset()
    roots = (site_packages, site_packages.rsplit("/", 1)[0])
    text = source.decode("utf-8", "replace").replace("\\\n", " ").replace("\\\r\n", " ")
    return frozenset(
        folder
        for name in _imports(path, text, roots)
        if (folder := test_folder(f"{name}/x", site_packages)) is not None
    )


def _needed(imports: Mapping[str, frozenset[str]], site_packages: str) -> set[str]:
    """Return the test folders that modules need which are not tests themselves, or which such ones need."""
    needed: set[str] = set()
    while True:
        reached = {
            folder
            for path, found in imports.items()
            if (own := test_folder(path, site_packages)) is None or own in needed
            for folder in found
        }
        if reached <= needed:
            return needed
        needed |= reached


def _imports(path: str, text: str, roots: Iterable[str]) -> Iterator[str]:
    """Yield the paths of what a module imports, as if all were folders."""
    for found in _IMPORT.finditer(text):
        if modules := found["modules"]:
            dotted = [word.split()[0] for word in modules.split(",") if word.split()]
        else:
            origin = found["origin"].replace(" ", "").replace("\t", "")
            names = re.findall(r"(\w+)(?:[ \t]+as[ \t]+\w+)?", re.sub(r"#[^\n]*", "", found["names"]))
            dotted = [f"{origin}.{name}" if origin.strip(".") else f"{origin}{name}" for name in names]
            dotted.append(origin)
        for name in dotted:
            bare = name.lstrip(".")
            inner = bare.replace(".", "/")
            if level := len(name) - len(bare):
                base = path.rsplit("/", level)[0] if path.count("/") >= level else ""
                yield f"{base}/{inner}" if inner else base
            else:
                yield from (f"{root}/{inner}" for root in roots)
