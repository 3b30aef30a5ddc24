"""Run the cells of one notebook in a kernel, and report what it says; this runs inside the environment.

It is sent as text to the environment's own Python, whatever version that is, after `claims` and
`surroundings`, and imports nothing but the standard library and jupyter_client, which every ipykernel brings.
In comes one line of JSON, the job; its end is told by the end of stdin, and then nothing may stay. Out go
lines of JSON, each with what happened.

Messages: https://jupyter-client.readthedocs.io/en/stable/messaging.html
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # it was run before, in the same namespace
    from envbox.sessions.execution.claims import Claims
    from envbox.sessions.execution.surroundings import (
        chosen,
        is_exit,
        is_limited,
        no_start_up,
        oom_kills,
        own_kernels,
    )

GRACE = 5  # seconds that an interrupted cell, or a kernel that is asked to end, has for it
TAIL = 4  # seconds of silence after which the end of a cell's outputs is taken as lost, as nbclient has it
POLL = 0.3  # seconds between two looks at whether the kernel lives
SHOWN = ("stream", "display_data", "execute_result", "error", "update_display_data", "clear_output")
COMMS = ("comm_open", "comm_msg", "comm_close")


class Stopped(Exception):
    """Nobody listens any more."""


class Ended(Exception):
    """The kernel has ended by itself."""


class Driver:
    """One kernel, and where reports about it go."""

    def __init__(self, job: dict[str, Any], out: Any) -> None:
        self.job = job
        self.out = out
        self.room: dict[str, int] = {}
        self.cells: dict[str, int] = {}
        self.claims = Claims()
        self.reply: dict[str, Any] = {}
        self.oom_kills = 0
        self.manager: Any = None
        self.client: Any = None
        self.private = job["private"] or tempfile.mkdtemp(prefix="envbox-")

    def tell(self, event: str, **values: Any) -> None:
        """Report one thing."""
        values["event"] = event
        self.out.write((json.dumps(values) + "\n").encode("utf-8", "replace"))
        self.out.flush()

    def start(self) -> None:
        """Start the kernel and wait until it answers."""
        from jupyter_client.kernelspec import KernelSpecManager
        from jupyter_client.manager import KernelManager

        # the environment's own alone: not a person's, not this machine's
        specs = KernelSpecManager(kernel_dirs=[str(own_kernels())])
        name = chosen(specs.get_all_specs(), self.job)
        connection = str(Path(self.private, "kernel.json"))
        self.manager = KernelManager(kernel_name=name, kernel_spec_manager=specs, connection_file=connection)
        spec = self.manager.kernel_spec
        # two kernels that write one history lock each other out
        quiet = ["--HistoryManager.hist_file=:memory:"] if "ipykernel" in " ".join(spec.argv) else []
        if Path(spec.argv[0]).name == "julia":
            spec.argv.insert(1, "--startup-file=no")
        env = {**os.environ, **no_start_up(self.private, os.environ)}
        self.manager.start_kernel(
            extra_arguments=quiet, env=env, stdin=subprocess.DEVNULL, stdout=2, stderr=2
        )
        self.oom_kills = oom_kills()
        with suppress(OSError, AttributeError):
            # if memory runs out it shall be the kernel that goes, and not who can tell of it
            Path(f"/proc/{self.process().pid}/oom_score_adj").write_text("500")
        self.client = self.manager.client()
        self.client.start_channels()
        try:
            self.client.wait_for_ready(timeout=self.job["startup"])
        except RuntimeError:
            if self.manager.is_alive():
                raise
            raise Ended from None
        info = self.client.kernel_info(reply=True, timeout=self.job["startup"])["content"]
        spec = {"name": name, "display_name": spec.display_name, "language": spec.language}
        self.tell("kernel", spec=spec, language_info=info.get("language_info", {}))

    def process(self) -> Any:
        """Return the kernel's process, wherever this jupyter_client keeps it."""
        provisioner = getattr(self.manager, "provisioner", None)
        return getattr(provisioner, "process", None) or getattr(self.manager, "kernel", None)

    def run(self) -> None:
        """Run all cells, until one fails, or ends the notebook."""
        for cell in self.job["cells"]:
            self.sync()
            self.tell("begin", cell=cell["index"])
            start = time.monotonic()
            self.room = {"stream": self.job["most_text"], "other": self.job["most_other"]}
            status = self.cell(cell)
            if status == "error" and is_exit(self.reply) and not cell["may_fail"]:
                status = "exit"
            error = {key: self.reply.get(key) for key in ("ename", "evalue", "traceback")}
            seconds = time.monotonic() - start
            self.tell("end", cell=cell["index"], status=status, seconds=seconds, error=error)
            if status != "ok" and not (status == "error" and cell["may_fail"]):
                return

    def sync(self) -> None:
        """Tell the kernel which outputs its widgets have."""
        for content in self.claims.news():
            self.client.shell_channel.send(self.client.session.msg("comm_msg", content=content))

    def cell(self, cell: dict[str, Any]) -> str:
        """Run a cell; how it ended is returned: ok, error, timeout or input."""
        seconds = self.job["timeout"]
        deadline = time.monotonic() + seconds if seconds else None
        request = self.client.execute(cell["source"], allow_stdin=False, stop_on_error=False)
        self.cells[request] = cell["index"]
        status: str | None = None
        reply: dict[str, Any] = {}
        self.reply = reply
        idle, told = False, time.monotonic()
        while not (reply and idle):
            now = time.monotonic()
            if deadline and now > deadline:
                if status is not None:  # it takes no notice
                    return status
                status, deadline = "timeout", now + GRACE
                self.manager.interrupt_kernel()
            if reply and now - told > TAIL:
                self.tell("lost", cell=cell["index"])
                break
            for channel, message in self.messages():
                if message["parent_header"].get("msg_id") != request:
                    self.other(cell["index"], channel, message)
                    continue
                told = time.monotonic()
                if channel == "shell":
                    self.reply = reply = message["content"]
                elif channel == "stdin":
                    status, deadline = "input", told + GRACE
                    self.manager.interrupt_kernel()
                elif message["msg_type"] == "status":
                    idle = message["content"]["execution_state"] == "idle"
                else:
                    self.shown(cell["index"], message)
        if status is not None:
            return status
        return "ok" if reply.get("status") == "ok" else "error"

    def messages(self) -> list[tuple[str, dict[str, Any]]]:
        """Wait a moment for what the kernel says."""
        from queue import Empty

        import zmq

        poller, channels = zmq.Poller(), {}
        for name in ("iopub", "shell", "stdin"):
            channel = getattr(self.client, name + "_channel")
            channels[channel.socket] = (name, channel)
            poller.register(channel.socket, zmq.POLLIN)
        poller.register(0, zmq.POLLIN)
        ready = dict(poller.poll(POLL * 1000))
        if 0 in ready and not os.read(0, 1 << 16):
            raise Stopped
        found: list[tuple[str, dict[str, Any]]] = []
        for socket, (name, channel) in channels.items():
            if socket in ready:
                with suppress(Empty):
                    while len(found) < 1000:
                        found.append((name, channel.get_msg(timeout=0)))
        if not found and not self.manager.is_alive():
            raise Ended
        return found

    def other(self, cell: int, channel: str, message: dict[str, Any]) -> None:
        """Take what is not said in answer to the cell: of widgets, or by threads that an earlier cell has
        left.
        """
        if channel == "iopub":
            self.shown(self.cells.get(message["parent_header"].get("msg_id"), cell), message)

    def shown(self, cell: int, message: dict[str, Any]) -> None:
        """Report an output, unless the cell has put out too much."""
        kind, content = message["msg_type"], message["content"]
        if kind == "execute_input":
            self.tell("count", cell=cell, count=content.get("execution_count"))
        if kind == "clear_output":
            self.room = {"stream": self.job["most_text"], "other": self.job["most_other"]}
        holder = self.claims.holder(message["parent_header"].get("msg_id"), kind)
        if kind in COMMS:
            self.claims.heard(kind, content)
            content = dict(content, buffers=[bytes(b).hex() for b in message.get("buffers", [])])
        if kind not in SHOWN + COMMS:
            return
        which = "stream" if kind == "stream" else "other"
        before = self.room[which]
        size = len(content["text"]) if kind == "stream" else 100 + len(json.dumps(content))
        self.room[which] = before - size
        if self.room[which] >= 0 or kind == "error":
            self.told(cell, kind, content, holder)
        elif before >= 0:
            if kind == "stream" and before:
                self.told(cell, kind, dict(content, text=content["text"][:before]), holder)
            self.tell("full", cell=cell)

    def told(self, cell: int, kind: str, content: dict[str, Any], holder: str | None) -> None:
        """Report an output, and whose it is."""
        if holder is not None:
            self.claims.take(holder, kind, content)
        self.tell("output", cell=cell, kind=kind, content=content, widget=holder)

    def died(self) -> None:
        """Report how the kernel ended."""
        try:
            code = self.process().poll()
        except AttributeError:
            code = None
        memory = oom_kills() > self.oom_kills or (code in (-9, 137) and is_limited())
        self.tell("dead", code=code, memory=memory)

    def close(self) -> None:
        """End the kernel."""
        try:
            if self.manager is None or not self.manager.has_kernel:
                return
            if self.client is not None:
                self.client.stop_channels()
            self.manager.shutdown_kernel(now=True)
        finally:
            shutil.rmtree(self.private, ignore_errors=True)


def stop(number: int, frame: object) -> None:
    """End as if nobody listened."""
    raise Stopped


def main() -> None:
    """Read the job, run it, and leave nothing."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what else is printed must not come between the reports
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever listens is told, and tells us
    line = b""
    while not line.endswith(b"\n"):
        data = os.read(0, 1 << 20)
        if not data:
            return
        line += data
    driver = Driver(json.loads(line), out)
    try:
        driver.start()
        driver.run()
        driver.tell("done")
    except ImportError as error:
        is_missing = isinstance(error, ModuleNotFoundError) and error.name == "jupyter_client"
        there = sorted(path.parent.name for path in own_kernels().glob("*/kernel.json"))
        words = f"{type(error).__name__}: {error}"
        driver.tell("no client" if is_missing else "failed", words=words, there=there)
    except LookupError as error:
        driver.tell("no kernel", there=error.args[0] if error.args else [])
    except Ended:
        driver.died()
    except (Stopped, BrokenPipeError):
        pass
    except (RuntimeError, OSError) as error:
        driver.tell("failed", words=str(error))
    finally:
        driver.close()
        out.close()


if __name__ == "__main__":
    main()
