"""Which conda packages bring the kernel of a language: one table for every hint.

Names of kernelspecs as the kernels' own installers write them, and languages as notebooks have them:
https://github.com/jupyter/jupyter/wiki/Jupyter-kernels
"""

from __future__ import annotations

import re
from collections.abc import Iterable

NO_PACKAGE = (
    "no conda package is known for it: add the one that brings it, or take another kernel: --kernel NAME"
)

# A kernelspec's name, or a language → packages, the first of which is proposed.
_PACKAGES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"i?python[23]?|xpython(-raw)?", ("ipykernel", "xeus-python")),
    (r"ir|r|xr", ("r-irkernel", "xeus-r")),
    (r"xcpp(11|14|17)|c\+\+(11|14|17)?|cpp", ("xeus-cling", "xeus-cpp")),
    (r"xcpp(20|23)|c\+\+(20|23)", ("xeus-cpp", "xeus-cling")),
    (r"bash|calysto_bash", ("bash_kernel", "calysto_bash")),
    (r"octave|xoctave", ("octave_kernel", "xeus-octave")),
    (r"sas", ("sas_kernel",)),
    (r"stata", ("stata_kernel",)),
    (r"xlua|lua", ("xeus-lua",)),
    (r"xsqlite|sqlite3?", ("xeus-sqlite",)),
    (r"xsql|sql", ("xeus-sql",)),
    (r"fortran", ("lfortran",)),
    (r"spylon-kernel|scala", ("spylon-kernel",)),
)


def kernel_packages(kernel: str | None, language: str) -> tuple[str, ...]:
    """Return the packages that bring a notebook's kernel, the first of them the usual one; none that is
    known: ().

    :param kernel: the kernelspec's name, which says more than the language, if it is one that is known
    :param language: in any case of letters
    """
    for name in (kernel, language):
        for pattern, packages in _PACKAGES:
            if name and re.fullmatch(pattern, name.lower()):
                return packages
    return ()


def has_kernel(packages: Iterable[str], language: str) -> bool:
    """Return whether a package among those may be the kernel of a language that the table does not have."""
    word = re.sub(r"\W", "", language.lower())
    return any("kernel" in name or name in (word, f"i{word}", f"xeus-{word}") for name in packages
               if word in name.replace("-", "").replace("_", ""))  # fmt: skip
