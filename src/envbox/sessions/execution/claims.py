"""Outputs that a widget has claimed: they are the widget's, and not the cell's.

ipywidgets' Output (and what is made of it, as `interact`) tells the front end, by the state of its model,
whose request's outputs it takes from now on. The kernel wants to know them too: it is told before the next
cell, which is when it listens again. Sent along with `driver`, and run in its namespace.
https://ipywidgets.readthedocs.io/en/stable/examples/Output%20Widget.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CLAIMED = ("stream", "display_data", "execute_result", "error", "clear_output")


class Claims:
    """What output widgets have claimed, and hold."""

    def __init__(self) -> None:
        self._claims: dict[str, list[str]] = {}
        self._outputs: dict[str, list[dict[str, Any]]] = {}
        self._to_clear: set[str] = set()
        self._changed: set[str] = set()

    def holder(self, request: str | None, kind: str) -> str | None:
        """Return the widget that has what is said in answer to a request: the last that claimed it.

        :param kind: the message's type
        """
        claimed = self._claims.get(request or "") if kind in CLAIMED else None
        return claimed[-1] if claimed else None

    def heard(self, kind: str, content: Mapping[str, Any]) -> None:
        """Take notice of a message about a widget."""
        name, data = content.get("comm_id", ""), content.get("data") or {}
        state = data.get("state") if isinstance(data, dict) else None
        if kind == "comm_close":
            self._release(name)
            self._outputs.pop(name, None)
        if not isinstance(state, dict):
            return
        if kind == "comm_open" and state.get("_model_name") == "OutputModel":
            self._outputs[name] = []
        if name not in self._outputs or data.get("method") == "echo_update":
            return
        if isinstance(state.get("outputs"), list | tuple):
            self._outputs[name] = list(state["outputs"])
        if "msg_id" in state:
            self._release(name)
            if state["msg_id"]:
                self._claims.setdefault(state["msg_id"], []).append(name)

    def take(self, name: str, kind: str, content: Mapping[str, Any]) -> None:
        """Put an output into a widget."""
        self._changed.add(name)
        if kind == "clear_output":
            self._to_clear.add(name)
            if content.get("wait"):
                return
        if name in self._to_clear:
            self._outputs[name] = []
            self._to_clear.discard(name)
        if kind == "clear_output":
            return
        keys = {
            "stream": ("name", "text"),
            "error": ("ename", "evalue", "traceback"),
            "display_data": ("data", "metadata"),
            "execute_result": ("data", "metadata", "execution_count"),
        }[kind]
        outputs = self._outputs[name]
        last = outputs[-1] if outputs else {}
        if kind == "stream" and last.get("output_type") == kind and last.get("name") == content["name"]:
            outputs[-1] = dict(last, text=last["text"] + content["text"])
        else:
            outputs.append({"output_type": kind, **{key: content[key] for key in keys if key in content}})

    def news(self) -> list[dict[str, Any]]:
        """Return what the kernel has to be told of widgets whose outputs have changed: contents of
        messages.
        """
        changed, self._changed = sorted(self._changed & self._outputs.keys()), set()
        return [
            {
                "comm_id": name,
                "data": {"method": "update", "state": {"outputs": self._outputs[name]}, "buffer_paths": []},
            }
            for name in changed
        ]

    def _release(self, name: str) -> None:
        """Give up what a widget has claimed."""
        for claimed in self._claims.values():
            if name in claimed:
                claimed.remove(name)
