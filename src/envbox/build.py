"""From the lockfile to an image in an engine, doing only what is missing.

The lock says everything; nothing here decides. The base is pulled while packages are linked. What was built
is remembered under a key of all that the image is a function of: to build again, with nothing changed,
is a question to the engine and two names.
"""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from envbox import __version__
from envbox.errors import ImageError
from envbox.files import write_whole
from envbox.oci import Digest, canonical_json, chain_ids, digest_of
from envbox.project import Environment
from envbox.report import Reporter
from envbox.settings import Settings

if TYPE_CHECKING:
    from envbox.base import BaseImage
    from envbox.engine import Engine
    from envbox.fragments import Fragment
    from envbox.image import Image
    from envbox.lockfile import Base, Lock

MEMO_VERSION = 1
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An environment's image in an engine.

    :param id: the config's digest: the same for the same lock everywhere
    :param reference: what to run, a name that holds the ID; `envbox/NAME:latest` is the same image now
    :param is_new: whether it was loaded by this call
    """

    name: str
    id: str
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
    data = _read(environment.lock_path)
    memo = _memo_path(environment.name, digest_of(data), platform, settings)
    if known := _remembered(memo, engine):
        return known
    tools = _Tools(settings, engine, report)
    lock, base = _locked(environment, data, platform, tools)
    made = _assemble(lock, data, base, platform, tools)
    reference = image_reference(environment.name, made.image.id)
    known_id = _present_id(made.image, engine)
    engine_id = known_id or _load(made, reference, tools)
    built = BuiltImage(
        environment.name, made.image.id, reference, platform, lock.digest, is_new=known_id is None
    )
    _tag(engine_id, built, engine)
    if lock.base is not None:  # else what the base's tag means may change
        _remember(memo, built, engine_id)
    return built


def image_reference(name: str, image_id: Digest) -> str:
    """The name that an environment's image has in an engine: by content, so it never means another image."""
    return f"{repository(name)}:{image_id.removeprefix('sha256:')[:12]}"


def repository(name: str) -> str:
    """An environment's name as a repository, where only lower case and single separators are allowed."""
    return "envbox/" + (re.sub(r"[._-]{2,}|[^a-z0-9._-]+", "-", name.lower()).strip("._-") or "environment")


# --- nothing changed ----------------------------------------------------------------------------------------


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        from envbox.lockfile.conda_lock_v1 import read_lockfile

        read_lockfile(path)  # says why in words
        raise


def _memo_path(name: str, lock_digest: Digest, platform: str, settings: Settings) -> Path:
    key = canonical_json([MEMO_VERSION, __version__, name, lock_digest, platform])
    return settings.cache_dir / "builds" / f"{sha256(key).hexdigest()}.json"


def _remember(path: Path, built: BuiltImage, engine_id: str) -> None:
    fields = {name: getattr(built, name) for name in ("name", "id", "reference", "platform", "lock_digest")}
    write_whole(path, canonical_json({"engine_id": engine_id, "image": fields}))


def _remembered(path: Path, engine: Engine) -> BuiltImage | None:
    try:
        known = json.loads(path.read_bytes())
        built, engine_id = BuiltImage(is_new=False, **known["image"]), str(known["engine_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not engine.has_image(engine_id):
        return None
    _tag(engine_id, built, engine)
    return built


def _tag(engine_id: str, built: BuiltImage, engine: Engine) -> None:
    engine.tag(engine_id, built.reference)
    engine.tag(engine_id, f"{repository(built.name)}:latest")


# --- from the lock to an image ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Tools:
    settings: Settings
    engine: Engine
    report: Reporter


@dataclass(frozen=True, slots=True)
class _Assembled:
    """An image, and the chain IDs that the engine has; the base's other layers are in the cache."""

    image: Image
    base: BaseImage
    present: frozenset[str]


def _locked(environment: Environment, data: bytes, platform: str, tools: _Tools) -> tuple[Lock, Base]:
    """The lock and the base that it stands on, both fit for the platform."""
    from envbox.base import check_glibc, resolve_base
    from envbox.lockfile.conda_lock_v1 import loads

    lock = loads(data, environment.lock_path)
    packages = lock.for_platform(platform)
    base = lock.base
    if base is None:
        reference = tools.settings.for_environment(environment.name).base or tools.settings.base
        tools.report.say(f"the lockfile pins no base: taking {reference} as it is now")
        base = resolve_base(reference, [platform], tools.settings, tools.report)
    check_glibc(packages, base, platform)
    return lock, base


def _assemble(lock: Lock, data: bytes, base: Base, platform: str, tools: _Tools) -> _Assembled:
    """Make what is missing of an image's parts, and put them together."""
    from envbox.activation import environment_files, read_activation
    from envbox.base import pull_base
    from envbox.fetch import fetch_archives
    from envbox.fragments import files_fragment, link_packages
    from envbox.image import Parts, assemble
    from envbox.layers import build_layers

    settings, report = tools.settings, tools.report
    base_image = pull_base(base, platform, settings)

    def bring_base(stop: threading.Event) -> frozenset[str]:
        present = frozenset(tools.engine.chain_ids())
        _fetch_base(base_image, present, tools, stop)
        return present

    with _beside(bring_base) as brought:
        archives = fetch_archives(lock.for_platform(platform), settings, report)
        fragments = link_packages(lock, platform, archives, settings, report)
        paths = (path for fragment in fragments for path in fragment.paths)
        activation = read_activation(lock, paths, _variables_files(fragments))
        created = max((fragment.timestamp for fragment in fragments), default=0)
        files = environment_files(lock, platform, data, activation, created)
        own = files_fragment("environment", files, settings)
        layers = build_layers(fragments, own, settings, report)
        present = brought()
    image = assemble(lock, platform, Parts(base_image, layers, activation, created))
    return _Assembled(image, base_image, present)


def _fetch_base(
    base: BaseImage, present: frozenset[str], tools: _Tools, stop: threading.Event | None = None
) -> None:
    from envbox.base import fetch_layers

    chain = chain_ids([layer.diff_id for layer in base.layers])
    wanted = [layer for layer, c in zip(base.layers, chain, strict=True) if c not in present]
    fetch_layers(base, wanted, tools.settings, tools.report, stop)


@contextmanager
def _beside(work: Callable[[threading.Event], Result]) -> Iterator[Callable[[], Result]]:
    """Do work in another thread while the block runs, and call it off when the block fails."""
    stop = threading.Event()
    with ThreadPoolExecutor(1, "beside") as pool:
        future = pool.submit(work, stop)
        try:
            yield future.result
        except BaseException:
            stop.set()
            raise


def _variables_files(fragments: Sequence[Fragment]) -> Mapping[str, bytes]:
    """The env_vars.d files of the packages; few have one, so hardly ever is a fragment read."""
    from envbox.activation import is_variables_file

    wanted = [(f, path) for f in fragments for path in f.paths if is_variables_file(path)]
    return {path: _file_in(fragment, path) for fragment, path in wanted}


def _file_in(fragment: Fragment, path: str) -> bytes:
    import zstandard

    from envbox.tar import TarReader

    with fragment.path.open("rb") as file:
        reader = TarReader(io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file)))
        for member in reader:
            if member.name == path:
                return bytes(reader.read())
    raise ImageError(f"the fragment of {fragment.name} in the cache is damaged: it has no {path}")


# --- into the engine ----------------------------------------------------------------------------------------


def _present_id(image: Image, engine: Engine) -> str | None:
    """What the engine calls the image, if it has it: by config, or where blobs are kept, by manifest."""
    from envbox.archive import load_manifest

    names = (image.id, digest_of(load_manifest(image)))
    return next((name for name in names if engine.has_image(name)), None)


def _load(made: _Assembled, reference: str, tools: _Tools) -> str:
    """Send what the engine lacks; if that was more than it said, everything, once."""
    from envbox.engine import MissingLayerError

    try:
        _send(made.image, reference, made.present, tools)
    except MissingLayerError:
        if not made.present:
            raise
    if found := _present_id(made.image, tools.engine):
        return found
    tools.report.detail("the engine lacks a layer that it seemed to have: sending all of them")
    _fetch_base(made.base, frozenset(), tools)
    _send(made.image, reference, frozenset(), tools)
    if found := _present_id(made.image, tools.engine):
        return found
    raise ImageError(
        f"the engine loaded {reference}, but has no image {made.image.id}",
        "it may rewrite images on load; please report it, with what `docker version` prints",
    )


def _send(image: Image, reference: str, present: frozenset[str], tools: _Tools) -> None:
    from envbox.archive import image_archive, missing_layers, sent_size

    missing = missing_layers(image, present)
    size, reused = sent_size(missing), len(image.layers) - len(missing)
    tools.report.say(f"layers: {len(missing)} new ({_megabytes(size)} to load), {reused} reused")
    with ExitStack() as stack:
        task = stack.enter_context(tools.report.task("loading into the engine", size, "bytes"))

        def counted() -> Iterator[bytes]:
            for piece in image_archive(image, reference, present):
                yield piece
                task.advance(len(piece))
            # the engine has read all, and only now begins to unpack
            stack.close()
            stack.enter_context(tools.report.task("unpacking in the engine"))

        tools.engine.load(counted())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"
