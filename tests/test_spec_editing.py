"""A spec is edited where it must be, and nowhere else by a byte."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from envbox.errors import SpecError
from envbox.locks.spec.edits import Dependency, Manager, added, changed, decode, dependencies, removed

HERE = Path("environment.yml")
NAMES = ("python", "numpy", "basemap", "r-base", "_openmp_mutex", "ruamel.yaml", "zlib")


def edit(text: str, new: str, manager: Manager = "conda") -> str:
    return added(decode(text.encode(), HERE), Dependency(manager, new)).data.decode()


def without(text: str, old: str, manager: Manager = "conda") -> str:
    return removed(decode(text.encode(), HERE), Dependency(manager, old)).data.decode()


# --- a spec as people write them ----------------------------------------------------------------------------

blank = st.sampled_from(["", "", "\n", "  # a note\n", "\n# numpy: not yet\n"])
comment = st.sampled_from(["", "", "  # [linux]", " # fast", "   #"])
version = st.sampled_from(["", " >=2", "=1.2", ">=1,<3", " 1.2.*", " =3.11 *_cpython"])


@st.composite
def specs(draw: st.DrawFn) -> str:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True))
    pip = draw(
        st.lists(
            st.sampled_from(["rich", "black==24.1", 'tomli; python_version < "3.11"']),
            max_size=3,
            unique=True,
        )
    )
    written = [_quoted(n + draw(version), draw(st.sampled_from(["", "'", '"']))) for n in names]
    head = draw(st.sampled_from(["", "# top\n", "---\n", "name: x   # mine\n"]))
    channels = draw(st.sampled_from(["channels: [conda-forge, 'x']\n", "channels:\n- conda-forge\n", ""]))
    if draw(st.integers(0, 3)) == 0:
        inner = [f"pip: [{', '.join(map(_always_quoted, pip))}]"] if pip else []
        inner = [f"{{{i}}}" for i in inner]
        between = draw(st.sampled_from([", ", ",", ",\n   "]))
        items = between.join([*(_always_quoted(yaml.safe_load(w)) for w in written), *inner])
        body = f"dependencies: [{items}]{draw(comment)}\n"
    else:
        indent, gap = draw(st.sampled_from(["", "  ", "    "])), draw(st.sampled_from([" ", "   "]))
        lines = [f"{draw(blank)}{indent}-{gap}{w}{draw(comment)}\n" for w in written]
        if pip:
            section = "".join(
                f"{indent} {' ' * len(gap)}{indent}- {_always_quoted(p)}{draw(comment)}\n{draw(blank)}"
                for p in pip
            )
            at = draw(st.sampled_from([0, len(lines), len(lines)]))
            lines.insert(at, f"{draw(blank)}{indent}-{gap}pip:{draw(comment)}\n{section}")
        body = f"dependencies:{draw(comment)}\n{''.join(lines)}"
    tail = draw(st.sampled_from(["", "\n\n", "# end\n", "prefix: /x\n", "variables: {A: b}\n"]))
    text = head + channels + body + tail
    if draw(st.booleans()):
        text = text.removesuffix("\n")
    return text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))


def _quoted(text: str, quote: str) -> str:
    return f"{quote}{text}{quote}"


def _always_quoted(text: str) -> str:
    return f"'{text}'"


NEW = st.sampled_from(
    ["scipy", "scipy >=1", "scipy>=1,<2", "scipy[version='>=1']", "conda-forge::scipy", "scipy=1=*_0"]
)


@given(specs(), NEW, st.sampled_from([b"", b"\xef\xbb\xbf", b"\xff\xfe"]))
@settings(max_examples=400, deadline=None)
def test_adding_and_removing_gives_the_same_bytes(text: str, new: str, mark: bytes) -> None:
    data = mark + text.encode("utf-16-le" if mark == b"\xff\xfe" else "utf-8")
    before = decode(data, HERE)
    after = added(before, Dependency("conda", new))
    assert before.data == data
    assert removed(after, Dependency("conda", new)).data == data
    assert [d for d in dependencies(after) if d.name != "scipy"] == list(dependencies(before))
    assert Dependency("conda", new) in dependencies(after)


@given(
    specs(), st.sampled_from(["httpx", "httpx>=1,<2", "httpx[http2]==1.0", 'httpx; sys_platform == "linux"'])
)
@settings(max_examples=400, deadline=None)
def test_the_same_for_pip(text: str, new: str) -> None:
    before = decode(text.encode(), HERE)
    after = added(before, Dependency("pip", new))
    assert removed(after, Dependency("pip", new)).data == text.encode()
    assert Dependency("pip", new) in dependencies(after)


@given(specs(), NEW)
@settings(max_examples=200, deadline=None)
def test_no_other_line_changes(text: str, new: str) -> None:
    if "dependencies: [" in text:
        return
    lines = text.splitlines()
    after = added(decode(text.encode(), HERE), Dependency("conda", new)).text.splitlines()
    (fresh,) = [n for n in range(len(after)) if after[:n] + after[n + 1 :] == lines][:1]
    assert new in after[fresh]


@given(specs(), st.data())
@settings(max_examples=200, deadline=None)
def test_removing_takes_only_what_was_named(text: str, data: st.DataObject) -> None:
    before = decode(text.encode(), HERE)
    found = dependencies(before)
    old = data.draw(st.sampled_from(found))
    if len(found) == 1:
        return
    after = removed(before, old)
    assert list(dependencies(after)) == [d for d in found if d != old]
    notes = [line.strip() for line in text.splitlines() if line.strip().startswith("#")]
    assert [line.strip() for line in after.text.splitlines() if line.strip().startswith("#")] == notes


@given(specs(), st.data())
@settings(max_examples=200, deadline=None)
def test_a_change_stays_on_its_line(text: str, data: st.DataObject) -> None:
    before = decode(text.encode(), HERE)
    old = data.draw(st.sampled_from([d for d in dependencies(before) if d.manager == "conda"]))
    after = changed(before, old, Dependency("conda", f"{old.name} >=7,<8"))
    assert changed(after, Dependency("conda", f"{old.name} >=7,<8"), old).text.splitlines(True)[0]
    pairs = list(zip(text.splitlines(), after.text.splitlines(), strict=True))
    assert len([1 for a, b in pairs if a != b]) <= 1


# --- single cases -------------------------------------------------------------------------------------------


def test_a_package_is_added_before_the_pip_section_and_its_comment() -> None:
    text = "dependencies:\n  - python  # [linux]\n\n  # from PyPI\n  - pip:\n    - rich\n"
    assert edit(text, "numpy") == text.replace("[linux]\n", "[linux]\n  - numpy\n")


def test_a_pip_section_is_made_as_the_file_is_indented() -> None:
    assert edit("dependencies:\n- python\n", "rich", "pip") == "dependencies:\n- python\n- pip:\n  - rich\n"
    text = "dependencies:\n    - python\n"
    assert edit(text, "rich", "pip") == text + "    - pip:\n          - rich\n"


def test_a_spec_with_only_a_pip_section() -> None:
    text = "dependencies:\n  # all of it\n  - pip:\n    - rich\n"
    assert edit(text, "python") == text.replace("dependencies:\n", "dependencies:\n  - python\n")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("channels: [x]\n", "channels: [x]\ndependencies:\n  - numpy\n"),
        ("channels: [x]", "channels: [x]\ndependencies:\n  - numpy\n"),
        ("dependencies:\nname: x\n", "dependencies:\n  - numpy\nname: x\n"),
        ("dependencies: []\n", "dependencies: [numpy]\n"),
        ("{dependencies: [a], name: x}", "{dependencies: [a, numpy], name: x}"),
    ],
)
def test_a_spec_that_asks_for_nothing_yet(text: str, wanted: str) -> None:
    assert edit(text, "numpy") == wanted


def test_what_yaml_would_read_otherwise_is_quoted() -> None:
    assert edit("dependencies: [a]\n", "numpy>=1,<2") == "dependencies: [a, 'numpy>=1,<2']\n"
    text = "dependencies:\n  - a\n"
    assert edit(text, "numpy[version='>=1']") == text + "  - numpy[version='>=1']\n"
    assert edit(text, "yes") == text + "  - 'yes'\n"


def test_quotes_anchors_and_selectors_stay() -> None:
    text = 'dependencies:\n  - &n "numpy >=1"   # [linux]\n'
    spec = changed(
        decode(text.encode(), HERE), Dependency("conda", "numpy >=1"), Dependency("conda", "numpy >=2")
    )
    assert spec.text == text.replace(">=1", ">=2")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x: &d [a]\ndependencies: *d\n", "alias of line 1"),
        ("x: &d a\ndependencies:\n  - *d\n  - b\n", "alias"),
        ("dependencies: [a]\ndependencies: [b]\n", "twice"),
        ("dependencies: numpy\n", "should be a list"),
        ("<<: {dependencies: [a]}\n", "cannot be edited"),
    ],
)
def test_what_cannot_be_edited_safely_is_refused(text: str, words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        edit(text, "scipy")
    assert caught.value.hint


def test_the_last_package_is_not_removed() -> None:
    with pytest.raises(SpecError, match="all that the spec"):
        without("dependencies:\n  - numpy\n", "numpy")


def test_an_empty_pip_section_goes() -> None:
    assert without("dependencies:\n  - a\n  - pip:  # x\n    - rich\n# end\n", "rich", "pip") == (
        "dependencies:\n  - a\n# end\n"
    )


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("numpy >=2", "numpy"),
        ("conda-forge::NumPy=1.2", "numpy"),
        ("https://conda.anaconda.org/x/label/y::zlib", "zlib"),
        ("ruamel.yaml[version='>=1']", "ruamel.yaml"),
        (
            "https://conda.anaconda.org/conda-forge/linux-64/ca-certificates-2024.1-h_0.conda",
            "ca-certificates",
        ),
        ("python-dateutil>=2", "python-dateutil"),
    ],
)
def test_the_name_in_a_match_spec(text: str, name: str) -> None:
    assert Dependency("conda", text).name == name
