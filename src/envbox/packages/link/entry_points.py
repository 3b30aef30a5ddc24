"""The scripts that stand for a noarch python package's entry points, to the letter as rattler writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from envbox.errors import PackageError
from envbox.packages.link.placeholder import python_shebang
from envbox.packages.link.target import PythonLayout

_ENTRY_POINT = re.compile(r"\s*([^\s=:/]+)\s*=\s*([\w.]+)\s*:\s*([\w.]+)\s*(?:\[[^\]]*\]\s*)?")
_SCRIPT = """\
{shebang}
# -*- coding: utf-8 -*-
import re
import sys

from {module} import {first}

if __name__ == '__main__':
\tsys.argv[0] = re.sub(r'(-script\\.pyw?|\\.exe)?$', '', sys.argv[0])
\tsys.exit({function}())
"""


def entry_point_scripts(entry_points: Iterable[str], python: PythonLayout) -> dict[str, bytes]:
    """Return the scripts by their path in the prefix.

    :param entry_points: `command = module:function`, as in info/link.json
    :raises PackageError: when one is not of that form
    """
    scripts = {}
    for text in entry_points:
        match = _ENTRY_POINT.fullmatch(text)
        if not match or match[1] in (".", ".."):
            raise PackageError(f"has an entry point that is not `command = module:function`: {text!r}")
        command, module, function = match.groups()
        script = _SCRIPT.format(
            shebang=python_shebang(python.executable),
            module=module,
            first=function.split(".")[0],
            function=function,
        )
        scripts[f"bin/{command}"] = script.encode()
    return scripts
