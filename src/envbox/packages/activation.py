"""What makes an environment the active one in a container, however a process gets there.

PATH alone is not enough: packages have activate.d scripts, which only a shell can run. There are four roads
into a container, and each is covered:

- `docker run`: the entrypoint sources activate.sh, then becomes the command.
- `docker exec … COMMAND`: the image's Env has all that is static: PATH, CONDA_PREFIX, `variables:`.
- a bash script or `bash -c`, also from `docker exec`, CI and kernels: BASH_ENV is activate.sh.
- an interactive bash, login or not: HOME has a .bashrc of ours, which also puts the name into the prompt.

activate.sh is sourced into other people's shells, so it leaves their options (-e, -u, -x, -v), stdin and
stdout alone, sets nothing that is set already, and runs the packages' scripts once, in a copy of the shell:
the mark that it has is exported, as all that those scripts can give to a child is. Everything here is a pure
function.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from envbox.documents import read_json
from envbox.errors import LockfileError, PackageError
from envbox.image_paths import HOME, PREFIX, WORK
from envbox.lockfile import Lock
from envbox.lockfile.variables import variable_fault
from envbox.packages.activation_scripts import run_scripts
from envbox.packages.link.target import ROOT

if TYPE_CHECKING:
    from envbox.packages.link.fragments import FileEntry

SHARE = f"{PREFIX}/share/envbox"
ENTRYPOINT = f"{SHARE}/entrypoint.sh"
BASHRC = f"{SHARE}/bashrc"
LOCKFILE = f"{SHARE}/conda-lock.yml"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ANYBODY = 0o1777  # everybody may make files, nobody may touch another's

_SCRIPTS = f"{ROOT}/etc/conda/activate.d/"
_VARIABLES = f"{ROOT}/etc/conda/env_vars.d/"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STANDARD_LIBRARY = re.compile(rf"({ROOT}/lib/[^/]+)/os\.py")
_NOT_IN_NAMES = re.compile(r"[^\w.+-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Activation:
    """What is to be done to activate an environment.

    :param name: the environment's, shown in the prompt
    :param variables: fixed values, set where nothing else sets them
    :param scripts: absolute paths of activate.d scripts, in conda's order
    :param library: the folder of Python's standard library, relative to `/`; None without a Python
    :param prefix: where the environment is seen when it is active
    """

    name: str
    variables: Mapping[str, str] = field(default_factory=dict)
    scripts: tuple[str, ...] = ()
    library: str | None = None
    prefix: str = PREFIX

    @property
    def script(self) -> str:
        """The path of the script that activates."""
        return f"{self.prefix}/share/envbox/activate.sh"


def is_variables_file(path: str) -> bool:
    """Return whether a package's file (relative to `/`) is one of conda's env_vars.d."""
    return path.startswith(_VARIABLES) and path.endswith(".json") and "/" not in path[len(_VARIABLES) :]


def read_activation(
    lock: Lock, paths: Iterable[str], variables_files: Mapping[str, bytes], prefix: str = PREFIX
) -> Activation:
    """Gather what the packages and the spec have to say.

    :param paths: of all files of the environment, relative to `/`
    :param variables_files: path → content, of those that `is_variables_file`
    :param prefix: where the environment is seen
    :raises PackageError: when such a file is not what conda has there
    :raises LockfileError: when the lock sets a variable that is not a spec's to set
    """
    variables: dict[str, str] = {}
    for path, content in sorted(variables_files.items()):
        variables |= _parse_variables(path, content)
    if faults := [words for name, value in lock.variables.items() if (words := variable_fault(name, value))]:
        raise LockfileError(
            f"the lockfile of {lock.name} cannot be used: {'; '.join(faults)}",
            f"take it out of the spec, and run: envbox lock {lock.name}",
        )
    variables |= lock.variables
    scripts, libraries = [], []
    for path in paths:
        if path.startswith(_SCRIPTS) and path.endswith(".sh") and "/" not in path[len(_SCRIPTS) :]:
            scripts.append(prefix + path.removeprefix(ROOT))
        elif path.endswith("/os.py") and (found := _STANDARD_LIBRARY.fullmatch(path)):
            libraries.append(found[1])
    name = _NOT_IN_NAMES.sub("-", lock.name)  # it goes into shell code and a prompt, which shells expand
    return Activation(
        name, dict(sorted(variables.items())), tuple(sorted(scripts)), min(libraries, default=None), prefix
    )


def _parse_variables(path: str, content: bytes) -> dict[str, str]:
    try:
        found = read_json(content)
        if not isinstance(found, dict):
            raise TypeError
    except (ValueError, TypeError) as error:
        raise PackageError(f"/{path} should hold a JSON object of variables, and does not") from error
    for name, value in found.items():
        if not name or "=" in name or "\0" in f"{name}{value}":
            raise PackageError(f"/{path} sets a variable that cannot be: {name!r}")
    return {str(name): str(value) for name, value in found.items()}


def image_env(activation: Activation, base_env: Sequence[str]) -> tuple[str, ...]:
    """Return the image's Env: the base's in its order, with ours in it and after it.

    :param base_env: `NAME=value` each
    """
    env: dict[str, str] = dict(entry.partition("=")[::2] for entry in base_env)
    ours = {
        "CONDA_DEFAULT_ENV": activation.name,
        "CONDA_PREFIX": activation.prefix,
        "CONDA_PROMPT_MODIFIER": f"({activation.name}) ",
        "CONDA_SHLVL": "1",
        "HOME": HOME,
        "PATH": f"{activation.prefix}/bin:{env.get('PATH') or SYSTEM_PATH}",
        "BASH_ENV": activation.script,
    }
    env |= activation.variables
    if "LANG" not in env and "LC_ALL" not in env:
        ours["LANG"] = "C.UTF-8"
    env |= dict(sorted(ours.items()))
    return tuple(f"{name}={value}" for name, value in env.items())


def environment_files(
    lock: Lock, platform: str, lockfile: bytes, activation: Activation, created: int
) -> dict[str, FileEntry]:
    """Return what belongs to no package: the files of the environment's own layer, by path relative to `/`.

    Wherever the environment is seen, these are the paths that the files have in an image.

    :param lockfile: the lockfile's bytes
    :param created: seconds since 1970, for conda's history
    """
    from envbox.packages.link.fragments import FileEntry

    texts = {
        f"{SHARE}/activate.sh": activate_script(activation),
        f"{SHARE}/bashrc": bashrc(activation),
        f"{SHARE}/packages.txt": package_list(lock, platform),
        f"{PREFIX}/conda-meta/history": conda_history(lock, platform, created),
    }
    if lock.variables:  # by which `conda env config vars list` knows them
        state = {"env_vars": dict(lock.variables), "version": 1}
        texts[f"{PREFIX}/conda-meta/state"] = json.dumps(state, indent=2, sort_keys=True) + "\n"
    if activation.library:
        texts[f"/{activation.library}/EXTERNALLY-MANAGED"] = externally_managed(activation.name)
    files = {path: FileEntry(text.encode()) for path, text in texts.items()}
    files[LOCKFILE] = FileEntry(lockfile)
    files[ENTRYPOINT] = FileEntry(entrypoint_script(activation).encode(), 0o755)
    return {path.lstrip("/"): entry for path, entry in files.items()} | home_files()


def home_files() -> dict[str, FileEntry]:
    """Return what an image has outside the prefix, the same in all: a home and a place to work, for
    anybody.
    """
    from envbox.packages.link.fragments import FileEntry

    files = {f"{HOME}/{name}": FileEntry(f". {BASHRC}\n".encode()) for name in (".bashrc", ".bash_profile")}
    files |= {f"{HOME}/": FileEntry(b"", ANYBODY), f"{WORK}/": FileEntry(b"", ANYBODY)}
    return {path.lstrip("/"): entry for path, entry in files.items()}


def externally_managed(name: str) -> str:
    """Return what pip and uv say instead of installing into the environment (PEP 668)."""
    return f"""\
[externally-managed]
Error=This environment is made from a lockfile, and does not change.
 To add a package, add it to environments/{name}.yml, leave, and run
 the envbox command again: it locks and installs what is new.

 For a try that need not last: python -m venv --system-site-packages
 /tmp/try, and that one's pip.
"""


def entrypoint_script(activation: Activation) -> str:
    """Return the entrypoint: POSIX sh. Packages' scripts are written for bash, so it sources them where it
    is.
    """
    script = shlex.quote(activation.script)
    through_bash = f"""\
if command -v bash >/dev/null 2>&1; then
  exec bash --noprofile --norc -c {shlex.quote(f'. {script}; exec "$@"')} envbox "$@"
fi
"""
    return f"""\
#!/bin/sh
# Activates the environment, then becomes the command; without one, a shell.
if [ $# -eq 0 ]; then
  if command -v bash >/dev/null 2>&1; then set -- bash; else set -- sh; fi
fi
if [ -z "${{USER-}}" ]; then
  USER=$(id -un 2>/dev/null) || USER=envbox
  export USER
fi
export LOGNAME="${{LOGNAME-$USER}}"
case "${{SHELL-}}" in
  "" | /bin/sh | */nologin | */false) if [ -x /bin/bash ]; then export SHELL=/bin/bash; fi ;;
  *) export SHELL ;;
esac
{through_bash if activation.scripts else ""}. {script}
exec "$@"
"""


def activate_script(activation: Activation) -> str:
    """Return the script that activates, for bash and POSIX sh; it is sourced, and may be so any number of
    times.
    """
    prefix, bin_folder = activation.prefix, f"{activation.prefix}/bin"
    defaults = {
        "CONDA_PREFIX": prefix,
        "CONDA_DEFAULT_ENV": activation.name,
        "CONDA_PROMPT_MODIFIER": f"({activation.name}) ",
        "CONDA_SHLVL": "1",
        **{name: value for name, value in activation.variables.items() if _VARIABLE.fullmatch(name)},
    }
    lines = [
        f'[ -n "${{{name}+x}}" ] || export {name}={shlex.quote(value)}' for name, value in defaults.items()
    ]
    return _ACTIVATE.format(
        bin=bin_folder,
        quoted_bin=shlex.quote(bin_folder),
        prefix=prefix,
        quoted_prefix=shlex.quote(prefix),
        defaults="\n".join(f"  {line}" for line in lines),
        scripts=run_scripts(activation.scripts),
    )


_ACTIVATE = """\
# Makes the environment at {prefix} the active one: sourced by the entrypoint, by bash (BASH_ENV), by .bashrc.
{{ _envbox_options=$-; set +euxv; }} 2>/dev/null
case ":${{PATH-}}:" in
  *:{quoted_bin}:*) ;;
  *) export PATH="{bin}${{PATH:+:$PATH}}" ;;
esac
if [ "${{ENVBOX_ACTIVE-}}" != {quoted_prefix} ]; then
  export ENVBOX_ACTIVE={quoted_prefix}
{defaults}
{scripts}fi
case $_envbox_options in *e*) set -e ;; esac
case $_envbox_options in *u*) set -u ;; esac
case $_envbox_options in *v*) set -v ;; esac
case $_envbox_options in
  *x*) unset _envbox_options; set -x ;;
  *) unset _envbox_options ;;
esac
"""


def bashrc(activation: Activation) -> str:
    """Return what an interactive bash reads: the activation, and a prompt that names the environment."""
    return f"""\
. {shlex.quote(activation.script)}
case $- in
  *i*) PS1='({activation.name}) \\w\\$ ' ;;
esac
"""


def package_list(lock: Lock, platform: str) -> str:
    """Return one line a package: name, version, build, and where it is from."""
    rows = [(p.name, p.version, p.build or p.manager, p.url) for p in lock.for_platform(platform)]
    return "".join("\t".join(row) + "\n" for row in rows)


def conda_history(lock: Lock, platform: str, created: int) -> str:
    """Write conda-meta/history, by which conda knows a prefix, and what was asked for (`conda env export
    --from-history`). The format is that of conda/history.py.
    """
    packages = [p for p in lock.for_platform(platform) if p.manager == "conda"]
    wanted = [text for text in lock.requested.get(platform, ()) if not text.startswith("pip: ")]
    lines = [
        f"==> {datetime.fromtimestamp(created, UTC):%Y-%m-%d %H:%M:%S} <==",
        "# cmd: envbox build",
        *(f"+{p.channel}/{p.subdir}::{p.name}-{p.version}-{p.build}" for p in packages),
        f"# update specs: {json.dumps(wanted)}",
    ]
    return "\n".join(lines) + "\n"
