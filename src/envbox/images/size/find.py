"""From a name to the sizes of an image in the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from envbox.errors import ImageError
from envbox.images.size import Sizes

if TYPE_CHECKING:
    from envbox.engine import Engine
    from envbox.project import Project
    from envbox.report import Reporter


def sizes_of_named_image(
    name: str,
    project: Project,
    connect: Callable[[], Engine],
    report: Reporter,
    platform: str | None = None,
) -> Sizes:
    """Give the sizes of an image that somebody named.

    :param connect: gives the engine
    :raises EnvboxError: when there is none of that name, or it cannot be read
    """
    from envbox.images.size.image import sizes_of_image

    names = [environment.name for environment in project.environments]
    if platform is not None:
        raise ImageError(f"{name} is an image, which has the platform that it has", "leave --platform away")
    engine = connect()
    if engine.image_id(name) is None:
        words = f"the environments are {', '.join(names)}" if names else "there is no environment here"
        raise ImageError(f"there is no environment {name}, and no such image in the engine", words)
    return sizes_of_image(name, engine, report)
