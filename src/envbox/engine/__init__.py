"""Engines: what loads images and runs containers. The one that the person's own `docker` command talks to, or
podman where there is no Docker.

The values that other rooms share (`Engine`, `Container`) stand here; how an engine is spoken to stands in a
module of its own, imported when it is needed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from envbox.errors import ImageError
from envbox.oci import Digest


class MissingLayerError(ImageError):
    """The archive left out a layer that the engine does not have: send all of them."""


@dataclass(frozen=True, slots=True)
class EngineContents:
    """What an engine has, so that an archive to load may leave it out.

    :param chain_ids: of layers, where an engine keeps those unpacked
    :param blobs: digests of layers as they were sent, where an engine keeps those
    :param keeps_layers: whether it is layers that the engine keeps
    """

    chain_ids: frozenset[str] = frozenset()
    blobs: frozenset[str] = frozenset()
    keeps_layers: bool = False

    def has(self, chain_id: Digest, blob: Digest) -> bool:
        """Return whether a layer is there, on what lies below it, or as a blob."""
        return chain_id in self.chain_ids or blob in self.blobs


NOTHING = EngineContents()


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
class ExitState:
    """How a container's process ended, while the container is still there."""

    exit_code: int
    out_of_memory: bool = False
    error: str = ""


@dataclass(frozen=True, slots=True)
class RunPolicy:
    """How containers are asked of an engine, where engines differ.

    :param caller: who the caller is in there: the `same` uid; `root`, whom a rootless engine makes of him; or
        the same again, but `kept`, since a rootless one must be asked for it
    :param keeps_groups: whether it can be asked to leave the caller his other groups, when he is kept
    :param is_podman: whether its client is podman's
    :param holds_ports: whether a published port takes connections before anybody is behind it, as podman's
        do, which then wait for ever
    """

    caller: Literal["same", "root", "kept"] = "same"
    keeps_groups: bool = False
    is_podman: bool = False
    holds_ports: bool = False


AS_DOCKER = RunPolicy()


class Engine(Protocol):
    """What a Docker-compatible engine is asked to do. Every method may raise ToolError when it cannot."""

    @property
    def address(self) -> str:
        """Where it is, for people."""

    @property
    def is_local(self) -> bool:
        """Whether folders of this machine can be mounted."""

    @property
    def mount_obstacle(self) -> str | None:
        """What keeps it from mounting files of this machine as they are, in words; None when nothing does."""

    @property
    def platform(self) -> str:
        """The conda platform that its containers run natively."""

    @property
    def reads_zstd(self) -> bool:
        """Whether it loads layers that are compressed with zstd."""

    def check(self) -> None:
        """See that it answers, and is new enough."""

    @property
    def introduction(self) -> str | None:
        """What is to be said of it: that it was found where nobody had named it. None when nothing is."""

    @property
    def ways(self) -> RunPolicy:
        """How containers are asked of it, through its client."""

    def client_argv(self) -> tuple[str, ...]:
        """Return the engine's own command-line client, found and ready to be run."""

    def has_image(self, image: str) -> bool:
        """Return whether an image, by ID or reference, is there."""

    def image_id(self, image: str) -> str | None:
        """Return what the engine calls an image, given by ID or reference; None when it is not there."""

    def save(self, image: str) -> Iterator[bytes]:
        """Yield an image as an archive, as `docker save` gives it, streamed."""

    def is_whole(self, image: str) -> bool:
        """Return whether an image is there, by ID, and all that it consists of."""

    def present(self) -> EngineContents:
        """Return what may be left out of an archive to load. It may be wrong: look at what was loaded."""

    def remember(self, image: str, blobs: Collection[Digest]) -> None:
        """Note of an image that was loaded, and is whole, which layers it was sent as."""

    def load(self, stream: Iterator[bytes]) -> None:
        """Load a docker or OCI archive; MissingLayerError when it left out a layer that is not there."""

    def tag(self, image: str, reference: str) -> None:
        """Give an image one more name."""

    def remove_image(self, image: str) -> None:
        """Remove a name, and the image with its last one; nothing when it is not there."""

    def containers(self, labels: Mapping[str, str]) -> tuple[Container, ...]:
        """Return all containers, dead ones too, that have these labels; the oldest first."""

    def container(self, name: str) -> Container | None:
        """Return the container of that name or ID."""

    def start(self, container: str) -> None:
        """Start a created container."""

    def wait(self, container: str) -> int:
        """Wait for a container's process to end, and give its exit code."""

    def ending(self, container: str) -> ExitState | None:
        """Return how a container ended; None while it runs."""

    def logs(self, container: str, tail: int | None = None, *, follow: bool = False) -> Iterator[bytes]:
        """Yield what a container has written, stdout and stderr as they came."""

    def stop(self, container: str, grace: int) -> None:
        """Ask a container to end, and end it after `grace` seconds."""

    def remove(self, container: str) -> None:
        """End and remove a container; nothing when it is not there."""

    def has_volume(self, name: str) -> bool:
        """Return whether there is a volume of that name."""

    def remove_volume(self, name: str) -> None:
        """Remove a volume and all that is in it; nothing when it is not there."""
