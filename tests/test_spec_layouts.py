"""A spec means what its YAML says, however it is laid out."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from envbox.errors import SpecError
from envbox.locks.spec import EnvSpec, content_hashes, read_spec
from envbox.locks.spec.selectors import KNOWN, selector_in
from envbox.settings import Settings

PLAIN = "channels: [conda-forge, bioconda]\ndependencies: [python =3.11, numpy, {pip: [tqdm, rich]}]\n"
BLOCK = """\
channels:
  - conda-forge
  - bioconda
dependencies:
  - python =3.11
  - numpy
  - pip:
      - tqdm
      - rich
"""
BOTH = ("linux-64", "osx-arm64")


def read(folder: Path, text: str | bytes, platforms: tuple[str, ...] = BOTH) -> EnvSpec:
    path = folder / "maps.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_spec(path, platforms, Settings(cache_dir=folder / "cache"))


def meaning(spec: EnvSpec) -> object:
    return spec.channels, dict(spec.conda), dict(spec.pip), content_hashes(spec), spec.warnings


LAYOUTS = {
    "a comment before the first item": BLOCK.replace("channels:\n", "channels:\n  # where from\n"),
    "comments everywhere": BLOCK.replace("\n", "  # why\n  # and how [see wiki]\n"),
    "comments at the margin": BLOCK.replace("\n", "\n# note\n"),
    "blank lines": BLOCK.replace("\n", "\n\n \n"),
    "a list at the margin": BLOCK.replace("\n  ", "\n"),
    "flow lists over lines": PLAIN.replace(", ", ",\n    # here\n  ").replace("[", "[\n  "),
    "flow throughout": "{" + ", ".join(PLAIN.splitlines()) + "}\n",
    "JSON": '{"channels": ["conda-forge", "bioconda"],\n'
    ' "dependencies": ["python =3.11", "numpy", {"pip": ["tqdm", "rich"]}]}\n',
    "quoted keys": BLOCK.replace("channels", "'channels'").replace("pip:", '"pip":'),
    "a blank before the colon": BLOCK.replace("channels:", "channels :").replace("pip:", "pip :"),
    "explicit keys": BLOCK.replace("channels:\n", "? channels\n:\n"),
    "an anchor and an alias": "x-own: &own [numpy]\n" + BLOCK.replace("pip:\n", "pip: &wheels\n"),
    "an aliased item": BLOCK.replace("- numpy", "- *n").replace("channels:", "x-n: &n numpy\nchannels:"),
    "an aliased list": BLOCK.replace("channels:\n  - conda-forge\n  - bioconda\n", "channels: *c\n").replace(
        "channels", "x-c: &c [conda-forge, bioconda]\nchannels"
    ),
    "tags": BLOCK.replace("- numpy", "- !!str numpy").replace("channels:\n", "channels: !!seq\n"),
    "document markers": f"%YAML 1.1\n---\n{BLOCK}...\n",
    "a marker with a comment": f"# ours\n---  # begins\n{BLOCK}",
    "a byte order mark": "\ufeff" + BLOCK,
    "Windows": BLOCK.replace("\n", "\r\n"),
    "old Macs": BLOCK.replace("\n", "\r"),
    "no line end at the end": BLOCK.rstrip("\n"),
    "trailing blanks": BLOCK.replace("\n", "   \n"),
    "trailing tabs": BLOCK.replace("\n", "\t\n"),
    "tabs before comments": BLOCK.replace("\n", "\t# why\n"),
    "folded items": BLOCK.replace("- numpy", "- >-\n      numpy"),
    "an item on lines of its own": BLOCK.replace("- numpy", "-\n    numpy"),
    "blanks within quotes": BLOCK.replace("- numpy", '- " numpy "'),
    "pip first": BLOCK.replace("  - python =3.11\n  - numpy\n", "") + "  - python =3.11\n  - numpy\n",
    "an empty pip section": BLOCK + "  - pip:\n",
    "a form that conda-lock would cut": BLOCK.replace("- numpy", "- numpy  # in place of nomkl [no, really]"),
    "nulls": "pip-repositories:\n" + BLOCK,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_changes_nothing(tmp_path: Path, layout: str) -> None:
    text = LAYOUTS[layout]
    assert meaning(read(tmp_path, text)) == meaning(read(tmp_path, PLAIN))


@pytest.mark.parametrize("null", ["", " ~", " null", "  # none yet", "\n  # none yet", " []"])
def test_channels_without_an_item_are_none(tmp_path: Path, null: str) -> None:
    assert read(tmp_path, f"channels:{null}\ndependencies: [python]\n").channels == ("conda-forge",)


COMMENTS = st.sampled_from(["", "  # why", "\t# x", "  # [see wiki]", "  # a [PEP 634]", " # {{ x }}", "   "])
BETWEEN = st.lists(st.sampled_from(["", "# note", "    # deep [int]", "   "]), max_size=2)
TEXTS = st.sampled_from(["python =3.11", "numpy", "conda-forge::zlib", "a>=1,<2", "r-base 4.*", "x[build=1]"])
QUOTES = st.sampled_from(["{}", "'{}'", '"{}"', ">-\n      {}", "\n    {}"])


@st.composite
def specs(draw: st.DrawFn) -> str:
    """A spec in any layout."""
    lines = draw(BETWEEN)
    if draw(st.booleans()):
        lines += [*draw(BETWEEN), "---" + draw(COMMENTS)]
    for key in draw(st.permutations(["channels", "dependencies"])):
        items = draw(st.lists(TEXTS, min_size=1, max_size=4, unique=True)) if key[0] == "d" else ["a", "b-c"]
        quoted = "'" + key + "'" if draw(st.booleans()) else key
        if draw(st.booleans()):
            gap = draw(st.sampled_from([" ", "\n  ", "\n  # c\n  "]))
            parts = [f"'{item}'" for item in items]
            lines += [f"{quoted}: [{(',' + gap).join(parts)}]{draw(COMMENTS)}", *draw(BETWEEN)]
            continue
        lines += [f"{quoted}:{draw(COMMENTS)}", *draw(BETWEEN)]
        for item in items:
            written = draw(QUOTES).format(item)
            comment = "" if written.startswith(">") else draw(COMMENTS)
            lines += [f"  - {written}{comment}", *([] if written.startswith(">") else draw(BETWEEN))]
    break_ = draw(st.sampled_from(["\n", "\r\n"]))
    return break_.join("\n".join(lines).split("\n")) + draw(st.sampled_from(["", break_]))


@given(specs())
@hypothesis_settings(max_examples=60, deadline=None)
def test_what_yaml_reads_is_read_alike(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    try:
        expected = yaml.safe_load(text)
        assert YAML(typ="safe", pure=True).load(text) == expected
    except yaml.YAMLError:
        return
    found = read(tmp_path_factory.getbasetemp(), text, ("linux-64",))
    assert list(found.conda["linux-64"]) == [item.strip() for item in expected["dependencies"]]
    assert list(found.channels) == expected["channels"]


# --- selectors ----------------------------------------------------------------------------------------------

BRACKETS = """\
channels:
  - awkward  # our own first [see wiki]
  - conda-forge
dependencies:
  - libzlib
  - python >=3.11  # we need match statements [PEP 634]
variables:
  A: "1"  # default [int]
  B: "2"
platforms:
  - linux-64
  - linux-aarch64  # mac users [docker]
"""


def test_a_comment_in_brackets_is_a_comment(tmp_path: Path) -> None:
    found = read(tmp_path, BRACKETS, ())
    assert found.channels == ("awkward", "conda-forge")
    assert found.platforms == ("linux-64", "linux-aarch64")
    assert found.conda["linux-64"] == ("libzlib", "python >=3.11")
    assert found.variables == {"A": "1", "B": "2"}
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("comment", "selector"),
    [
        ("  # [linux]", "linux"),
        ("  # only there [win64]", "win64"),
        ("\t#[unix]", "unix"),
        ("  # [ osx ]", "osx"),
        ("  # [py<3]", "py<3"),
        ("  # [not win]", "not win"),
        ("  # [linux and py>=38]", "linux and py>=38"),
        (", ]  # [linux]", "linux"),
        ("  # [linux] (see below)", None),
        ("  # [this is why]", None),
        ("  # [linux users]", None),
        ("  # [r]", None),
        ("  # [1]", None),
        ("  # []", None),
        ("  # see [the wiki](https://h) ", None),
        ("#[linux]", "linux"),
        (", b]  # [linux]", None),
        ("  no comment [linux]", None),
        ("  # " + "[a" * 5000, None),
    ],
)
def test_what_is_a_selector(comment: str, selector: str | None) -> None:
    assert selector_in(comment) == selector


def test_selectors_hold_for_lines_of_every_layout(tmp_path: Path) -> None:
    text = (
        "x-n: &n only-alias\n"
        "channels: [conda-forge]  # [win]\n"
        "dependencies: [python,\n  both, on-linux,  # [linux]\n  on-osx,  # [osx]\n  'last'  # [unix]\n  ]\n"
    )
    found = read(tmp_path, text)
    assert found.conda["linux-64"] == ("python", "both", "on-linux", "last")
    assert found.conda["osx-arm64"] == ("python", "on-osx", "last")
    assert found.channels == ("conda-forge",)
    (words,) = found.warnings
    assert words == "line 2: the selector [win] has no effect: only dependencies have selectors"
    text = "x: &n a\ndependencies:\n  - python\n  - *n  # [linux]\n  - pip:  # [osx]\n      - tqdm\n"
    found = read(tmp_path, text)
    assert (found.conda["linux-64"], found.pip["linux-64"]) == (("python", "a"), ())
    assert (found.conda["osx-arm64"], found.pip["osx-arm64"]) == (("python", "pip"), ("tqdm",))


def test_conda_locks_selectors_are_known() -> None:
    from conda_lock.src_parser.selectors import filter_platform_selectors

    for platform in BOTH:
        for selector in sorted(KNOWN):
            kept = list(filter_platform_selectors(f"a  # [{selector}]", platform=platform))
            from envbox.locks.spec.selectors import SELECTORS

            assert bool(kept) == (selector in SELECTORS[platform])


def test_a_key_that_stands_twice_and_two_documents_are_refused(tmp_path: Path) -> None:
    for text in (BLOCK + BLOCK, f"{BLOCK}---\n{BLOCK}"):
        with pytest.raises(SpecError):
            read(tmp_path, text)
