"""Benchmarks of images for others: a push of what the registry has, another platform than this machine's."""

from __future__ import annotations

import json
import os
import shutil
import sys
import urllib.request
from collections.abc import Callable

from measure import Row, command, pairs
from pipeline import KEPT
from stage import NAME, Stage

REPOSITORY = "bench/maps"
PLATFORMS = ("linux-64", "linux-aarch64")
HEADS = """
import http.client, json, sys
address, repository, *blobs = sys.argv[1:]
connection = http.client.HTTPConnection(address)
for blob in blobs:
    connection.request("HEAD", f"/v2/{repository}/blobs/{blob}")
    response = connection.getresponse()
    response.read()
    assert response.status == 200, blob
"""


def push_row(stage: Stage, runs: int) -> Row:
    """`envbox push` of an image that the registry has, beside a bare script that makes as many HEADs."""
    registry = stage.env["RIG_REGISTRY"]
    pushed = stage.envbox_json("push", NAME, f"{registry}/{REPOSITORY}:1")
    blobs = _blobs(registry, str(pushed["digest"]))
    bare = command(sys.executable, "-c", HEADS, registry, REPOSITORY, *blobs)
    ours, baseline = pairs(stage.envbox("push", NAME, f"{registry}/{REPOSITORY}:1"), bare, max(runs, 9))
    name = "envbox push, the registry has it"
    return Row(name, f"python, {len(blobs)} HEADs", ours, baseline, 0.5, "difference")


def foreign_row(stage: Stage, runs: int) -> Row:
    """An image for another platform, written as a layout from archives alone, beside the native one's."""
    native = "linux-aarch64" if os.uname().machine == "aarch64" else "linux-64"
    (foreign,) = set(PLATFORMS) - {native}
    output = stage.folder / "output"

    def build(platform: str) -> Callable[[], None]:
        return stage.envbox("build", NAME, "--frozen", "--platform", platform, "--output", str(output))

    def forget() -> None:
        shutil.rmtree(output, ignore_errors=True)
        for entry in stage.cache.iterdir():
            if entry.name not in KEPT:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    ours, baseline = pairs(build(foreign), build(native), runs, (forget, forget))
    shutil.rmtree(output, ignore_errors=True)
    return Row(f"envbox build --platform {foreign}", f"the same for {native}", ours, baseline, 1.3)


def _blobs(registry: str, index: str) -> list[str]:
    """The digests of all blobs of an index."""

    def manifest(digest: str) -> dict[str, list[dict[str, str]]]:
        url = f"http://{registry}/v2/{REPOSITORY}/manifests/{digest}"
        accept = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": accept})) as answer:
            found: dict[str, list[dict[str, str]]] = json.load(answer)
            return found

    found = manifest(index)
    images = [manifest(entry["digest"]) for entry in found["manifests"]] if "manifests" in found else [found]
    return sorted({layer["digest"] for image in images for layer in image["layers"]})
