"""What the documentation tells people to type is typed, and does what it says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from envbox.engine.find import connect
from envbox.report import SILENT
from envbox.settings import Settings

if TYPE_CHECKING:
    from conftest import Rig

pytestmark = pytest.mark.rig
DOCS = Path(__file__).parents[1] / "docs"
PACKAGE = "awkward-symlinks"  # where the documentation has a package of a thousand files
TOOLS = ("docker", "skopeo", "jq", "curl", "unzip", "zstd", "sha256sum")
# The real tools, told where the rig has what the documentation's addresses mean.
REDIRECTED = """\
#!{python}
import json, os, sys
rules = json.loads({rules!r})
arguments = list(sys.argv[1:])
for old, new in rules.items():
    arguments = [argument.replace(old, new) for argument in arguments]
if {name!r} == "skopeo":
    arguments.insert(1, "--tls-verify=false")
os.execv({real!r}, [{name!r}, *arguments])
"""


@dataclass(frozen=True)
class Place:
    """A project whose environment is built and pushed, and the programs that the documentation calls."""

    folder: Path
    environ: dict[str, str]
    settings: Settings
    image: str
    image_id: str
    container: str

    def type(self, script: str) -> list[str]:
        """Type blocks of commands, separated by lines of dashes, and give what each printed."""
        marked = script.replace("---\n", "echo ---; echo --- >&2\n")
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", marked],
            cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return [block.strip() for block in done.stdout.split("---\n")]


@pytest.fixture(scope="module")
def place(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    from envbox.project import read_project
    from envbox.sessions.prepare import ready_image

    if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
        pytest.skip(f"needs {', '.join(missing)}")
    folder = tmp_path_factory.mktemp("docs")
    (folder / "environments").mkdir()
    (folder / "environments/docs.yml").write_text(
        f"channels: [conda-forge]\ndependencies: [{PACKAGE}, libsqlite]\n"
    )
    settings = rig.settings()
    engine = connect(settings)
    built = ready_image(read_project(folder).environment("docs"), settings, engine, SILENT)
    mirrors = dict(pair.split("=", 1) for pair in rig.env["ENVBOX_MIRRORS"].split())
    rules = {
        "docker://docker.io/": f"docker://{rig.registry}/",
        "docker://registry.example.org/": f"docker://{rig.registry}/docs/",
        **{old: new for old, new in mirrors.items() if "://" in old},
    }
    bin_dir = folder / "bin"
    bin_dir.mkdir()
    for name in ("skopeo", "curl"):
        text = REDIRECTED.format(
            python=sys.executable, rules=json.dumps(rules), name=name, real=shutil.which(name)
        )
        (bin_dir / name).write_text(text)
        (bin_dir / name).chmod(0o755)
    path = f"{bin_dir}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {**os.environ, **rig.env, "PATH": path, "ENVBOX_CACHE_DIR": str(settings.cache_dir)}
    subprocess.run(
        [sys.executable, "-m", "envbox", "-q", "push", "docs", f"{rig.registry}/docs/maps:1"],
        cwd=folder, env=environ, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    yield Place(folder, environ, settings, built.reference, built.config_digest, f"files-{uuid4().hex[:12]}")
    for name in (built.reference, "envbox/docs:latest"):
        engine.remove_image(name)


def blocks(document: str, heading: str) -> list[str]:
    """The indented blocks of commands under a heading."""
    section = (
        (DOCS / document).read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    )
    found = re.findall(r"(?:^    .*\n(?:\n(?=    ))?)+", section, re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in found]


def checks(place: Place, image: str) -> list[str]:
    """The documentation's blocks, about an image of ours, with a container of a name of our own."""
    typed = blocks("reproducibility.md", "Checking without envbox")
    assert len(typed) == 9
    typed[0] = f"IMAGE={image}\nLOCK=environments/docs.conda-lock.yml\n"
    return [re.sub(r"\bfiles\b", place.container, block).replace("numpy", PACKAGE) for block in typed]


def test_an_image_can_be_checked_without_envbox(place: Place) -> None:
    said = place.type("---\n".join(checks(place, place.image)))
    _, same, saved, registry, lockfile, base, files, archives, records = said
    plain_id = place.image_id.removeprefix("sha256:")
    assert same == place.image_id
    assert plain_id in saved.splitlines()[0]
    assert saved.splitlines()[-1] == "the layers are what the config says"
    assert registry.startswith(plain_id)
    container, *hashes = re.findall(r"[0-9a-f]{64}", lockfile)
    assert container not in hashes
    assert (len(hashes), len(set(hashes))) == (3, 1)
    pinned = re.findall(r"sha256:[0-9a-f]{64}", base)[1:]
    assert pinned[:2] == pinned[2:4]
    _, *unlisted = files.splitlines()
    own = re.compile(r"conda-meta/.*|share/envbox/.*|lib/python[0-9.]+/EXTERNALLY-MANAGED")
    assert [path for path in unlisted if not own.fullmatch(path)] == []
    assert len(unlisted) > 5
    assert (archives.count("FAILED"), records) == (0, "")


def test_a_change_is_found_without_envbox(place: Place) -> None:
    changed = "envbox-docs/changed:1"
    change = "echo >> /opt/envbox/share/awkward/links/folder/file.txt; touch /opt/envbox/lib/new"
    place.type(
        f"""\
docker run --name {place.container} --user 0 --entrypoint sh {place.image} -c '{change}'
docker commit {place.container} {changed}; docker rm {place.container}
"""
    )
    try:
        first, *_, lockfile, _, files, _, _ = checks(place, changed)
        files = files.replace("--check --quiet", "--check --quiet 2>&1 || true")
        said = place.type("---\n".join([first, lockfile, "rm -rf root\n" + files]))[-1].splitlines()
    finally:
        connect(place.settings).remove_image(changed)
    assert "share/awkward/links/folder/file.txt: FAILED" in said
    assert "lib/new" in said
