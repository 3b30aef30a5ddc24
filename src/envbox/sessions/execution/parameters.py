"""Parameters of a notebook, as papermill has them: a cell after the one that is tagged `parameters`.

https://papermill.readthedocs.io/en/latest/usage-parameterize.html
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from envbox.errors import NotebookError, did_you_mean

TAG, INJECTED = "parameters", "injected-parameters"
_NAME = re.compile(r"[^\W\d]\w*")
_R_NAME = re.compile(r"[A-Za-z.][\w.]*")
_FLOAT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def parse_parameters(
    typed: Sequence[str], raw: Sequence[str], yaml: Sequence[str], files: Sequence[Path]
) -> dict[str, Any]:
    """Read parameters from a command line. Later ones win: files, YAML, typed, raw.

    :param typed: `NAME=VALUE`, where a value that looks like a number, a truth or None is one
    :param raw: `NAME=VALUE`, where it is text
    :param yaml: mappings in YAML
    :param files: of YAML
    :raises NotebookError: when one is not that
    """
    found: dict[str, Any] = {}
    for path in files:
        try:
            found |= _mapping(path.read_text(encoding="utf-8"), f"-f {path}")
        except (OSError, UnicodeDecodeError) as error:
            raise NotebookError(f"cannot read the parameters in {path}: {error}") from error
    for text in yaml:
        found |= _mapping(text, f"-y {text}")
    found |= {name: typed_value(value) for name, value in (_pair(text, "-p") for text in typed)}
    return found | dict(_pair(text, "-r") for text in raw)


def typed_value(text: str) -> bool | int | float | str | None:
    """Return a value as what it looks like, by papermill's rule: only Python's own spellings count."""
    if text in ("True", "False", "None"):
        return {"True": True, "False": False, "None": None}[text]
    if re.fullmatch(r"[-+]?\d+", text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def inject(document: dict[str, Any], values: Mapping[str, Any], language: str, path: Path) -> tuple[str, ...]:
    """Put a cell with the parameters where it belongs: after the tagged one, in the place of an earlier one.

    :param document: of version 4; changed
    :returns: what should be told: a notebook that has no such parameters
    :raises NotebookError: for a language, or a value, that cannot be written
    """
    cells = document["cells"]
    source = "\n".join(["# Parameters", *(assignment(n, v, language, path) for n, v in values.items())])
    cell = {"cell_type": "code", "execution_count": None, "metadata": {"tags": [INJECTED]}, "outputs": [],
            "source": source.splitlines(keepends=True)}  # fmt: skip
    if (document["nbformat"], document.get("nbformat_minor", 0)) >= (4, 5):
        cell["id"] = INJECTED  # the same each time, so that results can be compared
    tagged, injected = _first(cells, TAG), _first(cells, INJECTED)
    if injected is not None:
        cells[injected] = {**cell, **({"id": cells[injected]["id"]} if "id" in cells[injected] else {})}
    else:
        cells.insert(0 if tagged is None else tagged + 1, cell)
    if tagged is None:
        return (f"{path.name} has no cell tagged `{TAG}`: they are set at its top",) * (injected is None)
    known = _assigned(_text(cells[tagged])) if language == "python" else None
    unknown = [] if known is None else [name for name in values if name not in known]
    return tuple(
        f"{path.name} has no parameter {name}" + (f"; {hint}" if hint else "")
        for name in unknown
        for hint in [did_you_mean(name, known or ())]
    )


def assignment(name: str, value: Any, language: str, path: Path) -> str:
    """Return a line that sets a parameter.

    :raises NotebookError: for a language, name or value that cannot be written
    """
    writers = {"python": _python, "r": _r, "julia": _julia}
    if language not in writers:
        raise NotebookError(
            f"{path} is in {language}, and parameters can be set in {', '.join(writers)} alone",
            "let it read a variable: --env NAME=VALUE",
        )
    if not (_R_NAME if language == "r" else _NAME).fullmatch(name):
        raise NotebookError(f"{name!r} is no name of a parameter in {language}", "write -p NAME=VALUE")
    return f"{name} = {writers[language](value)}"


def _python(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_python(k)}: {_python(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_python, value)) + "]"
    return repr(value) if isinstance(value, bool | int | float | None) else _quoted(value)


def _r(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "NULL", True: "TRUE", False: "FALSE"}[value]
    if isinstance(value, dict):
        return "list(" + ", ".join(f"{_quoted(str(k))} = {_r(v)}" for k, v in value.items()) + ")"
    if isinstance(value, list):
        return "list(" + ", ".join(map(_r, value)) + ")"
    if isinstance(value, float) and not math.isfinite(value):
        return {"inf": "Inf", "-inf": "-Inf"}.get(str(value), "NaN")
    return repr(value) if isinstance(value, int | float) else _quoted(value)


def _julia(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "nothing", True: "true", False: "false"}[value]
    if isinstance(value, dict):
        return "Dict(" + ", ".join(f"{_julia(k)} => {_julia(v)}" for k, v in value.items()) + ")"
    if isinstance(value, list):
        return "[" + ", ".join(map(_julia, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return {"inf": "Inf", "-inf": "-Inf"}.get(str(value), "NaN")
    return repr(value) if isinstance(value, int | float) else _quoted(value).replace("$", "\\$")


def _quoted(value: Any) -> str:
    """Return a text in double quotes, which all three languages read alike; a date as its text."""
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _pair(text: str, flag: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise NotebookError(f"{flag} {text}: not a parameter", f"write {flag} NAME=VALUE")
    return name, value


def _mapping(text: str, shown: str) -> dict[str, Any]:
    import yaml

    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise NotebookError(f"{shown}: not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(found, dict):
        raise NotebookError(f"{shown}: not a mapping of names to values", 'write -y "{NAME: VALUE}"')
    return {str(name): value for name, value in found.items()}


def _first(cells: Sequence[Mapping[str, Any]], tag: str) -> int | None:
    return next((i for i, cell in enumerate(cells) if tag in tags(cell)), None)


def tags(cell: Mapping[str, Any]) -> list[str]:
    """Return a cell's tags; none where they are written in no way that counts."""
    metadata = cell.get("metadata")
    found = metadata.get("tags") if isinstance(metadata, dict) else None
    return [tag for tag in found if isinstance(tag, str)] if isinstance(found, list) else []


def allows_errors(metadata: Mapping[str, Any]) -> bool:
    """Return whether a notebook asks to be run to its end whatever fails, in one of the ways that people
    write it.

    nbconvert's and nbclient's `allow_errors`, and those of Jupyter Book (`execution`) and nbsphinx.
    """
    places = (metadata, metadata.get("execution"), metadata.get("nbsphinx"), metadata.get("nbclient"))
    return any(isinstance(place, Mapping) and place.get("allow_errors") is True for place in places)


def _text(cell: Mapping[str, Any]) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def _assigned(source: str) -> set[str] | None:
    """Return the names that a cell sets; None when it cannot be read."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return None
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
