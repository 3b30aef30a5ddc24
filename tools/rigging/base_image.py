"""The base image: a Debian with a Python at /opt/conda, as continuumio/miniconda3 has it, for two
architectures.

Two layers: Debian, and the channel's own Python linked at /opt/conda. Pushed to the rig's registry, where the
mirror of docker.io finds it under the name of envbox's default base. Runs in the rig's virtual environment.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import tarfile
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rigging import debian, debian_tree, gzipped
from rigging.channel import CONDA_FORGE
from rigging.conda_package import NEVER
from rigging.debian import ARCHITECTURES
from rigging.places import Places
from rigging.push import Registry

REPOSITORY, TAG = "continuumio/miniconda3", "25.3.1-1"
PREFIX = "opt/conda"
PATH = "/opt/conda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GLIBC = "2.36"
CANONICAL = f"https://conda.anaconda.org/{CONDA_FORGE}"
_CREATED = "2026-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer's two forms: the digest of the tar, and the bytes that are stored."""

    diff_id: str
    blob: bytes
    why: str


def build(places: Places, channel: Path, registry: Registry) -> str:
    """Build the image for both architectures, push it, return the index's digest."""
    with ProcessPoolExecutor() as pool:
        debians = {s: pool.submit(_debian_layer, places, a) for s, a in ARCHITECTURES.items()}
        condas = {s: pool.submit(_conda_layer, places, channel, s) for s in ARCHITECTURES}
        manifests = []
        for subdir, architecture in ARCHITECTURES.items():
            layers = [debians[subdir].result(), condas[subdir].result()]
            manifests.append(_push_image(registry, architecture, layers))
    kind = "application/vnd.oci.image.index.v1+json"
    index = {
        "schemaVersion": 2,
        "mediaType": kind,
        "manifests": manifests,
    }
    return registry.put_manifest(_json(index), kind, TAG)


def _push_image(registry: Registry, architecture: str, layers: list[Layer]) -> dict[str, Any]:
    config = {
        "architecture": architecture,
        "config": {
            "Cmd": ["/bin/bash"],
            "Env": [f"PATH={PATH}", "LANG=C.UTF-8", "LC_ALL=C.UTF-8"],
        },
        "created": _CREATED,
        "history": [{"created": _CREATED, "created_by": layer.why} for layer in layers],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
    }
    kind = "application/vnd.oci.image.manifest.v1+json"
    manifest = {
        "schemaVersion": 2,
        "mediaType": kind,
        "config": _descriptor(registry, _json(config), "application/vnd.oci.image.config.v1+json"),
        "layers": [
            _descriptor(registry, layer.blob, "application/vnd.oci.image.layer.v1.tar+gzip")
            for layer in layers
        ],
    }
    data = _json(manifest)
    return {
        "mediaType": kind,
        "digest": registry.put_manifest(data, kind),
        "size": len(data),
        "platform": {"architecture": architecture, "os": "linux"},
    }


def _descriptor(registry: Registry, blob: bytes, kind: str) -> dict[str, Any]:
    return {"mediaType": kind, "digest": registry.put_blob(blob), "size": len(blob)}


def _layer(tree: debian_tree.Tree, why: str) -> Layer:
    raw = debian_tree.write(tree)
    diff_id = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    return Layer(diff_id, gzipped.compress(raw), why)


def _debian_layer(places: Places, architecture: str) -> Layer:
    tree = debian_tree.unpack(debian.available(places, architecture), architecture)
    return _layer(tree, f"debian {debian.RELEASE}")


def _conda_layer(places: Places, channel: Path, subdir: str) -> Layer:
    """The channel's Python at /opt/conda, the records that say so, and its place on a login shell's PATH."""
    tree: debian_tree.Tree = {}
    with tempfile.TemporaryDirectory(prefix=".base-", dir=places.root) as name:
        prefix = Path(name, "prefix")
        asyncio.run(_install(channel, subdir, prefix, Path(name, "packages")))
        for path in (prefix / "conda-meta").glob("*.json"):
            path.write_bytes(_record(path))
        for place, member, data in debian_tree.files_of(prefix, PREFIX):
            tree[place] = (member, data)
    history = f"==> {_CREATED} <==\n# cmd: rig\n".encode()
    profile = b'export PATH="/opt/conda/bin:$PATH"\n'
    for place, data in ((f"{PREFIX}/conda-meta/history", history), ("etc/profile.d/conda.sh", profile)):
        member = tarfile.TarInfo(place)
        member.size, member.mtime, member.mode = len(data), NEVER, 0o644
        tree[place] = (member, data)
    return _layer(tree, "python at /opt/conda")


async def _install(channel: Path, subdir: str, prefix: Path, cache: Path) -> None:
    from rattler import (
        BuildString,
        Channel,
        GenericVirtualPackage,
        PackageName,
        Subdir,
        Version,
        install,
        solve,
    )

    virtual = [("__unix", "0"), ("__linux", "6"), ("__glibc", GLIBC)]
    records = await solve(
        [Channel(channel.as_uri())],
        ["python", "ca-certificates"],
        platforms=[subdir, "noarch"],
        virtual_packages=[
            GenericVirtualPackage(PackageName(name), Version(version), BuildString("0"))
            for name, version in virtual
        ],
    )
    await install(
        records,
        prefix,
        cache_dir=cache,
        platform=Subdir(subdir),
        alternative_target_prefix=f"/{PREFIX}",
        execute_link_scripts=False,
        show_progress=False,
    )


def _record(path: Path) -> bytes:
    """A record of conda-meta without what is this machine's."""
    record = json.loads(path.read_text(encoding="utf-8"))
    for key in ("extracted_package_dir", "package_tarball_full_path", "link", "requested_specs"):
        record.pop(key, None)
    record["channel"] = CANONICAL
    record["url"] = f"{CANONICAL}/{record['subdir']}/{record['fn']}"
    return _json(record)


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


if __name__ == "__main__":
    root, where, address = sys.argv[1:]
    print(build(Places(Path(root)), Path(where), Registry(address, REPOSITORY)))
