"""A Debian without installing one: packages unpacked into a tree of tar entries, for any architecture.

Nothing is run, so no root, no chroot and no emulation are needed, and the bytes are the same on every
machine. What the packages' scripts would have made (users, links between alternatives, the certificate
bundle) is made here, and dpkg's own records are written, so that `dpkg -l` and `apt-get` work in it.
"""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from rigging import debian
from rigging.conda_package import NEVER
from rigging.debian_names import TREE

_MERGED = ("bin", "sbin", "lib", "lib64")
_LEFT_OUT = re.compile(r"usr/share/(doc/.+/(?!copyright$)[^/]+$|man/|info/|locale/|lintian/|bug/)")
Tree = dict[str, tuple[tarfile.TarInfo, bytes]]


def closure(debs: Mapping[str, Path], wanted: Iterable[str]) -> list[str]:
    """The packages that these need, themselves included, sorted; of alternatives the first one there is."""
    found: set[str] = set()
    todo = list(wanted)
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        control = debian.fields(debs[name])
        for group in ",".join(control.get(key, "") for key in ("Depends", "Pre-Depends")).split(","):
            names = [re.split(r"[\s(:]", choice.strip())[0] for choice in group.split("|")]
            there = [choice for choice in names if choice in debs]
            if there and not found.intersection(there):
                todo.append(there[0])
    return sorted(found)


def unpack(debs: Mapping[str, Path], architecture: str) -> Tree:
    """The tree of `debian_names.TREE` and what they need."""
    tree: Tree = {}
    status = []
    for link in _MERGED if architecture == "amd64" else _MERGED[:3]:
        _add(tree, f"usr/{link}", kind=tarfile.DIRTYPE, mode=0o755)
        _add(tree, link, kind=tarfile.SYMTYPE, target=f"usr/{link}")
    for name in closure(debs, TREE):
        listed = []
        for member, data in debian.contents(debs[name]):
            listed.append(f"/{member.name}")
            if not _LEFT_OUT.match(member.name):
                _unpack_member(tree, member, data)
        stanza, info = _records(debs[name], name, listed)
        status.append(stanza)
        for path, data in info.items():
            _add(tree, f"var/lib/dpkg/info/{path}", data, mode=0o755 if _is_script(path) else 0o644)
    _add(tree, "var/lib/dpkg/status", "\n".join(status).encode())
    _add(tree, "var/lib/dpkg/info/format", b"1\n")
    for folder in ("alternatives", "parts", "triggers", "updates"):
        _add(tree, f"var/lib/dpkg/{folder}", kind=tarfile.DIRTYPE, mode=0o755)
    _configure(tree)
    return tree


def _unpack_member(tree: Tree, member: tarfile.TarInfo, data: bytes) -> None:
    """One member at its place in a merged /usr; the first to bring a directory decides on it."""
    top = member.name.partition("/")[0]
    if top in _MERGED:
        member.name = f"usr/{member.name}"
    if member.islnk():
        # a file of its own: what it is a link to may be left out, and moves with /usr
        member.type, member.linkname, member.size = tarfile.REGTYPE, "", len(data)
    if member.isdir() and member.name in tree:
        return
    member.uname = member.gname = ""
    member.pax_headers = {}
    tree[member.name] = (member, data)


def _records(deb: Path, name: str, listed: list[str]) -> tuple[str, dict[str, bytes]]:
    """dpkg's records of one package: its stanza for `status`, and its files under `info/`."""
    done = subprocess.run(["dpkg-deb", "--ctrl-tarfile", deb], capture_output=True, check=True)
    info: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        for member in tar:
            if file := tar.extractfile(member):
                info[member.name.removeprefix("./")] = file.read()
    control = info.pop("control").decode().rstrip("\n")
    fields = debian.fields(deb)
    is_same = fields.get("Multi-Arch", "").strip() == "same"
    stem = f"{name}:{fields['Architecture'].strip()}" if is_same else name
    head, _, rest = control.partition("\n")
    conffiles = info.get("conffiles", b"").decode().split("\n")
    hashes = dict(line.split("  ", 1)[::-1] for line in info.get("md5sums", b"").decode().splitlines())
    lines = [f" {path} {hashes.get(path[1:], '0' * 32)}" for path in conffiles if path.startswith("/")]
    stanza = f"{head}\nStatus: install ok installed\n{rest}\n"
    if lines:
        stanza += "Conffiles:\n" + "\n".join(lines) + "\n"
    info["list"] = "\n".join(["/.", *listed, ""]).encode()
    return stanza, {f"{stem}.{key}": data for key, data in info.items()}


def _is_script(path: str) -> bool:
    return path.endswith((".preinst", ".postinst", ".prerm", ".postrm", ".config"))


def _configure(tree: Tree) -> None:
    """What the packages' own scripts would have made."""
    passwd = tree["usr/share/base-passwd/passwd.master"][1].decode().replace(":*:", ":x:")
    _add(tree, "etc/passwd", (passwd + "_apt:x:100:65534::/nonexistent:/usr/sbin/nologin\n").encode())
    group = tree["usr/share/base-passwd/group.master"][1].decode().replace(":*:", ":x:")
    _add(tree, "etc/group", group.encode())
    shadow = "".join(f"{line.split(':')[0]}:*:20000:0:99999:7:::\n" for line in passwd.splitlines())
    _add(tree, "etc/shadow", shadow.encode(), mode=0o640)
    for source, target in (
        ("usr/share/base-files/dot.bashrc", "root/.bashrc"),
        ("usr/share/base-files/dot.profile", "root/.profile"),
        ("usr/share/base-files/profile", "etc/profile"),
        ("usr/share/libc-bin/nsswitch.conf", "etc/nsswitch.conf"),
    ):
        _add(tree, target, tree[source][1])
    for kind in ("auth", "account", "password", "session"):  # as pam-auth-update does
        _add(tree, f"etc/pam.d/common-{kind}", f"{kind} required pam_unix.so\n".encode())
    _add(tree, "etc/pam.d/common-session-noninteractive", b"session required pam_unix.so\n")
    for name, target in (("awk", "mawk"), ("which", "which.debianutils"), ("pager", "more")):
        _add(tree, f"etc/alternatives/{name}", kind=tarfile.SYMTYPE, target=f"/usr/bin/{target}")
        _add(tree, f"usr/bin/{name}", kind=tarfile.SYMTYPE, target=f"/etc/alternatives/{name}")
    certificates = sorted(path for path in tree if re.fullmatch(r"usr/share/ca-certificates/.+\.crt", path))
    _add(tree, "etc/ssl/certs/ca-certificates.crt", b"".join(tree[path][1] for path in certificates))
    listing = "".join(f"{path.removeprefix('usr/share/ca-certificates/')}\n" for path in certificates)
    _add(tree, "etc/ca-certificates.conf", listing.encode())
    _add(tree, "etc/apt/sources.list", f"deb http://deb.debian.org/debian {debian.RELEASE} main\n".encode())
    _add(tree, "etc/hostname", b"localhost\n")
    for path, target in (("var/run", "/run"), ("var/lock", "/run/lock")):
        _add(tree, path, kind=tarfile.SYMTYPE, target=target)
    folders = {"tmp": 0o1777, "var/tmp": 0o1777, "root": 0o700, "run/lock": 0o1777}
    for path, mode in {**folders, **{f"usr/local/{name}": 0o755 for name in ("bin", "lib", "sbin")}}.items():
        _add(tree, path, kind=tarfile.DIRTYPE, mode=mode)


def _add(
    tree: Tree, path: str, data: bytes = b"", *, mode: int = 0o644, kind: bytes = b"0", target: str = ""
) -> None:
    member = tarfile.TarInfo(path)
    member.type, member.linkname, member.mtime, member.size = kind, target, NEVER, len(data)
    member.mode = 0o777 if kind == tarfile.SYMTYPE else mode
    tree[path] = (member, data)


def write(tree: Tree) -> bytes:
    """The tree as a tar: sorted, every directory there and before what is in it."""
    for path in list(tree):
        for parent in list(Path(path).parents)[:-1]:
            if str(parent) not in tree:
                _add(tree, str(parent), kind=tarfile.DIRTYPE, mode=0o755)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for _, (member, data) in sorted(tree.items()):
            tar.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return buffer.getvalue()


def files_of(folder: Path, prefix: str) -> Iterator[tuple[str, tarfile.TarInfo, bytes]]:
    """The files and links of a folder as they shall lie under `prefix`: nobody's, of a fixed time."""
    for path in sorted(folder.rglob("*")):
        place = f"{prefix}/{path.relative_to(folder).as_posix()}"
        member = tarfile.TarInfo(place)
        member.mtime, data = NEVER, b""
        if path.is_symlink():
            member.type, member.linkname, member.mode = tarfile.SYMTYPE, str(path.readlink()), 0o777
        elif path.is_dir():
            member.type, member.mode = tarfile.DIRTYPE, 0o755
        else:
            data = path.read_bytes()
            member.size, member.mode = len(data), 0o755 if path.stat().st_mode & 0o100 else 0o644
        yield place, member, data
