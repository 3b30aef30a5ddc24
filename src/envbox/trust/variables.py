"""Variables that change what programs are, load or believe, and are therefore asked about by name.

One reviewed list, for settings, specs, lockfiles and env files. What is not on it is data for the project's
own programs. Names are compared without case: proxies are read in both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from envbox.trust import Ask, ask, plain

_RISKY = (
    r"(?:I?PYTHON|JUPYTER|LD|DYLD|GCONV|DOCKER|CONTAINER|CONTAINERS|PODMAN|BUILDKIT|PIP|UV|_?CONDA|MAMBA|PIXI|_?CE"
    r"|VIRTUAL_ENV|NODE|NPM|GIT|SSH|ENVBOX|XDG|PERL5?|RUBY|R|JAVA|JDK|OPENSSL|BASH)(?:_.*|PATH|OPT|OPTS|LIB|DB)?"
    r"|PYTHON\w+|IPYTHON\w+|PERL5?\w*|RUBY\w*|NODE\w*|BASH\w*|GLIBC_TUNABLES|MALLOC_.*|GTK_.*|QT_.*PATH|TCL\w*|TK\w*"
    r"|ENV|SHELL|SHELLOPTS|PS[0-4]|PROMPT_COMMAND|IFS|CDPATH|PATH|HOME|USER|LOGNAME|TMPDIR|TEMP|TMP"
    r"|BROWSER|EDITOR|VISUAL|PAGER|LESS\w*|MANPAGER|(?:HTTPS?|FTP|ALL|NO)_PROXY"
    r"|SSL_CERT_.*|\w+_CA_BUNDLE|.*KUBECONFIG|MPLBACKEND|MPLCONFIGDIR|MATPLOTLIBRC|_?JAVA_OPTIONS|HOSTALIASES|RES_OPTIONS"
    r"|NETRC|SUDO_\w+|NOTIFY_SOCKET|DBUS_\w+|DISPLAY|WAYLAND_DISPLAY"
)
_HARMLESS = r"PYTHON(UNBUFFERED|HASHSEED|IOENCODING|UTF8|DONTWRITEBYTECODE|NOUSERSITE|FAULTHANDLER)"


def is_risky(name: str) -> bool:
    """Return whether a variable changes more than data."""
    risky, harmless = (re.fullmatch(pattern, name, re.IGNORECASE) for pattern in (_RISKY, _HARMLESS))
    return risky is not None and harmless is None


def variable_asks(variables: Mapping[str, Any], where: str) -> Iterator[Ask]:
    """Yield what a table of variables asks for: those in it that can take a protection away.

    :param where: which file or table, for the words
    """
    for name in sorted(map(str, variables)):
        if is_risky(name):
            words = f"sets {plain(name)} in its sessions, which changes what programs load or trust ({where})"
            yield ask(words, "sets", name, str(variables[name]), use="launch")


def env_file_asks(text: str, where: str) -> Iterator[Ask]:
    """Yield what a project's env file asks for: the caller's own variables by name, and those that can
    harm.
    """
    values = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").lstrip().partition("=")
        if equals:
            values[name.strip()] = value
        elif name and not name.startswith("#"):
            words = f"hands the value of your ${plain(name.strip())} to its sessions ({where})"
            yield ask(words, "hands", name.strip(), use="launch")
    yield from variable_asks(values, where)
