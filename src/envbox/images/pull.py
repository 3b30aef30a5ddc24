"""`envbox pull`: an image out of a registry into the engine, without the engine's own pull.

Blobs are verified and kept like a base's; layers that the engine has are left out, and what it cannot read is
unpacked on the way. An image that was made here and one that was pulled are the same to it: the ID is the
config's digest.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from hashlib import sha256

from envbox.cache import Memo
from envbox.engine import Engine
from envbox.errors import ImageError, ToolError
from envbox.image_paths import FORMAT_LABEL
from envbox.images.assemble import Image
from envbox.images.build import image_reference
from envbox.images.load import Loading, known_id
from envbox.lockfile import Base
from envbox.oci import Digest
from envbox.project import is_sound_name
from envbox.registry import Access, Reference, fetch_config, fetch_manifest, resolve
from envbox.registry.base import pull_base
from envbox.report import Reporter
from envbox.settings import Settings


@dataclass(frozen=True, slots=True)
class PulledImage:
    """An image of a registry, in the engine.

    :param name: the environment's, as the image says; for one that envbox did not make, the repository's
    :param id: what the engine calls it
    :param reference: a name that it has in the engine: the tag that was pulled, else one by content
    :param digest: of its manifest, in the registry
    :param is_ours: whether envbox made it
    :param is_new: whether it was loaded by this call
    """

    name: str
    id: str
    config_digest: str
    reference: str
    digest: str
    platform: str
    is_ours: bool
    is_new: bool


def pull(
    reference: Reference, settings: Settings, engine: Engine, report: Reporter, *, only_ours: bool = False
) -> PulledImage:
    """Have an image of the engine's platform in the engine.

    :param only_ours: refuse one that envbox did not make, before it is fetched
    :raises ImageError: when there is none, or none for the platform, or it is damaged
    :raises ToolError: when the registry or the engine fails
    """
    platform = engine.platform
    digest = _resolve(reference, platform, settings)[platform]
    source = pull_base(Base(str(reference), {platform: digest}, {}), platform, settings)
    manifest = fetch_manifest(Access(reference, settings), digest, settings)
    config = fetch_config(Access(reference, settings), manifest, settings)
    image = Image(config, manifest.dumps(), source.layers)
    labels = (source.config.get("config") or {}).get("Labels") or {}
    is_ours = FORMAT_LABEL in labels
    if only_ours and not is_ours:
        raise ImageError(
            f"{reference} is not an image that envbox made: it has no label {FORMAT_LABEL}",
            f"docker run -it --rm {reference}",
        )
    title = labels.get("org.opencontainers.image.title", "") if is_ours else ""
    name = title if is_sound_name(title) else reference.repository.rpartition("/")[2]
    local = image_reference(name, image.id)
    known = known_id(image, engine)
    if known is None:
        loading = Loading(settings, engine, report)
        loading.bring_base(source)
        found = loading.load(image, source, local)
    else:
        found = known
        engine.tag(found, local)
    if reference.digest is None:
        local = f"{reference.name}:{reference.tag}"
        engine.tag(found, local)
    pulled = PulledImage(name, found, image.id, local, digest, platform, is_ours, known is None)
    _memo(reference, settings).write(pulled)
    return pulled


def pulled_before(reference: Reference, settings: Settings, engine: Engine) -> PulledImage | None:
    """Return what a reference meant when it was last pulled, if the engine still has it."""
    pulled = _memo(reference, settings).read()
    return pulled if pulled and engine.has_image(pulled.id) else None


def pull_to_launch(reference: Reference, settings: Settings, engine: Engine, report: Reporter) -> PulledImage:
    """Return an image that envbox made, to start containers from; without its registry, the one pulled last.

    :raises ImageError: when envbox did not make it, and what `pull` can raise
    """
    try:
        return pull(reference, settings, engine, report, only_ours=True)
    except ToolError as error:
        before = pulled_before(reference, settings, engine)
        if before is None or not before.is_ours:
            raise
        report.warn(f"{error.message}; taking {reference} as it was when it was last pulled")
        return before


def _resolve(reference: Reference, platform: str, settings: Settings) -> dict[str, Digest]:
    try:
        return resolve(reference, [platform], settings)
    except ImageError as error:
        if error.hint and "base" in error.hint:  # what `resolve` advises is for bases
            raise ImageError(error.message, "check the registry, the name and the tag") from error
        raise


def _memo(reference: Reference, settings: Settings) -> Memo[PulledImage]:
    path = settings.cache_dir / "builds" / f"{sha256(f'pulled {reference}'.encode()).hexdigest()}.json"
    return Memo(path, lambda known: PulledImage(**known | {"is_new": False}), asdict)
