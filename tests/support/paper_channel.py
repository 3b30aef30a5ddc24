"""A conda channel of records alone: all that a solve needs, and nothing to install."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def record(
    name: str, version: str, depends: Sequence[str] = (), *, build: str = "0", subdir: str = "noarch"
) -> dict[str, Any]:
    """One package's record, its hashes made from its name."""
    stem = f"{name}-{version}-{build}"
    found = {
        "build": build,
        "build_number": int(build[-1]) if build[-1].isdigit() else 0,
        "depends": list(depends),
        "md5": hashlib.md5(stem.encode()).hexdigest(),
        "name": name,
        "sha256": hashlib.sha256(stem.encode()).hexdigest(),
        "size": 1000,
        "subdir": subdir,
        "timestamp": 1767225600000,
        "version": version,
    }
    return {**found, "noarch": "generic"} if subdir == "noarch" else found


def write_channel(folder: Path, records: Sequence[dict[str, Any]]) -> Path:
    """Write the channel's indexes; every subdir that a record names, and noarch."""
    for subdir in {"noarch", *(r["subdir"] for r in records)}:
        packages = {
            f"{r['name']}-{r['version']}-{r['build']}.conda": r for r in records if r["subdir"] == subdir
        }
        index = {
            "info": {"subdir": subdir},
            "packages": {},
            "packages.conda": packages,
            "repodata_version": 1,
        }
        (folder / subdir).mkdir(parents=True, exist_ok=True)
        (folder / subdir / "repodata.json").write_text(json.dumps(index))
    return folder


class _Handler(SimpleHTTPRequestHandler):
    def send_head(self) -> Any:
        del self.headers["If-Modified-Since"]  # a 304 of this server lacks what a client needs of it
        return super().send_head()

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serve a folder on a free loopback port; gives its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
