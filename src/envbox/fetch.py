"""Downloads: a URL and a sha256 → a whole, verified file, or an error that names it.

Nothing is trusted but the hash. A transfer is hashed as it is written aside; only when the hash is the lock's
does the file get its name, so what lies in the cache under a name has been right once. What may pass (a
reset, a timeout, 5xx, 429) is tried again with growing pauses; a wrong hash is not.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from envbox.errors import EnvboxError, PackageError, ToolError
from envbox.files import whole_file
from envbox.lockfile import LockedPackage, lock_anew
from envbox.mirrors import public
from envbox.report import SILENT, Reporter
from envbox.settings import Settings

_ATTEMPTS = 5
_FIRST_PAUSE = 0.5  # seconds; doubled each time, with up to half as much again by chance
_TIMEOUT = (15, 60)  # seconds to connect, and between two pieces of an answer
_CHUNK = 1 << 20
_PASSING = {408, 425, 429, 500, 502, 503, 504}
_CONNECTIONS = 8  # more of them bring no speed and annoy servers

_ANEW = lock_anew()
Progress = Callable[[int], None]


class _PassingError(Exception):
    """A failure that may be over on the next attempt."""


def fetch_archives(
    packages: Sequence[LockedPackage], settings: Settings, report: Reporter = SILENT
) -> dict[str, Path]:
    """Have every package's archive in the cache.

    :returns: sha256 → the verified file, under the archive's own name
    :raises PackageError: when a file is not what the lock says
    :raises ToolError: when a server cannot be reached or does not have the file
    """
    paths = {package.sha256: archive_path(package, settings) for package in packages}
    wanted = {p.sha256: p for p in packages if not paths[p.sha256].is_file()}
    if not wanted:
        return paths
    from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

    stopped: list[bool] = []

    def one(package: LockedPackage) -> None:
        def check(_: int) -> None:
            if stopped:
                raise ToolError("stopped")

        check(0)
        fetch(package.url, paths[package.sha256], package.sha256, settings, check)
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
    """Where a package's archive lies in the cache, whether it is there or not."""
    return settings.cache_dir / "packages" / package.sha256 / unquote(package.file_name)


def fetch(url: str, dest: Path, sha256: str, settings: Settings, progress: Progress | None = None) -> Path:
    """Have `dest` be the file at `url`, through a mirror where one is set.

    :param url: canonical; http(s) or file
    :param progress: called with the number of bytes that came, again and again
    :raises PackageError: when the file is not what `sha256` says
    :raises ToolError: when it cannot be had
    """
    if dest.is_file():
        return dest
    address = settings.mirrors.rewrite(url)
    for attempt in range(_ATTEMPTS):
        if progress:
            progress(0)  # may raise: nobody waits for this file any more
        try:
            return _fetch_once(address, dest, sha256, progress)
        except _PassingError as error:
            if attempt == _ATTEMPTS - 1:
                raise ToolError(
                    f"cannot fetch {public(address)}: {error}",
                    "check the network, a proxy (HTTPS_PROXY), or set a mirror under [mirrors]",
                ) from error
            pause = _FIRST_PAUSE * 2**attempt
            time.sleep(pause + random.uniform(0, pause / 2))  # noqa: S311 - not a secret
    raise AssertionError("unreachable")


def _fetch_once(address: str, dest: Path, sha256: str, progress: Progress | None) -> Path:
    digest = hashlib.sha256()
    with _open(address) as (pieces, length), whole_file(dest) as file:
        size = 0
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
            size += len(piece)
            if progress:
                progress(len(piece))
        if length is not None and size != length:
            raise _PassingError(f"the transfer broke off after {size} of {length} bytes")
        if digest.hexdigest() != sha256:
            raise PackageError(
                f"{dest.name} from {public(address)} has sha256 {digest.hexdigest()}, the lock says {sha256}",
                f"it was deleted; the server's file was changed or damaged: use another mirror, or {_ANEW}",
            )
    return dest


@contextmanager
def _open(address: str) -> Iterator[tuple[Iterator[bytes], int | None]]:
    """The pieces of what is at an address, and how many bytes they should be."""
    scheme = urlsplit(address).scheme
    if scheme == "file":
        path = Path(unquote(urlsplit(address).path))
        try:
            with path.open("rb") as file:
                yield iter(lambda: file.read(_CHUNK), b""), None
        except EnvboxError:
            raise
        except OSError as error:
            raise ToolError(f"cannot read {path}: {error.strerror}") from error
    elif scheme in ("http", "https"):
        with _open_http(address) as found:
            yield found
    else:
        raise ToolError(f"cannot fetch {public(address)}: only http, https and file are known")


@contextmanager
def _open_http(address: str) -> Iterator[tuple[Iterator[bytes], int | None]]:
    import requests
    import urllib3

    try:
        with requests.get(
            address, stream=True, timeout=_TIMEOUT, headers={"Accept-Encoding": "identity"}
        ) as answer:
            if answer.status_code in _PASSING:
                raise _PassingError(f"the server says {answer.status_code} {answer.reason}")
            if answer.status_code != 200:
                raise ToolError(
                    f"cannot fetch {public(address)}: the server says {answer.status_code} {answer.reason}",
                    _status_hint(answer.status_code),
                )
            length = answer.headers.get("Content-Length", "")
            yield _pieces(answer.raw), int(length) if length.isdigit() else None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema):
            raise ToolError(public(f"cannot fetch {address}: {error}")) from error
        raise _PassingError(_reason(error)) from error


def _pieces(raw: Any) -> Iterator[bytes]:
    stream: IO[bytes] = raw
    while data := stream.read(_CHUNK):
        yield data


def _status_hint(status: int) -> str | None:
    if status in (404, 410):
        return f"the channel no longer has this file: {_ANEW}"
    if status in (401, 403):
        return "the server asks for credentials: put them in ~/.netrc"
    return None


def _reason(error: BaseException) -> str:
    """The innermost reason, which is the one a person can use."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return public(str(error)) or type(error).__name__
