"""An environment as a prefix mounted into a container, with all that its image's configuration would say.

Nothing is compressed, hashed or loaded, except once the base with a home in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from envbox import __version__
from envbox.cache import Memo, memo_key
from envbox.oci import Digest, digest_of
from envbox.project import Environment
from envbox.report import Reporter
from envbox.settings import Settings

if TYPE_CHECKING:
    from envbox.engine import Engine

MEMO_VERSION = 2
UNCOMPILED = {"PYTHONPYCACHEPREFIX": "/tmp/pycache"}  # noqa: S108 - the container's own
"""What a session without byte-code is told, so that each module is compiled once and not at every start."""


@dataclass(frozen=True, slots=True)
class Mounted:
    """An environment as a prefix to be mounted, and the image that it is mounted into.

    :param image: what the engine calls the base with a home in it
    :param key: of the prefix: a hash over what its bytes are a function of
    :param env: the variables that the environment's own image has
    :param labels: that image's labels
    :param is_new: whether it was made by this call
    :param is_compiled: whether it has the image's byte-code
    """

    name: str
    image: str
    key: str
    prefix: Path
    env: Mapping[str, str]
    labels: Mapping[str, str]
    lock_digest: str
    is_new: bool = False
    is_compiled: bool = True


def find_mounted(environment: Environment, settings: Settings, engine: Engine) -> Mounted | None:
    """Return the prefix of an environment's lockfile, if it is there and sound, and so is the image for it.

    :raises LockfileError: when there is no lockfile
    """
    from envbox.lockfile.file import read_lock_bytes
    from envbox.prefixes.tree import find_tree

    mounted = _memo(
        environment.name, digest_of(read_lock_bytes(environment.lock_path)), settings, engine
    ).read()
    if mounted is None:
        return None
    tree = find_tree(settings.cache_dir, mounted.key)
    return mounted if tree and tree.prefix == mounted.prefix and engine.has_image(mounted.image) else None


def mount(
    environment: Environment, settings: Settings, engine: Engine, report: Reporter, *, at_once: bool = False
) -> Mounted:
    """Have the prefix of an environment's lockfile on this machine, and the image for it in the engine.

    :param at_once: do not wait for much byte-code; it is made in another process, for the next call
    :raises LockfileError: when there is no sound lockfile, or none for the engine's platform
    :raises ImageError: when the base is not there, or not fit for the lock
    :raises PackageError: when a package is not what the lock says
    :raises ToolError: when the engine, the registry, a channel or the disk fails
    """
    from envbox.background import in_background
    from envbox.images.assemble import image_labels
    from envbox.images.bare import load_bare
    from envbox.lockfile.file import read_lock_bytes
    from envbox.packages.activation import image_env
    from envbox.prefixes.in_use import prefixes_in_use
    from envbox.prefixes.obtain import obtain_tree
    from envbox.prefixes.request import PrefixRequest
    from envbox.registry.base import pull_base
    from envbox.registry.lock_with_base import read_lock_with_base

    if found := find_mounted(environment, settings, engine):
        return found
    data = read_lock_bytes(environment.lock_path)
    locked = read_lock_with_base(environment, data, engine.platform, settings, report)
    base = pull_base(locked.base, engine.platform, settings)
    loaded: list[str] = []
    with in_background(lambda stop: loaded.append(load_bare(base, settings, engine, report, stop))) as end:
        wanted = PrefixRequest(locked, base.platform, settings)
        unpacked = obtain_tree(wanted, prefixes_in_use(engine), report, at_once=at_once)
        end()
    mounted = Mounted(
        name=environment.name,
        image=loaded[0],
        key=unpacked.tree.key,
        prefix=unpacked.tree.prefix,
        env=dict(
            e.partition("=")[::2]
            for e in image_env(unpacked.activation, (base.config.get("config") or {}).get("Env") or [])
        ),
        labels=image_labels(locked.lock, base, unpacked.created),
        lock_digest=locked.lock.digest,
        is_new=True,
        is_compiled=unpacked.is_compiled,
    )
    if not mounted.is_compiled:
        return replace(mounted, env={**mounted.env, **UNCOMPILED})
    if locked.lock.base is not None:  # else what the base's tag means may change
        _memo(environment.name, digest_of(data), settings, engine).write(mounted)
    return mounted


def _memo(name: str, lock_digest: Digest, settings: Settings, engine: Engine) -> Memo[Mounted]:
    key = memo_key(__version__, MEMO_VERSION, "prefix", name, lock_digest, engine.address)
    return Memo(
        settings.cache_dir / "builds" / f"{key}.json",
        lambda known: Mounted(**{**known, "prefix": Path(known["prefix"])}),
        lambda mounted: {**asdict(mounted), "prefix": str(mounted.prefix), "is_new": False},
    )
