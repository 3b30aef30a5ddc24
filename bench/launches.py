"""Benchmarks of what a person waits for at the prompt: help, a command in the container, a Jupyter server."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from measure import Row, command, pairs, timed
from stage import NAME, Stage

TOKEN = "0" * 48  # of the baseline's server, on loopback, for seconds


def help_row(stage: Stage, runs: int) -> Row:
    """`envbox --help` beside the interpreter's own start."""
    ours, baseline = pairs(stage.envbox("--help"), command(sys.executable, "-c", "pass"), max(runs, 9))
    return Row("envbox --help", "python -c pass", ours, baseline, 0.15, "seconds")


def run_row(stage: Stage, runs: int) -> Row:
    """`envbox run NAME -- true`, image there, beside a bare `docker run` of the same image."""
    bare = command("docker", "run", "--rm", stage.image, "true")
    ours, baseline = pairs(stage.envbox("run", NAME, "--", "true"), bare, runs)
    return Row("envbox run NAME -- true", "docker run --rm IMAGE true", ours, baseline, 0.25, "difference")


def notebook_row(stage: Stage, runs: int) -> Row:
    """From the command to an answering server, beside the same server started by a bare `docker run`."""

    def ours() -> float:
        seconds = timed(stage.envbox("notebook", NAME, "--detach", "--no-browser", "--json"))
        stage.envbox("stop", NAME)()
        return seconds

    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(runs + 1):
        for times, seconds in zip(taken, (ours(), _bare_server(stage)), strict=True):
            if number:
                times.append(seconds)
    return Row(
        "envbox notebook --detach",
        "docker run … jupyter lab, until /api answers",
        tuple(taken[0]),
        tuple(taken[1]),
        1.15,
    )


def _bare_server(stage: Stage) -> float:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.perf_counter()
    container = subprocess.run(
        [
            "docker",
            "run",
            "--rm",
            "-d",
            "-p",
            f"127.0.0.1:{port}:8888",
            "-v",
            f"{stage.folder}:/work",
            stage.image,
            "jupyter",
            "lab",
            "--no-browser",
            "--ip=0.0.0.0",
            "--allow-root",
            f"--IdentityProvider.token={TOKEN}",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    try:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/api/status", headers={"Authorization": f"token {TOKEN}"}
        )
        while True:
            try:
                with urllib.request.urlopen(request, timeout=2) as answer:
                    json.load(answer)
                return time.perf_counter() - start
            except (OSError, urllib.error.URLError):
                time.sleep(0.02)
    finally:
        subprocess.run(["docker", "rm", "-f", container], capture_output=True, check=False)
