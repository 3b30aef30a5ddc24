"""Benchmarks of notebooks: one that is run, and a kernel for a Jupyter of this machine.

Both sides start a container of the same image each time, so that what is left is what envbox adds.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from measure import Row, command, pairs
from stage import ENVBOX, NAME, Stage

CELLS = ("import sys\nprint(sys.prefix)", "import numpy\nnumpy.arange(10).sum()", "print('done')")
PORTS = ("shell_port", "iopub_port", "stdin_port", "control_port", "hb_port")
# Who asks a kernel whether it is there: with jupyter_client, which the container has.
ASK = """
import sys
from jupyter_client.blocking import BlockingKernelClient
client = BlockingKernelClient(connection_file=sys.argv[1])
client.load_connection_file()
print("here", flush=True)
sys.stdin.readline()
client.start_channels(hb=False)
while True:
    try:
        client.kernel_info(reply=True, timeout=0.5)
        break
    except Exception:  # of another type in each version; whoever waits for us has an end to its patience
        continue
print("ready", flush=True)
client.shutdown()
"""


def exec_row(stage: Stage, runs: int) -> Row:
    """`envbox exec NOTEBOOK` beside `jupyter execute` in a container of the same image."""
    _write_notebook(stage.folder / "n.ipynb")
    volume = f"{stage.folder}:/work"
    bare = command(
        *("docker", "run", "--rm", "--init", "-v", volume, "-w", "/work", stage.image),
        *("jupyter", "execute", "n.ipynb", "--output", "bare.ipynb"),
    )
    ours = stage.envbox("exec", "n.ipynb", "--image", "--name", NAME, "--output", "ours.ipynb")
    taken = pairs(ours, bare, runs)
    return Row("envbox exec NOTEBOOK", "docker run … jupyter execute", *taken, 1, "difference")


def kernel_row(stage: Stage, runs: int) -> Row:
    """A kernel as a kernelspec starts it, until it answers, beside the same kernel in a bare `docker run`."""
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(runs + 1):
        for times, is_ours in zip(taken, (True, False), strict=True):
            seconds = _seconds_to_answer(stage, is_ours=is_ours)
            if number:
                times.append(seconds)
    what, beside = "envbox kernel, until it answers", "docker run … ipykernel_launcher"
    return Row(what, beside, tuple(taken[0]), tuple(taken[1]), 1, "difference")


def _write_notebook(path: Path) -> None:
    import nbformat

    cells = [nbformat.v4.new_code_cell(source) for source in CELLS]
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec}), path)


def _seconds_to_answer(stage: Stage, *, is_ours: bool) -> float:
    """Start a kernel, and ask it from a container that shares this machine's network until it answers."""
    with tempfile.TemporaryDirectory(dir=stage.folder) as folder:
        connection = _write_connection(Path(folder) / "connection.json")
        asking = subprocess.Popen(
            [
                *("docker", "run", "--rm", "-i", "--init", "--network", "host"),
                *("-v", f"{connection}:/c.json:ro", stage.image, "python", "-c", ASK, "/c.json"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert asking.stdin
        assert asking.stdout
        if asking.stdout.readline() != "here\n":
            raise SystemExit("a client did not start")
        start = time.perf_counter()
        kernel = subprocess.Popen(
            _ours(connection) if is_ours else _bare(stage, connection),
            env={**os.environ, **stage.env},
            cwd=stage.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        asking.stdin.write("\n")
        asking.stdin.flush()
        if asking.stdout.readline() != "ready\n":
            raise SystemExit("a kernel did not answer")
        seconds = time.perf_counter() - start
        if kernel.wait(30) or asking.wait(30):
            raise SystemExit(f"a kernel ended with {kernel.returncode}")
        return seconds


def _ours(connection: Path) -> list[str]:
    """As `envbox kernel add` writes it into a kernelspec."""
    words = ["--quiet", "kernel", "run", "--kernel", "python3", "--connection-file", str(connection), NAME]
    return [ENVBOX[0], "-P", *ENVBOX[1:], *words]


def _bare(stage: Stage, connection: Path) -> list[str]:
    inside = json.loads(connection.read_text())
    ports = [word for name in PORTS for word in ("-p", f"127.0.0.1:{inside[name]}:{inside[name]}")]
    copy = connection.with_name("inside.json")
    copy.write_text(json.dumps({**inside, "ip": "0.0.0.0"}))
    return [
        *(
            "docker",
            "run",
            "--rm",
            "--init",
            *ports,
            "-v",
            f"{copy}:/c.json:ro",
            "-v",
            f"{stage.folder}:/work",
        ),
        *("-w", "/work", stage.image, "python", "-m", "ipykernel_launcher", "-f", "/c.json"),
    ]


def _write_connection(path: Path) -> Path:
    held = [socket.socket() for _ in PORTS]
    for probe in held:
        probe.bind(("127.0.0.1", 0))
    ports = {name: probe.getsockname()[1] for name, probe in zip(PORTS, held, strict=True)}
    for probe in held:
        probe.close()
    said = {**ports, "transport": "tcp", "ip": "127.0.0.1", "key": os.urandom(16).hex(),
            "signature_scheme": "hmac-sha256"}  # fmt: skip
    path.write_text(json.dumps(said))
    path.chmod(0o600)
    return path
