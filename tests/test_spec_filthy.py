"""What people's specs are really like: each works, or is refused with line, value and way out."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from envbox.errors import SettingsError, SpecError
from envbox.locks.spec import EnvSpec, content_hashes, read_spec
from envbox.settings import Settings, read_settings

D = "dependencies:\n  - python\n"
P = D + "  - pip:\n"


def read(folder: Path, text: str | bytes) -> EnvSpec:
    path = folder / "maps.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_spec(path, ("linux-64",), Settings(cache_dir=folder / "cache"))


def refused(folder: Path, text: str | bytes) -> str:
    with pytest.raises(SpecError) as caught:
        read(folder, text)
    return f"{caught.value.message}\n{caught.value.hint}"


# --- what works as conda treats it --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xfe" + D.replace("\n", "\r\n").encode("utf-16-le"),  # PowerShell's `>`
        D.replace("\n", "\r\n").encode(),
        b"name: x\t# ours\ndependencies:\t\n  -\tpython\t\n",
        b"prefix: C:\\Users\\me\\envs\\x\n" + D.encode(),
        b'prefix: "C:\\Users\\me"\n' + D.encode(),
        b"channels:\n" + D.encode(),
        b"channels: []\n" + D.encode(),
        b"channels: [nodefaults]\n" + D.encode(),
    ],
)
def test_the_dirt_of_editors_and_exports_changes_nothing(tmp_path: Path, data: bytes) -> None:
    spec, plain = read(tmp_path, data), read(tmp_path, D)
    assert (spec.conda, spec.channels, spec.warnings) == (plain.conda, plain.channels, plain.warnings)
    assert content_hashes(spec) == content_hashes(plain)


@pytest.mark.parametrize("channel", ["file:///srv/channel", "conda-forge/label/x", "https://h/c/label/x"])
def test_channels_of_every_kind_are_taken(tmp_path: Path, channel: str) -> None:
    spec = read(tmp_path, f"channels: ['{channel}']\n" + D)
    assert spec.channels == (channel,)
    assert bool(spec.warnings) == channel.startswith("file:")


@pytest.mark.parametrize(
    "text", ["gdxcc = 7.28.20", "https://h/c/linux-64/x-1-0.conda", "conda-forge/label/x::numpy"]
)
def test_match_specs_that_conda_takes(tmp_path: Path, text: str) -> None:
    assert text in read(tmp_path, D + f"  - {text}\n").conda["linux-64"]


def test_selectors_that_nobody_knows_are_told(tmp_path: Path) -> None:
    spec = read(tmp_path, D + "  - a  # [unix]\n  - b  # [py<3]\n")
    assert spec.conda["linux-64"] == ("python", "a")
    assert len(spec.warnings) == 1
    assert "line 4: the selector [py<3] is not known" in spec.warnings[0]


def test_sections_that_mean_nothing_are_told(tmp_path: Path) -> None:
    (words,) = read(tmp_path, D + "pip:\n  - tqdm\n").warnings
    assert "`pip` means nothing in a spec" in words
    assert "`- pip:`" in words


# --- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (D + "  - PyPDF2>==1.26.0\n", ["line 3: 'PyPDF2>==1.26.0'", "write PyPDF2>=1.26.0"]),
        (D + "  - https://h/a-1-py3-none-any.whl\n", ["line 3: ", "under `- pip:`"]),
        (D + "  - ./a-1-0.conda\n", ["line 3: './a-1-0.conda'", "a path"]),
        (P + "      - x=2.0.0\n", ["line 4: 'x=2.0.0'", "pip writes `==2.0.0`"]),
        (P + "      - -r https://h/r.txt\n", ["line 4: '-r https://h/r.txt'", "list the requirements here"]),
        (P + "      - --extra-index-url https://h/s\n", ["line 4: ", "pip-repositories: "]),
        (P + "      - requirements.txt\n", ["line 4: ", "the name of a file"]),
        (P + "      - https://h/a-1-py3-none-any.whl\n", ["line 4: ", "NAME @ URL#sha256=HASH"]),
        ("channels:\n  - conda-forge\n  -\n" + D, ["line 3: `channels`", "None"]),
        ("channels:\n  - ''\n" + D, ["line 2: `channels`"]),
        ("channels:\n  - C:\\ch\n" + D, ["line 2: the channel 'C:\\\\ch'", "file:///"]),
        ("channels: conda-forge\n" + D, ["line 1: `channels`", "each line with a `-`"]),
        ("name: {{ name }}\n" + D, ["line 1: ", "{{ name }}", "write the value itself"]),
        ("{% set v = 1 %}\n" + D, ["line 1: ", "no template"]),
        ("<html>\n<body>x</body></html>", ["a web page", "save the raw file"]),
        ("<!-- saved -->\n<html>", ["a web page"]),
        ("404: Not Found", ["a server's error"]),
        ("../environment.yml", ["the path ../environment.yml", "core.symlinks"]),
        ("dependencies:\n\t- python\n", ["a tab (line 2)", "spaces"]),
        ("<<<<<<< HEAD\n" + D + "=======\n>>>>>>> b\n", ["conflict markers (line 1)", "settle"]),
        (D + D, ["`dependencies` stands twice, first on line 1 (line 3)", "put what both"]),
        ("dependencies:\n  - numpy\u00a0>=2\n", ["line 2: ", "no-break space"]),
        ("pip-repositories: [1]\n" + D, ["line 1: `pip-repositories`", "1"]),
        ("category: [1]\n" + D, ["line 1: `category`"]),
    ],
)
def test_filth_is_refused_with_line_value_and_way_out(tmp_path: Path, text: str, words: list[str]) -> None:
    said = refused(tmp_path, text)
    for expected in words:
        assert expected in said


@pytest.mark.parametrize(
    "text",
    [
        P + "      - --extra-index-url https://bob:s3cr3t@h/simple\n",
        P + "      - git+https://bob:s3cr3t@github.com/a/b\n",
        P + "      - https://bob:s3cr3t@h/a.whl\n",
        P + f"      - a @ https://bob:s3cr3t@h/a-1-py3-none-any.whl#sha256={'a' * 64}\n",
        "pip-repositories: ['https://bob:s3cr3t@h/simple']\n" + P + "      - a\n",
        D + "  - https://bob:s3cr3t@h/a.whl\n",
        D + "  - [https://bob:s3cr3t@h/a.whl]\n",
    ],
)
def test_no_secret_of_a_spec_is_shown(tmp_path: Path, text: str) -> None:
    assert "s3cr3t" not in refused(tmp_path, text)


def test_faults_of_every_kind_are_told_at_once(tmp_path: Path) -> None:
    said = refused(
        tmp_path,
        "name: {{ n }}\nchannels: [1]\nplatforms: [foo]\ndependencies:\n  - PyPDF2>==1\n  - 3\n"
        "  - pip:\n      - x=2.0.0\n      - 1\n",
    )
    assert "'foo' is not a platform" in said
    for line in (1, 2, 5, 6, 8, 9):
        assert f"line {line}: " in said


# --- what would hang or fill the memory ---------------------------------------------------------------------

LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{key}: &{key} [{','.join(['*' + below] * 9)}]\n"
    for below, key in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS + "dependencies: *i\n",
        LAUGHS + "dependencies: [{pip: *i}]\n",
        "dependencies: &a [*a]\n",
        D + "x: &a {b: *a}\n",
        "{" * 100_000,
        "[" * 3000 + "]" * 3000,
        D + "x:\n" + "".join(" " * n + "-\n" for n in range(1, 400)),
        "dependencies: [" + "9" * 200_000 + "]\n",
        "dependencies: [0x" + "f" * 3000 + "]\n",
        "x: " + "#[a]" * 60_000 + "(\n" + D,
        "x:" + " " * 200_000 + "y\n" + D,
        D + "  - a" + "{{" * 100_000 + "\n",
        "dependencies: ['" + "a" * 3000 + "']\n",
        "x: !!int ''\n" + D,
        "x: !!bool maybe\n" + D,
        "x: 2020-99-99\n" + D,
        'dependencies: ["\\ud800"]\n',
        'dependencies: [{pip: ["a\\0b"]}]\n',
        'channels: ["a\\0b"]\n' + D,
        'variables: {A: "a\\0b"}\n' + D,
        "variables: {? [a, b] : c}\n" + D,
    ],
)
def test_bombs_are_refused_soon(tmp_path: Path, text: str) -> None:
    start = time.process_time()
    assert len(refused(tmp_path, text)) < 2000
    assert time.process_time() - start < 10  # seconds: what is not bounded takes minutes, or all memory


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=12)
    | st.sampled_from(["*a", "&a x", "{{x}}"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = ("name", "channels", "platforms", "dependencies", "variables", "pip-repositories", "category")


@given(st.dictionaries(st.sampled_from(KEYS), VALUES), VALUES)
@hypothesis_settings(max_examples=100, deadline=None)
def test_no_shape_brings_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, object], pip: object
) -> None:
    import yaml

    text = yaml.safe_dump({"dependencies": ["python", {"pip": pip}], **document}, allow_unicode=True)
    with contextlib.suppress(SpecError):
        read(tmp_path_factory.getbasetemp(), text.encode(errors="replace"))


@given(st.dictionaries(st.sampled_from([*KEYS, "jobs", "mirrors", "timeout", "environments"]), VALUES))
@hypothesis_settings(max_examples=100, deadline=None)
def test_no_settings_bring_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, table: dict[str, object]
) -> None:
    import json

    folder = tmp_path_factory.getbasetemp()
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    (folder / "envbox.toml").write_bytes("\n".join(lines).encode(errors="replace"))
    with contextlib.suppress(SettingsError):
        read_settings(folder, {"ENVBOX_CONFIG": os.devnull})
