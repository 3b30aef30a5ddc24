"""A page in headless Chromium, driven through its own protocol.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import websocket

BINARY = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page:
    """One page."""

    def __init__(self, address: str) -> None:
        self._channel = websocket.create_connection(address, timeout=60, suppress_origin=True)
        self._numbers = count(1)

    def send(self, method: str, **params: Any) -> Any:
        """Send a command and give its result."""
        number = next(self._numbers)
        self._channel.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(self._channel.recv())
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def goto(self, url: str) -> None:
        """Load an address."""
        self.send("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        return self.send("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 90) -> Any:
        """Ask for an expression's value until it is true."""
        deadline = time.monotonic() + seconds
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < deadline, f"never came true: {expression}\n{self.text()[:2000]}"
            time.sleep(0.2)
        return value

    def text(self) -> str:
        """What a person reads on it."""
        return self.evaluate("document.body ? document.body.innerText : ''") or ""

    def picture(self, path: Path) -> None:
        """Take a picture."""
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))


@contextmanager
def open_page(folder: Path) -> Iterator[Page]:
    """Start a browser with a profile of its own in `folder`."""
    assert BINARY is not None
    words = [BINARY, "--headless=new", "--remote-debugging-port=0", f"--user-data-dir={folder}"]
    words += ["--window-size=1280,800", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    words += ["--no-sandbox"] * (os.getuid() == 0)
    with subprocess.Popen(
        [*words, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as browser:
        try:
            port_file = folder / "DevToolsActivePort"
            for _ in range(300):
                if port_file.is_file() and port_file.read_text().count("\n"):
                    break
                time.sleep(0.1)
            port = port_file.read_text().splitlines()[0]
            with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
                (target,) = [t for t in json.loads(answer.read()) if t["type"] == "page"]
            yield Page(target["webSocketDebuggerUrl"])
        finally:
            browser.terminate()
