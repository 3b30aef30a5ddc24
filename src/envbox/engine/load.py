"""An archive into an engine, and what the engine says when it does not like it.

Docker's own store speaks of a file of the unpacked archive, its containerd store of a digest, podman of
either, in the answer's body or by its status.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from envbox.engine import MissingLayerError
from envbox.errors import ImageError, ToolError

_MISSING = re.compile(
    r"(blobs/sha256/|layer\.tar|sha256:[0-9a-f]{64}).*(no such file|not found|does not exist)"
)


def load(api: Any, stream: Iterator[bytes]) -> None:
    """Load a docker or OCI archive by the SDK's client (whose stubs have no types for it).

    :raises MissingLayerError: when it left out a layer that the engine does not have
    :raises ImageError: when the engine refuses it, with the engine's words
    """
    import docker.errors

    try:
        for line in api.load_image(_readable(stream), quiet=True):
            detail = line.get("errorDetail") or {}
            if refused := detail.get("message") or line.get("error") or line.get("message"):
                raise _refusal(str(refused))
    except docker.errors.APIError as error:
        raise _refusal(str(error.explanation or error)) from error


def _readable(stream: Iterator[bytes]) -> Iterator[bytes]:
    """Yield a stream whose own faults are not taken for the engine's."""
    try:
        yield from stream
    except OSError as error:
        raise ToolError(f"cannot read what is to be loaded: {error}", "run the same again") from error


def _refusal(words: str) -> ImageError:
    if "no space left" in words:
        return ImageError(f"the engine could not load the image: {words}", "docker system prune frees space")
    if _MISSING.search(words):
        return MissingLayerError(f"the engine does not have a layer that was left out: {words}")
    return ImageError(f"the engine refused the image: {words}")
