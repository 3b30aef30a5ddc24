"""Benchmarks of one package changed: new blobs for every package, seconds into an engine for some of them.

Seconds are of Docker 26 on overlay2, an engine of the rig's own. The baseline is envbox itself with a rule
that puts everything into one layer: the same fragments, archive and engine, so that only the rule differs.
`seconds` also draws docs/incremental.svg.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from changes import Rule, Subject, by_size, one_layer, ours, varied
from measure import Row
from plot import Panel, Series, draw
from stage import ENVBOX, NAME, Stage

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "incremental.svg"
ONE_LAYER = """
import sys
import envbox.images.layers as layers
layers.plan_groups = lambda sizes: (tuple(sorted(sizes)),)
from envbox.cli import main
main()
"""


def blobs_row(stage: Stage, runs: int) -> Row:
    """New compressed bytes for each package of the environment, by our rule and in one layer."""
    del runs  # a computation, over all packages
    subject = Subject(stage)
    whole = _megabytes(subject, one_layer)
    rules: dict[str, Rule] = {
        "envbox": ours,
        "by_size_10": by_size,
        "by_size_57": lambda sizes: by_size(sizes, 57),
        **{f"buckets_{n}": varied(buckets=n) for n in (8, 32)},
        **{f"large_{n}_kib": varied(large=n << 10) for n in (256, 4096)},
    }
    notes = {"packages": float(len(whole))}
    for name, rule in rules.items():
        shares = [new / whole[0] for new in _megabytes(subject, rule)]
        notes[f"{name}_layers"] = len(rule(subject.sizes)) + 1
        notes[f"{name}_median"] = round(statistics.median(shares), 4)
        notes[f"{name}_mean"] = round(statistics.mean(shares), 4)
    mine = _megabytes(subject, ours)
    return Row("new blobs, one package changed", "one layer", mine, whole, 0.05, notes=notes, unit="MB")


def seconds_row(stage: Stage, runs: int) -> Row:
    """`envbox build` after one package has changed, for packages from the smallest to the largest."""
    subject = Subject(stage)
    order = _order(subject)
    places = [round(n * (len(order) - 1) / (2 * runs - 2)) for n in range(2 * runs - 1)] if runs > 1 else [0]
    with overlay2(stage) as env:
        _build(stage, env, ENVBOX)
        taken: tuple[list[float], list[float]] = ([], [])
        for place in places:
            for times, argv in zip(taken, (ENVBOX, (sys.executable, "-c", ONE_LAYER)), strict=True):
                times.append(_changed(subject, env, order[place], argv))
    _draw(subject, order, (places, *taken))
    return Row("envbox build, one package changed", "one layer", tuple(taken[0]), tuple(taken[1]), 0.5)


@contextmanager
def overlay2(stage: Stage) -> Iterator[dict[str, str]]:
    """The variables that lead to an engine of the rig's own, for the time of the block."""
    rig = ROOT / "tools/rig"
    said = subprocess.run(
        [rig, "engine", "start", "overlay2"], check=True, capture_output=True, text=True
    ).stdout
    try:
        yield stage.env | {"DOCKER_HOST": said.split("=", 1)[1].strip()}
    finally:
        subprocess.run([rig, "engine", "stop", "overlay2"], check=True, capture_output=True)


def _order(subject: Subject) -> list[str]:
    """The packages, by what a change of them costs."""
    return sorted(subject.sizes, key=lambda name: (subject.new_blobs(ours, name), name))


def _megabytes(subject: Subject, rule: Rule) -> tuple[float, ...]:
    return tuple(subject.new_blobs(rule, name) / 1e6 for name in _order(subject))


def _changed(subject: Subject, env: dict[str, str], name: str, argv: Sequence[str]) -> float:
    """The seconds that a build takes after one package has changed; its image is removed again."""
    stage = subject.stage
    before = stage.lockfile.read_bytes()
    stage.lockfile.write_bytes(subject.changed(name))
    try:
        seconds, image = _build(stage, env, argv)
    finally:
        stage.lockfile.write_bytes(before)
    subprocess.run(
        ["docker", "rmi", "--force", image], check=True, capture_output=True, env={**os.environ, **env}
    )
    return seconds


def _build(stage: Stage, env: dict[str, str], argv: Sequence[str]) -> tuple[float, str]:
    start = time.perf_counter()
    done = subprocess.run(
        [*argv, "build", NAME, "--frozen", "--json"],
        check=True,
        capture_output=True,
        text=True,
        cwd=stage.folder,
        env={**os.environ, **env},
    )
    seconds = time.perf_counter() - start
    found = json.loads(done.stdout)
    assert found["new"], "the build found everything done"
    return seconds, found["id"]


def _draw(
    subject: Subject, order: Sequence[str], taken: tuple[Sequence[int], Sequence[float], Sequence[float]]
) -> None:
    places, ours_taken, one_taken = taken
    new = {rule.__name__: list(enumerate(_megabytes(subject, rule))) for rule in (ours, one_layer, by_size)}
    below = f"the {len(order)} packages of maps, each changed alone, from the cheapest to the dearest"
    panels = [
        Panel(
            "New blobs for one changed package, compressed",
            "MB",
            below,
            len(order),
            [
                Series("one layer", "b", new["one_layer"], is_line=True),
                Series("largest alone, 10 layers", "c", new["by_size"], is_line=True),
                Series("envbox", "a", new["ours"]),
            ],
        ),
        Panel(
            "Until the engine has the new image",
            "s",
            f"{len(places)} of these packages, each changed alone",
            len(order),
            [
                Series("one layer", "b", list(zip(places, one_taken, strict=True))),
                Series("envbox", "a", list(zip(places, ours_taken, strict=True))),
            ],
        ),
    ]
    middle = {name: statistics.median(value for _, value in points) for name, points in new.items()}
    text = (
        "Two charts over the packages of an environment, each changed alone. New compressed bytes: median "
        f"{middle['ours']:.1f} MB with envbox's layers, {middle['one_layer']:.0f} MB in one layer. Until the "
        f"engine has the image: median {statistics.median(ours_taken):.1f} s, and in one layer "
        f"{statistics.median(one_taken):.1f} s."
    )
    PICTURE.write_text(draw(panels, "What one changed package costs", text), encoding="utf-8")
