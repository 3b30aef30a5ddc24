"""A notebook as one page to look at, without a server: what it says, its code, and its outputs.

What a cell has put out as HTML is shown without what could act, since a notebook may be somebody else's; with
its scripts, as Jupyter shows it, only where that is asked for. Nothing is fetched from elsewhere.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from envbox.files import write_whole
from envbox.notebooks.document import read_notebook
from envbox.sessions.execution.inert import POLICY, inert

_STYLE = """\
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222;
  font: 16px/1.5 system-ui, sans-serif }
pre { margin: 0; padding: .6rem .8rem; overflow-x: auto; font: 13px/1.4 ui-monospace, monospace }
.code { background: #f6f8fa; border: 1px solid #ddd; border-radius: 4px; margin-top: 1rem }
.out { margin: .3rem 0; overflow-x: auto }
.stderr { background: #fff4f4 }
.error { background: #fff0f0; border-left: 3px solid #c33 }
img, svg { max-width: 100% }
table { border-collapse: collapse } th, td { padding: .2rem .6rem; border: 1px solid #ddd; text-align: right }
footer { margin-top: 3rem; color: #777; font-size: 13px }
"""


def write_page(notebook: Path, path: Path, *, scripts: bool = False) -> None:
    """Write the page of a notebook.

    :param scripts: whether what the notebook has put out may act
    :raises NotebookError: when it is none
    :raises ToolError: when the page cannot be written
    """
    read = read_notebook(notebook)
    text = page(read.document, notebook.stem, read.language, scripts=scripts)
    write_whole(path, text.encode(errors="replace"), is_cache=False)


def page(document: Mapping[str, Any], title: str, language: str, *, scripts: bool = False) -> str:
    """Return the page of a notebook's document, of version 4."""
    allowed: Callable[[str], str] = str if scripts else inert
    reader, code = _markdown(), _highlighter(language)
    parts = []

    def markdown(text: str) -> str:
        return allowed(reader(text))

    for cell in document["cells"]:
        source = _text(cell.get("source", ""))
        if cell.get("cell_type") == "markdown":
            parts.append(markdown(_attached(source, cell)))
        elif cell.get("cell_type") == "code":
            if source.strip():
                parts.append(f'<div class="code">{code(source)}</div>')
            parts += [
                f'<div class="out">{allowed(_output(o, reader))}</div>' for o in cell.get("outputs", [])
            ]
        else:
            parts.append(f"<pre>{html.escape(source)}</pre>")
    made = document.get("metadata", {}).get("envbox")
    about = (
        ", ".join(f"{key} {value}" for key, value in sorted(made.items())) if isinstance(made, dict) else ""
    )
    policy = "" if scripts else f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    head = f'<!DOCTYPE html><html><head><meta charset="utf-8">{policy}<title>{html.escape(title)}</title>'
    style = f"<style>{_STYLE}{code.styles}</style></head><body>"  # type: ignore[attr-defined]
    foot = f"<footer>{html.escape(about)}</footer></body></html>"
    return "\n".join([head + style, *parts, foot]) + "\n"


def _text(value: Any) -> str:
    return "".join(value) if isinstance(value, list) else str(value)


def _attached(source: str, cell: Mapping[str, Any]) -> str:
    """Return a text with the pictures that lie in its cell."""
    for name, kinds in (cell.get("attachments") or {}).items():
        for kind, data in kinds.items():
            source = source.replace(f"attachment:{name}", f"data:{kind};base64,{_text(data)}")
    return source


def _output(output: Mapping[str, Any], markdown: Callable[[str], str]) -> str:
    kind = output.get("output_type")
    if kind == "stream":
        name = "stderr" if output.get("name") == "stderr" else "stdout"
        return f'<pre class="{name}">{_ansi(_text(output.get("text", "")))}</pre>'
    if kind == "error":
        return f'<pre class="error">{_ansi(chr(10).join(output.get("traceback", [])))}</pre>'
    data = output.get("data", {})
    if "text/html" in data:
        return _text(data["text/html"])
    if "image/svg+xml" in data:  # as a picture, in which nothing runs
        drawn = base64.b64encode(_text(data["image/svg+xml"]).encode(errors="replace")).decode()
        return f'<img alt="" src="data:image/svg+xml;base64,{drawn}">'
    for of in ("image/png", "image/jpeg", "image/gif", "image/webp"):
        if of in data:
            return f'<img alt="" src="data:{of};base64,{html.escape(_text(data[of]).strip())}">'
    if "text/markdown" in data:
        return markdown(_text(data["text/markdown"]))
    return f"<pre>{_ansi(_text(data.get('text/plain', data.get('text/latex', ''))))}</pre>"


def _ansi(text: str) -> str:
    """Return a terminal's text with its colours; what a carriage return has written over is gone."""
    text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    if "\x1b" not in text:
        return html.escape(text)
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, file=io.StringIO(), width=100_000, color_system="truecolor")
    console.print(Text.from_ansi(text), soft_wrap=True, end="")
    return console.export_html(inline_styles=True, code_format="{code}")


def _markdown() -> Callable[[str], str]:
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    reader.validateLink = lambda url: True  # type: ignore[method-assign]  # pictures as data, too
    return lambda text: str(reader.render(text))


def _highlighter(language: str) -> Callable[[str], str]:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language)
    except ClassNotFound:
        lexer = get_lexer_by_name("text")
    form: Any = HtmlFormatter()

    def coloured(source: str) -> str:
        return str(highlight(source, lexer, form))

    coloured.styles = form.get_style_defs(".highlight")  # type: ignore[attr-defined]
    return coloured
