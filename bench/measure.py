"""Timing whole commands in pairs: ours and a baseline in turn, so a machine whose speed drifts cancels out.

What is quoted is the median of each and the median of the ratios pair by pair, never a single absolute time.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Action = Callable[[], None]


@dataclass(frozen=True)
class Row:
    """One comparison. Times in seconds of wall clock, in the order they were taken.

    :param bar: what is measured should not exceed it
    :param kind: what is measured: the `ratio`, the `difference` in seconds, or our own `seconds` or `value`
    :param unit: of the values, where they are no times
    """

    name: str
    baseline_name: str
    ours: tuple[float, ...]
    baseline: tuple[float, ...]
    bar: float
    kind: str = "ratio"
    notes: Mapping[str, float] = field(default_factory=dict)
    unit: str = "s"

    @property
    def ratio(self) -> float:
        """The median of ours / baseline, pair by pair."""
        return statistics.median(a / b for a, b in zip(self.ours, self.baseline, strict=True))

    @property
    def difference(self) -> float:
        """The median of ours - baseline, pair by pair, in seconds."""
        return statistics.median(a - b for a, b in zip(self.ours, self.baseline, strict=True))

    @property
    def measured(self) -> float:
        """What is held against the bar."""
        own = statistics.median(self.ours)
        return {"ratio": self.ratio, "difference": self.difference, "seconds": own, "value": own}[self.kind]

    def to_json(self) -> dict[str, object]:
        """Everything, for a program to read."""
        return {
            "name": self.name,
            "baseline": self.baseline_name,
            "kind": self.kind,
            "bar": self.bar,
            "unit": self.unit,
            "measured": round(self.measured, 4),
            "ratio": round(self.ratio, 4),
            "ours_median": round(statistics.median(self.ours), 4),
            "baseline_median": round(statistics.median(self.baseline), 4),
            "ours": [round(x, 4) for x in self.ours],
            "baseline_times": [round(x, 4) for x in self.baseline],
            **self.notes,
        }

    def __str__(self) -> str:
        unit = {"ratio": "x", "difference": " s more", "seconds": " s", "value": f" {self.unit}"}[self.kind]
        verdict = "ok  " if self.measured <= self.bar else "OVER"
        return (
            f"{verdict} {self.name:<34} {statistics.median(self.ours):8.3f} {self.unit:<2}  "
            f"{self.baseline_name:<44} {statistics.median(self.baseline):8.3f} {self.unit:<2}  "
            f"{self.ratio:6.2f}x   (bar: {self.bar:g}{unit}, measured {self.measured:.3g}{unit})"
        )


def timed(action: Action) -> float:
    """Seconds of wall clock that one call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def pairs(
    ours: Action, baseline: Action, runs: int, before: tuple[Action | None, Action | None] = (None, None)
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Time two actions in turn, `runs` times each after one warm-up, with an untimed step before each."""
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(runs + 1):
        for action, reset, times in zip((ours, baseline), before, taken, strict=True):
            if reset is not None:
                reset()
            seconds = timed(action)
            if number:
                times.append(seconds)
    return tuple(taken[0]), tuple(taken[1])


def command(*argv: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> Action:
    """An action that runs a command to its end and fails loudly when it fails."""

    def act() -> None:
        done = subprocess.run(
            [str(a) for a in argv],
            env={**os.environ, **(env or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(
                f"{' '.join(map(str, argv))} failed with {done.returncode}:\n{done.stderr[-2000:]}"
            )

    return act


def peak_memory(*argv: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> float:
    """Run a command; the most memory that it had resident, in MiB."""
    process = subprocess.Popen(
        [str(a) for a in argv],
        env={**os.environ, **(env or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, argv))} failed with {process.returncode}")
    return usage.ru_maxrss / 1024
