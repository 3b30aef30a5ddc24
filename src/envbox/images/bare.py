"""The base with a home in it and no environment: the image that a mounted prefix is used in."""

from __future__ import annotations

import threading

from envbox.engine import Engine
from envbox.images.assemble import assemble_bare
from envbox.images.layers import build_layers
from envbox.images.load import Loading, known_id
from envbox.packages.activation import home_files
from envbox.packages.link.fragments import files_fragment
from envbox.registry.base import BaseImage
from envbox.report import Reporter
from envbox.settings import Settings

BARE = "envbox-base"


def load_bare(
    base: BaseImage, settings: Settings, engine: Engine, report: Reporter, stop: threading.Event
) -> str:
    """Load the base with a home in it into the engine, and return what the engine calls it."""
    (layer,) = build_layers((), files_fragment("home", home_files(), settings), settings, report)
    image = assemble_bare(base, layer)
    if found := known_id(image, engine):
        return found
    loading = Loading(settings, engine, report)
    loading.bring_base(base, stop)
    return loading.load(image, base, f"{BARE}:{image.id.removeprefix('sha256:')[:12]}")
