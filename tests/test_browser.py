"""The printed address, in a real browser; and when there is none."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.chromium import BINARY, open_page
from support.containers import Lab

from envbox.sessions.jupyter.browser import has_browser, open_browser


def test_without_a_screen_there_is_no_browser() -> None:
    assert not has_browser({}, "linux")
    assert has_browser({"DISPLAY": ":0"}, "linux")
    assert has_browser({"WAYLAND_DISPLAY": "wayland-0"}, "linux")
    assert has_browser({"BROWSER": "/usr/bin/some"}, "linux")
    assert has_browser({}, "darwin")


def test_a_browser_is_given_a_private_file_and_never_the_token(tmp_path: Path) -> None:
    seen, page = tmp_path / "seen", tmp_path / "page.html"
    program = tmp_path / "program"
    program.write_text(f'#!/bin/sh\necho "$@" > "{seen}.part"; mv "{seen}.part" "{seen}"\n')
    program.chmod(0o755)
    code = (
        "import sys; from pathlib import Path; from envbox.sessions.jupyter.browser import open_browser\n"
        "url, page = 'http://127.0.0.1:1/lab?token=geheim&x', Path(sys.argv[1])\n"
        "open_browser(url, page, lambda: print('failed')).join(20)"
    )
    environ = {**os.environ, "BROWSER": str(program)}
    subprocess.run([sys.executable, "-c", code, str(page)], env=environ, check=True)
    assert seen.read_text().strip() == page.as_uri()
    assert "http://127.0.0.1:1/lab?token=geheim&amp;x" in page.read_text()
    assert stat.S_IMODE(page.stat().st_mode) == 0o600


@pytest.mark.parametrize("browser", ["/nowhere/browser", "/bin/false"])
def test_a_browser_that_cannot_be_opened_is_told_of_and_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, browser: str
) -> None:
    monkeypatch.setenv("BROWSER", browser)
    monkeypatch.setenv("PATH", str(tmp_path))  # no other one either
    monkeypatch.delenv("DISPLAY", raising=False)
    told: list[bool] = []
    opening = open_browser("http://127.0.0.1:1/", tmp_path / "page.html", lambda: told.append(True))
    assert opening is not None
    opening.join(20)
    assert told == [True]


@pytest.mark.rig
@pytest.mark.browser
@pytest.mark.skipif(BINARY is None, reason="there is no Chromium")
def test_the_printed_address_shows_jupyterlab_with_the_projects_files(lab: Lab, tmp_path: Path) -> None:
    done = lab.run("notebook", "lab", "--detach", "--json")
    assert done.returncode == 0, done.stderr
    try:
        with open_page(tmp_path / "profile") as page:
            page.goto(json.loads(done.stdout)["url"])
            page.wait_for("document.querySelector('.jp-DirListing-content')?.innerText.includes('data.txt')")
            page.wait_for("document.querySelector('.jp-Launcher')?.innerText.includes('Python 3')")
            assert page.evaluate("document.title").endswith("JupyterLab")
            assert "token" not in page.evaluate("location.href")
            time.sleep(2)  # nothing else comes up, to ask for attention
            page.picture(tmp_path / "jupyterlab.png")
            assert not page.evaluate("document.querySelectorAll('.Toastify__toast').length")
    finally:
        lab.run("stop", "lab")
    assert (tmp_path / "jupyterlab.png").stat().st_size > 10_000
