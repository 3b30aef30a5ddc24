"""Pins under `pip:`, from an index that takes its time, beside asking it for one thing after another."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from measure import Row, command, pairs
from stage import ENVBOX, Stage

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from support.paper_index import Paper, paper_index

PINS = 187  # of a real spec
PAUSE = 0.1  # seconds before each answer


def pins_row(stage: Stage, runs: int) -> Row:
    """Lock pins from an index that answers after a tenth of a second, with nothing of it in the cache."""
    folder = stage.folder.parent / "pins"
    folder.mkdir(exist_ok=True)
    cache = folder / "cache"
    with paper_index() as index:
        pins = [index_of(index, number) for number in range(PINS)]
        index.pause = PAUSE
        lines = ["channels: [conda-forge]", "dependencies:", "  - python", "  - pip", "  - pip:"]
        (folder / "environment.yml").write_text("\n".join([*lines, *(f"    - {pin}" for pin in pins), ""]))
        mirrors = [
            m for m in stage.env["ENVBOX_MIRRORS"].split() if "pypi" not in m and "pythonhosted" not in m
        ]
        env = {
            **stage.env,
            "ENVBOX_MIRRORS": " ".join([*mirrors, f"https://pypi.org={index.url}"]),
            "ENVBOX_CACHE_DIR": str(cache),
        }
        lock = command(*ENVBOX, "lock", "--platform", "linux-64", env=env, cwd=folder)

        def reset() -> None:
            shutil.rmtree(cache / "pypi", ignore_errors=True)
            (folder / "conda-lock.yml").unlink(missing_ok=True)

        def one_after_another() -> None:
            import requests

            with requests.Session() as session:
                for pin in pins:
                    name = pin.partition("==")[0]
                    session.get(f"{index.simple}/{name}/").raise_for_status()
                    session.get(f"{index.url}/files/{name}-1.0-py3-none-any.whl.metadata").raise_for_status()

        taken = pairs(lock, one_after_another, runs, (reset, None))
        notes = {"most_at_once": index.most_at_once}
    what = (f"envbox lock, {PINS} pins, {PAUSE} s an answer", "asking for the same one after another")
    return Row(*what, *taken, 0.25, notes=notes)


def index_of(index: Paper, number: int) -> str:
    """Publish a project; gives its pin."""
    index.add(
        f"project{number}", "1.0", needs=[f"project{number - 7}"] if number % 3 == 0 and number > 7 else []
    )
    return f"project{number}==1.0"
