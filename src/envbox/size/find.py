"""From a name to sizes: an environment of the project, or an image in the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from envbox.errors import ImageError
from envbox.size import Sizes

if TYPE_CHECKING:
    from envbox.engine import Engine
    from envbox.project import Project
    from envbox.report import Reporter
    from envbox.settings import Settings


def find_sizes(
    name: str | None,
    project: Project,
    connect: Callable[[], Engine],
    settings: Settings,
    report: Reporter,
    platform: str | None = None,
) -> Sizes:
    """Give the sizes of an environment by its lockfile, or of an image.

    :param name: of an environment, else of an image; without, the project's one environment is meant
    :param connect: gives the engine; an environment needs none
    :raises EnvboxError: when there is neither, or it cannot be read
    """
    from envbox.size.locked import sizes_of_lock
    from envbox.size.saved import sizes_of_image

    names = [environment.name for environment in project.environments]
    if name is None or name in names:
        return sizes_of_lock(project.environment(name), settings, report, platform)
    if platform is not None:
        raise ImageError(f"{name} is an image, which has the platform that it has", "leave --platform away")
    engine = connect()
    if engine.image_id(name) is None:
        words = f"the environments are {', '.join(names)}" if names else "there is no environment here"
        raise ImageError(f"there is no environment {name}, and no such image in the engine", words)
    return sizes_of_image(name, engine, report)
