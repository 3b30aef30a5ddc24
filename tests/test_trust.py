"""What of a project is an ask, what is not, and which allowances are believed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from envbox.errors import TrustError
from envbox.settings import DEFAULT_BASE, EnvironmentSettings, Layers, read_layers
from envbox.settings.values import ENVIRONMENT_KEYS, KEYS
from envbox.trust import Ask, ask, digest_of, united
from envbox.trust import allowances as allowing
from envbox.trust.addresses import Own, channel_asks, dependency_asks, is_usual, own_of
from envbox.trust.content import content_asks, lock_asks, spec_asks
from envbox.trust.owners import callers_uids, link_asks, open_asks, owner_asks
from envbox.trust.rules import (
    ENVIRONMENT_RULES,
    NO_ASK,
    NO_ENVIRONMENT_ASK,
    RULES,
    Place,
    settings_asks,
    table_asks,
)
from envbox.trust.variables import env_file_asks, is_risky

NOBODY = Own()


def words(asks: object) -> list[str]:
    return [one.words for one in asks]  # type: ignore[attr-defined]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    root = tmp_path / "project"
    root.mkdir()
    return Place(root, NOBODY)


# --- settings -----------------------------------------------------------------------------------------------


def test_every_setting_has_a_rule_or_needs_none() -> None:
    assert RULES.keys() | NO_ASK == KEYS.keys()
    assert not RULES.keys() & NO_ASK
    assert ENVIRONMENT_RULES.keys() | NO_ENVIRONMENT_ASK == ENVIRONMENT_KEYS.keys()
    assert {f.name for f in fields(EnvironmentSettings)} == ENVIRONMENT_KEYS.keys()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('base = "docker.io/evil/base:1"', ["starts from the image evil/base:1"]),
        (f'base = "{DEFAULT_BASE}"', []),
        ('base = "docker.io/continuumio/miniconda3:24.1.2-0"', []),
        (
            'base = "docker.io/continuumio/miniconda3-evil:1"',
            ["starts from the image continuumio/miniconda3-evil:1"],
        ),
        (
            'base = "evil.example/continuumio/miniconda3:1"',
            ["starts from the image evil.example/continuumio"],
        ),
        ('channels = ["conda-forge", "bioconda", "defaults"]', []),
        ('channels = ["evil"]', ["takes packages from https://conda.anaconda.org/evil"]),
        ('extra_index_urls = ["https://pypi.org/simple"]', []),
        ('extra_index_urls = ["https://pypi.evil/simple"]', ["takes packages from https://pypi.evil/simple"]),
        (
            'extra_index_urls = ["https://$A:${B}@pypi.evil/simple"]',
            [
                "takes packages",
                "sends the value of $A to https://pypi.evil",
                "sends the value of $B to https",
            ],
        ),
        ('mapping_url = "http://x.example/m"', ["takes the names of packages from http://x.example/m"]),
        ('ca_bundle = "ca.pem"', ["believes whatever server has a certificate by"]),
        ('jupyter = "j.yml"', ["puts a Jupyter of its own"]),
        ('engine = "host"', ["runs on this machine itself, without a container"]),
        ('engine = "docker"', []),
        ("own_path = true", ["uses environments at a path in the cache"]),
        ("own_path = false", []),
        ('[mirrors]\n"docker.io" = "evil.example"', ["fetches from evil.example what belongs to docker.io"]),
        (
            '[mirrors]\n"docker.io" = "$SECRET.evil.example"',
            ["fetches from $SECRET.evil.example", "sends the value of $SECRET to $SECRET.evil.example"],
        ),
        ('jobs = 3\ntimeout = 5\noffline = true\nplatforms = ["linux-64"]\nenvironment = "e"', []),
    ],
)
def test_settings_of_a_project(place: Place, text: str, said: list[str]) -> None:
    (place.root / "envbox.toml").write_text(text + "\n")
    layers = read_layers(place.root, {"ENVBOX_CONFIG": os.devnull})
    found = words(settings_asks(layers, place))
    assert len(found) == len(said)
    assert all(one.startswith(beginning) for one, beginning in zip(found, said, strict=True))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('volumes = ["/:/host"]', ["mounts / (your machine, not only your project) at /host, writable"]),
        ('volumes = ["..:/data:ro"]', ["mounts {above} at /data, to be read"]),
        ('volumes = ["data/../../x:/data"]', ["mounts {above}/x at /data, writable"]),
        ('volumes = ["~:/home"]', ["mounts {home} (your machine"]),
        (
            'volumes = ["link:/data", "./link:/data"]',
            ["mounts the engine's volume link", "mounts /etc (your"],
        ),
        ('volumes = ["./data/link/x:/data"]', ["mounts /etc/x at /data"]),
        (
            'volumes = ["./data:/data", "data:/x", "./data:/work/x:ro"]',
            ["mounts the engine's volume data at /x"],
        ),
        ('volumes = ["./data:/home/envbox/.jupyter"]', ["puts its own ./data over /home/envbox/.jupyter"]),
        ('volumes = ["./data:/x/../etc/jupyter"]', ["puts its own ./data over /x/../etc/jupyter"]),
        ('network = "host"', ["joins this machine's own network"]),
        ('network = "container:db"', ["joins the network container:db"]),
        ('network = "lab"', ["joins the network lab"]),
        ('volumes = ["~nobody-of-that-name/x:/data"]', []),
        ('volumes = ["x\\u0000y/:/data"]', ["mounts"]),
        ('env_file = "x\\u0000y"', ["gives its sessions"]),
        ('network = "none"', []),
        ('env_file = "/etc/shadow"', ["gives its sessions what is in /etc/shadow"]),
        ('env_file = "../secrets"', ["gives its sessions what is in {above}/secrets"]),
        ('env_file = "shadow"', ["gives its sessions what is in /etc/shadow"]),
        ('env_file = "own.env"', ["hands the value of your $AWS_SECRET_ACCESS_KEY", "sets LD_PRELOAD"]),
        ('env = { JUPYTER_CONFIG_PATH = "/work/j", PGHOST = "db" }', ["sets JUPYTER_CONFIG_PATH"]),
        ('env = { http_proxy = "http://evil", X = "" }', ["sets http_proxy"]),
        ('base = "evil:1"', ["starts from the image evil:1"]),
        ('ports = ["8000"]\nmemory = "4g"\ncpus = 2\ncommand = ["sh", "-c", "true"]\ngpus = "all"', []),
    ],
)
def test_tables_of_environments(place: Place, text: str, said: list[str]) -> None:
    (place.root / "link").symlink_to("/etc")
    (place.root / "shadow").symlink_to("/etc/shadow")
    (place.root / "data").mkdir()
    (place.root / "data/link").symlink_to("/etc")
    (place.root / "own.env").write_text("A=b\n# c\nAWS_SECRET_ACCESS_KEY\nexport LD_PRELOAD=x\n")
    (place.root / "envbox.toml").write_text(f"[environments.e]\n{text}\n")
    layers = read_layers(place.root, {"ENVBOX_CONFIG": os.devnull})
    found = words(table_asks("e", layers.project["environments"]["e"], place))
    assert len(found) == len(said)
    for one, beginning in zip(found, said, strict=True):
        assert one.startswith(beginning.format(above=place.root.parent, home=Path.home()))


def test_what_the_user_says_asks_for_nothing(place: Place, tmp_path: Path) -> None:
    said = (
        'base = "mine:1"\nchannels = ["lab"]\n[mirrors]\n"https://conda.anaconda.org/mirrored" = "http://m"\n'
    )
    (tmp_path / "user.toml").write_text(said)
    (place.root / "envbox.toml").write_text(
        'base = "mine:1"\nchannels = ["lab", "mirrored"]\nmapping_url = "http://x"\n'
    )
    environ = {"ENVBOX_CONFIG": str(tmp_path / "user.toml"), "ENVBOX_MAPPING_URL": "http://mine"}
    layers = read_layers(place.root, environ)
    own = own_of(layers.own, layers.told)
    assert not words(settings_asks(layers, Place(place.root, own)))
    assert len(words(settings_asks(layers, place))) == 4


# --- addresses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "https://conda.anaconda.org/conda-forge",
        "https://conda.anaconda.org/conda-forge/linux-64/_x-1!2.0-h1_0.conda",
        "https://conda.anaconda.org/bioconda/label/main/noarch",
        "https://repo.anaconda.com/pkgs/main",
        "https://pypi.org/simple/",
        "https://files.pythonhosted.org/packages/aa/bb/x-1%2Bcpu-py3-none-any.whl",
    ],
)
def test_usual_addresses(address: str) -> None:
    assert is_usual(address, NOBODY)


@pytest.mark.parametrize(
    "address",
    [
        "http://conda.anaconda.org/conda-forge",
        "https://conda.anaconda.org/conda-forge-evil",
        "https://conda.anaconda.org/conda-forge/../evil",
        "https://conda.anaconda.org/conda-forge/%2e%2e/evil",
        "https://conda.anaconda.org/conda-forge/..%2Fevil",
        "https://conda.anaconda.org/conda-forge/.%2e/evil",
        "https://conda.anaconda.org//conda-forge",
        "https://conda.anaconda.org\\@evil.example/conda-forge",
        "https://conda.anaconda.org@evil.example/conda-forge",
        "https://conda.anaconda.org:444/conda-forge",
        "https://conda.anaconda.org.evil.example/conda-forge",
        "https://conda.anaconda.org/$CHANNEL",
        "https://conda.anaconda.org/conda-forge?x=1",
        "https://CONDA.anaconda.org/conda-forge",
        "https://conda.anaconda.org",
        "https://[evil/conda-forge",
        "file:///etc",
        "ftp://conda.anaconda.org/conda-forge",
    ],
)
def test_addresses_that_only_look_usual(address: str) -> None:
    assert not is_usual(address, NOBODY)


def test_own_mirrors_cover_what_they_stand_in_for_and_nothing_beside_it() -> None:
    own = own_of({"mirrors": {"https://conda.anaconda.org/lab": "http://m"}}, {})
    assert is_usual("https://conda.anaconda.org/lab/noarch", own)
    assert not is_usual("https://conda.anaconda.org/lab/../evil", own)
    assert not is_usual("https://conda.anaconda.org/laboratory", own)
    proxy = own_of({"mirrors": {"https://conda.anaconda.org": "http://m", "docker.io": "m"}}, {})
    assert not is_usual("https://conda.anaconda.org/evil", proxy)
    assert is_usual("https://conda.anaconda.org/conda-forge", proxy)


@pytest.mark.parametrize(
    ("channel", "said"),
    [
        ("conda-forge", []),
        ("defaults", []),
        ("nodefaults", []),
        ("pkgs/main", []),
        ("conda-forge/label/dev", []),
        ("conda-forge/../evil", ["https://conda.anaconda.org/conda-forge/../evil"]),
        ("evil", ["https://conda.anaconda.org/evil"]),
        (
            "https://conda.anaconda.org/t/$TOKEN/conda-forge",
            ["$TOKEN to https://conda.anaconda.org/conda-forge"],
        ),
        ("https://u:s3cret@evil.example/c", ["https://evil.example/c"]),
        ("$X", ["https://conda.anaconda.org/$X", "$X to"]),
        ("file:///home/you/channel", ["file:///home/you/channel"]),
        ("https://a.example/${B-C}/x", ["https://a.example/${B-C}/x", "$B-C to"]),
    ],
)
def test_channels(channel: str, said: list[str]) -> None:
    found = words(channel_asks(channel, NOBODY))
    assert len(found) == len(said)
    assert all(part in one for one, part in zip(found, said, strict=True))
    assert "s3cret" not in "".join(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("numpy >=2", []),
        ("conda-forge::numpy", []),
        ("conda-forge/linux-64::numpy >=2", []),
        ("evil::numpy", ["https://conda.anaconda.org/evil"]),
        ("evil/noarch::numpy", ["https://conda.anaconda.org/evil"]),
        ("https://evil.example/c::numpy", ["https://evil.example/c"]),
        ("numpy[channel=evil]", ["https://conda.anaconda.org/evil"]),
        ("numpy[version='>=2', channel='https://evil.example/c']", ["https://evil.example/c"]),
        ("https://evil.example/c/noarch/x-1-0.conda#00", ["https://evil.example/c"]),
        ("https://conda.anaconda.org/conda-forge/noarch/x-1-0.conda", []),
        ("x @ https://evil.example/a/x-1-py3-none-any.whl#sha256=00", ["https://evil.example"]),
        ("x @ https://files.pythonhosted.org/packages/x-1-py3-none-any.whl#sha256=00", []),
        ("evil ::numpy", ["https://conda.anaconda.org/evil"]),
        (" evil-$TOKEN::numpy", ["https://conda.anaconda.org/evil-$TOKEN", "$TOKEN to"]),
        ("evil[x::numpy", ["evil[x"]),
        ("a@evil::numpy", ["evil"]),
        ("conda-forge::evil::numpy", ["conda-forge::evil"]),
        ("evil:x:numpy", ["https://conda.anaconda.org/evil"]),
        ("evil:x:numpy # https://pypi.org/simple", ["https://conda.anaconda.org/evil", "evil:x"]),
        ("x ==1 --hash=sha256:00 --hash=sha256:11 --hash=sha256:22", []),
        ("$A --hash=sha256:x:numpy", ["$A --hash", "$A to"]),
        ("http://evil.example:80/c::numpy", ["http://evil.example:80/c"]),
        ("x @ https://$U:$P@evil.example/x-1-py3-none-any.whl", ["https://evil.example", "$U", "$P"]),
    ],
)
def test_dependencies(text: str, said: list[str]) -> None:
    found = words(united(dependency_asks(text, NOBODY)))
    assert len(found) == len(said)
    assert all(part in one for one, part in zip(found, said, strict=True))


# --- specs and lockfiles ------------------------------------------------------------------------------------

SPEC = "channels: [conda-forge]\ndependencies: [python]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (SPEC, []),
        ("channels:\n  - conda-forge\n  - evil\ndependencies:\n  - python\n", ["evil"]),
        (SPEC + "channels: [evil]\n", ["evil"]),
        ("channels: [evil]\n" + SPEC, ["evil"]),
        ("x: &a [evil]\nchannels: *a\ndependencies: [python]\n", ["evil"]),
        ("x: &a {channels: [evil]}\n<<: *a\ndependencies: [python]\n", ["evil"]),
        ('channels: ["\\x65vil"]\ndependencies: [python]\n', ["evil"]),
        ("channels:\n  - conda-forge\nx:  # [win]\n  - evil\ndependencies: [python]\n", []),
        (SPEC + "pip-repositories: ['https://$T@i.example/simple']\n", ["i.example", "$T to"]),
        (
            "channels: [conda-forge]\ndependencies: [pip, {pip: ['x @ https://w.example/x.whl']}]\n",
            ["w.example"],
        ),
        (SPEC + "variables: {LD_PRELOAD: /work/x.so, A: b}\n", ["sets LD_PRELOAD"]),
    ],
)
def test_specs(place: Place, text: str, said: list[str]) -> None:
    path = place.root / "e.yml"
    path.write_text(text)
    found = words(united(spec_asks(path, NOBODY)))
    assert len(found) == len(said)
    assert all(part in one for one, part in zip(found, said, strict=True))


EVIL = "x @ https://w.example/x-1-py3-none-any.whl#sha256=" + "0" * 64


@pytest.mark.parametrize(
    ("named", "name", "data"),
    [
        ("-r r.txt", "r.txt", EVIL.encode()),
        ("-r r.txt", "r.txt", EVIL.replace("w.example", "w.ex\\\nample").encode()),
        ("-r r.txt", "r.txt", EVIL.encode("utf-16")),
        ("-r r.txt", "r.txt", b"# coding: utf-7\n" + EVIL.replace(":", "+ADo-").encode()),
        ("-r my req.txt", "my req.txt", EVIL.encode()),
        ('"-r r\\x65q.txt"', "req.txt", EVIL.encode()),
        ('"\\x2dr req.txt"', "req.txt", EVIL.encode()),
        ("-r a.txt", "r.txt", EVIL.encode()),
        ("-c r.txt", "r.txt", EVIL.encode()),
    ],
)
def test_requirement_files_are_read_as_they_are_when_they_are_locked(
    place: Place, named: str, name: str, data: bytes
) -> None:
    spec, kept = place.root / "e.yml", place.root / "kept"
    decoys = "".join(f"# -r d{n}\n" for n in range(120))
    (place.root / "a.txt").write_text("-r \\\nr.txt\n" + decoys)
    pip = f"dependencies: [python, pip, {{pip: [x, {named}]}}]\n"
    spec.write_text(decoys + pip + decoys)
    assert not content_asks(spec, (), NOBODY, kept)
    (place.root / name).write_bytes(data)  # it may come later
    for found in (spec_asks(spec, NOBODY), content_asks(spec, (), NOBODY, kept)):
        assert words(united(found)) == ["takes packages from https://w.example"]


LOCK = """\
metadata:
  content_hash: {{}}
  channels:
  - url: {channel}
    used_env_vars: []
  platforms:
  - linux-64
  sources: []
  custom_metadata:
    envbox.base: {base}
    envbox.variables: '{variables}'
package:
- name: x
  version: '1'
  manager: conda
  platform: linux-64
  dependencies: {{}}
  url: {url}
  hash:
    sha256: 7f00cc24dfa5a1f47fa8a02c6fbc71a6705ef790339713dcf79deec1f720de7c
  category: main
  optional: false
version: 1
"""
USUAL = {
    "channel": "conda-forge",
    "base": DEFAULT_BASE,
    "variables": "{}",
    "url": "https://conda.anaconda.org/conda-forge/noarch/x-1-0.conda",
}


@pytest.mark.parametrize(
    "shape", [lambda t: t, lambda t: t + "# edited\n", lambda t: t.replace("\n", "\r\n")]
)
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"channel": "evil"}, ["https://conda.anaconda.org/evil"]),
        ({"base": "evil.example/b:1"}, ["starts from the image evil.example/b:1"]),
        ({"variables": '{"PYTHONSTARTUP": "/work/x"}'}, ["sets PYTHONSTARTUP"]),
        ({"url": "https://evil.example/c/noarch/x-1-0.conda"}, ["https://evil.example/c"]),
        ({"url": "https://conda.anaconda.org/evil/noarch/x-1-0.conda"}, ["https://conda.anaconda.org/evil"]),
        ({"url": "file:///home/you/c/noarch/x-1-0.conda"}, ["file:///home/you/c"]),
    ],
)
def test_lockfiles(
    place: Place, changed: dict[str, str], said: list[str], shape: Callable[[str], str]
) -> None:
    path = place.root / "e.conda-lock.yml"
    path.write_text(shape(LOCK.format(**USUAL | changed)))
    found = words(united(lock_asks(path, NOBODY)))
    assert len(found) == len(said)
    assert all(part in one for one, part in zip(found, said, strict=True))


@pytest.mark.parametrize("end", ["$TOKEN-1-0.conda", "y-1-0.conda?q=$TOKEN", "y-1-0.conda?/../evil"])
def test_no_address_is_left_out_since_another_of_its_folder_is_usual(place: Place, end: str) -> None:
    path = place.root / "e.conda-lock.yml"
    first, _, entry = LOCK.format(**USUAL).partition("- name: x\n")
    entry = "- name: x\n" + entry.removesuffix("version: 1\n")
    for order in ([end, "x-1-0.conda"], ["x-1-0.conda", end]):
        parts = (entry.replace("x-1-0.conda", one).replace("x\n", f"x{one[0]}\n", 1) for one in order)
        path.write_text(first + "".join(parts) + "version: 1\n")
        assert words(lock_asks(path, NOBODY))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("explicit.txt", "@EXPLICIT\nhttps://evil.example/c/noarch/x-1-0.conda\n"),
        (
            "pixi.lock",
            "version: 6\nenvironments: {default: {channels: [{url: 'https://evil.example/c/'}]}}\n",
        ),
        ("pixi.lock", 'version: 6\npackages: [{conda: "\\x68ttps://evil.example/c/noarch/x-1-0.conda"}]\n'),
        ("conda-lock.yml", "package: [{url: https://evil.example/c/noarch/x-1-0.conda}]\nmetadata: {}\n"),
    ],
)
def test_lockfiles_of_other_tools(place: Place, name: str, text: str) -> None:
    (place.root / name).write_text(text)
    assert words(united(lock_asks(place.root / name, NOBODY))) == [
        "takes packages from https://evil.example/c"
    ]


def test_what_is_no_file_is_not_waited_for(place: Place) -> None:
    os.mkfifo(place.root / "pipe")
    assert not words(lock_asks(place.root / "pipe", NOBODY))
    assert not words(spec_asks(place.root / "pipe", NOBODY))
    assert not content_asks(place.root / "pipe", [place.root / "pipe"], NOBODY, place.root / "kept")
    for key in ("ca_bundle", "jupyter"):
        for path in (place.root / "pipe", Path("/dev/zero")):
            assert words(settings_asks(Layers({}, {key: path}, {}), place))


def test_what_was_read_once_is_kept_and_another_user_setting_reads_again(place: Place) -> None:
    spec = place.root / "e.yml"
    spec.write_text("channels: [lab]\ndependencies: [python]\n")
    kept = place.root / "kept"
    assert len(content_asks(spec, (), NOBODY, kept)) == len(content_asks(spec, (), NOBODY, kept)) == 1
    assert not content_asks(spec, (), own_of({"channels": ("lab",)}, {}), kept)
    spec.write_text(SPEC)
    assert not content_asks(spec, (), NOBODY, kept)


def test_locking_anew_from_the_same_channels_asks_for_nothing_new(place: Place) -> None:
    path = place.root / "e.conda-lock.yml"
    path.write_text(LOCK.format(**USUAL | {"url": "https://lab.example/c/noarch/x-1-0.conda"}))
    before = {one.key for one in lock_asks(path, NOBODY)}
    path.write_text(LOCK.format(**USUAL | {"url": "https://lab.example/c/linux-64/x-1-7.conda"}))
    assert before == {one.key for one in lock_asks(path, NOBODY)} != set()


@pytest.mark.parametrize(
    ("name", "is_so"),
    [
        ("JUPYTER_CONFIG_PATH", True), ("jupyter_token", True), ("LD_PRELOAD", True), ("PYTHONPATH", True),
        ("PYTHONSTARTUP", True), ("PYTHONUNBUFFERED", False), ("PYTHONHASHSEED", False), ("BASH_ENV", True),
        ("BASH_FUNC_ls%%", True), ("ENV", True), ("DOCKER_HOST", True), ("HTTPS_PROXY", True), ("PATH", True),
        ("HOME", True), ("SSL_CERT_FILE", True), ("REQUESTS_CA_BUNDLE", True), ("PERL5LIB", True),
        ("R_LIBS", True), ("PGHOST", False), ("TZ", False), ("OMP_NUM_THREADS", False), ("LANG", False),
        ("RESULT", False), ("IPYTHONDIR", True), ("GIT_SSH_COMMAND", True), ("KUBECONFIG", True),
        ("LDAP_HOST", False),
    ],
)  # fmt: skip
def test_variables_that_change_more_than_data(name: str, is_so: bool) -> None:
    assert is_risky(name) is is_so


def test_env_files_hand_over_what_they_only_name() -> None:
    found = words(env_file_asks("A=1\n\n# B\n  TOKEN  \nexport PATH=/x\n", "x.env"))
    assert [one.partition(" (")[0] for one in found] == [
        "hands the value of your $TOKEN to its sessions",
        "sets PATH in its sessions, which changes what programs load or trust",
    ]


def test_nothing_in_words_reaches_the_terminal_as_it_is() -> None:
    found = words(channel_asks("https://e.example/\x1b[2J\u202e", NOBODY))
    assert found
    assert all(one.isprintable() for one in found)


# --- digests ------------------------------------------------------------------------------------------------


def test_a_digest_is_of_the_content_and_not_of_the_order() -> None:
    a, b = ask("x", "a"), ask("y", "b")
    assert digest_of([a, b]) == digest_of([b, a, a]) != digest_of([a])
    assert ask("other words", "a").key == a.key
    assert united([ask("x", "a", use="launch"), a])[0].use == "fetch"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('env = { LD_PRELOAD = "/work/a" }', 'env = { LD_PRELOAD = "/work/b" }'),
        ('volumes = ["/data:/data:ro"]', 'volumes = ["/data:/data"]'),
        ('volumes = ["/data:/data"]', 'volumes = ["/data:/other"]'),
        ('volumes = ["./link:/x"]', 'volumes = ["./other:/x"]'),
        ('network = "a"', 'network = "b"'),
    ],
)
def test_whatever_is_changed_is_another_ask(place: Place, before: str, after: str) -> None:
    (place.root / "link").symlink_to("/etc")
    (place.root / "other").symlink_to("/usr")
    keys = []
    for text in (before, after):
        (place.root / "envbox.toml").write_text(f"[environments.e]\n{text}\n")
        table = read_layers(place.root, {"ENVBOX_CONFIG": os.devnull}).project["environments"]["e"]
        keys.append([one.key for one in table_asks("e", table, place)])
    assert len(keys[0]) == len(keys[1]) == 1
    assert keys[0] != keys[1]


@pytest.mark.parametrize("key", ["ca_bundle", "jupyter"])
def test_a_file_that_is_named_counts_with_its_content(place: Place, key: str) -> None:
    layers = Layers({}, {key: place.root / "file"}, {})
    keys = []
    for text in ("a", "b"):
        (place.root / "file").write_text(text)
        keys.append(next(iter(settings_asks(layers, place))).key)
    assert keys[0] != keys[1]


def test_a_clone_elsewhere_asks_for_the_same(tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        root = tmp_path / name
        root.mkdir()
        table = EnvironmentSettings(volumes=("../data:/data", "~/x:/y"), env_file="../env")
        found.append(digest_of(table_asks("e", table, Place(root, NOBODY))))
    assert found[0] == found[1]


# --- whose files they are -----------------------------------------------------------------------------------


def test_a_caller_is_himself_and_root_who_he_was_before_sudo() -> None:
    assert callers_uids({"SUDO_UID": "1000"}, 0) == {0, 1000}
    assert callers_uids({"SUDO_UID": "1000"}, 1001) == {1001}
    assert callers_uids({"SUDO_UID": "x"}, 0) == {0}
    assert callers_uids({}, 5) == {5}


def test_the_files_of_another_are_asked_about(place: Place) -> None:
    (place.root / "envbox.toml").touch()
    (place.root / "link").symlink_to("/etc/passwd")
    mine = frozenset({place.root.stat().st_uid})
    paths = [place.root, place.root / "envbox.toml", place.root / "none"]
    assert not words(owner_asks(paths, mine, place))
    (said,) = words(owner_asks(paths, frozenset({54321}), place))
    assert said.endswith(f"who can change it at any time: {place.root}")
    if os.geteuid():
        assert words(owner_asks([place.root / "link"], mine, place))  # what it leads to is root's


def test_a_folder_that_everybody_can_write_to_holds_no_project_for_what_is_below(place: Place) -> None:
    below = place.root / "sub"
    below.mkdir()
    assert not words(open_asks(place.root, below))
    place.root.chmod(0o777)
    assert not words(open_asks(place.root, place.root))
    assert words(open_asks(place.root, below)) == [
        f"lies in a folder that everybody can write to: {place.root}"
    ]
    place.root.chmod(0o1777)
    assert not words(open_asks(place.root, below))


def test_links_that_lead_out_are_asked_about(place: Place, tmp_path: Path) -> None:
    (place.root / "in.yml").symlink_to("real.yml")
    (place.root / "out.yml").symlink_to(tmp_path / "other.yml")
    assert not words(link_asks([place.root / "in.yml"], [place.root / "in.yml"], place))
    (said,) = words(link_asks((), [place.root / "out.yml"], place))
    assert said == f"reads and writes {tmp_path}/other.yml, where {place.root}/out.yml leads"


# --- what is kept -------------------------------------------------------------------------------------------

WISH = Ask("mounts /", "00" * 32)


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "state" / "trust"


def test_what_was_allowed_is_kept_closed_and_for_one_path(kept: Path, place: Place, tmp_path: Path) -> None:
    allowing.allow(kept, place.root, [WISH])
    assert allowing.read(kept, place.root).allowed == {WISH.key: WISH.words}
    (file,) = kept.glob("*.json")
    assert (file.stat().st_mode & 0o777, kept.stat().st_mode & 0o777) == (0o600, 0o700)
    assert not allowing.read(kept, tmp_path).allowed
    (tmp_path / "link").symlink_to(place.root)
    assert allowing.read(kept, tmp_path / "link").allowed
    other = Ask("joins", "11" * 32)
    allowing.allow(kept, place.root, [other])
    assert allowing.read(kept, place.root).allowed.keys() == {WISH.key, other.key}
    assert [one.project for one in allowing.known(kept)] == [str(place.root)]
    allowing.revoke(kept, place.root)
    assert not allowing.read(kept, place.root).allowed
    with pytest.raises(TrustError, match="nothing was allowed"):
        allowing.revoke(kept, place.root)


@pytest.mark.parametrize(
    ("what", "mode"), [("file", 0o620), ("file", 0o602), ("folder", 0o770), ("above", 0o777)]
)
def test_what_others_could_have_written_is_not_believed(
    kept: Path, place: Place, what: str, mode: int
) -> None:
    allowing.allow(kept, place.root, [WISH])
    (file,) = kept.glob("*.json")
    {"file": file, "folder": kept, "above": kept.parent}[what].chmod(mode)
    found = allowing.read(kept, place.root)
    assert not found.allowed
    assert "others may write" in (found.doubt or "")


def test_a_link_is_not_believed(kept: Path, place: Place, tmp_path: Path) -> None:
    allowing.allow(kept, place.root, [WISH])
    (file,) = kept.glob("*.json")
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert "is a link" in (allowing.read(kept, place.root).doubt or "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_is_anothers_is_not_believed(kept: Path, place: Place) -> None:
    allowing.allow(kept, place.root, [WISH])
    (file,) = kept.glob("*.json")
    os.chown(file, 54321, 54321)
    found = allowing.read(kept, place.root)
    assert not found.allowed
    assert "belongs to another user (uid 54321)" in (found.doubt or "")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "project": "x"}', "[" * 99999]
)
def test_what_is_damaged_allows_nothing(kept: Path, place: Place, text: str) -> None:
    allowing.allow(kept, place.root, [WISH])
    (file,) = kept.glob("*.json")
    file.write_text(text)
    assert not allowing.read(kept, place.root).allowed


def test_a_file_of_another_project_allows_nothing(kept: Path, place: Place) -> None:
    allowing.allow(kept, place.root, [WISH])
    (file,) = kept.glob("*.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "project": "/other"}))
    assert not allowing.read(kept, place.root).allowed


def test_a_reading_is_kept_by_the_same_rules(kept: Path) -> None:
    allowing.keep(kept, "aa", [WISH])
    assert allowing.recall(kept, "aa") == (WISH,)
    assert allowing.recall(kept, "bb") is None
    (kept / "read" / "aa.json").chmod(0o666)
    assert allowing.recall(kept, "aa") is None
