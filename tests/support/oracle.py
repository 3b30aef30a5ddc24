"""rattler as the oracle of linking: what it installs, file by file, against what our entries say."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from envbox.errors import PackageError
from envbox.image_paths import PREFIX
from envbox.lockfile import Lock, LockedPackage
from envbox.packages.link.conda import ArchiveSource, link_package
from envbox.packages.link.entries import EntryWriter
from envbox.packages.link.tar import END, SYMLINK, TarReader
from envbox.packages.link.target import ROOT, PythonLayout
from support.packages import lock_of

Found = dict[str, tuple[str, str, bool]]
"""path in the prefix → (`file` or `link`, sha256 or target, executable)"""

BEYOND_RATTLER = {"awkward-empty-directory"}
"""What conda installs and py-rattler 0.28 fails on: it takes a folder listed in paths.json for a file."""


def compare_with_rattler(channel: Path, platform: str, folder: Path) -> int:
    """Compare every package of a channel's platform and noarch folders; returns how many files agreed.

    Packages of one name cannot be installed together, so there are as many rounds as versions of one package.
    """
    agreed = 0
    for number, archives in enumerate(_rounds(channel, platform)):
        prefix = folder / f"round-{number}"
        asyncio.run(_install(list(archives), prefix, folder / "cache", platform))
        python = _layout(next(p for p, record in archives.items() if record["name"] == "python"), archives)
        for archive, record in archives.items():
            ours = _ours(archive, record, platform, python)
            if ours is None:
                continue
            theirs = _theirs(prefix, archive)
            wrong = {path: (ours.get(path), theirs.get(path)) for path in ours.keys() | theirs.keys()}
            wrong = {path: both for path, both in wrong.items() if both[0] != both[1]}
            assert not wrong, f"{archive.name}: {dict(list(wrong.items())[:5])}"
            agreed += len(ours)
    return agreed


def lock_of_channel(channel: Path, platforms: Collection[str], wanted: Collection[str]) -> Lock:
    """A lock of the newest packages (for Python 3.11) that the wanted ones need, without a solver."""
    from rattler import Version

    packages = []
    for platform in sorted(platforms):
        newest: dict[str, tuple[Path, Mapping[str, Any]]] = {}
        for path, record in _records(channel, platform):
            fits = record["version"].startswith("3.11") if record["name"] == "python" else True
            known = newest.get(record["name"])
            is_newer = not known or Version(known[1]["version"]) < Version(record["version"])
            if fits and is_newer and "py312" not in record["build"]:
                newest[record["name"]] = (path, record)
        todo, needed = list(wanted), set()
        while todo:
            name = todo.pop()
            if name in newest and name not in needed:
                needed.add(name)
                todo += [text.split(" ")[0] for text in newest[name][1]["depends"]]
        packages += [_locked(*newest[name], platform) for name in sorted(needed)]
    return lock_of(*packages, name="real")


def _locked(path: Path, record: Mapping[str, Any], platform: str) -> LockedPackage:
    return LockedPackage(
        manager="conda",
        name=record["name"],
        version=record["version"],
        build=record["build"],
        platform=platform,
        depends={text.split(" ")[0]: text.partition(" ")[2] for text in sorted(record["depends"])},
        url=path.as_uri(),
        sha256=record["sha256"],
    )


def _records(channel: Path, platform: str) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for subdir in (platform, "noarch"):
        repodata = json.loads((channel / subdir / "repodata.json").read_bytes())
        for name, record in sorted({**repodata["packages"], **repodata["packages.conda"]}.items()):
            yield channel / subdir / name, record


def _rounds(channel: Path, platform: str) -> Iterator[dict[Path, Mapping[str, Any]]]:
    by_name: dict[str, list[tuple[Path, Mapping[str, Any]]]] = defaultdict(list)
    for path, record in _records(channel, platform):
        if record["name"] not in BEYOND_RATTLER:
            by_name[record["name"]].append((path, record))
    for number in range(max(map(len, by_name.values()))):
        chosen = {n: found[number] for n, found in by_name.items() if number < len(found)}
        chosen.setdefault("python", by_name["python"][0])
        yield dict(chosen.values())


def _layout(python: Path, archives: Mapping[Path, Mapping[str, Any]]) -> PythonLayout:
    version = archives[python]["version"]
    usual = f"lib/python{'.'.join(version.split('.')[:2])}/site-packages"
    return PythonLayout(version, archives[python].get("python_site_packages_path") or usual)


async def _install(archives: list[Path], prefix: Path, cache: Path, platform: str) -> None:
    from rattler import install
    from rattler.platform.subdir import Subdir
    from rattler.repo_data.record import RepoDataRecord

    await install(
        [await RepoDataRecord.from_package_archive(archive) for archive in archives],
        target_prefix=prefix,
        cache_dir=cache,
        platform=Subdir(platform),
        show_progress=False,
        execute_link_scripts=False,
        alternative_target_prefix=PREFIX,
    )


def _ours(archive: Path, record: Mapping[str, Any], platform: str, python: PythonLayout) -> Found | None:
    package = _locked(archive, record, platform)
    buffer = io.BytesIO()
    try:
        link_package(ArchiveSource(package, archive, python), EntryWriter(buffer.write))
    except PackageError as error:
        if "post-link" not in error.message:
            raise
        return None
    reader = TarReader(io.BytesIO(buffer.getvalue() + END))
    found: Found = {}
    for member in reader:
        path = member.name.removeprefix(f"{ROOT}/")
        if member.kind == SYMLINK:
            found[path] = ("link", member.link, False)
        elif not path.startswith("conda-meta/"):
            found[path] = ("file", hashlib.sha256(reader.read()).hexdigest(), bool(member.mode & 0o111))
    return found


def _theirs(prefix: Path, archive: Path) -> Found:
    stem = archive.name.removesuffix(".conda").removesuffix(".tar.bz2")
    record = json.loads((prefix / "conda-meta" / f"{stem}.json").read_bytes())
    found: Found = {}
    for installed in record["files"]:
        path = prefix / installed
        # a loser's file lies aside; conflicts have tests of their own
        name = installed.split("/", 2)[2] if installed.startswith("__clobbers__/") else installed
        if path.is_symlink():
            found[name] = ("link", os.readlink(path), False)  # noqa: PTH115 - the text, not a Path of it
        else:
            found[name] = (
                "file",
                hashlib.sha256(path.read_bytes()).hexdigest(),
                bool(path.stat().st_mode & 0o111),
            )
    return found
