"""A prefix for sessions without a container: the one that would be mounted into one, with the same bytes.

No base is needed for it, no engine, and so no image; this machine's C library must do.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

from envbox import __version__
from envbox.errors import ImageError
from envbox.files import write_whole
from envbox.oci import canonical_json, digest_of
from envbox.prefix.tree import find_tree
from envbox.project import Environment
from envbox.report import Reporter
from envbox.settings import Settings

MEMO_VERSION = 1


@dataclass(frozen=True, slots=True)
class Here:
    """An environment on this machine.

    :param key: of the prefix: a hash over what its bytes are a function of
    :param env: the variables that the environment's image would have
    :param is_compiled: whether it has the image's byte-code
    """

    name: str
    key: str
    prefix: Path
    env: Mapping[str, str]
    lock_digest: str
    is_compiled: bool = True


def find_here(environment: Environment, settings: Settings) -> Here | None:
    """The prefix of an environment's lockfile, if it is there and sound.

    :raises LockfileError: when there is no lockfile
    """
    from envbox.image.build import read_bytes

    memo = _memo_path(environment, digest_of(read_bytes(environment.lock_path)), settings)
    try:
        known = json.loads(memo.read_bytes())
        found = Here(prefix=Path(known.pop("prefix")), **known)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    tree = find_tree(settings.cache_dir, found.key)
    return found if tree and tree.prefix == found.prefix else None


def obtain_here(
    environment: Environment, settings: Settings, report: Reporter, *, at_once: bool = False
) -> Here:
    """Make the prefix of an environment's lockfile on this machine, or what is missing of it.

    :param at_once: do not wait for much byte-code; it is made in another process, for the next call
    :raises LockfileError: when there is no sound lockfile, or none for this machine's platform
    :raises ImageError: when this machine's C library is older than what a package needs
    :raises PackageError: when a package is not what the lock says
    :raises ToolError: when a channel or the disk fails
    """
    from envbox.base import newer_glibc
    from envbox.image.activation import image_env
    from envbox.image.build import Locked, read_bytes
    from envbox.image.output import own_platform
    from envbox.lockfile import Base
    from envbox.lockfile.conda_lock_v1 import loads
    from envbox.prefix.unpacked import Wanted, obtain_tree

    data = read_bytes(environment.lock_path)
    lock, platform = loads(data, environment.lock_path), own_platform()
    if words := newer_glibc(lock.for_platform(platform), machine_glibc()):
        raise ImageError(
            f"this machine has glibc {machine_glibc()}, but {words}",
            "use a container, whose base has its own: --engine docker",
        )
    wanted = Wanted(Locked(lock, data, lock.base or Base("", {}, {})), platform, settings)
    unpacked = obtain_tree(wanted, None, report, at_once=at_once)
    here = Here(
        name=environment.name,
        key=unpacked.tree.key,
        prefix=unpacked.tree.prefix,
        env=dict(entry.partition("=")[::2] for entry in image_env(unpacked.activation, ())),
        lock_digest=lock.digest,
        is_compiled=unpacked.is_compiled,
    )
    if not here.is_compiled:
        compiled = settings.cache_dir / "prefixes" / "compiled"  # each module once, not at every start
        return replace(here, env={**here.env, "PYTHONPYCACHEPREFIX": str(compiled)})
    known = canonical_json({**asdict(here), "prefix": str(here.prefix)})
    write_whole(_memo_path(environment, digest_of(data), settings), known)
    return here


def machine_glibc() -> str:
    """X.Y of this machine's C library; what has none of it says 0.0."""
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").rpartition(" ")[2] or "0.0"
    except (ValueError, OSError):
        return "0.0"


def _memo_path(environment: Environment, lock_digest: str, settings: Settings) -> Path:
    key = canonical_json([MEMO_VERSION, __version__, "here", environment.name, lock_digest])
    return settings.cache_dir / "builds" / f"{sha256(key).hexdigest()}.json"
