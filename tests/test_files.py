"""A path has its old content or all of its new content."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from envbox.errors import ToolError
from envbox.files import (
    CACHE_MARKER,
    clear_way,
    disk_error,
    is_leftover,
    is_regular,
    only_one,
    read_file,
    whole_file,
    whole_folder,
    write_whole,
)


def test_a_failed_write_leaves_the_old_file_and_no_leftover(tmp_path: Path) -> None:
    path = tmp_path / "lock.yml"
    write_whole(path, b"old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_said_in_words(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="no space left") as caught, whole_file(tmp_path / "x") as file:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert "ENVBOX_CACHE_DIR" in str(caught.value.hint)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_only_the_cache_can_be_put_elsewhere(number: int, tmp_path: Path) -> None:
    for is_cache in (True, False):
        with pytest.raises(ToolError) as caught, whole_file(tmp_path / "x", is_cache=is_cache):
            raise OSError(number, "no")
        assert ("ENVBOX_CACHE_DIR" in str(caught.value.hint)) == is_cache
        assert caught.value.hint


def test_a_folder_that_is_a_file_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ToolError, match="file/x"):
        write_whole(tmp_path / "file" / "x", b"")


def test_no_permission_names_the_path() -> None:
    assert (
        "not allowed to write /x"
        in disk_error(Path("/x"), OSError(errno.EACCES, "Permission denied")).message
    )


def test_a_folder_that_nobody_may_write_to_is_removed(open_folder: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from envbox.files import remove_folder\n"
        "if os.getuid() == 0: os.setgroups([]); os.setgid(54321); os.setuid(54321)\n"
        "top = Path(sys.argv[1], 'top'); (top / 'below').mkdir(parents=True); (top / 'below/file').touch()\n"
        "(top / 'below').chmod(0o555); top.chmod(0o555); remove_folder(top); print(top.exists())"
    )
    open_folder.chmod(0o777)
    argv = [sys.executable, "-c", code, str(open_folder)]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("stays", [True, False])
def test_a_folder_that_another_has_made_meanwhile_stays_if_it_is_as_good(tmp_path: Path, stays: bool) -> None:
    path = tmp_path / "folder"
    with whole_folder(path, lambda: stays) as part:
        (part / "ours").touch()
        path.mkdir()
        (path / "theirs").touch()
    assert [entry.name for entry in path.iterdir()] == ["theirs" if stays else "ours"]
    assert list(tmp_path.iterdir()) == [path]


# --- what stands where a cache's file should be -------------------------------------------------------------


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    """A cache, and beside it what is none."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / CACHE_MARKER).write_text("envbox cache, format 1\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/kept").write_text("kept")
    return tmp_path


def put(path: Path, what: str, elsewhere: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if what == "folder":
        (path / "x/y").mkdir(parents=True)
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "file":
        path.write_text("x")
    else:
        path.symlink_to({"dangling": "nowhere", "link": elsewhere, "file link": elsewhere / "kept"}[what])


@pytest.mark.parametrize("what", ["folder", "fifo", "dangling", "link", "file link"])
def test_what_is_no_file_is_none_and_is_replaced(marked: Path, what: str) -> None:
    path = marked / "cache/builds/a.json"
    put(path, what, marked / "elsewhere")
    assert not is_regular(path)
    with pytest.raises(OSError):  # noqa: PT011  # by kind: not regular, a loop, a folder
        read_file(path)
    write_whole(path, b"new")
    assert read_file(path) == b"new"
    with only_one(path):
        pass
    assert (marked / "elsewhere/kept").read_text() == "kept"


@pytest.mark.parametrize("what", ["fifo", "dangling", "file", "file link"])
@pytest.mark.parametrize("at", ["builds", "builds/deep"])
def test_what_is_no_folder_is_replaced(marked: Path, what: str, at: str) -> None:
    put(marked / "cache" / at, what, marked / "elsewhere")
    write_whole(marked / "cache/builds/deep/x", b"new")
    with whole_folder(marked / "cache/builds/deep/folder") as part:
        (part / "in it").touch()
    assert (marked / "cache/builds/deep/x").read_bytes() == b"new"
    assert (marked / "elsewhere/kept").read_text() == "kept"


@pytest.mark.parametrize("what", ["folder", "fifo", "dangling", "file", "link"])
def test_nothing_outside_a_cache_is_removed(marked: Path, what: str) -> None:
    path = marked / "project/there"
    put(path, what, marked / "elsewhere")
    before = path.lstat()
    assert not clear_way(path)
    assert not clear_way(path / "below")
    assert path.lstat() == before


@pytest.mark.parametrize("text", ["", "x", "envbox cache", "envbox cache, format 1\nand more\n"])
def test_a_file_of_the_marker_s_name_makes_no_cache(tmp_path: Path, text: str) -> None:
    (tmp_path / CACHE_MARKER).write_text(text)
    (tmp_path / "a").write_text("kept")
    assert not clear_way(tmp_path / "a", is_folder=True)
    assert (tmp_path / "a").read_text() == "kept"


def test_nothing_of_a_person_s_is_removed_even_where_a_marker_lies(marked: Path) -> None:
    (marked / "cache/notes").write_text("kept")
    with pytest.raises(ToolError, match="notes/x"):
        write_whole(marked / "cache/notes/x", b"new", is_cache=False)
    with pytest.raises(ToolError), whole_file(marked / "cache/a", is_cache=False):
        (marked / "cache/a/below").mkdir(parents=True)
    assert (marked / "cache/notes").read_text() == "kept"
    assert (marked / "cache/a/below").is_dir()


@pytest.mark.parametrize("ahead", [-25 * 3600, 25 * 3600])
def test_what_was_written_aside_before_the_clock_was_set_back_is_a_leftover(
    tmp_path: Path, ahead: float
) -> None:
    part = tmp_path / ".x.1234.part"
    part.touch()
    assert not is_leftover(part)
    os.utime(part, (time.time() + ahead,) * 2)
    assert is_leftover(part)


def test_a_quota_that_is_used_up_is_called_one() -> None:
    fault = disk_error(Path("/home/ada/x"), OSError(errno.EDQUOT, "Disk quota exceeded"))
    assert "quota" in fault.message
    assert "ENVBOX_CACHE_DIR" in str(fault.hint)


def test_a_file_of_a_person_s_is_written_through_links_with_its_mode_and_owner(tmp_path: Path) -> None:
    real, link = tmp_path / "real/a.yml", tmp_path / "a.yml"
    real.parent.mkdir()
    real.write_bytes(b"old")
    real.chmod(0o640)
    before = real.stat()
    link.symlink_to("b.yml")
    (tmp_path / "b.yml").symlink_to(real)
    write_whole(link, b"new", is_cache=False)
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    after = real.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert [path.name for path in real.parent.iterdir()] == ["a.yml"]


def test_a_link_that_leads_to_no_file_yet_leads_to_the_new_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "there/a.yml")
    write_whole(tmp_path / "link", b"new", is_cache=False)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there/a.yml").read_bytes() == b"new"


def test_a_link_in_the_cache_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"theirs")
    (tmp_path / "link").symlink_to("outside")
    write_whole(tmp_path / "link", b"ours")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "outside").read_bytes() == b"theirs"


def test_what_is_no_plain_file_is_written_into_and_stays(tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to("/dev/null")
    write_whole(tmp_path / "null", b"x", is_cache=False)
    assert Path("/dev/null").is_char_device()
    (tmp_path / "full").symlink_to("/dev/full")
    with pytest.raises(ToolError, match="no space left"):
        write_whole(tmp_path / "full", b"x", is_cache=False)
    with pytest.raises(ToolError, match="cannot write"):
        write_whole(tmp_path, b"x", is_cache=False)


def test_a_folder_that_its_owner_cannot_enter_is_replaced(open_folder: Path) -> None:
    """As a plain user: root enters everything."""
    (open_folder / CACHE_MARKER).write_text("envbox cache, format 1\n")
    script = (
        "import os, sys; from pathlib import Path\n"
        "from envbox.files import discard_folder, read_file, whole_folder, write_whole\n"
        "if os.getuid() == 0: os.setgroups([]); os.setgid(54321); os.setuid(54321)\n"
        "top = Path(sys.argv[1])\n"
        "for name in ('a', 'b', 'c'):\n"
        "    (top / name).mkdir(); (top / name / 'old').touch(); (top / name).chmod(0)\n"
        "with whole_folder(top / 'a') as part: (part / 'new').touch()\n"
        "assert [p.name for p in (top / 'a').iterdir()] == ['new']\n"
        "write_whole(top / 'b/new', b'new'); assert read_file(top / 'b/new') == b'new'\n"
        "discard_folder(top / 'c'); assert sorted(p.name for p in top.glob('?')) == ['a', 'b']\n"
    )
    if os.getuid() == 0:
        os.chown(open_folder, 54321, 54321)
    subprocess.run([sys.executable, "-c", script, str(open_folder)], check=True)
