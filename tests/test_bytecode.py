from __future__ import annotations

import importlib.util
import marshal
import random
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from packages import File, Package, lock_of

from envbox.errors import LockfileError, ToolError
from envbox.link import bytecode
from envbox.link.bytecode import Compiler, host_platform, obtain_compiler
from envbox.lockfile import LockedPackage
from envbox.report import SILENT
from envbox.settings import Settings

VERSION = ".".join(map(str, sys.version_info[:3]))
THIS = Compiler(Path(sys.executable), VERSION)


def real_sources(name: str) -> list[tuple[str, bytes]]:
    """The modules of a package that is installed here."""
    spec = importlib.util.find_spec(name)
    assert spec
    assert spec.submodule_search_locations
    root = Path(spec.submodule_search_locations[0])
    return [
        (f"/opt/envbox/lib/python3.11/site-packages/{p.relative_to(root.parent)}", p.read_bytes())
        for p in sorted(root.rglob("*.py"))
    ]


def test_byte_code_is_unchecked_hash_based_and_names_the_image_s_path() -> None:
    path, source = "/opt/envbox/lib/python3.11/site-packages/a.py", b"def f():\n    return {'x', 'y', 'z'}\n"
    (data,) = THIS.compile_sources([(path, source)])
    assert data is not None
    assert data[:4] == importlib.util.MAGIC_NUMBER
    assert data[4:8] == b"\1\0\0\0"
    assert data[8:16] == importlib.util.source_hash(source)
    assert marshal.loads(data[16:]).co_filename == path


def test_what_does_not_compile_is_left_without() -> None:
    sources = [
        ("/a.py", b"x = 1\n"),
        ("/b.py", b"x =\n"),
        ("/c.py", b"\xff\xfe\n"),
        ("/d.py", b"a\0b"),
        ("/e.py", b""),
    ]
    found = THIS.compile_sources(sources)
    assert [data is not None for data in found] == [True, False, False, False, True]


def test_optimisation_is_the_default_one() -> None:
    (data,) = THIS.compile_sources([("/a.py", b"'doc'\ndef f(x):\n    assert x\n")])
    assert data is not None
    code = marshal.loads(data[16:])
    assert code.co_consts[0] == "doc"
    function: dict[str, Any] = {}
    exec(code, function)
    with pytest.raises(AssertionError):
        function["f"](0)


def test_the_compiler_sees_nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "struct.py").write_text("raise SystemExit('mine')")
    before = THIS.compile_sources(real_sources("installer"))
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "PYTHONPATH": str(tmp_path),
        "PYTHONHASHSEED": "77",
        "PYTHONOPTIMIZE": "2",
        "TZ": "Asia/Tokyo",
        "LC_ALL": "C",
        "HOME": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    assert THIS.compile_sources(real_sources("installer")) == before


@pytest.mark.parametrize("name", ["installer", "click", "yaml", "requests", "rich"])
def test_the_same_bytes_under_any_seed_and_order(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rule is one process a package in the archive's order; that others agree shows there is slack."""
    sources = real_sources(name)
    before = dict(zip((p for p, _ in sources), THIS.compile_sources(sources), strict=True))
    for seed in ("0", "1", "4242"):
        monkeypatch.setitem(bytecode._ENVIRONMENT, "PYTHONHASHSEED", seed)
        assert dict(zip(before, THIS.compile_sources(sources), strict=True)) == before
    random.Random(7).shuffle(sources)
    assert dict(zip((p for p, _ in sources), THIS.compile_sources(sources), strict=True)) == before


def test_the_same_sources_are_compiled_once_ever(tmp_path: Path) -> None:
    sources = [("/a.py", b"x = 1\n"), ("/b.py", b"x =\n")]
    expected = THIS.compile_sources(sources)
    keeping = replace(THIS, store=tmp_path / "store")
    assert keeping.compile_sources(sources) == expected
    (stored,) = (tmp_path / "store").iterdir()
    blind = replace(keeping, executable=tmp_path / "none")
    assert blind.compile_sources(sources) == expected
    for other in ([("/c.py", b"x = 1\n"), sources[1]], [("/a.py", b"x = 2\n"), sources[1]], sources[:1]):
        with pytest.raises(ToolError, match="cannot run"):
            blind.compile_sources(other)
    with pytest.raises(ToolError, match="cannot run"):
        replace(blind, version="3.11.99").compile_sources(sources)
    for damage in (b"", stored.read_bytes()[:-3], bytes(32) + stored.read_bytes()[32:]):
        stored.write_bytes(damage)
        with pytest.raises(ToolError, match="cannot run"):
            blind.compile_sources(sources)
        assert keeping.compile_sources(sources) == expected


def test_a_python_that_does_not_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="cannot run the locked Python"):
        Compiler(tmp_path / "python", "3.11.0").compile_sources([])
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'no such library' >&2\nexit 127\n")
    broken.chmod(0o755)
    with pytest.raises(ToolError, match="127: no such library") as caught:
        Compiler(broken, "3.11.0").compile_sources([])
    assert str(caught.value.hint).endswith(": envbox clean compilers")


def python(version: str, platform: str) -> LockedPackage:
    return LockedPackage(
        "conda", "python", version, "h0_0", platform, {}, "https://x/linux-64/p.conda", "0" * 64
    )


def test_a_lock_without_this_machine_s_platform_says_how_to_get_it(tmp_path: Path) -> None:
    lock = lock_of(python("3.11.9", "linux-s390x"))
    with pytest.raises(LockfileError, match="not locked for") as caught:
        obtain_compiler(lock, "3.11.9", Settings(tmp_path), SILENT)
    both = sorted(["linux-s390x", host_platform()])
    assert caught.value.hint == f"envbox lock {lock.name} --platform {both[0]} --platform {both[1]}"


def test_another_python_for_this_machine_is_said(tmp_path: Path) -> None:
    lock = lock_of(python("3.11.8", host_platform()), python("3.11.9", "linux-s390x"))
    with pytest.raises(LockfileError, match=r"python 3\.11\.8") as caught:
        obtain_compiler(lock, "3.11.9", Settings(tmp_path), SILENT)
    assert str(caught.value.hint).startswith("write `python ==3.11.9` in its spec")


def fake_python(folder: Path, version: str, says: str) -> LockedPackage:
    """A package of a program that says it is a Python: enough to see how one is installed."""
    script = f"#!/bin/sh\necho {says}\n".encode()
    package = Package(name="python", version=version, files=[("bin/python3.11", File(script, mode=0o755))])
    path = package.write(folder)
    return replace(package.locked(path, host_platform()), url=path.as_uri())


def test_the_compiler_is_installed_once_from_the_lock(tmp_path: Path) -> None:
    locked = fake_python(tmp_path / "channel", "3.11.9", "cpython.3.11.9")
    settings = Settings(tmp_path / "cache")
    compiler = obtain_compiler(lock_of(locked), "3.11.9", settings, SILENT)
    before = compiler.executable.stat()
    assert obtain_compiler(lock_of(locked), "3.11.9", settings, SILENT) == compiler
    assert compiler.executable.stat().st_mtime_ns == before.st_mtime_ns
    assert {p.suffix for p in (settings.cache_dir / "compilers").iterdir()} == {"", ".lock"}


def test_a_python_that_says_it_is_another_is_refused_and_not_kept(tmp_path: Path) -> None:
    locked = fake_python(tmp_path / "channel", "3.11.9", "cpython.3.11.4")
    settings = Settings(tmp_path / "cache")
    with pytest.raises(ToolError, match=r"says it is cpython\.3\.11\.4"):
        obtain_compiler(lock_of(locked), "3.11.9", settings, SILENT)
    assert not [p for p in (settings.cache_dir / "compilers").iterdir() if p.suffix != ".lock"]
