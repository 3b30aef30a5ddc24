"""Which variables a spec's `variables:` may set: on some of them everything else in a session relies.

They come with a file that somebody else may have written, and are set in images, kernels and sessions of this
machine. The list is short on purpose: what only changes how the environment's own programs behave is theirs.
"""

from __future__ import annotations

import re

from envbox.mirrors import shown

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNFIT = re.compile(r"[\x00-\x08\n\r\ud800-\udfff]")

_ACTIVE = "it says which environment is active"
_SHELLS = "shells run that file before anything else"
_SERVER = "it decides who may use a Jupyter server"
RESERVED = {
    "PATH": "it says where programs are found, the environment's first",
    "HOME": "it is where programs keep what is a person's, and never in the project",
    "USER": "it is whoever runs the session",
    "LOGNAME": "it is whoever runs the session",
    "PWD": "it is where the session is",
    "CONDA_PREFIX": _ACTIVE,
    "CONDA_DEFAULT_ENV": _ACTIVE,
    "CONDA_PROMPT_MODIFIER": _ACTIVE,
    "CONDA_SHLVL": _ACTIVE,
    "BASH_ENV": _SHELLS,
    "ENV": _SHELLS,
    "PYTHONHOME": "it is where the environment's Python finds its own library",
    "JUPYTER_TOKEN": _SERVER,
    "JUPYTER_TOKEN_FILE": _SERVER,
    "JUPYTER_CONFIG_DIR": _SERVER,
    "JUPYTER_CONFIG_PATH": _SERVER,
    "JUPYTER_RUNTIME_DIR": _SERVER,
}
"""A name → why it is envbox's own to set."""
_OURS = "ENVBOX_"


def variable_fault(name: object, value: str) -> str | None:
    """Return what keeps a variable from being set for an environment, in words."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return f"{shown(name)} in `variables` cannot be the name of an environment variable"
    if why := RESERVED.get(name) or ("it is a setting of envbox's" if name.startswith(_OURS) else None):
        return f"`variables` cannot set {name}: {why}; take it out, and set it with --env where you need it"
    if _UNFIT.search(value):
        return f"the variable {name} holds a line break or another control character"
    return None
