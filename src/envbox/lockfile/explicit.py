"""`@EXPLICIT` files: a URL a line, as `conda list --explicit`, conda-lock and pixi write them.

A hash may follow a `#`: an md5, a sha256, or `sha256:` and one. conda-lock adds wheels in comments that conda
does not see, `# pip NAME @ URL#sha256=…`, and the platform, `# platform: linux-64`; what is not said of the
platform, the URLs' folders say.

Specification: conda/misc.py (`explicit`), conda_lock/conda_lock.py (`render_lockfile_for_platform`)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from envbox.errors import LockfileError
from envbox.lockfile import Lock, LockedPackage
from envbox.lockfile.foreign import (
    EVERYTHING,
    Faults,
    ForeignLock,
    ForeignPackage,
    LeftOut,
    Selection,
    channels_of,
    conda_package,
    decoded,
    distinct,
    pip_package,
)
from envbox.platforms import PLATFORMS

KIND = "explicit"
MARK = "@EXPLICIT"
_PLATFORM = re.compile(r"#\s*platform:\s*(\S+)")
_PIP = re.compile(r"#\s*pip\s+(\S+)\s+@\s+(\S+?)(?:(?:#|\s--hash=)sha256[=:](\S+))?")


def loads(data: bytes, path: Path, selection: Selection = EVERYTHING) -> ForeignLock:
    """Parse an explicit file.

    :raises LockfileError: with every line that is wrong, up to ten
    """
    text = decoded(data, path)
    faults = Faults(path, KIND)
    said = next((m[1] for m in map(_PLATFORM.match, text.splitlines()) if m), None)
    if said is not None and said not in PLATFORMS:
        faults.add(f"`# platform: {said}` names no conda platform")
    left_out = LeftOut(selection)
    conda: list[ForeignPackage] = []
    wheels: list[tuple[str, re.Match[str]]] = []
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        where = f"line {number}"
        if match := _PIP.fullmatch(line):
            wheels += [] if left_out.is_unwanted(match[1]) else [(where, match)]
        elif line and not line.startswith("#") and line != MARK:
            package = _read_line(line, where, faults)
            conda += [package] if package and not left_out.is_unwanted(package.name, package.version) else []
    platform = said or _platform(conda, path, faults)
    packages = [_placed(p, platform, faults) for p in conda] + [
        pip_package(m[1], None, m[2], platform, where, faults.about(m[1], platform), sha256=m[3])
        for where, m in wheels
    ]
    found = distinct([p for p in packages if p], faults)
    faults.check()
    if not found:
        raise LockfileError(f"{path} names no package: after {MARK}, each line is a package's URL")
    if selection.platforms and platform not in selection.platforms:
        raise LockfileError(f"{path} is for {platform}, not for {', '.join(selection.platforms)}")
    return ForeignLock(path, KIND, (platform,), channels_of(found), found, left_out.told(path))


def _read_line(line: str, where: str, faults: Faults) -> ForeignPackage | None:
    url, _, fragment = line.partition("#")
    kind, _, value = fragment.rpartition(":")
    kind = kind or ("sha256" if len(value) == 64 else "md5")
    if kind not in ("md5", "sha256"):
        faults.add(f"{where}: {kind!r:.40} is no hash that is known, which are md5 and sha256")
        return None
    return conda_package(url.strip(), None, where, faults, **({kind: value.strip()} if fragment else {}))


def _platform(packages: Sequence[ForeignPackage], path: Path, faults: Faults) -> str:
    platforms = sorted({p.platform for p in packages} - {"noarch"})
    if len(platforms) == 1:
        return platforms[0]
    faults.check()
    if platforms:
        raise LockfileError(f"{path} has packages of {' and '.join(platforms)}: one file is for one platform")
    raise LockfileError(
        f"{path} does not say which platform it is for", "add a line such as: # platform: linux-64"
    )


def _placed(package: ForeignPackage, platform: str, faults: Faults) -> ForeignPackage:
    from dataclasses import replace

    if package.platform not in (platform, "noarch"):
        faults.add(f"{package.name} is of {package.platform}, and the file is for {platform}")
    return replace(package, platform=platform)


def dumps(lock: Lock, platform: str) -> bytes:
    """Write one platform of a lock.

    The hash is md5 where there is one: conda before 24 and conda-lock know no other. Who needs a package
    comes after it, for installers that link in the file's order.
    """
    packages = lock.for_platform(platform)
    lines = [f"# {lock.name}, exported by envbox", f"# platform: {platform}", MARK]
    conda = [p for p in packages if p.manager == "conda"]
    lines += [f"{p.url}#{p.md5 or f'sha256:{p.sha256}'}" for p in in_order(conda)]
    lines += [f"# pip {p.name} @ {p.url}#sha256={p.sha256}" for p in packages if p.manager == "pip"]
    return "".join(f"{line}\n" for line in lines).encode()


def in_order(packages: Sequence[LockedPackage]) -> list[LockedPackage]:
    """Return the packages of one platform, each after those that it needs, else by name; cycles as they
    come.
    """
    by_name = {p.name: p for p in sorted(packages, key=lambda p: p.name)}
    done: dict[str, LockedPackage] = {}
    for first, package in by_name.items():
        stack = [(first, iter(sorted(package.depends)))]
        entered = {first}
        while stack and first not in done:
            name, needs = stack[-1]
            following = next((n for n in needs if n in by_name and n not in done and n not in entered), None)
            if following is None:
                done[name] = by_name[name]
                stack.pop()
            else:
                entered.add(following)
                stack.append((following, iter(sorted(by_name[following].depends))))
    return list(done.values())
