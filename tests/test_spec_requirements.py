"""Requirement files beside a spec are read as pip reads them, and nothing outside of the project is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from envbox.errors import SpecError
from envbox.locks.spec import EnvSpec, content_hashes, read_spec
from envbox.locks.spec.pip_faults import plain_words, requirement_fault
from envbox.locks.spec.requirements import for_conda_lock
from envbox.project import Environment
from envbox.settings import Settings

HASH = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


def read(root: Path, pip: list[str], files: dict[str, str | bytes], spec: str = "maps.yml") -> EnvSpec:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path = root / spec
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"channels: [conda-forge]\ndependencies:\n  - python\n  - pip: {pip}\n")
    return read_spec(path, ("linux-64",), Settings(cache_dir=root / "cache"))


def asked(root: Path, pip: list[str], files: dict[str, str | bytes], spec: str = "maps.yml") -> list[str]:
    return list(read(root, pip, files, spec).pip["linux-64"])


def refused(root: Path, pip: list[str], files: dict[str, str | bytes], spec: str = "maps.yml") -> str:
    with pytest.raises(SpecError) as caught:
        read(root, pip, files, spec)
    return caught.value.message


FILE = f"""\
# what it takes
tqdm  # progress
rich>=13 ; python_version < "4"

requests[socks] \\
    ==2.31.0 \\
    --hash={HASH} \\
    --hash={OTHER}
--require-hashes
--only-binary :all:
-r more/deep.txt
"""


def test_a_file_beside_the_spec_is_read(tmp_path: Path) -> None:
    files = {"requirements.txt": FILE, "more/deep.txt": "-r ../last.txt\nattrs\n", "last.txt": "six"}
    found = read(tmp_path, ["-r requirements.txt", "click"], dict(files))
    assert list(found.pip["linux-64"]) == [
        "tqdm", 'rich>=13 ; python_version < "4"',
        f"requests[socks] ==2.31.0 --hash={HASH} --hash={OTHER}", "six", "attrs", "click",
    ]  # fmt: skip
    assert content_hashes(found)["linux-64"]
    assert found.conda["linux-64"] == ("python", "pip")


@pytest.mark.parametrize(
    "line", ["-r r.txt", "-rr.txt", "--requirement r.txt", "--requirement=r.txt", "-r ./r.txt"]
)
@pytest.mark.parametrize("folder", ["", "environments/", "binder/"])
def test_the_option_is_written_in_many_ways(tmp_path: Path, line: str, folder: str) -> None:
    assert asked(tmp_path, [line], {f"{folder}r.txt": "tqdm"}, f"{folder}maps.yml") == ["tqdm"]


def test_a_spec_in_a_folder_may_name_the_projects_own_file(tmp_path: Path) -> None:
    assert asked(tmp_path, ["-r ../r.txt"], {"r.txt": "tqdm"}, "environments/maps.yml") == ["tqdm"]


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbftqdm\r\nrich\r\n", "tqdm\nrich".encode("utf-16"),
        b"# -*- coding: latin-1 -*-\n# \xe9\ntqdm\nrich",
        b"# vim: set fileencoding=cp1252 :\ntqdm\nrich # \x80\n",
    ],
)  # fmt: skip
def test_encodings_are_pips(tmp_path: Path, data: bytes) -> None:
    assert asked(tmp_path, ["-r r.txt"], {"r.txt": data}) == ["tqdm", "rich"]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    assert "'r.txt' cannot be read: it is not UTF-8 text (line 2)" in refused(
        tmp_path, ["-r r.txt"], {"r.txt": b"tqdm\n\xe9\n"}
    )
    words = refused(tmp_path, ["-r r.txt"], {"r.txt": b"# coding: klingon\n"})
    assert "it says that it is in klingon, which is unknown" in words
    assert "'gone.txt' is no file, seen from" in refused(tmp_path, ["-r gone.txt"], {})
    assert "is not beside the spec" in refused(tmp_path, ["-r https://h/r.txt"], {})
    (tmp_path / "folder").mkdir()
    assert "is no file" in refused(tmp_path, ["-r folder"], {})
    os.mkfifo(tmp_path / "pipe")
    assert "is no file" in refused(tmp_path, ["-r pipe"], {})
    assert "is larger than" in refused(tmp_path, ["-r big.txt"], {"big.txt": "#" * 300_000})


def test_files_that_include_each_other_end(tmp_path: Path) -> None:
    words = refused(tmp_path, ["-r a.txt"], {"a.txt": "tqdm\n-r b.txt\n", "b.txt": "-r a.txt\n"})
    assert "b.txt (line 1): '-r a.txt': 'a.txt' includes itself" in words
    twice = {"a.txt": "-r c.txt\n", "b.txt": "-r c.txt\n", "c.txt": "tqdm\n"}
    assert asked(tmp_path, ["-r a.txt", "-r b.txt"], dict(twice)) == ["tqdm"]
    chain: dict[str, str | bytes] = {f"{n}.txt": f"-r {n + 1}.txt\n" for n in range(200)}
    assert "one file too many" in refused(tmp_path, ["-r 0.txt"], chain)


@pytest.mark.parametrize("way", ["plain", "absolute", "link", "folder link", "nested", "constraint"])
def test_nothing_outside_of_the_project_is_read(tmp_path: Path, way: str) -> None:
    """Whoever wrote the spec may not read the files of whoever locks it: their words would tell of them."""
    (tmp_path / "secret.txt").write_text("s3cr3t==1.0\n")
    root = tmp_path / "project"
    root.mkdir()
    files: dict[str, str | bytes] = {"r.txt": "-r ../secret.txt\n"}
    line = {
        "plain": "-r ../secret.txt", "absolute": f"-r {tmp_path}/secret.txt", "link": "-r link.txt",
        "folder link": "-r out/secret.txt", "nested": "-r r.txt", "constraint": "-c ../secret.txt",
    }[way]  # fmt: skip
    (root / "link.txt").symlink_to("../secret.txt")
    (root / "out").symlink_to("..")
    words = refused(root, [line], files)
    assert f"lies outside of the project ({root}), where nothing is read" in words
    assert "s3cr3t" not in words


def test_faults_name_the_file_and_its_line_all_at_once(tmp_path: Path) -> None:
    text = "tqdm=4\n--index-url https://bob:s3cr3t@h/simple\n-e .\nnumpy 1.2\n"
    words = refused(tmp_path, ["-r r.txt", "x=1"], {"r.txt": text})
    for expected in (
        "line 4: r.txt (line 1): 'tqdm=4' is not a requirement: a single `=`; pip writes `==4`",
        "r.txt (line 2): ", "extra_index_urls", "r.txt (line 3): '-e .'", 'pythonpath = ["src"]',
        "r.txt (line 4): 'numpy 1.2'", "write numpy==1.2", "line 4: 'x=1'",
    ):  # fmt: skip
        assert expected in words
    assert "s3cr3t" not in words


def test_constraints_bound_what_is_asked_for(tmp_path: Path) -> None:
    text = 'numpy<2\nTyping.Extensions==4.1\nattrs<24; python_version < "3.13"\nnobody<1\n'
    found = read(
        tmp_path,
        ["-c c.txt", "numpy[x]>=1.20", "typing_extensions", "attrs", "six"],
        {"c.txt": text},
    )
    assert list(found.pip["linux-64"]) == [
        "numpy[x]<2,>=1.20", "typing_extensions==4.1", "attrs", 'attrs<24; python_version < "3.13"', "six",
    ]  # fmt: skip
    (words,) = found.warnings
    assert "not for nobody: ask for it too" in words


def test_a_changed_file_makes_the_lockfile_old(tmp_path: Path) -> None:
    from envbox.locks.freshness import _key

    read(tmp_path, ["-r r.txt"], {"r.txt": "-r s.txt\n", "s.txt": "tqdm"})
    environment = Environment("maps", tmp_path / "maps.yml", tmp_path / "maps.conda-lock.yml")
    settings = Settings(cache_dir=tmp_path / "cache")
    before = _key(environment, settings)
    assert _key(environment, settings) == before
    (tmp_path / "s.txt").write_text("rich")
    assert _key(environment, settings) != before


# --- hashes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("  - pip:\n    - '-r my req.txt'\n", "my req.txt"),
        ('  - pip:\n    - "-r r\\x65q.txt"\n', "req.txt"),
        (f"  # {' '.join(f'-r d{n}' for n in range(200))}\n  - pip:\n    - -r a.txt\n", "b.txt"),
    ],
    ids=["a blank in its name", "an escape of YAML's", "behind decoys"],
)
def test_a_changed_file_is_noticed_however_it_is_named(tmp_path: Path, spec: str, name: str) -> None:
    from envbox.locks.freshness import _key

    environment = Environment("maps", tmp_path / "maps.yml", tmp_path / "maps.conda-lock.yml")
    environment.spec_path.write_text(f"channels: [conda-forge]\ndependencies:\n  - python\n{spec}")
    (tmp_path / "a.txt").write_text("-r b.txt\n")
    (tmp_path / name).write_text("tqdm\n")
    settings = Settings(cache_dir=tmp_path / "cache")
    before = _key(environment, settings)
    (tmp_path / name).write_text("rich\n")
    assert _key(environment, settings) != before


def test_hashes_reach_conda_lock_before_the_marker() -> None:
    assert for_conda_lock("tqdm>=4") == "tqdm>=4"
    assert for_conda_lock(f"tqdm==4; python_version<'4' --hash={HASH}") == (
        f"tqdm==4 --hash={HASH}; python_version<'4'"
    )
    one = for_conda_lock(f"tqdm==4 --hash={HASH} --hash={OTHER}")
    assert one == for_conda_lock(f"tqdm==4 --hash={OTHER} --hash {HASH}")
    assert one.count("--hash") == 1
    assert HASH not in one


# --- words --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("torch --extra-index-url https://download.pytorch.org/whl/cu116",
         ["--extra-index-url is an option of pip", "write only torch here", "pip-repositories: "]),
        ("torch -f https://h/x", ["-f is an option of pip", "write only torch"]),
        ("numpy --no-deps", ["no place for --no-deps"]),
        ("pip install numpy", ["write only numpy"]),
        ("!pip install numpy", ["write only numpy"]),
        ("numpy scipy", ["several names on one line"]),
        ("numpy, scipy", ["several names on one line"]),
        ("numpy 1.2", ["write numpy==1.2"]),
        ("numpy>1.0 <2", ["write numpy>1.0,<2"]),
        ("numpy>=1.x", ["1.x is no version"]),
        ("numpy>=", ["no version follows `>=`"]),
        ("numpy~=1", ["`~=` wants two numbers"]),
        ("numpy=>1", ["write numpy>=1"]),
        ("numpy=1.2", ["a single `=`; pip writes `==1.2`"]),
        ("numpy=1.2=py39_0", ["a version and a build are conda's"]),
        ("conda-forge::numpy", ["a channel of conda's"]),
        ("numpy[extra", ["the bracket after its name is not closed"]),
        ("numpy @", ["no URL follows"]),
        ("numpy; python_version < 3.8", ["no marker", "with the quotes"]),
        ("'numpy'", ["quotes", "write numpy"]),
        ("_numpy", ["begins with a letter or a digit"]),
    ],
)  # fmt: skip
def test_faults_are_told_in_plain_words(text: str, words: list[str]) -> None:
    told = plain_words(text)
    for expected in words:
        assert expected in told
    assert "Expected" not in told
    assert requirement_fault(text) is not None


@pytest.mark.parametrize("text", ["-e .", ".", "-e ./mine", "./mine", "-e .[dev]", "../mine", "--editable=."])
def test_the_projects_own_code_has_a_way_that_works(text: str) -> None:
    told = requirement_fault(text)
    assert told is not None
    assert "pythonpath" in told


@pytest.mark.skipif(shutil.which("pip") is None and not sys.executable, reason="no pip to compare with")
def test_pip_reads_the_same_files_alike(tmp_path: Path) -> None:
    """pip's own reader says what the lines of a file are."""
    script = (
        "import sys; from pip._internal.req.req_file import parse_requirements as p;"
        "from pip._internal.network.session import PipSession as S;"
        "[print(r.requirement) for r in p(sys.argv[1], S())]"
    )
    text = "# a\ntqdm  # b\nrich>=13 ; python_version < '4'\na \\\n ==1\n# c \\\nsix\n-r n/d.txt\n"
    files: dict[str, str | bytes] = {"r.txt": text, "n/d.txt": "-r ../e.txt\n", "e.txt": "e"}
    ours = asked(tmp_path, ["-r r.txt"], files)
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "r.txt")], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("this Python has no pip")
    theirs = done.stdout.splitlines()
    assert [line.replace(" ", "") for line in ours] == [line.replace(" ", "") for line in theirs]
