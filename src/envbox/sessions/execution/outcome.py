"""What a kernel says, as the outputs of a notebook's cells.

Messages: https://jupyter-client.readthedocs.io/en/stable/messaging.html; outputs:
https://nbformat.readthedocs.io/en/latest/format_description.html#code-cell-outputs
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any

WIDGETS = "application/vnd.jupyter.widget-state+json"
MOST_TEXT = 4 << 20
"""Characters of a cell's printed text that are kept: more is read by nobody, and opens in no browser."""
MOST_OTHER = 64 << 20
"""Likewise of tables, pictures and everything else: a few large interactive plots."""
FULL = "\n[envbox: this cell put out more than is kept; the rest is left out]\n"

Output = dict[str, Any]


class Outcome:
    """A notebook's document, with its cells' outputs as they come."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._to_clear: set[int | str] = set()
        self._widgets: dict[str, dict[str, Any]] = {}
        self._buffers: dict[str, dict[str, dict[str, Any]]] = {}

    def cell(self, index: int) -> dict[str, Any]:
        """Return a cell of the document, by its place from 0."""
        found: dict[str, Any] = self.document["cells"][index]
        return found

    def count(self, index: int, number: int | None) -> None:
        """Note a cell's number of execution."""
        self.cell(index)["execution_count"] = number
        for output in self.cell(index)["outputs"]:
            if output["output_type"] == "execute_result":
                output["execution_count"] = number

    def take(self, index: int, kind: str, content: Mapping[str, Any], widget: str | None = None) -> None:
        """Take a message of the kernel's into the cell's outputs.

        :param kind: the message's type
        :param widget: which has claimed it, and has it then instead of the cell
        """
        place = widget if widget in self._widgets else index
        if kind.startswith("comm_"):
            self._comm(kind, content)
        elif kind == "clear_output":
            self._to_clear.add(place)
            if not content.get("wait"):
                self._clear(place)
        elif kind == "update_display_data":
            self._update(content)
        else:
            self._clear(place)
            output = _output(kind, content, self.cell(index).get("execution_count"))
            if place == index:
                self._update(content)  # what is displayed again under a name is so wherever it was
            else:
                output.pop("transient", None)
            self._append(place, output)

    def full(self, index: int) -> None:
        """Say in the outputs that more came than is kept."""
        self._append(index, {"output_type": "stream", "name": "stderr", "text": FULL})

    def finished(self) -> dict[str, Any]:
        """Return the document as it is to be written now: texts as lists of lines, as Jupyter writes them."""
        cells = [_written(cell) for cell in self.document["cells"]]
        metadata = dict(self.document["metadata"])
        if self._widgets:
            state = {"version_major": 2, "version_minor": 0, "state": self._widgets}
            metadata["widgets"] = {WIDGETS: state}
        return {**self.document, "cells": cells, "metadata": metadata}

    def _list(self, place: int | str) -> list[Output]:
        """Return the outputs of a cell or of a widget."""
        where = self.cell(place) if isinstance(place, int) else self._widgets[place]["state"]
        if not isinstance(where.get("outputs"), list):
            where["outputs"] = []
        found: list[Output] = where["outputs"]
        return found

    def _clear(self, place: int | str) -> None:
        if place in self._to_clear:
            self._list(place).clear()
            self._to_clear.discard(place)

    def _append(self, place: int | str, output: Output) -> None:
        outputs = self._list(place)
        last = outputs[-1] if outputs else {}
        if output["output_type"] == "stream" and last.get("name") == output["name"]:
            last["text"] += output["text"]
        else:
            outputs.append(output)

    def _update(self, content: Mapping[str, Any]) -> None:
        """Replace what was displayed under a name, wherever it was."""
        wanted = (content.get("transient") or {}).get("display_id")
        for output in self._outputs() if wanted is not None else ():
            if (output.get("transient") or {}).get("display_id") == wanted:
                output["data"], output["metadata"] = content["data"], content["metadata"]

    def _outputs(self) -> Iterator[Output]:
        for cell in self.document["cells"]:
            if cell.get("cell_type") == "code":
                yield from cell["outputs"]

    def _comm(self, kind: str, content: Mapping[str, Any]) -> None:
        """Keep the state of widgets, so that a page can show them without a kernel.

        https://ipywidgets.readthedocs.io/en/stable/embedding.html
        """
        name, data = content.get("comm_id", ""), content.get("data") or {}
        if kind == "comm_open" and content.get("target_name") == "jupyter.widget":
            self._widgets[name] = {"state": {}}
        if name not in self._widgets or not isinstance(data, dict) or "state" not in data:
            return
        widget, state = self._widgets[name], dict(data["state"])
        if data.get("method") == "echo_update":  # of what the kernel was told; more has come since
            state.pop("outputs", None)
        widget["state"].update(state)
        for key in ("model_name", "model_module", "model_module_version"):
            if f"_{key}" in widget["state"]:
                widget[key] = widget["state"][f"_{key}"]
        pairs = zip(data.get("buffer_paths") or (), content.get("buffers") or (), strict=False)
        kept = self._buffers.setdefault(name, {})
        for path, buffer in pairs:
            data = base64.b64encode(bytes.fromhex(buffer)).decode()
            kept[repr(path)] = {"encoding": "base64", "path": path, "data": data}
        if kept:
            widget["buffers"] = list(kept.values())


def _output(kind: str, content: Mapping[str, Any], count: int | None) -> Output:
    """Return a message as the output that a notebook has for it."""
    if kind == "stream":
        return {"output_type": kind, "name": content["name"], "text": content["text"]}
    if kind == "error":
        return {"output_type": kind, **{key: content[key] for key in ("ename", "evalue", "traceback")}}
    made: Output = {"output_type": kind, "data": content["data"], "metadata": content.get("metadata", {})}
    if kind == "execute_result":
        made["execution_count"] = content.get("execution_count", count)
    made["transient"] = content.get("transient") or {}
    return made


def _written(cell: dict[str, Any]) -> dict[str, Any]:
    if cell.get("cell_type") != "code":
        return cell
    return {**cell, "outputs": [_split(output) for output in cell["outputs"]]}


def _split(output: Output) -> Output:
    """Return an output without what was only for us, and with its lines one by one."""
    made = {key: value for key, value in output.items() if key != "transient"}
    if isinstance(made.get("text"), str):
        made["text"] = made["text"].splitlines(keepends=True)
    if isinstance(made.get("data"), dict):
        made["data"] = {kind: _lines(kind, value) for kind, value in made["data"].items()}
    return made


def _lines(kind: str, value: Any) -> Any:
    is_text = kind.startswith("text/") or kind in ("application/javascript", "image/svg+xml")
    return value.splitlines(keepends=True) if is_text and isinstance(value, str) else value
