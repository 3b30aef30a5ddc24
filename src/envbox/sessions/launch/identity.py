"""Who the caller is, inside a container: the same uid and gid, with a name and a home.

An image has no name for a uid of this machine, and what asks for one fails (`whoami`, `getpass.getuser()`,
ssh, the prompt). Two small files, made from the caller, are mounted over `/etc/passwd` and `/etc/group`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from envbox.engine import RunPolicy
from envbox.files import is_regular, write_whole
from envbox.image_paths import HOME as IMAGE_HOME

_SHELL = "/bin/bash"
_NOBODY = 65534  # the kernel's overflow uid and gid, and Debian's nobody and nogroup


@dataclass(frozen=True, slots=True)
class User:
    """A user of this machine.

    :param groups: supplementary groups: (gid, name)
    """

    uid: int
    gid: int
    name: str
    group: str
    groups: tuple[tuple[int, str], ...] = ()


def current_user() -> User:
    """Return the caller. A uid or gid without an entry gets a name all the same."""
    import grp
    import pwd

    def group_name(gid: int) -> str:
        try:
            return grp.getgrgid(gid).gr_name
        except KeyError:
            return f"group{gid}"

    uid, gid = os.getuid(), os.getgid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = "envbox"
    extra = () if uid == 0 else sorted({g for g in os.getgroups() if g != gid})  # root may do all without
    return User(uid, gid, name, group_name(gid), tuple((g, group_name(g)) for g in extra))


def inside(user: User, ways: RunPolicy) -> User:
    """Return who a user of this machine is in an engine's containers.

    Where that is root, his other groups are not his in there; he keeps his name.
    """
    return replace(user, uid=0, gid=0, groups=()) if ways.caller == "root" else user


def passwd(user: User) -> str:
    """Return the text of /etc/passwd: root, nobody and the user."""
    entries = [("root", 0, 0, "/root"), ("nobody", _NOBODY, _NOBODY, "/nonexistent")]
    others = [e for e in entries if e[0] != user.name and e[1] != user.uid]
    rows = [*others, (user.name, user.uid, user.gid, IMAGE_HOME)]
    return "".join(f"{name}:x:{uid}:{gid}:{name}:{home}:{_SHELL}\n" for name, uid, gid, home in rows)


def group(user: User) -> str:
    """Return the text of /etc/group: root's, nobody's and the user's groups."""
    own = {user.gid: user.group, **dict(user.groups)}
    others = {0: "root", _NOBODY: "nogroup"}
    rows = {gid: name for gid, name in others.items() if gid not in own and name not in own.values()} | own
    return "".join(f"{name}:x:{gid}:\n" for gid, name in rows.items())


def write_identity(user: User, cache_dir: Path) -> dict[str, Path]:
    """Make the files: path in the container → file on this machine, named by what is in it."""
    texts = {"/etc/passwd": passwd(user).encode(), "/etc/group": group(user).encode()}
    key = sha256(b"\0".join(texts.values())).hexdigest()[:16]
    files = {target: cache_dir / "identity" / key / Path(target).name for target in texts}
    for target, path in files.items():
        if not is_regular(path):
            write_whole(path, texts[target])
    return files
