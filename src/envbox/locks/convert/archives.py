"""What an archive says of itself, where no index says it: fetched, hashed, held against what is known, kept.

What is fetched goes into the cache that builds read from, so that it is fetched once.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from envbox.errors import PackageError, ToolError
from envbox.files import is_regular, make_folder
from envbox.lockfile.foreign import ForeignPackage
from envbox.locks.convert.to_locked import locked
from envbox.net.transport import Transport
from envbox.packages.fetch import archive_path, fetch_archives, fetch_unhashed
from envbox.report import Reporter
from envbox.settings import Settings

_CONNECTIONS = 4


def read_archives(
    packages: Sequence[ForeignPackage], settings: Settings, report: Reporter
) -> dict[str, ForeignPackage]:
    """Fetch the archives of packages that are not complete; gives the packages completed, by URL.

    :raises PackageError: when an archive has another hash than the file says
    :raises ToolError: when some cannot be had; it names them all
    """
    from concurrent.futures import ThreadPoolExecutor

    unique = list({p.url: p for p in packages}.values())
    found: dict[str, ForeignPackage] = {}
    missing: list[ToolError] = []
    transport = Transport(settings)

    def one(package: ForeignPackage) -> ForeignPackage | ToolError:
        try:
            if not package.sha256:
                return _first_seen(package, settings, transport)
            known = fetch_archives([locked(package, [])], settings)
            return _of_archive(package, known[package.sha256])
        except ToolError as error:
            return error

    with (
        report.task("reading archives that no index has", len(unique)) as task,
        ThreadPoolExecutor(min(_CONNECTIONS, len(unique))) as pool,
    ):
        try:
            for answer in pool.map(one, unique):
                if isinstance(answer, ToolError):
                    missing.append(answer)
                else:
                    found[answer.url] = answer
                task.advance()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    if missing:
        words = list(dict.fromkeys(error.message for error in missing))
        raise ToolError("\n  ".join(words), missing[0].hint)
    return found


def _first_seen(package: ForeignPackage, settings: Settings, transport: Transport) -> ForeignPackage:
    """Fetch an archive without a sha256, hold it against what is known, and read what it says of itself."""
    aside = settings.cache_dir / "foreign" / hashlib.sha256(package.url.encode()).hexdigest()[:16]
    path = aside / package.file_name
    try:
        came = fetch_unhashed(settings.mirrors.rewrite(package.url), path, package.md5, transport)
        for kind, value in (("md5", came.md5), ("size", came.size)):
            expected = getattr(package, kind)
            if expected not in (None, value):
                raise PackageError(f"{package.file_name} has {kind} {value}, and {expected} in the file")
        found = _of_archive(replace(package, sha256=came.sha256, md5=came.md5), path)
        kept = archive_path(locked(found, [found]), settings)
        if not is_regular(kept):
            make_folder(kept.parent)
            path.replace(kept)
        return found
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _of_archive(package: ForeignPackage, path: Path) -> ForeignPackage:
    """Return the package with what its archive says of itself."""
    package = replace(package, size=path.stat().st_size)
    if package.manager == "pip":
        return package
    from envbox.packages.link.package import open_package

    with open_package(path, str(package.sha256)) as archive:
        index = archive.info.index
    depends, license_ = index.get("depends"), index.get("license")
    return replace(
        package,
        depends=tuple(map(str, depends)) if isinstance(depends, list) else (),
        license=license_ if isinstance(license_, str) and license_ else None,
    )
