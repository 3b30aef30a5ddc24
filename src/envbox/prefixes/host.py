"""A prefix for sessions without a container: the one that would be mounted into one, with the same bytes.

No base is needed for it, no engine, and so no image; this machine's C library must do. Where nothing can be
mounted, there is another one, whose packages are linked for a path of this machine: a link in the cache, one
for each lock, that leads to it. So its bytes do not depend on its own name, which is a hash over them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from envbox import __version__
from envbox.cache import Memo, memo_key
from envbox.errors import ImageError
from envbox.oci import digest_of
from envbox.platforms import container_platform
from envbox.prefixes.links import let_be_seen, path_for
from envbox.prefixes.tree import find_tree
from envbox.project import Environment
from envbox.report import Reporter
from envbox.settings import Settings

if TYPE_CHECKING:
    from envbox.packages.activation import Activation

MEMO_VERSION = 3


@dataclass(frozen=True, slots=True)
class HostPrefix:
    """An environment on this machine.

    :param key: of the prefix: a hash over what its bytes are a function of
    :param seen_at: the path of the prefix for what runs in it
    :param env: the variables that the environment's image would have; a language only if it asks
    :param is_compiled: whether it has the image's byte-code
    """

    name: str
    key: str
    prefix: Path
    seen_at: str
    env: Mapping[str, str]
    lock_digest: str
    is_compiled: bool = True


def path_here(environment: Environment, settings: Settings) -> str:
    """Return where an environment's prefix is seen that is not mounted: a path that its lockfile has for
    itself.

    :raises LockfileError: when there is no lockfile
    :raises ToolError: when the cache's path could not stand in a script or in PATH
    """
    from envbox.lockfile.file import read_lock_bytes

    lock_digest = digest_of(read_lock_bytes(environment.lock_path))
    return path_for(environment.name, settings, lock_digest, container_platform())


def find_here(environment: Environment, settings: Settings, seen_at: str) -> HostPrefix | None:
    """Return the prefix of an environment's lockfile for a path, if it is there and sound.

    :param seen_at: the image's `PREFIX`, or `path_here`
    :raises LockfileError: when there is no lockfile
    """
    from envbox.lockfile.file import read_lock_bytes

    found = _memo(environment, digest_of(read_lock_bytes(environment.lock_path)), settings, seen_at).read()
    if found is None:
        return None
    tree = find_tree(settings.cache_dir, found.key)
    if tree is None or tree.prefix != found.prefix:
        return None
    let_be_seen(tree, settings)
    return found


def obtain_here(
    environment: Environment, settings: Settings, report: Reporter, seen_at: str, *, at_once: bool = False
) -> HostPrefix:
    """Make the prefix of an environment's lockfile for a path, or what is missing of it.

    :param seen_at: as for `find_here`
    :param at_once: do not wait for much byte-code; it is made in another process, for the next call
    :raises LockfileError: when there is no sound lockfile, or none for this machine's platform
    :raises ImageError: when this machine's C library is older than what a package needs
    :raises PackageError: when a package is not what the lock says
    :raises ToolError: when a channel or the disk fails
    """
    from envbox.lockfile import Base
    from envbox.lockfile.conda_lock_v1 import loads
    from envbox.lockfile.file import read_lock_bytes
    from envbox.prefixes.obtain import obtain_tree
    from envbox.prefixes.request import PrefixRequest
    from envbox.registry.base import newer_glibc
    from envbox.registry.lock_with_base import LockWithBase

    data = read_lock_bytes(environment.lock_path)
    lock, platform = loads(data, environment.lock_path), container_platform()
    if words := newer_glibc(lock.for_platform(platform), machine_glibc()):
        raise ImageError(
            f"this machine has glibc {machine_glibc()}, but {words}",
            "use a container, whose base has its own: --engine docker",
        )
    wanted = PrefixRequest(
        LockWithBase(lock, data, lock.base or Base("", {}, {})), platform, settings, seen_at
    )
    unpacked = obtain_tree(wanted, None, report, at_once=at_once)
    let_be_seen(unpacked.tree, settings)
    here = HostPrefix(
        name=environment.name,
        key=unpacked.tree.key,
        prefix=unpacked.tree.prefix,
        seen_at=seen_at,
        env=_own_variables(unpacked.activation),
        lock_digest=lock.digest,
        is_compiled=unpacked.is_compiled,
    )
    if not here.is_compiled:
        compiled = settings.cache_dir / "prefixes" / "compiled"  # each module once, not at every start
        return replace(here, env={**here.env, "PYTHONPYCACHEPREFIX": str(compiled)})
    _memo(environment, digest_of(data), settings, seen_at).write(here)
    return here


def _own_variables(activation: Activation) -> dict[str, str]:
    """Return the variables that the image would have, but for a language that nobody asked for."""
    from envbox.packages.activation import image_env

    env = dict(entry.partition("=")[::2] for entry in image_env(activation, ()))
    return {name: value for name, value in env.items() if name != "LANG" or name in activation.variables}


def machine_glibc() -> str:
    """Return X.Y of this machine's C library; what has none of it says 0.0."""
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").rpartition(" ")[2] or "0.0"
    except (ValueError, OSError):
        return "0.0"


def _memo(environment: Environment, lock_digest: str, settings: Settings, seen_at: str) -> Memo[HostPrefix]:
    name = environment.name
    key = memo_key(__version__, MEMO_VERSION, "here", name, lock_digest, container_platform(), seen_at)
    return Memo(
        settings.cache_dir / "builds" / f"{key}.json",
        lambda known: HostPrefix(**{**known, "prefix": Path(known["prefix"])}),
        lambda here: {**asdict(here), "prefix": str(here.prefix)},
    )
