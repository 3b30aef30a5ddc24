"""`envbox build --output`: an image into a folder or file of its own, as an OCI layout. No engine is needed.

A file is a tar of the layout, with Docker's `manifest.json` beside it, so that podman, skopeo, apptainer and
`docker load` all read it. Its bytes are a function of the lock: fixed order, no times. A folder is made aside
and renamed, and is replaced only where it is a layout of ours.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from envbox.errors import ImageError, ToolError
from envbox.files import PART, disk_error, whole_file
from envbox.images.build import image_reference
from envbox.images.publication import Publication, PublicationBlobs, PublishRequest, make
from envbox.oci import INDEX_TYPE, Descriptor, canonical_json
from envbox.packages.link.tar import DIRECTORY, END, header, padding
from envbox.registry.base import fetch_layers
from envbox.registry.upload import Blob
from envbox.report import Reporter, Task
from envbox.settings import Settings

_MARK = "io.envbox.name"
_FOLDERS = ("blobs/", "blobs/sha256/")  # apptainer 1.4 makes none that has no entry of its own
_PACKED = (".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".zip")


def write_output(wanted: PublishRequest, path: Path, settings: Settings, report: Reporter) -> Publication:
    """Make an environment's image, and write it whole or not at all.

    :param path: a file when it ends in `.tar`, else a folder
    :raises ImageError: when there is something else at the path
    :raises ToolError: when the disk is full
    :raises EnvboxError: what building can raise
    """
    check_output(path)
    made = make(wanted, settings, report)
    for base in made.bases:
        fetch_layers(base, base.layers, settings, report)
    total = sum(blob.descriptor.size for blob in made.blobs)
    with report.task(f"writing {path.name}", total, "bytes") as task:
        (_write_file if path.suffix == ".tar" else _write_folder)(made, path, task)
    return made.publication


def check_output(path: Path) -> None:
    """Refuse a place that an image cannot be written to.

    :raises ImageError: saying what is there
    """
    if path.name.endswith(_PACKED):
        raise ImageError(
            f"--output {path}: layers are compressed already, the file around them is not",
            "name a file that ends in .tar, or a folder",
        )
    if not path.parent.is_dir():
        raise ImageError(f"--output {path}: there is no folder {path.parent}", f"mkdir -p '{path.parent}'")
    if path.suffix == ".tar":
        if path.is_dir():
            raise ImageError(f"--output {path}: that is a folder", "name a file, or another folder")
    elif path.exists() and not (path.is_dir() and (_is_ours(path) or not any(path.iterdir()))):
        raise ImageError(
            f"--output {path}: there is something else there", "name a folder that does not exist yet"
        )


# --- what a layout consists of ------------------------------------------------------------------------------


def layout_files(publication: Publication) -> dict[str, bytes]:
    """Return the files of a layout but its blobs of layers and configs: relative path → bytes, in their
    order.
    """
    files = {
        "oci-layout": canonical_json({"imageLayoutVersion": "1.0.0"}),
        "index.json": canonical_json(_index(publication)),
        "manifest.json": canonical_json(_docker_manifest(publication)),
    }
    documents = (publication.top, *(image.manifest for image in publication.images))
    return files | {_path(document.descriptor): document.data for document in documents}


def _index(publication: Publication) -> dict[str, Any]:
    repository, _, tag = image_reference(publication.name, publication.digest).rpartition(":")
    entry = publication.top.descriptor.to_json()
    if len(publication.images) == 1:
        entry["platform"] = dict(publication.images[0].about)
    entry["annotations"] = {
        "io.containerd.image.name": f"docker.io/{repository}:{tag}",
        "org.opencontainers.image.ref.name": tag,
    }
    return {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPE,
        "manifests": [entry],
        "annotations": {_MARK: publication.name},
    }


def _docker_manifest(publication: Publication) -> list[dict[str, Any]]:
    """Return what `docker load` reads where it knows no OCI layout: every platform's image, named by its
    ID.
    """
    return [
        {
            "Config": _path(image.parts.config),
            "RepoTags": [image_reference(publication.name, image.id)],
            "Layers": [_path(layer) for layer in image.parts.layers],
        }
        for image in publication.images
    ]


def _path(blob: Descriptor) -> str:
    return "blobs/" + blob.digest.replace(":", "/")


def _is_ours(folder: Path) -> bool:
    try:
        return _MARK in json.loads((folder / "index.json").read_bytes())["annotations"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


# --- writing it ---------------------------------------------------------------------------------------------


def _write_file(made: PublicationBlobs, path: Path, task: Task) -> None:
    with whole_file(path, is_cache=False) as file:
        for folder in _FOLDERS:
            file.write(header(folder, DIRECTORY, mode=0o755))
        for name, data in layout_files(made.publication).items():
            file.writelines((header(name, size=len(data)), data, padding(len(data))))
        for blob in made.blobs:
            size = blob.descriptor.size
            file.write(header(_path(blob.descriptor), size=size))
            file.writelines(_checked(blob, task))
            file.write(padding(size))
        file.write(END)


def _write_folder(made: PublicationBlobs, path: Path, task: Task) -> None:
    try:
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=PART, dir=path.parent))
    except OSError as error:
        raise disk_error(path, error) from error
    try:
        new = aside / "new"
        for name, data in layout_files(made.publication).items():
            _write(new / name, (data,))
        for blob in made.blobs:
            _write(new / _path(blob.descriptor), _checked(blob, task))
        if path.exists():
            path.rename(aside / "old")
        new.rename(path)
    except OSError as error:
        raise disk_error(path, error) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.writelines(pieces)
        file.flush()
        os.fsync(file.fileno())


def _checked(blob: Blob, task: Task) -> Iterator[bytes]:
    """Yield a blob's bytes. What is not what its digest says never becomes an output."""
    found, size = hashlib.sha256(), 0
    for piece in blob.open():
        found.update(piece)
        size += len(piece)
        task.advance(len(piece))
        yield piece
    if (f"sha256:{found.hexdigest()}", size) != (blob.descriptor.digest, blob.descriptor.size):
        raise ToolError(
            f"{blob.descriptor.digest} is not what it was when it was made: the cache is damaged",
            "envbox clean fragments layers gzip, then run the command again",
        )
