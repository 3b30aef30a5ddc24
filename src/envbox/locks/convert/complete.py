"""What a foreign lockfile leaves open, found out: sha256, dependencies, sizes, licences.

The channel's index is asked first: it has all of that, and its md5 must be the file's. What the index does
not have (a withdrawn package, a folder without an index) is read from the archive itself, which a build
needs anyway. Where neither file nor index has a hash, the one of what comes now is recorded, and that is
said: from then on nothing else is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from envbox import coroutines
from envbox.errors import EnvboxError, LockfileError, PackageError, ToolError
from envbox.lockfile import LockedPackage
from envbox.lockfile.foreign import ForeignLock, ForeignPackage
from envbox.locks.convert.archives import read_archives
from envbox.locks.convert.to_locked import locked
from envbox.mirrors import public
from envbox.report import Reporter
from envbox.settings import Settings

_MOST = 100  # lines
_NAMED = 5  # packages in one line of words


@dataclass(frozen=True, slots=True)
class Indexed:
    """What a channel's index says of an archive."""

    depends: tuple[str, ...]
    sha256: str | None
    md5: str | None
    size: int | None
    license: str | None


def complete(lock: ForeignLock, settings: Settings, report: Reporter) -> tuple[LockedPackage, ...]:
    """Give the packages of a foreign lockfile with all that a lock holds.

    :raises PackageError: when a package is not what the file says
    :raises LockfileError: when a package needs one that the file does not have
    :raises ToolError: when neither the channel nor the archive can be had
    """
    open_ones = [p for p in lock.packages if p.manager == "conda" and not _is_complete(p)]
    index = _indexed(open_ones, lock.channels, settings, report) if open_ones else {}
    known = [_with_index(p, index.get(p.url)) for p in lock.packages]
    missing = [p for p in known if not _is_complete(p)]
    if missing:
        read = read_archives(missing, settings, report)
        known = [read[p.url] if p in missing else p for p in known]
        known = [replace(p, platform=o.platform) for p, o in zip(known, lock.packages, strict=True)]
        _say_first_use([p for p in missing if not (p.sha256 or p.md5)], report)
    packages = tuple(locked(p, known) for p in known)
    _check_needs(packages, lock.path)
    return packages


def _is_complete(package: ForeignPackage) -> bool:
    return package.sha256 is not None and (package.depends is not None or package.manager == "pip")


def _say_first_use(packages: Sequence[ForeignPackage], report: Reporter) -> None:
    if packages:
        names = [p.file_name for p in packages]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        report.warn(
            "neither the file nor a channel has a hash of these, so the hash of what came now is recorded: "
            + ", ".join(names[:_NAMED]) + more
        )  # fmt: skip


def _check_needs(packages: Sequence[LockedPackage], path: Path) -> None:
    names = {(p.platform, p.name) for p in packages if p.manager == "conda"}
    lacking = [
        f"{p.name} needs {name}, which is not there for {p.platform}"
        for p in packages
        if p.manager == "conda"
        for name in p.depends
        if not name.startswith("__") and (p.platform, name.lower()) not in names
    ]
    if lacking:
        shown = lacking[:_MOST] + ([f"and {len(lacking) - _MOST} more"] if len(lacking) > _MOST else [])
        raise LockfileError("\n  ".join([f"{path} is not a whole environment:", *shown]))


# --- the channels' indexes ----------------------------------------------------------------------------------


def _indexed(
    packages: Sequence[ForeignPackage], named: Sequence[str], settings: Settings, report: Reporter
) -> Mapping[str, Indexed]:
    """Return what the channels' indexes say, by URL. A channel that cannot be asked is passed over, with
    words.

    :param named: the channels as the file has them, maybe with logins
    """
    from envbox.locks.solve.ask_channels import ask_channels
    from envbox.locks.solve.gateway import Channels
    from envbox.locks.solve.match_specs import addresses

    by_channel: dict[str, list[ForeignPackage]] = {}
    for package in packages:
        by_channel.setdefault(package.url.rsplit("/", 2)[0], []).append(package)
    written = tuple(addresses(named, ()))
    found: dict[str, Indexed] = {}
    with report.task("looking packages up in their channels", len(by_channel)) as task:
        for channel, wanted in by_channel.items():
            subdirs = tuple(sorted({p.url.rsplit("/", 2)[1] for p in wanted}))
            whom = Channels((channel,), subdirs, written)
            try:
                found |= coroutines.run(ask_channels, whom, partial(_ask, channel, wanted), settings)
            except EnvboxError as error:
                report.detail(f"{error.message}; the archives are read instead")
            task.advance()
    return found


async def _ask(channel: str, packages: Sequence[ForeignPackage], gateway: Any) -> dict[str, Indexed]:
    from rattler import Channel
    from rattler.exceptions import GatewayError

    subdirs = sorted({p.url.rsplit("/", 2)[1] for p in packages})
    names = sorted({p.name for p in packages})
    try:
        answer = await gateway.query([Channel(channel)], subdirs, names, False, "disabled")
    except GatewayError as error:
        raise ToolError(f"{public(channel)} cannot be asked: {public(str(error)).splitlines()[0]}") from error
    wanted = {"/".join(p.url.rsplit("/", 2)[1:]): p.url for p in packages}
    found = {}
    for record in (record for part in answer for record in part):
        url = wanted.get(f"{record.subdir}/{record.file_name}") or wanted.get(
            "/".join(record.url.rsplit("/", 2)[1:])
        )
        if url:
            found[url] = _indexed_record(record)
    return found


def _indexed_record(record: Any) -> Indexed:
    return Indexed(
        tuple(record.depends),
        record.sha256.hex() if record.sha256 else None,
        record.md5.hex() if record.md5 else None,
        record.size,
        record.license or None,
    )


def _with_index(package: ForeignPackage, said: Indexed | None) -> ForeignPackage:
    if said is None or _is_complete(package):
        return package
    for kind in ("sha256", "md5"):
        ours, theirs = getattr(package, kind), getattr(said, kind)
        if ours and theirs and ours != theirs:
            raise PackageError(
                f"{package.file_name} has {kind} {theirs} in its channel, and {ours} in the file",
                "the channel's archive was replaced, or the file was edited: leave the hash out to take it",
            )
    return replace(
        package,
        depends=said.depends if package.depends is None else package.depends,
        sha256=package.sha256 or said.sha256,
        md5=package.md5 or said.md5,
        size=said.size,
        license=said.license,
    )
