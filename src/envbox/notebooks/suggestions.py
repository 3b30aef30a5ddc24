"""What was meant where a module's name stands for a package's: `add sklearn`, `No module named 'cv2'`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from envbox.notebooks.names import set_right, sure_package

_NOT_FOUND = re.compile(r"(?:ModuleNotFoundError|ImportError): No module named '?([A-Za-z_][\w.]*)'?")


def meant(asked: Iterable[str]) -> str | None:
    """Say which packages bring the modules among match specs; None where there are none."""
    found = {}
    for text in asked:
        name = re.split(r"[^\w.-]", text.rpartition("::")[2].strip(), maxsplit=1)[0]
        packages = set_right(name)
        if packages and name not in packages:
            found[name] = packages[0]
    if not found:
        return None
    told = " and ".join(f"{module} is a module of {package}" for module, package in found.items())
    return f"{told}: envbox add {' '.join(dict.fromkeys(found.values()))}"


def package_of_missing(words: str, environment: str) -> str | None:
    """Say which package brings the module that a program did not find; None where no table has it.

    :param words: the error's type and message
    """
    match = _NOT_FOUND.match(words)
    package = sure_package(match[1]) if match else None
    return f"{package} has it: envbox add {package} --name {environment}" if package else None
