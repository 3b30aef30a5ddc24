"""Blobs of the cache, hashed while they are read: no image is to be blamed for a bit that flipped here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from envbox.errors import ImageError, ToolError
from envbox.files import open_file, remove
from envbox.oci import Digest
from envbox.packages.link.frames import HashingReader
from envbox.packages.link.tar import CHUNK


@contextmanager
def checked_blob(path: Path, digest: Digest) -> Iterator[HashingReader]:
    """Yield a layer in the cache as a file; whatever was found in one that is damaged does not count.

    :raises ToolError: at the end, when it is not what its digest says; then it is removed
    """
    import zstandard

    wrong: ImageError | None = None
    with suppress(zstandard.ZstdError, OSError), open_file(path) as file:
        reader = HashingReader(file)
        try:
            yield reader
        except ImageError as error:  # the image's own fault only where these are its bytes
            wrong = error
        while reader.read(CHUNK):
            pass
        if reader.digest.hexdigest() == digest.removeprefix("sha256:"):
            if wrong:
                raise wrong
            return
    with suppress(OSError):
        remove(path)
    raise ToolError(
        f"a layer was damaged in the cache, and is removed: {digest}",
        "run the same again: it is fetched anew",
    ) from wrong


def checked_chunks(path: Path, digest: Digest) -> Iterator[bytes]:
    """Yield the bytes of a layer in the cache; raises as `checked_blob` does."""
    with checked_blob(path, digest) as file:
        while data := file.read(CHUNK):
            yield data
