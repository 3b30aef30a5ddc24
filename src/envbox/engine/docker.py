"""Docker and what speaks its API. Questions go straight to the socket, the rest through the docker SDK."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from envbox.engine import Container, EngineContents, ExitState, RunPolicy
from envbox.engine.address import Address
from envbox.engine.client import Client, EngineInfo, facts_of, find_client, ways_of
from envbox.engine.http_socket import SECONDS, ask
from envbox.engine.locality import kernel_and_name, obstacle
from envbox.engine.memo import EngineMemo
from envbox.engine.sdk import engine_errors, make_client, unreachable
from envbox.engine.store import Store
from envbox.errors import ImageError, ToolError
from envbox.oci import Digest
from envbox.platforms import conda_platform, image_platform

if TYPE_CHECKING:
    from docker import APIClient

OLDEST_API = (1, 40)  # Docker 19.03, the first with --gpus and a --mount that does all of --volume
ZSTD_API = (1, 42)  # Docker 23
NOT_FOUND, NOT_MODIFIED, CONFLICT = 404, 304, 409
PATIENCE = 20  # seconds for the removal of a container


class DockerEngine:
    """An engine at an address. Nothing is sent before the first question."""

    def __init__(self, address: Address, cache_dir: Path) -> None:
        self._address = address
        self._clients: dict[int | None, APIClient] = {}
        self._folder = cache_dir / "engine"
        self._store = Store(self._json, self._folder)

    @property
    def address(self) -> str:
        """Where it is, and who says so."""
        return str(self._address)

    @property
    def is_local(self) -> bool:
        """Whether folders of this machine can be mounted: a socket is taken to be of this machine."""
        return self._address.url.startswith(("unix://", "npipe://"))

    @cached_property
    def mount_obstacle(self) -> str | None:
        """What keeps it from mounting files of this machine as they are, in words; None when nothing does."""
        if not self.is_local:
            return "the engine is another machine's"
        return obstacle(self._json("/info"), *kernel_and_name())

    @cached_property
    def platform(self) -> str:
        """The conda platform of the engine.

        :raises ToolError: when its containers are not Linux, or of an architecture that conda does not have
        """
        with suppress(ImageError):
            if known := self._memo.read("platforms"):
                image_platform(known)
                return known
        said = self._json("/version")
        platform = conda_platform(str(said.get("Arch"))) if said.get("Os") == "linux" else None
        if platform is None:
            raise ToolError(
                f"the engine at {self.address} runs {said.get('Os')}/{said.get('Arch')} containers",
                "switch it to Linux containers, or use another engine (DOCKER_HOST)",
            )
        self._memo.keep("platforms", platform)
        return platform

    @property
    def _memo(self) -> EngineMemo:
        return EngineMemo(self._folder, self._address, self._ping.get("server"))

    @property
    def _is_podman(self) -> bool:
        return self._ping.get("server", "").startswith("Libpod/")

    @property
    def reads_zstd(self) -> bool:
        """Whether it loads layers that are compressed with zstd: podman always has."""
        return self._api >= ZSTD_API or self._is_podman

    def check(self) -> None:
        """See that the engine answers, and is new enough.

        :raises ToolError: when not
        """
        if self._api < OLDEST_API:
            raise ToolError(
                f"the engine at {self.address} is too old: API {self._version}",
                f"envbox needs API {'.'.join(map(str, OLDEST_API))} (Docker 19.03) or newer",
            )

    @property
    def introduction(self) -> str | None:
        """What is to be said of an engine that nobody has named, once it answers; None when nothing is."""
        if not self._address.is_found:
            return None
        name = self._ping.get("server", "the engine").split(" ")[0].replace("Libpod/", "podman ")
        return f"{name} at {self.address}, since no Docker answers"

    @cached_property
    def ways(self) -> RunPolicy:
        """How containers are asked of it, through its client.

        :raises ToolError: when that is not installed
        """
        return ways_of(self._facts(), is_podman=self._client.is_podman, of_podman=self._is_podman)

    def _facts(self) -> EngineInfo:
        with suppress(ValueError):
            if known := self._memo.read("facts"):
                return EngineInfo.loads(known)
        facts = facts_of(self._json("/info") or {})
        self._memo.keep("facts", facts.dumps())
        return facts

    def client_argv(self) -> tuple[str, ...]:
        """Return the docker command, or podman's.

        :raises ToolError: when it is not installed
        """
        return self._client.argv

    @cached_property
    def _client(self) -> Client:
        return find_client(self._address, is_podman=self._is_podman)

    # --- images

    def has_image(self, image: str) -> bool:
        """Return whether an image, by ID or reference, is there."""
        return self._json(f"/images/{quote(image)}/json") is not None

    def image_id(self, image: str) -> str | None:
        """Return what the engine calls an image, given by ID or reference; None when it is not there."""
        inspected = self._json(f"/images/{quote(image)}/json")
        return None if inspected is None else str(inspected["Id"])

    def save(self, image: str) -> Iterator[bytes]:
        """Yield an image as an archive, as `docker save` gives it, streamed.

        :raises ToolError: when it is not there, or the transfer breaks off
        """
        with self._errors(f"save the image {image}"):
            yield from self._sdk(seconds=None).get_image(image, chunk_size=1 << 20)

    def is_whole(self, image: str) -> bool:
        """Return whether an image is there, by ID, and all that it consists of."""
        return self._store.is_whole(image)

    def present(self) -> EngineContents:
        """Return what may be left out of an archive to load."""
        return self._store.present()

    def remember(self, image: str, blobs: Collection[Digest]) -> None:
        """Note of an image that was loaded, and is whole, which layers it was sent as."""
        self._store.remember(image, blobs)

    def load(self, stream: Iterator[bytes]) -> None:
        """Load a docker or OCI archive.

        :raises MissingLayerError: when it left out a layer that the engine does not have
        :raises ImageError: when the engine refuses it, with the engine's words
        :raises ToolError: when the engine goes away
        """
        from envbox.engine.load import load

        with self._errors("load an image"):
            load(self._sdk(seconds=None), stream)

    def tag(self, image: str, reference: str) -> None:
        """Give an image one more name."""
        repository, _, tag = reference.rpartition(":")
        query = urlencode({"repo": repository, "tag": tag})
        status, _, body = self._ask("POST", f"/images/{quote(image)}/tag?{query}")
        if status >= 400:
            raise self._refused(f"tag {image} as {reference}", body)

    def remove_image(self, image: str) -> None:
        """Remove a name, and the image with its last one; nothing when it is not there."""
        with self._errors(f"remove the image {image}", NOT_FOUND):
            self._sdk().remove_image(image)

    # --- containers

    def containers(self, labels: Mapping[str, str]) -> tuple[Container, ...]:
        """Return all containers, dead ones too, that have these labels; the oldest first."""
        filters = json.dumps({"label": [f"{key}={value}" for key, value in labels.items()]})
        listed = self._json(f"/containers/json?all=1&filters={quote(filters)}")
        return tuple(sorted(map(_listed, listed), key=lambda c: (c.created, c.name)))

    def container(self, name: str) -> Container | None:
        """Return the container of that name or ID."""
        inspected = self._json(f"/containers/{quote(name)}/json")
        if inspected is None:
            return None
        wanted = quote(json.dumps({"id": [inspected["Id"]]}))
        listed = self._json(f"/containers/json?all=1&filters={wanted}")
        return _listed(listed[0]) if listed else None

    def start(self, container: str) -> None:
        """Start a created container.

        :raises ToolError: when it cannot be, with the engine's words
        """
        self._do("start a container", "POST", f"/containers/{quote(container)}/start", NOT_MODIFIED)

    def wait(self, container: str) -> int:
        """Wait for a container's process to end, and give its exit code."""
        with self._errors("wait for a container"):
            return int(self._sdk(seconds=None).wait(container)["StatusCode"])

    def ending(self, container: str) -> ExitState | None:
        """Return how a container ended; None while it runs."""
        inspected = self._json(f"/containers/{quote(container)}/json")
        if inspected is None:
            return ExitState(137, error="it was removed")
        state = inspected["State"]
        if state.get("Running"):
            return None
        return ExitState(
            int(state.get("ExitCode", 0)), bool(state.get("OOMKilled")), state.get("Error") or ""
        )

    def logs(self, container: str, tail: int | None = None, *, follow: bool = False) -> Iterator[bytes]:
        """Yield what a container has written, stdout and stderr as they came."""
        with self._errors("read the logs"):
            api = self._sdk(seconds=None)
            if follow:
                yield from api.logs(container, stream=True, follow=True, tail="all" if tail is None else tail)
            else:
                yield api.logs(container, tail="all" if tail is None else tail)

    def stop(self, container: str, grace: int) -> None:
        """Ask a container to end, and end it after `grace` seconds; nothing when it is not there."""
        path = f"/containers/{quote(container)}/stop?t={grace}"
        try:
            self._do("stop a container", "POST", path, NOT_FOUND, NOT_MODIFIED)
        except ToolError as error:
            if "paused" not in error.message:
                raise
            # podman stops none that is
            self._do("unpause a container", "POST", f"/containers/{quote(container)}/unpause", NOT_FOUND)
            self._do("stop a container", "POST", path, NOT_FOUND, NOT_MODIFIED)

    def remove(self, container: str) -> None:
        """End and remove a container and its unnamed volumes; nothing when it is not there.

        It is gone when this returns, also where another removal of it was under way.
        """
        deadline = time.monotonic() + PATIENCE
        path = f"/containers/{quote(container)}?force=1&v=1"
        self._do("remove a container", "DELETE", path, NOT_FOUND, CONFLICT)
        while self._json(f"/containers/{quote(container)}/json") is not None:
            if time.monotonic() > deadline:
                raise ToolError(f"the engine did not remove the container {container} in {PATIENCE} s")
            time.sleep(0.05)

    # --- volumes

    def has_volume(self, name: str) -> bool:
        """Return whether there is a volume of that name."""
        return self._json(f"/volumes/{quote(name)}") is not None

    def remove_volume(self, name: str) -> None:
        """Remove a volume and all that is in it; nothing when it is not there."""
        self._do("remove a volume", "DELETE", f"/volumes/{quote(name)}", NOT_FOUND)

    # --- how it is spoken to

    @cached_property
    def _ping(self) -> Mapping[str, str]:
        """What the engine says of itself in the headers of any answer."""
        return self._ask("GET", "/_ping")[1]

    @cached_property
    def _version(self) -> str:
        """The newest version of the API that the engine speaks."""
        return self._ping.get("api-version") or str(self._json("/version").get("ApiVersion", "0"))

    @property
    def _api(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self._version.split(".")[:2])

    def _json(self, path: str) -> Any:
        """Return what the engine answers to a GET, None when it has no such thing."""
        status, _, body = self._ask("GET", path)
        if status == NOT_FOUND:
            return None
        if status >= 400:
            raise self._refused(f"answer {path}", body)
        try:
            return json.loads(body)
        except ValueError as error:
            raise self._refused(f"answer {path} in JSON", body) from error

    def _do(self, deed: str, method: str, path: str, *accepted: int) -> None:
        """Have something done. Without the SDK, which an interrupt may have left half imported."""
        status, _, body = self._ask(method, path)
        if status >= 400 and status not in accepted:
            raise self._refused(deed, body)

    def _refused(self, deed: str, body: bytes) -> ToolError:
        try:
            words = json.loads(body)["message"]
        except (ValueError, KeyError, TypeError):
            words = body[:200].decode("utf-8", "replace").strip()
        return ToolError(f"the engine at {self.address} could not {deed}: {words}")

    def _ask(self, method: str, path: str) -> tuple[int, Mapping[str, str], bytes]:
        socket_path = self._address.socket_path
        if socket_path is None:
            with self._errors(f"answer {path}"):
                api = self._sdk()
                answer = api.request(method, api.base_url + path, timeout=SECONDS)
                headers = {key.lower(): value for key, value in answer.headers.items()}
                return answer.status_code, headers, answer.content
        try:
            return ask(socket_path, method, path)
        except OSError as error:
            raise unreachable(self._address, error) from error

    def _sdk(self, seconds: int | None = SECONDS) -> APIClient:
        """Give the SDK's client.

        :param seconds: how long an answer may take, None for as long as it takes
        """
        if seconds not in self._clients:
            client = make_client(self._address, self._version if self._address.socket_path else None)
            client.timeout = seconds  # type: ignore[assignment]  # requests takes None for no limit
            self._clients[seconds] = client  # one for each, since threads may ask at once
        return self._clients[seconds]

    def _errors(self, deed: str, *accepted: int) -> AbstractContextManager[None]:
        return engine_errors(self._address, deed, *accepted)


def _listed(said: Mapping[str, Any]) -> Container:
    return Container(
        id=said["Id"],
        name=said["Names"][0].lstrip("/") if said.get("Names") else said["Id"][:12],
        image_id=said.get("ImageID", ""),
        state=said.get("State", ""),
        created=int(said.get("Created", 0)),
        labels=said.get("Labels") or {},
        binds={m["Destination"]: m["Source"] for m in said.get("Mounts") or () if m.get("Type") == "bind"},
    )
