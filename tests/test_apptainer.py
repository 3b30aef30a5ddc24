"""An image's file where there is no engine, but Debian's own Apptainer, for a user without rights."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.engines import skipping

if TYPE_CHECKING:
    from conftest import Rig

pytestmark = pytest.mark.rig
TOOLS = Path(__file__).parents[1] / "tools"
DOCS = Path(__file__).parents[1] / "docs"
SPEC = "channels: [conda-forge]\ndependencies: [python, six]\nvariables: {A_VARIABLE: set by the spec}\n"
PACKED = "--mksquashfs-args '-noD -noF -noI -no-fragments'"  # quicker; nothing else depends on it
TYPED = re.findall(r"^    (apptainer .*)$", (DOCS / "clusters.md").read_text(encoding="utf-8"), re.MULTILINE)
AT_WORK = ("--cleanenv", "--contain", "--pwd", "/work")


@dataclass(frozen=True)
class Cluster:
    """Where Apptainer is, and nothing else.

    :param folder: a user's
    """

    tree: Path
    scratch: Path
    folder: Path

    def type(self, line: str) -> subprocess.CompletedProcess[str]:
        """What the user types, in his folder."""
        from rigging.apart import Place
        from rigging.second import PERSON

        place = Place(str(self.tree), str(self.scratch), shared=str(self.folder), uid=PERSON)
        argv = [sys.executable, str(TOOLS / "rigging/apart.py"), place.dumps(), "/usr/bin/sh", "-c"]
        return subprocess.run(
            [*argv, f"cd {self.folder} && {line}"], capture_output=True, text=True, timeout=180, check=False
        )

    def apptainer(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it as the user."""
        return self.type(shlex.join(["apptainer", "-s", *arguments]))

    def words(self, *arguments: str) -> str:
        """What it writes, once it has succeeded."""
        done = self.apptainer(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def at_work(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command with the user's project mounted, as the documentation has it."""
        return self.apptainer("exec", *AT_WORK, "--bind", f"{self.folder}:/work", "maps.sif", *command)


@pytest.fixture(scope="module")
def cluster(rig: Rig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """With an environment's image in files, and one of them made Apptainer's own."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip("Debian's Apptainer is unpacked by root, on Debian")
    from rigging import second
    from rigging.places import places

    with skipping():
        tree = second.tree(places(os.environ), second.APPTAINER)
    scratch = tmp_path_factory.mktemp("scratch")
    (scratch / "data").mkdir()
    with tempfile.TemporaryDirectory(prefix="envbox-test-") as name:
        made = Cluster(tree, scratch, Path(name))
        made.folder.chmod(0o755)
        (made.folder / "environments").mkdir()
        (made.folder / "environments/maps.yml").write_text(SPEC)
        (made.folder / "clean.py").write_text("import os, six; print(os.environ.get('SSL_CERT_FILE'))\n")
        settings = rig.settings()
        environ = {**os.environ, **rig.env, "ENVBOX_CACHE_DIR": str(settings.cache_dir)}
        for options in ([], ["--compat"]):
            words = ["-m", "envbox", "-C", str(made.folder), "build", "maps", *options]
            words += ["--output", f"maps{''.join(options)}.tar"]
            argv = [sys.executable, *words]
            subprocess.run(argv, env=environ, cwd=made.folder, capture_output=True, check=True)
        subprocess.run(["chown", "-R", f"{second.PERSON}:{second.PERSON}", made.folder], check=True)
        built = made.type(TYPED[0].replace(" build ", f" build {PACKED} "))
        assert built.returncode == 0, built.stderr
        yield made


def test_it_runs_as_the_caller_and_his_files_are_his(cluster: Cluster) -> None:
    code = "import six, sys, os; open('made', 'w'); print(six.__file__, sys.prefix, os.getuid(), os.getcwd())"
    done = cluster.at_work("python", "-c", code)
    where, prefix, uid, folder = done.stdout.split()
    assert where.startswith("/opt/envbox/lib/python3")
    assert (prefix, folder) == ("/opt/envbox", "/work")
    assert (cluster.folder / "made").stat().st_uid == int(uid) != 0


def test_nothing_of_the_environment_can_be_changed(cluster: Cluster) -> None:
    done = cluster.at_work("touch", "/opt/envbox/new")
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr


def test_its_variables_are_there_and_bash_activates_it(cluster: Cluster) -> None:
    show = "import os, json; print(json.dumps(dict(os.environ)))"
    plain = json.loads(cluster.at_work("python", "-c", show).stdout)
    assert plain["CONDA_PREFIX"] == "/opt/envbox"
    assert plain["A_VARIABLE"] == "set by the spec"
    active = json.loads(cluster.at_work("bash", "-c", f"python -c '{show}'").stdout)
    assert active["SSL_CERT_FILE"].startswith("/opt/envbox/")  # a package's activation script says so
    assert "SSL_CERT_FILE" not in plain


def test_what_the_documentation_says_is_typed(cluster: Cluster) -> None:
    said = [cluster.type(line) for line in TYPED[1:]]
    assert [done.stdout.split()[-1] for done in said] == ["None", "/opt/envbox/ssl/cacert.pem"], said


def test_run_activates_the_environment_too(cluster: Cluster) -> None:
    assert cluster.words("run", "maps.sif", "python", "clean.py") == "/opt/envbox/ssl/cacert.pem\n"


@pytest.mark.parametrize("reader", ["oci-archive", "docker-archive"])
def test_the_file_with_gzip_layers_is_read_too(cluster: Cluster, reader: str) -> None:
    cluster.words("build", "--sandbox", reader, f"{reader}:maps--compat.tar")
    assert cluster.words("exec", reader, "python", "-c", "import six; print(six.__name__)") == "six\n"
