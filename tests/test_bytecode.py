from __future__ import annotations

import importlib.util
import marshal
import os
import random
import shutil
import struct
import sys
import tarfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.packages import File, Package, lock_of
from support.sources import real_sources
from support.tiny import own_compiler

from envbox.errors import LockfileError, PackageError, ToolError
from envbox.lockfile import LockedPackage
from envbox.packages.link import bytecode
from envbox.packages.link.compiler import SEAL, compiler_digest, obtain_compiler
from envbox.platforms import host_platform
from envbox.report import SILENT
from envbox.settings import Settings

THIS = own_compiler()


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
    blind = replace(keeping, program=replace(THIS.program, folder=tmp_path / "none"))
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
    with pytest.raises(ToolError, match=r"cannot run .*/python: No such file"):
        own_compiler(tmp_path / "bin/python", "3.11.0").compile_sources([])
    broken = tmp_path / "bin/broken"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 'no such library' >&2\nexit 127\n")
    broken.chmod(0o755)
    with pytest.raises(ToolError, match="127: no such library") as caught:
        own_compiler(broken, "3.11.0").compile_sources([])
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


def fake_python(folder: Path, version: str, says: str = "", name: str = "") -> LockedPackage:
    """A package of a program that is this Python, but says another version: enough to see it installed.

    :param name: of a file that makes it another package of the same version
    """
    script = f"""#!/bin/sh
case "$*" in
  *version_info*) echo {says or f"cpython.{version}"}; echo sys;;
  *) exec {sys.executable} "$@";;
esac
"""
    files = [("bin/python3.11", File(script.encode(), mode=0o755)), (f"share/it{name}", File(b""))]
    path = Package(name="python", version=version, files=files).write(folder)
    return replace(Package("python", version).locked(path, host_platform()), url=path.as_uri())


def trusting(cache: Path) -> Settings:
    return Settings(cache, trust_python=True)


def installed(locked: LockedPackage, settings: Settings) -> Path:
    """Where the compiler is that one gets."""
    program = obtain_compiler(lock_of(locked), locked.version, settings, SILENT).program
    return program.folder / program.executable


def test_the_compiler_is_installed_once_from_the_lock(tmp_path: Path) -> None:
    locked, settings = fake_python(tmp_path / "channel", "3.11.9"), trusting(tmp_path / "cache")
    compiler = obtain_compiler(lock_of(locked), "3.11.9", settings, SILENT)
    before = installed(locked, settings).stat()
    assert obtain_compiler(lock_of(locked), "3.11.9", settings, SILENT) == compiler
    assert installed(locked, settings).stat().st_ino == before.st_ino
    assert {p.suffix for p in (settings.cache_dir / "compilers").iterdir()} == {"", ".lock"}
    assert compiler.magic == importlib.util.MAGIC_NUMBER.hex()
    assert compiler.is_hash_known


def test_a_python_that_says_it_is_another_is_refused_and_not_kept(tmp_path: Path) -> None:
    locked = fake_python(tmp_path / "channel", "3.11.9", "cpython.3.11.4")
    settings = trusting(tmp_path / "cache")
    with pytest.raises(ToolError, match=r"says it is cpython\.3\.11\.4"):
        obtain_compiler(lock_of(locked), "3.11.9", settings, SILENT)
    assert not [p for p in (settings.cache_dir / "compilers").iterdir() if p.suffix != ".lock"]


def test_a_file_in_place_of_the_compiler_s_folder_goes(tmp_path: Path) -> None:
    locked, settings = fake_python(tmp_path / "channel", "3.11.9"), trusting(tmp_path / "cache")
    folder = installed(locked, settings).parent.parent
    shutil.rmtree(folder)
    folder.write_text("x")
    assert installed(locked, settings).is_file()
    shutil.rmtree(folder)
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").touch()
    folder.symlink_to(tmp_path / "kept")
    assert installed(locked, settings).is_file()
    assert (tmp_path / "kept/file").exists()


def _other_bytes(folder: Path) -> None:
    path = folder / "bin/python3.11"
    before = path.stat()
    data = path.read_bytes()
    path.write_bytes(data.replace(b"exec", b"EXEC"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _other_file(folder: Path) -> None:
    (folder / "lib").mkdir(exist_ok=True)
    (folder / "lib/libc.so.6").write_bytes(b"x")


def _other_owner(folder: Path) -> None:
    os.chown(folder / "bin/python3.11", 12345, 12345)


TAMPERING: dict[str, Callable[[Path], object]] = {
    "other bytes, of the same size and times": _other_bytes,
    "a file that was not there": _other_file,
    "a file that is gone": lambda folder: next((folder / "conda-meta").glob("*.json")).unlink(),
    "a file that others may write to": lambda folder: (folder / "bin/python3.11").chmod(0o777),
    "a folder that others may write to": lambda folder: (folder / "bin").chmod(0o775),
    "a folder that others may write to, the top": lambda folder: folder.chmod(0o777),
    "no seal": lambda folder: (folder / SEAL).unlink(),
    "a seal of nothing": lambda folder: (folder / SEAL).write_text("[]"),
}


@pytest.mark.parametrize("how", TAMPERING)
def test_a_compiler_that_is_not_as_it_was_installed_is_installed_anew(how: str, tmp_path: Path) -> None:
    locked, settings = fake_python(tmp_path / "channel", "3.11.9"), trusting(tmp_path / "cache")
    before = installed(locked, settings)
    data = before.read_bytes()
    kept = before.parent / "kept"  # shows that it is another folder now
    TAMPERING[how](before.parent.parent)
    kept.touch()
    assert installed(locked, settings) == before
    assert before.read_bytes() == data
    assert not kept.exists()


def in_time(call: Callable[[], object]) -> None:
    """See that a call comes back."""
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


def test_a_fifo_in_place_of_what_was_kept_blocks_nobody(tmp_path: Path) -> None:
    keeping = replace(THIS, store=tmp_path / "store")
    sources = [("/a.py", b"x = 1\n")]
    keeping.compile_sources(sources)
    (stored,) = (tmp_path / "store").iterdir()
    stored.unlink()
    os.mkfifo(stored)
    in_time(lambda: keeping.compile_sources(sources))
    assert stored.is_file()


def test_a_fifo_in_place_of_a_seal_blocks_nobody(tmp_path: Path) -> None:
    locked, settings = fake_python(tmp_path / "channel", "3.11.9"), trusting(tmp_path / "cache")
    seal = installed(locked, settings).parent.parent / SEAL
    seal.unlink()
    os.mkfifo(seal)
    in_time(lambda: installed(locked, settings))
    assert seal.is_file()


@pytest.mark.skipif(os.geteuid() != 0, reason="files of another user can be made by root alone")
def test_a_compiler_of_another_user_is_not_run(tmp_path: Path) -> None:
    TAMPERING["somebody else's"] = _other_owner
    test_a_compiler_that_is_not_as_it_was_installed_is_installed_anew("somebody else's", tmp_path)


def test_a_compiler_that_came_by_a_copy_is_installed_anew(tmp_path: Path) -> None:
    """A cache in somebody's repository or archive: its seal cannot be right, whoever wrote it."""
    locked = fake_python(tmp_path / "channel", "3.11.9")
    first = installed(locked, trusting(tmp_path / "cache"))
    for path in (tmp_path / "cache").rglob("*.lock"):
        path.unlink()
    shutil.copytree(tmp_path / "cache", tmp_path / "clone", symlinks=True)
    second = tmp_path / "clone" / first.relative_to(tmp_path / "cache")
    second.write_text("#!/bin/sh\ntouch /ran")
    assert installed(locked, trusting(tmp_path / "clone")) == second
    assert second.read_bytes() == first.read_bytes()


def test_nobody_else_can_write_in_a_compiler(tmp_path: Path) -> None:
    files = [("bin/open", File(b"x", mode=0o777)), ("share/open", File(b"x", mode=0o666))]
    real = fake_python(tmp_path / "plain", "3.11.9")
    script = installed(real, trusting(tmp_path / "cache")).read_bytes()
    package = Package("python", "3.11.9", files=[*files, ("bin/python3.11", File(script, mode=0o755))])
    path = package.write(tmp_path / "channel")
    locked = replace(package.locked(path, host_platform()), url=path.as_uri())
    before = os.umask(0)
    try:
        folder = installed(locked, trusting(tmp_path / "cache")).parent.parent
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o7777 for path in (folder, *folder.rglob("*"))}
    assert modes <= {0o755, 0o644}


def test_another_build_of_the_same_version_is_another_compiler(tmp_path: Path) -> None:
    """What a hostile Python answers is not taken for what an honest one of the same X.Y.Z would answer."""
    settings = trusting(tmp_path / "cache")
    pythons = [fake_python(tmp_path / name, "3.11.9", name=name) for name in ("one", "two")]
    one, two = (obtain_compiler(lock_of(p), "3.11.9", settings, SILENT) for p in pythons)
    assert one.program.folder != two.program.folder
    assert one.closure != two.closure
    sources = [("/opt/envbox/a.py", b"x = 1\n")]
    assert one.store == two.store
    assert one.store is not None
    one.compile_sources(sources)
    assert len(list(one.store.iterdir())) == 1
    two.compile_sources(sources)
    assert len(list(one.store.iterdir())) == 2


def test_what_a_python_depends_on_is_part_of_what_it_is(tmp_path: Path) -> None:
    honest = fake_python(tmp_path / "channel", "3.11.9")
    python = replace(honest, depends={"libz": "*", "tzdata": "*"})
    other = replace(python, name="libz", version="1", depends={})
    libraries = [replace(other, sha256=digit * 64) for digit in "12"]
    one, two = (compiler_digest(lock_of(python, library)) for library in libraries)
    assert one != two
    zones = [replace(other, name="tzdata", sha256=digit * 64) for digit in "34"]
    one, two = (compiler_digest(lock_of(python, libraries[0], zone)) for zone in zones)
    assert one == two  # it is not installed


# --- what a package can write -------------------------------------------------------------------------------

LINK = File(kind=tarfile.SYMTYPE, link="OUT")
NEW = File(b"x")
HARMFUL: dict[str, Sequence[tuple[str, File]]] = {
    "a path upwards": [("../../../../outside/new", NEW)],
    "a path upwards in the middle": [("lib/../../../../../outside/new", NEW)],
    "an absolute path": [("OUT/new", NEW)],
    "through a link": [("link", LINK), ("link/new", NEW)],
    "through a link upwards": [("link", replace(LINK, link="../../../../outside")), ("link/new", NEW)],
    "a link, then a file of its name": [("link", replace(LINK, link="OUT/victim")), ("link", NEW)],
    "a link in place of the records' folder": [("conda-meta", LINK)],
    "a link in place of the byte-code's folder": [
        ("lib/python3.11/__pycache__", LINK),
        ("lib/python3.11/sys.py", NEW),
    ],
    "a device": [("null", File(kind=tarfile.CHRTYPE, listed={"path_type": "hardlink"}))],
    "a program that lends rights": [("bin/su", File(b"x", mode=0o4755))],
}


@pytest.mark.parametrize("how", HARMFUL)
def test_no_package_writes_outside_the_compiler_s_folder(how: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("as it was")
    files = [
        (name.replace("OUT", str(outside)), replace(file, link=file.link.replace("OUT", str(outside))))
        for name, file in HARMFUL[how]
    ]
    package = Package("python", "3.11.9", files=[("bin/python3.11", File(b"x", mode=0o755)), *files])
    path = package.write(tmp_path / "channel")
    locked = replace(package.locked(path, host_platform()), url=path.as_uri())
    settings = trusting(tmp_path / "cache")
    with pytest.raises((PackageError, ToolError), match=r"python-3\.11\.9-h0_0\.conda"):
        installed(locked, settings)
    assert [p.name for p in outside.iterdir()] == ["victim"]
    assert (outside / "victim").read_text() == "as it was"
    assert [p for p in (settings.cache_dir / "compilers").iterdir() if p.suffix != ".lock"] == []


def test_two_packages_that_have_one_path_are_installed_or_refused(tmp_path: Path) -> None:
    honest = fake_python(tmp_path / "channel", "3.11.9")
    for number, (name, fits) in enumerate({"share/it": True, "share/it/below": False}.items()):
        other = Package("other", files=[(name, File(b"other"))], subdir=host_platform())
        path = other.write(tmp_path / "channel" / str(number))
        locked = replace(other.locked(path, host_platform()), url=path.as_uri())
        lock = lock_of(replace(honest, depends={"other": "*"}), locked)
        if fits:
            folder = obtain_compiler(lock, "3.11.9", trusting(tmp_path / "c"), SILENT).program.folder
            assert (folder / name).read_bytes() == b"other"
            continue
        with pytest.raises(PackageError, match=r"conda has .*, where another package has something else"):
            obtain_compiler(lock, "3.11.9", trusting(tmp_path / "c"), SILENT)


# --- what a Python answers ----------------------------------------------------------------------------------

GOOD = importlib.util.MAGIC_NUMBER + b"\1\0\0\0" + importlib.util.source_hash(b"x = 1\n")
CODE = marshal.dumps(compile("x = 1\n", "/a.py", "exec"))


def packed(*results: bytes | None) -> bytes:
    return b"".join(struct.pack("<q", -1 if r is None else len(r)) + (r or b"") for r in results)


ANSWERS = {
    "nothing": b"",
    "too few": b"\0" * 7,
    "one more": packed(GOOD + CODE, GOOD + CODE),
    "a byte more": packed(GOOD + CODE) + b"x",
    "a size that is none": struct.pack("<q", -2),
    "a size without its bytes": struct.pack("<q", 1 << 40) + GOOD + CODE,
    "no code": packed(GOOD),
    "an empty file": packed(b""),
    "something else than code": packed(GOOD + marshal.dumps("x")),
    "another magic number": packed(b"\0\0\r\n" + GOOD[4:] + CODE),
    "checked": packed(GOOD[:4] + b"\3\0\0\0" + GOOD[8:] + CODE),
    "by time": packed(GOOD[:4] + b"\0\0\0\0" + GOOD[8:] + CODE),
    "of another source": packed(GOOD[:8] + importlib.util.source_hash(b"x = 2\n") + CODE),
    "text": b"Hello, I am a Python\n",
}


@pytest.mark.parametrize("what", ANSWERS)
def test_what_is_no_byte_code_of_its_source_is_refused_and_not_kept(what: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "answer").write_bytes(ANSWERS[what])
    liar = tmp_path / "bin/python"
    liar.write_text(f"#!/bin/sh\ncat >/dev/null; cat {tmp_path}/answer\n")
    liar.chmod(0o755)
    magic = importlib.util.MAGIC_NUMBER.hex()
    compiler = replace(
        own_compiler(liar), magic=magic, is_hash_known=True, store=tmp_path / "store", closure="1"
    )
    with pytest.raises(ToolError, match=f"{liar} answered (no byte-code of /a.py|more than it was asked)"):
        compiler.compile_sources([("/a.py", b"x = 1\n")])
    assert not (tmp_path / "store").exists()
    (tmp_path / "answer").write_bytes(packed(GOOD + CODE))
    assert compiler.compile_sources([("/a.py", b"x = 1\n")]) == [GOOD + CODE]
