"""A pulled image is the image that was built; nothing is fetched twice, and what it holds can be launched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from support.publishing import PLATFORMS, Press

from envbox.engine import Engine
from envbox.engine.find import connect
from envbox.errors import ImageError, ToolError
from envbox.images.build import build
from envbox.images.publication import make
from envbox.images.pull import pull, pull_to_launch, pulled_before
from envbox.images.push import push
from envbox.mirrors import Mirrors
from envbox.project import is_reference
from envbox.registry import parse_reference
from envbox.report import SILENT
from envbox.settings import Settings

if TYPE_CHECKING:
    from conftest import Rig

pytestmark = pytest.mark.rig


@pytest.fixture
def engine(rig: Rig, press: Press) -> Iterator[Engine]:
    """The engine, without this test's images at the end. Their layers are in it only by this test."""
    assert rig.registry
    press.lock(uuid4().hex.encode(), uuid4().hex.encode() * 100)
    yield connect(press.settings)
    listed = ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"]
    for name in subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split():
        if name.startswith(
            (press.registry.host, f"{rig.registry}/tests/pull-{os.getpid()}", "envbox/paper:")
        ):
            connect(press.settings).remove_image(name)


def elsewhere(press: Press, name: str = "elsewhere", **changes: object) -> Settings:
    """The settings of somebody else, who has nothing yet."""
    return replace(press.settings, cache_dir=press.folder / name, **changes)  # type: ignore[arg-type]


def pushed(press: Press, *platforms: str, compat: bool = False, name: str = "me/paper:1") -> str:
    wanted = press.wanted(*platforms, compat=compat)
    return push(wanted, press.reference(name), press.settings, SILENT).name


@pytest.mark.parametrize("compat", [False, True])
def test_it_is_the_image_that_was_built(press: Press, engine: Engine, compat: bool) -> None:
    pushed(press, compat=compat)
    made = make(press.wanted(engine.platform), press.settings, SILENT).publication.images[0]
    assert not engine.has_image(made.id)
    pulled = pull(press.reference(), elsewhere(press), engine, press.report)
    assert pulled.is_new
    assert pulled.name == "paper"
    assert pulled.reference == f"{press.registry.host}/me/paper:1"
    assert pulled.config_digest == made.id
    assert engine.image_id(pulled.reference) == pulled.id
    built = build(press.environment, press.settings, engine, SILENT)
    assert (built.id, built.is_new) == (pulled.id, False)


def test_a_real_registry_gives_back_what_was_pushed(rig: Rig, press: Press, engine: Engine) -> None:
    reference = parse_reference(f"{rig.registry}/tests/pull-{os.getpid()}:1")
    image = push(press.wanted(), reference, press.settings, SILENT).publication.images[0]
    pulled = pull(reference, elsewhere(press), engine, SILENT)
    assert (pulled.config_digest, pulled.digest) == (image.id, image.manifest.descriptor.digest)
    assert engine.image_id(str(reference)) == pulled.id


def test_a_second_time_one_head_is_all(press: Press, engine: Engine) -> None:
    pushed(press)
    first = pull(press.reference(), elsewhere(press), engine, SILENT)
    press.registry.log.clear()
    assert pull(press.reference(), elsewhere(press), engine, SILENT) == replace(first, is_new=False)
    assert press.registry.log == ["HEAD /v2/me/paper/manifests/1"]


def test_layers_that_the_engine_has_are_not_fetched(press: Press, engine: Engine) -> None:
    content = uuid4().hex.encode()
    for last in (b"a", b"b"):
        press.lock(last * ord(last), content)
        pushed(press)
        press.registry.log.clear()
        pull(press.reference(), elsewhere(press, last.decode()), engine, SILENT)
    fetched = [line for line in press.registry.log if line.startswith("GET /v2/me/paper/blobs/")]
    assert len(fetched) == 3  # the config, the changed package on top of the other, the environment's own


def test_a_digest_names_what_no_tag_can_move(press: Press, engine: Engine) -> None:
    name = pushed(press)
    content = uuid4().hex.encode()
    press.lock(content)
    pushed(press)
    old = pull(parse_reference(name), elsewhere(press), engine, SILENT)
    new = pull(press.reference(), elsewhere(press), engine, SILENT)
    assert old.id != new.id
    assert old.reference == f"envbox/paper:{old.config_digest[7:19]}"
    press.registry.log.clear()
    assert pull(parse_reference(name), elsewhere(press), engine, SILENT).id == old.id
    assert press.registry.log == []


def test_an_image_for_other_machines_only_is_refused(press: Press, engine: Engine) -> None:
    pushed(press, next(platform for platform in PLATFORMS if platform != engine.platform))
    with pytest.raises(ImageError, match=f"is not there for {engine.platform}") as caught:
        pull(press.reference(), elsewhere(press), engine, SILENT)
    assert caught.value.hint == "check the registry, the name and the tag"


def test_an_unknown_image_is_named(press: Press, engine: Engine) -> None:
    with pytest.raises(ImageError, match=r"there is no image .*/me/paper:1"):
        pull(press.reference(), elsewhere(press), engine, SILENT)


def test_damage_never_reaches_the_engine(press: Press, engine: Engine) -> None:
    pushed(press)
    image = make(press.wanted(engine.platform), press.settings, SILENT).publication.images[0]
    last = image.parts.layers[-1].digest
    press.registry.blobs[last] = bytes(len(press.registry.blobs[last]))
    with pytest.raises(ImageError, match=f"something else for {last}"):
        pull(press.reference(), elsewhere(press), engine, SILENT)
    assert not engine.has_image(image.id)


def test_a_pull_killed_at_any_moment_is_finished_by_the_next(press: Press, engine: Engine) -> None:
    pushed(press)
    for delay in (0.15, 0.3, 0.45):
        process = subprocess.Popen(
            [sys.executable, "-m", "envbox", "pull", str(press.reference())],
            cwd=press.folder,
            env=environ(elsewhere(press)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(delay)
        process.kill()
        process.wait()
    assert engine.has_image(pull(press.reference(), elsewhere(press), engine, SILENT).id)


# --- to be launched


def environ(settings: Settings) -> dict[str, str]:
    rules = " ".join(f"{here}={there}" for here, there in settings.mirrors.rules.items())
    return os.environ | {"ENVBOX_MIRRORS": rules, "ENVBOX_CACHE_DIR": str(settings.cache_dir)}


@pytest.fixture
def published(rig: Rig, press: Press, engine: Engine) -> str:
    """An image on a base in which things run, as a name that somebody else is given."""
    assert engine
    own = rig.settings()
    rules = press.settings.mirrors.rules | {"docker.io": own.mirrors.rules["docker.io"]}
    press.settings = replace(press.settings, base=own.base, mirrors=Mirrors(rules))
    press.lock(b"somebody's")
    reference = parse_reference(f"{rig.registry}/tests/pull-{os.getpid()}/launched:1")
    return push(press.wanted(), reference, press.settings, SILENT).name


def envbox(press: Press, *arguments: str) -> subprocess.CompletedProcess[str]:
    folder = press.folder / "my project"
    folder.mkdir(exist_ok=True)
    return subprocess.run(
        [sys.executable, "-m", "envbox", *arguments],
        cwd=folder,
        env=environ(elsewhere(press)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_somebody_pushed_can_be_run_here(press: Press, published: str) -> None:
    tag = published.partition("@")[0]
    done = envbox(press, "run", tag, "--", "cat", "/opt/envbox/share/envbox/conda-lock.yml")
    assert done.stdout.encode() == press.environment.lock_path.read_bytes()
    done = envbox(
        press, "run", published, "--", "sh", "-c", "pwd; touch made; echo $CONDA_DEFAULT_ENV; exit 7"
    )
    assert (done.returncode, done.stdout) == (7, "/work\npaper\n")
    assert (press.folder / "my project" / "made").stat().st_uid == os.getuid()
    done = envbox(press, "shell", published)
    assert done.returncode == 0, done.stderr


def test_its_name_does_not_make_the_project_s_settings_count(press: Press, published: str) -> None:
    folder = press.folder / "my project"
    folder.mkdir()
    (folder / "environments").mkdir()
    shutil.copy(press.environment.lock_path, folder / "environments")
    (folder / "envbox.toml").write_text('[environments.paper]\nenv = { SECRET = "mine" }\n')
    done = envbox(press, "run", published, "--", "sh", "-c", 'echo "${SECRET-none}"')
    assert done.stdout == "none\n"


def test_its_server_has_a_name_of_its_own(press: Press, published: str) -> None:
    from envbox.cli.context import Invocation
    from envbox.cli.launch import prepare_launch

    session = Invocation(str(press.folder), quiet=True, verbose=False)
    session.__dict__["settings"] = elsewhere(press)
    options = {"frozen": False, "image": False}
    launch = prepare_launch(session, published, "notebook", ("true",), options)
    assert launch.name.startswith("paper-")
    assert len(launch.name) == len("paper-") + 8


def test_without_its_registry_it_is_the_one_pulled_last(press: Press, engine: Engine) -> None:
    pushed(press)
    first = pull_to_launch(press.reference(), elsewhere(press), engine, press.report)
    press.registry.statuses = [503] * 9
    assert pull_to_launch(press.reference(), elsewhere(press), engine, press.report) == replace(
        first, is_new=False
    )
    assert "as it was when it was last pulled" in press.report.warned[-1]
    press.registry.statuses = [503] * 9
    with pytest.raises(ToolError, match="keeps failing"):
        pull_to_launch(press.reference(), elsewhere(press, "third"), engine, press.report)
    assert pulled_before(press.reference(), elsewhere(press, "third"), engine) is None


def test_what_envbox_did_not_make_is_refused_before_it_is_fetched(press: Press, engine: Engine) -> None:
    press.registry.log.clear()
    with pytest.raises(ImageError, match="not an image that envbox made") as caught:
        pull_to_launch(press.reference("a/b:1"), elsewhere(press), engine, SILENT)
    assert caught.value.hint == f"docker run -it --rm {press.registry.host}/a/b:1"
    assert len([line for line in press.registry.log if line.startswith("GET /v2/a/b/blobs/")]) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [("maps", False), ("a/b", False), ("../maps", False), ("./a:b", False), ("environments/maps.yml", False),
     ("maps:1", True), ("a/b:1", True), ("q.io/maps", True), ("localhost/maps", True),
     ("127.0.0.1:5/a", True), ("maps@sha256:12", True), ("-maps:1", False), ("/tmp/a:1", False)],
)  # fmt: skip
def test_a_reference_is_what_cannot_be_a_path_or_a_name(name: str, expected: bool) -> None:
    assert is_reference(name) == expected


def test_json_tells_all_of_it(press: Press, engine: Engine) -> None:
    pushed(press)
    said = json.loads(
        subprocess.run(
            [sys.executable, "-m", "envbox", "pull", str(press.reference()), "--json"],
            cwd=press.folder,
            env=environ(elsewhere(press)),
            check=True,
            capture_output=True,
        ).stdout
    )
    assert engine.has_image(said["id"])
    assert said["reference"] == str(press.reference())
    assert (said["name"], said["new"], said["platform"]) == ("paper", True, engine.platform)
