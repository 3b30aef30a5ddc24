"""Who the caller is, inside a container."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from envbox.engine import RunPolicy
from envbox.sessions.launch.identity import User, current_user, group, inside, passwd, write_identity

ADA = User(1234, 100, "ada", "users", ((999, "docker"),))


def test_the_caller_has_a_name_and_the_images_home() -> None:
    assert "ada:x:1234:100:ada:/home/envbox:/bin/bash" in passwd(ADA).splitlines()


def test_root_and_nobody_stay() -> None:
    names = [line.split(":")[0] for line in passwd(ADA).splitlines()]
    assert names == ["root", "nobody", "ada"]


def test_no_uid_and_no_name_stands_twice() -> None:
    for user in (
        User(0, 0, "root", "root"),
        User(65534, 65534, "nobody", "nogroup"),
        User(5, 5, "nobody", "root"),
    ):
        rows = [line.split(":") for line in passwd(user).splitlines()]
        assert len({row[0] for row in rows}) == len({row[2] for row in rows}) == len(rows)
        groups = [line.split(":") for line in group(user).splitlines()]
        assert len({row[0] for row in groups}) == len({row[2] for row in groups}) == len(groups)


def test_who_a_rootless_engine_makes_root_of_keeps_his_name() -> None:
    assert inside(ADA, RunPolicy()) == inside(ADA, RunPolicy("kept")) == ADA
    rows = [line.split(":") for line in passwd(inside(ADA, RunPolicy("root"))).splitlines()]
    assert [(row[0], row[2]) for row in rows] == [("nobody", "65534"), ("ada", "0")]
    assert "users:x:0:" in group(inside(ADA, RunPolicy("root"))).splitlines()


def test_the_callers_groups_have_names() -> None:
    assert {"users:x:100:", "docker:x:999:", "root:x:0:"} <= set(group(ADA).splitlines())


def test_the_caller_is_who_runs_this() -> None:
    user = current_user()
    assert (user.uid, user.gid) == (os.getuid(), os.getgid())
    assert user.name


def test_the_files_are_named_by_their_content_and_readable_by_all(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        files = write_identity(ADA, tmp_path)
    finally:
        os.umask(before)
    assert set(files) == {"/etc/passwd", "/etc/group"}
    assert files["/etc/passwd"].read_text() == passwd(ADA)
    assert stat.S_IMODE(files["/etc/passwd"].stat().st_mode) == 0o644
    assert write_identity(ADA, tmp_path) == files
    assert write_identity(User(1, 1, "b", "b"), tmp_path) != files
