"""A spec means what conda-lock says it means, and a filthy one is refused with line, value and way out."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from envbox.errors import SpecError
from envbox.locks.spec import EnvSpec, content_hashes, read_spec
from envbox.platforms import DEFAULT_PLATFORMS
from envbox.settings import Settings

PLAIN = "channels:\n  - conda-forge\ndependencies:\n  - python >=3.11\n  - numpy\n"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache_dir=tmp_path / "cache")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "maps.yml"


def read(path: Path, text: str | bytes, settings: Settings, *platforms: str) -> EnvSpec:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_spec(path, platforms, settings)


def refused(path: Path, text: str | bytes, settings: Settings) -> SpecError:
    with pytest.raises(SpecError) as caught:
        read(path, text, settings)
    assert str(path) in caught.value.message
    return caught.value


# --- what it means ----------------------------------------------------------------------------------------


def test_a_spec_is_read(path: Path, settings: Settings) -> None:
    spec = read(path, "name: atlas\n" + PLAIN + "variables:\n  A: 1.10\n  B: on\n", settings)
    assert spec.name == "atlas"
    assert spec.channels == ("conda-forge",)
    assert spec.platforms == DEFAULT_PLATFORMS
    assert spec.conda["linux-64"] == ("python >=3.11", "numpy")
    assert spec.variables == {"A": "1.10", "B": "on"}


@pytest.mark.parametrize("channels", ["", "channels:\n", "channels: []\n", "channels: ~  # none\n"])
def test_without_channels_the_settings_name_them(path: Path, settings: Settings, channels: str) -> None:
    assert read(path, channels + "dependencies: [numpy]\n", settings).channels == ("conda-forge",)


def test_nodefaults_is_no_channel(path: Path, settings: Settings) -> None:
    spec = read(path, "channels: [conda-forge, nodefaults]\ndependencies: [numpy]\n", settings)
    assert spec.channels == ("conda-forge",)


def test_the_channel_defaults_is_taken_with_a_warning(path: Path, settings: Settings) -> None:
    spec = read(path, "channels: [defaults]\ndependencies: [numpy]\n", settings)
    assert spec.channels == ("defaults",)
    assert "terms of service" in spec.warnings[0]
    assert not read(path, PLAIN, settings).warnings


def test_selectors_choose_by_platform(path: Path, settings: Settings) -> None:
    text = (
        "dependencies:\n  - numpy\n  - a  # [linux64]\n  - b  # [aarch64]\n  - c  # [win]\n"
        "  - pip:\n      - d  # [linux64]\n"
    )
    spec = read(path, text, settings)
    assert spec.conda == {"linux-64": ("numpy", "a", "pip"), "linux-aarch64": ("numpy", "b")}
    assert spec.pip == {"linux-64": ("d",), "linux-aarch64": ()}


def test_requirements_bring_pip(path: Path, settings: Settings) -> None:
    spec = read(
        path,
        "dependencies:\n  - python\n  - pip:\n      - Tqdm[notebook]>=4 ; python_version>'3'\n",
        settings,
    )
    assert spec.conda["linux-64"] == ("python", "pip")
    assert spec.pip["linux-64"] == ("Tqdm[notebook]>=4 ; python_version>'3'",)


@pytest.mark.parametrize(
    "spec",
    [
        "conda-forge::numpy >=2", "numpy[version='>=2',build=py*]", "gdxcc = 7.28.20", "x=2.0.0",
        "python=3.11=*_cpython",
        "conda-forge/label/dev::x", "_libgcc_mutex=0.1=main", "NumPy", "numpy >=1.2 , <2", "numpy 1.26|2.*",
        "https://conda.anaconda.org/conda-forge/linux-64/numpy-2.3.5-py311h8_0.conda", "numpy=1.26.*",
    ],
)  # fmt: skip
def test_what_conda_takes_as_a_match_spec_is_taken(path: Path, settings: Settings, spec: str) -> None:
    assert read(path, f"dependencies:\n  - {spec}\n", settings).conda["linux-64"] == (spec,)


def test_platforms_are_the_commands_then_the_specs_then_the_settings(path: Path, settings: Settings) -> None:
    named = "platforms: [linux-64, osx-arm64]\n" + PLAIN
    assert read(path, named, settings, "win-64").platforms == ("win-64",)
    assert read(path, named, settings).platforms == ("linux-64", "osx-arm64")
    set_here = Settings(cache_dir=settings.cache_dir, platforms=("linux-aarch64",))
    assert read(path, PLAIN, set_here).platforms == ("linux-aarch64",)
    assert read_spec(path, (), settings, ["linux-64"]).platforms == ("linux-64",)


def test_only_a_platform_that_nobody_named_may_be_left_out(path: Path, settings: Settings) -> None:
    assert read(path, PLAIN, settings).optional == ("linux-aarch64",)
    assert read(path, PLAIN, settings, "linux-64", "linux-aarch64").optional == ()
    assert read(path, "platforms: [linux-64, linux-aarch64]\n" + PLAIN, settings).optional == ()


def test_a_spec_in_any_encoding_of_windows_means_the_same(path: Path, settings: Settings) -> None:
    text = "# Küste\n" + PLAIN + "  - pip\n"
    plain = read(path, text, settings)
    for data in (
        text.replace("\n", "\r\n").encode(),
        text.encode("utf-8-sig"),
        text.encode("utf-16"),  # with a byte order mark, as PowerShell's `>` writes it
        b"\xfe\xff" + text.replace("\n", "\r\n").encode("utf-16-be"),
    ):
        again = read(path, data, settings)
        assert again.conda == plain.conda
        assert content_hashes(again) == content_hashes(plain)


def test_the_hash_is_conda_locks_own(path: Path, settings: Settings) -> None:
    from conda_lock.content_hash import backwards_compatible_content_hashes
    from conda_lock.src_parser import make_lock_spec
    from conda_lock.virtual_package import default_virtual_package_repodata

    text = (
        "channels: [conda-forge]\n"
        "dependencies:\n  - python =3.11\n  - a::b >1  # [linux64]\n  - numpy 1.*|2.*\n"
    )
    spec = read(path, text, settings, "linux-64", "osx-arm64")
    theirs = make_lock_spec(
        src_files=[path], platform_overrides=["linux-64", "osx-arm64"], mapping_url="not needed"
    )
    repodata = default_virtual_package_repodata()
    for platform, ours in content_hashes(spec).items():
        assert ours in backwards_compatible_content_hashes(theirs, repodata, platform)


def test_nothing_is_printed(path: Path) -> None:
    path.write_text(
        "dependencies:\n  - a\n  - b  # [win]\n  - pip:\n      - c ; implementation_name == 'x'\n"
    )
    code = (
        "import sys; from pathlib import Path; from envbox.settings import Settings;"
        "from envbox.locks.spec import read_spec;"
        "read_spec(Path(sys.argv[1]), (), Settings(cache_dir=Path('x')))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_the_users_files_are_left_alone(path: Path, settings: Settings) -> None:
    read(path, PLAIN, settings)
    assert path.read_text() == PLAIN
    assert list(path.parent.iterdir()) == [path]


# --- what is refused --------------------------------------------------------------------------------------


def test_a_missing_spec_is_named(path: Path, settings: Settings) -> None:
    with pytest.raises(SpecError, match=r"there is no spec .*maps\.yml") as caught:
        read_spec(path, (), settings)
    assert caught.value.hint is not None
    path.mkdir()
    with pytest.raises(SpecError, match="cannot read the spec"):
        read_spec(path, (), settings)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf \n\n", "empty"),
        (b"\x7fELF\x02\x01\x01\x00", "not text: character '\\x7f' (line 1)"),
        (b"dependencies:\n  - a\x00b\n", "not text: character '\\x00' (line 2)"),
        (PLAIN.encode("utf-16-le"), "not text"),
        (b"\xff\xfea", "not UTF-8 text"),
        (b"\x89PNG\r\n\x1a\n\x00", "not UTF-8 text (line 1)"),
        ("# ok\n# Küste\n".encode("latin-1"), "not UTF-8 text (line 2)"),
        (b"<!DOCTYPE html>\n<html><head>", "a web page"),
        (b"\n <html>", "a web page"),
        (
            PLAIN.replace("  - numpy", "<<<<<<< HEAD\n  - numpy\n=======\n  - scipy\n>>>>>>> theirs"),
            "markers (line 5)",
        ),
        ("dependencies:\n\t- numpy\n", "indented with a tab (line 2)"),
        ("dependencies:\n  - a\n - b\n", "not YAML: "),
        ("a: [1\n", "not YAML: "),
        ("[" * 5000, "line 1: 5000 characters on one line"),
        ("../environment.yml\n", "holds only the path ../environment.yml"),
        ("@EXPLICIT\n", "not YAML"),
        ("- numpy\n", "no `dependencies:`"),
        ("name: x\n", "`dependencies` is missing"),
        ("dependencies:\n", "`dependencies` is missing"),
        ("dependencies: numpy\n", "should be a list"),
        ("dependencies: {numpy: 1}\n", "should be a list"),
        ("dependencies: []\n", "nothing to lock"),
        ("dependencies:\n  - a  # [win]\n", "on linux-64, `dependencies` is empty"),
        ("dependencies: [3.11]\n", "should be a match spec like `numpy >=2`, not 3.11"),
        ("dependencies: [numpy, {python: 3}]\n", "not {'python': 3}"),
        ("dependencies: [numpy, {pip: tqdm}]\n", "`pip:` should hold a list"),
        ("channels: conda-forge\ndependencies: [numpy]\n", "`channels` should be a list"),
        ("channels: [1]\ndependencies: [numpy]\n", "`channels` should be a list"),
        ("platforms: linux-64\ndependencies: [numpy]\n", "`platforms` should be a list"),
        ("platforms: [linux64]\ndependencies: [numpy]\n", "'linux64' is not a platform"),
        ("variables: [A]\ndependencies: [numpy]\n", "`variables` should map"),
        ("variables: {A: [1]}\ndependencies: [numpy]\n", "`variables` should map"),
        ("variables: {A B: 1}\ndependencies: [numpy]\n", "'A B' in `variables`"),
        ("x: " + "y" * (1 << 18), "bytes long"),
    ],
)
def test_what_is_no_spec_is_refused_in_words(
    path: Path, settings: Settings, data: str | bytes, words: str
) -> None:
    assert words in refused(path, data, settings).message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("PyPDF2>==1.26.0", "'PyPDF2>==1.26.0' is not a match spec: unable to parse version spec: >==1.26.0"),
        ("numpy=>2", "'numpy=>2' is not a match spec"),
        ("-r requirements.txt", "takes package names and versions only"),
        ("../mine", "is not a match spec"),
        ("'{{ name }}'", "a spec is no template"),
        ("numpy 2 3 4", "write it like `numpy >=2`"),
        ("'*'", "is not a match spec"),
        ("numpy<2,>", "is not a match spec"),
    ],
)
def test_a_wrong_match_spec_is_named_with_its_line(
    path: Path, settings: Settings, line: str, words: str
) -> None:
    message = refused(path, f"dependencies:\n  - python\n  - {line}\n", settings).message
    assert words in message
    assert "line 3: " in message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("x=2.0.0", "a single `=`; pip writes `==2.0.0`"),
        ("-e .", "built from source"),
        ("git+https://github.com/a/b", "built from source"),
        ("b @ git+https://github.com/a/b@v1", "built from source"),
        ("-r requirements.txt", "is no file, seen from"),
        ("--extra-index-url https://h/simple", "an option of pip"),
        ("./b", "is a path"),
        ("/srv/b", "is a path"),
        ("b @ file:///srv/b-1-py3-none-any.whl", "is a path"),
        ("b @ https://h/b-1-py3-none-any.whl", "`#sha256=`"),
        ("b @ https://h/b-1.tar.gz#sha256=" + "a" * 64, "URL of a wheel"),
        ("two words", "is not a requirement"),
    ],
)
def test_a_requirement_that_cannot_be_pinned_is_named_with_its_line(
    path: Path, settings: Settings, line: str, words: str
) -> None:
    text = f"dependencies:\n  - python\n  - pip:\n      - tqdm\n      - {line}\n"
    message = refused(path, text, settings).message
    assert words in message
    assert "line 5: " in message


def test_all_faults_are_told_at_once_in_the_order_of_lines(path: Path, settings: Settings) -> None:
    text = "dependencies:\n  - pip:\n      - x=1\n      - -e .\n  - y=>2\n"
    lines = re.findall(r"line (\d+):", refused(path, text, settings).message)
    assert lines == ["3", "4", "5"]


@given(data=st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode(errors="replace")))
@hypothesis_settings(max_examples=150, deadline=None)
def test_no_bytes_bring_a_traceback(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yml"
    with contextlib.suppress(SpecError):
        read(path, data, Settings(cache_dir=path.parent / "cache"))


SPECS = st.text("numpyab =<>!~|*.,0123[]'\"{}()#:/-_+@\t", max_size=20)


@given(conda=st.lists(SPECS, max_size=4), pip=st.lists(SPECS, max_size=3))
@hypothesis_settings(max_examples=150, deadline=None)
def test_no_dependency_brings_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, conda: list[str], pip: list[str]
) -> None:
    lines = ["dependencies:", *(f"  - {spec}" for spec in conda), "  - pip:", *(f"      - {r}" for r in pip)]
    path = tmp_path_factory.getbasetemp() / "fuzz.yml"
    with contextlib.suppress(SpecError):
        read(path, "\n".join(lines), Settings(cache_dir=path.parent / "cache"))


@pytest.mark.parametrize("item", ['" numpy >=2"', "' numpy'"])
def test_blanks_around_a_match_spec_mean_nothing(path: Path, settings: Settings, item: str) -> None:
    path.write_text(f"dependencies:\n  - python\n  # numpy\n  - {item}\n")
    found = read_spec(path, ["linux-64"], settings)
    assert found.conda["linux-64"][1].startswith("numpy")


@pytest.mark.parametrize("name", ["PATH", "HOME", "CONDA_PREFIX", "BASH_ENV", "JUPYTER_TOKEN", "ENVBOX_BASE"])
def test_a_variable_that_others_rely_on_is_refused_with_its_line(
    path: Path, settings: Settings, name: str
) -> None:
    path.write_text(f"dependencies: [python]\nvariables:\n  FINE: a\n  {name}: /tmp\n")
    with pytest.raises(SpecError, match=f"line 4: `variables` cannot set {name}: "):
        read_spec(path, ["linux-64"], settings)
