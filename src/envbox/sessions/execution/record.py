"""What made a result: recorded under the one key that a notebook's metadata has of envbox."""

from __future__ import annotations

from envbox import __version__
from envbox.image_paths import LOCK_LABEL
from envbox.image_paths import PREFIX as IMAGE_PREFIX
from envbox.sessions.launch.bindings import Bind
from envbox.sessions.launch.container import Launch


def made_by(launch: Launch) -> dict[str, str]:
    """Return what a result is stamped with: the environment, its lock, and the image or prefix that it ran
    in.
    """
    made = {"environment": launch.name, "version": __version__}
    if LOCK_LABEL in launch.labels:
        made["lock"] = launch.labels[LOCK_LABEL]
    if launch.prefix is not None:
        return {**made, "prefix": f"sha256:{launch.prefix.parent.name}"}
    prefix = next((m for m in launch.mounts if isinstance(m, Bind) and m.target == IMAGE_PREFIX), None)
    if prefix is None:
        return {**made, "image": launch.image}
    return {**made, "prefix": f"sha256:{prefix.source.parent.name}"}
