"""Downloads: a URL and a sha256 → a whole, verified file, or an error that names it.

Nothing is trusted but the hash. A transfer is hashed as it is written aside; only when the hash is the lock's
does the file get its name, so what lies in the cache under a name has been right once. Where another tool's
lockfile has no sha256, it is told what came (`fetch_unhashed`). How bytes come: `download`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from envbox.errors import PackageError, ToolError
from envbox.files import is_regular, whole_file
from envbox.lockfile import LockedPackage, is_file_name
from envbox.mirrors import public, shown
from envbox.net.transport import Transport
from envbox.packages.fetch.download import PartialFile, Progress, new_md5, receive
from envbox.report import SILENT, Reporter
from envbox.settings import Settings

_CONNECTIONS = 8  # more of them bring no speed and annoy servers
_NAMED = 5  # missing packages that an error names

_WITHDRAWN = "the channel no longer has this file: have it locked anew by the tool that wrote the lockfile"


@dataclass(frozen=True, slots=True)
class Meant:
    """What a file has to be.

    :param size: in bytes; None: nobody has said
    """

    sha256: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class FetchedArchive:
    """What a file is, that nobody had given a sha256 for.

    :param sha256: lower-case hex, as is `md5`
    :param size: in bytes
    """

    sha256: str
    md5: str
    size: int


def fetch_archives(
    packages: Sequence[LockedPackage], settings: Settings, report: Reporter = SILENT
) -> dict[str, Path]:
    """Have every package's archive in the cache.

    :returns: sha256 → the verified file, under the archive's own name
    :raises PackageError: when a file is not what the lock says
    :raises ToolError: when a server cannot be reached or does not have the file, or nothing may be fetched
    """
    paths = {package.sha256: archive_path(package, settings) for package in packages}
    wanted = {p.sha256: p for p in packages if not is_regular(paths[p.sha256])}
    if not wanted:
        return paths
    if settings.offline and (missing := [p for p in wanted.values() if not _is_near(p, settings)]):
        raise _not_cached(missing)
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

    stopped: list[bool] = []
    transport = Transport(settings)

    def one(package: LockedPackage) -> None:
        def check(_: int) -> None:
            if stopped:
                raise ToolError("stopped")

        check(0)
        address = settings.mirrors.rewrite(package.url)
        meant = Meant(package.sha256, package.size)
        with _named_by(package.url, address):
            _fetch(address, paths[package.sha256], meant, transport, check)
        task.advance()

    with (
        report.task("fetching packages", total=len(wanted)) as task,
        ThreadPoolExecutor(max(1, min(_CONNECTIONS, 2 * settings.jobs, len(wanted)))) as pool,
    ):
        futures = [pool.submit(one, package) for package in wanted.values()]
        try:
            finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in finished:
                future.result()
        finally:
            stopped.append(True)  # Ctrl-C or a failure: running transfers end at their next piece
            pool.shutdown(wait=True, cancel_futures=True)
    return paths


def archive_path(package: LockedPackage, settings: Settings) -> Path:
    """Return where a package's archive lies in the cache, whether it is there or not.

    :raises PackageError: when its name is a path, which leads elsewhere
    """
    name = unquote(package.file_name)
    if not is_file_name(name):
        raise PackageError(f"{package.name} has no archive's name, but {shown(name)}: {public(package.url)}")
    return settings.cache_dir / "packages" / package.sha256 / name


def fetch(url: str, dest: Path, sha256: str, settings: Settings, progress: Progress | None = None) -> Path:
    """Have `dest` be the file at `url`, through a mirror where one is set.

    :param url: canonical; http(s) or file
    :param progress: called with the number of bytes that came, again and again
    :raises PackageError: when the file is not what `sha256` says
    :raises ToolError: when it cannot be had
    """
    address = settings.mirrors.rewrite(url)
    with _named_by(url, address):
        return _fetch(address, dest, Meant(sha256), Transport(settings), progress)


def fetch_unhashed(url: str, dest: Path, md5: str | None, transport: Transport) -> FetchedArchive:
    """Have `dest` be the file at `url`, of which at most the md5 is known, and say what came.

    Without any hash, a transfer that broke off begins anew: nothing would tell if its parts fit together.

    :param url: of the mirror, where one is set
    :param md5: for putting parts together; whoever calls decides what to make of another one that came
    :raises ToolError: when it cannot be had
    """
    with whole_file(dest) as file:
        part = PartialFile(file, can_join=md5 is not None, gone=_WITHDRAWN, md5=new_md5())
        receive(url, part, transport, None)
        if part.is_joined and part.md5.hexdigest() != md5:
            part.begin_again()
            receive(url, part, transport, None)
    return FetchedArchive(part.sha256.hexdigest(), part.md5.hexdigest(), part.size)


def _is_near(package: LockedPackage, settings: Settings) -> bool:
    return settings.mirrors.rewrite(package.url).startswith("file:")


def _not_cached(missing: Sequence[LockedPackage]) -> ToolError:
    names = sorted(f"{package.name} {package.version}" for package in missing)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ToolError(
        f"not in the cache, and --offline fetches nothing: {', '.join(names[:_NAMED])}{more}",
        "have it fetched once, without --offline (or `offline` in the settings)",
    )


class _OtherFileError(Exception):
    """What came is another file: its name, its sha256 and the lock's; never leaves this module."""


@contextmanager
def _named_by(url: str, address: str) -> Iterator[None]:
    """Say of a file that is not what was locked where it came from, and whom to ask.

    To lock anew would be to believe whoever changed it.

    :param address: that of a mirror, or the canonical one itself
    """
    try:
        yield
    except _OtherFileError as error:
        name, came, locked = error.args
        is_mirrored = address != url
        host = urlsplit(address).netloc.rpartition("@")[2] or address
        whom = f"the mirror {host}" if is_mirrored else f"the channel or index at {host}"
        mirrored = f", the mirror of {public(url)}," if is_mirrored else ""
        raise PackageError(
            f"{name} is not what was locked: from {public(address)}{mirrored} came a file with sha256 "
            f"{came}, the lock says {locked}",
            f"it was deleted; somebody changed or damaged it: do not use it, and ask whoever runs {whom}"
            + (f"; without the mirror, {public(url)} is asked itself" if is_mirrored else ""),
        ) from error


def _fetch(address: str, dest: Path, meant: Meant, transport: Transport, progress: Progress | None) -> Path:
    if is_regular(dest):
        return dest
    sha256 = meant.sha256
    with whole_file(dest) as file:
        part = PartialFile(file) if meant.size is None else PartialFile(file, most=meant.size)
        receive(address, part, transport, progress)
        if part.is_joined and part.sha256.hexdigest() != sha256:
            part.begin_again()
            receive(address, part, transport, progress)
        if part.sha256.hexdigest() != sha256:
            raise _OtherFileError(dest.name, part.sha256.hexdigest(), sha256)
    return dest
