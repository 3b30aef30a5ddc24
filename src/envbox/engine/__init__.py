"""Engines: what loads images and runs containers. The one that the person's own `docker` command talks to.

The values that other rooms share (`Engine`, `Container`) stand here; how an engine is spoken to stands in a
module of its own, imported when it is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from envbox.errors import ImageError
from envbox.settings import Settings


class MissingLayerError(ImageError):
    """The archive left out a layer that the engine does not have: send all of them."""


@dataclass(frozen=True, slots=True)
class Container:
    """What an engine tells of one container.

    :param state: the engine's own word: created, running, paused, restarting, exited, dead
    :param created: seconds since the epoch
    :param binds: path in the container → path on the host, of what is mounted from there
    """

    id: str
    name: str
    image_id: str
    state: str
    created: int
    labels: Mapping[str, str] = field(default_factory=dict)
    binds: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self.state in ("running", "paused", "restarting")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a container's process ended, while the container is still there."""

    exit_code: int
    out_of_memory: bool = False
    error: str = ""


class Engine(Protocol):
    """What a Docker-compatible engine is asked to do. Every method may raise ToolError when it cannot."""

    @property
    def address(self) -> str:
        """Where it is, for people."""

    @property
    def is_local(self) -> bool:
        """Whether folders of this machine can be mounted."""

    @property
    def platform(self) -> str:
        """The conda platform that its containers run natively."""

    def check(self) -> None:
        """See that it answers, and is new enough."""

    def client_argv(self) -> tuple[str, ...]:
        """The engine's own command-line client, found and ready to be run."""

    def has_image(self, image: str) -> bool:
        """Whether an image, by ID or reference, is there."""

    def chain_ids(self) -> set[str]:
        """The chain IDs of all layers that may be left out of an archive to load."""

    def load(self, stream: Iterator[bytes]) -> None:
        """Load a docker or OCI archive; MissingLayerError when it left out a layer that is not there."""

    def tag(self, image: str, reference: str) -> None:
        """Give an image one more name."""

    def remove_image(self, image: str) -> None:
        """Remove a name, and the image with its last one; nothing when it is not there."""

    def containers(self, labels: Mapping[str, str]) -> tuple[Container, ...]:
        """All containers, dead ones too, that have these labels; the oldest first."""

    def container(self, name: str) -> Container | None:
        """The container of that name or ID."""

    def start(self, container: str) -> None:
        """Start a created container."""

    def wait(self, container: str) -> int:
        """Wait for a container's process to end, and give its exit code."""

    def ending(self, container: str) -> Ending | None:
        """How a container ended; None while it runs."""

    def logs(self, container: str, tail: int | None = None, *, follow: bool = False) -> Iterator[bytes]:
        """What a container has written, stdout and stderr as they came."""

    def stop(self, container: str, grace: int) -> None:
        """Ask a container to end, and end it after `grace` seconds."""

    def remove(self, container: str) -> None:
        """End and remove a container; nothing when it is not there."""


def find_engine(settings: Settings) -> Engine:
    """Find the engine as the docker command does (DOCKER_HOST, contexts). Nothing is sent to it yet.

    :raises ToolError: when docker's configuration cannot be read, or names a context that is not there
    """
    import os

    from envbox.engine.address import find_address
    from envbox.engine.docker import DockerEngine

    return DockerEngine(find_address(os.environ), settings.cache_dir)


def connect(settings: Settings) -> Engine:
    """Find the engine, and see that it answers.

    :raises ToolError: when none answers, or does not let us in, or is too old
    """
    engine = find_engine(settings)
    engine.check()
    return engine
