"""A question or a small deed, asked of an engine over its Unix socket, without the SDK.

Importing the SDK would cost more than all else that `envbox run` does before the engine's client takes over
(90 ms). In HTTP/1.0 an answer ends where the connection ends, so there is next to nothing to parse.
"""

from __future__ import annotations

import socket
from pathlib import Path

from envbox.errors import ToolError

SECONDS = 60


def ask(socket_path: Path, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    """Send a request without a body: status, headers with lower-case names, body of the answer.

    :raises OSError: when nothing listens, lets us in, or answers within a minute
    :raises ToolError: when what answers does not speak HTTP
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(SECONDS)
        connection.connect(str(socket_path))
        connection.sendall(f"{method} {path} HTTP/1.0\r\nHost: engine\r\nContent-Length: 0\r\n\r\n".encode())
        answer = bytearray()
        while received := connection.recv(1 << 16):
            answer += received
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if not words[0].startswith("HTTP/") or not words[-1:] or not "".join(words[1:2]).isdigit():
        raise ToolError(f"what listens at {socket_path} is no container engine", "set DOCKER_HOST to one")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(words[1]), headers, body
