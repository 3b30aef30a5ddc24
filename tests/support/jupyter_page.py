"""What a page in a browser does with a Jupyter server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen
from uuid import uuid4

import websocket

if TYPE_CHECKING:
    pass


def parts(url: str) -> tuple[str, str]:
    """The origin and the token of an address."""
    found = urlsplit(url)
    return f"{found.scheme}://{found.netloc}", parse_qs(found.query)["token"][0]


def call(url: str, path: str, method: str = "GET", body: Any = None, token: str | None = None) -> Any:
    """Ask the server's API."""
    origin, own = parts(url)
    data = None if body is None else json.dumps(body).encode()
    request = Request(origin + path, data, {"Authorization": f"token {token or own}"}, method=method)
    with urlopen(request, timeout=30) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def execute(url: str, code: str) -> str:
    """Start a kernel, run a cell in it, give what it printed, and end the kernel."""
    origin, token = parts(url)
    kernel = call(url, "/api/kernels", "POST", {})["id"]
    channel = websocket.create_connection(
        f"{origin.replace('http', 'ws')}/api/kernels/{kernel}/channels",
        header=[f"Authorization: token {token}"],
        timeout=60,
    )
    mark = uuid4().hex
    header = {
        "msg_id": mark,
        "username": "",
        "session": mark,
        "msg_type": "execute_request",
        "version": "5.3",
    }
    content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    channel.send(json.dumps(message))
    written, replied, idle = "", False, False
    while not (replied and idle):
        received = json.loads(channel.recv())
        if received["parent_header"].get("msg_id") != mark:
            continue
        if received["msg_type"] == "stream":
            written += received["content"]["text"]
        replied |= received["msg_type"] == "execute_reply"
        idle |= received["msg_type"] == "status" and received["content"]["execution_state"] == "idle"
    channel.close()
    call(url, f"/api/kernels/{kernel}", "DELETE")
    return written
