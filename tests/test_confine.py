"""A hostile program in place of a locked Python: what it tries fails, on every road that this machine has."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from support.packages import File, Package, lock_of

from envbox.errors import SettingsError, ToolError
from envbox.packages.confine import end_before_exec, roads
from envbox.packages.confine.container import container_argv
from envbox.packages.confine.converse import OwnProcess, Program, Request
from envbox.packages.confine.launch import Launcher, c_library, end_launcher, launcher, try_launcher
from envbox.packages.confine.roads import choose_road, run_program
from envbox.packages.confine.syscalls import MACHINES, NEWER, X32, filter_for
from envbox.packages.link.compiler import obtain_compiler
from envbox.platforms import host_platform
from envbox.report import SILENT
from envbox.settings import Settings, read_settings

HERE = Path(__file__).parent
WALLED = (sys.executable, str(HERE / "support" / "no_namespaces.py"))
NOBODY = 65534
AS_NOBODY = (
    *("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"),
    *("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"),
)
SECRET = "what nobody may read"
REFUSED = "1: refused: "
ENDED = ": it was ended"


@pytest.fixture(scope="module")
def attack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The hostile program, compiled."""
    if sys.platform != "linux" or not shutil.which("gcc"):
        pytest.skip("the hostile program takes Linux and gcc")
    path = tmp_path_factory.mktemp("attack") / "attack"
    argv = ["gcc", "-static", "-O1", "-w", "-o", str(path), str(HERE / "attack.c")]
    subprocess.run(argv, check=True)
    return path


@contextmanager
def arranged(attack: Path, folder: Path) -> Iterator[tuple[Path, Path]]:
    """A folder with the program, and a place with things to reach, which the caller may read and write."""
    own, place = folder / "own", folder / "place"
    (own / "bin").mkdir(parents=True)
    place.mkdir()
    shutil.copy(attack, own / "bin")
    (own / "bin").chmod(0o777)  # the file system is not what keeps it from writing
    (own / "bin/attack").chmod(0o777)
    (place / "secret").write_text(SECRET)
    (place / "secret").chmod(0o666)
    shutil.copy("/bin/true", place / "true")
    place.chmod(0o777)
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    data = (own / "bin/attack").read_bytes()
    yield own, place
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == before
    assert (place / "secret").read_text() == SECRET
    assert (place / "secret").stat().st_mode & 0o777 == 0o666
    assert (own / "bin/attack").read_bytes() == data


@dataclass(frozen=True)
class World:
    """Who attacks, and how he is to be confined.

    :param before: what the attack is started by
    :param takes: the road that is expected
    """

    before: tuple[str, ...]
    road: str
    takes: str


WORLDS = {
    "namespaces": World((), "namespaces", "namespaces"),
    "landlock": World((), "landlock", "landlock"),
    "a user, namespaces": World(AS_NOBODY, "namespaces", "namespaces"),
    "a user, landlock": World(AS_NOBODY, "landlock", "landlock"),
    "behind a wall": World(WALLED, "any", "landlock"),
    "a user behind a wall": World((*AS_NOBODY, *WALLED), "any", "landlock"),
}


def skip_what_is_not_here(world: World) -> None:
    if world.before[:1] == ("setpriv",) and (os.getuid() or not shutil.which("setpriv")):
        pytest.skip("needs root and setpriv, to become another user")
    for road in ("namespaces", "landlock"):
        if world.takes == road:
            try:
                Launcher(road, HERE).end()
            except ToolError as error:
                pytest.skip(error.message)


@pytest.mark.parametrize("name", WORLDS)
def test_whatever_it_tries_fails(name: str, attack: Path, open_folder: Path) -> None:
    world = WORLDS[name]
    skip_what_is_not_here(world)
    with arranged(attack, open_folder) as (own, place):
        argv = [
            *world.before,
            sys.executable,
            str(HERE / "support" / "attacked.py"),
            world.road,
            str(own),
            str(place),
        ]
        argv += ["slow"] if not world.before else []
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    said: dict[str, str] = found["said"]
    assert found["road"] == world.takes
    assert found["left"] == []
    assert said.pop("answer") == "0: "
    assert [said.pop(name) for name in ("output", "complaints")] == [
        f"the hostile answered more than 1,048,576 bytes{ENDED}",
        f"the hostile complained without end{ENDED}",
    ]
    assert {said.pop(name, "-9: ") for name in ("spin", "sleep", "hidden")} <= {
        "-9: ",
        f"the hostile took longer than 1 seconds{ENDED}",
    }
    assert said.pop("crash") == "-11: "
    if os.uname().machine == "x86_64":
        assert (said.pop("x32"), said.pop("32 bit")) == ("-31: ", "-31: ")  # SIGSYS
    did = {name: how for name, how in said.items() if not how.startswith(REFUSED)}
    assert not did
    assert len(said) > 100


# --- what was started, and what is left ---------------------------------------------------------------------


@pytest.fixture(params=["namespaces", "landlock"])
def road(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each road that this machine has."""
    try:
        launcher(request.param, HERE).try_out()
    except ToolError as error:
        pytest.skip(error.message)
    yield request.param
    end_launcher()


@pytest.fixture
def program(attack: Path, tmp_path: Path) -> Program:
    (tmp_path / "p/bin").mkdir(parents=True)
    shutil.copy(attack, tmp_path / "p/bin")
    return Program(tmp_path / "p", "bin/attack", "the hostile")


def asking(*arguments: str, seconds: int = 60) -> Request:
    return Request(arguments, {}, b"", 1 << 20, seconds, 1 << 28)


def running(program: Program) -> list[int]:
    """The processes that are this program."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"/python/bin/attack") or str(program.folder).encode() in (
                path.read_bytes()
            ):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def until(is_so: Callable[[], bool]) -> bool:
    """Wait for what comes soon."""
    deadline = time.monotonic() + 20
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.02)
    return is_so()


def test_after_one_that_overstepped_the_next_runs(road: Any, program: Program) -> None:
    with pytest.raises(ToolError, match="longer than 1 seconds"):
        run_program(road, program, asking("spin", seconds=1))
    assert run_program(road, program, asking("answer", "fine")).answer == b"fine"


def test_a_program_ends_with_whoever_asked(road: str, program: Program) -> None:
    code = f"""
import sys
sys.path[:0] = {[str(HERE.parent / "src")]}
from pathlib import Path
from envbox.packages.confine.roads import run_program
from envbox.packages.confine.converse import Program, Request
print("begun", flush=True)
run_program({road!r}, Program(Path({str(program.folder)!r}), "bin/attack", "it"),
            Request(("sleep",), {{}}, b"", 1, 600, 1 << 28))
"""
    asker = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert asker.stdout
    assert asker.stdout.readline() == b"begun\n"
    assert until(lambda: bool(running(program)))
    asker.kill()
    asker.communicate()
    assert until(lambda: not running(program))


def test_a_launcher_that_was_killed_is_started_again(road: Any, program: Program) -> None:
    assert run_program(road, program, asking("answer", "1")).answer == b"1"
    process = launcher(road, program.folder)._process
    assert process
    process.kill()
    process.wait()
    assert run_program(road, program, asking("answer", "2")).answer == b"2"


def test_an_answer_is_waited_for_whatever_the_number_of_its_handle(road: Any, program: Program) -> None:
    found = launcher(road, program.folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2100:
        pytest.skip("there can be no handle above 1023")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2100, hard))
    try:
        before = found._sock
        found._sock = socket.socket(fileno=fcntl.fcntl(before, fcntl.F_DUPFD_CLOEXEC, 2000))
        found._sock.settimeout(30)
        before.close()
        assert run_program(road, program, asking("answer", "fine")).answer == b"fine"
    finally:
        end_launcher()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_trial_waits_its_turn(road: Any, program: Program) -> None:
    failures: list[BaseException] = []

    def attempt(number: int) -> None:
        try:
            if number % 2:
                try_launcher(road, Path(roads.__file__).parent)
            else:
                assert run_program(road, program, asking("answer", "1")).answer == b"1"
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures


def test_what_becomes_another_program_leaves_no_launcher(road: Any, program: Program) -> None:
    process = launcher(road, program.folder)._process
    assert process
    end_before_exec()
    assert process.poll() is not None


def test_a_program_ends_also_where_its_engine_does_not_answer() -> None:
    def refuse() -> None:
        raise ToolError("the engine is gone")

    process = subprocess.Popen(["sleep", "600"])
    OwnProcess(process, refuse).kill()
    assert process.poll() is not None


def test_a_launcher_is_of_one_folder(road: Any, program: Program, tmp_path: Path) -> None:
    other = replace(program, folder=tmp_path / "other")
    shutil.copytree(program.folder, other.folder)
    first = str(program.folder / "bin/attack")
    assert run_program(road, program, asking("answer", "1")).answer == b"1"
    assert run_program(road, other, asking("answer", "2")).answer == b"2"
    assert run_program(road, other, asking("read", first)).status == 1


def test_several_threads_may_ask(road: Any, program: Program) -> None:
    answers: list[bytes] = []

    def ask(number: int) -> None:
        answers.append(run_program(road, program, asking("answer", str(number))).answer)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [str(number).encode() for number in range(8)]


def test_a_program_that_cannot_be_started_is_said(road: Any, program: Program) -> None:
    missing = replace(program, executable="bin/none")
    done = run_program(road, missing, asking())
    assert done.status == 125
    assert done.complaint.startswith("cannot start it: ")
    assert done.complaint.endswith("/bin/none: No such file or directory")


def test_no_handle_of_ours_stays_open(road: Any, program: Program) -> None:
    run_program(road, program, asking("answer"))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for words in (("answer",), ("output", "x"), ("read", "/etc/passwd")):
        try:
            run_program(road, program, asking(*words))
        except ToolError:
            run_program(road, program, asking("answer"))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_link_that_leads_out_of_the_folder_leads_nowhere(road: Any, program: Program) -> None:
    (program.folder / "bin/true").symlink_to("/bin/true")
    (program.folder / "secret").symlink_to("/etc/passwd")
    assert run_program(road, replace(program, executable="bin/true"), asking()).status == 125
    at = "/python" if road == "namespaces" else str(program.folder)
    assert run_program(road, program, asking("read", f"{at}/secret")).status == 1


def test_a_loader_that_a_program_names_is_not_shown(road: Any, program: Program, tmp_path: Path) -> None:
    """Only the C library's own files are there, whatever an executable says is its loader."""
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    data = (program.folder / "bin/attack").read_bytes()
    (program.folder / "bin/attack").write_bytes(_with_loader(data, str(secret)))
    assert run_program(road, program, asking("answer")).status != 0
    assert all(str(secret) not in pair for pair in c_library(MACHINES[os.uname().machine]))


def _with_loader(elf: bytes, path: str) -> bytes:
    """An executable whose first program header says that this is its loader (PT_INTERP)."""
    (at,) = struct.unpack_from("<Q", elf, 32)
    named = path.encode() + b"\0"
    header = struct.pack("<IIQQQQQQ", 3, 4, len(elf), 0, 0, len(named), len(named), 1)
    return elf[:at] + header + elf[at + len(header) :] + named


# --- which road ---------------------------------------------------------------------------------------------


@pytest.fixture
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roads, "_found", [])


def refusing(what: str) -> Callable[[], None]:
    def attempt() -> None:
        raise ToolError(what)

    return attempt


@pytest.mark.usefixtures("nothing_known")
def test_where_nothing_confines_it_is_said_and_nothing_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, attack: Path
) -> None:
    words = ("namespaces: no", "landlock: no", "container: no")
    monkeypatch.setattr(roads, "_ATTEMPTS", {word: refusing(word) for word in words})
    with pytest.raises(ToolError) as caught:
        obtain_compiler(lock_of(hostile(tmp_path, attack)), "3.11.9", Settings(tmp_path / "cache"), SILENT)
    assert caught.value.message == (
        "the locked Python (python-3.11.9-h0_0.conda) is a program of a package, and nothing here can "
        "confine it (namespaces: no; landlock: no; container: no)"
    )
    assert "envbox --trust-python" in str(caught.value.hint)
    assert not (tmp_path / "cache").exists()
    assert choose_road("it", Settings(tmp_path, trust_python=True)) == "trusted"


@pytest.mark.usefixtures("nothing_known")
def test_the_road_is_tried_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tried: list[str] = []
    monkeypatch.setattr(roads, "_ATTEMPTS", {"landlock": lambda: tried.append("landlock")})
    assert [choose_road("it", Settings(tmp_path)) for _ in range(3)] == ["landlock"] * 3
    assert tried == ["landlock"]


def test_a_project_cannot_have_its_python_trusted(tmp_path: Path) -> None:
    (tmp_path / "envbox.toml").write_text("trust_python = true\n")
    with pytest.raises(SettingsError, match=r"trust_python in .* cannot be said by a project"):
        read_settings(tmp_path, {"ENVBOX_CONFIG": os.devnull})
    (tmp_path / "envbox.toml").rename(tmp_path / "config.toml")
    assert read_settings(tmp_path, {"ENVBOX_CONFIG": str(tmp_path / "config.toml")}).trust_python
    environ = {"ENVBOX_CONFIG": os.devnull}
    assert not read_settings(tmp_path, environ).trust_python
    assert read_settings(tmp_path, {**environ, "ENVBOX_TRUST_PYTHON": "1"}).trust_python


# --- the filter ---------------------------------------------------------------------------------------------


def decide(machine: str, audit: int, number: int, *arguments: int) -> int:
    """What the filter of a machine says, by the rules of BPF."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, audit, 0, *padded)
    steps = list(struct.iter_unpack("<HBBI", filter_for(MACHINES[machine])))
    at = value = 0
    while True:
        code, yes, no, operand = steps[at]
        at += 1
        if code == 0x20:
            (value,) = struct.unpack_from("<I", data, operand)
        elif code == 0x06:
            return int(operand)
        else:
            tests = {0x15: value == operand, 0x35: value >= operand, 0x45: bool(value & operand)}
            at += yes if tests[code] else no


ALLOWED, NOT_PERMITTED, UNKNOWN, READ_ONLY, KILLED = 0x7FFF0000, 0x50001, 0x50026, 0x5001E, 0x80000000
GENERIC = ({198, 203, 220, 129, 117, 146, 40, 97, 167, 241, 219}, 221, 56)
CALLS = {  # what is refused (socket, connect, clone, kill, ptrace, mount, …), and execve, openat
    "x86_64": ({41, 42, 56, 57, 58, 62, 101, 105, 165, 272, 157, 298, 250}, 59, 257),
    "aarch64": GENERIC,
    "riscv64": GENERIC,
}


@pytest.mark.parametrize("name", MACHINES)
def test_the_filter_lets_through_what_is_listed_and_nothing_else(name: str) -> None:
    machine, (refused, execve, openat) = MACHINES[name], CALLS[name]
    assert {decide(name, machine.audit, number) for number in refused} == {NOT_PERMITTED}
    assert decide(name, machine.audit, execve) == ALLOWED
    allowed = {n for n in range(1024) if decide(name, machine.audit, n) == ALLOWED}
    ruled = {machine.calls[call] for call in ("ioctl",)}
    assert allowed == set(machine.calls.values()) - ruled
    newer = {decide(name, machine.audit, n) for n in range(NEWER, 1024) if n not in allowed}
    assert newer == {UNKNOWN}
    assert decide(name, machine.audit, X32 + 1) == KILLED
    assert decide(name, 0x40000003, 11) == KILLED  # i386
    flags = (0, 0o2000000, 1, 2, 64)
    opened = {flag: decide(name, machine.audit, openat, 0, 0, flag) for flag in flags}
    assert opened == {0: ALLOWED, 0o2000000: ALLOWED, 1: READ_ONLY, 2: READ_ONLY, 64: READ_ONLY}
    assert decide(name, machine.audit, machine.calls["ioctl"], 0, 0x5412) == NOT_PERMITTED  # TIOCSTI
    assert decide(name, machine.audit, machine.calls["ioctl"], 0, 0x5401) == ALLOWED
    assert decide(name, machine.audit, machine.calls["fcntl"], 0, 8, 1) == NOT_PERMITTED  # F_SETOWN
    assert decide(name, machine.audit, machine.calls["prlimit64"], 1) == NOT_PERMITTED


# --- as a locked Python -------------------------------------------------------------------------------------


def hostile(folder: Path, program: Path) -> Any:
    """A package whose Python is the hostile program."""
    file = File(program.read_bytes(), mode=0o755)
    package = Package("python", "3.11.9", files=[("bin/python3.11", file)])
    path = package.write(folder / "channel")
    return replace(package.locked(path, host_platform()), url=path.as_uri())


@pytest.mark.usefixtures("nothing_known")
def test_a_lock_whose_python_is_another_program_ends_in_words(attack: Path, tmp_path: Path) -> None:
    settings = Settings(tmp_path / "cache")
    with pytest.raises(ToolError, match=r"the locked Python \(python-3\.11\.9-h0_0\.conda\) "):
        obtain_compiler(lock_of(hostile(tmp_path, attack)), "3.11.9", settings, SILENT)
    assert not [p for p in (settings.cache_dir / "compilers").iterdir() if p.suffix != ".lock"]


# --- by an engine -------------------------------------------------------------------------------------------


def test_a_container_has_nothing_that_it_could_harm_with(program: Program) -> None:
    argv = container_argv("i:1", "name", program, asking("a", "b"))
    said = " ".join(argv)
    for words in (
        "--network none", "--read-only", "--cap-drop ALL", "--user 65534:65534",
        "--security-opt no-new-privileges", "--pids-limit 8", f"--memory {1 << 28}",
        f"--memory-swap {1 << 28}", f"--mount type=bind,source={program.folder},target=/python,readonly",
    ):  # fmt: skip
        assert words in said
    assert argv[-4:] == ("/python/bin/attack", "i:1", "a", "b")


@pytest.mark.rig
def test_in_a_container_it_reaches_nothing_either(rig: Any, attack: Path, open_folder: Path) -> None:
    del rig  # has an engine started
    own = open_folder / "own"
    (own / "bin").mkdir(parents=True)
    shutil.copy(attack, own / "bin")
    program = Program(own, "bin/attack", "the hostile")
    assert run_program("container", program, asking("answer", "fine")).answer == b"fine"
    tried = [("read", str(HERE / "attack.c")), ("create", "/new"), ("remove", "/python/bin/attack")]
    tried += [("internet", "1"), ("unshare",), ("setuid",)]
    for words in tried:
        assert run_program("container", program, asking(*words)).status == 1, words
    with pytest.raises(ToolError, match="answered more"):
        run_program("container", program, asking("output", "x" * 1000))
    short = replace(asking("spin"), seconds=1)
    done = run_program("container", program, short)
    assert done.status in (137, 152)  # by its bound on the processor's time
    names = subprocess.run(
        ["docker", "ps", "--all", "--filter", "name=envbox-confined", "--format", "{{.Names}}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert names.stdout == ""


# --- a real CPython whose standard library means harm -------------------------------------------------------

HARM = """
def _harm():
    import os, sys
    did = []

    def attempt(name, *modules):
        def decorate(function):
            try:
                function(*[__import__(module) for module in modules])
            except Exception as error:
                sys.stderr.write(f"{{name}}: {{error!r}}\\n")
            else:
                did.append(name)
        return decorate

    attempt("read")(lambda: open({secret!r}).read())
    attempt("write")(lambda: open({secret!r}, "a"))
    attempt("write for others")(lambda: open({store!r} + "/" + "0" * 64, "wb"))
    attempt("write in its own folder")(lambda: open(sys.prefix + "/new", "w"))
    attempt("write in /tmp")(lambda: open("/tmp/envbox-harm", "w"))
    attempt("home")(lambda: os.listdir(os.path.expanduser("~root")))
    attempt("environ")(lambda: open("/proc/%d/environ" % os.getppid()).read())
    attempt("own environ")(lambda: open("/proc/self/environ").read())
    attempt("fork")(lambda: os.fork())
    attempt("spawn")(lambda: os.posix_spawn(sys.executable, [sys.executable, "-c", ""], {{}}))
    attempt("kill")(lambda: os.kill({victim}, 0))
    attempt("connect", "_socket")(lambda s: s.socket(s.AF_INET).connect(("127.0.0.1", {port})))
    attempt("unix", "_socket")(lambda s: s.socket(s.AF_UNIX))
    attempt("thread", "_thread")(lambda t: t.start_new_thread(print, ()))
    attempt("memory file")(lambda: os.memfd_create("x"))
    attempt("handles")(lambda: os.fstat(3))
    attempt("setuid")(lambda: os.setresuid(0, 0, 0))
    left = sorted(name for name in os.environ if not name.startswith(("PYTHON", "LD_", "LC_")))
    sys.stderr.write(f"did {{did}}, knows {{left}}\\n")
    os._exit(3)
_harm()
"""


@pytest.fixture(scope="module")
def real_lock(rig: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Settings]:
    """A lock of the rig's own Python, and settings that use the rig."""
    from envbox.locks.lock import lock
    from envbox.project import Environment

    folder = tmp_path_factory.mktemp("real")
    spec = folder / "real.yml"
    spec.write_text("channels: [conda-forge]\ndependencies: [python]\n")
    environment = Environment("real", spec, folder / "real.conda-lock.yml")
    settings = rig.settings()
    return lock(environment, settings, [host_platform()], SILENT), settings


def patched(real: Any, archive: Path, module: str, code: str, folder: Path) -> Any:
    """The same Python with code before a module of its library."""
    from envbox.packages.link.package import open_package
    from envbox.packages.link.tar import FILE, HARD_LINK, SYMLINK

    files = []
    with open_package(archive, real.sha256) as opened:
        for path, member, reader in opened.members():
            entry = opened.info.paths.get(path)
            if entry is None or member.kind == HARD_LINK:
                continue
            data = b"" if member.kind == SYMLINK else bytes(reader.read())
            if path == module:
                data = code.encode() + data
            kind = SYMLINK if member.kind == SYMLINK else FILE
            files.append((path, File(data, kind=kind, mode=member.mode, link=member.link)))
    package = Package("python", real.version, build="evil", files=files, subdir=host_platform())
    made = package.write(folder)
    return replace(package.locked(made, host_platform()), url=made.as_uri(), depends=real.depends)


@pytest.mark.rig
def test_a_real_python_whose_library_means_harm_does_none(
    real_lock: tuple[Any, Settings], road: str, open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    from envbox.packages.fetch import fetch_archives

    lock, settings = real_lock
    monkeypatch.setattr(roads, "_found", [road])
    monkeypatch.setenv("SECRET", SECRET)
    real = next(p for p in lock.packages if p.name == "python")
    archive = fetch_archives([real], settings)[real.sha256]
    secret = open_folder / "secret"
    secret.write_text(SECRET)
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = HARM.format(
            secret=str(secret), store=str(settings.cache_dir / "bytecode"), victim=os.getpid(),
            port=server.getsockname()[1],
        )  # fmt: skip
        evil = patched(real, archive, "lib/python3.11/struct.py", code, open_folder / "channel")
        packages = tuple(evil if p is real else p for p in lock.packages)
        with pytest.raises(ToolError) as caught:
            obtain_compiler(replace(lock, packages=packages), real.version, settings, SILENT)
    assert caught.value.message == (
        f"the locked Python ({evil.file_name}) failed with exit status 3: did [], knows []"
    )
    assert secret.read_text() == SECRET
    assert not list(settings.cache_dir.glob("bytecode/0*"))


@pytest.mark.rig
def test_confined_and_trusted_it_compiles_to_the_same_bytes(
    real_lock: tuple[Any, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, settings = real_lock
    version = next(p.version for p in lock.packages if p.name == "python")
    sources = [(f"/opt/envbox/lib/{p.name}", p.read_bytes()) for p in sorted(HERE.glob("*.py"))]
    found = {}
    for road in ("namespaces", "landlock", "trusted", "container"):
        monkeypatch.setattr(roads, "_found", [road])
        compiler = obtain_compiler(lock, version, replace(settings, trust_python=road == "trusted"), SILENT)
        assert compiler.road == road
        found[road] = replace(compiler, store=None).compile_sources(sources)
    assert all(found["trusted"])
    assert found["namespaces"] == found["landlock"] == found["trusted"] == found["container"]


@pytest.mark.rig
def test_each_start_finds_the_byte_code_of_its_own_modules(real_lock: tuple[Any, Settings]) -> None:
    """What is confined can keep none itself, and would compile a tenth of a second for each package."""
    lock, settings = real_lock
    version = next(p.version for p in lock.packages if p.name == "python")
    compiler = obtain_compiler(lock, version, settings, SILENT)
    code = (
        "import sys, importlib.util, marshal, struct\n"
        "print(*{type(m.__loader__).__name__ + ' ' + str(m.__cached__ and open(m.__cached__) and 1)"
        " for m in list(sys.modules.values()) if getattr(m, '__cached__', None)}, sep='|')"
    )
    assert compiler.run(code, b"").decode().strip() == "SourceFileLoader 1"
