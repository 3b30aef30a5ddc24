"""The instant road: an environment's prefix on this machine, to be mounted where the image would have it.

From the lock to a container without layers: nothing is compressed, hashed or loaded, except once the base,
with a home in it. `tree` makes and checks the prefix, `place` says whether it can be mounted from here, and
`mount` puts both together. What the image's config would say (variables, labels) comes with the prefix.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from envbox import __version__
from envbox.files import only_one, write_whole
from envbox.oci import Digest, canonical_json, digest_of
from envbox.project import Environment
from envbox.report import Reporter
from envbox.settings import Settings

if TYPE_CHECKING:
    from envbox.base import BaseImage
    from envbox.engine import Engine
    from envbox.image.activation import Activation
    from envbox.image.build import Locked
    from envbox.prefix.tree import Tree

MEMO_VERSION = 1
BARE = "envbox-base"


@dataclass(frozen=True, slots=True)
class Mounted:
    """An environment as a prefix to be mounted, and the image that it is mounted into.

    :param image: what the engine calls the base with a home in it
    :param key: of the prefix: a hash over what its bytes are a function of
    :param env: the variables that the environment's own image has
    :param labels: that image's labels
    :param is_new: whether it was made by this call
    """

    name: str
    image: str
    key: str
    prefix: Path
    env: Mapping[str, str]
    labels: Mapping[str, str]
    lock_digest: str
    is_new: bool = False


def find_mounted(environment: Environment, settings: Settings, engine: Engine) -> Mounted | None:
    """The prefix of an environment's lockfile, if it is there and sound, and so is the image for it.

    :raises LockfileError: when there is no lockfile
    """
    from envbox.image.build import read_bytes
    from envbox.prefix.tree import find_tree

    memo = _memo_path(environment.name, digest_of(read_bytes(environment.lock_path)), settings, engine)
    try:
        known = json.loads(memo.read_bytes())
        mounted = Mounted(prefix=Path(known.pop("prefix")), is_new=False, **known)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    tree = find_tree(settings.cache_dir, mounted.key)
    return mounted if tree and tree.prefix == mounted.prefix and engine.has_image(mounted.image) else None


def mount(environment: Environment, settings: Settings, engine: Engine, report: Reporter) -> Mounted:
    """Have the prefix of an environment's lockfile on this machine, and the image for it in the engine.

    :raises LockfileError: when there is no sound lockfile, or none for the engine's platform
    :raises ImageError: when the base is not there, or not fit for the lock
    :raises PackageError: when a package is not what the lock says
    :raises ToolError: when the engine, the registry, a channel or the disk fails
    """
    from envbox.base import pull_base
    from envbox.image.activation import image_env
    from envbox.image.assemble import image_labels
    from envbox.image.build import read_bytes, read_locked, working_beside

    if found := find_mounted(environment, settings, engine):
        return found
    data = read_bytes(environment.lock_path)
    locked = read_locked(environment, data, engine.platform, settings, report)
    base = pull_base(locked.base, engine.platform, settings)
    loaded: list[str] = []
    with working_beside(lambda stop: loaded.append(_load_bare(base, settings, engine, report, stop))) as end:
        tree, activation, created = _obtain_tree(locked, base, settings, engine, report)
        end()
    mounted = Mounted(
        name=environment.name,
        image=loaded[0],
        key=tree.key,
        prefix=tree.prefix,
        env=dict(
            e.partition("=")[::2]
            for e in image_env(activation, (base.config.get("config") or {}).get("Env") or [])
        ),
        labels=image_labels(locked.lock, base, created),
        lock_digest=locked.lock.digest,
        is_new=True,
    )
    if locked.lock.base is not None:  # else what the base's tag means may change
        _remember(_memo_path(environment.name, digest_of(data), settings, engine), mounted)
    return mounted


def prefixes_in_use(engine: Engine) -> frozenset[str]:
    """The keys of the prefixes that containers of an engine have mounted."""
    from envbox.inside import PREFIX

    sources = [container.binds.get(PREFIX) for container in engine.containers({})]
    return frozenset(Path(source).parent.name for source in sources if source)


def _obtain_tree(
    locked: Locked, base: BaseImage, settings: Settings, engine: Engine, report: Reporter
) -> tuple[Tree, Activation, int]:
    """The tree, what activates it, and the newest package's time in seconds."""
    from envbox.fetch import fetch_archives
    from envbox.link.folders import forget_folder
    from envbox.prefix.making import DamagedError, clear_leftovers
    from envbox.prefix.tree import PLACE

    archives = fetch_archives(locked.lock.for_platform(base.platform), settings, report)
    place = settings.cache_dir / PLACE
    place.mkdir(parents=True, exist_ok=True)
    with only_one(place / ".lock"):  # two that start at once would only do the same work twice
        clear_leftovers(settings.cache_dir, prefixes_in_use(engine))
        try:
            return _unpack(locked, base, archives, settings, report)
        except DamagedError as error:
            report.detail(f"{error.message}: unpacking them again")
            for folder in error.folders:
                forget_folder(folder)
        return _unpack(locked, base, archives, settings, report)


def _unpack(
    locked: Locked, base: BaseImage, archives: Mapping[str, Path], settings: Settings, report: Reporter
) -> tuple[Tree, Activation, int]:
    from envbox.image.activation import environment_files, home_files, is_variables_file, read_activation
    from envbox.link.folders import unpack_packages
    from envbox.prefix.making import make_tree, tree_key
    from envbox.prefix.tree import find_tree

    lock, platform = locked.lock, base.platform
    folders = unpack_packages(lock, platform, archives, settings, report)
    files = [file for folder in folders for file in folder.files]
    variables = {f.path: Path(f.source).read_bytes() for f in files if is_variables_file(f.path)}
    paths = [*(file.path for file in files), *(link.path for folder in folders for link in folder.links)]
    activation = read_activation(lock, paths, variables)
    created = max((folder.timestamp for folder in folders), default=0)
    own = environment_files(lock, platform, locked.data, activation, created)
    own = {path: entry for path, entry in own.items() if path not in home_files()}
    tree = find_tree(settings.cache_dir, tree_key(folders, own))
    return tree or make_tree(folders, own, settings.cache_dir), activation, created


def _load_bare(
    base: BaseImage, settings: Settings, engine: Engine, report: Reporter, stop: threading.Event
) -> str:
    """Have the base with a home in it in the engine; what the engine calls it is returned."""
    from envbox.image.activation import home_files
    from envbox.image.assemble import assemble_bare
    from envbox.image.layers import build_layers
    from envbox.image.load import Loading, known_id
    from envbox.link.fragments import files_fragment

    (layer,) = build_layers((), files_fragment("home", home_files(), settings), settings, report)
    image = assemble_bare(base, layer)
    if found := known_id(image, engine):
        return found
    loading = Loading(settings, engine, report)
    loading.bring_base(base, stop)
    return loading.load(image, base, f"{BARE}:{image.id.removeprefix('sha256:')[:12]}")


def _memo_path(name: str, lock_digest: Digest, settings: Settings, engine: Engine) -> Path:
    key = canonical_json([MEMO_VERSION, __version__, "prefix", name, lock_digest, engine.address])
    return settings.cache_dir / "builds" / f"{sha256(key).hexdigest()}.json"


def _remember(path: Path, mounted: Mounted) -> None:
    known = {**asdict(mounted), "prefix": str(mounted.prefix)}
    write_whole(path, canonical_json({key: value for key, value in known.items() if key != "is_new"}))
