"""A cache is a folder that envbox made and that nobody else can write to; nothing else is taken for one."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.other_user import NOBODY, nobodys_envbox

from envbox.cache.folder import open_cache
from envbox.cache.in_use import alone, hold, release
from envbox.cache.owners import OWNER_VARIABLE, check_owners, trusted_owners
from envbox.cache.shapes import FILES, NAMES, is_known_inside
from envbox.errors import EnvboxError, SettingsError, ToolError

SOURCE = Path(__file__).parents[1] / "src" / "envbox"
AS_ROOT = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
ENVBOX = (sys.executable, "-m", "envbox")


@pytest.fixture(autouse=True)
def released() -> Iterator[None]:
    yield
    release()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with documents, and a project in it."""
    (tmp_path / "home/Documents").mkdir(parents=True)
    (tmp_path / "home/Documents/thesis.tex").write_text("years of work")
    (tmp_path / "home/work/maps").mkdir(parents=True)
    return tmp_path / "home"


def opened(path: Path, home: Path, **environ: str) -> Path:
    return open_cache(path, home / "work/maps", {"HOME": str(home), **environ})


def envbox(*arguments: str, cache: Path, home: Path, **options: object) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "ENVBOX_CACHE_DIR": str(cache), "HOME": str(home), "ENVBOX_CONFIG": os.devnull}
    return subprocess.run(
        [*ENVBOX, *arguments], cwd=home / "work/maps", env=env,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def old_cache(path: Path) -> Path:
    """A cache of an envbox that made no markers."""
    for name in (f"packages/{'a' * 64}/x-1-0.conda", f"fragments/{'b' * 64}", "prefixes/trees/.lock"):
        (path / name).parent.mkdir(parents=True)
        (path / name).write_bytes(b"x" * 5000)
    (path / ".blobs.1234.part").mkdir()
    return path


@pytest.mark.parametrize("key", ["0123456789abcdef", "empty"])
def test_a_table_of_names_is_a_cache_s(key: str) -> None:
    assert is_known_inside("names", f"{key}.{'a' * 64}.json")
    assert is_known_inside("names", f"{key}.json")
    assert not is_known_inside("names", f"{key}.mine.json")


@pytest.mark.parametrize("there", [False, True])
def test_an_absent_or_empty_folder_becomes_a_cache(home: Path, there: bool) -> None:
    cache = home / "some/cache"
    if there:
        cache.mkdir(parents=True)
    assert opened(cache, home) == cache
    assert sorted(p.name for p in cache.iterdir()) == sorted(FILES)
    assert (cache / "CACHEDIR.TAG").read_bytes()[:43] == b"Signature: 8a477f597d28d172789f06886806bc55"
    assert there or cache.stat().st_mode & 0o777 == 0o700
    assert opened(cache, home) == cache


@pytest.mark.parametrize("at", ["/", ".", "..", "work", "work/maps", "work/maps/../..", "Documents/../work"])
def test_root_home_project_and_what_they_lie_in_are_never_one(home: Path, at: str) -> None:
    with pytest.raises(SettingsError, match="the cache cannot be"):
        opened(home / at, home)
    link = home.parent / "link"
    link.symlink_to(home / at)
    with pytest.raises(SettingsError, match="the cache cannot be"):
        opened(link, home)
    os.unlink(link)  # noqa: PTH108  # of a link, never its target
    assert (home / "Documents/thesis.tex").exists()


def test_a_linked_home_or_project_is_protected_where_it_really_is(home: Path) -> None:
    real = home.parent / "real"
    real.mkdir()
    (home / "elsewhere").symlink_to(real)
    (real / "project").mkdir()
    for path in (real, real / "project"):
        with pytest.raises(SettingsError, match="the cache cannot be"):
            open_cache(path, home / "elsewhere/project", {"HOME": str(home)})


@pytest.mark.parametrize("command", [("clean", "--all"), ("clean",), ("list",), ("build",), ("ps",)])
def test_a_home_as_cache_is_refused_by_every_command(home: Path, command: tuple[str, ...]) -> None:
    (home / "work/maps/environment.yml").write_text("dependencies: [python]\n")
    done = envbox(*command, cache=Path("~"), home=home)
    assert done.returncode == 1
    assert f"error: the cache cannot be {home}: that is the home" in done.stderr
    assert (home / "Documents/thesis.tex").read_text() == "years of work"


def test_a_folder_with_something_else_in_it_is_none(home: Path) -> None:
    with pytest.raises(SettingsError, match=r"not a cache of envbox: it has thesis\.tex"):
        opened(home / "Documents", home)
    assert [p.name for p in (home / "Documents").iterdir()] == ["thesis.tex"]
    monorepo = home / "monorepo"  # whose folders are called as a cache's are
    (monorepo / "packages/core").mkdir(parents=True)
    (monorepo / "builds").mkdir()
    with pytest.raises(SettingsError, match="it has packages/core"):
        opened(monorepo, home)
    (home / "names").mkdir()
    (home / "names/packages").write_text("a file")
    with pytest.raises(SettingsError, match="it has packages"):
        opened(home / "names", home)


def test_a_cache_from_before_there_were_markers_is_taken_over(home: Path) -> None:
    cache = old_cache(home / "cache")
    opened(cache, home)
    assert (cache / ".envbox-cache").read_text() == "envbox cache, format 1\n"
    assert (cache / f"packages/{'a' * 64}/x-1-0.conda").exists()


def test_a_newer_envbox_s_cache_is_refused(home: Path) -> None:
    cache = opened(home / "cache", home)
    (cache / ".envbox-cache").write_text("envbox cache, format 99\n")
    with pytest.raises(SettingsError, match="newer envbox"):
        opened(cache, home)


@pytest.mark.parametrize("where", ["/dev/null", "/dev/null/x", "/proc/self/envbox", "a-file", "a-file/x"])
@pytest.mark.parametrize("command", [("clean",), ("list",), ("size", "work")])
def test_what_can_be_no_folder_is_said(home: Path, where: str, command: tuple[str, ...]) -> None:
    (home / "a-file").write_text("")
    done = envbox(*command, cache=home / where, home=home)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "cache" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hint: set ENVBOX_CACHE_DIR" in done.stderr


def test_every_folder_that_the_source_names_in_the_cache_is_known() -> None:
    """Else `clean` would take it for somebody else's, and an old cache for none."""
    text = "\n".join(path.read_text() for path in SOURCE.rglob("*.py"))
    named = set(re.findall(r'cache_dir / "(\w+)"', text)) | set(re.findall(r'= Path\("(\w+)"\) / "', text))
    assert named
    assert named <= NAMES


# --- clean --------------------------------------------------------------------------------------------------


def test_clean_leaves_what_is_not_envbox_s_and_names_it(home: Path) -> None:
    cache = old_cache(home / "cache")
    opened(cache, home)
    release()
    (cache / "Photos").mkdir()
    (cache / "Photos/.old.part").write_bytes(b"x")
    os.utime(cache / "Photos/.old.part", (0, 0))
    (cache / "notes.txt").write_text("mine")
    done = envbox("clean", "--all", cache=cache, home=home)
    assert done.returncode == 0
    assert "not envbox's, and left as it is: Photos, notes.txt" in done.stderr
    assert sorted(p.name for p in cache.iterdir() if not p.name.endswith(".part")) == sorted(
        (*FILES, "Photos", "notes.txt")
    )
    assert (cache / "Photos/.old.part").exists()


@pytest.mark.parametrize("place", ["packages", "packages/deep", "prefixes/trees/x", "fragments/.k.1.part"])
def test_clean_follows_no_link(home: Path, place: str) -> None:
    cache = opened(home / "cache", home)
    (cache / place).parent.mkdir(parents=True, exist_ok=True)
    (cache / place).symlink_to(home / "Documents")
    os.utime(cache / place, (0, 0), follow_symlinks=False)
    release()
    done = envbox("clean", "--all", cache=cache, home=home)
    assert done.returncode == 0, done.stderr
    assert not os.path.lexists(cache / place)
    assert (home / "Documents/thesis.tex").read_text() == "years of work"


def test_a_link_that_comes_while_a_folder_is_removed_is_not_followed(home: Path) -> None:
    """Whoever swaps folders for links all the time gets nothing removed elsewhere."""
    cache = opened(home / "cache", home)
    release()
    swap = """if True:
        import os, sys
        cache, target = sys.argv[1:]
        while os.path.isdir(cache):
            for name in ("packages", "fragments", "prefixes/trees"):
                path = f"{cache}/{name}"
                try:
                    os.makedirs(f"{path}/a/b", exist_ok=True)
                    os.rename(path, f"{path}.x")
                    os.symlink(target, path)
                    os.unlink(path)
                    os.rename(f"{path}.x", path)
                except OSError:
                    pass
    """
    attack = subprocess.Popen([sys.executable, "-c", swap, str(cache), str(home / "Documents")])
    try:
        for _ in range(5):
            envbox("clean", "--all", cache=cache, home=home)
    finally:
        attack.kill()
        attack.wait()
    assert (home / "Documents/thesis.tex").read_text() == "years of work"


# --- in use -------------------------------------------------------------------------------------------------


def test_what_a_running_command_uses_stays(home: Path) -> None:
    cache = old_cache(home / "cache")
    opened(cache, home)  # held by this process now
    os.utime(cache / ".blobs.1234.part", (0, 0))
    done = envbox("clean", "--all", cache=cache, home=home)
    assert done.returncode == 0
    assert "another command works with the cache" in done.stderr
    assert f"process {os.getpid()}" in done.stderr
    assert (cache / f"packages/{'a' * 64}/x-1-0.conda").exists()
    assert not (cache / ".blobs.1234.part").exists()  # a leftover is nobody's
    release()
    assert "stay" not in envbox("clean", "--all", cache=cache, home=home).stderr
    assert not (cache / "packages").exists()


def test_a_command_that_was_killed_uses_nothing(home: Path) -> None:
    cache = old_cache(home / "cache")
    code = "import sys, time; from pathlib import Path; from envbox.cache.in_use import hold;"
    code += "hold(Path(sys.argv[1])); print(flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(cache)], stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        assert "stay" in envbox("clean", "--all", cache=cache, home=home).stderr
        child.kill()
    assert "stay" not in envbox("clean", "--all", cache=cache, home=home).stderr


def test_who_has_it_alone_lets_others_wait_and_not_for_ever(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = opened(home / "cache", home)
    with alone(cache) as use:
        assert use == "alone"
        command = [sys.executable, "-m", "envbox", "clean"]
        env = {**os.environ, "ENVBOX_CACHE_DIR": str(cache), "HOME": str(home)}
        child = subprocess.Popen(command, env=env, cwd=home / "work/maps", stdout=subprocess.DEVNULL)
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(1)
    assert child.wait(30) == 0
    monkeypatch.setattr("envbox.cache.in_use._PATIENCE", 0.1)
    other = os.open(cache / ".in-use", os.O_RDONLY)
    release()
    import fcntl

    fcntl.flock(other, fcntl.LOCK_EX)  # of whoever may read it, and means no good
    hold(cache)
    os.close(other)


@pytest.mark.parametrize("what", ["folder", "fifo", "link"])
def test_the_lock_heals(home: Path, what: str) -> None:
    cache = opened(home / "cache", home)
    release()
    lock = cache / ".in-use"
    lock.unlink()
    if what == "folder":
        (lock / "x").mkdir(parents=True)
    elif what == "fifo":
        os.mkfifo(lock)
    else:
        lock.symlink_to(home / "Documents/thesis.tex")
    opened(cache, home)
    assert lock.is_file()
    assert not lock.is_symlink()
    with alone(cache) as use:
        assert use == "alone"


# --- whose it is --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "who"), [(0o777, "others"), (0o702, "others"), (0o1777, "others")])
def test_what_others_can_write_is_refused(home: Path, mode: int, who: str) -> None:
    cache = opened(home / "cache", home)
    cache.chmod(mode)
    with pytest.raises(ToolError, match=f"can be written by {who}") as caught:
        opened(cache, home)
    assert f"chmod -R go-w '{cache}'" in str(caught.value.hint)
    cache.chmod(0o700)
    (cache / "compilers").mkdir()
    (cache / "compilers").chmod(mode)
    with pytest.raises(ToolError, match=rf"compilers, of the cache {cache}, can be written by {who}"):
        opened(cache, home)


def test_a_folder_on_the_way_that_others_can_write_is_refused_unless_it_is_sticky(home: Path) -> None:
    (home / "open/inner").mkdir(parents=True)
    (home / "open").chmod(0o777)
    for cache in (home / "open/inner/cache", home / "open/inner"):
        with pytest.raises(ToolError, match=f"{home}/open, on the way to the cache"):
            opened(cache, home)
    (home / "way").symlink_to("open/inner")
    with pytest.raises(ToolError, match="on the way to the cache"):
        opened(home / "way/cache", home)
    (home / "open").chmod(0o1777)
    opened(home / "open/inner/cache", home)


@AS_ROOT
def test_a_cache_of_somebody_else_is_refused_unless_its_owner_is_trusted(home: Path) -> None:
    cache = opened(home / "cache", home)
    os.chown(cache, NOBODY, NOBODY)
    name = pwd.getpwuid(NOBODY).pw_name
    with pytest.raises(ToolError, match=f"the cache {cache} belongs to {name}") as caught:
        opened(cache, home)
    assert f"{OWNER_VARIABLE}={name}" in str(caught.value.hint)
    for said in (name, str(NOBODY), f"root, {name}"):
        opened(cache, home, **{OWNER_VARIABLE: said})
    with pytest.raises(EnvboxError, match="no such user"):
        opened(cache, home, **{OWNER_VARIABLE: "nobody-at-all"})
    os.chown(cache, 0, 0)
    (cache / "compilers").mkdir()
    os.chown(cache / "compilers", NOBODY, NOBODY)
    with pytest.raises(ToolError, match=r"compilers, of the cache .* belongs to"):
        opened(cache, home)


@AS_ROOT
def test_a_group_with_other_members_may_not_write_and_one_s_own_may(home: Path) -> None:
    cache = opened(home / "cache", home)
    cache.chmod(0o770)
    opened(cache, home)  # root's group has nobody but root
    os.chown(cache, 0, pwd.getpwuid(NOBODY).pw_gid)
    with pytest.raises(ToolError, match="can be written by the group"):
        opened(cache, home)


@AS_ROOT
def test_root_s_cache_serves_everybody_who_may_read_it(open_folder: Path, home: Path) -> None:
    cache = old_cache(open_folder / "cache")
    opened(cache, home)
    release()
    cache.chmod(0o755)
    argv, env = nobodys_envbox()
    env = {**os.environ, **env, "ENVBOX_CACHE_DIR": str(cache), "HOME": str(open_folder)}
    done = subprocess.run(
        [*argv, "clean", "--all"], cwd=open_folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert (cache / f"packages/{'a' * 64}/x-1-0.conda").exists()
    os.chown(cache, 1, 1)
    with pytest.raises(ToolError, match="belongs to"):
        check_owners(cache, (), trusted_owners(""))
