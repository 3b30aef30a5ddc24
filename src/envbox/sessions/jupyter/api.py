"""The few questions that are asked of a Jupyter server itself.

https://jupyter-server.readthedocs.io/en/latest/developers/rest-api.html
"""

from __future__ import annotations

import http.client
from dataclasses import dataclass

from envbox.sessions.launch.bindings import LOOPBACK


@dataclass(frozen=True, slots=True)
class ServerEndpoint:
    """Where a server is, and what lets us in. The token is no part of what is shown of it."""

    port: int
    token: str

    def __repr__(self) -> str:
        return f"Door({self.port})"

    def url(self, path: str) -> str:
        """Return the address for a browser."""
        return f"http://{LOOPBACK}:{self.port}{path}?token={self.token}"


def status(door: ServerEndpoint, seconds: float = 5) -> int | None:
    """Return the HTTP status that the server's API answers with, None while nothing answers."""
    answer = _get(door, "/api/status", seconds)
    return answer and answer[0]


def is_open(door: ServerEndpoint, seconds: float = 5) -> bool:
    """Return whether the server's API answers whoever asks, without a token."""
    answer = _get(ServerEndpoint(door.port, ""), "/api/status", seconds)
    return answer is not None and answer[0] == 200


def landing_path(door: ServerEndpoint, seconds: float = 2) -> str:
    """Return the page that the server sends a browser to: `/lab`, `/tree`, or `/` when it does not say."""
    answer = _get(door, "/", seconds)
    return (answer[1].partition("?")[0] if answer else "") or "/"


def answers(door: ServerEndpoint, path: str, seconds: float = 5) -> bool:
    """Return whether the server has a page."""
    answer = _get(door, path, seconds)
    return answer is not None and answer[0] == 200


def _get(door: ServerEndpoint, path: str, seconds: float) -> tuple[int, str] | None:
    connection = http.client.HTTPConnection(LOOPBACK, door.port, timeout=seconds)
    try:
        headers = {"Authorization": f"token {door.token}"} if door.token else {}
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers.get("Location", "")
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
