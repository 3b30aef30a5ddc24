"""Benchmarks of the road from a lock to an image: cold build, nothing to do."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from measure import Row, command, pairs
from stage import NAME, Stage

KEPT = ("packages", "blobs")  # what a cold build finds: archives, and the base


def cold_build_row(stage: Stage, runs: int) -> Row:
    """A build with the archives in the cache and no layers, beside importing the finished tree as one layer.

    The baseline takes the prefix out of our own image as plain files, without byte-code, then compiles the
    same sources with both cores, and runs `tar | docker import`. It neither links nor checks; it has no base.
    """
    image = stage.image
    tree = stage.folder / "tree"
    _copy_out(image, tree)
    python = next((tree / "bin").glob("python3.*[0-9]"))
    sources = [str(p.parent.parent / f"{p.name.split('.')[0]}.py") for p in tree.rglob("__pycache__/*.pyc")]
    (stage.folder / "sources").write_text("\n".join(sources) + "\n")
    compile_all = [
        str(python),
        "-I",
        "-m",
        "compileall",
        "-q",
        "-j",
        "2",
        "-i",
        str(stage.folder / "sources"),
    ]

    def forget() -> None:
        for entry in stage.cache.iterdir():
            if entry.name not in KEPT:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        stage.remove_images()

    def import_tree() -> None:
        subprocess.run(compile_all, capture_output=True, check=False)
        done = subprocess.run(
            ["sh", "-c", f"tar -C '{tree}' -c . | docker import - envbox-bench-import"],
            check=True,
            capture_output=True,
            text=True,
        )
        assert done.stdout.startswith("sha256:")

    def forget_import() -> None:
        subprocess.run(["docker", "rmi", "-f", "envbox-bench-import"], capture_output=True, check=False)
        for made in tree.rglob("__pycache__/*.pyc"):
            made.unlink()

    try:
        ours, baseline = pairs(
            stage.envbox("build", NAME, "--frozen"), import_tree, runs, (forget, forget_import)
        )
    finally:
        forget_import()
        shutil.rmtree(tree)
    return Row("envbox build, cold", "compileall + tar | docker import, same tree", ours, baseline, 2.0)


def no_op_row(stage: Stage, runs: int) -> Row:
    """A second build with nothing changed, beside asking the engine for the image."""
    ours, baseline = pairs(
        stage.envbox("build", NAME), command("docker", "image", "inspect", stage.image), max(runs, 9)
    )
    return Row("envbox build, nothing changed", "docker image inspect", ours, baseline, 0.5, "seconds")


def _copy_out(image: str, tree: Path) -> None:
    container = subprocess.run(
        ["docker", "create", image, "true"], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        tree.mkdir()
        subprocess.run(
            ["sh", "-c", f"docker cp {container}:/opt/envbox - | tar -C '{tree}' --strip-components=1 -x"],
            check=True,
        )
    finally:
        subprocess.run(["docker", "rm", container], check=True, capture_output=True)
