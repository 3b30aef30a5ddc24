"""What a kernel says becomes outputs as Jupyter would have them; and a page."""

from __future__ import annotations

import json
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pytest
from support.chromium import BINARY, open_page

from envbox.notebooks.write import written_like
from envbox.sessions.execution.outcome import WIDGETS, Outcome
from envbox.sessions.execution.page import page
from envbox.sessions.execution.payload import whole


def outcome() -> Outcome:
    cells = [
        nbformat.v4.new_code_cell("x"),
        nbformat.v4.new_markdown_cell("# T"),
        nbformat.v4.new_code_cell("y"),
    ]
    return Outcome(nbformat.v4.new_notebook(cells=cells))


def outputs(made: Outcome, index: int = 0) -> list[dict[str, Any]]:
    document = made.finished()
    nbformat.validate(nbformat.from_dict(document))
    found: list[dict[str, Any]] = document["cells"][index]["outputs"]
    return found


def stream(text: str, name: str = "stdout") -> tuple[str, dict[str, Any]]:
    return "stream", {"name": name, "text": text}


def shown(text: str, name: str = "", kind: str = "display_data") -> tuple[str, dict[str, Any]]:
    transient = {"transient": {"display_id": name}} if name else {}
    return kind, {"data": {"text/plain": text}, "metadata": {}, **transient}


def test_text_of_one_stream_is_one_output() -> None:
    made = outcome()
    for message in (stream("a\n"), stream("b"), stream("e", "stderr"), stream("c")):
        made.take(0, *message)
    assert [(o["name"], o["text"]) for o in outputs(made)] == [
        ("stdout", ["a\n", "b"]), ("stderr", ["e"]), ("stdout", ["c"]),
    ]  # fmt: skip


def test_what_is_displayed_under_a_name_is_updated_wherever_it_is() -> None:
    made = outcome()
    made.take(0, *shown("1", "bar"))
    assert outputs(made)[0] == {"output_type": "display_data", "data": {"text/plain": ["1"]}, "metadata": {}}
    made.take(2, *shown("2", "bar", "update_display_data"))
    assert outputs(made)[0]["data"] == {"text/plain": ["2"]}
    assert outputs(made, 2) == []


def test_clearing_may_wait_for_what_comes_next() -> None:
    made = outcome()
    made.take(0, *stream("a"))
    made.take(0, "clear_output", {"wait": True})
    assert len(outputs(made)) == 1
    made.take(0, *stream("b"))
    assert [o["text"] for o in outputs(made)] == [["b"]]
    made.take(0, "clear_output", {"wait": False})
    assert outputs(made) == []


def test_a_result_and_an_error_are_as_the_format_has_them() -> None:
    made = outcome()
    made.count(0, 7)
    made.take(0, "execute_result", {"data": {"text/plain": "1"}, "metadata": {}, "execution_count": 7})
    made.take(0, "error", {"ename": "E", "evalue": "v", "traceback": ["t"], "status": "error"})
    assert [o["output_type"] for o in outputs(made)] == ["execute_result", "error"]


def test_widgets_keep_their_state() -> None:
    made = outcome()
    state = {
        "_model_name": "IntSliderModel",
        "_model_module": "controls",
        "_model_module_version": "2.0",
        "value": 1,
    }
    made.take(0, "comm_open", {"comm_id": "w", "target_name": "jupyter.widget", "data": {"state": state}})
    update = {"method": "update", "state": {"value": 2}, "buffer_paths": [["data"]]}
    made.take(0, "comm_msg", {"comm_id": "w", "data": update, "buffers": ["6162"]})
    made.take(0, "comm_open", {"comm_id": "other", "target_name": "theirs", "data": {"state": {}}})
    found = made.finished()["metadata"]["widgets"][WIDGETS]["state"]
    assert list(found) == ["w"]
    assert found["w"]["state"]["value"] == 2
    assert found["w"]["model_name"] == "IntSliderModel"
    assert found["w"]["buffers"] == [{"encoding": "base64", "path": ["data"], "data": "YWI="}]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (stream("a <b>\rc <d>\n"), "<pre class=\"stdout\">c &lt;d&gt;\n"),
        (stream("\x1b[31mred <x>\x1b[0m"), "red &lt;x&gt;</span>"),
        (("display_data", {"data": {"image/png": "QUJD\n", "text/plain": "p"}}), "image/png;base64,QUJD\""),
        (("display_data", {"data": {"text/html": "<table id=t>", "text/plain": "p"}}), '<table id="t">'),
        (("error", {"ename": "E", "evalue": "", "traceback": ["<t>"]}), "&lt;t&gt;"),
    ],
)  # fmt: skip
def test_a_page_shows_outputs(message: tuple[str, dict[str, Any]], words: str) -> None:
    made = outcome()
    made.take(0, *message)
    assert words in page(made.finished(), "title", "python")


def test_a_page_shows_text_code_and_what_made_it() -> None:
    made = outcome()
    made.document["metadata"]["envbox"] = {"environment": "<maps>"}
    made.document["cells"][2]["source"] = "import <a>"
    text = page(made.finished(), "a & b", "python")
    assert "<h1>T</h1>" in text
    assert "<title>a &amp; b</title>" in text
    assert "environment &lt;maps&gt;" in text
    assert "import &lt;a&gt;" not in text.replace("<span", "")
    assert '<span class="kn">import</span>' in text


# --- a page of somebody else's notebook is inert

ATTACKS = [
    "<script>hit('script')</script>",
    "<img src=x onerror=hit('error')>",
    "<svg onload=hit('svg')><script>hit('svg script')</script></svg>",
    "<svg><animate onbegin=hit('animate') attributeName=x dur=1s></svg>",
    "<iframe srcdoc=\"<script>parent.hit('srcdoc')</script>\"></iframe>",
    "<iframe src=\"javascript:parent.hit('frame')\"></iframe>",
    "<a id=a href=\"javascript:hit('link')\">x</a><a href=' java\nscript:hit(1)'>x</a>",
    "<a href='data:text/html,<script>opener.hit(1)</script>'>x</a><area href='javascript:hit(1)'>",
    "<form action='javascript:hit(1)'><button formaction='javascript:hit(2)'>x</button></form>",
    "<meta http-equiv=refresh content='0;url=http://evil.invalid/'><base href='http://evil.invalid/'>",
    "<math><mi xlink:href='javascript:hit(1)'>x</mi></math>",
    "<style>@import 'http://evil.invalid/x.css'; body { background: url(http://evil.invalid/y) }</style>",
    '<div style="background-image:url(http://evil.invalid/z);position:fixed;inset:0">x</div>',
    "<noscript><p title=\"</noscript><img src=x onerror=hit('mutated')>\"></noscript>",
    '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=x onerror=hit(1)&gt;">',
    "<object data='javascript:hit(1)'></object><embed src='javascript:hit(2)'>",
    "<details open ontoggle=hit('toggle')>x</details><input autofocus onfocus=hit('focus')>",
    "</div></body><script>hit('closed')</script>",
]


def attacked() -> dict[str, Any]:
    """A notebook with every attack in every place that a page shows."""
    made = outcome()
    everywhere = "\n\n".join(ATTACKS)
    code, text, more = made.document["cells"]
    text["source"] = everywhere + "\n\n[x](javascript:hit(1)) ![x](javascript:hit(2)) <javascript:hit(3)>"
    text["attachments"] = {"a": {"image/png": "\"><script>hit('attached')</script>"}}
    more["source"] = code["source"] = everywhere
    made.document["cells"].append(nbformat.v4.new_raw_cell(everywhere))
    made.document["metadata"]["envbox"] = {everywhere: everywhere}
    for kind in ("text/html", "image/svg+xml", "text/markdown", "text/plain", "image/png", "text/latex"):
        for attack in ATTACKS:
            made.take(0, "display_data", {"data": {kind: attack}, "metadata": {}})
    made.take(2, *stream(everywhere + "\x1b]8;;javascript:hit('osc')\x1b\\\\click\x1b]8;;\x1b\\\\"))
    made.take(2, "error", {"ename": everywhere, "evalue": everywhere, "traceback": [everywhere]})
    return made.finished()


def test_what_could_act_is_taken_out() -> None:
    text = page(attacked(), "</title><script>hit('title')</script>", "</style><script>")
    body = text.partition("<body>")[2]
    assert "Content-Security-Policy" in text.partition("<title>")[0]
    found: list[tuple[str, str, str]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.extend((tag, name, value or "") for name, value in [*attrs, ("", "")])

    Reader().feed(body)
    known = "a area b body code details div footer h1 hr html img p pre span table td th tr"
    assert {tag for tag, _, _ in found} <= {*known.split()}
    assert {name for _, name, _ in found} <= {
        "",
        "alt",
        "class",
        "href",
        "id",
        "rel",
        "src",
        "style",
        "title",
    }
    assert all(v.startswith("data:image/") for _, name, v in found if name == "src")
    assert not [v for _, name, v in found if name == "href" and not v.startswith(("http", "mailto"))]
    assert not [v for _, name, v in found if name == "style" and ("url" in v or "position" in v)]


def test_scripts_are_there_where_they_were_asked_for() -> None:
    made = outcome()
    made.take(0, "display_data", {"data": {"text/html": "<script>1</script>"}, "metadata": {}})
    text = page(made.finished(), "t", "python", scripts=True)
    assert "<script>1</script>" in text
    assert "Content-Security-Policy" not in text


def test_what_science_shows_stays() -> None:
    made = outcome()
    table = '<table border="1" class="dataframe"><tr style="text-align: right;"><th>a</th></tr></table>'
    made.take(0, "display_data", {"data": {"text/html": table}, "metadata": {}})
    made.take(0, "display_data", {"data": {"image/svg+xml": "<svg/>"}, "metadata": {}})
    made.take(0, *stream("\x1b[31mred\x1b[0m"))
    text = page(made.finished(), "t", "python")
    assert '<tr style="text-align:right">' in text
    assert 'class="dataframe"' in text
    assert 'src="data:image/svg+xml;base64,PHN2Zy8+"' in text
    assert "color" in text.partition("red</span>")[0].rpartition("<span")[2]


@pytest.mark.browser
@pytest.mark.skipif(BINARY is None, reason="there is no Chromium")
def test_nothing_runs_in_a_browser(tmp_path: Path) -> None:
    hit = "window.hits = []; window.hit = what => window.hits.push(what)"
    clicks = "document.querySelectorAll('a, area, details, button, summary').forEach(x => x.click())"
    with open_page(tmp_path / "profile") as browser:
        browser.send("Page.enable")
        browser.send("Page.addScriptToEvaluateOnNewDocument", source=hit)
        real = tmp_path / "real.html"
        harmful = attacked()
        harmful["cells"] = harmful["cells"][:1]
        harmful["cells"][0]["outputs"] = [
            {"output_type": "display_data", "data": {"text/html": attack}, "metadata": {}}
            for attack in ATTACKS
            if "refresh" not in attack  # which leads away from the page
        ]
        real.write_text(page(harmful, "t", "python", scripts=True))
        browser.goto(real.as_uri())
        browser.wait_for("window.hits.includes('script') && window.hits.includes('error')")  # they are real
        path = tmp_path / "page.html"
        path.write_text(page(attacked(), "t", "python"), errors="replace")
        browser.goto(path.as_uri())
        browser.wait_for("document.readyState === 'complete' && document.querySelectorAll('.out').length > 0")
        browser.evaluate(clicks)
        time.sleep(0.3)  # what a click began has begun by then
        assert browser.evaluate("window.hits") == []
        assert browser.evaluate("location.href") == path.as_uri()
        assert browser.evaluate("document.scripts.length + document.forms.length + frames.length") == 0
        assert browser.evaluate("performance.getEntriesByType('resource').map(x => x.name)") == []


def output_widget(made: Outcome, name: str = "w") -> None:
    state = {"_model_name": "OutputModel", "_model_module": "@jupyter-widgets/output", "outputs": []}
    made.take(0, "comm_open", {"comm_id": name, "target_name": "jupyter.widget", "data": {"state": state}})


def held_by(made: Outcome, name: str = "w") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = made.finished()["metadata"]["widgets"][WIDGETS]["state"][name]["state"][
        "outputs"
    ]
    return found


def test_what_a_widget_has_claimed_is_the_widget_s_and_not_the_cell_s() -> None:
    made = outcome()
    output_widget(made)
    made.take(0, *stream("in"), widget="w")
    made.take(0, *stream("side"), widget="w")
    made.take(0, *shown("x", "name"), widget="w")
    made.take(0, *stream("out"))
    assert [o["text"] for o in outputs(made)] == [["out"]]
    assert [o.get("text") for o in held_by(made)] == ["inside", None]
    assert "transient" not in held_by(made)[1]
    made.take(0, "clear_output", {"wait": True}, widget="w")
    assert len(held_by(made)) == 2
    made.take(0, *stream("new"), widget="w")
    assert [o["text"] for o in held_by(made)] == ["new"]
    assert len(outputs(made)) == 1


def test_an_echo_of_what_a_widget_had_does_not_undo_what_it_has() -> None:
    made = outcome()
    output_widget(made)
    made.take(0, *stream("new"), widget="w")
    echo = {"method": "echo_update", "state": {"outputs": []}}
    made.take(0, "comm_msg", {"comm_id": "w", "data": echo})
    assert len(held_by(made)) == 1


def test_what_is_displayed_again_under_a_name_is_so_wherever_it_was() -> None:
    made = outcome()
    result = {"transient": {"display_id": "a"}, "data": {"text/plain": "1"}, "metadata": {}}
    made.take(0, "execute_result", {**result, "execution_count": 1})
    made.take(2, *shown("2", "a"))
    assert outputs(made)[0]["data"] == outputs(made, 2)[0]["data"] == {"text/plain": ["2"]}
    assert outputs(made)[0]["output_type"] == "execute_result"


def test_buffers_of_a_widget_are_kept_path_by_path() -> None:
    made = outcome()
    state = {"_model_name": "X"}
    made.take(0, "comm_open", {"comm_id": "w", "target_name": "jupyter.widget", "data": {"state": state}})
    for path, buffer in ((["a"], "61"), (["b"], "62"), (["a"], "63")):
        update = {"method": "update", "state": {}, "buffer_paths": [path]}
        made.take(0, "comm_msg", {"comm_id": "w", "data": update, "buffers": [buffer]})
    found = made.finished()["metadata"]["widgets"][WIDGETS]["state"]["w"]["buffers"]
    assert [(b["path"], b["data"]) for b in found] == [(["a"], "Yw=="), (["b"], "Yg==")]


def test_half_of_a_surrogate_pair_becomes_a_character_that_a_file_can_hold() -> None:
    assert whole({"a\udc80": ["b\ud83d", "\ud83d\ude00", 1]}) == {"a\ufffd": ["b\ufffd", "\U0001f600", 1]}
    document = {"nbformat": 4, "cells": [{"source": "\ud83d"}], "metadata": {"ä": 1}}
    written = written_like(b"", {}, document)
    assert json.loads(written.decode()) == document
