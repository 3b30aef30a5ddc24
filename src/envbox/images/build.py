"""From the lockfile to an image in an engine, doing only what is missing.

The lock says everything; nothing here decides. The base is pulled while packages are linked. What was built
is remembered under a key of all that the image is a function of: to build again, with nothing changed,
is a question to the engine and two names.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

from envbox import __version__
from envbox.background import in_background
from envbox.cache import Memo, memo_key
from envbox.errors import ImageError
from envbox.files import open_file
from envbox.lockfile.file import read_lock_bytes
from envbox.oci import Digest, digest_of
from envbox.project import Environment, image_name
from envbox.registry.lock_with_base import LockWithBase, read_lock_with_base
from envbox.report import Reporter
from envbox.settings import Settings

if TYPE_CHECKING:
    from envbox.engine import Engine
    from envbox.images.assemble import Image
    from envbox.packages.link.fragments import Fragment
    from envbox.registry.base import BaseImage

MEMO_VERSION = 2


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An environment's image in an engine.

    :param id: what the engine calls it: `config_digest`, or where the engine keeps blobs, a manifest's digest
    :param config_digest: the same for the same lock everywhere
    :param reference: a name that holds the config's digest; `envbox/NAME:latest` is the same image now
    :param is_new: whether it was loaded by this call
    """

    name: str
    id: str
    config_digest: str
    reference: str
    platform: str
    lock_digest: str
    is_new: bool


def build(
    environment: Environment,
    settings: Settings,
    engine: Engine,
    report: Reporter,
    platform: str | None = None,
) -> BuiltImage:
    """Have the image of an environment's lockfile in the engine.

    :param platform: a conda platform; the engine's own when not said
    :raises LockfileError: when there is no sound lockfile, or none for the platform
    :raises ImageError: when the base is not there, or not fit for the lock
    :raises PackageError: when a package is not what the lock says
    :raises ToolError: when the engine, the registry, a channel or the disk fails
    """
    platform = platform or engine.platform
    if remembered := find_built(environment, settings, engine, platform):
        return remembered
    data = read_lock_bytes(environment.lock_path)
    from envbox.images.early_load import EarlyLoader
    from envbox.images.load import Loading
    from envbox.images.record import record_of, remember_record
    from envbox.registry.base import pull_base

    locked = read_lock_with_base(environment, data, platform, settings, report)
    base = pull_base(locked.base, platform, settings)
    loading = Loading(settings, engine, report)
    with EarlyLoader(loading, base) as ahead:
        image = make_image(locked, base, settings, report, ahead)
        reference = image_reference(environment.name, image.id)
        known = loading.find(image)
        built = BuiltImage(
            name=environment.name,
            id=known or loading.load(image, base, reference, ahead.gate),
            config_digest=image.id,
            reference=reference,
            platform=platform,
            lock_digest=locked.lock.digest,
            is_new=known is None,
        )
        _tag(built, engine)
    remember_record(built.id, record_of(image, locked.lock, platform), settings)
    if locked.lock.base is not None:  # else what the base's tag means may change
        _memo(environment.name, digest_of(data), platform, settings).write(built)
    return built


def find_built(
    environment: Environment, settings: Settings, engine: Engine, platform: str
) -> BuiltImage | None:
    """Return the image of an environment's lockfile if it is in the engine; asking costs next to nothing.

    :raises LockfileError: when there is no lockfile
    """
    digest = digest_of(read_lock_bytes(environment.lock_path))
    built = _memo(environment.name, digest, platform, settings).read()
    if built is None or not engine.has_image(built.id):
        return None
    _tag(built, engine)
    return built


def image_reference(name: str, image_id: Digest) -> str:
    """Return the name that an environment's image has in an engine: by content, so it never means another
    image.
    """
    return f"{repository(name)}:{image_id.removeprefix('sha256:')[:12]}"


def repository(name: str) -> str:
    """Return the repository of an environment's images. No two environments of a project have the same."""
    return f"envbox/{image_name(name)}"


# --- nothing changed ----------------------------------------------------------------------------------------


def _memo(name: str, lock_digest: Digest, platform: str, settings: Settings) -> Memo[BuiltImage]:
    key = memo_key(MEMO_VERSION, __version__, name, lock_digest, platform)
    return Memo(
        settings.cache_dir / "builds" / f"{key}.json",
        lambda known: BuiltImage(is_new=False, **known),
        lambda built: {key: value for key, value in asdict(built).items() if key != "is_new"},
    )


def _tag(built: BuiltImage, engine: Engine) -> None:
    engine.tag(built.id, built.reference)
    engine.tag(built.id, f"{repository(built.name)}:latest")


# --- from the lock to an image ------------------------------------------------------------------------------


class BuildObserver(Protocol):
    """What is done in another thread while an image's packages are linked in processes of their own."""

    def work(self, stop: threading.Event) -> None:
        """Do it; the event says that it is called off."""

    def begin(self, plan: Sequence[Sequence[str]]) -> None:
        """Be told which packages will be in which layer, from the lowest of ours up."""

    def see(self, fragment: Fragment) -> None:
        """Be told of a package that is linked."""

    def end(self) -> None:
        """Be told that all are linked."""


class _NothingElse:
    def work(self, stop: threading.Event) -> None: ...

    def begin(self, plan: Sequence[Sequence[str]]) -> None: ...

    def see(self, fragment: Fragment) -> None: ...

    def end(self) -> None: ...


NOTHING_ELSE: BuildObserver = _NothingElse()


def make_image(
    locked: LockWithBase,
    base: BaseImage,
    settings: Settings,
    report: Reporter,
    meanwhile: BuildObserver = NOTHING_ELSE,
) -> Image:
    """Make what is missing of an image's parts, and put them together; no engine has to do with it.

    :param base: for the platform that the image is for
    :param meanwhile: what else is done while packages are linked
    """
    from envbox.images.assemble import Parts, assemble
    from envbox.images.layers import build_layers, plan_groups
    from envbox.packages.activation import environment_files, read_activation
    from envbox.packages.fetch import fetch_archives
    from envbox.packages.link.fragments import archive_sizes, files_fragment, fragment_maker
    from envbox.packages.link.packages import Installation, link_lock

    lock, platform = locked.lock, base.platform
    with in_background(meanwhile.work) as finish:
        archives = fetch_archives(lock.for_platform(platform), settings, report)
        meanwhile.begin(plan_groups(archive_sizes(lock.for_platform(platform), archives)))
        maker = fragment_maker(meanwhile.see)
        fragments = link_lock(Installation(lock, platform, archives), settings, report, maker)
        meanwhile.end()
        paths = (path for fragment in fragments for path in fragment.paths)
        activation = read_activation(lock, paths, _variables_files(fragments))
        created = max((fragment.timestamp for fragment in fragments), default=0)
        files = environment_files(lock, platform, locked.data, activation, created)
        own = files_fragment("environment", files, settings)
        layers = build_layers(fragments, own, settings, report)
        finish()
    return assemble(lock, Parts(base, layers, activation, created))


def _variables_files(fragments: Sequence[Fragment]) -> Mapping[str, bytes]:
    """Return the env_vars.d files of the packages; few have one, so hardly ever is a fragment read."""
    from envbox.packages.activation import is_variables_file

    wanted = [(f, path) for f in fragments for path in f.paths if is_variables_file(path)]
    return {path: _file_in(fragment, path) for fragment, path in wanted}


def _file_in(fragment: Fragment, path: str) -> bytes:
    import zstandard

    from envbox.packages.link.tar import TarReader

    with open_file(fragment.path) as file:
        reader = TarReader(io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file)))
        for member in reader:
            if member.name == path:
                return bytes(reader.read())
    raise ImageError(f"the fragment of {fragment.name} in the cache is damaged: it has no {path}")
