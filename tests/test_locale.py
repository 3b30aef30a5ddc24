"""Under any locale: names of files are the bytes of the archive, and no character is a reason to fail."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.paper_registry import PaperRegistry, serving
from support.small_lock import small
from support.tiny import BASE_NAME, Tiny, make_tiny

from envbox.lockfile.conda_lock_v1 import dumps

LOCALES = {
    "C": {"LC_ALL": "C"},
    "UTF-8": {"LC_ALL": "C.UTF-8"},
    "ascii": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "ascii words": {"LC_ALL": "C.UTF-8", "PYTHONIOENCODING": "ascii"},
    "latin-1": {"LC_ALL": "en_US.ISO-8859-1"},
}
NAME = "prøjekt 漢字 \udce9"  # the last is a byte that is no UTF-8


@pytest.fixture(scope="module")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a locale that is not of UTF-8, where the machine can make one."""
    folder = tmp_path_factory.mktemp("locales")
    if maker := shutil.which("localedef"):
        words = [maker, "-i", "en_US", "-f", "ISO-8859-1", str(folder / "en_US.ISO-8859-1")]
        subprocess.run(words, check=False, capture_output=True)
    return folder


def envbox(
    *arguments: str, cwd: Path, locales: Path, locale: str, **more: str
) -> subprocess.CompletedProcess[bytes]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("ENVBOX_", "LC_", "LANG", "PYTHON"))}
    env |= {"ENVBOX_CACHE_DIR": str(cwd.parent / "cache"), "DOCKER_HOST": "unix:///nowhere.sock"}
    env |= {"LOCPATH": str(locales)} if locale == "latin-1" else {}
    done = subprocess.run(
        [sys.executable, "-m", "envbox", *arguments],
        cwd=cwd, env=env | LOCALES[locale] | more, capture_output=True, check=False, timeout=100,
    )  # fmt: skip
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    return done


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("locale") / NAME
    (root / "environments").mkdir(parents=True)
    first, *others = small().packages
    lock = replace(small(), packages=(replace(first, license="Lizenz „ü“ 漢"), *others))
    (root / "environments/maps.conda-lock.yml").write_bytes(dumps(lock))
    (root / "environments/maps.yml").write_text("channels: [conda-forge]\ndependencies: [python]  # ü\n")
    (root / "environments/maß.yml").write_text("dependencies: [python]\n", encoding="utf-8")
    source = {"cell_type": "code", "id": "a", "metadata": {}, "outputs": [], "execution_count": None}
    cells = [{**source, "source": "import numpy, straße, lüge\nx = '\ud800'"}]
    book = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    for name in ("büch.ipynb", "büch \udcff.ipynb"):
        (root / name).write_text(json.dumps(book))
    return root


COMMANDS = [
    ("why", "openssl", "maps"), ("export", "maps", "--format", "environment"),
    ("diff", "maps", "environments/maps.conda-lock.yml"), ("lock", "--check"), ("lock", "maß"),
    ("check", "büch \udcff.ipynb"), ("init", "-n", "nëu", "büch.ipynb"), ("run", "maps", "--", "ü"),
    ("import", "büch.txt"), ("stamp", "büch.ipynb", "maps"), ("outdated", "maps"), ("ü",),
    ("notebook", "büch \udcff.ipynb"),
]  # fmt: skip


@pytest.mark.parametrize("locale", LOCALES)
def test_no_command_fails_over_a_character(locale: str, project: Path, locales: Path) -> None:
    for line in COMMANDS:
        done = envbox("--offline", *line, cwd=project, locales=locales, locale=locale)
        assert done.returncode in (0, 1, 2), line
        assert b"Error" not in done.stderr.replace(b"Error:", b""), (line, done.stderr)
    done = envbox("list", "maps", "--json", cwd=project, locales=locales, locale=locale)
    said = {package["license"] for package in json.loads(done.stdout)["packages"]}
    assert "Lizenz „ü“ 漢" in said
    assert b"maps" in envbox("list", "maps", cwd=project, locales=locales, locale=locale).stdout


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    with serving(PaperRegistry()) as registry:
        yield make_tiny(tmp_path_factory.mktemp("tiny"), registry)


def test_an_image_is_the_same_bytes_under_any_locale(
    tiny: Tiny, tmp_path: Path, locales: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of its packages has a file whose name is not ASCII."""
    found = set()
    for locale in ("UTF-8", "C", "ascii", "latin-1"):
        root = tmp_path / locale / NAME
        (root / "environments").mkdir(parents=True)
        shutil.copy(tiny.environment.lock_path, root / "environments/tiny.conda-lock.yml")
        (root / "environments/tiny.yml").write_text("dependencies: [python]\n")
        rules = "".join(f"{json.dumps(key)} = {json.dumps(url)}\n" for key, url in tiny.rules.items())
        (root / "envbox.toml").write_text(f"base = {json.dumps(BASE_NAME)}\n[mirrors]\n{rules}")
        words = "--trust --trust-python build environments/tiny.conda-lock.yml --frozen --platform linux-64"
        line = (*words.split(), "-o", "ö.oci.tar")
        done = envbox(*line, cwd=root, locales=locales, locale=locale)
        assert done.returncode == 0, done.stderr.decode()
        assert (root / "ö.oci.tar").is_file()
        found.add(done.stdout)
    assert len(found) == 1
