"""What a Jupyter client does with a kernel, with jupyter_client itself: run by a Python that has it.

    python kernel_client.py KERNEL WHAT...

Prints a line of JSON for each thing that was done.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time

from jupyter_client.manager import KernelManager

manager = KernelManager(kernel_name=sys.argv[1])


def start(transport="tcp"):
    """Start the kernel and wait until it answers."""
    begin = time.monotonic()
    manager.transport = transport
    if transport == "ipc":
        manager.ip = os.environ["JUPYTER_RUNTIME_DIR"] + "/k-ipc"
    manager.start_kernel(cwd=os.environ["KERNEL_CWD"], stdout=2)  # stdout is ours
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=90)
    return client, time.monotonic() - begin


client, seconds = start("ipc" if "ipc" in sys.argv else "tcp")


def run(code, **more):
    """Run a cell; its status and its outputs."""
    out = []
    reply = client.execute_interactive(code, output_hook=out.append, timeout=60, **more)
    shown = [(m["msg_type"], m["content"]) for m in out if m["msg_type"] not in ("status", "execute_input")]
    return reply["content"]["status"], shown


def ready():
    """Wait for a kernel that was started anew, and until its outputs come through again."""
    client.wait_for_ready(timeout=90)
    for _ in range(60):
        client.kernel_info()
        try:
            client.get_iopub_msg(timeout=1)
        except queue.Empty:
            continue
        return


def text(code, **more):
    """What a cell prints."""
    return "".join(content["text"] for kind, content in run(code, **more)[1] if kind == "stream")


def containers():
    """The lines that the engine has about kernels of this connection."""
    done = subprocess.run(
        ["docker", "ps", "-a", "--no-trunc", "--format", "{{.Ports}}|{{.Command}}|{{.Labels}}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def do(what):  # noqa: PLR0912
    """Do one thing and give what came of it."""
    if what == "seconds":
        return seconds
    if what == "where":
        return text("import os, sys; print(sys.prefix, os.getcwd(), os.getuid(), sep='|')")
    if what == "input":
        return text(
            "print('hello', input('who? '))", allow_stdin=True, stdin_hook=lambda m: client.input("Ada")
        )
    if what == "complete":
        run("a_long_name = 1")
        return client.complete("a_lo", reply=True, timeout=30)["content"]["matches"]
    if what == "plot":
        shown = run("%matplotlib inline\nimport matplotlib.pyplot as plt; plt.plot([1, 2]);")[1]
        return [list(content.get("data", {})) for _, content in shown]
    if what == "interrupt":
        threading.Timer(1, manager.interrupt_kernel).start()
        begin = time.monotonic()
        status, shown = run("import time\ntime.sleep(60)")
        return [status, shown[-1][1]["ename"], time.monotonic() - begin < 20, text("print('lives')")]
    if what == "restart":
        run("kept = 1")
        manager.restart_kernel()
        ready()
        return text("print('kept' in dir())")
    if what == "kill":  # the process that stands for the kernel
        manager.provisioner.process.kill()
        manager.provisioner.process.wait()
        manager.restart_kernel(now=True)
        time.sleep(1)
        ready()
        return text("print('again')")
    if what == "exit":  # the kernel ends by itself
        client.execute("import os; os._exit(7)")
        return manager.provisioner.process.wait(timeout=30)
    if what == "containers":
        return containers()
    if what == "key":
        return manager.session.key.decode()
    if what == "connection":
        return manager.connection_file
    if what == "die":  # as a Jupyter that is killed
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "wait":
        return sys.stdin.readline()
    return what


for what in sys.argv[2:]:
    print(json.dumps([what, do(what)]), flush=True)
if manager.is_alive():
    manager.shutdown_kernel()
