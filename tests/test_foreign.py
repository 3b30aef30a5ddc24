"""Other tools' lockfiles: read as they are meant, written as their tools read them, refused in words."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.foreign_locks import FORGE, a_lock, conda, md5, sha, wheel

from envbox.errors import LockfileError
from envbox.lockfile import Lock, conda_lock_foreign, explicit, pixi
from envbox.lockfile.foreign import ForeignLock, Selection
from envbox.lockfile.formats import kind_of

HERE = Path("some.lock")


def facts(lock: ForeignLock) -> set[tuple[Any, ...]]:
    return {(p.platform, p.manager, p.name, p.version, p.build, p.url) for p in lock.packages}


def facts_of(lock: Lock, *platforms: str) -> set[tuple[Any, ...]]:
    return {
        (p.platform, p.manager, p.name, p.version, p.build, p.url)
        for p in lock.packages
        if p.platform in platforms
    }


# --- explicit -----------------------------------------------------------------------------------------------


def test_explicit_comes_back_as_it_was_written() -> None:
    found = explicit.loads(explicit.dumps(a_lock(), "linux-64"), HERE)
    assert facts(found) == facts_of(a_lock(), "linux-64")
    assert found.platforms == ("linux-64",)
    assert {p.md5 for p in found.packages if p.manager == "conda"} == {
        p.md5 for p in a_lock().for_platform("linux-64") if p.manager == "conda"
    }
    assert {p.sha256 for p in found.packages if p.manager == "pip"} == {
        wheel("basic").sha256,
        wheel("cartopy").sha256,
    }


def test_explicit_has_what_is_needed_before_what_needs_it() -> None:
    text = explicit.dumps(a_lock(), "linux-64").decode()
    assert text.index("/zlib-") < text.index("/python-")


def test_a_circle_of_needs_is_written_all_the_same() -> None:
    packages = [conda("a", b=""), conda("b", c=""), conda("c", a=""), conda("d", a="")]
    assert sorted(p.name for p in explicit.in_order(packages)) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("fragment", "expected"),
    [
        ("", (None, None)),
        ("#" + "a" * 32, ("a" * 32, None)),
        ("#" + "A" * 32, ("a" * 32, None)),
        ("#sha256:" + "b" * 64, (None, "b" * 64)),
        ("#" + "b" * 64, (None, "b" * 64)),
        ("#md5:" + "a" * 32, ("a" * 32, None)),
    ],
)
def test_every_form_of_hash_is_known(fragment: str, expected: tuple[str | None, str | None]) -> None:
    data = f"@EXPLICIT\n{FORGE}/linux-64/zlib-1.3-h0_0.tar.bz2{fragment}\n".encode()
    (package,) = explicit.loads(data, HERE).packages
    assert (package.md5, package.sha256) == expected
    assert package.depends is None


def test_a_file_of_powershell_and_of_windows_is_read() -> None:
    text = f"# platform: win-64\r\n@EXPLICIT\r\n{FORGE}/noarch/tzdata-2026a-h0_0.conda\r\n"
    assert explicit.loads(text.encode("utf-16"), HERE).platforms == ("win-64",)


def test_a_token_in_a_url_is_gone() -> None:
    data = b"@EXPLICIT\nhttps://me:secret@repo.example/t/tk-123/private/linux-64/a-1-0.conda\n"
    (package,) = explicit.loads(data, HERE).packages
    assert package.url == "https://repo.example/private/linux-64/a-1-0.conda"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([f"{FORGE}/linux-64/zlib-1.3-0.conda#abc"], "line 2: 'abc' is no md5"),
        ([f"{FORGE}/linux-64/zlib-1.3-0.conda#crc:abc"], "line 2: 'crc' is no hash"),
        (["numpy=1.0"], "line 2: only a URL can be locked"),
        ([f"{FORGE}/linux-64/..%2F..%2F..%2Fx-1-0.conda"], "line 2: it ends in a path"),
        (["/tmp/zlib-1.3-0.conda"], "line 2: .*'/tmp/zlib-1.3-0.conda'"),
        ([f"{FORGE}/linux-64/zlib.zip"], "line 2: not the address of a .conda"),
        ([f"{FORGE}/zlib-1.3-0.conda"], "folder named after its platform"),
        (["https://u:geheim@h/x/zlib-1.3-0.zip"], "https://h/x/"),
        ([f"{FORGE}/linux-64/a-1-0.conda", f"{FORGE}/osx-64/b-1-0.conda"], "linux-64 and osx-64"),
        ([f"{FORGE}/linux-64/a-1-0.conda", f"{FORGE}/linux-64/a-2-0.conda"], "a stands there twice"),
        ([f"{FORGE}/noarch/a-1-0.conda"], "does not say which platform"),
        (["# platform: sun-4", f"{FORGE}/noarch/a-1-0.conda"], "sun-4"),
        (["# platform: osx-64", f"{FORGE}/linux-64/a-1-0.conda"], "a is of linux-64"),
        (["# pip x @ https://h/x-1.tar.gz", f"{FORGE}/linux-64/a-1-0.conda"], "x-1.tar.gz: only wheels"),
        (["https://[::1/linux-64/a-1-0.conda"], "line 2"),
        ([], "names no package|does not say"),
    ],
)
def test_a_wrong_line_is_named(lines: list[str], words: str) -> None:
    with pytest.raises(LockfileError, match=words) as caught:
        explicit.loads("\n".join(["@EXPLICIT", *lines]).encode(), HERE)
    assert "geheim" not in str(caught.value)


def test_several_faults_are_told_at_once() -> None:
    with pytest.raises(LockfileError) as caught:
        explicit.loads(b"@EXPLICIT\nx\ny\n" + b"z\n" * 20, HERE)
    assert "line 2" in caught.value.message
    assert "line 3" in caught.value.message
    assert "and 12 more" in caught.value.message


# --- pixi ---------------------------------------------------------------------------------------------------


def test_pixi_comes_back_as_it_was_written() -> None:
    found = pixi.loads(pixi.dumps(a_lock(), a_lock().platforms), HERE)
    assert facts(found) == facts_of(a_lock(), "linux-64", "osx-arm64")
    python = next(p for p in found.packages if p.name == "python")
    assert python.depends == ("zlib >=1,<2.0a0",)
    assert (python.sha256, python.md5, python.size, python.license) == (
        sha("python-3.11.7-h0_0"), md5("python-3.11.7-h0_0"), 10, "MIT",
    )  # fmt: skip
    assert found.channels == (FORGE,)


def test_rattler_reads_our_pixi_lock_and_we_read_rattlers(tmp_path: Path) -> None:
    """rattler reads version 6, which we write, and writes version 7."""
    from rattler import LockFile

    ours = tmp_path / "pixi.lock"
    ours.write_bytes(pixi.dumps(a_lock(), a_lock().platforms))
    read = LockFile.from_path(ours)
    default = read.default_environment()
    assert default is not None
    seen = {
        (str(platform.name), package.name, str(package.version), str(package.location))
        for platform in read.platforms()
        for package in default.packages(platform) or ()
    }
    assert seen == {(p.platform, p.name, p.version, p.url) for p in a_lock().packages}
    theirs = tmp_path / "theirs.lock"
    read.to_path(theirs)
    assert yaml.safe_load(theirs.read_text())["version"] == 7
    again = pixi.loads(theirs.read_bytes(), theirs)
    assert facts(again) == facts_of(a_lock(), "linux-64", "osx-arm64")
    assert {p.sha256 for p in again.packages} == {p.sha256 for p in a_lock().packages}


SEVEN: dict[str, Any] = {
    "version": 7,
    "platforms": [{"name": "gpu", "subdir": "linux-64", "virtual-packages": ["__cuda >=12"]}],
    "environments": {
        "default": {
            "channels": [{"url": f"{FORGE}/"}],
            "packages": {"gpu": [{"conda": f"{FORGE}/linux-64/zlib-1.3-0.conda"}]},
        },
        "test": {"channels": [], "packages": {"gpu": [{"conda": f"{FORGE}/linux-64/other-1-0.conda"}]}},
    },
    "packages": [
        {"conda": f"{FORGE}/linux-64/zlib-1.3-0.conda", "sha256": "a" * 64, "depends": ["__glibc >=2.17"]},
        {"conda": f"{FORGE}/linux-64/other-1-0.conda", "sha256": "b" * 64},
    ],
}


def test_a_platform_with_a_name_of_its_own_is_its_subdir() -> None:
    found = pixi.loads(yaml.safe_dump(SEVEN).encode(), HERE)
    assert found.platforms == ("linux-64",)
    assert [(p.name, p.depends) for p in found.packages] == [("zlib", ("__glibc >=2.17",))]


def test_one_environment_of_several_is_chosen_by_name() -> None:
    data = yaml.safe_dump(SEVEN).encode()
    assert [p.name for p in pixi.loads(data, HERE, Selection("test")).packages] == ["other"]
    with pytest.raises(LockfileError, match="no environment docs: it has default, test"):
        pixi.loads(data, HERE, Selection("docs"))


def changed(path: str, value: object) -> bytes:
    import copy

    document = copy.deepcopy(SEVEN)
    *parents, last = path.split("/")
    place: Any = document
    for key in parents:
        place = place[int(key) if key.isdigit() else key]
    place[last] = value
    return yaml.safe_dump(document).encode()


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("version", 5, "version 5"),
        ("version", 8, "version 8"),
        ("version", True, "version True"),
        ("version", [[[]]], r"version \[\[\["),
        ("environments", [], "no environment default"),
        ("packages", {}, "`packages` is missing"),
        ("packages", [1, {"a": 1}], "`packages`, entry 2"),
        ("environments/default/packages", {"mars-64": []}, "'mars-64' is not a conda platform"),
        ("environments/default/packages", {"linux-64": [], "gpu": []}, "second set of packages for linux-64"),
        ("environments/default/packages", {"linux-64": 5}, "linux-64 should be a list"),
        ("environments/default/packages", {"linux-64": [{"conda": 1}]}, "linux-64, entry 1: should be a URL"),
        ("environments/default/packages", {"linux-64": ["x"]}, "linux-64, entry 1"),
        (
            "environments/default/packages",
            {"linux-64": [{"conda": "https://x/y.conda"}]},
            "nothing stands under",
        ),
        (
            "environments/default/packages",
            {"linux-64": [{"conda_source": "x[1] @ ."}]},
            "built from its sources",
        ),
        ("environments/default/packages", {}, "no packages for any platform"),
        ("platforms", [5], "`platforms` should be"),
    ],
)
def test_what_is_wrong_in_a_pixi_lock_is_named(path: str, value: object, words: str) -> None:
    with pytest.raises(LockfileError, match=words):
        pixi.loads(changed(path, value), HERE)


# --- conda-lock ---------------------------------------------------------------------------------------------

OLD = f"""\
metadata:
  channels: [conda-forge]
  content_hash: {{linux-64: abc}}
  platforms: [linux-64]
  sources: [environment.yml]
package:
- category: main
  dependencies: {{}}
  hash: {{md5: {"d" * 32}}}
  manager: conda
  name: _libgcc_mutex
  optional: false
  platform: linux-64
  url: {FORGE}/linux-64/_libgcc_mutex-0.1-conda_forge.tar.bz2
  version: '0.1'
- category: dev
  dependencies: {{_libgcc_mutex: 0.1 conda_forge, libgomp: '>=7.5.0'}}
  hash: {{md5: {"e" * 32}}}
  manager: conda
  name: _openmp_mutex
  optional: true
  platform: linux-64
  url: https://conda.anaconda.org/t/tk-1/conda-forge/linux-64/_openmp_mutex-4.5-1_gnu.tar.bz2
  version: '4.5'
- category: main
  dependencies: {{basic: '>=1'}}
  hash: {{sha256: {"f" * 64}}}
  manager: pip
  name: Toolz_x
  optional: false
  platform: linux-64
  url: https://files.pythonhosted.org/packages/Toolz_x-0.1-py3-none-any.whl
  version: 0.1
version: 1
"""


def test_a_conda_lock_file_of_version_1_0_is_read() -> None:
    found = conda_lock_foreign.loads(OLD.encode(), HERE, Selection(categories=frozenset({"dev"})))
    by_name = {p.name: p for p in found.packages}
    assert by_name["_openmp_mutex"].depends == ("_libgcc_mutex 0.1 conda_forge", "libgomp >=7.5.0")
    assert by_name["_openmp_mutex"].sha256 is None
    assert by_name["_openmp_mutex"].url == f"{FORGE}/linux-64/_openmp_mutex-4.5-1_gnu.tar.bz2"
    assert by_name["toolz-x"].version == "0.1"
    assert found.channels == ("conda-forge",)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("version: 1\n", "", "no `version`"),
        ("version: 1\n", "version: 2\n", "version 2"),
        ("  name: _openmp_mutex\n", "", "package 2 has no `name`"),
        (
            "  manager: pip",
            "  manager: npm",
            "Toolz_x .linux-64.: `manager` should be conda or pip, not 'npm'",
        ),
        ("d" * 32, "[1]", r"_libgcc_mutex .linux-64.: \[1\] is no md5"),
        ("{md5: " + "d" * 32 + "}", "nothing", "`hash` should be a mapping"),
        ("{basic: '>=1'}", "[basic]", "`dependencies` should be a mapping"),
        ("package:", "packages:", "`package` is missing"),
        ("  platform: linux-64", "  platform: [linux]", "`platform` is not a conda platform"),
    ],
)
def test_what_is_wrong_in_a_conda_lock_file_is_named(old: str, new: str, words: str) -> None:
    assert old in OLD
    with pytest.raises(LockfileError, match=words):
        conda_lock_foreign.loads(OLD.replace(old, new).encode(), HERE)


@pytest.mark.parametrize("only", [("linux-64",), ()])
def test_what_is_wrong_on_another_platform_is_passed_over_when_asked(only: tuple[str, ...]) -> None:
    sdist = {
        "name": "x", "version": "1", "manager": "pip", "platform": "osx-64", "url": "https://h/x-1.tar.gz",
        "hash": {}, "dependencies": {}, "category": "main", "optional": False,
    }  # fmt: skip
    virtual = {**sdist, "name": "__osx", "manager": "conda", "url": "", "hash": {"md5": ""}}
    document = yaml.safe_load(OLD)
    document["package"] += [sdist, virtual]
    data = yaml.safe_dump(document).encode()
    if only:
        assert conda_lock_foreign.loads(data, HERE, Selection(platforms=only)).platforms == only
        return
    with pytest.raises(LockfileError, match=r"x \(osx-64\): x comes as x-1.tar.gz") as caught:
        conda_lock_foreign.loads(data, HERE)
    assert caught.value.hint is not None
    assert "--platform" in caught.value.hint
    assert "__osx" not in caught.value.message


def test_a_pixi_lock_may_be_read_for_one_platform_alone() -> None:
    broken = {"linux-64": [{"conda": f"{FORGE}/linux-64/zlib-1.3-0.conda"}], "osx-64": [{"pypi": "./lib"}]}
    data = changed("environments/default/packages", broken).replace(b"subdir: linux-64", b"subdir: win-64")
    assert pixi.loads(data, HERE, Selection(platforms=("linux-64",))).platforms == ("linux-64",)
    with pytest.raises(LockfileError, match="osx-64, entry 1"):
        pixi.loads(data, HERE)


# --- which it is, and what none is --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (OLD, "conda-lock"),
        (yaml.safe_dump(SEVEN), "pixi"),
        ("# a\n@EXPLICIT\n", "explicit"),
        (f"{FORGE}/linux-64/a-1-0.conda\n", "explicit"),
        ("name: x\nchannels: [a]\ndependencies:\n- a=1=0\n", "environment"),
    ],
)
def test_a_format_is_seen_in_the_file(text: str, kind: str) -> None:
    assert kind_of(text.encode(), HERE) == kind


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"hello", "no lockfile that envbox knows"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\xff\xfe\xff", "not text|no lockfile"),
        (b"a\n\x80\x80", "not text .line 2"),
        (b"<<<<<<< ours\n@EXPLICIT\n=======\n>>>>>>> theirs\n", "conflict markers .line 1"),
    ],
)
def test_what_is_no_lockfile_is_refused_in_words(data: bytes, words: str) -> None:
    with pytest.raises(LockfileError, match=words):
        kind_of(data, HERE)


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30))


@pytest.mark.parametrize("key", ["version", "environments", "package", "packages", "metadata"])
def test_an_alias_that_stands_for_gigabytes_costs_nothing(key: str) -> None:
    whole = {"version": "1", "environments": "{default: {packages: {linux-64: *a29}}}", "package": "[*a29]"}
    whole |= {"packages": "*a29", "metadata": "{}"} | {key: "*a29"}
    data = (BOMB + "".join(f"{k}: {v}\n" for k, v in whole.items())).encode()
    for loads in (pixi.loads, conda_lock_foreign.loads):
        with pytest.raises(LockfileError):
            loads(data, HERE)


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
        st.just(f"{FORGE}/noarch/a-1-0.conda"),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["conda", "pypi", "name", "url", "hash", "platform", "linux-64", "packages"]),
        inner, max_size=3,
    ),
    max_leaves=12,
)  # fmt: skip
KEYS = st.sampled_from(["version", "environments", "packages", "package", "metadata", "platforms"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(KEYS, VALUES), st.sampled_from([1, 6, 7]))
def test_no_document_gives_a_traceback(document: dict[str, Any], version: int) -> None:
    data = yaml.safe_dump({"version": version} | document).encode()
    for loads in (pixi.loads, conda_lock_foreign.loads):
        with suppress(LockfileError):
            loads(data, HERE)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.text(max_size=30) | st.sampled_from([f"{FORGE}/linux-64/a-1-0.conda", "https://[", "# pip a @ b"])
    )
)
def test_no_lines_give_a_traceback(lines: list[str]) -> None:
    data = "\n".join(["@EXPLICIT", *lines]).encode("utf-8", "surrogatepass")
    with suppress(LockfileError):
        explicit.loads(data, HERE)


def test_a_lock_without_md5_is_written_with_sha256() -> None:
    lock = replace(a_lock(), packages=(replace(conda("a"), md5=None),), platforms=("linux-64",))
    assert f"#sha256:{conda('a').sha256}" in explicit.dumps(lock, "linux-64").decode()
