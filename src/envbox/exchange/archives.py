"""What an archive says of itself, where no index says it: fetched, hashed, held against what is known, kept.

What is fetched goes into the cache that builds read from, so that it is fetched once.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from envbox.errors import PackageError, ToolError
from envbox.exchange.ours import locked
from envbox.fetch import archive_path
from envbox.files import whole_file
from envbox.lockfile.foreign import ForeignPackage
from envbox.mirrors import public
from envbox.report import Reporter
from envbox.settings import Settings
from envbox.transport import Transport

_CONNECTIONS = 4


def read_archives(
    packages: Sequence[ForeignPackage], settings: Settings, report: Reporter
) -> dict[str, ForeignPackage]:
    """Fetch the archives of packages that are not complete; gives the packages completed, by URL.

    :raises PackageError: when an archive has another hash than the file says
    :raises ToolError: when one cannot be had
    """
    from concurrent.futures import ThreadPoolExecutor

    transport = Transport(settings)
    unique = list({p.url: p for p in packages}.values())
    found = {}
    with (
        report.task("reading archives that no index has", len(unique)) as task,
        ThreadPoolExecutor(min(_CONNECTIONS, len(unique))) as pool,
    ):
        try:
            for package in pool.map(lambda p: _from_archive(p, settings, transport), unique):
                found[package.url] = package
                task.advance()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return found


def _from_archive(package: ForeignPackage, settings: Settings, transport: Transport) -> ForeignPackage:
    """Fetch an archive, hold it against the hashes that are known, and read what it says of itself."""
    if package.sha256 and (kept := archive_path(locked(package, []), settings)).is_file():
        return _as_it_says(replace(package, size=kept.stat().st_size), kept)
    aside = settings.cache_dir / "foreign" / hashlib.sha256(package.url.encode()).hexdigest()[:16]
    path = aside / package.file_name
    try:
        sha256, md5, size = _download(settings.mirrors.rewrite(package.url), path, transport)
        for kind, value in (("sha256", sha256), ("md5", md5)):
            expected = getattr(package, kind)
            if expected and expected != value:
                raise PackageError(f"{package.file_name} has {kind} {value}, and {expected} in the file")
        found = replace(package, sha256=sha256, md5=package.md5 or md5, size=size)
        found = _as_it_says(found, path)
        kept = archive_path(locked(found, [found]), settings)
        if not kept.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            path.replace(kept)
        return found
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _as_it_says(package: ForeignPackage, path: Path) -> ForeignPackage:
    """The package with what its archive says of itself."""
    if package.manager == "pip":
        return package
    from envbox.link.package import open_package

    with open_package(path, str(package.sha256)) as archive:
        index = archive.info.index
    depends, license_ = index.get("depends"), index.get("license")
    return replace(
        package,
        depends=tuple(map(str, depends)) if isinstance(depends, list) else (),
        license=license_ if isinstance(license_, str) else None,
    )


def _download(address: str, dest: Path, transport: Transport) -> tuple[str, str, int]:
    """Fetch what nobody gave a sha256 for; gives its sha256, md5 and size."""
    import requests

    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    try:
        with whole_file(dest) as file:
            for piece in _pieces(address, transport):
                sha256.update(piece)
                md5.update(piece)
                size += len(piece)
                file.write(piece)
    except requests.RequestException as error:
        raise ToolError(f"cannot fetch {public(address)}: {public(str(error))}") from error
    return sha256.hexdigest(), md5.hexdigest(), size


def _pieces(address: str, transport: Transport) -> Iterator[bytes]:
    if urlsplit(address).scheme == "file":
        path = Path(unquote(urlsplit(address).path))
        if not path.is_file():
            raise ToolError(f"there is no {path}")
        with path.open("rb") as file:
            yield from iter(lambda: file.read(1 << 20), b"")
        return
    with transport.get(address) as answer:
        if answer.status_code != 200:
            raise ToolError(
                f"cannot fetch {public(address)}: the server says {answer.status_code} {answer.reason}"
            )
        yield from answer.iter_content(1 << 20)
