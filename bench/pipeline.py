"""Benchmarks of the road from a spec to an image: lock, cold build, nothing to do."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from measure import Row, command, pairs, peak_memory
from stage import NAME, Stage

BARE_SOLVE = """
import asyncio, sys
from rattler import solve, GenericVirtualPackage, PackageName, Version, BuildString, Gateway
async def main(channel, cache, specs):
    virtual = [GenericVirtualPackage(PackageName(n), Version(v), BuildString("0"))
               for n, v in (("__glibc", "2.36"), ("__unix", "0"), ("__linux", "5.10"))]
    gateway = Gateway(cache_dir=cache)
    await asyncio.gather(*(solve([channel], specs, gateway=gateway, platforms=[p, "noarch"],
    virtual_packages=virtual) for p in ("linux-64", "linux-aarch64")))
asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
"""
KEPT = ("packages", "blobs")  # what a cold build finds: archives, and the base


def lock_row(stage: Stage, runs: int) -> Row:
    """Lock for two platforms with a warm index, beside rattler's bare solve of the same specs."""
    specs = [
        s.strip()[2:]
        for s in stage.spec.read_text().split("dependencies:")[1].splitlines()
        if s.strip().startswith("- ")
    ]
    bare = command(sys.executable, "-c", BARE_SOLVE, stage.channel, stage.folder / "bare-index", *specs)
    kept = stage.lockfile.read_bytes()
    lock = stage.envbox("lock", NAME, "--platform", "linux-64", "--platform", "linux-aarch64")
    try:
        ours, baseline = pairs(lock, bare, runs, (lambda: stage.lockfile.unlink(missing_ok=True), None))
    finally:
        stage.lockfile.write_bytes(kept)
    return Row(
        "envbox lock, 2 platforms, warm", "rattler's bare solve of the same", ours, baseline, 1.0, "seconds"
    )


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


def synthetic_row(stage: Stage, runs: int) -> Row:
    """Lock maps on an index of conda-forge's size, warm, beside the same on the rig's small channel."""
    root = Path(__file__).parents[1]
    url = subprocess.run(
        [root / "tools/rig", "synthetic"], check=True, capture_output=True, text=True
    ).stdout.split()[-1]
    env = stage.env | {"ENVBOX_MIRRORS": stage.env["ENVBOX_MIRRORS"].replace(stage.channel, url)}
    arguments = ("-m", "envbox", "lock", NAME, "--platform", "linux-64", "--platform", "linux-aarch64")
    reset = lambda: stage.lockfile.unlink(missing_ok=True)  # noqa: E731
    kept = stage.lockfile.read_bytes()
    try:
        large = command(sys.executable, *arguments, env=env, cwd=stage.folder)
        ours, baseline = pairs(large, stage.envbox(*arguments[2:]), runs, (reset, reset))
        reset()
        _, memory = peak_memory(sys.executable, *arguments, env=env, cwd=stage.folder)
    finally:
        stage.lockfile.write_bytes(kept)
    return Row(
        "envbox lock, 450,000 records",
        "the same on the rig's channel",
        ours,
        baseline,
        4.0,
        "seconds",
        {"peak_mib": round(memory)},
    )


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
